"""Small BIDS datasets and phantom images, made where a test needs them."""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_hsf.hub.cards import AugmentationRecipe, Member, ModelCard
from bids_hsf.labels import Label, Merge

DATA = Path(__file__).parents[1] / "data"
MRI = ("anat", "dwi", "fmap", "func", "perf")
DESCRIPTION = {"Name": "Phantoms", "BIDSVersion": "1.10.0"}


def write_tree(root: Path, paths: Iterable[str], description: dict[str, str] | None = DESCRIPTION) -> Path:
    """Make a dataset of empty files ("{}" in JSON ones); `description` None leaves dataset_description.json out."""
    root.mkdir(parents=True, exist_ok=True)
    if description is not None:
        (root / "dataset_description.json").write_text(json.dumps(description))
    for relative_path in paths:
        path = root / relative_path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}" if path.suffix == ".json" else "")
    return root


# Entities that BIDS asks of a suffix, and what a data type holds at the least.
ENTITIES = {"MP2RAGE": "inv-1", "MPM": "echo-1_flip-1_mt-off", "MTS": "flip-1_mt-off", "VFA": "flip-1"}
ENTITIES |= {"IRT1": "inv-1", "MESE": "echo-1", "MEGRE": "echo-1", "defacemask": "mod-T1w"}
FILES = {
    "beh": "task-rest_beh.tsv",
    "dwi": "dwi.nii.gz",
    "eeg": "task-rest_eeg.edf",
    "emg": "task-rest_emg.edf",
    "fmap": "phasediff.nii.gz",
    "func": "task-rest_bold.nii.gz",
    "ieeg": "task-rest_ieeg.edf",
    "meg": "task-rest_meg.fif",
    "micr": "sample-A_SEM.png",
    "motion": "task-rest_tracksys-a_motion.tsv",
    "mrs": "svs.nii.gz",
    "nirs": "task-rest_nirs.snirf",
    "perf": "asl.nii.gz",
    "pet": "pet.nii.gz",
}


@dataclass(frozen=True)
class Example:
    """One of the public bids-examples datasets, and how the app has to end on it.

    ``data/bids_examples.tsv`` has names, data types and suffixes from their own ``dataset_listing.tsv``: all that
    have anat, and one or more of each other kind; code and message are what our documentation promises.
    ``data/bids_examples_files.txt`` has the true names of files of some (by and large of one subject): where images
    are not named, they are known by the sidecars beside them.

    Attributes
    ----------
    name : str
    datatypes, suffixes : tuple of str
        All data types; suffixes of anat.
    code : int
    message : str
    """

    name: str
    datatypes: tuple[str, ...]
    suffixes: tuple[str, ...]
    code: int
    message: str

    def rebuilt(self) -> list[str]:
        """Paths of one subject made up from the listing: one file a suffix of anat, one a data type."""
        anat = ["_".join(filter(None, [ENTITIES.get(suffix), suffix])) + ".nii.gz" for suffix in self.suffixes]
        paths = [f"sub-01/anat/sub-01_{name}" for name in anat]
        paths += [f"sub-01/{kind}/sub-01_{FILES[kind]}" for kind in self.datatypes if kind in FILES]
        return [*paths, "participants.tsv", *(["phenotype/adhd.tsv"] if "phenotype" in self.datatypes else [])]

    def real(self) -> list[str]:
        """True paths, as far as we have them."""
        lines = (DATA / "bids_examples_files.txt").read_text().splitlines()
        paths = [line.removeprefix(f"{self.name}/") for line in lines if line.startswith(f"{self.name}/")]
        scans = [path for path in paths if path.endswith(".json") and Path(path).parent.name in MRI and "_" in path]
        return sorted({*paths, *(path.removesuffix("json") + "nii.gz" for path in scans)})


def read_examples() -> list[Example]:
    """All rows of ``data/bids_examples.tsv``."""
    with (DATA / "bids_examples.tsv").open(newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    return [
        Example(
            row["name"],
            tuple(filter(None, row["datatypes"].split(", "))),
            tuple(filter(None, row["anat"].split(", "))),
            int(row["code"]),
            row["message"],
        )
        for row in rows
    ]


def phantom(shape: tuple[int, ...] = (12, 14, 16), seed: int = 0) -> np.ndarray:
    """Smooth blob on noise, float64, all values within 0 and 1000."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape[:3]], indexing="ij")
    blob = 800 * np.exp(-2 * sum(axis**2 for axis in axes))
    noise = np.random.default_rng(seed).uniform(0, 200, shape)
    return noise + blob.reshape(blob.shape + (1,) * (len(shape) - 3))


def write_scan(path: Path, data: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    """Write an image, by default an int16 phantom with 1 mm voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = phantom().astype(np.int16) if data is None else data
    image = nib.Nifti1Image(values, np.eye(4) if affine is None else affine, dtype=values.dtype)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def model_card(**changes: Any) -> ModelCard:
    """Card of a made-up model with two labels and one member."""
    labels = (Label(1, "Front", "front", "#ff0000"), Label(2, "Back", "back", "#00ff00"))
    fields: dict[str, Any] = {
        "name": "toy_fast",
        "family": "toy",
        "version": "1.0",
        "description": "A toy",
        "members": (Member("toy.onnx", "toy/toy.onnx", 10, "ab" * 32, None),),
        "labels": labels,
        "merges": (
            Merge("whole", "Whole", (Label(1, "All", "all", "#0000ff"),), {1: 1, 2: 1}),
            Merge("plain", "", labels, {}),
        ),
        "contrasts": ("T1w",),
        "voxel_size_mm": 1.0,
        "margin_mm": None,
        "normalization": "zscore",
        "pad_multiple": 8,
        "output": "probabilities",
        "n_augmentations": 20,
        "recipe": AugmentationRecipe(),
        "license": "CC0-1.0",
        "citation": "Nobody 2026",
        "authors": ("Nobody",),
        "training_data": "none",
        "evaluation": "none",
        "minimum_app_version": "0",
        "path": Path("/hub/toy.yaml"),
    }
    return ModelCard(**(fields | changes))

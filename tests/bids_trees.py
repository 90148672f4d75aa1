"""Small BIDS datasets and phantom images, made where a test needs them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_hsf.cards import AugmentationRecipe, Member, ModelCard
from bids_hsf.labels import Label, Merge

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

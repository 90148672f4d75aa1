"""Test and retest of a subfields model: volumes of a disturbed head against those of the head at rest, by the app.

    python judge_retest.py BIDS_DIR/sub-icbm152 --model subfields_bagging_sq [--contrasts T1w T2w]

The head is turned, shifted, resampled, made noisy or unevenly bright. Prints the change of each label's volume in
percent (mean of the absolute values of both sides, and the largest); slabs of 2 mm are T2w, coronal to the body of
the hippocampus as such scans are.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from judge_scans import GROUPS, sides
from scipy import ndimage
from scipy.spatial.transform import Rotation

SLAB_TILT_DEGREES = 30


@dataclass(frozen=True)
class Disturbance:
    """What is done to a head."""

    turn: tuple[float, float, float] = (0, 0, 0)  # degrees about x, y, z
    shift: tuple[float, float, float] = (0, 0, 0)  # mm
    voxels: tuple[float, float, float] = (1, 1, 1)  # mm
    noise: float = 0  # of the mean of the head
    bias: float = 0  # range of the log of a smooth field


DISTURBANCES = {
    "shifted by 0.4 mm": Disturbance(shift=(0.4, 0.4, 0.4)),
    "turned by 10 about x": Disturbance(turn=(10, 0, 0)),
    "turned by -12 about y": Disturbance(turn=(0, -12, 0)),
    "turned by 15 about z": Disturbance(turn=(0, 0, 15)),
    "0.7 mm": Disturbance(voxels=(0.7, 0.7, 0.7)),
    "noise, SNR 20": Disturbance(noise=0.05),
    "bias field": Disturbance(bias=0.5),
    "0.4 x 0.4 x 2 mm": Disturbance(turn=(SLAB_TILT_DEGREES, 0, 0), voxels=(0.4, 2, 0.4)),
}


def disturbed(image: nib.Nifti1Image, what: Disturbance, rng: np.random.Generator) -> nib.Nifti1Image:
    """Copy of a head in the middle of a new grid, which covers 200 mm (slabs: what holds the hippocampi)."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    voxels = np.array(what.voxels, dtype=float)
    size = np.array([110.0, 90.0, 70.0]) if voxels.max() > 1.5 else np.array([193.0, 229.0, 193.0])
    middle = np.array([0, -22, -12.0]) if voxels.max() > 1.5 else image.affine[:3] @ [96, 114, 96, 1]
    shape = np.ceil(size / voxels).astype(int)
    rotation = Rotation.from_euler("xyz", what.turn, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = np.diag(voxels)
    affine[:3, 3] = middle - voxels * (shape - 1) / 2
    # Source points of the new voxels: turned about the middle.
    matrix = rotation @ np.diag(voxels)
    offset = rotation @ (affine[:3, 3] - middle) + middle + np.array(what.shift)
    inverse = np.linalg.inv(image.affine)
    smooth = data if voxels.max() <= 1.5 else ndimage.gaussian_filter1d(data, 0.8, axis=1)
    moved = ndimage.affine_transform(
        smooth,
        inverse[:3, :3] @ matrix,
        inverse[:3, :3] @ offset + inverse[:3, 3],
        tuple(shape),
        order=3 if voxels.max() <= 1.5 else 1,
    )
    if what.bias:
        knots = rng.uniform(-what.bias / 2, what.bias / 2, (4, 4, 4))
        moved = moved * np.exp(ndimage.zoom(knots, np.array(moved.shape) / 4, order=3))
    if what.noise:
        moved = moved + rng.normal(0, what.noise * data[data > 0.3 * data.max()].mean(), moved.shape)
    return nib.Nifti1Image(np.clip(moved, 0, None).astype(np.float32), affine)


def volumes(path: Path) -> dict[str, np.ndarray]:
    """mm3 of each group, left and right."""
    image = nib.load(path)
    both = sides(np.asarray(image.dataobj))
    voxel = abs(np.linalg.det(image.affine[:3, :3]))
    return {g: np.array([np.isin(both[s], m).sum() * voxel for s in "LR"]) for g, m in GROUPS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--model", default="subfields_bagging_sq")
    parser.add_argument("--contrasts", nargs="+", default=["T1w", "T2w"])
    arguments = parser.parse_args()
    subject, rng = arguments.subject.name, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        bids_dir, out = Path(name) / "bids", Path(name) / "out"
        bids_dir.mkdir()
        (bids_dir / "dataset_description.json").write_text('{"Name": "disturbed", "BIDSVersion": "1.10.0"}')
        cases = {}
        for contrast in arguments.contrasts:
            image = nib.load(arguments.subject / "anat" / f"{subject}_{contrast}.nii.gz")
            for index, (title, what) in enumerate({"at rest": Disturbance(), **DISTURBANCES}.items()):
                if max(what.voxels) > 1.5 and contrast == "T1w":
                    continue
                label = f"sub-{contrast}x{index}"
                anat = bids_dir / label / "anat"
                anat.mkdir(parents=True)
                nib.save(disturbed(image, what, rng), anat / f"{label}_{contrast}.nii.gz")
                if max(what.voxels) > 1.5:  # a slab is found through the session's T1w
                    t1w = nib.load(arguments.subject / "anat" / f"{subject}_T1w.nii.gz")
                    nib.save(disturbed(t1w, Disturbance(turn=what.turn), rng), anat / f"{label}_T1w.nii.gz")
                cases[label] = (contrast, title)
        command = [sys.executable, "-m", "bids_hsf", str(bids_dir), str(out), "participant", "--model", arguments.model]
        subprocess.run([*command, "--skip-bids-validation"], check=False)  # noqa: S603
        found = {}
        for label, case in cases.items():
            paths = list(out.glob(f"{label}/**/{label}_*space-{case[0]}_seg-subfields*_dseg.nii.gz"))
            if paths:
                found[case] = volumes(paths[0])
            else:
                print(*case, "was not segmented")
    print(f"{'':28}", *(g.rjust(12) for g in GROUPS))
    for (contrast, title), after in found.items():
        before = found[contrast, "at rest"]
        if title != "at rest":
            change = {g: 100 * np.abs(after[g] / before[g] - 1) for g in GROUPS}
            print(f"{contrast} {title:24}", *(f"{c.mean():5.1f} {c.max():5.1f}".rjust(12) for c in change.values()))


if __name__ == "__main__":
    main()

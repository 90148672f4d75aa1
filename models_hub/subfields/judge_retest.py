"""Test and retest of a subfields model: volumes of disturbed heads against those of the heads at rest, by the app.

    python judge_retest.py BIDS_DIR/sub-* --model subfields_bagging_sq [--contrasts T1w T2w]

Heads are turned, shifted, resampled, made noisy or unevenly bright. Prints the change of each label's volume in
percent (mean of the absolute values of both sides of all heads, and the largest); slabs of 2 mm are T2w, coronal to the
body of the hippocampus as such scans are.
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

# Of the slices' normal to the hippocampus's length, which falls to the front by 40 degrees on ICBM152.
SLAB_TILT_DEGREES = -30
THICK_MM, THIN_MM = 1.5, 0.4  # thicker slices are the means of thin ones


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


def seen_turned(
    data: np.ndarray,
    from_voxels: np.ndarray,
    affine: np.ndarray,
    shape: np.ndarray,
    what: Disturbance,
) -> np.ndarray:
    """Head on a new grid (`affine`, `shape`), turned about its middle; thick slices are the means of thin ones."""
    voxels = np.diag(affine)[:3]
    middle = affine[:3, 3] + voxels * (shape - 1) / 2
    n_thin = np.where(voxels > THICK_MM, np.round(voxels / THIN_MM), 1).astype(int)
    rotation = Rotation.from_euler("xyz", what.turn, degrees=True).as_matrix()
    first = affine[:3, 3] - voxels * (n_thin - 1) / n_thin / 2
    inverse = np.linalg.inv(from_voxels)
    moved = ndimage.affine_transform(
        data,
        inverse[:3, :3] @ rotation @ np.diag(voxels / n_thin),
        inverse[:3, :3] @ (rotation @ (first - middle) + middle + np.array(what.shift)) + inverse[:3, 3],
        tuple(shape * n_thin),
        order=3,
    )
    x, y, z = shape
    return moved.reshape(x, n_thin[0], y, n_thin[1], z, n_thin[2]).mean((1, 3, 5))


def cut_out(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Box of an image that holds the head."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    return image.slicer[ndimage.find_objects((data > 0.1 * data.max()).astype(int))[0]]


def disturbed(image: nib.Nifti1Image, what: Disturbance, rng: np.random.Generator) -> nib.Nifti1Image:
    """Copy of a head in the middle of a new grid of 193 x 229 x 193 mm (slabs: of what holds the hippocampi)."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    voxels = np.array(what.voxels, dtype=float)
    is_slab = voxels.max() > THICK_MM
    size = np.array([110.0, 90.0, 70.0]) if is_slab else np.array([193.0, 229.0, 193.0])
    # Slabs lie where the hippocampi of MNI heads do.
    middle = np.array([0, -22, -12.0]) if is_slab else image.affine[:3] @ [*(n // 2 for n in data.shape), 1]
    shape = np.ceil(size / voxels).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(voxels)
    affine[:3, 3] = middle - voxels * (shape - 1) / 2
    moved = seen_turned(data, image.affine, affine, shape, what)
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


def write_heads(subject: Path, contrast: str, bids_dir: Path, rng: np.random.Generator) -> dict[str, str]:
    """Write a subject's head at rest and disturbed, as subjects of their own; gives what was done to each."""
    anat, done = subject / "anat", {}
    image = cut_out(nib.load(anat / f"{subject.name}_{contrast}.nii.gz"))
    for index, (title, what) in enumerate({"at rest": Disturbance(), **DISTURBANCES}.items()):
        is_slab = max(what.voxels) > THICK_MM
        if is_slab and contrast == "T1w":
            continue
        label = f"{subject.name}{contrast}x{index}"
        folder = bids_dir / label / "anat"
        folder.mkdir(parents=True)
        nib.save(disturbed(image, what, rng), folder / f"{label}_{contrast}.nii.gz")
        if is_slab:  # it is found through the session's T1w
            t1w = cut_out(nib.load(anat / f"{subject.name}_T1w.nii.gz"))
            nib.save(disturbed(t1w, Disturbance(turn=what.turn), rng), folder / f"{label}_T1w.nii.gz")
        done[label] = title
    return done


def changes(out: Path, contrast: str, done: dict[str, str]) -> dict[str, dict[str, np.ndarray]]:
    """Change of each group's volume in percent, left and right, by what was done to a head."""
    found = {}
    for label, title in done.items():
        paths = list(out.glob(f"{label}/**/{label}_*space-{contrast}_seg-*_dseg.nii.gz"))
        if paths:
            found[title] = volumes(paths[0])
        else:
            print(label, title, "was not segmented")
    before = found.pop("at rest")
    return {title: {g: 100 * np.abs(after[g] / before[g] - 1) for g in GROUPS} for title, after in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", type=Path, nargs="+")
    parser.add_argument("--model", default="subfields_bagging_sq")
    parser.add_argument("--contrasts", nargs="+", default=["T1w", "T2w"])
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        bids_dir, out = Path(name) / "bids", Path(name) / "out"
        bids_dir.mkdir()
        (bids_dir / "dataset_description.json").write_text('{"Name": "disturbed", "BIDSVersion": "1.10.0"}')
        written = [(c, write_heads(s, c, bids_dir, rng)) for c in arguments.contrasts for s in arguments.subjects]
        command = [sys.executable, "-m", "bids_hsf", str(bids_dir), str(out), "participant", "--model", arguments.model]
        subprocess.run([*command, "--skip-bids-validation"], check=False)  # noqa: S603
        rows: dict[str, list[dict[str, np.ndarray]]] = {}
        for contrast, done in written:
            for title, change in changes(out, contrast, done).items():
                rows.setdefault(f"{contrast} {title}", []).append(change)
    print(f"{'':28}", *(g.rjust(12) for g in GROUPS))
    for title, heads in rows.items():
        both = {g: np.concatenate([head[g] for head in heads]) for g in GROUPS}
        print(f"{title:28}", *(f"{c.mean():5.1f} {c.max():5.1f}".rjust(12) for c in both.values()))


if __name__ == "__main__":
    main()

"""The example dataset with a third subject: a turned, shifted and resampled head.

The two subjects of ``tests/data/bids`` lie in template space, where a locator that ignores the image is right
by chance. ``sub-rotated`` is one of them after a known rigid motion, on other voxels and in another storage
orientation; the motion is returned, so that a test can carry results back.

As a script: ``python tests/support/example_data.py OUT_DIR``.
"""

import argparse
import csv
import gzip
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

BIDS_DIR = Path(__file__).parents[1] / "data" / "bids"
LABEL = "rotated"


@dataclass(frozen=True)
class Disturbance:
    """What is done to a head; the defaults are those of ``sub-rotated``."""

    rotation_deg: tuple[float, float, float] = (17.0, -4.0, 15.0)
    """Turns about the x (nod), y (tilt) and z (shake) axes through the middle of the image, in this order."""
    shift_mm: tuple[float, float, float] = (9.0, -14.0, 21.0)
    """Shift after the turn, in RAS+ mm."""
    voxel_sizes: tuple[float, float, float] = (0.9, 1.1, 1.0)
    """Voxel sizes along the R, A and S axes, in mm."""
    orientation: str = "LIA"
    """Storage orientation: the direction in which each voxel index grows."""
    padding_mm: float = 0.0
    """Margin added on every side of the turned field of view."""


@dataclass(frozen=True)
class DisturbedSubject:
    """Where the third subject is and how its head was moved."""

    bids_dir: Path
    """The copy of the dataset."""
    label: str
    """Participant label without ``sub-``."""
    image_path: Path
    """The disturbed image."""
    source_path: Path
    """The image it was made from."""
    disturbed_from_source: np.ndarray
    """(4, 4) float64, source RAS+ mm -> disturbed RAS+ mm; rigid."""


def write_disturbed_subject(
    bids_dir: Path = BIDS_DIR,
    out_dir: Path = Path("bids"),
    source: str = "colin27",
    disturbance: Disturbance | None = None,
) -> DisturbedSubject:
    """Copy a dataset and add ``sub-rotated``, a disturbed copy of one subject's T1w.

    Parameters
    ----------
    bids_dir : Path
        The example dataset; left alone.
    out_dir : Path
        Folder of the copy; made if absent, files in it are overwritten.
    source : str
        Participant label of the head to disturb.
    disturbance : Disturbance, optional
        Another motion, voxel size or orientation than the usual one.

    Returns
    -------
    DisturbedSubject
        Its paths and its motion.
    """
    shutil.copytree(bids_dir, out_dir, dirs_exist_ok=True)
    source_path = out_dir / f"sub-{source}" / "anat" / f"sub-{source}_T1w.nii.gz"
    image_path = out_dir / f"sub-{LABEL}" / "anat" / f"sub-{LABEL}_T1w.nii.gz"
    image_path.parent.mkdir(parents=True, exist_ok=True)
    disturbed, motion = disturb(nib.load(source_path), disturbance or Disturbance())
    # Without a time stamp the same call gives the same bytes.
    image_path.write_bytes(gzip.compress(disturbed.to_bytes(), compresslevel=1, mtime=0))
    comment = {"ImageComments": f"sub-{source} turned, shifted and resampled; made on the fly"}
    image_path.with_name(f"sub-{LABEL}_T1w.json").write_text(json.dumps(comment, indent=2) + "\n")
    _add_participant(out_dir / "participants.tsv", source)
    return DisturbedSubject(out_dir, LABEL, image_path, source_path, motion)


def disturb(image: nib.Nifti1Image, disturbance: Disturbance) -> tuple[nib.Nifti1Image, np.ndarray]:
    """Turn, shift and resample an image (linear interpolation) into another storage orientation.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        (X, Y, Z), any orientation.
    disturbance : Disturbance
        The motion and the new grid.

    Returns
    -------
    image : nibabel.Nifti1Image
        (X', Y', Z') uint8, a field of view that holds the whole turned source.
    motion : numpy.ndarray
        (4, 4) float64, source RAS+ mm -> disturbed RAS+ mm.
    """
    centre = nib.affines.apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", disturbance.rotation_deg, degrees=True).as_matrix()
    motion[:3, 3] = centre + disturbance.shift_mm - motion[:3, :3] @ centre
    shape, affine = _grid_around(image, motion, disturbance)
    source_from_new = np.linalg.inv(motion @ image.affine) @ affine
    values = np.asarray(image.dataobj, dtype=np.float32)
    moved = ndimage.affine_transform(values, source_from_new[:3, :3], source_from_new[:3, 3], shape, order=1)
    moved = np.round(moved * (255.0 / values.max())).astype(np.uint8)
    disturbed = nib.Nifti1Image(moved, affine)
    change = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(disturbance.orientation)
    )
    disturbed = disturbed.as_reoriented(change)
    disturbed.set_sform(disturbed.affine, code="scanner")
    disturbed.set_qform(disturbed.affine, code="scanner")
    disturbed.header.set_xyzt_units("mm", "sec")
    return disturbed, motion


def carry_back(data: np.ndarray, affine: np.ndarray, subject: DisturbedSubject, order: int = 0) -> np.ndarray:
    """Bring an array on the grid of the disturbed image back onto the grid of its source.

    Parameters
    ----------
    data : numpy.ndarray
        (X', Y', Z'), for example a label map.
    affine : numpy.ndarray
        (4, 4), its voxel -> RAS+ mm.
    subject : DisturbedSubject
        As returned by `write_disturbed_subject`.
    order : int
        Spline order; 0 for labels.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z), the type of `data`.
    """
    source = nib.load(subject.source_path)
    data_from_source = np.linalg.inv(affine) @ subject.disturbed_from_source @ source.affine
    return ndimage.affine_transform(data, data_from_source[:3, :3], data_from_source[:3, 3], source.shape, order=order)


def _grid_around(
    image: nib.Nifti1Image, motion: np.ndarray, disturbance: Disturbance
) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and RAS+ affine of the grid that holds all eight corners of the moved image."""
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in image.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    moved = nib.affines.apply_affine(motion @ image.affine, corners)
    start = moved.min(axis=0) - disturbance.padding_mm
    stop = moved.max(axis=0) + disturbance.padding_mm
    shape = tuple(int(n) for n in np.ceil((stop - start) / disturbance.voxel_sizes) + 1)
    return shape, nib.affines.from_matvec(np.diag(disturbance.voxel_sizes), start)


def _add_participant(table_path: Path, source: str) -> None:
    """Append the row of the third subject, once."""
    with table_path.open(newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    new = {**next(row for row in rows if row["participant_id"] == f"sub-{source}"), "participant_id": f"sub-{LABEL}"}
    new["description"] = f"sub-{source} turned, shifted and resampled"
    rows = [row for row in rows if row["participant_id"] != new["participant_id"]] + [new]
    with table_path.open("w", newline="") as table:
        writer = csv.DictWriter(table, list(new), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write the example dataset plus a rotated subject to OUT_DIR.")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    subject = write_disturbed_subject(BIDS_DIR, parser.parse_args().out_dir)
    print(subject.bids_dir)


if __name__ == "__main__":
    _main()

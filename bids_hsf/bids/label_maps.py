"""Hippocampi in the label maps of other software: where such maps lie, and what is in them.

Known are the subject folders of FreeSurfer and FastSurfer, fMRIPrep's ``desc-aseg`` maps, and maps that are named
after the scan, as ``mri_synthseg`` writes them. All of them number the hippocampi alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.dataset import Scan
from bids_hsf.errors import NoInputError, UnreadableImageError
from bids_hsf.geometry import Grid
from bids_hsf.labels import SIDE_NAMES

HIPPOCAMPUS = {"L": 17, "R": 53}

# In the order of trust: FastSurfer's later ones have been through more of its steps.
IN_SUBJECT_FOLDER = ("mri/aseg.mgz", "mri/aseg.auto_noCCseg.mgz", "mri/aparc.DKTatlas+aseg.deep.mgz")

EXTENSIONS = (".nii.gz", ".nii", ".mgz")

MIN_VOXELS = 10


@dataclass(frozen=True)
class LabelMap:
    """A label map that another software made of a scan.

    Attributes
    ----------
    name : str
        Of its folder, as the user named it.
    path : Path
    relative_path : str
        From the folder.
    """

    name: str
    path: Path
    relative_path: str


def check_folders(folders: Mapping[str, str]) -> None:
    """Make sure that the folders of ``--derivatives`` are there.

    Raises
    ------
    NoInputError
        One is not.
    """
    for name, folder in folders.items():
        if not Path(folder).is_dir():
            raise NoInputError(
                f"--derivatives {name}: there is no folder {folder}", "Check the path, and in a container the mount."
            )


def find_label_map(folders: Mapping[str, str], scan: Scan) -> LabelMap | None:
    """Find the label map of a scan, in the first of the folders (name to path) that has one."""
    for name, folder in folders.items():
        path = _in_subject_folder(Path(folder), scan) or _named_after(Path(folder), scan)
        if path is not None:
            return LabelMap(name, path, path.relative_to(folder).as_posix())
    return None


def _in_subject_folder(folder: Path, scan: Scan) -> Path | None:
    """Find FreeSurfer's or FastSurfer's segmentation: it is of the subject's T1w."""
    if scan.suffix == "T2w":
        return None
    subject, session = f"sub-{scan.subject}", f"ses-{scan.session}"
    places = [subject] if scan.session is None else [f"{subject}_{session}", f"{subject}/{session}", subject]
    paths = [folder / place / name for place in places for name in IN_SUBJECT_FOLDER]
    return next((path for path in paths if path.is_file()), None)


def _named_after(folder: Path, scan: Scan) -> Path | None:
    """Find a map that is named after the scan, or fMRIPrep's of a T1w."""
    stem = scan.path.name.removesuffix(".gz").removesuffix(".nii")
    wanted = [stem + end for end in ("_synthseg", "_seg", "_dseg", "_desc-synthseg_dseg", "_desc-aseg_dseg")]
    bare = stem.rpartition("_")[0]
    wanted += [f"{bare}_space-{scan.suffix}_desc-{desc}_dseg" for desc in ("aseg", "synthseg")]
    if scan.suffix != "T2w":
        wanted += [f"{bare}_desc-{desc}_dseg" for desc in ("aseg", "synthseg")]
    subject = f"sub-{scan.subject}"
    levels = [subject] if scan.session is None else [f"{subject}/ses-{scan.session}", subject]
    places = [folder, *(folder / level / anat for level in levels for anat in ("anat", ""))]
    paths = [place / (name + end) for place in places for name in wanted for end in EXTENSIONS]
    return next((path for path in paths if path.is_file()), None)


def read_hippocampi(label_map: LabelMap) -> dict[str, NDArray[np.float64]]:
    """Centres of the voxels of both hippocampi, (N, 3) in the scan's RAS+ mm.

    Raises
    ------
    UnreadableImageError
        The file is damaged, is no label map, or lacks a hippocampus.
    """
    hint = "Make it anew, or run without --derivatives."
    try:
        image = nib.load(label_map.path)
        values = np.asarray(image.dataobj)
    except Exception as error:  # nibabel raises a dozen unrelated classes on damaged files
        reason = " ".join(str(error).split())
        raise UnreadableImageError(f"{label_map.path} is not a readable label map: {reason}", hint) from error
    if values.size == 0 or values.ndim < 3 or any(n != 1 for n in values.shape[3:]):
        raise UnreadableImageError(f"{label_map.path} has shape {values.shape}, expected one volume", hint)
    x, y, z = values.shape[:3]
    values = values.reshape(x, y, z)
    grid = Grid((x, y, z), np.asarray(image.affine, dtype=np.float64))
    points = {side: grid.to_mm(np.argwhere(values == label)) for side, label in HIPPOCAMPUS.items()}
    for side, found in points.items():
        if len(found) < MIN_VOXELS:
            raise UnreadableImageError(
                f"{label_map.path} has {len(found)} voxels of the {SIDE_NAMES[side]} hippocampus, label "
                f"{HIPPOCAMPUS[side]}, expected {MIN_VOXELS} or more",
                hint,
            )
    return points

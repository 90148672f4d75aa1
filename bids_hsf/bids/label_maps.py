"""Hippocampi in the label maps of other software: where such maps lie, and what is in them.

Known are the subject folders of FreeSurfer and FastSurfer, fMRIPrep's ``desc-aseg`` maps, and maps that are named
after the scan, as ``mri_synthseg`` writes them. All of them number the hippocampi alike. Where the image that a map
was drawn on lies beside it, it is found too: a map of the participant is not one of each scan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.dataset import Scan
from bids_hsf.errors import NoInputError, StorageError, UnreadableImageError
from bids_hsf.geometry import Grid
from bids_hsf.image_files import check_beginning, file_size, mgh_voxel_bytes
from bids_hsf.images import LoadedScan, take_scan
from bids_hsf.labels import SIDE_NAMES

HIPPOCAMPUS = {"L": 17, "R": 53}

# In the order of trust: FastSurfer's later ones have been through more of its steps.
IN_SUBJECT_FOLDER = ("mri/aseg.mgz", "mri/aseg.auto_noCCseg.mgz", "mri/aparc.DKTatlas+aseg.deep.mgz")

EXTENSIONS = (".nii.gz", ".nii", ".mgz")

# What such maps are drawn on, as the same software keeps it; the closest to the scan first.
DRAWN_ON = ("orig.mgz", "orig_nu.mgz", "nu.mgz", "T1.mgz")

MIN_VOXELS = 10
MAX_HIPPOCAMPUS_MM3 = 20_000  # healthy ones have 2,000 to 6,000
MAX_VOXEL_BYTES = 640 << 20  # 0.5 mm for a whole head, four bytes each
HINT = "Make it anew, or run without --derivatives."


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
    image_path : Path or None
        The image that it was drawn on, if the software keeps that beside it.
    """

    name: str
    path: Path
    relative_path: str
    image_path: Path | None = None

    def __str__(self) -> str:
        """Name it in tables and sidecars, such as "freesurfer:sub-01/mri/aseg.mgz"."""
        return f"{self.name}:{self.relative_path}"


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
        path = next((path for path in _places(Path(folder), scan) if _is_there(path)), None)
        if path is not None:
            return LabelMap(name, path, path.relative_to(folder).as_posix(), _drawn_on(path))
    return None


def places_of(scan: Scan) -> list[str]:
    """Where the label map of a scan is looked for, from the folder of the other software."""
    return [path.as_posix() for path in _places(Path(), scan)]


def _places(folder: Path, scan: Scan) -> list[Path]:
    """All paths that a label map of a scan may have, the most trusted first."""
    return [*_in_subject_folder(folder, scan), *_named_after(folder, scan)]


def _in_subject_folder(folder: Path, scan: Scan) -> list[Path]:
    """List FreeSurfer's and FastSurfer's segmentations: they are of the subject's T1w."""
    if scan.suffix == "T2w":
        return []
    subject, session = f"sub-{scan.subject}", f"ses-{scan.session}"
    places = [subject] if scan.session is None else [f"{subject}_{session}", f"{subject}/{session}", subject]
    return [folder / place / name for place in places for name in IN_SUBJECT_FOLDER]


def _named_after(folder: Path, scan: Scan) -> list[Path]:
    """List maps that are named after the scan, and fMRIPrep's of a T1w."""
    stem = scan.path.name.removesuffix(".gz").removesuffix(".nii")
    wanted = [stem + end for end in ("_synthseg", "_seg", "_dseg", "_desc-synthseg_dseg", "_desc-aseg_dseg")]
    bare = stem.rpartition("_")[0]
    wanted += [f"{bare}_space-{scan.suffix}_desc-{desc}_dseg" for desc in ("aseg", "synthseg")]
    if scan.suffix != "T2w":
        wanted += [f"{bare}_desc-{desc}_dseg" for desc in ("aseg", "synthseg")]
        if scan.session is not None:
            # fMRIPrep joins the sessions of a participant into one image.
            joined = f"sub-{scan.subject}"
            wanted += [f"{joined}_desc-{desc}_dseg" for desc in ("aseg", "synthseg")]
    subject = f"sub-{scan.subject}"
    levels = [subject] if scan.session is None else [f"{subject}/ses-{scan.session}", subject]
    places = [folder, *(folder / level / anat for level in levels for anat in ("anat", ""))]
    return [place / (name + end) for place in places for name in wanted for end in EXTENSIONS]


def _is_there(path: Path) -> bool:
    """Whether there is a file; one of which the disk does not tell is: it fails by name when it is read."""
    try:
        return path.is_file()
    except OSError:
        return True


def _drawn_on(path: Path) -> Path | None:
    """Image that a label map was drawn on."""
    if path.parent.name == "mri":
        images = [path.with_name(name) for name in DRAWN_ON]
    else:
        stem, _, described = path.name.partition("_desc-aseg_dseg")
        images = [path.with_name(f"{stem}_desc-preproc_T1w{end}") for end in EXTENSIONS] if described else []
    return next((image for image in images if _is_there(image)), None)


def read_drawn_on(path: Path) -> LoadedScan:
    """Read the image that a label map was drawn on, of any of nibabel's formats.

    Raises
    ------
    UnreadableImageError
        It is damaged, or no image of a head.
    """
    return take_scan(_opened(path, "image"), str(path))


def read_hippocampi(label_map: LabelMap) -> dict[str, NDArray[np.float64]]:
    """Centres of the voxels of both hippocampi, (N, 3) in the scan's RAS+ mm.

    Raises
    ------
    UnreadableImageError
        The file is damaged, is no label map, or lacks a hippocampus.
    """
    path = label_map.path
    image = _opened(path, "label map")
    try:
        # As they are stored: to scale them would take eight bytes a voxel.
        values = np.asanyarray(image.dataobj.get_unscaled())
        slope, shift = float(image.dataobj.slope), float(image.dataobj.inter)
        affine = np.asarray(image.affine, dtype=np.float64)
    except MemoryError:
        raise
    except Exception as error:  # nibabel raises a dozen unrelated classes on damaged files
        raise _unreadable(path, error, "label map") from error
    grid = Grid(_one_volume(values.shape, path), affine)
    values = values.reshape(grid.shape)
    points = {}
    for side, label in HIPPOCAMPUS.items():
        inside = values == (label - shift) / slope
        _check_size(int(inside.sum()), grid.voxel_volume, side, path)
        points[side] = grid.to_mm(np.argwhere(inside))
    return points


def _opened(path: Path, kind: str) -> nib.spatialimages.SpatialImage:
    """Open an image of any format whose header claims no more than a head takes."""
    try:
        file_size(path)
        check_beginning(path)
        n_bytes = mgh_voxel_bytes(path) if path.suffix in (".mgz", ".mgh") else 0
        if n_bytes <= MAX_VOXEL_BYTES:
            image = nib.load(path, mmap=False)
            n_bytes = int(np.prod(image.shape, dtype=np.int64)) * int(image.get_data_dtype().itemsize)
    except (UnreadableImageError, StorageError):
        raise
    except Exception as error:  # as above
        raise _unreadable(path, error, kind) from error
    if n_bytes > MAX_VOXEL_BYTES:
        raise UnreadableImageError(
            f"{path} claims {n_bytes:,} bytes of voxels, expected at most {MAX_VOXEL_BYTES:,} of a {kind}", HINT
        )
    return image


def _unreadable(path: Path, error: Exception, kind: str) -> UnreadableImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UnreadableImageError(f"{path} is not a readable {kind}: {reason}", HINT)


def _one_volume(shape: Sequence[int], path: Path) -> tuple[int, int, int]:
    if len(shape) < 3 or 0 in shape or any(n != 1 for n in shape[3:]):
        raise UnreadableImageError(f"{path} has shape {tuple(shape)}, expected one volume", HINT)
    x, y, z = (int(n) for n in shape[:3])
    return x, y, z


def _check_size(n_voxels: int, voxel_volume: float, side: str, path: Path) -> None:
    """Refuse what cannot be a hippocampus by its size, before its points are made."""
    of_which = f"of the {SIDE_NAMES[side]} hippocampus, label {HIPPOCAMPUS[side]}"
    if n_voxels < MIN_VOXELS:
        raise UnreadableImageError(f"{path} has {n_voxels} voxels {of_which}, expected {MIN_VOXELS} or more", HINT)
    volume = n_voxels * voxel_volume
    # NaN is no size either.
    if not volume <= MAX_HIPPOCAMPUS_MM3:
        raise UnreadableImageError(
            f"{path} has {volume:,.0f} mm3 {of_which}, expected {MAX_HIPPOCAMPUS_MM3:,} or less", HINT
        )

"""Images that are given by themselves, without a dataset around them."""

from collections.abc import Sequence
from pathlib import Path

from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.selection import Selection
from bids_hsf.errors import NoInputError, UsageError
from bids_hsf.text_table import near


def loose_scans(paths: Sequence[Path], selection: Selection) -> list[Scan]:
    """Make scans of image files, in the order in which they were given.

    The contrast is the one that was asked for, else what the name ends with, else T1w.

    Raises
    ------
    NoInputError
        A file does not exist.
    UsageError
        Two images have one name, so that their results would too, or several contrasts were asked for.
    """
    if selection.modalities_asked and len(selection.modalities) > 1:
        raise UsageError(f"-m/--modalities {' '.join(selection.modalities)}: images given by name have one contrast")
    asked = selection.modalities[0] if selection.modalities_asked else None
    scans: dict[str, Scan] = {}
    for path in paths:
        if not path.exists() and not path.is_symlink():
            raise NoInputError(
                f"The image does not exist: {path}", f"{_near(path)}Check the path, and in a container the mount."
            )
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        scan = Scan(path, path.name, asked or ("T2w" if stem.lower().endswith(("t2w", "t2")) else "T1w"), ())
        other = scans.setdefault(scan.key, scan)
        if other is not scan:
            raise UsageError(
                f"{other.path} and {path} would have results of one name", "Give them to two runs, or rename one."
            )
    return list(scans.values())


def _near(path: Path) -> str:
    """Ask whether another image of the folder was meant, where one has nearly this name."""
    try:
        names = [each.name for each in path.parent.iterdir() if each.name.lower().endswith((".nii", ".nii.gz"))]
    except OSError:
        return ""
    return near(path.name, names)

"""What lies where in a BIDS dataset: participants, sessions, images, by as few calls of the file system as do.

Of a dataset of a hundred thousand participants a run that names one of them must not see the others: the root is
listed only where all are asked for.
"""

import errno
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from bids_hsf.bids.selection import EXTENSIONS
from bids_hsf.errors import StorageError

logger = logging.getLogger(__name__)


def known_participants(bids_dir: Path) -> list[str]:
    """Labels of the sub-* folders, sorted, without ``sub-``."""
    return [name.removeprefix("sub-") for name in _folders(bids_dir, "sub-") if name != "sub-"]


def is_participant(bids_dir: Path, label: str) -> bool:
    """Whether there is a folder of a participant; no other one is looked at.

    Raises
    ------
    StorageError
        The file system does not tell.
    """
    if not label or "/" in label or "\0" in label:
        return False
    folder = bids_dir / f"sub-{label}"
    try:
        return stat.S_ISDIR(folder.stat().st_mode)
    except PermissionError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return False
        raise unlisted(folder, error) from error


def anat_folders(bids_dir: Path, subjects: Iterable[str]) -> Iterator[tuple[str | None, Path]]:
    """Session label (or None) and path of the anat folders of some subjects, and of folders that are closed to us."""
    for subject in subjects:
        levels: list[tuple[str | None, Path]] = [(None, bids_dir / f"sub-{subject}")]
        for session, folder in levels:
            try:
                names = _folders(folder)
            except PermissionError:
                yield session, folder
                continue
            if session is None:
                levels += [(name.removeprefix("ses-"), folder / name) for name in names if name[:4] == "ses-" != name]
            if "anat" in names:
                yield session, folder / "anat"


def images_in(folders: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """NIfTI files of some folders, broken links included: they fail by name later; and which folders are closed."""
    images, closed = [], []
    for folder in folders:
        owner = next(part for part in reversed(folder.parts) if part.startswith("sub-"))
        try:
            names = os.listdir(folder)  # noqa: PTH208 - a third of the time of iterdir on large datasets
        except PermissionError:
            closed.append(folder)
            continue
        except OSError as error:
            raise unlisted(folder, error) from error
        for name in sorted(name for name in names if name.endswith(EXTENSIONS) and not name.startswith(".")):
            if name.startswith("sub-"):
                images.append(folder / name)
            else:
                logger.warning("%s is left out: its name does not begin with %s_", folder / name, owner)
    return images, closed


def unlisted(folder: Path, error: OSError) -> StorageError:
    """Say that a folder cannot be looked into."""
    return StorageError(
        f"Cannot list {folder}: {error.strerror}",
        "Check disks and mounts, or leave the participant out with --exclude-participant-label.",
    )


def _folders(parent: Path, prefix: str = "") -> list[str]:
    """Names of the folders (and links to folders) in a folder, sorted; of those that are closed to us, too."""

    def is_folder(entry: "os.DirEntry[str]") -> bool:
        try:
            return entry.is_dir()
        except PermissionError:
            return True
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link that leads to itself is no folder
                return False
            raise

    try:
        with os.scandir(parent) as entries:
            return sorted(entry.name for entry in entries if entry.name.startswith(prefix) and is_folder(entry))
    except PermissionError:
        raise
    except OSError as error:
        raise unlisted(parent, error) from error

"""Find the scans of a BIDS dataset: everything that knows pybids, input side."""

import json
import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_hsf.bids.selection import Selection
from bids_hsf.errors import InvalidDatasetError, NoInputError, NothingSelectedError, StorageError, UsageError

logger = logging.getLogger(__name__)


# Entities of anatomical images, in the order of BIDS names.
ENTITY_ORDER = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "flip", "inv", "mt", "part", "chunk")

EXTENSIONS = (".nii", ".nii.gz")

SHOWN_LABELS = 30


@dataclass(frozen=True)
class Scan:
    """One image to segment: the unit of work.

    Attributes
    ----------
    path : Path
        The image.
    relative_path : str
        The same, from the dataset's root, with "/".
    suffix : str
        "T1w", "T2w", ...
    entities : tuple of (str, str)
        Short BIDS names and labels in BIDS order, such as ("sub", "01"), as legal in an output name.
    """

    path: Path
    relative_path: str
    suffix: str
    entities: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """Name of the scan in logs, seeds and outputs, such as "sub-01_ses-02_T1w"."""
        return "_".join([*(f"{name}-{label}" for name, label in self.entities), self.suffix])

    @property
    def subject(self) -> str:
        """Label of the participant, without ``sub-``."""
        return dict(self.entities)["sub"]

    @property
    def participant(self) -> str:
        """Label of the participant's folder, as ``--participant-label`` takes it: it may hold what no output may."""
        return self.relative_path.partition("/")[0].removeprefix("sub-")

    @property
    def session(self) -> str | None:
        """Label of the session, without ``ses-``."""
        return dict(self.entities).get("ses")


def check_dataset(bids_dir: Path) -> None:
    """Make sure that a folder claims to be a BIDS dataset.

    Raises
    ------
    NoInputError
        It does not exist.
    InvalidDatasetError
        dataset_description.json is missing or unreadable.
    """
    if not bids_dir.is_dir():
        raise NoInputError(
            f"The BIDS folder does not exist: {bids_dir}", "Check the path, and in a container the mount."
        )
    path = bids_dir / "dataset_description.json"
    hint = 'A minimal one is {"Name": "My study", "BIDSVersion": "1.10.0"}.'
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InvalidDatasetError(f"Not a BIDS dataset: {path} is missing", hint) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidDatasetError(f"Not a BIDS dataset: {path} cannot be read ({error})", hint) from error
    if not isinstance(description, dict):
        raise InvalidDatasetError(f"Not a BIDS dataset: {path} holds no JSON object", hint)


def find_scans(bids_dir: Path, selection: Selection, database_dir: Path | None = None) -> list[Scan]:
    """Find the scans that a selection asks for, sorted by key.

    Raises
    ------
    NothingSelectedError
        An unknown participant or session label (the known ones are listed), or nothing is left.
    StorageError
        A folder of a selected participant cannot be listed, for another reason than its permissions.
    """
    known = known_participants(bids_dir)
    wanted = _checked_labels("participant", selection.participants, known)
    excluded = set(selection.excluded_participants)
    subjects = [label for label in (wanted or known) if label not in excluded]
    if not subjects:
        raise NothingSelectedError(f"No participant is selected in {bids_dir}", _list_labels("participants", known))
    folders = list(_anat_folders(bids_dir, subjects))
    sessions = sorted({session for session, _ in folders if session is not None})
    wanted_sessions = _checked_labels("session", selection.sessions, sessions)
    images, closed = _images(folder for session, folder in folders if session in wanted_sessions or not wanted_sessions)
    found = [_scan(path, bids_dir) for path in _query(bids_dir, images, selection, database_dir)]
    found += [_closed_scan(folder, bids_dir, suffix) for folder in closed for suffix in selection.modalities]
    wanted_suffixes = " or ".join(selection.modalities)
    if not found:
        raise NothingSelectedError(
            f"No {wanted_suffixes} image (.nii, .nii.gz) of {len(subjects)} participant(s) matches in {bids_dir}",
            "Scans are looked for in sub-*/[ses-*/]anat; check the filters, -m/--modalities and --session-label.",
        )
    without = sorted(set(subjects) - {scan.participant for scan in found})
    if without:
        # Who names a participant waits for it.
        level = logging.WARNING if wanted else logging.INFO
        logger.log(level, "No %s image of %d participant(s): %s", wanted_suffixes, len(without), _shortened(without))
    return _without_collisions(found)


def known_participants(bids_dir: Path) -> list[str]:
    """Labels of the sub-* folders, sorted, without ``sub-``."""
    return [name.removeprefix("sub-") for name in _folders(bids_dir) if name.startswith("sub-") and name != "sub-"]


def _folders(parent: Path) -> list[str]:
    """Names of the folders (and links to folders) in a folder, sorted; of those that are closed to us, too."""

    def is_folder(entry: "os.DirEntry[str]") -> bool:
        try:
            return entry.is_dir()
        except PermissionError:
            return True

    try:
        with os.scandir(parent) as entries:
            return sorted(entry.name for entry in entries if is_folder(entry))
    except PermissionError:
        raise
    except OSError as error:
        raise _unlisted(parent, error) from error


def _anat_folders(bids_dir: Path, subjects: Iterable[str]) -> Iterator[tuple[str | None, Path]]:
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


def _images(folders: Iterable[Path]) -> tuple[list[Path], list[Path]]:
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
            raise _unlisted(folder, error) from error
        for name in sorted(name for name in names if name.endswith(EXTENSIONS) and not name.startswith(".")):
            if name.startswith(f"{owner}_"):
                images.append(folder / name)
            else:
                logger.warning("%s is left out: its name does not begin with %s_", folder / name, owner)
    return images, closed


def _closed_scan(folder: Path, bids_dir: Path, suffix: str) -> Scan:
    """Stand-in for the scans of a folder that may not be listed: it fails like one that may not be read."""
    relative_path = folder.relative_to(bids_dir).as_posix()
    labels = [part.split("-", 1) for part in relative_path.split("/") if part.startswith(("sub-", "ses-"))]
    return Scan(folder, relative_path, suffix, tuple((name, _legal(label)) for name, label in labels))


def _unlisted(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"Cannot list {folder}: {error.strerror}",
        "Check disks and mounts, or leave the participant out with --exclude-participant-label.",
    )


def _checked_labels(kind: str, labels: Iterable[str], known: list[str]) -> list[str]:
    unknown = [label for label in labels if label not in known]
    if unknown:
        raise NothingSelectedError(f"Unknown {kind} label: {', '.join(unknown)}", _list_labels(f"{kind}s", known))
    return list(dict.fromkeys(labels))


def _list_labels(kind: str, known: list[str]) -> str:
    return f"Known {kind}: {_shortened(known) or 'none'}"


def _shortened(labels: Sequence[str]) -> str:
    return ", ".join(labels[:SHOWN_LABELS]) + (f", ... ({len(labels)} in all)" if len(labels) > SHOWN_LABELS else "")


def _query(bids_dir: Path, images: list[Path], selection: Selection, database_dir: Path | None) -> list[Path]:
    """Let pybids pick, out of some image files, those of the wanted suffixes that pass the filters.

    pybids knows the files by name alone, so that what is not asked for (functional images, other
    subjects, metadata) costs no time.
    """
    layout = _open_layout(bids_dir, images, database_dir)
    candidates = set(images)
    picked: set[Path] = set()
    for suffix in selection.modalities:
        filters = _pybids_filters(selection.filters.get(suffix.lower(), {}))
        try:
            # The suffix only opens the choice: a filter file may say another, as nipreps ones do.
            found = layout.get(return_type="filename", **{"suffix": suffix, **filters})
        except (ValueError, TypeError, re.error) as error:
            message = f"--bids-filter-file, {suffix.lower()}: {' '.join(str(error).split())}"
            raise UsageError(message, "Use pybids' names, such as session, acquisition, run.") from error
        # Not through resolve(): a DataLad file is a link, and its target has no BIDS name.
        picked |= {Path(path) for path in found} & candidates
    return sorted(picked)


def _open_layout(bids_dir: Path, images: Sequence[Path], database_dir: Path | None) -> Any:
    """Index some images in memory, or open (or make) the complete index that the user keeps in a folder."""
    with warnings.catch_warnings():
        # pybids warns of its own future.
        warnings.simplefilter("ignore")
        from bids import BIDSLayout, BIDSLayoutIndexer

        class NamedFilesIndexer(BIDSLayoutIndexer):  # type: ignore[misc]
            """Index the files that are named, walking no folder."""

            def _index_dir(self, _path: Any, config: list[Any], _force: Any = None) -> tuple[list[Any], list[Any]]:
                entities = {name: entity for part in config for name, entity in part.entities.items()}
                pairs = [self._index_file(path, entities) for path in images]
                return [file for file, _ in pairs], [tag for _, tags in pairs for tag in tags]

        if database_dir is None:
            indexer = NamedFilesIndexer(validate=False, index_metadata=False)
            # With the entities of derivatives, so that filters know desc-.
            return BIDSLayout(bids_dir, validate=False, indexer=indexer, config=["bids", "derivatives"])
        try:
            layout = BIDSLayout(bids_dir, validate=False, database_path=database_dir)
        except Exception as error:  # SQLAlchemy's tree of errors, and pybids' own
            raise StorageError(
                f"--bids-database-dir {database_dir} cannot be used: {' '.join(str(error).split())}",
                "Delete it to have it made anew, or leave the flag out.",
            ) from error
    indexed = {Path(path) for path in layout.files}
    missing = [path for path in images if path not in indexed]
    if missing:
        logger.warning(
            "--bids-database-dir %s does not know %d image(s), first %s; delete it to have it made anew",
            *(database_dir, len(missing), missing[0]),
        )
    return layout


def _pybids_filters(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a filter file's values: null means absent, "*" means any that is there."""
    from bids.layout import Query

    special = {None: Query.NONE, "*": Query.ANY}

    def translate(value: Any) -> Any:
        if isinstance(value, list):
            return [translate(item) for item in value]
        return special.get(value, value) if isinstance(value, str | None) else value

    return {entity: translate(value) for entity, value in filters.items()}


def _scan(path: Path, bids_dir: Path) -> Scan:
    """Read a scan's entities off its name, so that no two files share a key."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    *pairs, suffix = stem.split("_")
    labels: dict[str, str] = {}
    for pair in pairs:
        name, _, label = pair.partition("-")
        labels.setdefault(name, _legal(label))
    ordered = tuple((name, labels[name]) for name in ENTITY_ORDER if labels.get(name))
    return Scan(path, path.relative_to(bids_dir).as_posix(), suffix, ordered)


def _legal(label: str) -> str:
    """Make a label alphanumeric, as BIDS has it; HSF users write acq-0.8mm, which no output name may hold."""
    return re.sub(r"[^A-Za-z0-9+]", "p", label)


def _without_collisions(scans: list[Scan]) -> list[Scan]:
    """Sort by key, and drop the later of two files that would be written to one output, saying so.

    A raw name is preferred to one with entities that outputs cannot keep. Of a .nii and a .nii.gz, the compressed
    one is taken: it is what converters write.

    Raises
    ------
    UsageError
        Derivatives that differ in such entities alone (``space-``, ``desc-``): nobody but the user can choose.
    """

    def n_lost(scan: Scan) -> int:
        return scan.path.name.count("_") - len(scan.entities)

    unique: dict[str, Scan] = {}
    for scan in sorted(scans, key=lambda scan: (scan.key, n_lost(scan), scan.path.suffix != ".gz", scan.relative_path)):
        taken = unique.setdefault(scan.key, scan)
        if n_lost(taken) and taken.relative_path.split(".nii")[0] != scan.relative_path.split(".nii")[0]:
            raise UsageError(
                f"Results of {taken.relative_path} and of {scan.relative_path} would have the same names",
                'Choose with --bids-filter-file, for example {"t1w": {"space": null, "desc": "preproc"}}.',
            )
        if taken is not scan:
            logger.warning("%s is left out: its results would have the names of those of %s", scan.path, taken.path)
    return list(unique.values())

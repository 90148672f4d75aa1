"""Find the scans of a BIDS dataset, and make sure that each has outputs of its own."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_hsf.bids.entities import in_order, legal_label, split_name
from bids_hsf.bids.folders import anat_folders, images_in, is_participant, known_participants
from bids_hsf.bids.near_misses import LAYOUT, near_folder, near_misses
from bids_hsf.bids.queries import query
from bids_hsf.bids.selection import Selection
from bids_hsf.bids.shards import Shard
from bids_hsf.errors import EmptyShardError, InvalidDatasetError, NoInputError, NothingSelectedError, UsageError
from bids_hsf.files import read_text
from bids_hsf.text_table import near

logger = logging.getLogger(__name__)

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
        Short BIDS names and labels in BIDS order, such as ("sub", "01"), as legal in an output name; empty for an
        image that belongs to no dataset.
    """

    path: Path
    relative_path: str
    suffix: str
    entities: tuple[tuple[str, str], ...]

    @property
    def is_loose(self) -> bool:
        """Whether the image was given by itself, outside a dataset."""
        return not self.entities

    @property
    def key(self) -> str:
        """Name of the scan in logs, seeds and outputs, such as "sub-01_ses-02_T1w"; a loose image's file name."""
        if self.is_loose:
            return self.relative_path.removesuffix(".gz").removesuffix(".nii")
        return "_".join([*(f"{name}-{label}" for name, label in self.entities), self.suffix])

    @property
    def subject(self) -> str:
        """Label of the participant, without ``sub-``; a loose image's key."""
        return dict(self.entities).get("sub", self.key)

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
            f"The BIDS folder does not exist: {bids_dir}",
            f"{near_folder(bids_dir)}Check the path, and in a container the mount.",
        )
    path = bids_dir / "dataset_description.json"
    hint = 'A minimal one is {"Name": "My study", "BIDSVersion": "1.10.0"}.'
    try:
        description = json.loads(read_text(path).removeprefix("\ufeff"))
    except FileNotFoundError:
        hint = f"{near_misses(bids_dir)} {hint} {LAYOUT}".strip()
        raise InvalidDatasetError(f"Not a BIDS dataset: {path} is missing", hint) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidDatasetError(f"Not a BIDS dataset: {path} cannot be read ({error})", hint) from error
    if not isinstance(description, dict):
        raise InvalidDatasetError(f"Not a BIDS dataset: {path} holds no JSON object", hint)


def find_scans(bids_dir: Path, selection: Selection, *, waited_for: bool = True) -> list[Scan]:
    """Find the scans that a selection asks for, sorted by key.

    Parameters
    ----------
    bids_dir : Path
    selection : Selection
    waited_for : bool
        Whether it is worth a warning that a participant who was named has none.

    Raises
    ------
    NothingSelectedError
        An unknown participant or session label (the known ones are listed), or nothing is left.
    InvalidDatasetError
        The folder of an image contradicts its name, or two participants or sessions have outputs of one name.
    UsageError
        Two images have outputs of one name, or a filter is not understood.
    StorageError
        A folder of a selected participant cannot be listed, for another reason than its permissions.
    """
    subjects = selected_participants(bids_dir, selection)
    folders = list(anat_folders(bids_dir, subjects))
    sessions = {session for session, _ in folders if session is not None}
    unknown = [label for label in selection.sessions if label not in sessions]
    if unknown:
        raise _unknown("session", unknown, sorted(sessions))
    wanted = set(selection.sessions)
    images, closed = images_in(folder for session, folder in folders if session in wanted or not wanted)
    picked = _of_runs(query(bids_dir, images, selection), selection.runs, bids_dir)
    _check_labels(picked, bids_dir)
    found = _without_twins(_without_phase([_scan(path, bids_dir) for path in picked]))
    found += [_closed_scan(folder, bids_dir, suffix) for folder in closed for suffix in selection.modalities]
    wanted_suffixes = " or ".join(selection.modalities)
    if not found:
        error = NothingSelectedError if selection.shard is None else EmptyShardError
        raise error(
            f"No {wanted_suffixes} image (.nii, .nii.gz) of {len(subjects)} participant(s) matches in {bids_dir}",
            "Scans are looked for in sub-*/[ses-*/]anat; check the filters, -m/--modalities (T1w, T2w, UNIT1), "
            f"--session-label and --run-label. {near_misses(bids_dir)}".strip(),
        )
    without = sorted(set(subjects) - {scan.participant for scan in found})
    if without:
        # Who names a participant waits for it.
        level = logging.WARNING if selection.participants and waited_for else logging.INFO
        logger.log(level, "No %s image of %d participant(s): %s", wanted_suffixes, len(without), _shortened(without))
    _check_outputs(found)
    return sorted(found, key=lambda scan: scan.key)


def _closed_scan(folder: Path, bids_dir: Path, suffix: str) -> Scan:
    """Stand-in for the scans of a folder that may not be listed: it fails like one that may not be read."""
    relative_path = folder.relative_to(bids_dir).as_posix()
    return Scan(folder, relative_path, suffix, in_order(_folder_labels(folder, bids_dir)))


def selected_participants(bids_dir: Path, selection: Selection) -> list[str]:
    """Labels of the participants that a selection asks for, as they were named, or sorted.

    Raises
    ------
    NothingSelectedError
        One is not known, or none is left; the known ones are listed.
    """
    labels = list(dict.fromkeys(selection.participants)) or known_participants(bids_dir)
    if selection.participants:
        # Not among those that are known: to list them all takes longer, the more there are.
        unknown = [label for label in labels if not is_participant(bids_dir, label)]
        if unknown:
            known = known_participants(bids_dir)
            if not known:
                raise _no_participant(bids_dir, known)
            raise _unknown("participant", unknown, known)
    excluded = set(selection.excluded_participants)
    strange = [label for label in sorted(excluded) if not is_participant(bids_dir, label)]
    known = known_participants(bids_dir) if strange else []
    for label in strange:  # the one that was meant would be processed
        meant = near(label, known).strip()
        logger.warning("--exclude-participant-label %s: there is no such participant. %s", label, meant)
    subjects = [label for label in labels if label not in excluded]
    if not subjects:
        raise _no_participant(bids_dir, known_participants(bids_dir))
    return subjects if selection.shard is None else _in_shard(subjects, selection.shard)


def _no_participant(bids_dir: Path, known: Sequence[str]) -> NothingSelectedError:
    hint = _list_labels("participants", known)
    hint = hint if known else f"{hint}. {LAYOUT} {near_misses(bids_dir)}".strip()
    return NothingSelectedError(f"No participant is selected in {bids_dir}", hint)


def _in_shard(subjects: Sequence[str], shard: Shard) -> list[str]:
    """Take the participants of a shard, and say so."""
    if shard.by_itself and shard.count > len(subjects):
        logger.info(
            "The array has %d tasks, the dataset %d participant(s): this run takes all of them",
            shard.count,
            len(subjects),
        )
        return list(subjects)
    chosen = shard.of(subjects)
    told = logging.WARNING if shard.by_itself else logging.INFO
    logger.log(told, "Shard %s: this run takes %d of %d participant(s)", shard, len(chosen), len(subjects))
    if shard.by_itself:
        logger.warning("It is a task of an array; --shard 1/1 takes all participants, --participant-label those named")
    if not chosen:
        raise EmptyShardError(f"Shard {shard} is empty: there are {len(subjects)} participant(s)")
    return chosen


def _unknown(kind: str, labels: Sequence[str], known: Sequence[str]) -> NothingSelectedError:
    hint = near(labels[0], known) + _list_labels(f"{kind}s", known)
    return NothingSelectedError(f"Unknown {kind} label: {_shortened(labels)}", hint)


def _of_runs(images: list[Path], runs: Sequence[str], bids_dir: Path) -> list[Path]:
    """Keep the images of some runs; 1 and 01 are one run.

    Raises
    ------
    NothingSelectedError
        No image has such a run.
    """
    if not runs:
        return images
    labels = {path: _number(_labels(path, bids_dir)[0].get("run", "")) for path in images}
    wanted, known = {_number(run) for run in runs}, set(labels.values()) - {""}
    if not wanted <= known:
        raise _unknown("run", sorted(wanted - known), sorted(known))
    return [path for path, run in labels.items() if run in wanted]


def _number(label: str) -> str:
    """Write a label that is a number without leading zeros."""
    return label.lstrip("0") or "0" if label.isdecimal() else label


def _list_labels(kind: str, known: Sequence[str]) -> str:
    return f"Known {kind}: {_shortened(known) or 'none'}"


def _shortened(labels: Sequence[str]) -> str:
    return ", ".join(labels[:SHOWN_LABELS]) + (f", ... ({len(labels)} in all)" if len(labels) > SHOWN_LABELS else "")


def _folder_labels(path: Path, bids_dir: Path) -> dict[str, str]:
    """Labels of the participant and the session, by the folders from the root of the dataset to a path."""
    folders = [part.partition("-") for part in path.relative_to(bids_dir).parts]
    return {name: label for name, _, label in folders if name in ("sub", "ses")}


def _name_labels(path: Path, subject: str) -> tuple[dict[str, str], str]:
    """Entities with their labels, and the suffix, by a name; the label of a subject may hold what BIDS forbids."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    own = f"sub-{subject}_"
    if not stem.startswith(own):
        return split_name(stem)
    labels, suffix = split_name(stem.removeprefix(own))
    return {**labels, "sub": subject}, suffix


def _labels(path: Path, bids_dir: Path) -> tuple[dict[str, str], str]:
    """Entities with their labels, and the suffix, by the name, and by the folders what the name leaves out.

    Raises
    ------
    InvalidDatasetError
        They contradict each other: nobody but the user knows which is right.
    """
    folders = _folder_labels(path.parent, bids_dir)
    names, suffix = _name_labels(path, folders["sub"])
    for name, label in folders.items():
        if names.get(name, label) != label:
            raise InvalidDatasetError(
                f"{path.relative_to(bids_dir)} lies in {name}-{label}, but its name says {name}-{names[name]}",
                "Move or rename it; or leave it out with --exclude-participant-label, --session-label or a filter.",
            )
    return {**folders, **names}, suffix


def _scan(path: Path, bids_dir: Path) -> Scan:
    """Read a scan's entities off its name and its folders."""
    labels, suffix = _labels(path, bids_dir)
    if "ses" in labels and f"_ses-{labels['ses']}_" not in path.name:
        logger.warning("%s is taken for ses-%s, as its folder says: its name tells no session", path, labels["ses"])
    return Scan(path, path.relative_to(bids_dir).as_posix(), suffix, in_order(labels))


def _without_phase(scans: Sequence[Scan]) -> list[Scan]:
    """Leave out phases, real and imaginary parts: brains are seen in magnitudes."""
    parts = {scan.path: dict(scan.entities).get("part", "mag") for scan in scans}
    for path, part in parts.items():
        if part != "mag":
            logger.info("%s is left out: part-%s is no magnitude", path, part)
    return [scan for scan in scans if parts[scan.path] == "mag"]


def _check_labels(images: Sequence[Path], bids_dir: Path) -> None:
    """Make sure that no two participants, nor sessions of one, become one in the names of the outputs.

    Raises
    ------
    InvalidDatasetError
        Two do.
    """
    owners: dict[tuple[str, ...], tuple[str, ...]] = {}
    for path in images:
        labels, _ = _labels(path, bids_dir)
        for entities in (("sub",), ("sub", "ses")):
            own = tuple(labels.get(name, "") for name in entities)
            taken = owners.setdefault(tuple(map(legal_label, own)), own)
            if taken != own:
                first, second = ("/".join(map("-".join, zip(entities, who, strict=True))) for who in (taken, own))
                raise InvalidDatasetError(
                    f"Results of {first} and of {second} would have the same names, which are letters and digits",
                    "Rename one of them, or give each an output folder of its own by --participant-label.",
                )


def _without_twins(scans: Sequence[Scan]) -> list[Scan]:
    """Of a .nii and a .nii.gz of one name, keep the compressed one, which converters write; the other is told."""
    packed = {scan.relative_path for scan in scans}
    kept = []
    for scan in scans:
        if f"{scan.relative_path}.gz" in packed:
            logger.warning("%s is left out: its results would have the names of those of %s.gz", scan.path, scan.path)
        else:
            kept.append(scan)
    return kept


def _check_outputs(scans: Iterable[Scan]) -> None:
    """Make sure that no two images would be written to one output.

    Raises
    ------
    UsageError
        Two would: nobody but the user can choose.
    """
    first: dict[str, Scan] = {}
    for scan in scans:
        taken = first.setdefault(scan.key, scan)
        if taken is not scan:
            raise UsageError(
                f"Results of {taken.relative_path} and of {scan.relative_path} would have the same names",
                'Choose with --bids-filter-file, for example {"t1w": {"space": null, "desc": "preproc"}}.',
            )

"""What the tables of a raw dataset say of its participants, sessions and scans: ``participants.tsv`` and its like."""

import csv
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from bids_hsf.bids.entities import in_order, legal_label, split_name
from bids_hsf.bids.group_row import is_own
from bids_hsf.bids.group_table import plain_cell
from bids_hsf.bids.tables import MISSING, separator_of
from bids_hsf.bids.typed_json import NotWholeError
from bids_hsf.files import read_foreign_text, read_json

logger = logging.getLogger(__name__)

MAX_BYTES = 256 << 20
SHOWN = 5
UNKNOWN = {"", MISSING, "na", "nan", "null"}  # in small letters: what other programs write for "n/a"
ACQUIRED = "acq_time"
SESSION = "session_"  # before a column of sessions.tsv
PARTICIPANT = "participant_"  # before one of participants.tsv that is named like one of ours
AGES = ("session_age", "age")  # the first one that is there tells the years between two sessions
YEARS = {"year": 1.0, "month": 1 / 12, "week": 7 / 365.25, "day": 1 / 365.25}

Row = dict[str, str]


@dataclass(frozen=True)
class Covariates:
    """Tables of a raw dataset, asked for by the names of outputs.

    Attributes
    ----------
    bids_dir : Path
    participants : mapping of (str, str or None) to row
        Participant, and session where ``participants.tsv`` has a row a session, to its other columns.
    folders : mapping of str to str
        Participant as in the outputs to the name of its raw folder.
    descriptions : mapping of str to object
        Column to what ``participants.json`` and ``sessions.json`` say of it.
    """

    bids_dir: Path
    participants: Mapping[tuple[str, str | None], Row] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, object] = field(default_factory=dict)

    def of(self, participant: str, session: str | None, scan: str) -> dict[str, str | None]:
        """Columns of a scan: of its participant, its session, and when it was acquired; None for "n/a"."""
        row = {**self.participants.get((participant, None), {}), **self.participants.get((participant, session), {})}
        of_session = {} if session is None else self._sessions(participant).get(session, {})
        row |= {name if name == ACQUIRED else SESSION + name: value for name, value in of_session.items()}
        acquired = self._acquired(participant, session).get(scan.partition("+")[0], MISSING)
        if acquired != MISSING or ACQUIRED in row:
            row[ACQUIRED] = acquired if acquired != MISSING else row[ACQUIRED]
        return {name: None if value.casefold() in UNKNOWN else value for name, value in row.items()}

    @property
    def years_per_unit(self) -> dict[str, float]:
        """Columns of ages to what one of their units is in years; a year where no description says."""
        return {name: _years(self.descriptions.get(name)) for name in AGES}

    def _sessions(self, participant: str) -> dict[str, Row]:
        folder = self.folders.get(participant)
        return {} if folder is None else _read_sessions(f"{self.bids_dir}/{folder}/{folder}_sessions.tsv")

    def _acquired(self, participant: str, session: str | None) -> dict[str, str]:
        """When scans were acquired, by their keys; a session's own file or the participant's."""
        folder = self.folders.get(participant)
        if folder is None:
            return {}
        found = _read_acquired(f"{self.bids_dir}/{folder}/{folder}_scans.tsv")
        if session is None:
            return found
        return found | _read_acquired(f"{self.bids_dir}/{folder}/{session}/{folder}_{session}_scans.tsv")


def read_covariates(bids_dir: Path) -> Covariates:
    """Read ``participants.tsv`` and its description; of a dataset that is not there nothing is known.

    A table that is not whole is passed over, and told.
    """
    if not bids_dir.is_dir():
        return Covariates(bids_dir)
    folders = {_legal(path.name): path.name for path in bids_dir.glob("sub-*")}
    descriptions = {_free(name): text for name, text in (read_json(bids_dir / "participants.json") or {}).items()}
    for name, text in (read_json(bids_dir / "sessions.json") or {}).items():
        descriptions[SESSION + plain_cell(name)] = text
    table = bids_dir / "participants.tsv"
    rows: dict[tuple[str, str | None], list[Row]] = {}
    for row in _read(table, "participant_id"):
        name = row.pop("participant_id")
        session = row.pop("session_id", MISSING)
        key = _legal(name if name.startswith("sub-") else f"sub-{name}")
        known = {_free(column): value for column, value in row.items()}
        rows.setdefault((key, None if session.casefold() in UNKNOWN else _session(session)), []).append(known)
    _tell_strangers(table, folders, {participant for participant, _ in rows})
    return Covariates(bids_dir, _one_each(rows, table), folders, descriptions)


def _free(column: str) -> str:
    """Name of a column of participants.tsv beside ours, as our table has it."""
    return PARTICIPANT + column if is_own(column) else plain_cell(column)


def _legal(name: str) -> str:
    """Name of a participant or session as the outputs have it."""
    kind, _, label = name.partition("-")
    return f"{kind}-{legal_label(label)}"


def _session(label: str) -> str:
    return _legal(label if label.startswith("ses-") else f"ses-{label}")


def _years(description: object) -> float:
    unit = description.get("Units") if isinstance(description, dict) else None
    return YEARS.get(str(unit).lower().rstrip("s"), 1.0)


@lru_cache(maxsize=64)
def _read_sessions(path: str) -> dict[str, Row]:
    """Sessions of a participant to the other columns of their rows."""
    if not os.path.exists(path):  # noqa: PTH110 - most are not there, and there are many
        return {}
    return {_session(row.pop("session_id")): row for row in _read(Path(path), "session_id")}


@lru_cache(maxsize=64)
def _read_acquired(path: str) -> dict[str, str]:
    """Keys of scans to when they were acquired."""
    if not os.path.exists(path):  # noqa: PTH110 - as above
        return {}
    found = {}
    for row in _read(Path(path), "filename"):
        labels, suffix = split_name(row["filename"].rpartition("/")[2].partition(".")[0])
        key = "_".join([*(f"{name}-{label}" for name, label in in_order(labels)), suffix])
        found[key] = row.get(ACQUIRED, MISSING)
    return found


def _read(path: Path, key: str) -> list[Row]:
    """Rows of a table that has a column; none where it is not there, or not whole."""
    try:
        return list(_rows(path, read_foreign_text(path, MAX_BYTES), key))
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("%s is not joined: it cannot be read (%s)", path, error.strerror)
    except (NotWholeError, UnicodeDecodeError, csv.Error) as error:
        logger.warning("%s is not joined: %s", path, error)
    return []


def _rows(path: Path, text: str, key: str) -> Iterator[Row]:
    """Rows by the names of their columns; spreadsheets part them by semicolons or commas, and end lines with more."""
    separator = separator_of(text)
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    if '"' in text and any("\n" in cell or "\r" in cell for cells in lines for cell in cells):
        # No value has a line of its own: a quotation mark that is never closed would swallow all below it.
        lines = [line.split(separator) for line in text.splitlines()]
    names = [_name(cell, key) for cell in lines[0]] if lines else []
    if key not in names:
        raise NotWholeError(f"it has no column {key}")
    if separator != "\t":
        logger.warning(
            "%s is joined, but is none of BIDS: its columns are parted by %r instead of tabs", path, separator
        )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        logger.warning("%s has columns of one name, of which the first is taken: %s", path, ", ".join(twice))
    for number, cells in enumerate(lines[1:], start=2):
        values = [plain_cell(cell.replace("\0", "").strip()) for cell in cells]
        if not any(values):
            continue
        if len(values) < len(names) or any(values[len(names) :]):
            raise NotWholeError(f"line {number} has {len(values)} columns, the title line {len(names)}")
        # The first of one name is the last that is written.
        row = dict(zip(reversed(names), reversed(values[: len(names)]), strict=True))
        yield {name: row[name] for name in names if name}


def _name(cell: str, key: str) -> str:
    """Name of a column; the one that rows are found by is known in capitals, too."""
    name = plain_cell(cell.replace("\0", "").strip())
    return key if name.casefold() == key else name


def _one_each(rows: Mapping[tuple[str, str | None], Sequence[Row]], table: Path) -> dict[tuple[str, str | None], Row]:
    """Columns of each participant; where several rows contradict each other, nothing is known."""
    known, torn = {}, {}
    for key, (first, *others) in rows.items():
        differing = {name for name in first if any(row[name] != first[name] for row in others)}
        known[key] = {name: MISSING if name in differing else value for name, value in first.items()}
        if differing:
            torn[key[0]] = differing
    if torn:
        columns, text = (
            sorted(set().union(*torn.values())),
            "%s has several rows for %s: where they differ (%s) none is ",
        )
        text += "joined; a column session_id would tell them apart"
        logger.warning(text, table, _few(sorted(torn)), _few(columns))
    return known


def _few(names: Sequence[str]) -> str:
    """Name the first ones."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _tell_strangers(table: Path, folders: Mapping[str, str], participants: Set[str]) -> None:
    """Say of whom a table has no row: labels may be written in another way there."""
    absent = sorted(folder for name, folder in folders.items() if name not in participants)
    if participants and absent:
        hint = f"; it has {min(participants)} instead: are the labels the same?" if len(absent) == len(folders) else ""
        text = "%s has no row for %d of %d participants: %s%s"
        logger.warning(text, table, len(absent), len(folders), _few(absent), hint)

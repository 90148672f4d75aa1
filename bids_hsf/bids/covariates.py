"""What the tables of a raw dataset say of its participants, sessions and scans: ``participants.tsv`` and its like."""

import csv
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from bids_hsf.bids.entities import in_order, legal_label, split_name
from bids_hsf.bids.group_row import is_own
from bids_hsf.bids.group_table import plain_cell
from bids_hsf.bids.tables import MISSING
from bids_hsf.bids.typed_json import NotWholeError
from bids_hsf.files import open_text, read_json

logger = logging.getLogger(__name__)

MAX_BYTES = 256 << 20
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
        return {name: None if value in (MISSING, "") else value for name, value in row.items()}

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
    participants: dict[tuple[str, str | None], Row] = {}
    for row in _read(bids_dir / "participants.tsv", "participant_id"):
        name = row.pop("participant_id")
        session = row.pop("session_id", MISSING)
        key = _legal(name if name.startswith("sub-") else f"sub-{name}")
        known = {_free(column): value for column, value in row.items()}
        participants[key, None if session == MISSING else _session(session)] = known
    return Covariates(bids_dir, participants, folders, descriptions)


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
        with open_text(path, MAX_BYTES) as stream:
            lines = csv.reader(stream, delimiter="\t")
            names = [plain_cell(name.removeprefix("\ufeff")) for name in next(lines, [])]
            if key not in names:
                raise NotWholeError(f"it has no column {key}")
            rows = [dict(zip(names, cells, strict=True)) for cells in lines if cells]
    except FileNotFoundError:
        return []
    except OSError as error:
        logger.warning("%s is not joined: it cannot be read (%s)", path, error.strerror)
    except (NotWholeError, UnicodeDecodeError, csv.Error) as error:
        logger.warning("%s is not joined: %s", path, error)
    except ValueError:
        logger.warning("%s is not joined: its lines are not of one length", path)
    else:
        return rows
    return []

"""Change between the sessions of a participant, a year where dates or ages are known."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bids_hsf.bids.covariates import ACQUIRED, AGES
from bids_hsf.bids.group_row import VOLUME_END, Cell
from bids_hsf.bids.group_table import GroupTable, plain_cell, plain_numbers
from bids_hsf.cohort.families import families_of
from bids_hsf.text_table import natural_order

NAME = "group_changes.tsv"
COLUMNS = (
    *("participant_id", "suffix", "model", "segmentation", "compared_with"),
    *("from_session", "to_session", "from_scan", "to_scan", "years", "years_from"),
    *(
        "measure",
        "from_mm3",
        "to_mm3",
        "change_mm3",
        "change_percent",
        "change_mm3_per_year",
        "change_percent_per_year",
    ),
)
DAYS_A_YEAR = 365.25


@dataclass(frozen=True)
class Visit:
    """A finished scan of a participant, and when it was.

    Attributes
    ----------
    row : int
        Of the table.
    session : str
    days : float or None
        Since some day, by its date.
    ages : tuple of float or None
        Years, by each of the columns `AGES`.
    """

    row: int
    session: str
    days: float | None
    ages: tuple[float | None, ...]

    def years_since(self, other: "Visit") -> tuple[float | None, str | None]:
        """Years since another one, and by which column they are known."""
        if self.days is not None and other.days is not None:
            return (self.days - other.days) / DAYS_A_YEAR, ACQUIRED
        for name, own, before in zip(AGES, self.ages, other.ages, strict=True):
            if own is not None and before is not None and own != before:
                return own - before, name
        return None, None


def change_lines(table: GroupTable, years_per_unit: Mapping[str, float]) -> Iterator[str]:
    """Lines of ``group_changes.tsv``, without their ends: the title, then a line a measure of two sessions.

    Each later session is compared with the first one and, from the third on, with the one before. Compared are scans
    of one name but for the session, of one model and settings.
    """
    yield "\t".join(COLUMNS)
    measures = [name for name in table.names if name.endswith(VOLUME_END) and name[:2] in ("L_", "R_")]
    values = {name.removesuffix(VOLUME_END): table.numbers(name).tolist() for name in measures}
    identity = [table.texts(name) for name in COLUMNS[:4]]
    scans = table.texts("scan")
    for first, before, visit in _pairs(table, years_per_unit):
        for name, other in {"first": first, "previous": before}.items():
            if name == "previous" and other is first:
                continue
            years, known_from = visit.years_since(other)
            head: list[Cell] = [column[visit.row] for column in identity]
            head += [name, other.session, visit.session, scans[other.row], scans[visit.row]]
            head += [None if years is None else round(years, 4), known_from]
            start = "\t".join(map(plain_cell, head))
            for measure, column in values.items():
                change = _change(column[other.row], column[visit.row], years)
                if change:
                    yield "\t".join((start, measure, *change))


def _change(before: float, after: float, years: float | None) -> list[str]:
    """Both values, the change in mm3 and per cent, and both a year, as texts; empty where a value is not known."""
    if math.isnan(before) or math.isnan(after):
        return []
    change = round(after - before, 2)
    percent = None if before == 0 else 100 * change / before
    rates = [None if value is None or not years else value / years for value in (change, percent)]
    shares = [math.nan if value is None else round(value, 3) for value in (percent, *rates)]
    return plain_numbers((before, after, change, *shares))


def _pairs(table: GroupTable, years_per_unit: Mapping[str, float]) -> Iterator[tuple[Visit, Visit, Visit]]:
    """Yield the first visit of a participant, the one before, and a later one."""
    participants, sessions, scans = (table.texts(name) for name in ("participant_id", "session_id", "scan"))
    dates = table.texts(ACQUIRED)
    ages = [table.numbers(name) * years_per_unit.get(name, 1.0) for name in AGES]
    for family in families_of(table):
        series: dict[tuple[str | None, str], list[Visit]] = {}
        for row in family.rows:
            session, scan = sessions[row], scans[row]
            if session is None or scan is None:
                continue
            known = tuple(None if math.isnan(column[row]) else float(column[row]) for column in ages)
            visit = Visit(row, session, _days(dates[row]), known)
            series.setdefault((participants[row], scan.replace(f"_{session}", "")), []).append(visit)
        for visits in series.values():
            first, *later = _in_time(visits)
            for before, visit in zip([first, *later], later, strict=False):
                yield first, before, visit


def _in_time(visits: Sequence[Visit]) -> list[Visit]:
    """Sort visits by their dates or ages where all have them, else by the names of their sessions."""
    visits = sorted(visits, key=lambda visit: natural_order(visit.session))
    if all(visit.days is not None for visit in visits):
        return sorted(visits, key=lambda visit: visit.days or 0.0)
    for place in range(len(AGES)):
        if all(visit.ages[place] is not None for visit in visits):
            return sorted(visits, key=lambda visit: visit.ages[place] or 0.0)
    return visits


def _days(text: str | None) -> float | None:
    """Days of a date since the year 1; None for what is no date."""
    if text is None:
        return None
    try:
        return (datetime.fromisoformat(text).replace(tzinfo=None) - datetime.min).total_seconds() / 86400
    except ValueError:
        return None

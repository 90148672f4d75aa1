"""Which scans of a group table can be compared: of one model, contrast and settings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bids_hsf.bids.group_row import DONE, SETTINGS
from bids_hsf.bids.group_table import GroupTable

# A new version of the app alone parts nobody's cohort; it is told.
COMPARED = tuple(name for name in SETTINGS if name != "app_version")


@dataclass(frozen=True)
class Family:
    """Finished scans that can be compared.

    Attributes
    ----------
    model, suffix, segmentation : str
        Empty where the table has none.
    settings : mapping of str to str
        Those of the columns `COMPARED` that have a value.
    rows : tuple of int
        Of the table.
    """

    model: str
    suffix: str
    segmentation: str
    settings: Mapping[str, str]
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Mixture:
    """Scans of one model, contrast and label set that were not made in the same way.

    Attributes
    ----------
    model, suffix, segmentation : str
    setting : str
        Column.
    counts : mapping of str to int
        Value to scans, the most common first; "n/a" where it was not set.
    """

    model: str
    suffix: str
    segmentation: str
    setting: str
    counts: Mapping[str, int]

    def __str__(self) -> str:
        """Say it in a line."""
        counts = ", ".join(f"{value} ({count})" for value, count in self.counts.items())
        return f"{self.model}, {self.suffix}, seg-{self.segmentation}: {self.setting} differs: {counts}"


def families_of(table: GroupTable) -> list[Family]:
    """Part the finished scans of a table into those that can be compared, in order of first sight."""
    found: dict[tuple[str | None, ...], list[int]] = {}
    for place, (status, *key) in enumerate(_keys(table, COMPARED)):
        if status == DONE:
            found.setdefault(tuple(key), []).append(place)
    families = []
    for (model, suffix, segmentation, *values), rows in found.items():
        settings = {name: value for name, value in zip(COMPARED, values, strict=True) if value is not None}
        families.append(Family(model or "", suffix or "", segmentation or "", settings, tuple(rows)))
    return families


def mixtures_of(table: GroupTable) -> list[Mixture]:
    """Find the settings in which scans of one model, contrast and label set differ."""
    found: dict[tuple[str, str, str], list[Counter[str]]] = {}
    for status, model, suffix, segmentation, *values in _keys(table, SETTINGS):
        if status == DONE:
            counters = found.setdefault((model or "", suffix or "", segmentation or ""), [Counter() for _ in SETTINGS])
            for counter, value in zip(counters, values, strict=True):
                counter[value or "n/a"] += 1
    return [
        Mixture(*identity, name, dict(counter.most_common()))
        for identity, counters in found.items()
        for name, counter in zip(SETTINGS, counters, strict=True)
        if len(counter) > 1
    ]


def _keys(table: GroupTable, settings: Sequence[str]) -> "zip[tuple[str | None, ...]]":
    columns = ["status", "model", "suffix", "segmentation", *settings]
    return zip(*(table.texts(name) for name in columns), strict=True)

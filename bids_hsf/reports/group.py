"""The group's page: volumes of all scans side by side, from ``group_volumes.tsv`` alone."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.tables import read_tsv
from bids_hsf.reports.charts import OUTLIER_Z, Chart, robust_z, strip_chart
from bids_hsf.reports.pages import UNKNOWN, anchor, citation_link, link_to, render, to_number

VOLUME = re.compile(r"([LR])_(\w+)_mm3")

TOTAL = "total"
IDENTITY = ("participant_id", "session_id", "scan")

FIRST = ("model", "L_total_mm3", "R_total_mm3")

MAX_CELLS = 60_000
MAX_ROWS = 6_000
MAX_LISTED = 100

Row = dict[str, str]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Outlier:
    """A value far from the others', in mm3."""

    scan: str
    href: str
    measure: str
    value: float
    median: float
    z: float


@dataclass(frozen=True)
class Family:
    """All scans of one model and contrast, which can be compared.

    Attributes
    ----------
    title : str
    n : int
        Scans.
    charts : tuple of Chart
    outliers : tuple of Outlier
        Farthest first.
    n_outliers : int
        Also those that are not listed.
    """

    title: str
    n: int
    charts: tuple[Chart, ...]
    outliers: tuple[Outlier, ...]
    n_outliers: int


@dataclass(frozen=True)
class Cell:
    """A value in the table."""

    text: str
    is_outlier: bool


@dataclass(frozen=True)
class Line:
    """A scan in the table; flagged where it has an outlier or a warning."""

    scan: str
    href: str
    is_flagged: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, eq=False)
class Volumes:
    """The table in memory.

    Attributes
    ----------
    rows : list of dict
    names : list of str, (V,)
        The columns that hold volumes.
    values, scores : array, (N, V) float64
        Volumes in mm3, NaN where there is none, and their robust z within model and contrast.
    families : dict
        Model and contrast to the numbers of their rows.
    """

    rows: list[Row]
    names: list[str]
    values: FloatArray
    scores: FloatArray
    families: dict[str, list[int]]

    @property
    def outlying(self) -> NDArray[np.bool_]:
        """Values far from the others', (N, V)."""
        return np.abs(self.scores) > OUTLIER_Z


def group_page(output_dir: Path) -> str:
    """Render the page of all scans.

    A table with many rows keeps fewer columns, then fewer rows, flagged ones first; the page says so.
    """
    volumes = _load(output_dir / "group_volumes.tsv")
    rows = volumes.rows
    warned = np.array([row.get("warnings", UNKNOWN) != UNKNOWN for row in rows], bool)
    flagged = volumes.outlying.any(axis=1) | warned
    columns, chosen = _fit(volumes, flagged)
    counts = {
        "scans": len({(row.get("scan"), row.get("model")) for row in rows}),
        "subjects": len({row.get("participant_id") for row in rows}),
        "flagged": int(flagged.sum()),
        "hidden_rows": len(rows) - len(chosen),
        "hidden_columns": len([name for name in rows[0] if name not in IDENTITY]) - len(columns) if rows else 0,
    }
    return render(
        "group.html.j2",
        title="Group volumes",
        families=[_family(title, volumes, members) for title, members in volumes.families.items()],
        columns=[_heading(name) for name in columns],
        table=[_line(volumes, index, columns, bool(flagged[index])) for index in chosen],
        counts=counts,
        threshold=OUTLIER_Z,
        citation=citation_link(output_dir),
    )


def _load(path: Path) -> Volumes:
    """Read the table, and judge each volume among those of the same model and contrast."""
    rows = read_tsv(path)
    names = [name for name in (rows[0] if rows else ()) if VOLUME.fullmatch(name)]
    values = np.full((len(rows), len(names)), math.nan)
    families: dict[str, list[int]] = {}
    has_several = len({_segmentation(row) for row in rows}) > 1
    for index, row in enumerate(rows):
        found = [to_number(row.get(name)) for name in names]
        values[index] = [math.nan if value is None else value for value in found]
        contrast = row.get("scan", "").rsplit("_", 1)[-1]
        title = ", ".join([row.get("model") or UNKNOWN, contrast, *([_segmentation(row)] if has_several else [])])
        families.setdefault(title, []).append(index)
    scores = np.zeros(values.shape)
    for members in families.values():
        for place in range(len(names)):
            scores[members, place] = robust_z(values[members, place])
    return Volumes(rows, names, values, scores, families)


def _family(title: str, volumes: Volumes, members: Sequence[int]) -> Family:
    """Charts and outliers of scans that can be compared."""
    rows = [volumes.rows[index] for index in members]
    values = volumes.values[members]
    scans = [row.get("scan", "").rsplit("_", 1)[0] or UNKNOWN for row in rows]
    outliers = []
    for row, place in np.argwhere(volumes.outlying[members]).tolist():
        measure, median = _heading(volumes.names[place]), float(np.nanmedian(values[:, place]))
        z = float(volumes.scores[members[row], place])
        outliers.append(Outlier(scans[row], _address(rows[row]), measure, float(values[row, place]), median, z))
    outliers.sort(key=lambda outlier: -abs(outlier.z))
    charts = []
    for structure in _structures(volumes.names):
        places = {side: volumes.names.index(f"{side}_{structure}_mm3") for side in ("L", "R")}
        columns = {side: values[:, place] for side, place in places.items()}
        charts.append(strip_chart("All structures" if structure == TOTAL else structure, columns, scans))
    drawn = tuple(chart for chart in charts if chart is not None)
    return Family(title, len(members), drawn, tuple(outliers[:MAX_LISTED]), len(outliers))


def _structures(names: Sequence[str]) -> list[str]:
    """Structures that both sides have, the total first, and not where it would only repeat a single structure."""
    both = [name[2:-4] for name in names if name.startswith("L_") and f"R_{name[2:]}" in names]
    single = len(both) <= 2
    return sorted((name for name in both if not (single and name == TOTAL)), key=lambda name: name != TOTAL)


def _fit(volumes: Volumes, flagged: NDArray[np.bool_]) -> tuple[list[str], list[int]]:
    """Columns, the most wanted first, and rows of the table that keep the page small."""
    columns = [name for name in (volumes.rows[0] if volumes.rows else ()) if name not in IDENTITY]
    rank = {name: place for place, name in enumerate(dict.fromkeys([*FIRST, *volumes.names]))}
    columns.sort(key=lambda name: rank.get(name, len(rank)))
    if len(flagged) * len(columns) > MAX_CELLS:
        columns = [name for name in columns if name not in volumes.names or name in FIRST]
    by_need = np.argsort(~flagged, kind="stable")[:MAX_ROWS]
    return columns, sorted(by_need.tolist())


def _line(volumes: Volumes, index: int, columns: Sequence[str], is_flagged: bool) -> Line:
    row = volumes.rows[index]
    outlying = {volumes.names[place] for place in np.flatnonzero(volumes.outlying[index])}
    cells = tuple(Cell(_round(row.get(name) or UNKNOWN), name in outlying) for name in columns)
    return Line(row.get("scan", UNKNOWN), _address(row), is_flagged, cells)


def _address(row: Row) -> str:
    """Address of a scan on its subject's page."""
    page = link_to(Path(f"{row.get('participant_id', '')}.html"))
    return f"{page}#{anchor(row.get('scan', ''), row.get('model', ''), _segmentation(row))}"


def _segmentation(row: Row) -> str:
    """Name of the row's label map; empty in tables that do not tell it."""
    name = row.get("segmentation") or UNKNOWN
    return "" if name == UNKNOWN else name


def _heading(column: str) -> str:
    """Shorten a column's name for the eye.

    >>> _heading("L_CA1_mm3"), _heading("R_n_components")
    ('L CA1', 'R pieces')
    """
    return column.removesuffix("_mm3").replace("n_components", "pieces").replace("per_mille_", "‰ ").replace("_", " ")


def _round(text: str) -> str:
    """Leave out digits that nobody reads.

    >>> _round("812.25"), _round("0.93124"), _round("n/a")
    ('812', '0.9312', 'n/a')
    """
    value = to_number(text)
    if value is None:
        return text
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.4g}"

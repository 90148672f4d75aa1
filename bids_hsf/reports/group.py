"""The group's page: volumes of all scans side by side, from ``group_volumes.tsv`` alone."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.group_table import (
    NAME,
    TOTAL,
    VOLUME_END,
    Cell,
    GroupRow,
    columns_of,
    read_group_table,
    total_column,
)
from bids_hsf.bids.typed_json import NotWholeError
from bids_hsf.files import write_text
from bids_hsf.findings import Weight
from bids_hsf.labels import HEMISPHERES
from bids_hsf.reports.charts import OUTLIER_Z, Chart, robust_z, strip_chart
from bids_hsf.reports.pages import anchor, citation_link, link_to, render, to_text

logger = logging.getLogger(__name__)

IN_LINK = ("participant_id", "session_id", "scan")

FIRST = ("model", *map(total_column, HEMISPHERES))

MAX_CELLS = 60_000
MAX_ROWS = 6_000
MAX_LISTED = 100

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
class Value:
    """A value in the table on the page."""

    text: str
    is_outlier: bool


@dataclass(frozen=True)
class Line:
    """A scan in the table; flagged where it has an outlier, or a finding that has to be looked at."""

    scan: str
    href: str
    is_flagged: bool
    cells: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Volumes:
    """The table in memory.

    Attributes
    ----------
    rows : sequence of GroupRow
    columns : list of str
        All that a row of the page may show.
    names : list of str, (V,)
        The columns that hold volumes.
    values, scores : array, (N, V) float64
        Volumes in mm3, NaN where there is none, and their robust z within model and contrast.
    families : dict
        Model and contrast to the numbers of their rows.
    """

    rows: Sequence[GroupRow]
    columns: list[str]
    names: list[str]
    values: FloatArray
    scores: FloatArray
    families: dict[str, list[int]]

    @property
    def outlying(self) -> NDArray[np.bool_]:
        """Values far from the others', (N, V)."""
        return np.abs(self.scores) > OUTLIER_Z


def write_group_report(output_dir: Path) -> Path:
    """Write ``group_volumes.html`` from ``group_volumes.tsv``; returns its path."""
    path = output_dir / "group_volumes.html"
    write_text(path, group_page(output_dir))
    return path


def group_page(output_dir: Path) -> str:
    """Render the page of all scans.

    A table with many rows keeps fewer columns, then fewer rows, flagged ones first; the page says so.
    """
    volumes = _judge(_read(output_dir))
    rows = volumes.rows
    found = np.array([row.worst_finding in (Weight.CHECK, Weight.FAIL) for row in rows], bool)
    flagged = volumes.outlying.any(axis=1) | found
    columns, chosen = _fit(volumes, flagged)
    counts = {
        "scans": len({(row.scan, row.model) for row in rows}),
        "subjects": len({row.participant_id for row in rows}),
        "flagged": int(flagged.sum()),
        "hidden_rows": len(rows) - len(chosen),
        "hidden_columns": len(volumes.columns) - len(columns),
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


def _read(output_dir: Path) -> Sequence[GroupRow]:
    """Rows of the table; none where it is not there or not whole, which is told."""
    try:
        return read_group_table(output_dir)
    except FileNotFoundError:
        return []
    except NotWholeError as error:
        logger.warning("%s is passed over: %s; run the group level again", output_dir / NAME, error)
        return []


def _judge(rows: Sequence[GroupRow]) -> Volumes:
    """Judge each volume among those of the same model and contrast."""
    sizes = [row.sizes for row in rows]
    names = list(dict.fromkeys(name for found in sizes for name in found))
    values = np.full((len(rows), len(names)), math.nan)
    families: dict[str, list[int]] = {}
    has_several = len({row.segmentation for row in rows}) > 1
    for index, (row, found) in enumerate(zip(rows, sizes, strict=True)):
        known = [found.get(name) for name in names]
        values[index] = [math.nan if value is None else value for value in known]
        contrast = row.scan.rsplit("_", 1)[-1]
        title = ", ".join([row.model, contrast, *([row.segmentation or ""] if has_several else [])])
        if row.is_done:
            families.setdefault(title, []).append(index)
    scores = np.zeros(values.shape)
    for members in families.values():
        for place in range(len(names)):
            scores[members, place] = robust_z(values[members, place])
    columns = [name for name in columns_of(rows) if name not in IN_LINK]
    return Volumes(rows, columns, names, values, scores, families)


def _family(title: str, volumes: Volumes, members: Sequence[int]) -> Family:
    """Charts and outliers of scans that can be compared."""
    rows = [volumes.rows[index] for index in members]
    values = volumes.values[members]
    scans = [row.scan.rsplit("_", 1)[0] for row in rows]
    outliers = []
    for row, place in np.argwhere(volumes.outlying[members]).tolist():
        measure, median = _heading(volumes.names[place]), float(np.nanmedian(values[:, place]))
        z = float(volumes.scores[members[row], place])
        outliers.append(Outlier(scans[row], _address(rows[row]), measure, float(values[row, place]), median, z))
    outliers.sort(key=lambda outlier: -abs(outlier.z))
    charts = []
    for structure in _structures(volumes.names):
        places = {side: volumes.names.index(f"{side}_{structure}{VOLUME_END}") for side in HEMISPHERES}
        columns = {side: values[:, place] for side, place in places.items()}
        charts.append(strip_chart("All structures" if structure == TOTAL else structure, columns, scans))
    drawn = tuple(chart for chart in charts if chart is not None)
    return Family(title, len(members), drawn, tuple(outliers[:MAX_LISTED]), len(outliers))


def _structures(names: Sequence[str]) -> list[str]:
    """Structures that both sides have, the total first, and not where it would only repeat a single structure."""
    left = [name for name in names if name.startswith("L_")]
    both = [name[2:].removesuffix(VOLUME_END) for name in left if f"R_{name[2:]}" in names]
    single = len(both) <= 2
    return sorted((name for name in both if not (single and name == TOTAL)), key=lambda name: name != TOTAL)


def _fit(volumes: Volumes, flagged: NDArray[np.bool_]) -> tuple[list[str], list[int]]:
    """Columns, the most wanted first, and rows of the table that keep the page small."""
    rank = {name: place for place, name in enumerate(dict.fromkeys([*FIRST, *volumes.names]))}
    columns = sorted(volumes.columns, key=lambda name: rank.get(name, len(rank)))
    if len(flagged) * len(columns) > MAX_CELLS:
        columns = [name for name in columns if name not in volumes.names or name in FIRST]
    by_need = np.argsort(~flagged, kind="stable")[:MAX_ROWS]
    return columns, sorted(by_need.tolist())


def _line(volumes: Volumes, index: int, columns: Sequence[str], is_flagged: bool) -> Line:
    row = volumes.rows[index]
    outlying = {volumes.names[place] for place in np.flatnonzero(volumes.outlying[index])}
    found = row.cells()
    cells = tuple(Value(_shown(found.get(name)), name in outlying) for name in columns)
    return Line(row.scan, _address(row), is_flagged, cells)


def _address(row: GroupRow) -> str:
    """Address of a scan on its subject's page."""
    page = link_to(Path(f"{row.participant_id}.html"))
    return f"{page}#{anchor(row.scan, row.model, row.segmentation or '')}"


def _heading(column: str) -> str:
    """Shorten a column's name for the eye.

    >>> _heading("L_CA1_mm3"), _heading("R_n_components")
    ('L CA1', 'R pieces')
    """
    return column.removesuffix("_mm3").replace("n_components", "pieces").replace("per_mille_", "‰ ").replace("_", " ")


def _shown(value: Cell) -> str:
    """Leave out digits that nobody reads.

    >>> _shown(812.25), _shown(0.93124), _shown(None)
    ('812', '0.9312', 'n/a')
    """
    if value is None or isinstance(value, str):
        return to_text(value)
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.4g}"

"""The group's page: volumes of all scans side by side, from ``group_volumes.tsv`` alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bids_hsf.bids.group_table import TOTAL, VOLUME_END, Cell, GroupTable, total_column
from bids_hsf.cohort.families import families_of, mixtures_of
from bids_hsf.files import write_text
from bids_hsf.labels import HEMISPHERES
from bids_hsf.reports.charts import Chart, Marks, strip_chart
from bids_hsf.reports.cohort import Cohort, read_cohort, readable_measures, short_heading
from bids_hsf.reports.pages import citation_link, data_block, render, to_text
from bids_hsf.reports.relations import Relation, relations_of
from bids_hsf.reports.review import write_review

# First the scan, which is no column of its own; then what has to be seen at once.
FIRST = ("findings", "status", "qc", "model", *map(total_column, HEMISPHERES))
IN_LINK = ("participant_id", "session_id", "scan", "suffix", "status_reason", "outlier_measures")
ALWAYS = (*FIRST, "outlier_score", "L_predicted_dice", "R_predicted_dice", "eTIV_mm3")

MAX_CELLS = 60_000
MAX_ROWS = 1000
MAX_LISTED = 100


@dataclass(frozen=True)
class Outlier:
    """A scan that lies far from the others: its score, and in what."""

    scan: str
    href: str
    score: float
    measures: str


@dataclass(frozen=True)
class Family:
    """Scans that can be compared: of one model, contrast and settings.

    Attributes
    ----------
    title : str
    n : int
        Scans.
    charts : tuple of Chart
    relations : tuple of Relation
    outliers : tuple of Outlier
        Farthest first.
    n_outliers : int
        Also those that are not listed.
    is_judged : bool
        Whether there are enough scans to tell outliers.
    """

    title: str
    n: int
    charts: tuple[Chart, ...]
    relations: tuple[Relation, ...]
    outliers: tuple[Outlier, ...]
    n_outliers: int
    is_judged: bool


@dataclass(frozen=True)
class Line:
    """A scan in the table; flagged where somebody has to look at it."""

    scan: str
    href: str
    is_flagged: bool
    cells: tuple[str, ...]


def write_group_report(output_dir: Path, table: GroupTable | None = None) -> Path:
    """Write ``group_volumes.html`` and the contact sheet from ``group_volumes.tsv``; returns the path of the first.

    What has just been written there can be given as `table`: it need not be read again.
    """
    path = output_dir / "group_volumes.html"
    cohort = read_cohort(output_dir) if table is None else Cohort(table)
    write_review(output_dir, cohort)
    write_text(path, group_page(output_dir, cohort))
    return path


def group_page(output_dir: Path, cohort: Cohort) -> str:
    """Render the page of all scans.

    Of a table with many rows the page shows flagged ones, and its script finds and sorts all of them; it has fewer
    columns then, and says so.
    """
    table = cohort.table
    names = [name for name in table.names if name not in IN_LINK]
    columns = _columns(names, len(table))
    order = np.argsort(~cohort.flagged, kind="stable")[:MAX_ROWS]
    has_all = len(order) == len(table)
    lines = _lines(cohort, columns)
    counts = {
        "scans": len(set(zip(cohort.scans, table.texts("model"), strict=True))),
        "subjects": len(set(table.texts("participant_id"))),
        "flagged": int(cohort.flagged.sum()),
        "undone": sum(status != "done" for status in cohort.statuses),
        "hidden_columns": len(names) - len(columns),
        "rows": len(table),
    }
    return render(
        "group.html.j2",
        scripts=["table.js"],
        title="Group volumes",
        families=_families(cohort),
        mixtures=[str(mixture) for mixture in mixtures_of(table)],
        columns=[short_heading(name) for name in columns],
        table=[lines[index] for index in sorted(order.tolist())] if has_all else [lines[i] for i in order.tolist()],
        rows=None if has_all else data_block([[line.scan, line.href, line.is_flagged, *line.cells] for line in lines]),
        counts=counts,
        citation=citation_link(output_dir),
    )


def _columns(names: Sequence[str], n_rows: int) -> list[str]:
    """Columns of the table, the most wanted first; of many rows only these."""
    rank = {name: place for place, name in enumerate(ALWAYS)}
    wanted = sorted(names, key=lambda name: (rank.get(name, len(rank)), not name.endswith(VOLUME_END)))
    return wanted if len(names) * n_rows <= MAX_CELLS else [name for name in wanted if name in rank]


def _families(cohort: Cohort) -> list[Family]:
    """Charts and outliers of scans that can be compared."""
    found = families_of(cohort.table)
    has_several = len({family.segmentation for family in found}) > 1
    models = [(family.model, family.suffix, family.segmentation) for family in found]
    families = []
    for family, identity in zip(found, models, strict=True):
        parts = [family.model, family.suffix, *([family.segmentation] if has_several else [])]
        if models.count(identity) > 1:
            parts += [f"{name.replace('_', ' ')} {value}" for name, value in family.settings.items()]
        families.append(_family(", ".join(parts), cohort, list(family.rows)))
    return families


def _family(title: str, cohort: Cohort, rows: list[int]) -> Family:
    table = cohort.table
    marks = Marks(
        [cohort.scans[row].rpartition("_")[0] or cohort.scans[row] for row in rows],
        [cohort.addresses[row] for row in rows],
        cohort.outlying[rows],
    )
    scores, measures = table.numbers("outlier_score"), table.texts("outlier_measures")
    outliers = [
        Outlier(name, href, float(scores[row]), readable_measures(measures[row] or ""))
        for row, name, href in zip(rows, marks.names, marks.hrefs, strict=True)
        if cohort.outlying[row]
    ]
    outliers.sort(key=lambda outlier: -outlier.score)
    charts = []
    for structure in _structures(cohort.volume_columns):
        columns = {side: table.numbers(f"{side}_{structure}{VOLUME_END}")[rows] for side in HEMISPHERES}
        charts.append(strip_chart("All structures" if structure == TOTAL else structure, columns, marks))
    drawn = tuple(chart for chart in charts if chart is not None)
    words = table.texts("outlier")
    is_judged = any(words[row] is not None for row in rows)
    listed = tuple(outliers[:MAX_LISTED])
    return Family(title, len(rows), drawn, relations_of(cohort, rows, marks), listed, len(outliers), is_judged)


def _structures(names: Sequence[str]) -> list[str]:
    """Structures that both sides have, the total first, and not where it would only repeat a single structure."""
    left = [name for name in names if name.startswith("L_")]
    both = [name[2:].removesuffix(VOLUME_END) for name in left if f"R_{name[2:]}" in names]
    single = len(both) <= 2
    return sorted((name for name in both if not (single and name == TOTAL)), key=lambda name: name != TOTAL)


def _lines(cohort: Cohort, columns: Sequence[str]) -> list[Line]:
    """Rows of the table, by columns: there may be many."""
    table = cohort.table
    shown: list[Sequence[str]] = []
    for name in columns:
        if name == "findings":
            shown.append(cohort.remarks)
            continue
        shown.append([_shown(cell) for cell in table.cells(name)])
    flagged = cohort.flagged.tolist()
    standing = zip(cohort.addresses, cohort.statuses, strict=True)
    addresses = [address if status == "done" else "" for address, status in standing]
    cells: Any = zip(*shown, strict=True) if shown else [()] * len(table)
    return [Line(*line) for line in zip(cohort.scans, addresses, flagged, cells, strict=True)]


def _shown(value: Cell) -> str:
    """Leave out digits that nobody reads.

    >>> _shown(812.25), _shown(0.93124), _shown(None)
    ('812', '0.9312', 'n/a')
    """
    if value is None or isinstance(value, str):
        return to_text(value)
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.4g}"

"""All scans of the group table: their volumes judged among those of their kind, and what others know of them."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.group_table import NAME, GroupRow, columns_of
from bids_hsf.bids.tables import MISSING, parse_number, read_tsv
from bids_hsf.bids.typed_json import NotWholeError
from bids_hsf.reports.charts import OUTLIER_Z, robust_z

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Volumes:
    """The table in memory.

    Attributes
    ----------
    rows : list of GroupRow
    names : list of str, (V,)
        The columns that hold volumes.
    values, scores : array, (N, V) float64
        Volumes in mm3, NaN where there is none, and their robust z within model and contrast.
    families : dict
        Model and contrast to the numbers of their rows.
    """

    rows: list[GroupRow]
    names: list[str]
    values: FloatArray
    scores: FloatArray
    families: dict[str, list[int]]

    @property
    def outlying(self) -> NDArray[np.bool_]:
        """Values far from the others', (N, V)."""
        return np.abs(self.scores) > OUTLIER_Z


@dataclass(frozen=True, eq=False)
class Cohort:
    """All scans of a table.

    Attributes
    ----------
    volumes : Volumes
    cells : list of mapping of str to str, (N,)
        The rows as the file has them, also with columns that this version does not know.
    """

    volumes: Volumes
    cells: list[Mapping[str, str]]

    @cached_property
    def _foreign(self) -> list[str]:
        own = {*columns_of(self.volumes.rows), *STANDING}
        return [name for name in (self.cells[0] if self.cells else ()) if name not in own]

    @cached_property
    def covariates(self) -> dict[str, FloatArray]:
        """Columns of numbers that are no measures of this app, such as ages; NaN where there is none."""
        found = {}
        for name in self._foreign:
            try:
                values = [parse_number(cells.get(name) or MISSING) for cells in self.cells]
            except NotWholeError:
                continue
            numbers = np.array([math.nan if value is None else value for value in values])
            if len(np.unique(numbers[np.isfinite(numbers)])) > 1:
                found[name] = numbers
        return found

    @cached_property
    def groups(self) -> list[str]:
        """Columns of few texts or codes that are no measures of this app, such as sites."""
        found = []
        for name in self._foreign:
            values = {cells.get(name) or MISSING for cells in self.cells}
            is_coded = name not in self.covariates or len(values) <= MAX_CODES
            if 1 < len(values) <= max(MAX_CODES, len(self.cells) // 4) and is_coded:
                found.append(name)
        return found


# Columns that say how a scan stands, not what was measured.
STANDING = ("qc", "qc_comment", "qc_rated_at", "status", "status_reason")
MAX_CODES = 6


def read_cohort(output_dir: Path) -> Cohort:
    """Read ``group_volumes.tsv``; no scan where it is not there or not whole, which is told."""
    try:
        cells = read_tsv(output_dir / NAME)
        rows = [GroupRow.from_cells(row) for row in cells]
    except FileNotFoundError:
        cells, rows = [], []
    except NotWholeError as error:
        logger.warning("%s is passed over: %s; run the group level again", output_dir / NAME, error)
        cells, rows = [], []
    return Cohort(_judge(rows), list(cells))


def _judge(rows: list[GroupRow]) -> Volumes:
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
        families.setdefault(title, []).append(index)
    scores = np.zeros(values.shape)
    for members in families.values():
        for place in range(len(names)):
            scores[members, place] = robust_z(values[members, place])
    return Volumes(rows, names, values, scores, families)


def short_heading(column: str) -> str:
    """Shorten a column's name for the eye.

    >>> short_heading("L_CA1_mm3"), short_heading("R_n_components")
    ('L CA1', 'R pieces')
    """
    return column.removesuffix("_mm3").replace("n_components", "pieces").replace("per_mille_", "‰ ").replace("_", " ")

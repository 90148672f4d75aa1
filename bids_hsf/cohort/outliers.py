"""Scans that lie far from the others in any of their measures, or a little in all of them.

The rule, within model, contrast and settings (`cohort.families`), of at least eight scans:

1. Measures are the structures' volumes by the intracranial volume (of a scan without one, the volumes themselves),
   the asymmetry of each structure, and of each side the mean entropy (its logarithm), pieces, the predicted Dice,
   the localization's quality and the coverage.
2. Each has a robust z: its distance from the median over 1.4826 times the median absolute deviation, or over a
   smallest step that means anything where most scans are equal (`FLOORS`).
3. More pieces, a higher entropy, or a lower quality, Dice or coverage than others have is an outlier; fewer or better
   is none. Volumes and asymmetries may lie far on either side.
4. All measures together are one more: the logarithm of the root mean square of the z, judged like the others.
5. A z counts from the value on that one of a hundred sound scans would reach by chance in any of its measures:
   Student's t with 0.37 (n - 1) degrees of freedom, 0.37 being the efficiency of the median absolute deviation, for
   a probability of 1 % over the number of measures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.group_row import ASYMMETRY_END, SHARE_END, VOLUME_END, is_number
from bids_hsf.bids.group_table import GroupTable
from bids_hsf.cohort.families import Family, families_of

MIN_SCANS = 8
EFFICIENCY = 0.37  # of the median absolute deviation, of normally distributed values
CHANCE = 0.01  # of sound scans that are flagged
CAP = 20.0  # of a z within that of all measures: one wild measure says nothing of the others
SHOWN = 5
TOGETHER = "together"

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """Measures that are judged alike.

    Attributes
    ----------
    end : str
        Of their columns.
    direction : int
        1: only more is odd, -1: only less is, 0: both.
    floor : float
        Least robust standard deviation that is believed, in units of the measure.
    relative_floor : float
        The same, as a share of the median.
    logarithmic : bool
    """

    end: str
    direction: int = 0
    floor: float = 0.0
    relative_floor: float = 0.0
    logarithmic: bool = False


KINDS = (
    Kind(SHARE_END, relative_floor=0.02),
    Kind(ASYMMETRY_END, floor=1.0),
    Kind("_entropy_mean", 1, floor=0.05, logarithmic=True),
    Kind("_n_components", 1, floor=0.4),
    Kind("_predicted_dice", -1, floor=0.01),
    Kind("localization_quality", -1, floor=0.02),
    Kind("_coverage", -1, floor=0.02),
)
VOLUMES = Kind(VOLUME_END, relative_floor=0.02)


@dataclass(frozen=True, eq=False)
class Judgement:
    """How far each scan of a table lies from those that it can be compared with.

    Attributes
    ----------
    measures : list of str, (M,)
        Columns of the table that were judged, and last "together".
    scores : array, (N, M) float32
        Robust z; NaN where there is none.
    limits : array, (N,) float64
        Size from which on a scan's z counts; NaN where too few scans can be compared.
    rms : array, (N,) float64
        Root mean square of a scan's z.
    families : list of Family
    """

    measures: list[str]
    scores: NDArray[np.float32]
    limits: FloatArray
    rms: FloatArray
    families: list[Family]

    @property
    def far(self) -> NDArray[np.bool_]:
        """Values that lie far from the others, (N, M)."""
        signs = np.array([_direction(name) for name in self.measures])
        odd = np.where(signs == 0, np.abs(self.scores), self.scores * signs)
        with np.errstate(invalid="ignore"):
            return np.asarray(odd > self.limits[:, None])

    def put_into(self, table: GroupTable) -> None:
        """Fill the table's columns of outliers."""
        far = self.far
        judged = np.isfinite(self.limits)
        flags = np.asarray(far.any(axis=1))
        texts: list[str | None] = [None] * len(table)
        for row in np.flatnonzero(flags).tolist():
            places = sorted(np.flatnonzero(far[row]).tolist(), key=lambda place: -abs(self.scores[row, place]))
            named = [f"{self.measures[place]} {self.scores[row, place]:+.1f}" for place in places]
            texts[row] = "; ".join(named[:SHOWN] + ([f"{len(named) - SHOWN} more"] if len(named) > SHOWN else []))
        words = np.where(judged, np.where(flags, "yes", "no"), "")
        table.put("outlier", [word or None for word in words.tolist()])
        table.put("outlier_score", np.where(judged, self.rms.round(2), np.nan))
        table.put("outlier_measures", texts)


def judge(table: GroupTable) -> Judgement:
    """Judge every finished scan of a table among those that it can be compared with."""
    columns = [name for name in table.names if is_number(name) and _kind(name) is not None]
    values = np.column_stack([table.numbers(name) for name in columns] or [np.zeros((len(table), 0))])
    scores = np.full((len(table), len(columns) + 1), np.nan, np.float32)
    limits, rms = np.full(len(table), np.nan), np.full(len(table), np.nan)
    families = families_of(table)
    for family in families:
        if len(family.rows) < MIN_SCANS:
            continue
        rows = np.array(family.rows)
        found = _scores(values[rows], columns)
        used = np.isfinite(found).any(axis=0)
        capped = np.clip(found, -CAP, CAP)
        counts = np.maximum(np.isfinite(found).sum(axis=1), 1)
        rms[rows] = np.sqrt(np.nansum(capped**2, axis=1) / counts)
        # Half a standard deviation: below that, all is well.
        together = robust_z(np.log(np.maximum(rms[rows], 0.5)), 0.2)
        scores[rows] = np.column_stack([found, together])
        limits[rows] = limit(len(rows), int(used.sum()) + 1)
    return Judgement([*columns, TOGETHER], scores, limits, rms, families)


def _scores(values: FloatArray, columns: Sequence[str]) -> FloatArray:
    """Robust z of the values (N, M) of scans that can be compared; NaN where there is none to be used."""
    found = np.full(values.shape, np.nan)
    for place, name in enumerate(columns):
        kind, column = _kind(name), values[:, place]
        if kind is None or np.isfinite(column).sum() < MIN_SCANS:
            continue
        if kind.logarithmic:
            column = np.log(np.maximum(column, 1e-4))
        median = float(np.nanmedian(column))
        z = robust_z(column, max(kind.floor, kind.relative_floor * abs(median)))
        if kind is VOLUMES:
            share = name.removesuffix(VOLUME_END) + SHARE_END
            if share in columns:  # where there is one, it says more
                z[np.isfinite(values[:, columns.index(share)])] = np.nan
        found[:, place] = z
    return found


@cache
def _kind(column: str) -> Kind | None:
    if column.endswith(VOLUME_END):
        return VOLUMES if column.startswith(("L_", "R_")) else None
    return next((kind for kind in KINDS if column.endswith(kind.end)), None)


def _direction(measure: str) -> int:
    if measure == TOGETHER:
        return 1
    kind = _kind(measure)
    return 0 if kind is None else kind.direction


def robust_z(values: FloatArray, floor: float = 0.0) -> FloatArray:
    """Distance from the median in robust standard deviations, of which the least that is believed is a floor.

    >>> robust_z(np.array([9.0, 10, 10, 11, 11, 12, 12, 30])).round(1).tolist()
    [-1.3, -0.7, -0.7, 0.0, 0.0, 0.7, 0.7, 12.8]
    """
    median = np.nanmedian(values)
    deviation = max(1.4826 * float(np.nanmedian(np.abs(values - median))), floor)
    if deviation == 0:
        return np.where(np.isfinite(values), 0.0, np.nan)
    return np.asarray((values - median) / deviation)


def limit(n_scans: int, n_measures: int) -> float:
    """Robust z from which on a value counts among so many scans, each with so many measures.

    >>> round(limit(500, 20), 1), round(limit(60, 20), 1), round(limit(12, 20), 1)
    (3.5, 4.1, 10.1)
    """
    from scipy.special import stdtrit

    student: Callable[[float, float], float] = stdtrit
    return float(student(EFFICIENCY * (n_scans - 1), 1 - CHANCE / (2 * n_measures)))

"""Two models on the same scans: overlap and volumes of the structures that both have."""

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.derivatives import Derivative
from bids_hsf.bids.group_row import TOTAL
from bids_hsf.bids.tables import Structure
from bids_hsf.errors import BidsHsfError
from bids_hsf.images import open_scan
from bids_hsf.labels import HEMISPHERES, RIGHT_OFFSET

CONFIDENCE = 0.975
SPREADS = 1.96  # of the limits of agreement
TOLERANCE = 1e-3  # mm, of one grid
N_VALUES = 256  # that a label map may have

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """A finished scan of one side.

    Attributes
    ----------
    label_map : Path
    structures : tuple of Structure
    participant_id : str
    session_id : str or None
    """

    label_map: Path
    structures: tuple[Structure, ...]
    participant_id: str
    session_id: str | None


@dataclass(frozen=True)
class Side:
    """What one model made in one output folder.

    Attributes
    ----------
    output_dir : Path
    model : str
    segmentation : str
        The ``seg-`` entity.
    versions : tuple of str
        Of the model.
    results : mapping of str to Result
        By the scan's key.
    faults : mapping of str to str
        By the scan's key: what is wrong with results that are not whole, and are not compared.
    """

    output_dir: Path
    model: str
    segmentation: str
    versions: tuple[str, ...]
    results: Mapping[str, Result]
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """One structure of one scan by both models.

    Attributes
    ----------
    scan, participant_id : str
    session_id : str or None
    hemisphere, structure : str
        The structure is "total" for all of a hemisphere.
    dice : float or None
        None where the label maps lie on different grids, or the structure is empty in both.
    first, second : float or None
        Volumes, mm3.
    """

    scan: str
    participant_id: str
    session_id: str | None
    hemisphere: str
    structure: str
    dice: float | None
    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """Second minus first volume, mm3."""
        return None if self.first is None or self.second is None else round(self.second - self.first, 2)

    @property
    def percent(self) -> float | None:
        """Difference over the mean of both volumes, per cent."""
        if self.first is None or self.second is None or not self.first + self.second:
            return None
        return round(200 * (self.second - self.first) / (self.first + self.second), 3)


@dataclass(frozen=True)
class Agreement:
    """How well two models agree on one structure, by the scans that both have.

    Attributes
    ----------
    hemisphere, structure : str
    n : int
        Scans with both volumes.
    dice : tuple of float or None
        Median, lower and upper quartile, and least.
    bias, sd : float
        Mean of second minus first volume, and its standard deviation, mm3.
    bias_interval : tuple of float or None
        95 % confidence interval of the bias, by Student's t.
    limits : tuple of float
        Limits of agreement: bias -/+ 1.96 sd (Bland and Altman 1986).
    bias_percent : float or None
        Median of the difference over the mean of both, per cent.
    concordance : float or None
        Lin's coefficient; None where nothing varies.
    """

    hemisphere: str
    structure: str
    n: int
    dice: tuple[float, float, float, float] | None
    bias: float
    sd: float
    bias_interval: tuple[float, float] | None
    limits: tuple[float, float]
    bias_percent: float | None
    concordance: float | None


def sides_of(output_dir: Path, found: Iterable[Derivative]) -> list[Side]:
    """Part the finished results of an output folder by model and labels; maps of head, body and tail are left out."""
    results: dict[tuple[str, str], dict[str, Result]] = {}
    versions: dict[tuple[str, str], set[str]] = {}
    faults: dict[tuple[str, str], dict[str, str]] = {}
    for each in found:
        sidecar = each.sidecar
        if sidecar is None or sidecar.long_axis_rule is not None:
            continue
        key, entities = (sidecar.model.name, sidecar.segmentation), sidecar.entities
        if each.fault is not None:
            faults.setdefault(key, {})[sidecar.scan] = str(each.fault)
            continue
        session = f"ses-{entities['ses']}" if "ses" in entities else None
        result = Result(each.table.with_suffix(".nii.gz"), each.structures, f"sub-{entities['sub']}", session)
        results.setdefault(key, {})[sidecar.scan] = result
        versions.setdefault(key, set()).add(sidecar.model.version or "n/a")
    return [
        Side(output_dir, *key, tuple(sorted(versions[key])), scans, faults.get(key, {}))
        for key, scans in results.items()
    ]


def compare_scan(scan: str, first: Result, second: Result) -> Iterator[Measured]:
    """Compare one scan's structures that both sides have, and the totals.

    Raises
    ------
    BidsHsfError
        A label map cannot be read, or they lie on different grids.
    """
    counts = _joint_counts(first.label_map, second.label_map)
    who = (scan, first.participant_id, first.session_id)
    ours, theirs = ({s.abbreviation: s for s in result.structures} for result in (first, second))
    for name, one in ours.items():
        other = theirs.get(name)
        if other is not None:
            dice = _dice(counts, [one.index], [other.index])
            yield Measured(*who, one.hemisphere, name[2:], dice, one.volume_mm3, other.volume_mm3)
    for side in HEMISPHERES:
        here, there = ([s for s in known.values() if s.hemisphere == side] for known in (ours, theirs))
        if here and there:
            # Everything of the side counts, also what one of them alone tells apart.
            low = RIGHT_OFFSET if side == "R" else 0
            whole = list(range(low + 1, low + RIGHT_OFFSET))
            volumes = [_sum([s.volume_mm3 for s in known]) for known in (here, there)]
            yield Measured(*who, side, TOTAL, _dice(counts, whole, whole), volumes[0], volumes[1])


def _joint_counts(first: Path, second: Path) -> NDArray[np.int64]:
    """Voxels by both label maps' values, (256, 256)."""
    (here, own), (there, other) = _read(first), _read(second)
    if here.shape != there.shape or not np.allclose(own, other, atol=TOLERANCE):
        raise BidsHsfError(f"the label maps lie on different grids: {first.name} and {second.name}")
    pairs = here.astype(np.int32) * N_VALUES + there
    return np.bincount(pairs.ravel(), minlength=N_VALUES**2).reshape(N_VALUES, N_VALUES)


def _read(path: Path) -> tuple[NDArray[np.uint8], FloatArray]:
    try:
        image = open_scan(path)
        return np.asarray(image.dataobj).astype(np.uint8), np.asarray(image.affine, dtype=np.float64)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BidsHsfError(f"{path} cannot be read: {error}") from error


def _dice(counts: NDArray[np.int64], ours: Sequence[int], theirs: Sequence[int]) -> float | None:
    both = int(counts[np.ix_(ours, theirs)].sum())
    size = int(counts[ours].sum() + counts[:, theirs].sum())
    return round(2 * both / size, 5) if size else None


def _sum(volumes: Sequence[float | None]) -> float | None:
    known = [volume for volume in volumes if volume is not None]
    return round(sum(known), 2) if len(known) == len(volumes) else None


def agreements(measured: Sequence[Measured]) -> list[Agreement]:
    """Summarise structure by structure: the totals first, then in order of first sight."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for each in measured:
        groups.setdefault((each.structure, each.hemisphere), []).append(each)
    order = sorted(groups, key=lambda key: key[0] != TOTAL)
    return [found for key in order if (found := _agreement(key[1], key[0], groups[key])) is not None]


def _agreement(hemisphere: str, structure: str, measured: Sequence[Measured]) -> Agreement | None:
    pairs = [(each.first, each.second) for each in measured if each.first is not None and each.second is not None]
    if not pairs:
        return None
    values = np.array(pairs, dtype=np.float64)
    difference = values[:, 1] - values[:, 0]
    n, bias = len(pairs), float(difference.mean())
    sd = float(difference.std(ddof=1)) if n > 1 else 0.0
    percents = [each.percent for each in measured if each.percent is not None]
    overlaps = [each.dice for each in measured if each.dice is not None]
    dice = None
    if overlaps:
        low, median, high = np.percentile(overlaps, [25, 50, 75]).tolist()
        dice = (median, low, high, min(overlaps))
    return Agreement(
        hemisphere,
        structure,
        n,
        dice,
        bias,
        sd,
        _interval(bias, sd, n),
        (bias - SPREADS * sd, bias + SPREADS * sd),
        float(np.median(percents)) if percents else None,
        _concordance(values),
    )


def _interval(bias: float, sd: float, n: int) -> tuple[float, float] | None:
    from scipy.special import stdtrit

    if n < 2:
        return None
    half = float(stdtrit(n - 1, CONFIDENCE)) * sd / math.sqrt(n)
    return bias - half, bias + half


def _concordance(values: FloatArray) -> float | None:
    """Lin's concordance correlation of pairs (N, 2)."""
    if len(values) < 2:
        return None
    (first, second), (one, two) = values.mean(axis=0), values.var(axis=0)
    covariance = float(((values[:, 0] - first) * (values[:, 1] - second)).mean())
    spread = float(one + two + (first - second) ** 2)
    return None if spread == 0 else 2 * covariance / spread

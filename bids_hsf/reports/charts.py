"""Spread of a measure over many scans: outliers, and where the marks of a strip chart stand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUTLIER_Z = 3.5
MIN_SCANS = 8
MAX_POINTS = 240
MAX_NAMED = 5
MIN_SPAN = 0.3  # of the median, on the axis
WIDTH, HEIGHT = 380.0, 250.0
LEFT, TOP, BOTTOM = 52.0, 12.0, 26.0
STRIP_WIDTH, NAME_HEIGHT = 56.0, 12.0

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One scan in a strip; `x` and `y` in units of the chart."""

    x: float
    y: float
    name: str
    value: float
    is_outlier: bool


@dataclass(frozen=True)
class Name:
    """Name of an outlier beside its strip, with a line from the point at `from_y`."""

    x: float
    y: float
    from_x: float
    from_y: float
    text: str


@dataclass(frozen=True)
class Strip:
    """One column of a chart: a box from quartile to quartile and the scans.

    Attributes
    ----------
    title : str
    n : int
        Scans with a value.
    median_value : float
    x, width : float
        Of the box.
    low, first, median, third, high : float
        Heights in the chart of the whiskers' ends (the farthest scans within 1.5 times the box,
        Tukey 1977), the quartiles and the median.
    points : tuple of Point
    names : tuple of Name
    """

    title: str
    n: int
    median_value: float
    x: float
    width: float
    low: float
    first: float
    median: float
    third: float
    high: float
    points: tuple[Point, ...]
    names: tuple[Name, ...]


@dataclass(frozen=True)
class Chart:
    """Strips over one axis.

    Attributes
    ----------
    title : str
    ticks : tuple of (float, str)
        Height in the chart and text.
    strips : tuple of Strip
    n_hidden : int
        Scans that are not drawn, for there are too many.
    """

    title: str
    ticks: tuple[tuple[float, str], ...]
    strips: tuple[Strip, ...]
    n_hidden: int


def robust_z(values: FloatArray) -> FloatArray:
    """Distance from the median in robust standard deviations (Iglewicz and Hoaglin 1993).

    Parameters
    ----------
    values : array, (N,) float64
        NaN where there is none.

    Returns
    -------
    array, (N,) float64
        ``0.6745 (x - median) / median absolute deviation``; zeros where fewer than eight values, or a
        deviation of zero, make no judgement possible.

    Examples
    --------
    >>> robust_z(np.array([9.0, 10, 10, 11, 11, 12, 12, 30])).round(1).tolist()
    [-1.3, -0.7, -0.7, 0.0, 0.0, 0.7, 0.7, 12.8]
    """
    known = values[np.isfinite(values)]
    if len(known) < MIN_SCANS:
        return np.zeros(len(values))
    median = np.median(known)
    deviation = np.median(np.abs(known - median))
    if deviation == 0:
        return np.zeros(len(values))
    return np.asarray(np.nan_to_num(0.6745 * (values - median) / deviation))


def strip_chart(title: str, columns: Mapping[str, FloatArray], names: Sequence[str]) -> Chart | None:
    """Lay out a chart.

    Parameters
    ----------
    title : str
    columns : mapping of str to array, (N,) float64
        Title of a strip to one value a scan, NaN where there is none.
    names : sequence of str, (N,)
        Of the scans.

    Returns
    -------
    Chart or None
        None where no scan has a value.
    """
    pooled = np.concatenate([values[np.isfinite(values)] for values in columns.values()])
    if pooled.size == 0:
        return None
    low, high = float(pooled.min()), float(pooled.max())
    # A few like values are not blown up until they look far apart.
    spread = max(1.12 * (high - low), MIN_SPAN * abs(float(np.median(pooled))), 1.0)
    low, high = (low + high - spread) / 2, (low + high + spread) / 2
    step = (HEIGHT - TOP - BOTTOM) / (high - low)

    def height(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) * step, 1)

    pitch = (WIDTH - LEFT) / len(columns)
    strips = [
        _strip(strip, LEFT + pitch * place + 6, values, names, height)
        for place, (strip, values) in enumerate(columns.items())
        if np.isfinite(values).any()
    ]
    drawn = sum(len(strip.points) for strip in strips)
    ticks = tuple((height(value), f"{value:g}") for value in _round_ticks(low, high))
    return Chart(title, ticks, tuple(strips), int(pooled.size) - drawn)


def _strip(title: str, x: float, values: FloatArray, names: Sequence[str], height: Callable[[float], float]) -> Strip:
    known = np.flatnonzero(np.isfinite(values))
    first, median, third = (float(v) for v in np.percentile(values[known], (25, 50, 75)))
    reach = 1.5 * (third - first)
    within = values[known][(values[known] >= first - reach) & (values[known] <= third + reach)]
    scores = np.abs(robust_z(values))
    points = []
    # Golden-ratio steps spread neighbours in height evenly over the width, the same way each time.
    for rank, index in enumerate(_thin_out(known[np.argsort(values[known], kind="stable")], scores)):
        offset = ((rank * 0.618034 + 0.5) % 1 - 0.5) * 0.8 * STRIP_WIDTH
        value = float(values[index])
        place = round(x + STRIP_WIDTH / 2 + offset, 1)
        points.append(Point(place, height(value), names[index], value, bool(scores[index] > OUTLIER_Z)))
    named = sorted((p for p in points if p.is_outlier), key=lambda p: -abs(p.value - median))[:MAX_NAMED]
    return Strip(
        title,
        n=len(known),
        median_value=median,
        x=round(x, 1),
        width=STRIP_WIDTH,
        low=height(float(within.min())),
        first=height(first),
        median=height(median),
        third=height(third),
        high=height(float(within.max())),
        points=tuple(points),
        names=_place_names(named, x + STRIP_WIDTH + 5),
    )


def _thin_out(order: NDArray[np.intp], scores: FloatArray) -> list[int]:
    """Every outlier, both ends and an even choice of the others, in order."""
    if len(order) <= MAX_POINTS:
        return [int(index) for index in order]
    keep = np.zeros(len(order), bool)
    keep[np.linspace(0, len(order) - 1, MAX_POINTS).round().astype(int)] = True
    outliers = np.flatnonzero(scores[order] > OUTLIER_Z)
    # An endless tail is no outlier list; its farthest ends are kept by the even choice above.
    keep[outliers[:MAX_POINTS]] = True
    return [int(index) for index in order[keep]]


def _place_names(points: Sequence[Point], x: float) -> tuple[Name, ...]:
    """Write names beside their points, moved apart where they would overlap."""
    placed: list[Name] = []
    top = TOP + 4
    for left, point in enumerate(sorted(points, key=lambda p: p.y)):
        lowest = HEIGHT - BOTTOM - NAME_HEIGHT * (len(points) - 1 - left)
        y = min(max(point.y + 3.5, top), lowest)
        placed.append(Name(round(x, 1), round(y, 1), point.x, point.y, _shorten(point.name)))
        top = y + NAME_HEIGHT
    return tuple(placed)


def _shorten(name: str, longest: int = 17) -> str:
    """Leave out the middle of a long name.

    >>> _shorten("sub-0123_ses-baseline_T1w")
    'sub-0123…line_T1w'
    """
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def _round_ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers between two values.

    >>> _round_ticks(1480.0, 2210.0)
    [1600.0, 1800.0, 2000.0, 2200.0]
    """
    rough = (high - low) / 5
    magnitude = 10.0 ** np.floor(np.log10(rough))
    step = magnitude * next(m for m in (1, 2, 5, 10) if m * magnitude >= rough)
    return [float(round(v, 10)) for v in np.arange(np.ceil(low / step) * step, high, step)]

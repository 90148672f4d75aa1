"""Spread of a measure over many scans: where the marks of a strip chart stand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_POINTS = 240
MAX_NAMED = 5
MIN_SPAN = 0.3  # of the median, on the axis
WIDTH, HEIGHT = 380.0, 250.0
LEFT, TOP, BOTTOM = 52.0, 12.0, 26.0
STRIP_WIDTH, NAME_HEIGHT = 56.0, 12.0

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Marks:
    """Scans of a chart, (N,): their names, where they lead to, and which lie far from the others."""

    names: Sequence[str]
    hrefs: Sequence[str]
    outlying: NDArray[np.bool_]


@dataclass(frozen=True)
class Point:
    """One scan in a chart; `x` and `y` in units of the chart, `value` for readers."""

    x: float
    y: float
    name: str
    href: str
    value: str
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


def strip_chart(title: str, columns: Mapping[str, FloatArray], marks: Marks) -> Chart | None:
    """Lay out a chart.

    Parameters
    ----------
    title : str
    columns : mapping of str to array, (N,) float64
        Title of a strip to one value a scan, NaN where there is none.
    marks : Marks, (N,)

    Returns
    -------
    Chart or None
        None where no scan has a value.
    """
    pooled = np.concatenate([values[np.isfinite(values)] for values in columns.values()])
    if pooled.size == 0:
        return None
    low, high = axis_range(pooled)
    step = (HEIGHT - TOP - BOTTOM) / (high - low)

    def height(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) * step, 1)

    pitch = (WIDTH - LEFT) / len(columns)
    strips = [
        _strip(strip, LEFT + pitch * place + 6, values, marks, height)
        for place, (strip, values) in enumerate(columns.items())
        if np.isfinite(values).any()
    ]
    drawn = sum(len(strip.points) for strip in strips)
    ticks = tuple((height(value), f"{value:g}") for value in round_ticks(low, high))
    return Chart(title, ticks, tuple(strips), int(pooled.size) - drawn)


def axis_range(values: FloatArray) -> tuple[float, float]:
    """Choose the ends of an axis for values (N,): a few like ones are not blown up until they look far apart."""
    low, high = float(values.min()), float(values.max())
    spread = max(1.12 * (high - low), MIN_SPAN * abs(float(np.median(values))), 1.0)
    return (low + high - spread) / 2, (low + high + spread) / 2


def _strip(title: str, x: float, values: FloatArray, marks: Marks, height: Callable[[float], float]) -> Strip:
    known = np.flatnonzero(np.isfinite(values))
    first, median, third = (float(v) for v in np.percentile(values[known], (25, 50, 75)))
    reach = 1.5 * (third - first)
    within = values[known][(values[known] >= first - reach) & (values[known] <= third + reach)]
    points = []
    # Golden-ratio steps spread neighbours in height evenly over the width, the same way each time.
    for rank, index in enumerate(thin_out(known[np.argsort(values[known], kind="stable")], marks.outlying)):
        offset = ((rank * 0.618034 + 0.5) % 1 - 0.5) * 0.8 * STRIP_WIDTH
        value = float(values[index])
        place = round(x + STRIP_WIDTH / 2 + offset, 1)
        is_outlier = bool(marks.outlying[index])
        points.append(Point(place, height(value), marks.names[index], marks.hrefs[index], f"{value:.0f}", is_outlier))
    middle = height(median)
    named = sorted((p for p in points if p.is_outlier), key=lambda p: -abs(p.y - middle))[:MAX_NAMED]
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


def thin_out(order: NDArray[np.intp], outlying: NDArray[np.bool_]) -> list[int]:
    """Every outlier, both ends and an even choice of the others, in order."""
    if len(order) <= MAX_POINTS:
        return [int(index) for index in order]
    keep = np.zeros(len(order), bool)
    keep[np.linspace(0, len(order) - 1, MAX_POINTS).round().astype(int)] = True
    outliers = np.flatnonzero(outlying[order])
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
        placed.append(Name(round(x, 1), round(y, 1), point.x, point.y, shorten(point.name)))
        top = y + NAME_HEIGHT
    return tuple(placed)


def shorten(name: str, longest: int = 17) -> str:
    """Leave out the middle of a long name.

    >>> shorten("sub-0123_ses-baseline_T1w")
    'sub-0123…line_T1w'
    """
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def round_ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers between two values.

    >>> round_ticks(1480.0, 2210.0)
    [1600.0, 1800.0, 2000.0, 2200.0]
    """
    rough = (high - low) / 5
    magnitude = 10.0 ** np.floor(np.log10(rough))
    step = magnitude * next(m for m in (1, 2, 5, 10) if m * magnitude >= rough)
    return [float(round(v, 10)) for v in np.arange(np.ceil(low / step) * step, high, step)]

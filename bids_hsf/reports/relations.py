"""Charts of one value against another: volumes by age, left against right, sessions joined by lines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bids_hsf.bids.group_table import total_column
from bids_hsf.labels import HEMISPHERES
from bids_hsf.reports.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    TOP,
    WIDTH,
    FloatArray,
    Marks,
    Point,
    axis_range,
    round_ticks,
    shorten,
    thin_out,
)
from bids_hsf.reports.cohort import Cohort
from bids_hsf.text_table import natural_order

MAX_COVARIATES = 6
MAX_SESSIONS = 12  # that have room on an axis
LETTER_WIDTH = 6.5  # of what is written below an axis, at the most on the mean
RIGHT = 12.0

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Series:
    """Points of one kind: "L", "R" or "both"."""

    side: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Relation:
    """A chart of two values.

    Attributes
    ----------
    title, x_title : str
    summary : str
        What it shows, for those who cannot see it.
    x_ticks, y_ticks : tuple of (float, str)
        Place in the chart and text.
    lines : tuple of str
        Path data that join the sessions of a subject, or mark where both values are equal.
    series : tuple of Series
    n_hidden : int
        Scans that are not drawn, for there are too many.
    """

    title: str
    x_title: str
    summary: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[str, ...]
    series: tuple[Series, ...]
    n_hidden: int


@dataclass(frozen=True, eq=False)
class Axes:
    """Values (N,) of both directions, and how they become places in the chart."""

    x: FloatArray
    y: Mapping[str, FloatArray]
    across: Scale
    up: Scale
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]

    def place(self, row: int, side: str) -> tuple[float, float] | None:
        """Where the value of a scan stands; None where there is none."""
        x, y = float(self.x[row]), float(self.y[side][row])
        return (self.across(x), self.up(y)) if np.isfinite(x) and np.isfinite(y) else None


def relations_of(cohort: Cohort, rows: Sequence[int], marks: Marks) -> tuple[Relation, ...]:
    """Charts of the scans that can be compared: left against right, by session, and by each covariate."""
    table = cohort.table
    volumes = {side: table.numbers(total_column(side))[list(rows)] for side in HEMISPHERES}
    participants, visits = table.texts("participant_id"), table.texts("session_id")
    subjects, sessions = [participants[row] or "" for row in rows], [visits[row] or "" for row in rows]
    charts = [_left_right(volumes, marks), _by_session(volumes, subjects, sessions, marks)]
    for name, values in list(cohort.covariates.items())[:MAX_COVARIATES]:
        x = values[list(rows)]
        words = name.replace("_", " ")
        charts.append(
            _chart(f"By {words}", _shortened(words, WIDTH - LEFT), _axes(x, volumes), _courses(subjects, x), marks)
        )
    return tuple(chart for chart in charts if chart is not None)


def _left_right(volumes: Mapping[str, FloatArray], marks: Marks) -> Relation | None:
    """Right against left, with the line on which both are equal."""
    both = np.concatenate(list(volumes.values()))
    if not np.isfinite(both).any():
        return None
    ends = axis_range(both[np.isfinite(both)])
    axes = _axes(volumes["L"], {"both": volumes["R"]}, ends)
    if axes is None:
        return None
    low, high = ends
    diagonal = f"M{axes.across(low)} {axes.up(low)}L{axes.across(high)} {axes.up(high)}"
    return _chart("Left against right", "left mm³, right upwards", axes, [], marks, (diagonal,))


def _by_session(
    volumes: Mapping[str, FloatArray], subjects: Sequence[str], sessions: Sequence[str], marks: Marks
) -> Relation | None:
    """Volumes by session, those of a subject joined."""
    names = sorted(set(sessions), key=natural_order)
    if not 1 < len(names) <= MAX_SESSIONS or len(set(subjects)) == len(subjects):
        return None
    x = np.array([float(names.index(session)) for session in sessions])
    axes = _axes(x, volumes, x_ends=(-0.5, len(names) - 0.5))
    if axes is None:
        return None
    room = (WIDTH - LEFT - RIGHT) / len(names)
    ticks = tuple((axes.across(place), _shortened(name or "none", room)) for place, name in enumerate(names))
    named = Axes(axes.x, axes.y, axes.across, axes.up, ticks, axes.y_ticks)
    return _chart("By session", "", named, _courses(subjects, x), marks)


def _shortened(text: str, room: float) -> str:
    """Leave a session's "ses-" out, then the middle of what is still wider than its room below an axis."""
    longest = max(3, int(room / LETTER_WIDTH))
    return text if len(text) <= longest else shorten(text.removeprefix("ses-"), longest)


def _axes(
    x: FloatArray,
    y: Mapping[str, FloatArray],
    y_ends: tuple[float, float] | None = None,
    x_ends: tuple[float, float] | None = None,
) -> Axes | None:
    """Lay out both axes; None where no scan has both values."""
    known = {side: np.isfinite(x) & np.isfinite(values) for side, values in y.items()}
    either = np.logical_or.reduce(list(known.values()))
    if not either.any():
        return None
    pooled = np.concatenate([values[known[side]] for side, values in y.items()])
    low, high = y_ends or axis_range(pooled)
    first, last = x_ends or y_ends or _tight(x[either])

    def across(value: float) -> float:
        return round(LEFT + (value - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    def up(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    x_ticks = tuple((across(value), f"{value:g}") for value in round_ticks(first, last))
    return Axes(x, y, across, up, x_ticks, tuple((up(value), f"{value:g}") for value in round_ticks(low, high)))


def _tight(values: FloatArray) -> tuple[float, float]:
    """Choose the ends of an axis with a little room beside the values."""
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room


def _courses(subjects: Sequence[str], x: FloatArray) -> list[list[int]]:
    """Find the scans of each subject that has several, in the order of their `x`."""
    found: dict[str, list[int]] = {}
    for row in np.argsort(x, kind="stable").tolist():
        if np.isfinite(x[row]):
            found.setdefault(subjects[row], []).append(row)
    return [rows for _, rows in sorted(found.items()) if len(rows) > 1]


def _chart(
    title: str,
    x_title: str,
    axes: Axes | None,
    courses: Sequence[Sequence[int]],
    marks: Marks,
    lines: tuple[str, ...] = (),
) -> Relation | None:
    if axes is None:
        return None
    # Of too many subjects an even choice, the same each time.
    step = max(1, -(-len(courses) // MAX_POINTS))
    joined = [_join([axes.place(row, side) for row in rows]) for rows in courses[::step] for side in axes.y]
    series, n_known = [], 0
    for side, values in axes.y.items():
        known = np.flatnonzero(np.isfinite(axes.x) & np.isfinite(values))
        n_known += len(known)
        order = known[np.argsort(values[known], kind="stable")]
        points = []
        for row in thin_out(order, marks.outlying):
            place = axes.place(row, side)
            if place is not None:
                value = f"{axes.x[row]:g}, {values[row]:.0f} mm³"
                points.append(
                    Point(*place, marks.names[row], marks.hrefs[row], value, is_outlier=bool(marks.outlying[row]))
                )
        series.append(Series(side, tuple(points)))
    drawn = sum(len(each.points) for each in series)
    summary = f"{title}, volume of all structures in mm³, {n_known} points."
    x_ticks, y_ticks = axes.x_ticks, axes.y_ticks
    paths = (*lines, *filter(None, joined))
    return Relation(title, x_title, summary, x_ticks, y_ticks, paths, tuple(series), n_known - drawn)


def _join(places: Sequence[tuple[float, float] | None]) -> str:
    known = [f"{x} {y}" for x, y in filter(None, places)]
    return "M" + "L".join(known) if len(known) > 1 else ""

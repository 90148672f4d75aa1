"""The page that sets two models side by side: overlap, volume differences, Bland-Altman plots."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_hsf.bids.group_row import TOTAL
from bids_hsf.cohort.comparison import Agreement, Measured, Side
from bids_hsf.labels import SIDE_NAMES
from bids_hsf.reports.pages import anchor, citation_link, link_to, render

WIDTH, HEIGHT = 380.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 12.0, 34.0
MAX_POINTS = 600
MAX_LISTED = 50
MIN_SPAN = 0.02  # of the mean volume, on either axis


@dataclass(frozen=True)
class Unmatched:
    """A scan that could not be compared, and why."""

    scan: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Two models on the same scans.

    Attributes
    ----------
    first, second : Side
    measured : tuple of Measured
    agreements : tuple of Agreement
        One a structure.
    unmatched : tuple of Unmatched
    """

    first: Side
    second: Side
    measured: tuple[Measured, ...]
    agreements: tuple[Agreement, ...]
    unmatched: tuple[Unmatched, ...]

    @property
    def n_scans(self) -> int:
        """Scans that were compared."""
        return len({each.scan for each in self.measured})


@dataclass(frozen=True)
class Dot:
    """One scan in a plot, in units of the plot."""

    x: float
    y: float
    scan: str
    text: str
    is_outside: bool


@dataclass(frozen=True)
class Plot:
    """A Bland-Altman plot: differences over means, the bias and the limits of agreement.

    Attributes
    ----------
    title, words : str
        What it shows, for the eye and for readers of screens.
    dots : tuple of Dot
    bias, low, high, zero : float
        Heights in the plot.
    x_ticks, y_ticks : tuple of (float, str)
    n_hidden : int
        Scans that are not drawn, for there are too many.
    """

    title: str
    words: str
    dots: tuple[Dot, ...]
    bias: float
    low: float
    high: float
    zero: float | None
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    n_hidden: int


@dataclass(frozen=True)
class Line:
    """A scan in the list of the least overlaps; no address where its page lies elsewhere."""

    measured: Measured
    title: str
    href: str | None


def comparison_page(comparison: Comparison, folder: Path, table: str) -> str:
    """Render the page.

    Parameters
    ----------
    comparison : Comparison
    folder : Path
        Where the page lies; pages of subjects are linked where they lie there too.
    table : str
        Name of the table beside it.
    """
    first, second = comparison.first, comparison.second
    worst = sorted((each for each in comparison.measured if each.dice is not None), key=lambda each: each.dice or 0.0)
    totals = [each for each in worst if each.structure == TOTAL]
    return render(
        "comparison.html.j2",
        title=f"{_title(first, second)} and {_title(second, first)}",
        first=first,
        second=second,
        same_folder=first.output_dir == second.output_dir,
        n_scans=comparison.n_scans,
        agreements=[(_name(each.hemisphere, each.structure), each) for each in comparison.agreements],
        plots=[_plot(each, comparison.measured) for each in comparison.agreements],
        worst=[_line(each, first, folder) for each in totals[:MAX_LISTED]],
        n_worst=len(totals),
        unmatched=comparison.unmatched[:MAX_LISTED],
        n_unmatched=len(comparison.unmatched),
        table=table,
        has_group=(folder / "group_volumes.html").exists(),
        citation=citation_link(folder),
    )


def _title(side: Side, other: Side) -> str:
    """Name a side so that both differ."""
    if side.model != other.model:
        return side.model
    return side.segmentation if side.segmentation != other.segmentation else f"{side.model} in {side.output_dir.name}"


def _name(hemisphere: str, structure: str) -> str:
    side = SIDE_NAMES[hemisphere].capitalize()
    return f"{side}, all structures" if structure == TOTAL else f"{side} {structure}"


def _line(each: Measured, side: Side, folder: Path) -> Line:
    page = Path(f"{each.participant_id}.html")
    is_here = side.output_dir == folder and (folder / page).exists()
    href = f"{link_to(page)}#{anchor(each.scan, side.model, side.segmentation)}" if is_here else None
    return Line(each, _name(each.hemisphere, each.structure), href)


def _plot(agreement: Agreement, measured: Sequence[Measured]) -> Plot:
    """Lay out a plot of one structure."""
    of_it = [
        (each, (each.first + each.second) / 2, each.second - each.first)
        for each in measured
        if (each.hemisphere, each.structure) == (agreement.hemisphere, agreement.structure)
        and each.first is not None
        and each.second is not None
    ]
    means, differences = np.array([mean for _, mean, _ in of_it]), np.array([change for *_, change in of_it])
    low, high = agreement.limits
    least = MIN_SPAN * max(float(means.mean()), 1.0)
    x_from, x_to = _span(float(means.min()), float(means.max()), least)
    y_from, y_to = _span(min(float(differences.min()), low), max(float(differences.max()), high), least)

    def across(value: float) -> float:
        return round(LEFT + (value - x_from) / (x_to - x_from) * (WIDTH - LEFT - RIGHT), 1)

    def up(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - y_from) / (y_to - y_from) * (HEIGHT - TOP - BOTTOM), 1)

    outside = (differences < low) | (differences > high)
    dots = tuple(
        Dot(across(of_it[place][1]), up(of_it[place][2]), of_it[place][0].scan, _said(of_it[place][0]), bool(out))
        for place, out in ((place, outside[place]) for place in _shown(outside, differences))
    )
    name = _name(agreement.hemisphere, agreement.structure)
    words = f"{name}: difference over mean volume, bias {agreement.bias:.1f} mm³, limits {low:.1f} to {high:.1f} mm³"
    return Plot(
        title=name,
        words=words,
        dots=dots,
        bias=up(agreement.bias),
        low=up(low),
        high=up(high),
        zero=up(0.0) if y_from < 0 < y_to else None,
        x_ticks=tuple((across(value), f"{value:g}") for value in _ticks(x_from, x_to)),
        y_ticks=tuple((up(value), f"{value:g}") for value in _ticks(y_from, y_to)),
        n_hidden=len(of_it) - len(dots),
    )


def _said(each: Measured) -> str:
    dice = "n/a" if each.dice is None else f"{each.dice:.3f}"
    return f"{each.scan}: {each.first:.0f} and {each.second:.0f} mm³, Dice {dice}"


def _shown(outside: np.ndarray, differences: np.ndarray) -> list[int]:
    """Choose all points, or those outside of the limits, the farthest first, and an even choice of the others."""
    if len(outside) <= MAX_POINTS:
        return list(range(len(outside)))
    far = np.flatnonzero(outside)
    far = far[np.argsort(-np.abs(differences[far]), kind="stable")][: MAX_POINTS // 2]
    even = np.linspace(0, len(outside) - 1, MAX_POINTS - len(far)).round().astype(int)
    return sorted({*far.tolist(), *even.tolist()})


def _span(low: float, high: float, least: float) -> tuple[float, float]:
    """Widen a range by a margin, and to what a few like values need."""
    span = max(1.12 * (high - low), least)
    middle = (low + high) / 2
    return middle - span / 2, middle + span / 2


def _ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers between two values.

    >>> _ticks(-48.0, 130.0)
    [0.0, 50.0, 100.0]
    """
    rough = (high - low) / 4
    magnitude = 10.0 ** np.floor(np.log10(rough))
    step = magnitude * next(m for m in (1, 2, 5, 10) if m * magnitude >= rough)
    return [float(round(value, 10)) + 0.0 for value in np.arange(np.ceil(low / step) * step, high, step)]

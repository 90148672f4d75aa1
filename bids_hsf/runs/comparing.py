"""Set two models side by side: which ones, on which scans, and what is written of it."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_hsf.bids.derivatives import each_derivative, result_tables
from bids_hsf.bids.group_table import plain_cell, write_lines
from bids_hsf.cohort.comparison import Measured, Side, agreements, compare_scan, sides_of
from bids_hsf.errors import BidsHsfError, NoInputError, UsageError
from bids_hsf.files import write_json, write_text
from bids_hsf.reports.comparison import Comparison, Unmatched, comparison_page

logger = logging.getLogger(__name__)

DESCRIPTIONS = {
    "participant_id": "Participant, with sub-",
    "session_id": "Session, with ses-",
    "scan": "Name of the scan: its BIDS entities and suffix",
    "hemisphere": "L for left, R for right; n/a where the scan could not be compared",
    "structure": "Abbreviation of the structure; total for all of a hemisphere",
    "dice": "Dice coefficient of both label maps, 0 to 1; n/a where both are empty",
    "first_mm3": "Volume by the first model",
    "second_mm3": "Volume by the second model",
    "difference_mm3": "Second minus first volume",
    "difference_percent": "Difference over the mean of both volumes, in per cent",
    "reason": "Why the scan could not be compared",
}


@dataclass(frozen=True)
class Asked:
    """What is to be compared.

    Attributes
    ----------
    output_dirs : tuple of Path
        One folder with two models, or two folders.
    models : tuple of str
        Names of the two models, or ``seg-`` entities; empty where there is no choice.
    destination : Path or None
        Folder of what is written; None for the first of `output_dirs`.
    """

    output_dirs: tuple[Path, ...]
    models: tuple[str, ...] = ()
    destination: Path | None = None


def compare(asked: Asked) -> Path:
    """Compare two models scan by scan; returns the path of the page, beside which lie the table and its dictionary.

    Raises
    ------
    NoInputError
        A folder holds no results, or the models have no scan in common.
    UsageError
        It is not clear which two models are meant; the message lists them.
    """
    first, second = _choose(asked)
    if first.segmentation == second.segmentation and first.output_dir.resolve() == second.output_dir.resolve():
        raise UsageError(
            f"{first.model} in {first.output_dir} would be compared with itself",
            "Give the folder of another run, or name another model by --models.",
        )
    measured: list[Measured] = []
    unmatched = list(_alone(first, second))
    shared = [scan for scan in first.results if scan in second.results]
    for scan in shared:
        try:
            measured += compare_scan(scan, first.results[scan], second.results[scan])
        except BidsHsfError as error:
            logger.warning("%s is not compared: %s", scan, error.message)
            unmatched.append(Unmatched(scan, error.message))
    if not measured:
        raise NoInputError(
            f"No scan can be compared: {first.model} has {len(first.results)}, {second.model} {len(second.results)}, "
            f"{len(shared)} in common",
            "Run both models on the same scans.",
        )
    comparison = Comparison(first, second, tuple(measured), tuple(agreements(measured)), tuple(unmatched))
    folder = asked.destination or first.output_dir
    stem = folder / f"group_comparison_{first.segmentation}_{second.segmentation}"
    table = stem.with_name(f"{stem.name}.tsv")
    write_lines(table, _lines(comparison))
    write_json(table.with_suffix(".json"), {name: {"Description": text} for name, text in DESCRIPTIONS.items()})
    page = table.with_suffix(".html")
    write_text(page, comparison_page(comparison, folder, table.name))
    n_compared = len({each.scan for each in measured})
    logger.info("%d scan(s) compared, %d not -> %s", n_compared, len(unmatched), page)
    return page


def _lines(comparison: Comparison) -> Iterable[str]:
    yield "\t".join(DESCRIPTIONS)
    for each in comparison.measured:
        cells = (each.participant_id, each.session_id, each.scan, each.hemisphere, each.structure, each.dice)
        values = (each.first, each.second, each.difference, each.percent, None)
        yield "\t".join(map(plain_cell, (*cells, *values)))
    for other in comparison.unmatched:
        results = comparison.first.results.get(other.scan) or comparison.second.results[other.scan]
        head = (results.participant_id, results.session_id, other.scan)
        yield "\t".join(map(plain_cell, (*head, *[None] * 7, other.reason)))


def _alone(first: Side, second: Side) -> Iterable[Unmatched]:
    """Name the scans that one side alone has."""
    for side, other in ((first, second), (second, first)):
        for scan in side.results:
            if scan not in other.results:
                yield Unmatched(scan, _why_alone(scan, side, other))


def _why_alone(scan: str, side: Side, other: Side) -> str:
    """Say why one side alone has a scan: the other one's may be there, but not whole."""
    is_one_folder = side.output_dir == other.output_dir
    if scan in other.faults:
        where = "" if is_one_folder else f" in {other.output_dir}"
        logger.warning("%s is not compared: by %s%s it is not whole: %s", scan, other.model, where, other.faults[scan])
        return f"by {other.model}{where} it is not whole: {other.faults[scan]}"
    return f"only by {side.model}" + ("" if is_one_folder else f" in {side.output_dir}")


def _choose(asked: Asked) -> tuple[Side, Side]:
    """Find the two sides that are meant."""
    known = [_sides(folder) for folder in asked.output_dirs]
    if len(known) == 1:
        (sides,) = known
        if asked.models:
            return _named(sides, asked.models[0]), _named(sides, asked.models[-1])
        if len(sides) != 2:
            held = "one model alone" if len(sides) == 1 else f"{len(sides)} models"
            hint = "Give a second folder." if len(sides) == 1 else "Say which two by --models."
            raise UsageError(f"{asked.output_dirs[0]} holds {held}: {_listed(sides)}", hint)
        return sides[0], sides[1]
    if asked.models:
        return _named(known[0], asked.models[0]), _named(known[1], asked.models[-1])
    if len(known[0]) == len(known[1]) == 1:
        return known[0][0], known[1][0]
    names = [{(side.model, side.segmentation): side for side in sides} for sides in known]
    common = [name for name in names[0] if name in names[1]]
    if len(common) != 1:
        held = "; ".join(f"{folder}: {_listed(sides)}" for folder, sides in zip(asked.output_dirs, known, strict=True))
        raise UsageError(f"It is not clear which models are to be compared: {held}", "Say which two by --models.")
    return names[0][common[0]], names[1][common[0]]


def _sides(folder: Path) -> list[Side]:
    if not folder.is_dir():
        raise NoInputError(
            f"The output folder does not exist: {folder}", "Check the path, and in a container the mount."
        )
    sides = sides_of(folder, each_derivative(result_tables(folder), folder))
    if not sides:
        raise NoInputError(f"No finished scan in {folder}", "Run the participant level first.")
    return sides


def _named(sides: Sequence[Side], name: str) -> Side:
    """Side by the name of its model, or by its ``seg-`` entity where a model has several."""
    fitting = [side for side in sides if name == side.segmentation] or [side for side in sides if name == side.model]
    if len(fitting) == 1:
        return fitting[0]
    what = "is not one of" if not fitting else "is several of"
    hint = f"Name one by its seg- label, such as {fitting[0].segmentation}." if fitting else None
    raise UsageError(f"--models {name} {what} those in {sides[0].output_dir}: {_listed(sides)}", hint)


def _listed(sides: Sequence[Side]) -> str:
    return ", ".join(f"{side.model} (seg-{side.segmentation}, {len(side.results)} scans)" for side in sides)

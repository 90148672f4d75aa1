"""The contact sheet: all scans with small pictures, the worst first, to be rated; from ``group_volumes.tsv`` alone.

The page holds what is known of each scan as data, and its script makes the cards of one page at a time: a hundred
thousand scans are a few megabytes. Ratings stay in the reader's browser until they are exported as ``qc.tsv``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bids_hsf.bids.group_table import GroupRow
from bids_hsf.bids.names import outputs_of_key
from bids_hsf.bids.tables import MISSING
from bids_hsf.files import write_text
from bids_hsf.findings import WEIGHTS, Weight
from bids_hsf.labels import HEMISPHERES
from bids_hsf.reports.cohort import Cohort, short_heading
from bids_hsf.reports.pages import citation_link, data_block, natural_order, render
from bids_hsf.segmentation.volumes import asymmetry_index

PAGE = "review.html"
DONE, MISSED = "done", "missing"
RATINGS = ("good", "usable", "exclude")
SCRIPTS = ("ratings.js", "review.js")
KEYS = (
    ("→ j", "next scan"),
    ("← k", "previous scan"),
    ("↓ ↑", "scan below, above"),
    ("g u x", "rate good, usable, exclude, and go to the next scan"),
    ("0", "take the rating back"),
    ("c", "write a comment; Enter ends it"),
    ("e", "enlarge, and back"),
    ("v", "next view of the enlarged scan: outlines, uncertainty, localization, scan alone"),
    ("o", "open the subject's page"),
)
# What is filtered by, with its heading; "" is not offered.
MAX_CHOICES = 40


@dataclass(frozen=True)
class Card:
    """One scan of the contact sheet.

    Attributes
    ----------
    row : GroupRow
    cells : mapping of str to str
        The same row as the file has it, with columns that are others'.
    stem : str
        Name of its files, without suffix.
    remark : str
        Findings, and what lies far from the others' in the table.
    weight : str
        Of the heaviest among them; "none" where there are none.
    distance : float
        Largest robust z of a volume.
    """

    row: GroupRow
    cells: Mapping[str, str]
    stem: str
    remark: str
    weight: str
    distance: float

    @property
    def status(self) -> str:
        """What became of the scan: "done", or why it has no result."""
        return _text(self.cells, "status") or DONE

    @property
    def dice(self) -> float | None:
        """Expected Dice of the worse side."""
        return min((value for value in self.row.predicted_dice.values() if value is not None), default=None)

    @property
    def rank(self) -> tuple[Any, ...]:
        """Sort key, worst first: failures, then by weight, expected quality and distance; missing scans last."""
        stage = {DONE: 1, MISSED: 2}.get(self.status, 0)
        heaviness = -WEIGHTS.index(Weight(self.weight)) if self.weight in WEIGHTS else 1
        quality = 1.0 if self.dice is None else self.dice
        return stage, heaviness, quality, -self.distance, natural_order(self.row.scan), self.row.model


def write_review(output_dir: Path, cohort: Cohort) -> Path:
    """Write ``review.html``; returns its path."""
    path = output_dir / PAGE
    write_text(path, review_page(output_dir, cohort))
    return path


def review_page(output_dir: Path, cohort: Cohort) -> str:
    """Render the contact sheet of all scans."""
    cards = sorted(_cards(output_dir, cohort), key=lambda card: card.rank)
    counts = {
        "scans": len(cards),
        "subjects": len({card.row.participant_id for card in cards}),
        "flagged": sum(card.weight in (Weight.CHECK, Weight.FAIL) for card in cards),
    }
    return render(
        "review.html.j2",
        scripts=SCRIPTS,
        title="Review",
        counts=counts,
        keys=KEYS,
        scans=data_block(_data(cards, cohort)),
        citation=citation_link(output_dir),
    )


def _cards(output_dir: Path, cohort: Cohort) -> Iterable[Card]:
    """Make one card for each scan and model: maps of joined labels, or of its parts, are the same segmentation."""
    volumes, seen = cohort.volumes, set()
    outlying = volumes.outlying
    for index, (row, cells) in enumerate(zip(volumes.rows, cohort.cells, strict=True)):
        if (row.scan, row.model) in seen:
            continue
        seen.add((row.scan, row.model))
        far = ", ".join(
            f"{short_heading(volumes.names[place])} (robust z {volumes.scores[index, place]:.1f})"
            for place in np.flatnonzero(outlying[index])
        )
        parts = (_text(cells, "status_reason"), row.findings, far and f"far from the others: {far}")
        remark = "; ".join(part for part in parts if part)
        weight = row.worst_finding or "none"
        if far and weight != Weight.FAIL:
            weight = Weight.CHECK
        if _text(cells, "status") not in ("", DONE, MISSED):
            weight = Weight.FAIL
        stem = row.scan
        if stem.startswith("sub-"):
            stem = outputs_of_key(output_dir, row.scan, row.segmentation or "").figure_stem.rpartition("/")[2]
        yield Card(row, cells, stem, remark, str(weight), float(np.abs(volumes.scores[index]).max(initial=0)))


def _data(cards: Sequence[Card], cohort: Cohort) -> dict[str, Any]:
    """Collect what the script needs: columns with one value a card, and columns of few values by their number."""
    totals = [[card.row.totals.get(side) for side in HEMISPHERES] for card in cards]
    texts = {
        "scan": [card.row.scan for card in cards],
        "stem": [card.stem for card in cards],
        "remark": [card.remark for card in cards],
    }
    numbers = {
        "left": [_rounded(left, 0) for left, _ in totals],
        "right": [_rounded(right, 0) for _, right in totals],
        "asymmetry": [_rounded(_asymmetry(left, right), 1) for left, right in totals],
        "dice": [_rounded(card.dice, 2) for card in cards],
    }
    known = {name: values for name, values in numbers.items() if any(value is not None for value in values)}
    choices = {
        "model": ("Model", [card.row.model for card in cards]),
        "session": ("Session", [card.row.session_id or "" for card in cards]),
        "contrast": ("Contrast", [card.row.scan.rpartition("_")[2] for card in cards]),
        "segmentation": ("", [card.row.segmentation or "" for card in cards]),
        "weight": ("", [card.weight for card in cards]),
        "status": ("", [card.status for card in cards]),
    }
    for name in cohort.groups:
        values = [_text(card.cells, name) for card in cards]
        if 1 < len(set(values)) <= MAX_CHOICES:
            choices[f"other {name}"] = (name.replace("_", " ").capitalize(), values)
    return {
        "columns": texts | known,
        "choices": {name: {"title": title, **_coded(values)} for name, (title, values) in choices.items()},
        "ratings": [[number, *_rating(card.cells)] for number, card in enumerate(cards) if any(_rating(card.cells))],
    }


def _rating(cells: Mapping[str, str]) -> tuple[str, str, str]:
    """Rating, comment and when it was given, of a scan that was rated before."""
    rating = _text(cells, "qc")
    return rating if rating in RATINGS else "", _text(cells, "qc_comment"), _text(cells, "qc_rated_at")


def _coded(values: Sequence[str]) -> dict[str, Any]:
    """Few values, and for each card the number of its own."""
    numbers = {value: number for number, value in enumerate(sorted(set(values)))}
    return {"values": list(numbers), "codes": [numbers[value] for value in values]}


def _text(cells: Mapping[str, str], name: str) -> str:
    found = cells.get(name) or ""
    return "" if found == MISSING else found


def _asymmetry(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else asymmetry_index(left, right)


def _rounded(value: float | None, digits: int) -> float | None:
    if value is None:
        return None
    return round(value, digits) if digits else round(value)

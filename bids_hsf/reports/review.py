"""The contact sheet: all scans with small pictures, the worst first, to be rated; from ``group_volumes.tsv`` alone.

The page holds what is known of each scan as data, and its script makes the cards of one page at a time: a hundred
thousand scans are a few megabytes. Ratings stay in the reader's browser until they are exported as ``qc.tsv``.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_hsf.bids.group_table import total_column
from bids_hsf.bids.names import outputs_of_key
from bids_hsf.bids.ratings import RATINGS, comment_of
from bids_hsf.files import write_text
from bids_hsf.findings import WEIGHTS, Weight
from bids_hsf.labels import HEMISPHERES
from bids_hsf.reports.cohort import DONE, MISSED, Cohort, FloatArray
from bids_hsf.reports.pages import citation_link, data_block, render
from bids_hsf.text_table import natural_order

PAGE = "review.html"
SCRIPTS = ("keys.js", "ratings.js", "review.js")
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


def write_review(output_dir: Path, cohort: Cohort) -> Path:
    """Write ``review.html``; returns its path."""
    path = output_dir / PAGE
    write_text(path, review_page(output_dir, cohort))
    return path


def review_page(output_dir: Path, cohort: Cohort) -> str:
    """Render the contact sheet of all scans."""
    rows = _worst_first(cohort)
    participants, flagged = cohort.table.texts("participant_id"), cohort.flagged
    counts = {
        "scans": len(rows),
        "subjects": len({participants[row] for row in rows}),
        "flagged": sum(bool(flagged[row]) for row in rows),
    }
    return render(
        "review.html.j2",
        scripts=SCRIPTS,
        title="Review",
        counts=counts,
        keys=KEYS,
        scans=data_block(_data(cohort, rows)),
        citation=citation_link(output_dir),
    )


def _worst_first(cohort: Cohort) -> list[int]:
    """Sort scans: failures, then by weight, expected quality and distance from the others; missing ones come last.

    Maps of joined labels, or of head, body and tail, are the same segmentation as the first one of scan and model.
    """
    scans, models = cohort.scans, cohort.table.texts("model")
    first: dict[tuple[str, str | None], int] = {}
    for row, key in enumerate(zip(scans, models, strict=True)):
        first.setdefault(key, row)
    stages = [{DONE: 1, MISSED: 2}.get(status, 0) for status in cohort.statuses]
    heaviness = [-WEIGHTS.index(Weight(weight)) if weight in WEIGHTS else 1 for weight in cohort.weights]
    quality = np.nan_to_num(expected_dice(cohort), nan=1.0)
    distance = np.nan_to_num(cohort.table.numbers("outlier_score"))

    def rank(row: int) -> tuple[Any, ...]:
        return stages[row], heaviness[row], quality[row], -distance[row], natural_order(scans[row]), models[row] or ""

    return sorted(first.values(), key=rank)


def expected_dice(cohort: Cohort) -> FloatArray:
    """Take the expected Dice of the worse side of each scan, (N,); NaN where nothing is expected."""
    sides = [cohort.table.numbers(f"{side}_predicted_dice") for side in HEMISPHERES]
    return np.fmin(*sides)


def _data(cohort: Cohort, rows: Sequence[int]) -> dict[str, Any]:
    """Collect what the script needs: columns with one value a card, and columns of few values by their number."""
    table = cohort.table
    scans, remarks, weights, statuses = cohort.scans, cohort.remarks, cohort.weights, cohort.statuses
    segmentations = table.texts("segmentation")
    left, right = (table.numbers(total_column(side)) for side in HEMISPHERES)
    with np.errstate(invalid="ignore", divide="ignore"):
        asymmetry = 200 * (left - right) / (left + right)
    numbers = {"left": (left, 0), "right": (right, 0), "asymmetry": (asymmetry, 1), "dice": (expected_dice(cohort), 2)}
    columns: dict[str, list[Any]] = {
        "scan": [scans[row] for row in rows],
        "stem": [_stem(scans[row], segmentations[row] or "") for row in rows],
        "remark": [remarks[row] for row in rows],
    }
    columns |= {
        name: [_rounded(float(values[row]), digits) for row in rows]
        for name, (values, digits) in numbers.items()
        if np.isfinite(values).any()
    }
    choices: dict[str, tuple[str, Sequence[str | None]]] = {
        "model": ("Model", table.texts("model")),
        "session": ("Session", table.texts("session_id")),
        "contrast": ("Contrast", [scan.rpartition("_")[2] for scan in scans]),
        "segmentation": ("", segmentations),
        "weight": ("", weights),
        "status": ("", statuses),
    }
    for name, values in cohort.groups.items():
        choices[f"other {name}"] = (name.replace("_", " ").capitalize(), values)
    coded = {
        name: {"title": title, **_coded([values[row] or "" for row in rows])}
        for name, (title, values) in choices.items()
    }
    return {"columns": columns, "choices": coded, "ratings": list(_ratings(cohort, rows))}


def _stem(scan: str, segmentation: str) -> str:
    """Name of the files of a scan, without suffix."""
    if not scan.startswith("sub-"):
        return scan
    return outputs_of_key(Path(), scan, segmentation).figure_stem.rpartition("/")[2]


def _ratings(cohort: Cohort, rows: Sequence[int]) -> Iterator[tuple[int, str, str, str]]:
    """Find what was said of scans before: number of the card, rating, comment, and when."""
    ratings, comments, times = (cohort.table.texts(name) for name in ("qc", "qc_comment", "qc_rated_at"))
    for number, row in enumerate(rows):
        rating = ratings[row] if ratings[row] in RATINGS else ""
        if rating or comments[row]:
            yield number, rating or "", comment_of(comments[row] or ""), times[row] or ""


def _coded(values: Sequence[str]) -> dict[str, Any]:
    """Few values, and for each card the number of its own."""
    numbers = {value: number for number, value in enumerate(sorted(set(values)))}
    return {"values": list(numbers), "codes": [numbers[value] for value in values]}


def _rounded(value: float, digits: int) -> float | None:
    if not math.isfinite(value):
        return None
    return round(value, digits) if digits else round(value)

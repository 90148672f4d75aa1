"""Ratings of scans by those who looked at them: ``qc.tsv``, as the review page exports it.

A spreadsheet may have saved it since: then semicolons or commas may part the columns, and the letters be Windows's.
It takes a comment that begins as a formula does for one, and computes it: such a comment stands behind an apostrophe in
every file. `templates/ratings.js` reads and writes the same files in the browser.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_hsf.bids.group_table import GroupTable
from bids_hsf.bids.tables import MISSING, separator_of
from bids_hsf.errors import NoInputError, UsageError
from bids_hsf.files import read_foreign_text
from bids_hsf.text_table import near

COLUMNS = ("scan", "model", "rating", "comment", "rated_at")
NEEDED = ("scan", "rating")
GOOD, USABLE, EXCLUDE = RATINGS = ("good", "usable", "exclude")
MAX_BYTES = 256 << 20
FORMULA_SIGNS = ("=", "+", "-", "@")
WORKBOOK = "PK\x03"  # a ZIP archive, as .xlsx and .ods are


@dataclass(frozen=True)
class Rating:
    """What somebody said of a scan.

    Attributes
    ----------
    rating : str
        "good", "usable" or "exclude"; "" of a scan that has a comment alone.
    comment : str
    line : int
        Of the file.
    at : str
        When, as the file says; "" where it does not.
    """

    rating: str
    comment: str
    line: int
    at: str = ""


@dataclass(frozen=True)
class Ratings:
    """Ratings by scan and model; those of a scan alone hold for it whatever the model.

    Attributes
    ----------
    path : Path
    found : mapping of (str, str) to Rating
        Scan and model, "" for any.
    """

    path: Path
    found: Mapping[tuple[str, str], Rating] = field(default_factory=dict)

    def of(self, scan: str | None, model: str | None) -> Rating | None:
        """Rating of a scan by a model."""
        return self.found.get((scan or "", model or "")) or self.found.get((scan or "", ""))

    def put_into(self, table: GroupTable) -> None:
        """Fill the columns "qc", "qc_comment" and "qc_rated_at" of a table."""
        pairs = zip(table.texts("scan"), table.texts("model"), strict=True)
        ratings = [self.of(scan, model) for scan, model in pairs]
        table.put("qc", [None if rating is None else rating.rating or None for rating in ratings])
        table.put("qc_comment", [None if rating is None else no_formula(rating.comment) or None for rating in ratings])
        table.put("qc_rated_at", [None if rating is None else rating.at or None for rating in ratings])

    def strangers(self, table: GroupTable) -> list[str]:
        """Ratings of scans or models that a table does not have, by their lines."""
        scans, models = table.texts("scan"), table.texts("model")
        known = {*zip(scans, models, strict=True), *((scan, "") for scan in scans)}
        return [
            f"{scan}{f' ({model})' if model else ''} in line {rating.line}"
            for (scan, model), rating in self.found.items()
            if (scan, model) not in known
        ]


def no_formula(comment: str) -> str:
    """Put an apostrophe before what a spreadsheet would compute.

    >>> no_formula("=1+1"), no_formula("blurred")
    ("'=1+1", 'blurred')
    """
    return f"'{comment}" if comment.startswith(FORMULA_SIGNS) else comment


def comment_of(cell: str) -> str:
    """Take a comment from its cell, without that apostrophe.

    >>> comment_of("'=1+1"), comment_of("'tis blurred")
    ('=1+1', "'tis blurred")
    """
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA_SIGNS) else cell


def read_ratings(path: Path) -> Ratings:
    """Read a file of ratings: a title line, columns parted by tabs, semicolons or commas.

    Raises
    ------
    NoInputError
        There is no such file.
    UsageError
        It cannot be read, or a line is none of a rating: the message names the file and the line.
    """
    try:
        text = read_foreign_text(path, MAX_BYTES)
        if text.startswith(WORKBOOK):
            raise UsageError(f"--ratings {path} is a workbook of a spreadsheet", "Save it as text, such as CSV.")
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator_of(text))
        names = [name.strip() for name in next(lines, [])]
        _check_title(path, names)
        return Ratings(path, _read(path, names, lines))
    except FileNotFoundError:
        raise NoInputError(f"--ratings {path}: there is no such file", "The review page exports it.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else f"it is no table ({error})"
        raise UsageError(f"--ratings {path} cannot be read: {reason}") from error


def _check_title(path: Path, names: list[str]) -> None:
    expected = f"Expected are the columns {', '.join(COLUMNS)}, parted by tabs; none but scan and rating is needed."
    absent = [name for name in NEEDED if name not in names]
    if absent:
        meant = near(absent[0], [name for name in names if name not in COLUMNS])
        raise UsageError(f"--ratings {path}, line 1: there is no column {absent[0]}", meant + expected)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"--ratings {path}, line 1: the column {twice[0]!r} stands twice", expected)
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise UsageError(
            f"--ratings {path}, line 1: unknown column {unknown[0]!r:.80}", near(unknown[0], COLUMNS) + expected
        )


def _read(path: Path, names: list[str], lines: Any) -> dict[tuple[str, str], Rating]:
    found: dict[tuple[str, str], Rating] = {}
    for cells in lines:
        place = f"--ratings {path}, line {lines.line_num}"
        if not any(cells):
            continue
        if len(cells) != len(names):
            raise UsageError(f"{place}: {len(cells)} columns, expected {len(names)} as in the title line")
        row = dict(zip(names, (cell.strip() for cell in cells), strict=True))
        scan, said = row["scan"], row["rating"].casefold()
        model = row.get("model", "").replace(MISSING, "")
        if scan in ("", MISSING):
            raise UsageError(f"{place}: the scan is missing", "Such as sub-01_T1w, as in group_volumes.tsv.")
        said = "" if said == MISSING.casefold() else said
        if said and said not in RATINGS:
            message = f"{place}: the rating of {scan} is {row['rating']!r:.80}, expected {', '.join(RATINGS)} or n/a"
            raise UsageError(message, near(said, RATINGS).strip() or None)
        comment, when = ("" if row.get(name) == MISSING else row.get(name, "") for name in ("comment", "rated_at"))
        other = found.get((scan, model))
        if (said or comment) and (other is None or not other.rating):
            found[scan, model] = Rating(said, comment_of(comment), lines.line_num, when)
        elif other is not None and said and other.rating != said:
            raise UsageError(
                f"{place}: {scan} is rated {said}, and {other.rating} in line {other.line}", "Keep one of them."
            )
    return found

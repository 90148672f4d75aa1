"""Tables as BIDS has them: of a scan's structures, and of all scans."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_hsf.bids.typed_json import NotWholeError
from bids_hsf.files import read_text, write_text
from bids_hsf.labels import HEMISPHERES, SIDE_NAMES

MISSING = "n/a"

TSV_COLUMNS: dict[str, dict[str, Any]] = {
    "index": {
        "Format": "integer",
        "Description": "Value in the label map: left k, right 100 + k, k the model's own index",
    },
    "name": {"Description": "Structure"},
    "abbreviation": {"Description": "Hemisphere and short name of the structure"},
    "color": {"Description": "Colour for display, hexadecimal RGB"},
    "mapping": {"Format": "integer", "Description": "Index in the BIDS standard label table; 1 is grey matter"},
    "hemisphere": {"Description": "Hemisphere", "Levels": SIDE_NAMES},
    "volume_mm3": {"Description": "Voxels of the label times the voxel's volume", "Units": "mm^3"},
    "volume_per_mille_eTIV": {"Description": "Volume over the estimated total intracranial volume, in thousandths"},
    "voxels": {"Description": "Voxels of the label"},
    "entropy_mean": {"Description": "Mean normalised predictive entropy over the label's voxels, 0 to 1"},
    "volume_mm3_mean": {"Description": "Mean volume over the passes of the ensemble", "Units": "mm^3"},
    "volume_mm3_sd": {"Description": "Standard deviation of the volume over the passes", "Units": "mm^3"},
    "volume_mm3_low": {"Description": "2.5th percentile of the volume over the passes", "Units": "mm^3"},
    "volume_mm3_high": {"Description": "97.5th percentile of the volume over the passes", "Units": "mm^3"},
    "volume_mm3_predicted_low": {
        "Description": "Lower end of the 95 % prediction interval of the true volume, by the model's errors where the "
        "truth is known",
        "Units": "mm^3",
    },
    "volume_mm3_predicted_high": {"Description": "Upper end of that interval", "Units": "mm^3"},
    "predicted_dice": {
        "Description": "Dice that the structure is thought to have with the truth, 0 to 1, learnt from spoilt scans"
    },
    "volume_se_sampling": {
        "Description": "Standard error of the volume that comes of the number of random views",
        "Units": "mm^3",
    },
}


INDEX = re.compile("[0-9]{1,4}")
NEEDED = ("index", "abbreviation", "hemisphere", "volume_mm3")


@dataclass(frozen=True)
class Structure:
    """One structure of one hemisphere, as a ``dseg.tsv`` tells it.

    Attributes
    ----------
    index : int
        In the label map: left k, right 100 + k.
    name : str
        Such as "Left Subiculum".
    abbreviation : str
        Such as "L_Sub".
    color : str
        "#rrggbb", as written; empty where there is none.
    hemisphere : str
        "L" or "R".
    volume_mm3 : float or None
        None for "n/a", as for all that follow.
    entropy_mean : float or None
        Mean normalised predictive entropy, 0-1.
    volume_low, volume_high : float or None
        Central 95 % of the volume over the passes, in mm3.
    predicted_low, predicted_high : float or None
        95 % prediction interval of the true volume, in mm3.
    """

    index: int
    name: str
    abbreviation: str
    color: str
    hemisphere: str
    volume_mm3: float | None
    entropy_mean: float | None = None
    volume_low: float | None = None
    volume_high: float | None = None
    predicted_low: float | None = None
    predicted_high: float | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> "Structure":
        """Read a row of the table.

        Raises
        ------
        NotWholeError
            It lacks what tells the structure, or has another thing than a number in the place of one.
        """
        for name in NEEDED:
            if name not in row:
                raise NotWholeError(f"it has no {name}")
        if not INDEX.fullmatch(row["index"]) or row["hemisphere"] not in HEMISPHERES:
            raise NotWholeError(f"its index is {row['index']!r}, its hemisphere {row['hemisphere']!r}")
        return cls(
            index=int(row["index"]),
            name=row.get("name") or MISSING,
            abbreviation=row["abbreviation"],
            color=row.get("color") or "",
            hemisphere=row["hemisphere"],
            volume_mm3=parse_number(row["volume_mm3"]),
            entropy_mean=parse_number(row.get("entropy_mean")),
            volume_low=parse_number(row.get("volume_mm3_low")),
            volume_high=parse_number(row.get("volume_mm3_high")),
            predicted_low=parse_number(row.get("volume_mm3_predicted_low")),
            predicted_high=parse_number(row.get("volume_mm3_predicted_high")),
        )


def parse_number(text: str | None) -> float | None:
    """Read a cell, whole numbers as such; None for "n/a", and where there is none.

    Raises
    ------
    NotWholeError
        It holds anything but a finite number.

    >>> parse_number("812.25"), parse_number("n/a")
    (812.25, None)
    """
    if text is None or text == MISSING:
        return None
    try:
        found = int(text) if text.isdecimal() else float(text)
        is_finite = math.isfinite(found)
    except (ValueError, OverflowError):  # a number of a thousand digits
        is_finite = False
    if not is_finite:
        raise NotWholeError(f"it has {text!r} in the place of a number")
    return found


def write_tsv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a BIDS table; None becomes "n/a"."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([MISSING if row.get(c) is None else row[c] for c in columns] for row in rows)
    write_text(path, stream.getvalue())


@contextmanager
def faults_told() -> Iterator[None]:
    """Tell in one way what keeps a table from being read; whoever asks knows what to do where there is none.

    Raises
    ------
    FileNotFoundError
        There is none, or another run has just taken it away.
    NotWholeError
        It cannot be read, is not UTF-8, or no table.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotWholeError(f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise NotWholeError("it is not UTF-8") from error
    except csv.Error as error:
        raise NotWholeError(f"it is no table ({error})") from error


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Read a BIDS table as text.

    Raises
    ------
    FileNotFoundError
        There is none, or another run has just taken it away.
    NotWholeError
        It cannot be read, or is cut short.
    """
    with faults_told():
        text = read_text(path)
        # Cut within a number, a table would still be one.
        if not text.endswith("\n"):
            raise NotWholeError("its last line does not end")
        lines = _parted(text)
    names, *rows = lines or [[]]
    if any(len(cells) != len(names) for cells in rows):
        raise NotWholeError("its lines are not of one length")
    return [dict(zip(names, cells, strict=True)) for cells in rows]


def separator_of(text: str) -> str:
    """Tell what parts the columns of a table as a spreadsheet may have saved it, by its first line; tabs in doubt."""
    title = re.split("[\r\n]", text, maxsplit=1)[0]
    return next((each for each in "\t;," if each in title), "\t")


def _parted(text: str) -> list[list[str]]:
    """Cells of the lines of a table that are not empty."""
    lines: Iterable[list[str]]
    if '"' in text or "\r" in text or "\0" in text:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    else:  # as this app writes them; a third of the time, and there may be a hundred thousand
        lines = (line.split("\t") if line else [] for line in text.split("\n"))
    return [cells for cells in lines if cells]


def read_structures(path: Path) -> list[Structure]:
    """Read the structures of a ``dseg.tsv``; raises as `read_tsv` does, and where a row is none of this app's."""
    structures = [Structure.from_row(row) for row in read_tsv(path)]
    if not structures:
        raise NotWholeError("it has no rows")
    return structures


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the lookup table of a label map."""
    write_tsv(path, list(rows[0]), rows)

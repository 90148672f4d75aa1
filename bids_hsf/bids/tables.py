"""Tables as BIDS has them: of a scan's structures, and of all scans."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_hsf.files import write_text
from bids_hsf.labels import SIDE_NAMES

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
}


def write_tsv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a BIDS table; None becomes "n/a"."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["n/a" if row.get(c) is None else row[c] for c in columns] for row in rows)
    write_text(path, stream.getvalue())


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Read a BIDS table as text; empty where there is none, or where another run has just taken it away."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream, delimiter="\t"))
    except FileNotFoundError:
        return []


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the lookup table of a label map."""
    write_tsv(path, list(rows[0]), rows)

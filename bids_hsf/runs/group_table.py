"""The group table: one row a scan, of the tables that the participant level left."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bids_hsf.segmentation.volumes import per_mille

Row = dict[str, Any]


def group_row(
    identity: Mapping[str, Any],
    structures: Iterable[Mapping[str, str]],
    etiv_mm3: float | None,
    etiv_reason: str | None = None,
) -> Row:
    """One scan's row of ``group_volumes.tsv``.

    Parameters
    ----------
    identity : mapping
        participant_id, session_id, scan, model and quality columns, which come first.
    structures : iterable of mapping
        The rows of its ``dseg.tsv``, as text.
    etiv_mm3 : float or None
        Estimated total intracranial volume.
    etiv_reason : str or None
        Why there is none.
    """
    volumes: dict[str, float] = {}
    totals: dict[str, float] = {}
    for structure in structures:
        volume = float(structure["volume_mm3"])
        volumes[structure["abbreviation"]] = volume
        totals[structure["hemisphere"]] = totals.get(structure["hemisphere"], 0.0) + volume
    row: Row = {**identity, **{f"{name}_mm3": volume for name, volume in volumes.items()}}
    for hemisphere in ("L", "R"):
        row[f"{hemisphere}_total_mm3"] = round(totals[hemisphere], 2) if hemisphere in totals else None
    row["eTIV_mm3"] = etiv_mm3
    row["eTIV_reason"] = etiv_reason
    for hemisphere in ("L", "R"):
        volumes[f"{hemisphere}_total"] = totals.get(hemisphere, np.nan)
    for name, volume in volumes.items():
        row[f"{name}_per_mille_eTIV"] = per_mille(volume, etiv_mm3)
    return row


def stack_rows(rows: Sequence[Row]) -> tuple[list[str], list[Row]]:
    """Union of the rows' columns in order of first sight, and the rows with None where one is missing."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return columns, [{name: row.get(name) for name in columns} for row in rows]

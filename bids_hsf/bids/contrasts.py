"""Contrasts of scans, by their BIDS suffix."""

from typing import Literal

PAIR = ("T1w", "T2w")


def contrast_of(suffix: str) -> Literal["T1w", "T2w"]:
    """Contrast of a scan; MP2RAGE's UNIT1 counts as T1w.

    >>> contrast_of("UNIT1"), contrast_of("T2w")
    ('T1w', 'T2w')
    """
    return "T2w" if suffix == "T2w" else "T1w"

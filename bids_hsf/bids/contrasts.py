"""Contrasts of scans, by their BIDS suffix."""

PAIR = ("T1w", "T2w")


def contrast_of(suffix: str) -> str:
    """Contrast of a scan; MP2RAGE's UNIT1 counts as T1w."""
    return "T1w" if suffix == "UNIT1" else suffix

"""What a reader of a scan's results should know: one kind of remark, the same words wherever it is shown.

Whoever measures something (the image, the location, the segmentation) says what is wrong with it as findings; they are
collected when the scan is done, and go by the sidecar to table, pages, console and status.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Weight(StrEnum):
    """How much a finding matters, least first."""

    NOTE = "note"  # read it
    CHECK = "check"  # look at the segmentation
    FAIL = "fail"  # do not use the results before somebody has looked


WEIGHTS = tuple(Weight)


@dataclass(frozen=True)
class Finding:
    """One thing about a scan that a reader of its results should know.

    Attributes
    ----------
    code : str
        Stable name of its kind, such as "localization-doubtful".
    weight : Weight
    text : str
        One sentence for people.
    figure : float or None
        What was measured.
    threshold : float or None
        What that was held against.
    hemisphere : str or None
        "L" or "R"; None for the scan.
    structure : str or None
        Abbreviation as in the table, such as "L_CA1"; None for all structures.
    """

    code: str
    weight: Weight
    text: str
    figure: float | None = None
    threshold: float | None = None
    hemisphere: str | None = None
    structure: str | None = None

    @property
    def is_flag(self) -> bool:
        """Whether somebody has to look at the scan: notes are for reading alone."""
        return self.weight is not Weight.NOTE


def heaviest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort by weight; equal weights keep their order, and what is said twice is said once."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: -WEIGHTS.index(finding.weight)))


def worst(findings: Iterable[Finding]) -> Weight | None:
    """Heaviest weight among findings; None where there are none.

    >>> worst([Finding("a", Weight.NOTE, "A."), Finding("b", Weight.FAIL, "B.")])
    <Weight.FAIL: 'fail'>
    """
    return max((finding.weight for finding in findings), key=WEIGHTS.index, default=None)


def flags(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Keep those because of which somebody has to look at the scan, heaviest first."""
    return heaviest_first(finding for finding in findings if finding.is_flag)

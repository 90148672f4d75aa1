"""Findings as sidecars have them."""

from collections.abc import Iterator
from typing import Any

from bids_hsf.bids.typed_json import Fields, NotWholeError
from bids_hsf.findings import Finding, Weight

OLD_FINDINGS = "Warnings"  # of the localization, in older versions: texts alone


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """Plain values, in the order of the file."""
    return {
        "Code": finding.code,
        "Weight": str(finding.weight),
        "Text": finding.text,
        "Figure": finding.figure,
        "Threshold": finding.threshold,
        "Hemisphere": finding.hemisphere,
        "Structure": finding.structure,
    }


def finding_from_json(fields: Fields) -> Finding:
    """Read what `finding_to_json` gives."""
    weight = fields.required("Weight")
    if weight not in set(Weight):
        raise NotWholeError(f"{fields.place}.Weight is {weight!r}, expected {', '.join(Weight)}")
    return Finding(
        code=fields.required("Code"),
        weight=Weight(weight),
        text=fields.required("Text"),
        figure=fields.number("Figure"),
        threshold=fields.number("Threshold"),
        hemisphere=fields.text("Hemisphere"),
        structure=fields.text("Structure"),
    )


def older_findings(localization: Fields) -> Iterator[Finding]:
    """Give what older versions wrote of the localization: nothing tells how much it matters."""
    for text in localization.texts(OLD_FINDINGS):
        yield Finding("warning", Weight.NOTE, text)

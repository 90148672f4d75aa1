"""Heads that cannot be."""

import numpy as np
import pytest

from bids_hsf.localization.plausibility import PlausibilitySettings, implausibilities
from bids_hsf.localization.template import load_template


def test_the_template_is_a_head() -> None:
    assert implausibilities(np.eye(4), load_template().hippocampi) == ()


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ((-1.0, 1, 1), ["the head would be a mirror image of the template"]),
        ((1.0, 1, 1.7), ["the head would be 1.00 to 1.70 times as large as the template (expected 0.65 to 1.5)"]),
        ((0.66, 1, 1), ["mm apart (expected 38 to 76 mm)"]),
        ((0.5, 1, 1), ["times as large as the template", "mm apart"]),
    ],
)
def test_what_cannot_be_a_head_is_told(scales: tuple[float, float, float], expected: list[str]) -> None:
    found = implausibilities(np.diag([*scales, 1.0]), load_template().hippocampi)
    assert len(found) == len(expected)
    for complaint, part in zip(found, expected, strict=True):
        assert part in complaint.text


def test_other_heads_may_be_asked_for() -> None:
    infants = PlausibilitySettings(stretch_range=(0.3, 1.5), distance_range_mm=(15, 76))
    assert implausibilities(np.diag([0.5, 0.5, 0.5, 1.0]), load_template().hippocampi, infants) == ()

"""The intracranial volume goes with the size of the head, and is not made up."""

import re

import numpy as np
import pytest

from bids_hsf.localization.candidates import Candidate
from bids_hsf.localization.intracranial_volume import intracranial_volume
from bids_hsf.localization.template import load_template


def candidate(scale: float = 1.0, quality: float = 1.0) -> Candidate:
    return Candidate(np.diag([scale, scale, scale, 1.0]), load_template().hippocampi, quality, ())


def test_it_is_the_templates_times_the_scale() -> None:
    template = load_template()
    volume, reason = intracranial_volume(candidate(), template.grid)
    assert reason is None
    assert volume == pytest.approx(template.brain.sum() * 8, rel=1e-6)
    smaller, _ = intracranial_volume(candidate(0.9), template.grid)
    assert smaller == pytest.approx(0.9**3 * (volume or 0))


def test_a_part_of_a_brain_has_none() -> None:
    half = load_template().grid.subgrid((0, 0, 0), (48, 115, 97))
    volume, reason = intracranial_volume(candidate(), half)
    assert volume is None
    assert re.fullmatch(r"only (4[5-9]|5[0-5])% of the brain lies in the field of view", reason or "")


def test_a_doubtful_answer_has_none() -> None:
    assert intracranial_volume(candidate(quality=0.3), load_template().grid) == (
        None,
        "the localization is doubtful",
    )

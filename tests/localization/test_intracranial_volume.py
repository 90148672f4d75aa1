"""The intracranial volume goes with the size of the head, is checked against it, and is not made up."""

import re

import numpy as np
import pytest
from scipy import ndimage

from bids_hsf.geometry import Grid
from bids_hsf.localization.candidates import Candidate
from bids_hsf.localization.intracranial_volume import intracranial_volume
from bids_hsf.localization.reduced_scan import ReducedScan
from bids_hsf.localization.search import scaled
from bids_hsf.localization.template import BRAIN_CENTER, load_template

TEMPLATE_MM3 = float(load_template().brain.sum()) * 8


def scan(scale: float = 1.0) -> ReducedScan:
    """The template's head, larger or smaller."""
    grid = load_template().grid
    return ReducedScan.of(load_template().t1w, Grid(grid.shape, np.diag([scale, scale, scale, 1.0]) @ grid.affine))


def candidate(scale: float = 1.0, quality: float = 1.0) -> Candidate:
    return Candidate(np.diag([scale, scale, scale, 1.0]), load_template().hippocampi, quality, ())


@pytest.mark.parametrize("scale", [1.0, 0.9])
def test_it_is_the_templates_times_the_scale(scale: float) -> None:
    volume, reason = intracranial_volume(candidate(scale), scan(scale))
    assert reason is None
    assert volume == pytest.approx(scale**3 * TEMPLATE_MM3, rel=0.01)


@pytest.mark.parametrize("wrong", [0.9, 1.01, 1.1, 1.25])
def test_the_head_itself_decides_what_the_hippocampi_cannot_tell(wrong: float) -> None:
    """Around them, a head of another size fits nearly as well."""
    matrix = scaled(np.diag([0.95, 0.95, 0.95, 1.0]), BRAIN_CENTER, wrong)
    found = Candidate(matrix, load_template().hippocampi, 0.8, ())
    volume, reason = intracranial_volume(found, scan(0.95))
    assert reason is None
    assert volume == pytest.approx(0.95**3 * TEMPLATE_MM3, rel=0.02)


@pytest.mark.parametrize(("scale", "litres"), [(1.15, r"2\.8\d"), (0.72, r"0\.7\d")])
def test_no_head_is_of_such_a_size(scale: float, litres: str) -> None:
    volume, reason = intracranial_volume(candidate(scale), scan(scale))
    assert volume == pytest.approx(scale**3 * TEMPLATE_MM3, rel=0.05)
    assert re.fullmatch(rf"{litres} l is no size of a head \(expected 0.8 to 2.3 l\)", reason or "")


def test_what_is_not_steady_has_none() -> None:
    """Noise has no border that a fit could come back to."""
    template = load_template()
    noise = np.random.default_rng(0).normal(100, 30, template.grid.shape)
    data = ndimage.gaussian_filter(noise, 2).astype(np.float32)
    volume, reason = intracranial_volume(candidate(0.95), ReducedScan.of(data, template.grid))
    assert volume is None
    assert "is not steady" in (reason or "")


def test_a_part_of_a_brain_has_none() -> None:
    template = load_template()
    half = ReducedScan.of(template.t1w[:48], template.grid.subgrid((0, 0, 0), (48, 115, 97)))
    volume, reason = intracranial_volume(candidate(), half)
    assert volume is None
    assert re.fullmatch(r"only (4[5-9]|5[0-5])% of the brain lies in the field of view", reason or "")


def test_a_doubtful_answer_has_none() -> None:
    assert intracranial_volume(candidate(quality=0.3), scan()) == (None, "the localization is doubtful")

"""Where to look for a head, and whom to believe."""

from dataclasses import replace

import numpy as np
import pytest
from heads import boxes, head, upright

from bids_hsf.geometry import Grid
from bids_hsf.localization.intensities import Intensities
from bids_hsf.localization.location import DOUBTFUL_QUALITY
from bids_hsf.localization.reduced_scan import ReducedScan
from bids_hsf.localization.strategy import RETRY_QUALITY, best_candidate, brain_targets
from bids_hsf.localization.template import BRAIN_CENTER


@pytest.fixture(scope="module")
def colin() -> ReducedScan:
    scan = head("colin27")
    return ReducedScan.of(scan.data, scan.grid)


def test_a_good_reference_is_followed(colin: ReducedScan) -> None:
    nearby = np.eye(4)
    nearby[:3, 3] = (1, 0, -1)
    reference = upright("colin27").moved(nearby)
    found = best_candidate(colin, True, reference)
    np.testing.assert_array_equal(found.scan_from_template, reference.scan_from_template)
    assert found.hippocampi is reference.hippocampi


def test_a_reference_without_places_lets_the_scan_find_them(colin: ReducedScan) -> None:
    reference = replace(upright("colin27"), hippocampi={})
    found = best_candidate(colin, True, reference)
    for side, points in upright("colin27").hippocampi.items():
        np.testing.assert_array_equal(found.hippocampi[side], points)


def test_a_bad_reference_is_not_followed(colin: ReducedScan) -> None:
    wrong = np.eye(4)
    wrong[:3, 3] = (30, 20, -20)
    found = best_candidate(colin, True, upright("colin27").moved(wrong))
    np.testing.assert_allclose(found.scan_from_template, upright("colin27").scan_from_template)


def test_a_bad_reference_is_better_than_a_poor_search() -> None:
    noise = np.random.default_rng(0).normal(100, 10, (40, 40, 40)).astype(np.float32)
    scan = ReducedScan.of(noise, Grid(noise.shape, np.diag([4.0, 4.0, 4.0, 1.0]) - np.eye(4, k=3) * 80))
    reference = upright("colin27")
    found = best_candidate(scan, True, reference)
    assert found.quality < DOUBTFUL_QUALITY < RETRY_QUALITY
    np.testing.assert_array_equal(found.scan_from_template, reference.scan_from_template)


def test_somebodys_hippocampi_are_one_more_place_to_look(colin: ReducedScan) -> None:
    found = best_candidate(colin, True, own=boxes())
    for side in ("L", "R"):
        assert np.linalg.norm(found.middle(side) - boxes()[side].mean(axis=0)) < 15


def test_the_brain_is_looked_for_where_its_middle_may_be() -> None:
    scan = head("colin27")
    targets = brain_targets(Intensities(scan.data, scan.grid))
    assert targets.shape == (4, 3)
    assert np.linalg.norm(targets - BRAIN_CENTER, axis=1).max() < 60
    np.testing.assert_array_equal(targets[3], BRAIN_CENTER)


def test_without_a_foreground_the_middle_of_the_image_is_still_tried() -> None:
    dark = Intensities(np.zeros((11, 11, 11), dtype=np.float32), Grid((11, 11, 11), np.diag([2.0, 2.0, 2.0, 1.0])))
    np.testing.assert_allclose(brain_targets(dark)[2], 10.0)

"""A part of a phantom looks for its own place."""

from dataclasses import replace

import numpy as np
from blobs import CENTER, blob, metric_of, moved

from bids_hsf.localization.pattern_search import HIPPOCAMPUS_PATTERN, pattern_search


def test_a_part_finds_its_own_place_and_no_far_one() -> None:
    template = blob(voxel_mm=2.0)
    for shift_mm, found_mm in ((5.0, 5.0), (30.0, 9.0)):
        away = np.eye(4)
        away[1, 3] = shift_mm
        metric = metric_of(template, moved(template, away))
        place = pattern_search(metric, np.eye(4), CENTER)
        moved_by = place[:3, :3] @ CENTER + place[:3, 3] - CENTER
        assert np.abs(moved_by).max() <= 9 + 1e-9
        if shift_mm == found_mm:
            np.testing.assert_allclose(moved_by, [0, shift_mm, 0], atol=1.6)


def test_a_part_that_is_in_place_does_not_move() -> None:
    template = blob(voxel_mm=2.0)
    np.testing.assert_array_equal(pattern_search(metric_of(template, template), np.eye(4), CENTER), np.eye(4))


def test_moves_have_a_price() -> None:
    template = blob(voxel_mm=2.0)
    away = np.eye(4)
    away[1, 3] = 5.0
    dear = replace(HIPPOCAMPUS_PATTERN, penalty=100.0)
    metric = metric_of(template, moved(template, away))
    np.testing.assert_array_equal(pattern_search(metric, np.eye(4), CENTER, dear), np.eye(4))


def test_a_pattern_holds_all_neighbours_and_no_step() -> None:
    pattern = HIPPOCAMPUS_PATTERN.pattern
    assert pattern.shape == (39, 9)
    assert len(np.unique(pattern, axis=0)) == 39
    np.testing.assert_array_equal(pattern[0], 0)
    np.testing.assert_allclose(np.abs(pattern).max(axis=0), np.repeat(HIPPOCAMPUS_PATTERN.steps, 3))

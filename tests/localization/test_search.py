"""The evolution strategy, on phantoms whose answers are known."""

from dataclasses import replace

import numpy as np
from blobs import CENTER, blob, metric_of, moved

from bids_hsf.localization.search import (
    HEAD_SEARCH,
    StartSettings,
    cube_rotations,
    search,
    start_matrices,
    turned,
)


def test_there_are_24_rotations_of_a_cube() -> None:
    rotations = cube_rotations()
    assert len(np.unique(rotations, axis=0)) == 24
    np.testing.assert_array_equal(rotations[0], np.eye(3))
    np.testing.assert_allclose(np.linalg.det(rotations), 1)


def test_turning_keeps_the_centre() -> None:
    rng = np.random.default_rng(0)
    matrices = start_matrices(CENTER, np.array([[1.0, 2.0, 3.0]]), cube_rotations()[3:4])
    steps = np.concatenate([np.zeros((len(matrices), 3)), rng.normal(0, 20, (len(matrices), 3))], axis=1)
    after = turned(matrices, CENTER, np.pad(steps, ((0, 0), (0, 1)), constant_values=np.log(1.3)))
    at = after[:, :3, :3] @ CENTER + after[:, :3, 3]
    np.testing.assert_allclose(at, np.tile([1.0, 2.0, 3.0], (len(at), 1)), atol=1e-9)
    intensities = np.linalg.det(after[:, :3, :3]) / np.linalg.det(matrices[:, :3, :3])
    np.testing.assert_allclose(intensities, 1.3**3)


def test_search_finds_a_turned_and_shifted_head() -> None:
    template = blob()
    step = np.array([[25.0, -18.0, 12.0, 20.0, -12.0, 15.0, 0.05]])
    truth = turned(np.eye(4)[None], CENTER, step)[0]
    metric = metric_of(template, moved(template, truth))
    starts = start_matrices(CENTER, CENTER[None] + 8.0, cube_rotations()[:1])
    found = search(metric, starts, CENTER, 0)
    corners = CENTER + np.array([[60.0, 0, 0], [0, 60, 0], [0, 0, 60]])
    errors = (found - truth)[:3, :3] @ corners.T + (found - truth)[:3, 3:]
    assert np.linalg.norm(errors, axis=0).max() < 8
    np.testing.assert_array_equal(found, search(metric, starts, CENTER, 0))


def test_a_search_without_scale_stays_rigid() -> None:
    template = blob()
    truth = turned(np.eye(4)[None], CENTER, np.array([[4.0, -3.0, 2.0, 3.0, -2.0, 0.0, 0.0]]))[0]
    rigid = replace(HEAD_SEARCH, shift_mm=5.0, turn_degrees=4.0, log_scale=0.0)
    found = search(metric_of(template, moved(template, truth)), np.eye(4)[None], CENTER, 0, rigid)
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.norm((found - truth)[:3, :3] @ CENTER + (found - truth)[:3, 3]) < 3


def test_fewer_and_fewer_parents_survive() -> None:
    left = [HEAD_SEARCH.parents_after(generation) for generation in range(40)]
    assert left[0] == HEAD_SEARCH.n_parents
    assert left == sorted(left, reverse=True)
    assert left[-1] == HEAD_SEARCH.min_parents


def test_starts_lie_on_every_target_in_every_orientation() -> None:
    targets = np.array([[1.0, 2.0, 3.0], [-4.0, 0.0, 9.0]])
    starts = start_matrices(CENTER, targets, cube_rotations(), StartSettings(turn_degrees=10.0, log_scale=0.2))
    assert starts.shape == (2 * 24 * 54, 4, 4)
    at = starts[:, :3, :3] @ CENTER + starts[:, :3, 3]
    np.testing.assert_allclose(np.unique(np.round(at, 6), axis=0), targets[[1, 0]])
    sizes = np.log(np.linalg.det(starts[:, :3, :3])) / 3
    np.testing.assert_allclose(np.unique(np.round(sizes, 6)), [-0.2, 0.2])

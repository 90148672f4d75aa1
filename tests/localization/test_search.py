"""The parts of the registration, on images whose answers are known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bids_hsf.geometry import Grid
from bids_hsf.localization.metric import Matcher, channel, edge_likeness, foreground_edges, quantile_edges
from bids_hsf.localization.search import climb, cube_rotations, search, start_matrices, turned
from bids_hsf.localization.volume import (
    Volume,
    cut_around,
    from_background,
    gradients_at,
    in_view,
    shrink,
    values_at,
    without_shading,
)

CENTER = np.array([5.0, -3.0, 2.0])


def blob(n: int = 48, voxel_mm: float = 4.0) -> Volume:
    """A smooth, lopsided thing about `CENTER` on a dark background."""
    rng = np.random.default_rng(3)
    affine = np.diag([voxel_mm] * 3 + [1.0])
    affine[:3, 3] = CENTER - voxel_mm * (n - 1) / 2
    grid = Grid((n, n, n), affine)
    mm = grid.to_mm(np.indices(grid.shape).reshape(3, -1).T) - CENTER
    inside = (np.abs(mm / [55.0, 75.0, 60.0]) ** 2).sum(axis=1).reshape(grid.shape) < 1
    values = 100 + 250 * gaussian_filter(rng.standard_normal(grid.shape), 3)
    return Volume(np.asarray(np.maximum(values, 30) * inside, dtype=np.float32), grid)


def matcher(template: Volume, scan: Volume) -> Matcher:
    points = template.grid.to_mm(np.indices(template.grid.shape)[:, ::2, ::2, ::2].reshape(3, -1).T)
    expected = values_at(template, points)
    edges = [foreground_edges(values, 16) for values in (expected, scan.values)]
    return Matcher(points, (channel(expected, edges[0], scan.values, edges[1]),), scan.grid)


def moved(volume: Volume, matrix: NDArray[np.float64]) -> Volume:
    """The same head somewhere else: the voxels stay, the grid moves."""
    return Volume(volume.values, Grid(volume.grid.shape, matrix @ volume.grid.affine))


def test_shrinking_keeps_means_and_places() -> None:
    affine = np.array([[0.9, 0, 0, -20], [0, 1.1, 0.2, 4], [0, -0.2, 3.0, 7], [0, 0, 0, 1]])
    grid = Grid((24, 20, 8), affine)
    x_mm = np.asarray(grid.to_mm(np.indices(grid.shape).reshape(3, -1).T)[:, 1].reshape(grid.shape), dtype=np.float32)
    small = shrink(Volume(x_mm, grid), 3.6)
    assert small.values.shape == (6, 6, 8)  # 0.9 * 4, 1.1 * 3, 3.0
    there = small.grid.to_mm(np.indices(small.grid.shape).reshape(3, -1).T)[:, 1]
    np.testing.assert_allclose(small.values.ravel(), there, atol=1e-4)


def test_background_goes_to_zero() -> None:
    values = np.full((20, 20, 20), -1000, dtype=np.float32)
    values[5:15, 5:15, 5:15] = 300
    shifted = from_background(Volume(values, Grid((20, 20, 20), np.eye(4)))).values
    assert shifted.min() == 0
    assert shifted.max() == 1300


def test_shading_is_taken_off() -> None:
    volume = blob()
    ramp = np.exp(np.linspace(-1, 1, volume.values.shape[0]))[:, None, None].astype(np.float32)
    plain = without_shading(volume).values
    shaded = without_shading(Volume(volume.values * ramp, volume.grid)).values
    inside = volume.values > 0
    before = np.abs(np.log(ramp * np.ones_like(plain)))[inside].mean()
    after = np.abs(np.log(shaded[inside] / plain[inside]) - np.log(shaded[inside] / plain[inside]).mean()).mean()
    assert after < 0.3 * before


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
    volumes = np.linalg.det(after[:, :3, :3]) / np.linalg.det(matrices[:, :3, :3])
    np.testing.assert_allclose(volumes, 1.3**3)


def test_score_is_highest_where_both_agree_whatever_the_contrast() -> None:
    template = blob()
    for contrast in (template.values, np.where(template.values > 0, 300 - template.values, 0)):
        judge = matcher(template, Volume(contrast, template.grid))
        steps = np.zeros((4, 7))
        steps[1, 0], steps[2, 4], steps[3, 6] = 8.0, 10.0, 0.1
        scores = judge.scores(turned(np.tile(np.eye(4), (4, 1, 1)), CENTER, steps))
        assert scores.argmax() == 0
        assert scores[1:].max() < 0.8 * scores[0]
        # All the information there is: the entropy of the template's codes.
        shares = np.bincount(judge.channels[0].expected) / len(judge.points)
        assert scores[0] <= -(shares[shares > 0] * np.log(shares[shares > 0])).sum() + 1e-9


def test_points_out_of_view_lower_the_score() -> None:
    template = blob()
    judge = matcher(template, template)
    away = np.eye(4)
    away[0, 3] = 1000.0
    assert judge.scores(away[None])[0] == 0


def test_search_finds_a_turned_and_shifted_head() -> None:
    template = blob()
    step = np.array([[25.0, -18.0, 12.0, 20.0, -12.0, 15.0, 0.05]])
    truth = turned(np.eye(4)[None], CENTER, step)[0]
    judge = matcher(template, moved(template, truth))
    starts = start_matrices(CENTER, CENTER[None] + 8.0, cube_rotations()[:1])
    spread = np.array([14.0] * 3 + [10.0] * 3 + [0.08])
    found = search(judge, starts, CENTER, spread, 0)
    corners = CENTER + np.array([[60.0, 0, 0], [0, 60, 0], [0, 0, 60]])
    errors = (found - truth)[:3, :3] @ corners.T + (found - truth)[:3, 3:]
    assert np.linalg.norm(errors, axis=0).max() < 8
    np.testing.assert_array_equal(found, search(judge, starts, CENTER, spread, 0))


def test_a_part_finds_its_own_place_and_no_far_one() -> None:
    template = blob(voxel_mm=2.0)
    for shift_mm, found_mm in ((5.0, 5.0), (30.0, 9.0)):
        away = np.eye(4)
        away[1, 3] = shift_mm
        judge = matcher(template, moved(template, away))
        place = climb(judge, np.eye(4), CENTER)
        moved_by = place[:3, :3] @ CENTER + place[:3, 3] - CENTER
        assert np.abs(moved_by).max() <= 9 + 1e-9
        if shift_mm == found_mm:
            np.testing.assert_allclose(moved_by, [0, shift_mm, 0], atol=1.6)


def test_edges_are_alike_whatever_contrast_and_pose() -> None:
    template = blob()
    points = template.grid.to_mm(np.argwhere(template.values > 0))
    gradients = gradients_at(template, points)
    step = np.array([[5.0, 0.0, 3.0, 30.0, 10.0, 0.0, 0.1]])
    truth = turned(np.eye(4)[None], CENTER, step)[0]
    scan = moved(Volume(400 - 2 * template.values, template.grid), truth)
    assert edge_likeness(scan, truth, points, gradients) == pytest.approx(1, abs=1e-6)
    assert abs(edge_likeness(scan, np.eye(4), points, gradients) or 0) < 0.5
    assert edge_likeness(scan, np.diag([1.0, 1, 1, 1]) + 1e4 * np.eye(4, k=3), points, gradients) is None


def test_cutting_keeps_places_and_refuses_what_is_outside() -> None:
    volume = blob()
    part = cut_around(volume, CENTER[None], 20.0)
    assert part is not None
    assert max(part.values.shape) <= 14
    np.testing.assert_array_equal(values_at(part, CENTER[None]), values_at(volume, CENTER[None]))
    assert cut_around(volume, CENTER[None] + 500.0, 20.0) is None
    assert in_view(part.grid, CENTER[None]).all()
    assert not in_view(part.grid, CENTER[None] + 500.0).any()


def test_bins_hold_equal_shares_and_none_of_nothing() -> None:
    edges = quantile_edges(np.arange(1000, dtype=np.float32), 4)
    np.testing.assert_allclose(edges, [249.75, 499.5, 749.25])
    assert len(quantile_edges(np.zeros(0, dtype=np.float32), 4)) == 3
    assert foreground_edges(np.zeros(10, dtype=np.float32), 4).tolist() == [0, 0, 0, 0][:3]

"""Reduced images whose answers are known."""

import numpy as np
import pytest
from blobs import CENTER, blob

from bids_hsf.geometry import Grid
from bids_hsf.localization.intensities import (
    Intensities,
    cut_around,
    foreground_threshold,
    from_background,
    gradients_at,
    shrink,
    smooth,
    values_at,
    without_shading,
)


def test_shrinking_keeps_means_and_places() -> None:
    affine = np.array([[0.9, 0, 0, -20], [0, 1.1, 0.2, 4], [0, -0.2, 3.0, 7], [0, 0, 0, 1]])
    grid = Grid((24, 20, 8), affine)
    x_mm = np.asarray(grid.to_mm(np.indices(grid.shape).reshape(3, -1).T)[:, 1].reshape(grid.shape), dtype=np.float32)
    small = shrink(Intensities(x_mm, grid), 3.6)
    assert small.values.shape == (6, 6, 8)  # 0.9 * 4, 1.1 * 3, 3.0
    there = small.grid.to_mm(np.indices(small.grid.shape).reshape(3, -1).T)[:, 1]
    np.testing.assert_allclose(small.values.ravel(), there, atol=1e-4)


def test_background_goes_to_zero() -> None:
    values = np.full((20, 20, 20), -1000, dtype=np.float32)
    values[5:15, 5:15, 5:15] = 300
    shifted = from_background(Intensities(values, Grid((20, 20, 20), np.eye(4)))).values
    assert shifted.min() == 0
    assert shifted.max() == 1300


def test_shading_is_taken_off() -> None:
    intensities = blob()
    ramp = np.exp(np.linspace(-1, 1, intensities.values.shape[0]))[:, None, None].astype(np.float32)
    plain = without_shading(intensities).values
    shaded = without_shading(Intensities(intensities.values * ramp, intensities.grid)).values
    inside = intensities.values > 0
    before = np.abs(np.log(ramp * np.ones_like(plain)))[inside].mean()
    after = np.abs(np.log(shaded[inside] / plain[inside]) - np.log(shaded[inside] / plain[inside]).mean()).mean()
    assert after < 0.3 * before


def test_cutting_keeps_places_and_refuses_what_is_outside() -> None:
    intensities = blob()
    part = cut_around(intensities, CENTER[None], 20.0)
    assert part is not None
    assert max(part.values.shape) <= 14
    np.testing.assert_array_equal(values_at(part, CENTER[None]), values_at(intensities, CENTER[None]))
    assert cut_around(intensities, CENTER[None] + 500.0, 20.0) is None
    assert part.grid.holds(CENTER[None]).all()
    assert not part.grid.holds(CENTER[None] + 500.0).any()


def test_gradients_are_per_millimetre_along_the_axes_of_space() -> None:
    turned = np.array([[0, -2.0, 0, 9], [3.0, 0, 0, -7], [0, 0, 1.0, 4], [0, 0, 0, 1]])
    grid = Grid((12, 10, 8), turned)
    mm = grid.to_mm(np.indices(grid.shape).reshape(3, -1).T)
    ramp = Intensities((mm @ [5.0, -1.0, 0.5]).reshape(grid.shape).astype(np.float32), grid)
    np.testing.assert_allclose(gradients_at(ramp, mm[::7]), np.tile([5.0, -1.0, 0.5], (len(mm[::7]), 1)), atol=1e-4)


def test_smoothing_is_as_wide_along_thick_slices() -> None:
    point = np.zeros((41, 41, 41), dtype=np.float32)
    point[20, 20, 20] = 1
    wide = smooth(Intensities(point, Grid(point.shape, np.diag([1.0, 1.0, 2.0, 1.0]))), 4.0).values
    assert abs(wide[28, 20, 20] / wide[20, 20, 24] - 1) < 0.02
    assert abs(wide.sum() - 1) < 1e-4


def test_nothing_is_brighter_than_the_threshold_of_nothing() -> None:
    assert foreground_threshold(np.zeros(8, dtype=np.float32)) == 0
    assert 0 < foreground_threshold(np.ones(8, dtype=np.float32)) < 1


@pytest.mark.parametrize("length", [31, 64, 67, 101])
def test_a_long_scan_is_shrunk_as_its_parts_would_be(length: int) -> None:
    values = np.random.default_rng(length).normal(size=(length, 9, 8)).astype(np.float32)
    grid = Grid(values.shape, np.eye(4))
    small = shrink(Intensities(values, grid), 2.0).values
    kept = length // 2 * 2
    means = values[:kept, :8].reshape(kept // 2, 2, 4, 2, 4, 2).astype(np.float64).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(small, means, atol=1e-6)
    tail = shrink(Intensities(values[kept - 8 : kept], Grid((8, 9, 8), np.eye(4))), 2.0).values
    np.testing.assert_array_equal(small[-4:], tail)

"""Crops hold the hippocampi, along the scan's voxels or along the head."""

from dataclasses import replace

import numpy as np
import pytest
from heads import head, upright

from bids_hsf.geometry import Grid, resample
from bids_hsf.localization.crops import DEFAULT_MARGIN_MM, crop_grid, default_margin_mm, native_box
from bids_hsf.localization.location import Location, hippocampus_points


def test_crop_of_a_fixed_voxel_size_lies_along_the_head() -> None:
    location = upright("colin27")
    turned = np.eye(4)
    turned[:3, :3] = [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]
    moved = Location(turned @ location.scan_from_template, 1.0, location.coverage, hippocampi=location.hippocampi)
    still = crop_grid(location, head("colin27").grid, "L", 0.8, 6.0)
    crop = crop_grid(moved, head("colin27").grid, "L", 0.8, 6.0)
    np.testing.assert_allclose(crop.affine, turned @ still.affine, atol=1e-3)
    assert crop.shape == still.shape
    np.testing.assert_allclose(crop.voxel_sizes, 0.8)
    indices = crop.to_voxels(hippocampus_points(moved, "L"))
    assert indices.min() == pytest.approx(6.0 / 0.8, abs=0.51)
    assert (np.array(crop.shape) - 1 - indices.max(axis=0)).min() == pytest.approx(6.0 / 0.8, abs=0.51)


def test_native_crop_is_a_part_of_the_scan() -> None:
    grid = head("colin27").grid
    location = upright("colin27")
    crop, box = crop_grid(location, grid, "R", None), native_box(location, grid, "R")
    assert crop.shape == tuple(b - a for a, b in zip(box.start, box.stop, strict=True))
    np.testing.assert_allclose(grid.to_voxels(crop.to_mm(np.zeros((1, 3))))[0], box.start, atol=1e-9)
    wider = native_box(location, grid, "R", default_margin_mm(location) + 3.0)
    assert np.subtract(box.start, wider.start).tolist() == [3, 3, 3]
    assert np.subtract(wider.stop, box.stop).tolist() == [3, 3, 3]


def test_small_heads_have_smaller_margins() -> None:
    assert default_margin_mm(Location(np.eye(4) * 1.0, 1.0, {})) == DEFAULT_MARGIN_MM
    assert default_margin_mm(Location(np.diag([1.2, 1.2, 1.2, 1.0]), 1.0, {})) == DEFAULT_MARGIN_MM
    assert default_margin_mm(Location(np.diag([0.8, 0.8, 0.8, 1.0]), 1.0, {})) == pytest.approx(0.8 * DEFAULT_MARGIN_MM)


def test_boxes_end_with_the_field_of_view() -> None:
    location = Location(np.eye(4), 1.0, {})
    grid = Grid((40, 40, 40), np.eye(4) - np.diag([0, 0, 0, 0.0]))
    box = native_box(location, grid, "R")
    assert (np.array(box.start) >= 0).all()
    assert (np.array(box.stop) <= 40).all()


def test_the_last_digits_of_a_processor_do_not_reach_the_crop() -> None:
    """Registrations on processors with other kernels for matrix products differ in the ninth digit."""
    noise = np.random.default_rng(0).uniform(-1e-9, 1e-9, (4, 4))
    noise[3] = 0
    grid = Grid((200, 200, 200), np.diag([1.0, 1, 1, 1]) + np.array([[0, 0, 0, -100.0]] * 3 + [[0] * 4]))
    known = Location(np.eye(4), 1.0, {"L": 1.0, "R": 1.0})
    crops = [crop_grid(replace(known, scan_from_template=np.eye(4) + shift), grid, "L", 0.7) for shift in (0, noise)]
    np.testing.assert_array_equal(crops[0].affine, crops[1].affine)
    data = np.random.default_rng(1).random(grid.shape).astype(np.float32)
    seen = [resample(data, moved, crops[0]) for moved in (grid, Grid(grid.shape, grid.affine + noise * 1e-5))]
    np.testing.assert_array_equal(*seen)

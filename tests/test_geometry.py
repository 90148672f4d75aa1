"""Properties of grids: what is cropped, carried or padded comes back where it was."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bids_hsf.geometry import (
    Grid,
    box_around,
    covering_box,
    from_canonical,
    next_multiple,
    pad_to_shape,
    resample,
    to_canonical,
    unpad,
)

CODES = ["RAS", "LPS", "LIA", "PSR", "AIL", "SPL", "RSA", "IAR"]


def oblique_affine(degrees: float, voxel_sizes: tuple[float, float, float]) -> np.ndarray:
    turn = Rotation.from_euler("xyz", [degrees, -degrees / 2, degrees / 3], degrees=True).as_matrix()
    return nib.affines.from_matvec(turn @ np.diag(voxel_sizes), [-30.0, 12.0, 7.5])


@pytest.mark.parametrize("codes", CODES)
def test_canonical_order_keeps_every_voxel_in_place(codes: str) -> None:
    stored = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    change = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    image = nib.Nifti1Image(stored.astype(np.int16), oblique_affine(20, (1, 2, 3))).as_reoriented(change)
    data = np.asarray(image.dataobj)
    canonical, grid = to_canonical(data, image.affine)
    assert nib.aff2axcodes(grid.affine) == ("R", "A", "S")
    for value in (0, 17, 119):
        there = image.affine @ [*np.argwhere(data == value)[0], 1]
        here = grid.affine @ [*np.argwhere(canonical == value)[0], 1]
        np.testing.assert_allclose(here, there, atol=1e-9)
    np.testing.assert_array_equal(from_canonical(canonical, image.affine), data)


def test_left_and_right_survive_a_flipped_affine() -> None:
    affine = nib.affines.from_matvec(np.diag([-1.0, 1.0, 1.0]), [10, 0, 0])
    stored = np.zeros((8, 8, 8))
    stored[0] = 1  # x = +10 mm: the right side of the head
    canonical, grid = to_canonical(stored, affine)
    right = grid.to_mm(np.argwhere(canonical == 1))
    assert (right[:, 0] == 10).all()


def test_resampling_to_a_coinciding_grid_copies() -> None:
    source = Grid((9, 8, 7), oblique_affine(25, (0.7, 1.0, 1.3)))
    data = np.random.default_rng(0).normal(size=source.shape).astype(np.float32)
    target = source.subgrid((2, 1, 3), (7, 8, 6))
    np.testing.assert_array_equal(resample(data, source, target, order=3), data[2:7, 1:8, 3:6])


def test_copy_beyond_the_edge_is_filled() -> None:
    source = Grid((4, 4, 4), np.eye(4))
    data = np.ones(source.shape, dtype=np.float32)
    larger = resample(data, source, source.subgrid((-2, 0, 0), (4, 5, 4)), fill=-1)
    assert larger.shape == (6, 5, 4)
    assert (larger[:2] == -1).all()
    assert (larger[:, 4] == -1).all()
    assert (larger[2:, :4] == 1).all()


@pytest.mark.parametrize("order", [1, 3])
def test_a_linear_ramp_survives_any_grid(order: int) -> None:
    source = Grid((30, 30, 30), np.eye(4))
    ramp = np.einsum("i,ijkl->jkl", [1.0, 2.0, -0.5], np.indices(source.shape).astype(float)).astype(np.float32)
    target = Grid((8, 8, 8), nib.affines.from_matvec(oblique_affine(30, (0.8, 0.9, 1.0))[:3, :3], [12, 10, 14]))
    points = target.to_mm(np.argwhere(np.ones(target.shape)))
    expected = (points @ [1.0, 2.0, -0.5]).reshape(target.shape)
    np.testing.assert_allclose(resample(ramp, source, target, order=order), expected, atol=0.02)


def test_linear_resampling_keeps_probabilities_probabilities() -> None:
    source = Grid((20, 20, 20), np.eye(4))
    raw = np.random.default_rng(1).random((3, *source.shape)).astype(np.float32)
    probabilities = raw / raw.sum(axis=0)
    target = Grid((10, 10, 10), nib.affines.from_matvec(oblique_affine(15, (0.9, 0.9, 0.9))[:3, :3], [5, 5, 5]))
    carried = resample(probabilities, source, target)
    np.testing.assert_allclose(carried.sum(axis=0), 1, atol=1e-5)
    assert carried.min() >= 0


def test_a_coarser_grid_averages_instead_of_aliasing() -> None:
    source = Grid((40, 40, 40), np.diag([0.5, 0.5, 0.5, 1]))
    stripes = np.broadcast_to((np.arange(40) % 2)[:, None, None], source.shape).astype(np.float32)
    coarse = resample(stripes, source, Grid((8, 8, 8), nib.affines.from_matvec(np.eye(3) * 2, [2, 2, 2])))
    np.testing.assert_allclose(coarse, 0.5, atol=0.05)


def test_voxel_volume_of_a_sheared_grid() -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[1, 0.5, 0], [0, 2, 0], [0, 0, 3]]
    assert Grid((2, 2, 2), affine).voxel_volume == pytest.approx(6.0)


def test_covering_box_of_a_subgrid_is_that_subgrid() -> None:
    source = Grid((40, 50, 60), oblique_affine(20, (0.9, 1.1, 1.0)))
    box = covering_box(source, source.subgrid((3, 4, 5), (10, 20, 30)), "L")
    assert (box.start, box.stop) == ((3, 4, 5), (10, 20, 30))


def test_covering_box_holds_every_voxel_of_an_oblique_crop() -> None:
    source = Grid((60, 60, 60), np.eye(4))
    crop = Grid((12, 20, 14), nib.affines.from_matvec(oblique_affine(25, (1.0, 1.0, 1.0))[:3, :3], [20, 20, 20]))
    box = covering_box(source, crop, "R")
    inside = np.argwhere(resample(np.ones(crop.shape, np.float32), crop, source) > 0.5)
    assert (inside >= box.start).all()
    assert (inside < box.stop).all()


def test_box_is_cut_to_the_field_of_view() -> None:
    box = box_around(np.array([[-3.0, 5, 5], [4, 50, 5]]), np.array([1.0, 1, 1]), (10, 10, 10), "L")
    assert box.start == (0, 4, 4)
    assert box.stop == (6, 10, 7)


@settings(deadline=None)
@given(shape=st.tuples(*[st.integers(1, 20)] * 3), multiple=st.sampled_from([1, 8, 16]), n_channels=st.integers(1, 3))
def test_padding_comes_off_again(shape: tuple[int, int, int], multiple: int, n_channels: int) -> None:
    data = np.random.default_rng(2).normal(size=(n_channels, *shape))
    padded, pads = pad_to_shape(data, tuple(next_multiple(n, multiple) for n in shape))
    assert all(n % multiple == 0 for n in padded.shape[1:])
    np.testing.assert_array_equal(unpad(padded, pads), data)

"""Look-ups of several fields at once, held against SciPy's one by one."""

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage

from bids_hsf.geometry import Grid, resample
from bids_hsf.interpolation import (
    PART_VOXELS,
    affine_positions,
    cubic_spline,
    look_up,
    look_up_spline,
    on_product,
    tents,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def scipy_at(fields, positions, mode, fill=0.0, order=1):
    return np.stack([ndimage.map_coordinates(f, positions, order=order, mode=mode, cval=fill) for f in fields])


class TestLookUp:
    @pytest.mark.parametrize("shape", [(7, 9, 11), (1, 9, 11), (7, 1, 11), (7, 9, 1)])
    def test_it_is_scipys(self, rng, shape):
        fields = rng.normal(size=(3, *shape)).astype(np.float32)
        positions = rng.uniform(-2, np.array(shape)[:, None] + 1, (3, 2000)).astype(np.float32)
        expected = scipy_at(fields, positions, "nearest")
        np.testing.assert_allclose(look_up(fields, positions), expected, atol=2e-6)

    def test_whole_positions_give_the_voxels_themselves(self, rng):
        fields = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
        positions = np.indices((5, 6, 7)).reshape(3, -1).astype(np.float32)
        np.testing.assert_allclose(look_up(fields, positions), fields.reshape(2, -1), atol=1e-6)

    def test_parts_do_not_show(self, rng):
        field = rng.normal(size=(1, 9, 9, 9)).astype(np.float32)
        positions = rng.uniform(0, 8, (3, PART_VOXELS + 5)).astype(np.float32)
        there = look_up(field, positions)
        assert np.array_equal(there[:, PART_VOXELS:], look_up(field, positions[:, PART_VOXELS:]))

    def test_what_is_even_stays_so(self, rng):
        field = np.full((1, 4, 4, 4), 0.3, np.float32)
        assert set(look_up(field, rng.uniform(-1, 5, (3, 100)).astype(np.float32)).ravel()) == {np.float32(0.3)}

    @pytest.mark.parametrize("window", [np.s_[:, 1:6, :5, 2:], np.s_[:, ::-1, :5, 2:], np.s_[:, 1:6, :5, ::2]])
    def test_a_window_of_a_larger_array_will_do(self, rng, window):
        fields = rng.normal(size=(2, 7, 6, 9)).astype(np.float32)[window]
        positions = rng.uniform(-1, 8, (3, 300)).astype(np.float32)
        np.testing.assert_array_equal(look_up(fields, positions), look_up(fields.copy(), positions))

    def test_positions_that_are_no_numbers_are_taken_for_the_first_voxel(self, rng):
        fields = rng.random((1, 3, 4, 5), dtype=np.float32)
        np.testing.assert_array_equal(look_up(fields, np.full((3, 2), np.nan, np.float32)), [[fields[0, 0, 0, 0]] * 2])


class TestLookUpSpline:
    @pytest.mark.parametrize("shape", [(7, 9, 11), (1, 9, 11), (7, 2, 11), (7, 9, 1), (1, 1, 1)])
    def test_it_is_scipys(self, rng, shape):
        fields = rng.normal(size=(3, *shape)).astype(np.float32)
        last = np.array(shape)[:, None] - 1
        positions = rng.uniform(-2, last + 2, (3, 2000)).astype(np.float32)
        positions[:, :3] = [[0, 1, -1]] * last  # centres of corners, and what lies beyond
        expected = scipy_at(fields, np.clip(positions, 0, last), "mirror", order=3)
        np.testing.assert_allclose(look_up_spline(cubic_spline(fields), positions), expected, atol=1e-5)

    def test_whole_positions_give_the_voxels_themselves(self, rng):
        fields = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
        positions = np.indices((5, 6, 7)).reshape(3, -1).astype(np.float32)
        np.testing.assert_allclose(look_up_spline(cubic_spline(fields), positions), fields.reshape(2, -1), atol=5e-6)


def test_affine_positions_are_the_images_of_voxels(rng):
    matrix = np.eye(4)
    matrix[:3] += rng.normal(0, 0.3, (3, 4))
    expected = apply_affine(matrix, np.indices((4, 5, 6)).reshape(3, -1).T).T
    np.testing.assert_allclose(affine_positions(matrix, (4, 5, 6)).reshape(3, -1), expected, atol=1e-5)


class TestResampling:
    """Of several channels, between grids whose voxels do not coincide."""

    def grids(self, voxel_mm, degrees):
        angle = np.radians(degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
        affine = np.eye(4)
        affine[:3, :3] = turn * voxel_mm
        affine[:3, 3] = [-1.3, 0.4, 0.9]
        return Grid((12, 13, 14), np.eye(4)), Grid((17, 15, 16), affine)

    @pytest.mark.parametrize("order", [1, 3])
    @pytest.mark.parametrize(("voxel_mm", "degrees"), [(1.0, 12), (0.7, -20), (0.7, 0)])
    def test_it_is_scipys(self, rng, voxel_mm, degrees, order):
        source, target = self.grids(voxel_mm, degrees)
        fields = rng.uniform(size=(4, *source.shape)).astype(np.float32)
        positions = source.to_voxels(target.to_mm(np.indices(target.shape).reshape(3, -1).T)).T
        last = np.array(source.shape)[:, None] - 1
        clear = (np.abs(np.abs(positions - last / 2) - last / 2) > 2e-4).all(axis=0)  # of the edges
        found = resample(fields, source, target, order, fill=-1.0).reshape(4, -1)
        expected = scipy_at(fields, positions, "constant", fill=-1.0, order=order)
        np.testing.assert_allclose(found[:, clear], expected[:, clear], atol=1e-5)

    def test_centres_on_the_edge_are_within(self):
        source = Grid((4, 4, 4), np.diag([0.7, 0.7, 0.7, 1.0]))
        target = Grid((7, 7, 7), np.diag([0.35, 0.35, 0.35, 1.0]))
        assert (resample(np.ones(source.shape, np.float32), source, target, fill=-1.0) == 1).all()

    def test_shares_still_sum_to_one_where_voxels_are_coarser(self, rng):
        source, target = self.grids(1.6, 10)
        shares = rng.dirichlet(np.ones(3), source.shape).transpose(3, 0, 1, 2).astype(np.float32)
        found = resample(shares, source, target)
        total = found.sum(axis=0)
        assert (np.isclose(total, 1, atol=1e-5) | (total == 0)).all()

    def test_of_a_grid_without_voxels_there_is_nothing(self, rng):
        source, target = self.grids(0.7, 10)
        fields = rng.uniform(size=(2, *source.shape)).astype(np.float32)
        assert resample(fields, source, Grid((5, 0, 4), target.affine)).shape == (2, 5, 0, 4)


def test_from_lattice_to_lattice_it_is_scipys(rng):
    knots = rng.normal(size=(2, 4, 1, 5)).astype(np.float32)
    steps = [np.linspace(-1, 4, 11), np.linspace(-2, 2, 6), np.linspace(0.3, 3.9, 13)]
    found = on_product(knots, [tents(each, n) for each, n in zip(steps, knots.shape[1:], strict=True)])
    expected = scipy_at(knots, np.meshgrid(*steps, indexing="ij"), "nearest")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float64

"""Sampling, applying and inverting test-time transforms, each against torchio and on its own."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchio
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_vote import torchio_transform
from scipy import ndimage
from voting import carried_back, draw

from bids_hsf.hub.cards import AugmentationRecipe
from bids_hsf.segmentation.augmentation import place
from bids_hsf.segmentation.transforms import Sample

SHAPE = (30, 36, 26)
VOXEL_SIZES = np.array([0.8, 1.0, 1.3])
AFFINE = AugmentationRecipe(affine_probability=1.0)
ELASTIC = AugmentationRecipe(affine_probability=0.0)
EITHER = AugmentationRecipe(affine_probability=0.5)


@pytest.fixture(scope="module")
def crop():
    noise = np.random.default_rng(5).normal(size=SHAPE)
    smooth = ndimage.gaussian_filter(noise, 2.5).astype(np.float32)
    return smooth / smooth.std()


FLIP = Sample(flip=True)


def one(recipe, seed):
    return draw(recipe, 1, np.random.default_rng(seed))[0]


def torchio_image(array):
    return torchio.ScalarImage(tensor=torch.from_numpy(array)[None], affine=np.diag([*VOXEL_SIZES, 1.0]))


def torchio_view(sample, array):
    image = torchio_image(array)
    if sample.flip:
        image = torchio.Flip(axes=(0,))(image)
    return torchio_transform(sample)(image).data[0].numpy()


def torchio_inverse(sample, array):
    image = torchio_transform(sample).inverse()(torchio_image(array))
    if sample.flip:
        image = torchio.Flip(axes=(0,))(image)
    return image.data[0].numpy()


def rmse(a, b, where):
    return float(np.sqrt(((a - b)[where] ** 2).mean()))


def composed(warp):
    """Voxel positions (3, X, Y, Z) that one reaches from the crop by the way back and the way there."""
    return np.stack([ndimage.map_coordinates(axis, warp.back, order=1, mode="nearest") for axis in warp.there])


class TestPlace:
    def test_global_generators_are_left_alone(self, crop):
        before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
        for sample in draw(EITHER, 4, np.random.default_rng(0)):
            warp = place(sample, SHAPE, VOXEL_SIZES)
            carried_back(warp, warp.apply(crop)[None])
        assert torch.equal(before[0], torch.get_rng_state())
        np.testing.assert_array_equal(before[1], np.random.get_state()[1])
        assert before[2] == random.getstate()


class TestApply:
    @pytest.mark.parametrize("recipe", [AFFINE, ELASTIC], ids=["affine", "elastic"])
    @pytest.mark.parametrize("seed", range(3))
    def test_view_is_torchios_to_rounding(self, crop, recipe, seed):
        sample = one(recipe, seed)
        view = place(sample, SHAPE, VOXEL_SIZES).apply(crop)
        np.testing.assert_allclose(view, torchio_view(sample, crop), atol=1e-4)

    def test_outside_the_crop_lies_its_minimum(self, crop):
        warp = place(Sample(flip=False, translation_mm=(2 * 0.8, 0, 0)), SHAPE, VOXEL_SIZES)
        view = warp.apply(crop)
        assert warp.filled[:2].all()
        assert not warp.filled[2:].any()
        assert (view[:2] == crop.min()).all()
        np.testing.assert_allclose(view[2:], crop[:-2], atol=1e-5)

    def test_flip_mirrors_the_first_axis(self, crop):
        view = place(FLIP, SHAPE, VOXEL_SIZES).apply(crop)
        np.testing.assert_array_equal(view, crop[::-1])
        turned = replace(FLIP, degrees=(0.0, 0.0, 1e-9))
        np.testing.assert_allclose(place(turned, SHAPE, VOXEL_SIZES).apply(crop), view, atol=1e-5)


class TestInvert:
    def test_flip_comes_back_as_it_was(self, crop):
        warp = place(FLIP, SHAPE, VOXEL_SIZES)
        fields = np.stack([crop, 2 * crop])
        there = np.stack([warp.apply(field) for field in fields])
        np.testing.assert_array_equal(carried_back(warp, there), fields)
        assert warp.seen.shape == SHAPE
        assert warp.seen.all()

    @pytest.mark.parametrize("seed", range(3))
    def test_inverse_of_an_affine_is_torchios_to_rounding(self, crop, seed):
        sample = one(AFFINE, seed)
        warp = place(sample, SHAPE, VOXEL_SIZES)
        view = warp.apply(crop)
        back = carried_back(warp, view[None])[0]
        np.testing.assert_allclose(back[warp.seen], torchio_inverse(sample, view)[warp.seen], atol=1e-4)

    @pytest.mark.parametrize("seed", range(4))
    def test_inverse_of_an_elastic_comes_closer_than_torchios_first_order_one(self, crop, seed):
        sample = one(ELASTIC, seed)
        warp = place(sample, SHAPE, VOXEL_SIZES)
        core = ndimage.binary_erosion(warp.seen, iterations=4)
        view = warp.apply(crop)
        ours, theirs = carried_back(warp, view[None])[0], torchio_inverse(sample, view)
        assert rmse(ours, theirs, core) < 0.05  # of the crop's standard deviation: the same transform
        assert rmse(ours, crop, core) <= rmse(theirs, crop, core)

    @given(st.integers(0, 2**32), st.sampled_from([(AFFINE, 1e-3), (ELASTIC, 0.05)]))
    @settings(max_examples=20, deadline=None)
    def test_way_back_and_way_there_lead_home(self, seed, recipe_and_tolerance):
        recipe, tolerance_voxels = recipe_and_tolerance
        warp = place(one(recipe, seed), SHAPE, VOXEL_SIZES)
        # Beyond the centres of the outermost voxels, the look-up in `composed` stops.
        limits = np.array(SHAPE).reshape(3, 1, 1, 1) - 1
        core = ((warp.back >= 0) & (warp.back <= limits)).all(axis=0)
        error = np.abs(composed(warp) - np.indices(SHAPE))[:, core]
        assert error.max() < tolerance_voxels

    @pytest.mark.parametrize(("recipe", "tolerance"), [(AFFINE, 0.12), (ELASTIC, 0.12)], ids=["affine", "elastic"])
    def test_round_trip_error_is_that_of_two_interpolations(self, crop, recipe, tolerance):
        for seed in range(4):
            warp = place(one(recipe, seed), SHAPE, VOXEL_SIZES)
            back = carried_back(warp, warp.apply(crop)[None])[0]
            core = ndimage.binary_erosion(warp.seen, iterations=3)
            assert rmse(back, crop, core) < tolerance  # of the crop's standard deviation

    @given(st.integers(0, 2**32))
    @settings(max_examples=10, deadline=None)
    def test_inverse_is_linear_and_keeps_probabilities(self, seed):
        rng = np.random.default_rng(seed)
        warp = place(one(EITHER, seed), SHAPE, VOXEL_SIZES)
        a, b = rng.dirichlet([1.0] * 3, size=(2, *SHAPE)).transpose(0, 4, 1, 2, 3).astype(np.float32)
        np.testing.assert_allclose(carried_back(warp, a + b), carried_back(warp, a) + carried_back(warp, b), atol=1e-5)
        np.testing.assert_allclose(carried_back(warp, a).sum(axis=0), warp.seen, atol=1e-5)
        assert carried_back(warp, a).min() >= 0

    @pytest.mark.parametrize("recipe", [AFFINE, ELASTIC], ids=["affine", "elastic"])
    def test_look_up_is_torchs(self, recipe):
        noise = np.random.default_rng(2).normal(size=(3, *SHAPE)).astype(np.float32)
        warp = place(one(recipe, 3), SHAPE, VOXEL_SIZES)
        positions = np.stack([2 * axis / (n - 1) - 1 for axis, n in zip(warp.back, SHAPE, strict=True)][::-1], axis=-1)
        expected = torch.nn.functional.grid_sample(
            torch.from_numpy(noise)[None],
            torch.from_numpy(positions.astype(np.float32))[None],
            padding_mode="border",
            align_corners=True,
        )[0].numpy()
        np.testing.assert_allclose(carried_back(warp, noise), expected * warp.seen, atol=2e-5)

    @pytest.mark.parametrize("sample", [None, FLIP, one(AFFINE, 1), one(ELASTIC, 2)])
    def test_voxels_that_a_marked_one_reaches_are_those_that_get_something_of_it(self, sample):
        marked = np.zeros(SHAPE, np.float32)
        marked[9:17, 12:20, 6:13] = 1
        warp = place(sample, SHAPE, VOXEL_SIZES)
        shares = carried_back(warp, marked[None])[0].ravel()
        reached = warp.reached(marked > 0)
        assert 0.5 < len(reached) / marked.sum() < 4
        assert set(np.flatnonzero(shares > 1e-5)) <= set(reached)
        assert np.mean(shares[reached] > 0) > 0.99  # a position on a voxel's very centre reaches no further

    def test_an_axis_of_one_voxel_has_that_one(self):
        crop = np.arange(60, dtype=np.float32).reshape(10, 6, 1)
        warp = place(Sample(False, translation_mm=(0.8, 0, 0)), crop.shape, VOXEL_SIZES)
        np.testing.assert_allclose(carried_back(warp, crop[None])[0, :-1], crop[1:], atol=1e-4)


class TestFieldOfView:
    def test_what_a_shift_pushes_out_is_not_seen(self):
        warp = place(Sample(flip=False, translation_mm=(0, 3, 0)), SHAPE, VOXEL_SIZES)
        assert warp.seen[:, :-3].all()
        assert not warp.seen[:, -3:].any()

    def test_everything_is_seen_where_nothing_moves(self):
        warp = place(Sample(flip=False), SHAPE, VOXEL_SIZES)
        assert warp.seen.all()
        assert not warp.filled.any()

    def test_shrinking_sees_all_and_fills_the_rim(self):
        warp = place(Sample(False, scales=(0.8, 0.8, 0.8)), SHAPE, VOXEL_SIZES)
        assert warp.seen.all()
        assert warp.filled.any()

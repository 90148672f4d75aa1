"""The transforms written out, against those that TorchIO itself makes of the same samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voting import carried_back

from bids_hsf.segmentation.augmentation import place
from bids_hsf.segmentation.torchio_transforms import TORCHIO
from bids_hsf.segmentation.transforms import WRITTEN_OUT, Sample, Transforms

SHAPE = (30, 36, 26)
VOXEL_SIZES = np.array([0.8, 1.0, 1.3])

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(*[st.integers(2, 90)] * 3)
sizes = st.tuples(*[st.floats(0.2, 4)] * 3).map(np.array)


def affine_sample(rng: np.random.Generator) -> Sample:
    scales, degrees, shifts = (rng.uniform(*ends, 3).tolist() for ends in ((0.7, 1.4), (-180, 180), (-9, 9)))
    return Sample(bool(rng.integers(2)), tuple(scales), tuple(degrees), tuple(shifts))


def elastic_sample(rng: np.random.Generator, n: int = 5) -> Sample:
    return Sample(bool(rng.integers(2)), control_points=rng.uniform(-6, 6, (n, n, n, 3)))


@given(seeds, shapes, sizes)
@settings(max_examples=30, deadline=None)
def test_affine_is_torchios(seed: int, shape: tuple[int, int, int], voxel_sizes: np.ndarray) -> None:
    sample = affine_sample(np.random.default_rng(seed))
    ours, theirs = (each.affine(sample, shape, voxel_sizes) for each in (WRITTEN_OUT, TORCHIO))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@given(seeds, shapes, sizes, st.integers(4, 9))
@settings(max_examples=30, deadline=None)
def test_spline_is_torchios(seed: int, shape: tuple[int, int, int], voxel_sizes: np.ndarray, n: int) -> None:
    sample = elastic_sample(np.random.default_rng(seed), n)
    ours, theirs = (each.spline(sample, shape, voxel_sizes) for each in (WRITTEN_OUT, TORCHIO))
    np.testing.assert_allclose(ours.coefficients, theirs.coefficients, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.origin, theirs.origin, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.spacing, theirs.spacing, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("draw", [affine_sample, elastic_sample])
@pytest.mark.parametrize("seed", range(3))
def test_views_and_ways_back_are_equal_whoever_places_them(draw, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sample, crop = draw(rng), rng.normal(size=SHAPE).astype(np.float32)

    def both_ways(transforms: Transforms) -> tuple[np.ndarray, ...]:
        warp = place(sample, SHAPE, VOXEL_SIZES, transforms)
        return warp.apply(crop), carried_back(warp, crop[None]), warp.seen, warp.filled

    for ours, theirs in zip(both_ways(WRITTEN_OUT), both_ways(TORCHIO), strict=True):
        # A voxel whose centre lies on the very border may be in or out.
        assert (np.abs(ours.astype(float) - theirs.astype(float)) > 1e-3).mean() < 1e-4

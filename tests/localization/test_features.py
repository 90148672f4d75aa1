"""What registrations take from the template."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import ndimage

from bids_hsf.geometry import Grid
from bids_hsf.localization.features import brain_share, load_features, within
from bids_hsf.localization.template import load_template


def test_head_is_sampled_densely_in_the_brain_and_not_far_from_it() -> None:
    features, template = load_features(), load_template()
    plain, unshaded = features.head
    assert plain.points is unshaded.points
    assert len(plain.points) == len(plain.values) == len(unshaded.values)
    voxels = np.rint(template.grid.to_voxels(plain.points)).astype(int)
    brain = template.brain[tuple(voxels.T)] > 0.5
    assert 0.2 < brain.mean() < 0.8
    distances = np.linalg.norm(plain.points[~brain][::97, None] - plain.points[brain][None], axis=2).min(axis=1)
    assert distances.max() < features.settings.head_surroundings + 12


def test_coarse_template_keeps_places() -> None:
    features, template = load_features(), load_template()
    assert features.coarse.values.shape == features.affine_mask.shape == (49, 58, 49)
    np.testing.assert_allclose(features.coarse.grid.voxel_sizes, 4.0)
    np.testing.assert_allclose(features.coarse.grid.to_mm(np.zeros((1, 3))), template.grid.to_mm(np.zeros((1, 3))))
    assert features.affine_mask[24, 28, 24]
    assert not features.affine_mask[0, 0, 0]


@pytest.mark.parametrize("side", ["L", "R"])
def test_samples_surround_the_hippocampi(side: str) -> None:
    features, hippocampus = load_features(), load_template().hippocampi[side]
    for samples in (features.hippocampus_intensities[side], features.hippocampus_gradients[side]):
        assert len(samples.points) == len(samples.values)
        assert (samples.points.min(axis=0) < hippocampus.min(axis=0)).all()
        assert (samples.points.max(axis=0) > hippocampus.max(axis=0)).all()
    assert features.hippocampus_gradients[side].values.shape[1] == 3


def test_share_of_the_brain_in_view() -> None:
    grid = load_template().grid
    assert brain_share(np.eye(4), grid) == 1
    assert brain_share(np.eye(4), grid.subgrid((0, 0, 0), (48, 115, 97))) == pytest.approx(0.5, abs=0.05)
    assert brain_share(np.eye(4), Grid((4, 4, 4), np.eye(4) + 900 * np.eye(4, k=3))) == 0


def test_threads_that_come_at_once_are_given_the_same_features() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_features(), range(4)))
    assert all(each is found[0] for each in found)


class TestWithin:
    @pytest.mark.parametrize("step", [1, 3])
    @pytest.mark.parametrize("reach_mm", [0.0, 2.0, 5.0, 40.0])
    def test_it_is_scipys(self, reach_mm: float, step: int) -> None:
        mask = np.random.default_rng(0).random((12, 9, 14)) > 0.99
        grid = Grid(mask.shape, np.diag([1.0, 2.0, 1.5, 1.0]))
        expected = ndimage.distance_transform_edt(~mask, sampling=grid.voxel_sizes) <= reach_mm
        assert np.array_equal(within(mask, grid, reach_mm, step), expected[::step, ::step, ::step])

    def test_nothing_is_near_an_empty_mask(self) -> None:
        assert not within(np.zeros((4, 5, 6), bool), Grid((4, 5, 6), np.eye(4)), 9.0).any()

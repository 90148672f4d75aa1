"""A scan as the registration sees it."""

import numpy as np

from bids_hsf.geometry import Grid, resample
from bids_hsf.localization.reduced_scan import ReducedScan, ReductionSettings
from bids_hsf.localization.search import turned
from bids_hsf.localization.template import BRAIN_CENTER, load_template


def test_the_template_fits_itself_best_where_it_is() -> None:
    template = load_template()
    scan = ReducedScan.of(template.t1w - 50, template.grid)
    assert scan.fine.values.min() == 0
    np.testing.assert_allclose(scan.fine.grid.voxel_sizes, 2.0)
    np.testing.assert_allclose(scan.coarse.grid.voxel_sizes, 4.0)
    steps = np.zeros((4, 7))
    steps[1, 1], steps[2, 3], steps[3, 6] = 8.0, 10.0, 0.1
    scores = scan.metric.scores(turned(np.tile(np.eye(4), (4, 1, 1)), BRAIN_CENTER, steps))
    assert scores.argmax() == 0
    assert scores[1:].max() < 0.9 * scores[0]
    assert np.abs(np.gradient(scan.smooth.values)).max() < np.abs(np.gradient(scan.coarse.values)).max()


def test_small_voxels_are_joined_and_large_ones_kept() -> None:
    template = load_template()
    grid = Grid((160, 150, 40), np.diag([0.5, 1.0, 5.0, 1.0]))
    scan = ReducedScan.of(resample(template.t1w, template.grid, grid), grid)
    np.testing.assert_allclose(scan.fine.grid.voxel_sizes, [2, 2, 5])
    np.testing.assert_allclose(scan.coarse.grid.voxel_sizes, [4, 4, 5])
    coarser = ReducedScan.of(template.t1w, template.grid, ReductionSettings(4.0, 8.0, 8))
    np.testing.assert_allclose(coarser.coarse.grid.voxel_sizes, 8.0)
    assert coarser.metric.binned[0].n_bins == 8

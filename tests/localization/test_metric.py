"""Mutual information and the normalised gradient field, on phantoms whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
from blobs import CENTER, blob, metric_of, moved

from bids_hsf.geometry import Grid
from bids_hsf.localization.intensities import Intensities, gradients_at
from bids_hsf.localization.metric import foreground_edges, normalised_gradient_field, quantile_edges
from bids_hsf.localization.search import turned


def test_score_is_highest_where_both_agree_whatever_the_contrast() -> None:
    template = blob()
    for contrast in (template.values, np.where(template.values > 0, 300 - template.values, 0)):
        metric = metric_of(template, Intensities(contrast, template.grid))
        steps = np.zeros((4, 7))
        steps[1, 0], steps[2, 4], steps[3, 6] = 8.0, 10.0, 0.1
        scores = metric.scores(turned(np.tile(np.eye(4), (4, 1, 1)), CENTER, steps))
        assert scores.argmax() == 0
        assert scores[1:].max() < 0.8 * scores[0]
        # All the information there is: the entropy of the template's bins.
        shares = np.bincount(metric.binned[0].expected) / len(metric.points)
        assert scores[0] <= -(shares[shares > 0] * np.log(shares[shares > 0])).sum() + 1e-9


def test_points_out_of_view_lower_the_score() -> None:
    template = blob()
    metric = metric_of(template, template)
    away = np.eye(4)
    away[0, 3] = 1000.0
    assert metric.scores(away[None])[0] == 0


def test_score_is_that_of_the_nearest_voxels_however_many_there_are() -> None:
    template = blob()
    metric = metric_of(template, template)
    binned = metric.binned[0]
    # Of 3e7 voxels in all: the last of them have numbers that float32 does not tell apart.
    observed = np.full((300, 310, 320), binned.n_bins, dtype=np.int16)
    observed[-50:, -50:, -50:] = binned.observed
    far = template.grid.affine.copy()
    far[:3, 3] -= far[:3, :3] @ (np.array(observed.shape) - 50)
    wide = replace(metric, binned=(replace(binned, observed=observed),), grid=Grid((298, 308, 318), far))
    step = turned(np.eye(4)[None], CENTER, np.array([[9.0, 4.0, -7.0, 8.0, 0.0, 3.0, 0.05]]))
    assert wide.scores(step)[0] == metric.scores(step)[0]


def test_edges_are_alike_whatever_contrast_and_pose() -> None:
    template = blob()
    points = template.grid.to_mm(np.argwhere(template.values > 0))
    gradients = gradients_at(template, points)
    step = np.array([[5.0, 0.0, 3.0, 30.0, 10.0, 0.0, 0.1]])
    truth = turned(np.eye(4)[None], CENTER, step)[0]
    scan = moved(Intensities(400 - 2 * template.values, template.grid), truth)
    assert normalised_gradient_field(scan, truth, points, gradients) == pytest.approx(1, abs=1e-6)
    assert abs(normalised_gradient_field(scan, np.eye(4), points, gradients) or 0) < 0.5
    assert normalised_gradient_field(scan, np.diag([1.0, 1, 1, 1]) + 1e4 * np.eye(4, k=3), points, gradients) is None


def test_bins_hold_equal_shares_and_none_of_nothing() -> None:
    edges = quantile_edges(np.arange(1000, dtype=np.float32), 4)
    np.testing.assert_allclose(edges, [249.75, 499.5, 749.25])
    assert len(quantile_edges(np.zeros(0, dtype=np.float32), 4)) == 3
    assert foreground_edges(np.zeros(10, dtype=np.float32), 4).tolist() == [0, 0, 0, 0][:3]

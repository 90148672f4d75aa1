"""Smooth, lopsided phantoms on which the parts of the registration are tried."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bids_hsf.geometry import Grid
from bids_hsf.localization.intensities import Intensities, values_at
from bids_hsf.localization.metric import MutualInformation, bin_intensities, foreground_edges

CENTER = np.array([5.0, -3.0, 2.0])


def blob(n: int = 48, voxel_mm: float = 4.0) -> Intensities:
    """A smooth, lopsided thing about `CENTER` on a dark background."""
    rng = np.random.default_rng(3)
    affine = np.diag([voxel_mm] * 3 + [1.0])
    affine[:3, 3] = CENTER - voxel_mm * (n - 1) / 2
    grid = Grid((n, n, n), affine)
    mm = grid.to_mm(np.indices(grid.shape).reshape(3, -1).T) - CENTER
    inside = (np.abs(mm / [55.0, 75.0, 60.0]) ** 2).sum(axis=1).reshape(grid.shape) < 1
    values = 100 + 250 * gaussian_filter(rng.standard_normal(grid.shape), 3)
    return Intensities(np.asarray(np.maximum(values, 30) * inside, dtype=np.float32), grid)


def moved(intensities: Intensities, matrix: NDArray[np.float64]) -> Intensities:
    """The same head somewhere else: the voxels stay, the grid moves."""
    return Intensities(intensities.values, Grid(intensities.grid.shape, matrix @ intensities.grid.affine))


def metric_of(template: Intensities, scan: Intensities) -> MutualInformation:
    """Mutual information of two phantoms, on every eighth voxel of the first."""
    points = template.grid.to_mm(np.indices(template.grid.shape)[:, ::2, ::2, ::2].reshape(3, -1).T)
    expected = values_at(template, points)
    edges = [foreground_edges(values, 16) for values in (expected, scan.values)]
    return MutualInformation(points, (bin_intensities(expected, edges[0], scan.values, edges[1]),), scan.grid)

"""How well a transform carries the template into a scan: mutual information, and the normalised gradient field."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.geometry import FloatArray, Grid, Matrix
from bids_hsf.localization.intensities import Intensities, foreground_threshold, gradients_at
from bids_hsf.quantiles import percentiles

# Scores compare so many transforms at a time: more do not fit the cache.
BATCH = 8

# OpenBLAS multiplies matrices of up to 2^18 products alone; its threads would cost more than they save.
PRODUCT = 2**18 // (9 * BATCH)

# float32 holds every whole number up to here.
EXACT = 2**24

# With fewer of the template's gradients in view their mean says nothing.
MIN_GRADIENTS = 50

# Mean of the squared cosine between two directions that have nothing to do with each other.
CHANCE = 1 / 3


@dataclass(frozen=True, eq=False)
class BinnedIntensities:
    """Intensities of template and scan as small integers, the axes of a joint histogram.

    Attributes
    ----------
    expected : array, (N,) int16
        Bin of the template at each of the metric's points.
    observed : array, (X + 2, Y + 2, Z + 2) int16
        Bins of the scan, with a border of `n_bins` that means outside the field of view.
    n_bins : int
    """

    expected: NDArray[np.int16]
    observed: NDArray[np.int16]
    n_bins: int


@dataclass(frozen=True, eq=False)
class MutualInformation:
    """Mutual information of template and scan under transforms.

    Attributes
    ----------
    points : array, (N, 3) float64
        Template mm.
    binned : tuple of BinnedIntensities
        The same two images in several ways, such as with and without shading; all of one shape.
    grid : Grid
        Of the scan's bins, without their border.
    """

    points: Matrix
    binned: tuple[BinnedIntensities, ...]
    grid: Grid

    @cached_property
    def _parts(self) -> list[FloatArray]:
        """The points as rows (3, n) float32, so few a part that OpenBLAS wakes no threads for a product with them."""
        rows = self.points.T.astype(np.float32)
        return [rows[:, first : first + PRODUCT].copy() for first in range(0, len(self.points), PRODUCT)]

    def scores(self, matrices: Matrix) -> Matrix:
        """Mutual information in nats, summed over `binned`, times the share of points in view; (B,)."""
        batches = [matrices[first : first + BATCH] for first in range(0, len(matrices), BATCH)]
        return np.concatenate([self._batch_scores(batch) for batch in batches])

    def _batch_scores(self, matrices: Matrix) -> Matrix:
        """Scores of so few transforms that all points of all fit the cache."""
        to_voxels = (np.linalg.inv(self.grid.affine) @ matrices).astype(np.float32)
        # One product for all transforms: one for each takes twice as long.
        rows = to_voxels[:, :3, :3].reshape(-1, 3)
        indices = np.concatenate([rows @ part for part in self._parts], axis=1).reshape(len(matrices), 3, -1)
        indices += to_voxels[:, :3, 3:]
        indices += np.float32(1.5)
        shape = np.array(self.binned[0].observed.shape, dtype=np.float32)
        np.floor(np.clip(indices, 0, shape[:, None] - 1, out=indices), out=indices)
        # Places are counted in floats, which takes less time than in integers; in wider ones where there are so many.
        indices = indices.astype(np.float64 if self.binned[0].observed.size > EXACT else np.float32, copy=False)
        flat, y, z = np.moveaxis(indices, 1, 0)
        flat *= shape[1]
        flat += y
        flat *= shape[2]
        flat += z
        places = flat.astype(np.intp)
        return np.asarray(sum(_information(binned, places) for binned in self.binned))


def _information(binned: BinnedIntensities, flat: NDArray[np.intp]) -> Matrix:
    """Mutual information times the share in view, for each row of voxel indices (B, N)."""
    n_bins = binned.n_bins
    # All indices are within: "clip" only spares take's check of each, and a copy.
    keys = binned.observed.ravel().take(flat, mode="clip")
    keys += binned.expected * np.int16(n_bins + 1)
    counts = np.array([np.bincount(row, minlength=n_bins * (n_bins + 1)) for row in keys])
    counts = counts.reshape(-1, n_bins, n_bins + 1)[..., :n_bins]
    n_seen = counts.sum(axis=(1, 2))
    joint = counts / np.maximum(n_seen, 1)[:, None, None]
    expected = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    terms = np.zeros_like(joint)
    np.log(np.divide(joint, expected, out=terms, where=joint > 0), out=terms, where=joint > 0)
    return np.asarray((joint * terms).sum(axis=(1, 2)) * n_seen / flat.shape[1])


def quantile_edges(reference: FloatArray, n_bins: int) -> FloatArray:
    """Inner edges (n_bins - 1,) of bins that hold equal shares of `reference`."""
    inner = np.linspace(0, 100, n_bins + 1)[1:-1]
    return np.asarray(percentiles(reference, inner) if reference.size else 0 * inner, dtype=np.float32)


def foreground_edges(reference: FloatArray, n_bins: int) -> FloatArray:
    """Inner edges of bins of which the first is the background."""
    threshold = foreground_threshold(reference)
    edges = quantile_edges(reference[reference > threshold], n_bins - 1)
    return np.asarray([threshold, *np.maximum(edges, threshold)], dtype=np.float32)


def bin_intensities(
    expected: FloatArray, expected_edges: FloatArray, observed: FloatArray, observed_edges: FloatArray
) -> BinnedIntensities:
    """Sort intensities of the template (N,) and of a scan (X, Y, Z) into bins, given the inner edges of these."""
    n_bins = len(observed_edges) + 1
    bordered = np.full([n + 2 for n in observed.shape], n_bins, dtype=np.int16)
    bordered[1:-1, 1:-1, 1:-1] = np.searchsorted(observed_edges, observed)
    return BinnedIntensities(np.searchsorted(expected_edges, expected).astype(np.int16), bordered, n_bins)


def normalised_gradient_field(
    scan: Intensities, matrix: Matrix, points: Matrix, gradients: NDArray[np.floating]
) -> float | None:
    """How far edges of scan and template run in the same directions: 1 always, 0 no more than by chance.

    Parameters
    ----------
    scan : Intensities
        As smooth as the template was.
    matrix : array, (4, 4)
    points, gradients : array, (N, 3)
        Template mm, and the template's intensity gradients there.

    Returns
    -------
    float or None
        None where hardly any point is in view.

    Notes
    -----
    Mean of the squared cosine between the gradients, weighted by the template's: neither contrast nor shading
    enters. By chance it is 1/3, which becomes 0. After Haber and Modersitzki, MICCAI 2006, doi:10.1007/11866763_89.
    """
    carried = apply_affine(matrix, points)
    seen = scan.grid.holds(carried)
    if seen.sum() < MIN_GRADIENTS:
        return None
    # A gradient is a covector: it goes back to the template by the transposed matrix.
    observed = gradients_at(scan, carried[seen]) @ matrix[:3, :3]
    expected = gradients[seen]
    strength, weight = np.linalg.norm(observed, axis=1), np.linalg.norm(expected, axis=1)
    cosines = (observed * expected).sum(axis=1) / np.maximum(strength * weight, 1e-12)
    return float(1.5 * (np.average(cosines**2, weights=weight) - CHANCE))

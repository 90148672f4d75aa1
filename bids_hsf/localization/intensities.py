"""Intensities on a grid: made smaller and smoother, freed of shading, looked up at points."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.geometry import FloatArray, Grid, Matrix
from bids_hsf.interpolation import on_product, tents
from bids_hsf.quantiles import percentiles

# Below this share of the bright voxels a voxel is background.
BACKGROUND_SHARE = 0.12

# What counts as bright and as dark: a few voxels, such as vessels and damaged ones, lie beyond.
BRIGHT_PERCENTILE = 98
DARK_PERCENTILE = 0.5

# Receive fields vary over some centimetres, anatomy over less.
SHADING_SIGMA_MM = 25.0
SHADING_VOXEL_MM = 8.0
N_SHADING_PASSES = 2

# Blocks may be this much larger than asked: two voxels of 1.05 mm still make one of "at most 2 mm".
BLOCK_TOLERANCE = 1.05
BLOCKS_AT_ONCE = 16  # along the first axis
# Where a Gaussian ends, in standard deviations.
GAUSSIAN_TRUNCATION = 3


@dataclass(frozen=True, eq=False)
class Intensities:
    """Intensities on a grid: of a scan or of the template, reduced for registration.

    Attributes
    ----------
    values : array, (X, Y, Z) float32
        Background at about 0.
    grid : Grid
    """

    values: FloatArray
    grid: Grid


def shrink(intensities: Intensities, voxel_mm: float) -> Intensities:
    """Average blocks of voxels, as many along each axis as still fit `voxel_mm` (and a little); four blocks remain."""
    most = np.maximum(np.array(intensities.values.shape) // 4, 1)
    factors = np.clip(BLOCK_TOLERANCE * voxel_mm // intensities.grid.voxel_sizes, 1, most).astype(int)
    values = intensities.values
    if (factors > 1).any():
        length = len(values) // factors[0] * factors[0]
        slab = BLOCKS_AT_ONCE * factors[0]  # what comes of the first axis alone is as large as half a scan
        parts = [values[first : min(first + slab, length)] for first in range(0, length, slab)]
        values = np.concatenate([_mean_of_blocks(part, factors) for part in parts])
    affine = intensities.grid.affine.copy()
    affine[:3, 3] = intensities.grid.to_mm((factors - 1) / 2)
    affine[:3, :3] *= factors
    return Intensities(np.asarray(values, dtype=np.float32), Grid(shape_of(values), affine))


def _mean_of_blocks(values: NDArray[Any], factors: NDArray[np.int_]) -> NDArray[Any]:
    """Mean of blocks of so many voxels along each axis."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            values = _mean_of_slices(values, axis, int(factor))
    return values


def _mean_of_slices(values: NDArray[Any], axis: int, factor: int) -> FloatArray:
    """Mean of each `factor` neighbours along an axis; what is left over at the end is dropped."""
    length = values.shape[axis] // factor * factor
    index: list[slice] = [slice(None)] * values.ndim
    index[axis] = slice(0, length, factor)
    # In place: of a whole scan each copy is as large as what comes of it.
    total = np.zeros(1, dtype=np.float32) + values[tuple(index)]
    for first in range(1, factor):
        index[axis] = slice(first, length, factor)
        total += values[tuple(index)]
    total /= factor
    return np.asarray(total, dtype=np.float32)


def smooth(intensities: Intensities, sigma_mm: float) -> Intensities:
    """Smooth by a Gaussian."""
    sigmas = sigma_mm / intensities.grid.voxel_sizes
    return Intensities(
        ndimage.gaussian_filter(intensities.values, sigmas, mode="nearest", truncate=GAUSSIAN_TRUNCATION),
        intensities.grid,
    )


def from_background(intensities: Intensities) -> Intensities:
    """Shift intensities so that the background lies at 0; nothing is below."""
    (low,) = percentiles(intensities.values[::2, ::2, ::2], [DARK_PERCENTILE])
    values = intensities.values - np.float32(low)
    return Intensities(np.maximum(values, 0, out=values), intensities.grid)


def foreground_threshold(values: FloatArray) -> float:
    """Intensity above which a voxel is no background."""
    bright = values[values > 0]
    return BACKGROUND_SHARE * percentiles(bright, [BRIGHT_PERCENTILE])[0] if bright.size else 0.0


def without_shading(intensities: Intensities) -> Intensities:
    """Divide by the local mean of the foreground, which follows a coil's receive field."""
    coarse = shrink(intensities, SHADING_VOXEL_MM)
    shading = np.ones_like(coarse.values)
    # Twice: what lies far from a surface coil is told from the background only once the worst is taken off.
    for _ in range(N_SHADING_PASSES):
        shading *= _local_mean(Intensities(coarse.values / shading, coarse.grid))
    to_coarse = np.linalg.inv(coarse.grid.affine) @ intensities.grid.affine
    axes = zip(np.diag(to_coarse)[:3], to_coarse[:3, 3], intensities.grid.shape, shading.shape, strict=True)
    weights = [tents(scale * np.arange(n) + offset, n_knots) for scale, offset, n, n_knots in axes]
    fine = on_product(shading[None], weights)[0].astype(np.float32)
    return Intensities(intensities.values / fine, intensities.grid)


def _local_mean(intensities: Intensities) -> FloatArray:
    """Mean of the foreground around each voxel, above zero everywhere."""
    inside = (intensities.values > foreground_threshold(intensities.values)).astype(np.float32)
    total = smooth(Intensities(intensities.values * inside, intensities.grid), SHADING_SIGMA_MM).values
    share = smooth(Intensities(inside, intensities.grid), SHADING_SIGMA_MM).values
    mean = total / np.maximum(share, 1e-3)
    return np.asarray(np.maximum(mean, max(1e-3 * float(mean.max()), 1e-12)))


def values_at(intensities: Intensities, points: Matrix) -> FloatArray:
    """Intensities (N,) at points (N, 3) in the mm of its grid, interpolated linearly; the nearest ones outside."""
    indices = intensities.grid.to_voxels(points).T
    return np.asarray(ndimage.map_coordinates(intensities.values, indices, order=1, mode="nearest"), dtype=np.float32)


def gradients_at(intensities: Intensities, points: Matrix) -> Matrix:
    """Gradients (N, 3) of the intensity per mm at points (N, 3) in the mm of its grid."""
    indices = intensities.grid.to_voxels(points).T
    along = [
        ndimage.map_coordinates(part, indices, order=1, mode="nearest") for part in np.gradient(intensities.values)
    ]
    return np.asarray(np.stack(along, axis=1) @ np.linalg.inv(intensities.grid.affine[:3, :3]))


def cut_around(intensities: Intensities, points: Matrix, margin_mm: float) -> Intensities | None:
    """Part of intensities around points (N, 3) in its mm; None where they lie outside it altogether."""
    grid = intensities.grid
    indices, spare = grid.to_voxels(points), margin_mm / grid.voxel_sizes
    start = np.clip(np.floor(indices.min(axis=0) - spare), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(indices.max(axis=0) + spare) + 1, 0, grid.shape).astype(int)
    if (start >= stop).any():
        return None
    part = intensities.values[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    return Intensities(part, grid.subgrid(tuple(start.tolist()), tuple(stop.tolist())))


def shape_of(values: NDArray[Any]) -> tuple[int, int, int]:
    """Shape as the type that grids have."""
    x, y, z = values.shape
    return x, y, z

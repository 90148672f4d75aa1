"""Reduced scans: intensities on a grid, made smaller and smoother, freed of shading, looked up at points."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.geometry import FloatArray, Grid, Matrix

# Below this share of the 98th percentile a voxel is background.
BACKGROUND_SHARE = 0.12

# Receive fields vary over some centimetres, anatomy over less.
SHADING_SIGMA_MM = 25.0
N_SHADING_PASSES = 2


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities on a grid.

    Attributes
    ----------
    values : array, (X, Y, Z) float32
        Background at about 0.
    grid : Grid
    """

    values: FloatArray
    grid: Grid


def shrink(volume: Volume, voxel_mm: float) -> Volume:
    """Average blocks of voxels, as many along each axis as still fit `voxel_mm` (and a little); four blocks remain."""
    most = np.maximum(np.array(volume.values.shape) // 4, 1)
    factors = np.clip(1.05 * voxel_mm // volume.grid.voxel_sizes, 1, most).astype(int)
    values = volume.values
    for axis, factor in enumerate(factors):
        if factor > 1:
            values = _mean_of_slices(values, axis, int(factor))
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.to_mm((factors - 1) / 2)
    affine[:3, :3] *= factors
    return Volume(np.asarray(values, dtype=np.float32), Grid(shape_of(values), affine))


def _mean_of_slices(values: NDArray[Any], axis: int, factor: int) -> FloatArray:
    """Mean of each `factor` neighbours along an axis; what is left over at the end is dropped."""
    length = values.shape[axis] // factor * factor
    index: list[slice] = [slice(None)] * values.ndim
    total = np.zeros(1, dtype=np.float32)
    for first in range(factor):
        index[axis] = slice(first, length, factor)
        total = total + values[tuple(index)]
    return np.asarray(total / factor, dtype=np.float32)


def smooth(volume: Volume, sigma_mm: float) -> Volume:
    """Smooth by a Gaussian."""
    sigmas = sigma_mm / volume.grid.voxel_sizes
    return Volume(ndimage.gaussian_filter(volume.values, sigmas, mode="nearest", truncate=3), volume.grid)


def from_background(volume: Volume) -> Volume:
    """Shift intensities so that the background lies at 0; nothing is below."""
    low = np.percentile(volume.values[::2, ::2, ::2], 0.5)
    return Volume(np.maximum(volume.values - np.float32(low), 0), volume.grid)


def foreground_threshold(values: FloatArray) -> float:
    """Intensity above which a voxel is no background."""
    bright = values[values > 0]
    return BACKGROUND_SHARE * float(np.percentile(bright, 98)) if bright.size else 0.0


def without_shading(volume: Volume) -> Volume:
    """Divide by the local mean of the foreground, which follows a coil's receive field."""
    coarse = shrink(volume, 8.0)
    shading = np.ones_like(coarse.values)
    # Twice: what lies far from a surface coil is told from the background only once the worst is taken off.
    for _ in range(N_SHADING_PASSES):
        shading *= _local_mean(Volume(coarse.values / shading, coarse.grid))
    to_coarse = np.linalg.inv(coarse.grid.affine) @ volume.grid.affine
    scale, offset = np.diag(to_coarse)[:3], to_coarse[:3, 3]
    fine = ndimage.affine_transform(shading, scale, offset, volume.values.shape, order=1, mode="nearest")
    return Volume(volume.values / fine, volume.grid)


def _local_mean(volume: Volume) -> FloatArray:
    """Mean of the foreground around each voxel, above zero everywhere."""
    inside = (volume.values > foreground_threshold(volume.values)).astype(np.float32)
    total = smooth(Volume(volume.values * inside, volume.grid), SHADING_SIGMA_MM).values
    share = smooth(Volume(inside, volume.grid), SHADING_SIGMA_MM).values
    mean = total / np.maximum(share, 1e-3)
    return np.asarray(np.maximum(mean, max(1e-3 * float(mean.max()), 1e-12)))


def values_at(volume: Volume, points: Matrix) -> FloatArray:
    """Intensities (N,) at points (N, 3) in the volume's mm, interpolated linearly; the nearest ones outside."""
    indices = volume.grid.to_voxels(points).T
    return np.asarray(ndimage.map_coordinates(volume.values, indices, order=1, mode="nearest"), dtype=np.float32)


def gradients_at(volume: Volume, points: Matrix) -> Matrix:
    """Gradients (N, 3) of the intensity per mm at points (N, 3) in the volume's mm."""
    indices = volume.grid.to_voxels(points).T
    along = [ndimage.map_coordinates(part, indices, order=1, mode="nearest") for part in np.gradient(volume.values)]
    return np.asarray(np.stack(along, axis=1) @ np.linalg.inv(volume.grid.affine[:3, :3]))


def in_view(grid: Grid, points: Matrix) -> NDArray[np.bool_]:
    """Which of the points (N, 3) in mm lie within a voxel of the grid."""
    indices = grid.to_voxels(points)
    return np.asarray(((indices >= -0.5) & (indices <= np.array(grid.shape) - 0.5)).all(axis=1))


def cut_around(volume: Volume, points: Matrix, margin_mm: float) -> Volume | None:
    """Part of a volume around points (N, 3) in its mm; None where they lie outside it altogether."""
    grid = volume.grid
    indices, spare = grid.to_voxels(points), margin_mm / grid.voxel_sizes
    start = np.clip(np.floor(indices.min(axis=0) - spare), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(indices.max(axis=0) + spare) + 1, 0, grid.shape).astype(int)
    if (start >= stop).any():
        return None
    part = volume.values[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    return Volume(part, grid.subgrid(tuple(start.tolist()), tuple(stop.tolist())))


def shape_of(values: NDArray[Any]) -> tuple[int, int, int]:
    """Shape as the type that grids have."""
    x, y, z = values.shape
    return x, y, z

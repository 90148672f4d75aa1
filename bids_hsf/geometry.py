"""Voxel grids in RAS+ millimetres: orientation, cropping, resampling, padding.

Orientation is settled once, by `to_canonical`: inside the app every array is stored in RAS+ order,
and every affine maps voxel indices to RAS+ millimetres (what ANTs calls "LPI" orientation).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.interpolation import PART_VOXELS, affine_positions, cubic_spline, look_up, look_up_spline

FloatArray = NDArray[np.floating]
Matrix = NDArray[np.float64]  # affines, points, steps

# Antialiasing narrower than this, in voxels, changes nothing that shows.
LEAST_SIGMA = 0.2
# Of a voxel: a centre on the edge of a grid is within, whichever way its position was rounded.
EDGE_TOLERANCE = 1e-4

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid in space.

    Attributes
    ----------
    shape : tuple of int, (3,)
        Voxels along each axis.
    affine : array, (4, 4) float64
        Voxel indices to RAS+ millimetres.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def voxel_sizes(self) -> NDArray[np.float64]:
        """Edge lengths of a voxel in mm, (3,).

        >>> Grid((2, 2, 2), np.diag([1.0, 2.0, 3.0, 1.0])).voxel_sizes.tolist()
        [1.0, 2.0, 3.0]
        """
        return np.asarray(np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))

    @cached_property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm3, sheared axes included."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def to_voxels(self, points: FloatArray) -> NDArray[np.float64]:
        """Carry points (N, 3) from RAS+ mm to voxel indices (fractional)."""
        return np.asarray(apply_affine(np.linalg.inv(self.affine), points))

    def to_mm(self, indices: FloatArray | NDArray[np.integer]) -> NDArray[np.float64]:
        """Carry voxel indices (N, 3) to RAS+ mm."""
        return np.asarray(apply_affine(self.affine, indices))

    def holds(self, points: FloatArray) -> NDArray[np.bool_]:
        """Which of the points (N, 3) in RAS+ mm lie within a voxel, (N,): half a voxel beyond the outermost centres.

        >>> Grid((2, 2, 2), np.eye(4)).holds(np.array([[1.5, 0, 0], [1.6, 0, 0], [-0.5, 1, 1]])).tolist()
        [True, False, True]
        """
        indices = self.to_voxels(points)
        return np.asarray(((indices >= -0.5) & (indices <= np.array(self.shape) - 0.5)).all(axis=1))

    def corners(self) -> NDArray[np.float64]:
        """Outer corners (8, 3) in RAS+ mm; those that share an edge differ in one bit of their number."""
        ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in self.shape], indexing="ij"))
        return self.to_mm(ends.reshape(3, -1).T)

    def subgrid(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> "Grid":
        """Grid of the voxels from `start` up to, not including, `stop`."""
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, :3] @ np.asarray(start) + self.affine[:3, 3]
        x, y, z = (int(b) - int(a) for a, b in zip(start, stop, strict=True))
        return Grid((x, y, z), affine)


@dataclass(frozen=True)
class CropBox:
    """Half-open box of voxels of a grid around one hippocampus.

    Attributes
    ----------
    hemisphere : str
        "L" or "R".
    start, stop : tuple of int, (3,)
        First voxel inside, first voxel beyond; within the grid.
    """

    hemisphere: str
    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index expression of the box in an array on its grid."""
        x, y, z = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return x, y, z


def to_canonical(data: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[Any], Grid]:
    """Reorder an array (X, Y, Z) to RAS+ axis order without interpolation.

    Returns the reordered array and its grid; `from_canonical` goes back.
    """
    orientation = io_orientation(affine)
    canonical = nib.orientations.apply_orientation(data, orientation)
    to_original = nib.orientations.inv_ornt_aff(orientation, data.shape)
    x, y, z = canonical.shape
    return canonical, Grid((x, y, z), np.asarray(affine @ to_original, dtype=np.float64))


def from_canonical(data: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """Reorder a canonical array (X, Y, Z) to the storage order that `affine` describes."""
    back = ornt_transform(axcodes2ornt("RAS"), io_orientation(affine))
    return np.asarray(nib.orientations.apply_orientation(data, back))


def empty_for_canonical(shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """Make an array of a storage order's shape that lies in memory as RAS+ has it: turned to that, it is no copy."""
    turned = to_canonical(np.broadcast_to(np.float32(0), shape), affine)[0].shape
    return from_canonical(np.empty(turned, dtype=np.float32), affine)


def box_around(indices: NDArray[Any], margins: NDArray[Any], shape: tuple[int, ...], hemisphere: str) -> CropBox:
    """Smallest box that holds voxel `indices` (N, 3) and `margins` (3,) voxels more, cut to `shape`.

    >>> box_around(np.array([[5, 5, 5], [6.4, 5, 5]]), np.array([2, 0, 9]), (20, 20, 20), "L")
    CropBox(hemisphere='L', start=(3, 5, 0), stop=(10, 6, 15))
    """
    low = np.maximum(np.floor(indices.min(axis=0) - margins), 0).astype(int)
    high = np.minimum(np.ceil(indices.max(axis=0) + margins) + 1, shape).astype(int)
    start, stop = [tuple(int(v) for v in corner) for corner in (low, np.maximum(low, high))]
    return CropBox(hemisphere, start, stop)  # type: ignore[arg-type]


def covering_box(source: Grid, target: Grid, hemisphere: str) -> CropBox:
    """Box of the voxels of `source` whose centres can lie in `target`, cut to the grid."""
    indices = source.to_voxels(target.corners())
    # Half a voxel beyond the outermost centres: a coinciding grid gives back exactly its own voxels.
    inner = np.clip(indices, indices.min(axis=0) + 0.5, indices.max(axis=0) - 0.5)
    return box_around(np.round(inner, 3), np.zeros(3), source.shape, hemisphere)


def integer_offset(source: Grid, target: Grid) -> tuple[int, int, int] | None:
    """Voxel of `source` on which `target` starts, or None where the two grids do not coincide."""
    between = np.linalg.inv(source.affine) @ target.affine
    offset = np.round(between[:3, 3])
    aligned = np.allclose(between[:3, :3], np.eye(3), atol=1e-4) and np.allclose(between[:3, 3], offset, atol=1e-3)
    if not aligned:
        return None
    x, y, z = (int(v) for v in offset)
    return x, y, z


def field_of_view(source: Grid, target: Grid) -> NDArray[np.bool_]:
    """Which voxels of `target` (*target.shape) have their centre in the field of view of `source`."""
    centres = target.to_mm(np.indices(target.shape).reshape(3, -1).T)
    return source.holds(centres).reshape(target.shape)


def resample(data: FloatArray, source: Grid, target: Grid, order: int = 1, fill: float = 0.0) -> NDArray[np.float32]:
    """Interpolate an array from one grid to another.

    Parameters
    ----------
    data : array, (X, Y, Z) or (C, X, Y, Z) floating
        Values on `source`, channels first.
    source, target : Grid
        Any two grids; where their voxels coincide, values are copied and not interpolated.
    order : int
        1, linear, keeps probabilities within 0 and 1 and their sum at 1; 3 is a cubic spline.
    fill : float
        Value outside `source`.

    Returns
    -------
    array, (*target.shape) or (C, *target.shape) float32

    Notes
    -----
    Where the target is coarser, a Gaussian with the variance that the coarser voxel adds (that of a
    full width at half maximum of sqrt(target^2 - source^2)) goes first, so that nothing aliases.
    """
    channels = data if data.ndim == 4 else data[None]
    offset = integer_offset(source, target)
    if offset is None:
        sigmas = antialias_sigmas(source, target)
        resampled = _interpolate(channels, _between(source, target), target.shape, sigmas, order, fill)
    else:
        resampled = np.stack([_copy_overlap(channel, offset, target.shape, fill) for channel in channels])
    return resampled if data.ndim == 4 else resampled[0]


def resample_spline(coefficients: NDArray[np.float32], source: Grid, target: Grid, fill: float) -> NDArray[np.float32]:
    """Interpolate from one grid to another, no coarser one, by the `interpolation.cubic_spline` of one array."""
    look = partial(look_up_spline, coefficients)
    (values,) = _looked_up(look, (1, *source.shape), _between(source, target), target.shape, fill)
    return np.asarray(values)


def _between(source: Grid, target: Grid) -> Matrix:
    """Voxel indices of `target` to those of `source`, (4, 4)."""
    # Processors differ in the last digits of such products, and then in those of what is interpolated.
    return np.asarray(np.round(np.linalg.inv(source.affine) @ target.affine, 9))


def antialias_sigmas(source: Grid, target: Grid) -> NDArray[np.float64]:
    """Gaussian deviations along the source axes, in source voxels, before sampling at `target`."""
    target_axes = target.affine[:3, :3]
    source_directions = source.affine[:3, :3] / source.voxel_sizes
    # Width of a target voxel seen along each axis of the source.
    widths = np.sqrt(((source_directions.T @ target_axes) ** 2).sum(axis=1))
    fwhm = np.sqrt(np.maximum(widths**2 - source.voxel_sizes**2, 0))
    return np.asarray(fwhm / source.voxel_sizes / np.sqrt(8 * np.log(2)))


def _interpolate(
    channels: FloatArray,
    between: Matrix,
    shape: tuple[int, int, int],
    sigmas: NDArray[np.float64],
    order: int,
    fill: float,
) -> NDArray[np.float32]:
    """Sample channels (C, ...) at the voxels of a grid of `shape`; `between` maps them to their indices."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1).T
    reach = apply_affine(between, corners)
    # Within it the Gaussian decays, and the poles of a spline, which a linear one has not.
    spare = np.ceil(4 * sigmas).astype(int) + (12 if order > 1 else 1)
    start = np.clip(np.floor(reach.min(axis=0)).astype(int) - spare, 0, np.array(channels.shape[1:]) - 1)
    stop = np.clip(np.ceil(reach.max(axis=0)).astype(int) + spare + 1, start + 1, channels.shape[1:])
    window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    part = channels[(slice(None), *window)].astype(np.float32)
    if (sigmas > LEAST_SIGMA).any():
        part = ndimage.gaussian_filter(part, (0, *sigmas), mode="nearest")
    from_window = between.copy()
    from_window[:3, 3] -= start
    look = partial(look_up, part) if order == 1 else partial(look_up_spline, cubic_spline(part))
    return _looked_up(look, part.shape, from_window, shape, fill)


def _looked_up(
    look: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    channels: tuple[int, ...],
    between: Matrix,
    shape: tuple[int, int, int],
    fill: float,
) -> NDArray[np.float32]:
    """Sample what `look` gives of `channels`, a shape (C, ...); as SciPy has it, `fill` begins beyond the centres."""
    found = np.empty((channels[0], *shape), dtype=np.float32)
    last = np.reshape(np.array(channels[1:], dtype=np.float32) - 1, (3, 1, 1, 1))
    thickness = max(1, PART_VOXELS // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], thickness):  # positions of a whole grid would take as much memory as three channels
        slab = found[:, start : start + thickness]
        positions = affine_positions(between, slab.shape[1:], start)
        outside = ((positions < -EDGE_TOLERANCE) | (positions > last + np.float32(EDGE_TOLERANCE))).any(axis=0)
        slab[:] = look(positions.reshape(3, -1)).reshape(slab.shape)
        slab[:, outside] = fill
    return found


def _copy_overlap(
    channel: FloatArray, offset: tuple[int, int, int], shape: tuple[int, int, int], fill: float
) -> NDArray[np.float32]:
    """Copy the voxels from `offset` on into an array of `shape`, `fill` where there are none."""
    copied = np.full(shape, fill, dtype=np.float32)
    low = np.maximum(offset, 0)
    high = np.minimum(np.add(offset, shape), channel.shape)
    if (high > low).all():
        there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        here = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, offset, strict=True))
        copied[here] = channel[there]
    return copied


def pad_to_shape(data: FloatArray, shape: tuple[int, ...]) -> tuple[FloatArray, Pads]:
    """Pad the last three axes symmetrically with zeros; returns the padded array, or the same one, and the pads.

    >>> padded, pads = pad_to_shape(np.ones((3, 4, 5)), (8, 8, 8))
    >>> padded.shape, pads
    ((8, 8, 8), ((2, 3), (2, 2), (1, 2)))
    """
    missing = [want - have for want, have in zip(shape, data.shape[-3:], strict=True)]
    pads = tuple((n // 2, n - n // 2) for n in missing)
    if not any(missing):
        return data, pads
    leading = ((0, 0),) * (data.ndim - 3)
    return np.pad(data, leading + pads), pads


def unpad(data: FloatArray, pads: Pads) -> FloatArray:
    """Undo `pad_to_shape` on the last three axes."""
    x, y, z = (slice(a, n - b) for (a, b), n in zip(pads, data.shape[-3:], strict=True))
    return data[..., x, y, z]


def next_multiple(size: int, multiple: int) -> int:
    """Smallest multiple of `multiple` that is not below `size`."""
    return -(-size // multiple) * multiple

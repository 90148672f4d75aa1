"""Test-time augmentation: random views of a crop, and the way back from them.

Two steps, apart from each other: `place` puts a sample, drawn by `sampling`, on a grid; the `Warp` that
comes of it applies the sample to a crop and carries what a network says back. `transforms` tells what an angle, a
scale or a control point means; both ways are carried out by one trilinear look-up each, at positions computed once for
all networks and channels, because TorchIO resamples channel by channel and inverts an elastic transform to first order
only.

A look-up adds up the eight voxels around a position in the order in which torch's `grid_sample` does, and gives to the
last bit what that gives, from which the results of earlier versions came. Only where a view has something to say is
anything carried back (`Warp.reached`): a hippocampus is a tenth of its crop.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_hsf.segmentation.transforms import WRITTEN_OUT, Matrix, Sample, Shape, Spline, Transforms

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

# The inverse of an elastic transform is solved on every fourth voxel and interpolated between them.
LATTICE_STEP = 4
# Look-ups go through their positions in parts that fit into the processor's cache.
PART_VOXELS = 1 << 14


@dataclass(frozen=True, eq=False)
class Warp:
    """A sample on a grid: the way there and back, for arrays of one shape.

    The view has the shape of the crop. Positions are in voxels.

    Attributes
    ----------
    there : array, (3, X, Y, Z) float32
        For each voxel of the view, where it lies in the crop.
    back : array, (3, X, Y, Z) float32
        For each voxel of the crop, where it lies in the view.
    filled : array, (X, Y, Z) bool
        Voxels of the view whose centre lies outside the crop.
    seen : array, (X, Y, Z) bool
        Voxels of the crop whose centre lies inside the view: its field of view. Like ITK, a field of
        view reaches to the outer edge of its outermost voxels.
    """

    there: Field
    back: Field
    filled: Mask
    seen: Mask

    def apply(self, crop: Field) -> Field:
        """Show a crop (X, Y, Z) as the sample sees it; outside the crop lies its minimum, as in HSF."""
        view = _look_up(crop[None], self.there.reshape(3, -1)).reshape(crop.shape)
        view[self.filled] = crop.min()
        return view

    def reached(self, marked: Mask) -> NDArray[np.intp]:
        """Tell which voxels of the crop, by flat index, were seen and take part of a marked one of the view."""
        touched = marked.copy()  # any of the eight voxels of which a voxel is the first
        for axis in range(3):
            along = np.moveaxis(touched, axis, 0)
            along[:-1] |= along[1:]
        x, y, z = self.back.astype(np.int32)
        first = (x * touched.shape[1] + y) * touched.shape[2] + z
        return np.flatnonzero(touched.ravel().take(first, mode="clip") & self.seen)

    def invert(self, fields: Field, voxels: NDArray[np.intp]) -> Field:
        """Carry fields (C, X, Y, Z) of the view back to voxels of the crop that it saw, linearly: (C, n)."""
        return _look_up(fields, self.back.reshape(3, -1).take(voxels, axis=1))


@dataclass(frozen=True)
class Still:
    """The plain crop or its mirror image, as a way there and back: exact, for no voxel is interpolated.

    Attributes
    ----------
    shape : tuple of int, (3,)
    mirrored : bool
    """

    shape: Shape
    mirrored: bool

    @property
    def seen(self) -> Mask:
        """All voxels of the crop."""
        return np.ones(self.shape, dtype=np.bool_)

    def apply(self, crop: Field) -> Field:
        """Mirror the first axis of a crop (X, Y, Z), or leave it."""
        return np.ascontiguousarray(crop[::-1]) if self.mirrored else crop

    def reached(self, marked: Mask) -> NDArray[np.intp]:
        """Tell where, by flat index, the crop has the marked voxels (X, Y, Z) of the view."""
        return np.flatnonzero(self._back(marked))

    def invert(self, fields: Field, voxels: NDArray[np.intp]) -> Field:
        """Take fields (C, X, Y, Z) of the view at voxels of the crop: (C, n)."""
        return np.stack([self._back(field).ravel()[voxels] for field in fields])

    def _back(self, field: NDArray[Any]) -> NDArray[Any]:
        return field[::-1] if self.mirrored else field


def place(
    sample: Sample | None, shape: Shape, voxel_sizes: Matrix, transforms: Transforms = WRITTEN_OUT
) -> Warp | Still:
    """Put a sample, None for the plain crop, on a grid of `shape` (3,) and `voxel_sizes` (3,) in mm, axes in RAS+."""
    if sample is None or sample.mirrors_alone:
        return Still(shape, mirrored=sample is not None)
    if sample.control_points is None:
        there, back = _affine_positions(transforms.affine(sample, shape, voxel_sizes), shape)
    else:
        there, back = _elastic_positions(transforms.spline(sample, shape, voxel_sizes), shape)
    if sample.flip:
        # The flip is the first step there and the last one back.
        there[0] = shape[0] - 1 - there[0]
        back = np.ascontiguousarray(back[:, ::-1])
    return Warp(there, back, filled=~_inside(there, shape), seen=_inside(back, shape))


def _affine_positions(matrix: Matrix, shape: Shape) -> tuple[Field, Field]:
    """Voxel positions there and back, (3, X, Y, Z)."""
    return _affine_field(matrix, shape), _affine_field(np.asarray(np.linalg.inv(matrix)), shape)


def _affine_field(matrix: Matrix, shape: Shape) -> Field:
    """Images (3, X, Y, Z) of all voxels under a matrix (4, 4)."""
    x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
    positions, wide = np.empty((3, *shape), np.float32), np.empty(shape)
    for (a, b, c, d), row in zip(matrix[:3], positions, strict=True):
        row[:] = np.add(a * x + b * y + d, c * z, out=wide)
    return positions


def _elastic_positions(spline: Spline, shape: Shape) -> tuple[Field, Field]:
    """Voxel positions there and back, (3, X, Y, Z)."""
    axes = [np.arange(n, dtype=np.float64) for n in shape]
    moved = spline.on_lattice(axes)
    for displaced, voxels in zip(moved, np.ix_(*axes), strict=True):
        displaced += voxels
    there = moved.astype(np.float32)
    knots = [np.linspace(0, n - 1, -(-(n - 1) // LATTICE_STEP) + 1) for n in shape]
    targets = np.stack(np.meshgrid(*knots, indexing="ij"))
    way_back = spline.solve(targets.reshape(3, -1)).reshape(targets.shape)
    back = way_back.astype(np.float32)
    for axis, n in enumerate(shape, start=1):
        back = _refined(back, axis, n)
    return there, back


def _refined(values: Field, axis: int, n: int) -> Field:
    """Interpolate linearly from knots to `n` points evenly spread over the same length of an axis."""
    n_knots = values.shape[axis]
    steps = np.linspace(0, n_knots - 1, n)
    before = np.clip(np.floor(steps).astype(int), 0, max(n_knots - 2, 0))
    after = np.minimum(before + 1, n_knots - 1)
    share = np.expand_dims((steps - before).astype(np.float32), tuple(range(1, values.ndim - axis)))
    lower = values.take(before, axis)
    return np.asarray(lower + share * (values.take(after, axis) - lower))


def _inside(positions: Field, shape: Shape) -> NDArray[np.bool_]:
    """Which of the voxel positions (3, X, Y, Z) lie within a grid, outer edges of its voxels included."""
    within = [(axis >= -0.5) & (axis <= n - 0.5) for axis, n in zip(positions, shape, strict=True)]
    return reduce(np.logical_and, within)


def _rounded(positions: Field, n: int) -> Field:
    """Round positions along an axis of n voxels as numbers from -1 to 1 are rounded, which torch's look-up takes.

    Labels stay those of earlier versions.
    """
    rounded = positions * np.float32(2 / max(n - 1, 1))
    rounded -= 1
    rounded += 1
    rounded *= np.float32((n - 1) / 2)
    return rounded


def _look_up(fields: Field, positions: Field) -> Field:
    """Interpolate fields (C, X, Y, Z) linearly at voxel positions (3, n): (C, n); beyond the centres, the nearest."""
    found = np.zeros((len(fields), positions.shape[1]), np.float32)
    flat = fields.reshape(len(fields), -1)
    for start in range(0, positions.shape[1], PART_VOXELS):
        part = slice(start, start + PART_VOXELS)
        first, corners = _corners(positions[:, part], fields.shape[1:])
        for away, weights in corners:
            for field, total in zip(flat, found[:, part], strict=True):
                total += weights * field[away:].take(first, mode="clip")
    return found


def _corners(positions: Field, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], Iterator[tuple[int, Field]]]:
    """Tell the eight voxels around each of n positions (3, n).

    Returns
    -------
    first : array, (n,) intp
        Flat index of the first of each eight.
    corners : iterator of (int, array of (n,) float32)
        How far from the first each of them lies, and what it weighs.
    """
    steps = (shape[1] * shape[2], shape[2], 1)
    first, shares = np.zeros(positions.shape[1], np.intp), []
    for axis, n, step in zip(positions, shape, steps, strict=True):
        values = np.clip(_rounded(axis, n), 0, n - 1)
        # At the last centre, all weight is on the second one.
        before = np.minimum(values.astype(np.int32), max(n - 2, 0))
        first += before * np.int32(step)
        below = before.astype(np.float32)
        shares.append(((below + 1) - values, values - below))
    # An axis of one voxel has no second one; its weight is 0.
    further = [(0, step if n > 1 else 0) for n, step in zip(shape, steps, strict=True)]
    xs, ys, zs = shares
    sides = [z * y for y, z in product(ys, zs)]
    return first, zip(
        (sum(away) for away in product(*further)), (side * x for x, side in product(xs, sides)), strict=True
    )

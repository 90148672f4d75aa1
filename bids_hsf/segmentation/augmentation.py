"""Test-time augmentation: random views of a crop, and the way back from them.

Two steps, apart from each other: `place` puts a sample, drawn by `sampling`, on a grid; the `Warp` that
comes of it applies the sample to a crop and carries what a network says back. `transforms` tells what an angle, a
scale or a control point means; both ways are carried out by one trilinear look-up each, at positions computed once for
all networks and channels, because TorchIO resamples channel by channel and inverts an elastic transform to first order
only.

A look-up is the product of a sparse matrix, the eight weights of each voxel, with the channels: as fast as torch's
`grid_sample`, and to the last bit what it gives, from which the results of earlier versions came.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bids_hsf.segmentation.transforms import WRITTEN_OUT, Matrix, Sample, Shape, Spline, Transforms

Field = NDArray[np.float32]

# The inverse of an elastic transform is solved on every fourth voxel and interpolated between them.
LATTICE_STEP = 4
# A look-up goes through the crop in parts whose weights fit into the processor's cache.
PART_VOXELS = 1 << 15


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
    filled: NDArray[np.bool_]
    seen: NDArray[np.bool_]

    def apply(self, crop: Field) -> Field:
        """Show a crop (X, Y, Z) as the sample sees it; outside the crop lies its minimum, as in HSF."""
        view = _look_up(crop[None], self.there)[0]
        view[self.filled] = crop.min()
        return np.asarray(view)

    def invert(self, fields: Field, slab: slice = slice(None)) -> Field:
        """Carry fields (C, X, Y, Z) of the view back to the crop, linearly; 0 where it was not seen.

        `slab` picks the part of the crop's first axis that is wanted.
        """
        carried = _look_up(fields, self.back[:, slab])
        carried *= self.seen[slab]
        return carried


@dataclass(frozen=True)
class Mirror:
    """The flip alone, as a way there and back: exact, for no voxel is interpolated.

    Attributes
    ----------
    shape : tuple of int, (3,)
    """

    shape: Shape

    @property
    def seen(self) -> NDArray[np.bool_]:
        """All voxels of the crop."""
        return np.ones(self.shape, dtype=np.bool_)

    def apply(self, crop: Field) -> Field:
        """Mirror the first axis of a crop (X, Y, Z)."""
        return np.ascontiguousarray(crop[::-1])

    def invert(self, fields: Field, slab: slice = slice(None)) -> Field:
        """Mirror fields (C, X, Y, Z) back; `slab` picks the part of the crop's first axis that is wanted."""
        return fields[:, ::-1][:, slab]


def place(sample: Sample, shape: Shape, voxel_sizes: Matrix, transforms: Transforms = WRITTEN_OUT) -> Warp | Mirror:
    """Put a sample on a grid of `shape` (3,) and `voxel_sizes` (3,) in mm, axes in RAS+ order."""
    if sample.mirrors_alone:
        return Mirror(shape)
    if sample.control_points is None:
        there, back = _affine_positions(transforms.affine(sample, shape, voxel_sizes), shape)
    else:
        there, back = _elastic_positions(transforms.spline(sample, shape, voxel_sizes), shape)
    if sample.flip:
        # The flip is the first step there and the last one back.
        there[0] = shape[0] - 1 - there[0]
        back = back[:, ::-1]
    return Warp(
        there=_rounded(there, shape),
        back=_rounded(back, shape),
        filled=~_inside(there, shape),
        seen=_inside(back, shape),
    )


def _affine_positions(matrix: Matrix, shape: Shape) -> tuple[Field, Field]:
    """Voxel positions there and back, (3, X, Y, Z)."""
    return _affine_field(matrix, shape), _affine_field(np.asarray(np.linalg.inv(matrix)), shape)


def _affine_field(matrix: Matrix, shape: Shape) -> Field:
    """Images (3, X, Y, Z) of all voxels under a matrix (4, 4)."""
    x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
    positions = np.empty((3, *shape), dtype=np.float32)
    for (a, b, c, d), row in zip(matrix[:3], positions, strict=True):
        np.add(a * x + b * y + d, c * z, out=row, casting="same_kind")
    return positions


def _elastic_positions(spline: Spline, shape: Shape) -> tuple[Field, Field]:
    """Voxel positions there and back, (3, X, Y, Z)."""
    axes = [np.arange(n, dtype=np.float64) for n in shape]
    there = (np.stack(np.meshgrid(*axes, indexing="ij")) + spline.on_lattice(axes)).astype(np.float32)
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


def _rounded(positions: Field, shape: Shape) -> Field:
    """Round voxel positions (3, X, Y, Z) as numbers from -1 to 1 are rounded, which torch's look-up takes.

    Labels stay those of earlier versions.
    """
    rounded = np.empty_like(positions)
    for values, axis, n in zip(rounded, positions, shape, strict=True):
        np.multiply(axis, 2 / max(n - 1, 1), out=values, casting="same_kind")
        values -= 1
        values += 1
        values *= (n - 1) / 2
    return rounded


def _look_up(fields: Field, positions: Field) -> Field:
    """Interpolate fields (C, X, Y, Z) linearly at voxel positions (3, x, y, z); beyond the centres, the nearest."""
    looked_up = np.empty((len(fields), *positions.shape[1:]), np.float32)
    for part in _parts(positions.shape[1:]):
        weights = _weights(positions[:, part], fields.shape[1:])
        for field, found in zip(fields, looked_up[:, part], strict=True):
            found[:] = (weights @ field.ravel()).reshape(found.shape)
    return looked_up


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut the first axis of a grid into parts of about `PART_VOXELS`."""
    planes = max(1, PART_VOXELS * shape[0] // max(1, int(np.prod(shape))))
    for start in range(0, shape[0], planes):
        yield slice(start, start + planes)


def _weights(positions: Field, shape: tuple[int, ...]) -> csr_array:
    """Matrix (N, voxels of a grid) of the weights of the eight voxels around each of N positions (3, ...)."""
    steps = (shape[1] * shape[2], shape[2], 1)
    first, shares = np.zeros(positions[0].size, np.int32), []
    for axis, n, step in zip(positions, shape, steps, strict=True):
        values = np.clip(axis.ravel(), 0, n - 1)
        # At the last centre, all weight is on the second one.
        before = np.minimum(values.astype(np.int32), max(n - 2, 0))
        first += before * np.int32(step)
        below = before.astype(np.float32)
        shares.append(((below + 1) - values, values - below))
    # An axis of one voxel has no second one; its weight is 0.
    further = [(0, step if n > 1 else 0) for n, step in zip(shape, steps, strict=True)]
    weights, voxels = np.empty((len(first), 8), np.float32), np.empty((len(first), 8), np.int32)
    xs, ys, zs = shares
    sides = [z * y for y, z in product(ys, zs)]
    for corner, ((x, side), away) in enumerate(zip(product(xs, sides), product(*further), strict=True)):
        np.multiply(side, x, out=weights[:, corner])
        np.add(first, np.int32(sum(away)), out=voxels[:, corner])
    ends = np.arange(0, weights.size + 1, 8, dtype=np.int32)
    return csr_array((weights.ravel(), voxels.ravel(), ends), shape=(len(first), int(np.prod(shape))))

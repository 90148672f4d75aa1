"""Test-time augmentation: random views of a crop, and the way back from them.

Two steps, apart from each other: `place` puts a sample, drawn by `sampling`, on a grid; the `Warp` that
comes of it applies the sample to a crop and carries what a network says back. `transforms` tells what an angle, a
scale or a control point means; both ways are carried out by one trilinear look-up each, at positions computed once for
all networks and channels, because TorchIO resamples channel by channel and inverts an elastic transform to first order
only.

Only where a view has something to say is anything carried back (`Warp.reached`): a hippocampus is a tenth of its crop.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_hsf.interpolation import affine_positions, look_up, on_product, tents
from bids_hsf.segmentation.transforms import WRITTEN_OUT, Matrix, Sample, Shape, Spline, Transforms

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

# The inverse of an elastic transform is solved on every fourth voxel and interpolated between them.
LATTICE_STEP = 4
# So many fit into the processor's cache.
PLANES_AT_ONCE = 4


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
        view = look_up(crop[None], self.there.reshape(3, -1)).reshape(crop.shape)
        view[self.filled] = crop.min()
        return view

    def reached(self, marked: Mask) -> NDArray[np.intp]:
        """Tell which voxels of the crop, by flat index, were seen and take part of a marked one of the view."""
        touched = marked.copy()  # any of the eight voxels of which a voxel is the first
        for axis in range(3):
            along = np.moveaxis(touched, axis, 0)
            along[:-1] |= along[1:]
        whether = touched.ravel()
        found = np.empty(touched.shape, np.bool_)
        for start in range(0, len(found), PLANES_AT_ONCE):
            slab = slice(start, start + PLANES_AT_ONCE)
            first, y, z = self.back[:, slab].astype(np.int32)
            first *= touched.shape[1]
            first += y
            first *= touched.shape[2]
            first += z
            whether.take(first, mode="wrap", out=found[slab])
        found &= self.seen  # whatever was found for voxels that lie outside the view
        return np.flatnonzero(found)

    def invert(self, fields: Field, voxels: NDArray[np.intp]) -> Field:
        """Carry fields (C, X, Y, Z) of the view back to voxels of the crop that it saw, linearly: (C, n)."""
        return look_up(fields, self.back.reshape(3, -1).take(voxels, axis=1))


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
    return affine_positions(matrix, shape), affine_positions(np.asarray(np.linalg.inv(matrix)), shape)


def _elastic_positions(spline: Spline, shape: Shape) -> tuple[Field, Field]:
    """Voxel positions there and back, (3, X, Y, Z)."""
    axes = [np.arange(n, dtype=np.float32) for n in shape]
    there = spline.on_lattice(axes)
    for displaced, voxels in zip(there, np.ix_(*axes), strict=True):
        displaced += voxels
    knots = [np.linspace(0, n - 1, -(-(n - 1) // LATTICE_STEP) + 1) for n in shape]
    targets = np.stack(np.meshgrid(*knots, indexing="ij")).astype(np.float32)
    way_back = spline.solve(targets.reshape(3, -1)).reshape(targets.shape)
    steps = [np.linspace(0, len(knot) - 1, n) for knot, n in zip(knots, shape, strict=True)]
    weights = [tents(each, len(knot)).astype(np.float32) for each, knot in zip(steps, knots, strict=True)]
    return there, on_product(way_back, weights)


def _inside(positions: Field, shape: Shape) -> NDArray[np.bool_]:
    """Which of the voxel positions (3, X, Y, Z) lie within a grid, outer edges of its voxels included."""
    within = [(axis >= -0.5) & (axis <= n - 0.5) for axis, n in zip(positions, shape, strict=True)]
    return reduce(np.logical_and, within)

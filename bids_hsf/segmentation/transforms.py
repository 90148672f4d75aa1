"""What the numbers of a random view mean: an angle, a scale, a control point, on a grid.

They mean what they do in TorchIO, whose transforms HSF draws. Here these are written out, because TorchIO brings
torch, which takes a second to import and 180 MB of memory; `torchio_transforms` asks TorchIO itself, for views that are
drawn as HSF draws them. The tests hold one against the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_hsf.interpolation import on_product

Matrix = NDArray[np.float64]

Field = NDArray[np.float32]

Shape = tuple[int, int, int]

INVERSION_TOLERANCE = 1e-3  # voxels
INVERSION_ROUNDS = 30
LPS = np.array([-1.0, -1.0, 1.0])  # TorchIO and ITK count the first two axes the other way round
SPLINE_ORDER = 3
# ITK lets a spline reach so many voxels beyond the centre of the outermost one: half a voxel, and some more to be sure.
SPLINE_RIM = 0.625


@dataclass(frozen=True, eq=False)
class Sample:
    """Parameters of one random view; no grid, no image.

    A left-right flip comes first, then either the affine or the elastic transform.

    Attributes
    ----------
    flip : bool
        Mirror the first axis (left-right, in a RAS+ crop).
    scales, degrees, translation_mm : tuple of float, (3,)
        Affine about the centre of the crop, as `torchio.Affine` takes them.
    control_points : array, (n, n, n, 3) float64, or None
        Displacements in mm, in LPS, as `torchio.ElasticDeformation` takes them; None for an affine sample.
    """

    flip: bool
    scales: tuple[float, ...] = (1.0, 1.0, 1.0)
    degrees: tuple[float, ...] = (0.0, 0.0, 0.0)
    translation_mm: tuple[float, ...] = (0.0, 0.0, 0.0)
    control_points: NDArray[np.float64] | None = None

    @property
    def mirrors_alone(self) -> bool:
        """Whether there is nothing but the flip."""
        still = self.scales == (1, 1, 1) and not any(self.degrees) and not any(self.translation_mm)
        return self.flip and self.control_points is None and still


@dataclass(frozen=True, eq=False)
class Spline:
    """Displacement of an elastic transform: a cubic B-spline over a few control points.

    Attributes
    ----------
    coefficients : array, (3, nx, ny, nz) float64
        Displacements in voxels.
    origin, spacing : array, (3,) float64
        Of the control points, in voxels.
    """

    coefficients: Matrix
    origin: Matrix
    spacing: Matrix

    def on_lattice(self, axes: Sequence[Field]) -> Field:
        """Displacements (3, X, Y, Z) at all voxels of three axes."""
        return on_product(self.coefficients, [self._basis(axis, points).T for axis, points in enumerate(axes)])

    def at(self, points: Field) -> Field:
        """Displacements (3, N) at any points (3, N)."""
        x, y, z = (self._basis(axis, values) for axis, values in enumerate(points))
        n_z = len(z)
        terms = (self.coefficients.astype(np.float32).reshape(-1, n_z) @ z).reshape(3, len(x) * len(y), -1)
        terms *= (x[:, None] * y).reshape(len(x) * len(y), -1)
        return np.asarray(terms.sum(axis=1))

    def solve(self, targets: Field) -> Field:
        """Points (3, N) that are displaced onto `targets` (3, N), by fixed-point iteration."""
        points = targets
        for _ in range(INVERSION_ROUNDS):
            before, points = points, targets - self.at(points)
            if np.abs(points - before).max() < INVERSION_TOLERANCE:
                break
        return points

    def _basis(self, axis: int, points: Field) -> Field:
        """Weight of each control point of an axis at `points` (N,): (n, N)."""
        n = self.coefficients.shape[1 + axis]
        steps = (points - np.float32(self.origin[axis])) / np.float32(self.spacing[axis])
        away = np.abs(steps - np.arange(n, dtype=np.float32)[:, None])
        beyond = np.maximum(2 - away, 0)
        near = np.float32(2 / 3) - away * away * (1 - away / 2)
        far = beyond * beyond * beyond / 6
        return np.asarray(np.where(away < 1, near, far))


@dataclass(frozen=True)
class Transforms:
    """Who tells what a sample does on a grid of a shape (3,) and voxel sizes (3,) in mm, axes in RAS+ order.

    Attributes
    ----------
    affine : callable
        Gives the matrix (4, 4) from a view's voxels to the crop's, of an affine sample.
    spline : callable
        Gives the displacement from a view's voxels to the crop's, of an elastic sample.
    """

    affine: Callable[[Sample, Shape, Matrix], Matrix]
    spline: Callable[[Sample, Shape, Matrix], Spline]


def affine(sample: Sample, shape: Shape, voxel_sizes: Matrix) -> Matrix:
    """Write the matrix of `torchio.Affine` out."""
    x, y, z = (_turn(axis, angle) for axis, angle in enumerate(LPS * np.radians(sample.degrees)))
    turn, to_mm = z @ x @ y, LPS * voxel_sizes  # in this order as ITK has Euler's angles
    # The head is turned, moved, then scaled, about the centre; the way from the view into the crop undoes that.
    linear = turn.T / sample.scales * to_mm / to_mm[:, None]
    shift = turn.T @ (LPS * sample.translation_mm) / to_mm
    centre = (np.array(shape) - 1) / 2
    matrix: Matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, centre - linear @ centre - shift
    return matrix


def _turn(axis: int, angle: float) -> Matrix:
    """Matrix (3, 3) that turns by an angle in radians about an axis, the right-handed way."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix: Matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[second, first] = np.sin(angle)
    matrix[first, second] = -matrix[second, first]
    return matrix


def spline(sample: Sample, shape: Shape, voxel_sizes: Matrix) -> Spline:
    """Lay control points over a grid as `torchio.ElasticDeformation` and ITK do: from its edges in float32 on."""
    assert sample.control_points is not None
    to_mm = LPS * voxel_sizes
    edges = np.array([np.full(3, -SPLINE_RIM), np.array(shape) - 1 + SPLINE_RIM]) * to_mm
    low, high = np.sort(edges.astype(np.float32), axis=0)
    spacing = (high - low).astype(np.float64) / (np.array(sample.control_points.shape[:3]) - SPLINE_ORDER)
    coefficients = np.moveaxis(sample.control_points, -1, 0) / to_mm[:, None, None, None]
    return Spline(coefficients, (low - spacing) / to_mm, spacing / to_mm)


WRITTEN_OUT = Transforms(affine, spline)

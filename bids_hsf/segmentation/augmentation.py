"""Test-time augmentation: random views of a crop, and the way back from them.

Two steps, apart from each other: `place` puts a sample, drawn by `sampling`, on a grid; the `Warp` that
comes of it applies the sample to a crop and carries what a network says back. torchio defines the
transforms (what an angle, a scale or a control point means); both ways are carried out by one trilinear
look-up each, at positions computed once for all networks and channels, because torchio resamples
channel by channel and inverts an elastic transform to first order only.

torch and torchio are imported when the first sample is placed, or beforehand by `import_libraries`, and never where
none is asked for, nor for a crop that is mirrored and nothing else.
The one torch operation here runs on one thread, so results do not depend on the number of threads,
and no global state (generators, number of threads) is touched.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

Shape = tuple[int, int, int]

# The inverse of an elastic transform is solved on every fourth voxel and interpolated between them.
LATTICE_STEP = 4
INVERSION_TOLERANCE = 1e-3  # voxels
INVERSION_ROUNDS = 30
_LPS = np.array([-1.0, -1.0, 1.0])  # torchio and ITK count the first two axes the other way round


def import_libraries() -> None:
    """Import what samples need now: it takes more than a second, in which another thread can do something else."""
    import torchio  # noqa: F401
    from scipy.stats import qmc  # noqa: F401


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
        Displacements in mm, as `torchio.ElasticDeformation` takes them; None for an affine sample.
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

    def transform(self) -> Any:
        """Build the `torchio.Affine` or `torchio.ElasticDeformation` that follows the flip."""
        import torchio

        if self.control_points is None:
            return torchio.Affine(scales=self.scales, degrees=self.degrees, translation=self.translation_mm)
        furthest = tuple(float(v) for v in np.abs(self.control_points).max(axis=(0, 1, 2)))
        return torchio.ElasticDeformation(control_points=self.control_points, max_displacement=furthest)


@dataclass(frozen=True, eq=False)
class Warp:
    """A sample on a grid: the way there and back, for arrays of one shape.

    The view has the shape of the crop. Positions are `torch.nn.functional.grid_sample`'s: -1 and 1 at
    the centres of the outermost voxels, last axis first.

    Attributes
    ----------
    there : array, (X, Y, Z, 3) float32
        For each voxel of the view, where it lies in the crop.
    back : array, (X, Y, Z, 3) float32
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
        carried = _look_up(fields, self.back[slab])
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


def place(sample: Sample, shape: Shape, voxel_sizes: NDArray[np.float64]) -> Warp | Mirror:
    """Put a sample on a grid of `shape` (3,) and `voxel_sizes` (3,) in mm, axes in RAS+ order."""
    if sample.mirrors_alone:
        return Mirror(shape)
    if sample.control_points is None:
        there, back = _affine_positions(sample, shape, voxel_sizes)
    else:
        there, back = _elastic_positions(sample, shape, voxel_sizes)
    if sample.flip:
        # The flip is the first step there and the last one back.
        there[0] = shape[0] - 1 - there[0]
        back = back[:, ::-1]
    return Warp(
        there=_normalised(there, shape),
        back=_normalised(back, shape),
        filled=~_inside(there, shape),
        seen=_inside(back, shape),
    )


def _affine_positions(sample: Sample, shape: Shape, voxel_sizes: NDArray[np.float64]) -> tuple[Field, Field]:
    """Voxel positions there and back, (3, X, Y, Z)."""
    transform = sample.transform().get_affine_transform(_blank_image(shape, voxel_sizes))
    to_mm = _LPS * voxel_sizes
    # An affine is known by what it does to the origin and to one step along each axis.
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    steps = [np.array(transform.TransformPoint(tuple(unit))) - origin for unit in np.diag(to_mm)]
    matrix: NDArray[np.float64] = np.eye(4)
    matrix[:3] = np.column_stack([*steps, origin]) / to_mm[:, None]
    return _affine_field(matrix, shape), _affine_field(np.asarray(np.linalg.inv(matrix)), shape)


def _affine_field(matrix: NDArray[np.float64], shape: Shape) -> Field:
    """Images (3, X, Y, Z) of all voxels under a matrix (4, 4)."""
    x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
    positions = np.empty((3, *shape), dtype=np.float32)
    for (a, b, c, d), row in zip(matrix[:3], positions, strict=True):
        np.add(a * x + b * y + d, c * z, out=row, casting="same_kind")
    return positions


def _elastic_positions(sample: Sample, shape: Shape, voxel_sizes: NDArray[np.float64]) -> tuple[Field, Field]:
    """Voxel positions there and back, (3, X, Y, Z)."""
    spline = _Spline.of(sample, shape, voxel_sizes)
    axes = [np.arange(n, dtype=np.float64) for n in shape]
    there = (np.stack(np.meshgrid(*axes, indexing="ij")) + spline.on_lattice(axes)).astype(np.float32)
    knots = [np.linspace(0, n - 1, -(-(n - 1) // LATTICE_STEP) + 1) for n in shape]
    targets = np.stack(np.meshgrid(*knots, indexing="ij"))
    way_back = spline.solve(targets.reshape(3, -1)).reshape(targets.shape)
    back = way_back.astype(np.float32)
    for axis, n in enumerate(shape, start=1):
        back = _refined(back, axis, n)
    return there, back


@dataclass(frozen=True, eq=False)
class _Spline:
    """Displacement of an elastic transform: a cubic B-spline over a few control points.

    Attributes
    ----------
    coefficients : array, (3, nx, ny, nz) float64
        Displacements in voxels.
    origin, spacing : array, (3,) float64
        Of the control points, in voxels.
    """

    coefficients: NDArray[np.float64]
    origin: NDArray[np.float64]
    spacing: NDArray[np.float64]

    @classmethod
    def of(cls, sample: Sample, shape: Shape, voxel_sizes: NDArray[np.float64]) -> "_Spline":
        """Ask torchio (so ITK) where its control points lie and how they move."""
        image = _blank_image(shape, voxel_sizes).as_sitk()
        transform = sample.transform().get_bspline_transform(image)
        fixed = np.array(transform.GetFixedParameters())
        size, origin, spacing, direction = fixed[:3].astype(int), fixed[3:6], fixed[6:9], fixed[9:18]
        to_mm = _LPS * voxel_sizes
        coefficients = np.array(transform.GetParameters()).reshape(3, *size[::-1]).transpose(0, 3, 2, 1)
        return cls(
            coefficients / to_mm[:, None, None, None],
            origin / to_mm,
            spacing * direction.reshape(3, 3).diagonal() / to_mm,
        )

    def on_lattice(self, axes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Displacements (3, X, Y, Z) at all voxels of three axes."""
        x, y, z = (self._basis(axis, points) for axis, points in enumerate(axes))
        along_x = np.einsum("xi,cijk->cxjk", x, self.coefficients)
        along_xy = np.einsum("yj,cxjk->cxyk", y, along_x)
        return np.asarray(np.einsum("zk,cxyk->cxyz", z, along_xy))

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacements (3, N) at any points (3, N)."""
        x, y, z = (self._basis(axis, values) for axis, values in enumerate(points))
        along_z = np.einsum("cijk,nk->cijn", self.coefficients, z)
        along_yz = np.einsum("cijn,nj->cin", along_z, y)
        return np.asarray(np.einsum("cin,ni->cn", along_yz, x))

    def solve(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (3, N) that are displaced onto `targets` (3, N), by fixed-point iteration."""
        points = targets
        for _ in range(INVERSION_ROUNDS):
            before, points = points, targets - self.at(points)
            if np.abs(points - before).max() < INVERSION_TOLERANCE:
                break
        return points

    def _basis(self, axis: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weight of each control point of an axis at `points` (N,): (N, n)."""
        n = self.coefficients.shape[1 + axis]
        steps = (points - self.origin[axis]) / self.spacing[axis]
        away = np.abs(steps[:, None] - np.arange(n))
        near = 2 / 3 - away**2 + away**3 / 2
        far = np.maximum(2 - away, 0) ** 3 / 6
        return np.asarray(np.where(away < 1, near, far))


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


def _normalised(positions: Field, shape: Shape) -> Field:
    """Voxel positions (3, X, Y, Z) as (X, Y, Z, 3), -1 to 1, last axis first."""
    normalised = np.empty((*positions.shape[1:], 3), dtype=np.float32)
    for axis, n in enumerate(shape):
        np.multiply(positions[axis], 2 / max(n - 1, 1), out=normalised[..., 2 - axis], casting="same_kind")
    normalised -= 1
    return normalised


def _look_up(fields: Field, positions: Field) -> Field:
    """Interpolate fields (C, X, Y, Z) linearly at normalised positions; beyond the centres, the nearest."""
    import torch

    with torch.inference_mode():
        # A batch of one keeps to one thread: the volumetric kernel is parallel over the batch alone.
        looked_up = torch.nn.functional.grid_sample(
            torch.from_numpy(np.ascontiguousarray(fields))[None],
            torch.from_numpy(positions)[None],
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
    return np.asarray(looked_up[0].numpy())


def _blank_image(shape: Shape, voxel_sizes: NDArray[np.float64]) -> Any:
    """Build a `torchio.ScalarImage` of zeros on a grid along the scanner's axes."""
    import torchio

    return torchio.ScalarImage(tensor=np.zeros((1, *shape), np.float32), affine=np.diag([*voxel_sizes, 1.0]))

"""Interpolation: of several fields at many positions, worked out once for all of them, and from lattice to lattice.

Several times as fast as one call of `scipy.ndimage` a field.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]
Real = TypeVar("Real", np.float32, np.float64)

# Positions are gone through in parts that fit into the processor's cache.
PART_VOXELS = 1 << 14
# A cubic spline takes part of a voxel before the two that a position lies between, and of one behind; and an axis of
# one voxel has no second one.
SPLINE_VOXELS = 3


def affine_positions(matrix: NDArray[np.float64], shape: tuple[int, ...], start: int = 0) -> Field:
    """Images (3, X, Y, Z) under a matrix (4, 4) of all voxels of `shape`; the first axis counts from `start` on."""
    x, y, z = np.arange(start, start + shape[0])[:, None, None], np.arange(shape[1])[:, None], np.arange(shape[2])
    positions = np.empty((3, *shape), np.float32)
    for (a, b, c, d), row in zip(matrix[:3], positions, strict=True):
        # Wide where it is small: only the last sum is made for each voxel, a plane at a time.
        np.add((a * x).astype(np.float32), (b * y + c * z + d).astype(np.float32), out=row)
    return positions


def look_up(fields: NDArray[np.float32], positions: Field) -> Field:
    """Interpolate fields (C, X, Y, Z) linearly at voxel positions (3, n): (C, n); beyond the centres, the nearest."""
    return _look_up(fields, positions, _between, n_spare=0)


def cubic_spline(fields: NDArray[np.float32]) -> Field:
    """Coefficients (C, X + 3, Y + 3, Z + 3) of fields (C, X, Y, Z), mirrored one voxel before and two behind."""
    fitted = [ndimage.spline_filter(field, 3, output=np.float32, mode="mirror") for field in fields]
    return np.pad(fitted, ((0, 0), *[(1, SPLINE_VOXELS - 1)] * 3), mode="reflect")


def look_up_spline(coefficients: Field, positions: Field) -> Field:
    """Interpolate by `cubic_spline` at positions (3, n) in voxels of the fields; otherwise as `look_up`."""
    return _look_up(coefficients, positions, _among_four, n_spare=SPLINE_VOXELS)


def _look_up(
    fields: NDArray[np.float32],
    positions: Field,
    interpolate: Callable[[Field, NDArray[np.intp], Sequence[int], Field], Field],
    n_spare: int,
) -> Field:
    """Interpolate fields, each of whose axes has some voxels to spare beside those that positions count."""
    if fields.strides[-1] != fields.itemsize or min(fields.strides) < 0:
        fields = np.ascontiguousarray(fields)
    found = np.empty((len(fields), positions.shape[1]), np.float32)
    flat = [_flat(field) for field in fields]
    # An axis of one voxel has no second one.
    steps = [step // fields.itemsize if n > 1 else 0 for n, step in zip(fields.shape, fields.strides, strict=True)][1:]
    for start in range(0, positions.shape[1], PART_VOXELS):
        part = slice(start, start + PART_VOXELS)
        first, shares = _cells(positions[:, part], fields.shape[1:], steps, n_spare)
        for field, values in zip(flat, found, strict=True):
            values[part] = interpolate(field, first, steps, shares)
    return found


def _flat(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Tell all of the memory (n,) from a field's first voxel to its last: a window of a larger array is not copied."""
    n = 1 + sum((n - 1) * step for n, step in zip(field.shape, field.strides, strict=True)) // field.itemsize
    return np.lib.stride_tricks.as_strided(field, (n,), (field.itemsize,), writeable=False)


def _cells(
    positions: Field, shape: tuple[int, ...], steps: Sequence[int], n_spare: int
) -> tuple[NDArray[np.intp], Field]:
    """Tell of positions (3, n) the first of the voxels around, by flat index, and how far behind it they lie, (3, n).

    On the last centre the next voxel, which counts nothing then, is any.
    """
    shares = np.fmax(positions, 0)  # what is no number is the first centre
    np.fmin(shares, np.array([[n - n_spare - 1] for n in shape], np.float32), out=shares)
    before = np.floor(shares)
    shares -= before
    x, y, z = before
    # Numbers of one type are gone through many at a time; in float32 those of a plane's voxels are exact (below 2**24).
    y *= np.float32(steps[1])
    y += z
    first = x.astype(np.int32)
    first *= steps[0]
    first += y.astype(np.int32)
    return first.astype(np.intp), shares


def _between(field: Field, first: NDArray[np.intp], steps: Sequence[int], shares: Field) -> Field:
    """Interpolate a flat field along the first of the axes, between what the others give on either side."""
    if not steps:
        return field.take(first, mode="wrap")  # of the modes that ask nothing, the faster one
    before = _between(field, first, steps[1:], shares[1:])
    after = _between(field[steps[0] :], first, steps[1:], shares[1:])
    after -= before
    after *= shares[0]
    before += after
    return before


def _among_four(field: Field, first: NDArray[np.intp], steps: Sequence[int], shares: Field) -> Field:
    """Sum flat coefficients, four along each axis, by what each cubic B-spline counts."""
    return _weighted(field, first, steps, [_b_splines(share) for share in shares])


def _weighted(field: Field, first: NDArray[np.intp], steps: Sequence[int], weights: Sequence[Sequence[Field]]) -> Field:
    """Sum what the other axes give, by the weights of the first of the axes."""
    if not steps:
        return field.take(first, mode="wrap")
    total: Field = np.zeros(len(first), np.float32)
    for number, weight in enumerate(weights[0]):
        along = _weighted(field[number * steps[0] :], first, steps[1:], weights[1:])
        along *= weight
        total += along
    return total


def _b_splines(share: Field) -> list[Field]:
    """Weights (n,) of four voxels around positions that lie at a share (n,) of the way from the second to the third."""
    rest = 1 - share
    first, last = rest * rest * rest / 6, share * share * share / 6
    second = np.float32(2 / 3) - share * share * (1 + rest) / 2
    return [np.asarray(weight, np.float32) for weight in (first, second, 1 - first - second - last, last)]


def on_product(values: NDArray[np.floating], weights: Sequence[NDArray[Real]]) -> NDArray[Real]:
    """Carry values (C, nx, ny, nz) of knots to all points of three axes, with weights (X, nx), (Y, ny), (Z, nz)."""
    x, y, z = weights
    along_x = x @ values.astype(x.dtype).reshape(len(values), x.shape[1], -1)
    # A stack of products too small to start threads.
    return np.asarray(y @ along_x.reshape(len(values), len(x), y.shape[1], -1) @ z.T)


def tents(steps: NDArray[np.float64], n_knots: int) -> NDArray[np.float64]:
    """Weight (n, n_knots) of each knot 0, 1, 2, ... at points (n,): linear between two, beyond the outermost theirs."""
    within = np.clip(steps, 0, n_knots - 1)
    return np.asarray(np.maximum(1 - np.abs(within[:, None] - np.arange(n_knots)), 0))

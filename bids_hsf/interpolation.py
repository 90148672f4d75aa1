"""Interpolation: of several fields at many positions, worked out once for all of them, and from lattice to lattice.

Several times as fast as one call of `scipy.ndimage` a field.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Real = TypeVar("Real", np.float32, np.float64)

# Positions are gone through in parts that fit into the processor's cache.
PART_VOXELS = 1 << 14


def affine_positions(matrix: NDArray[np.float64], shape: tuple[int, ...], start: int = 0) -> Field:
    """Images (3, X, Y, Z) under a matrix (4, 4) of all voxels of `shape`; the first axis counts from `start` on."""
    x, y, z = np.arange(start, start + shape[0])[:, None, None], np.arange(shape[1])[:, None], np.arange(shape[2])
    positions = np.empty((3, *shape), np.float32)
    for (a, b, c, d), row in zip(matrix[:3], positions, strict=True):
        # Wide where it is small: only the last sum is made for each voxel, a plane at a time.
        np.add((a * x).astype(np.float32), (b * y + c * z + d).astype(np.float32), out=row)
    return positions


def look_up(fields: NDArray[np.float32], positions: Field) -> Field:
    """Interpolate fields (C, X, Y, Z) at voxel positions (3, n): (C, n); beyond the centres, the nearest."""
    shape = fields.shape[1:]
    found = np.empty((len(fields), positions.shape[1]), np.float32)
    # An axis of one voxel has no second one.
    steps = [step if n > 1 else 0 for n, step in zip(shape, (shape[1] * shape[2], shape[2], 1), strict=True)]
    for start in range(0, positions.shape[1], PART_VOXELS):
        part = slice(start, start + PART_VOXELS)
        first, shares = _cells(positions[:, part], shape)
        for field, values in zip(fields, found, strict=True):
            values[part] = _between(field.ravel(), first, steps, shares)
    return found


def _cells(positions: Field, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], list[Field]]:
    """Tell of n positions (3, n) the first of the eight voxels around, by flat index, and how far off it they lie."""
    cells, shares = [], []
    for axis, n in zip(positions, shape, strict=True):
        values = np.fmin(np.fmax(axis, 0), np.float32(n - 1))  # what is no number is the first centre
        # At the last centre, all weight is on the second one.
        before = np.minimum(np.floor(values), np.float32(max(n - 2, 0)))
        values -= before
        cells.append(before)
        shares.append(values)
    x, y, z = cells
    # Numbers of one type are gone through many at a time; in float32 those of a plane's voxels are exact (below 2**24).
    y *= np.float32(shape[2])
    y += z
    first = x.astype(np.intp)
    first *= shape[1] * shape[2]
    first += y.astype(np.intp)
    return first, shares


def _between(field: Field, first: NDArray[np.intp], steps: Sequence[int], shares: Sequence[Field]) -> Field:
    """Interpolate a flat field along the first of the axes, between what the others give on either side."""
    if not steps:
        return field.take(first, mode="wrap")  # all lie within; of the modes that ask nothing, the faster one
    before = _between(field, first, steps[1:], shares[1:])
    after = _between(field[steps[0] :], first, steps[1:], shares[1:])
    after -= before
    after *= shares[0]
    before += after
    return before


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

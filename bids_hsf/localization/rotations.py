"""Rotations in space, as matrices."""

import math

import numpy as np

from bids_hsf.geometry import Matrix

SMALL_ANGLE = 1e-3  # below, the sine of half of it over it is taken from its series


def rotation_matrices(vectors: Matrix) -> Matrix:
    """Make matrices (N, 3, 3) of rotation vectors (N, 3): along the axis, as long as the angle in degrees.

    By way of unit quaternions, to the last bit as `scipy.spatial.transform.Rotation` does, which takes a tenth of a
    second to import.

    >>> rotation_matrices(np.array([[0.0, 0.0, 90.0]])).round(9)[0].tolist()
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    x, y, z = np.deg2rad(vectors).T
    angles = np.sqrt(x * x + y * y + z * z)
    squares = angles * angles
    # The C library's functions, whatever NumPy has for the processor at hand.
    sines, cosines = (np.array([function(angle / 2) for angle in angles]) for function in (math.sin, math.cos))
    is_small = angles <= SMALL_ANGLE
    series = 0.5 - squares / 48 + squares * squares / 3840
    shares = np.where(is_small, series, sines / np.where(is_small, 1, angles))
    x, y, z, w = shares * x, shares * y, shares * z, cosines
    rows = [
        [x * x - y * y - z * z + w * w, 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), -x * x + y * y - z * z + w * w, 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), -x * x - y * y + z * z + w * w],
    ]
    return np.asarray(np.moveaxis(np.array(rows), -1, 0))

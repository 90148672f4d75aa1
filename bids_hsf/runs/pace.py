"""How fast this machine is, against the one on which the seconds of estimates were measured.

Processors in use differ by a factor of two, and one that shares its core with somebody by half as much again.
"""

import time
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

# What `_seconds_of_work` gives where the seconds of `estimates` hold.
USUAL_SECONDS = 0.025
TRIALS = 5
SIDE = 96  # voxels of a cube that does not fit the caches
POINTS = 100_000


@cache
def slowness() -> float:
    """How many times as long as that this machine takes: the best of some trials, a sixth of a second in all."""
    rng = np.random.default_rng(0)
    cube = rng.random((SIDE, SIDE, SIDE), dtype=np.float32)
    points = rng.integers(0, cube.size, POINTS)
    return min(_seconds_of_work(cube, points) for _ in range(TRIALS)) / USUAL_SECONDS


def _seconds_of_work(cube: NDArray[np.float32], points: NDArray[np.int64]) -> float:
    """Processor seconds of what a scan is handled by: turned, looked up, counted, mixed and packed."""
    started = time.thread_time()
    turned = np.ascontiguousarray(cube.T)
    for _ in range(10):
        np.bincount((turned.ravel().take(points) * 255).astype(np.intp), minlength=256)
    for _ in range(4):
        turned *= np.float32(1.01)
        np.minimum(turned, cube, out=turned)
    packed = zlib.compress((cube[: SIDE // 2] * 255).astype(np.uint8).tobytes(), 1)
    zlib.decompress(packed)
    return time.thread_time() - started

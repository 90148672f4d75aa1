"""Run a network over a crop that is too large for one pass: overlapping tiles, blended.

All tiles of a crop have one shape, so that a provider compiles once, and start at multiples of the
network's own step, so that its pooling sees the same blocks of voxels as in one pass.

A network that is made of convolutions and pooling gives the labels of one pass (at most 0.1 % of the
voxels differ, see the tests). One that normalises over all voxels (instance norm, as longaxis has it,
switchable norm) sees the statistics of the tile instead: on crops of 0.6 to 1.5 million voxels,
longaxis changed 0.3-0.7 % of the labels in two tiles, and about 1.5 % in eight. Tiles are therefore as
large as the memory allows, and none are used where the crop fits.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bids_hsf.geometry import next_multiple

FloatArray = NDArray[np.float32]

OVERLAP = 32  # voxels

# The outermost voxels of a tile see the network's zero padding instead of their neighbours: no weight.
HALO = 8
_MOST_TILES = 24  # along one axis


@dataclass(frozen=True)
class Tiling:
    """Where the tiles of a crop lie.

    Attributes
    ----------
    shape : tuple of int, (3,)
        Of the crop.
    tile : tuple of int, (3,)
        Shape of each tile.
    starts : tuple of tuple of int
        First voxels of the tiles along each axis; every combination is a tile.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]

    @property
    def n_tiles(self) -> int:
        """Passes of the network that the crop takes."""
        return math.prod(len(axis) for axis in self.starts)


@lru_cache(maxsize=64)  # asked for each pass
def plan_tiles(shape: tuple[int, ...], most_voxels: int, multiple: int) -> Tiling | None:
    """Choose the tiles that cover a crop with the least work.

    Parameters
    ----------
    shape : tuple of int, (3,)
        Of the crop, each a multiple of `multiple`.
    most_voxels : int
        Of one tile.
    multiple : int
        Of the shape and the start of each tile.

    Returns
    -------
    Tiling or None
        One tile where the crop fits; None where no tile that exceeds its overlaps does.

    Examples
    --------
    >>> plan_tiles((64, 32, 128), 64 * 32 * 96, 8)
    Tiling(shape=(64, 32, 128), tile=(64, 32, 80), starts=((0,), (0,), (0, 48)))
    """
    best: tuple[int, ...] | None = None
    least = math.inf
    choices = [_tile_sizes(size, multiple) for size in shape]
    for tile in itertools.product(*choices):
        if math.prod(tile) > most_voxels:
            continue
        work = math.prod(_count(size, length) * length for size, length in zip(shape, tile, strict=True))
        if work < least:
            best, least = tile, work
    if best is None:
        return None
    starts = tuple(_starts(size, length, multiple) for size, length in zip(shape, best, strict=True))
    return Tiling(shape, best, starts)


def predict_tiled(predict: Callable[[FloatArray], FloatArray], crop: FloatArray, tiling: Tiling) -> FloatArray:
    """Predict tile by tile and blend.

    Parameters
    ----------
    predict : callable
        (X, Y, Z) float32 to (C, X, Y, Z) float32.
    crop : array, (X, Y, Z) float32
        Normalised and padded as a whole.
    tiling : Tiling

    Returns
    -------
    array, (C, X, Y, Z) float32
        Weighted means of the tiles: probabilities stay probabilities.
    """
    weights = [
        _weights(size, length, axis) for size, length, axis in zip(crop.shape, tiling.tile, tiling.starts, strict=True)
    ]
    blended: FloatArray | None = None
    for places in itertools.product(*(range(len(axis)) for axis in tiling.starts)):
        starts = [axis[place] for axis, place in zip(tiling.starts, places, strict=True)]
        box = tuple(slice(start, start + length) for start, length in zip(starts, tiling.tile, strict=True))
        probabilities = predict(crop[box])
        if blended is None:
            blended = np.zeros((len(probabilities), *crop.shape), dtype=np.float32)
        x, y, z = (axis[place] for axis, place in zip(weights, places, strict=True))
        probabilities *= (x[:, None, None] * y[:, None] * z)[None]
        blended[(slice(None), *box)] += probabilities
    assert blended is not None
    return blended


def _tile_sizes(size: int, multiple: int) -> list[int]:
    """Lengths that evenly spread tiles can have along an axis, the whole axis first."""
    sizes = [size]
    for n_tiles in range(2, _MOST_TILES + 1):
        length = next_multiple(math.ceil((size + (n_tiles - 1) * OVERLAP) / n_tiles), multiple)
        if OVERLAP + multiple <= length < sizes[-1]:
            sizes.append(length)
    return sizes


def _count(size: int, length: int) -> int:
    """Least number of tiles of a length that cover an axis and overlap enough."""
    return 1 if length >= size else math.ceil((size - OVERLAP) / (length - OVERLAP))


def _starts(size: int, length: int, multiple: int) -> tuple[int, ...]:
    """First voxels of the tiles along an axis, evenly spread, each a multiple of `multiple`."""
    count = _count(size, length)
    steps = (size - length) // multiple
    return tuple(round(k * steps / max(1, count - 1)) * multiple for k in range(count))


def _weights(size: int, length: int, starts: tuple[int, ...]) -> list[FloatArray]:
    """Weights of the tiles along an axis, (length,) each; they add up to 1 at every voxel."""
    place = np.arange(length)
    total = np.zeros(size)
    weights = []
    for start in starts:
        ramp = np.ones(length)
        if start > 0:
            ramp = np.minimum(ramp, (place - HALO + 0.5) / (OVERLAP - 2 * HALO))
        if start + length < size:
            ramp = np.minimum(ramp, (length - place - HALO - 0.5) / (OVERLAP - 2 * HALO))
        ramp = np.clip(ramp, 0, 1)
        total[start : start + length] += ramp
        weights.append(ramp)
    return [
        (ramp / total[start : start + length]).astype(np.float32) for ramp, start in zip(weights, starts, strict=True)
    ]

"""Brains of known truth, and how one is changed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]


def of_side(labels: NDArray[Any], side: str) -> NDArray[np.bool_]:
    """Voxels of one hippocampus in a label map of both."""
    return labels > 100 if side == "R" else (labels > 0) & (labels < 100)


@dataclass(frozen=True)
class Brain:
    """An image with the hippocampi that are true in it.

    Attributes
    ----------
    name : str
    group : str
        Brains of one group are held out together.
    contrast : str
        "T1w" or "T2w".
    data : array, (X, Y, Z) float32
        Canonical (RAS+).
    affine : array, (4, 4)
    truth : array, (X, Y, Z) int16
        Left 1 and more, right 101 and more.
    beyond : tuple of int, (2,)
        Voxels of the left and the right hippocampus that lie outside of the field of view.
    """

    name: str
    group: str
    contrast: str
    data: Values
    affine: NDArray[np.float64]
    truth: NDArray[np.int16]
    beyond: tuple[int, int] = (0, 0)

    @property
    def voxel_sizes(self) -> NDArray[np.float64]:
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    @property
    def span(self) -> float:
        """Range of the tissue's intensities around the hippocampi."""
        near = self.data[self.around(12.0)]
        low, high = np.percentile(near, [5, 95])
        return float(high - low)

    def around(self, reach_mm: float) -> tuple[slice, ...]:
        """Box around both hippocampi."""
        corners = np.argwhere(self.truth > 0)
        spare = np.ceil(reach_mm / self.voxel_sizes).astype(int)
        start, stop = np.maximum(corners.min(axis=0) - spare, 0), corners.max(axis=0) + spare + 1
        return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))

    def middle(self, side: str = "R") -> NDArray[np.float64]:
        """Middle of a hippocampus, in voxels; of the other where there is one alone."""
        mask = self.mask(side)
        mask = mask if mask.any() else self.truth > 0
        return np.argwhere(mask).mean(axis=0)

    def mask(self, side: str) -> NDArray[np.bool_]:
        """Voxels of a hippocampus."""
        return of_side(self.truth, side)

    def with_data(self, data: Values) -> "Brain":
        return replace(self, data=np.ascontiguousarray(data, dtype=np.float32))

    def kept(self, axis: int, start: int, stop: int) -> "Brain":
        """Part of the field of view; the truth stays whole: what is missing in the scan counts as missed."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, axis] * start
        data, truth = (np.take(values, np.arange(start, stop), axis=axis) for values in (self.data, self.truth))
        part = replace(self, data=np.ascontiguousarray(data), affine=affine, truth=truth)
        left, right = (
            lost + int(self.mask(side).sum() - part.mask(side).sum())
            for side, lost in zip("LR", self.beyond, strict=True)
        )
        return replace(part, beyond=(left, right))

    def distance_mm(self, point: NDArray[np.float64]) -> Values:
        """Of each voxel to a point, in mm."""
        axes = [(np.arange(n) - p) * s for n, p, s in zip(self.data.shape, point, self.voxel_sizes, strict=True)]
        return np.sqrt(sum(np.square(a) for a in np.meshgrid(*axes, indexing="ij", sparse=True))).astype(np.float32)


Change = Callable[[Brain, np.random.Generator], Brain]

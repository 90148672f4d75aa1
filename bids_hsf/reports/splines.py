"""A part of a scan that is cut many times: its cubic spline is fitted once for all cuts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_hsf.geometry import LEAST_SIGMA, Grid, antialias_sigmas, box_around, resample, resample_spline
from bids_hsf.interpolation import cubic_spline

ORDER = 3
REACH = 8  # voxels within which a spline forgets its surroundings, but for less than a grey value
MAX_VOXELS = 4_000_000  # of 4 bytes; of more, each cut fits its own surroundings


@dataclass(frozen=True, eq=False)
class SplinedPart:
    """What cuts of a scan need of it.

    Attributes
    ----------
    image : array, (X, Y, Z) floating
    grid : Grid
        Of `image`.
    part : Grid
        Where the cuts lie.
    coefficients : array, (1, X, Y, Z) float32
        Spline of the scan in `part`; None where that is too large.
    """

    image: NDArray[np.floating]
    grid: Grid
    part: Grid
    coefficients: NDArray[np.float32] | None

    @classmethod
    def around(cls, image: NDArray[np.floating], grid: Grid, cuts: Sequence[Grid]) -> "SplinedPart":
        """Fit the spline of the part of a scan that some cuts lie in."""
        corners = np.concatenate([grid.to_voxels(cut.corners()) for cut in cuts])
        box = box_around(corners, np.full(3, REACH), image.shape, "")
        values = image[box.slices]
        fitted = None
        if 0 < values.size <= MAX_VOXELS:
            fitted = cubic_spline(values[None].astype(np.float32))
        return cls(image, grid, grid.subgrid(box.start, box.stop), fitted)

    def cut(self, target: Grid, fill: float) -> NDArray[np.float32]:
        """Interpolate on a grid within the part, as `geometry.resample` does; `fill` is the value outside the scan."""
        # What is coarser than the scan needs it smoothed first.
        if self.coefficients is None or (antialias_sigmas(self.grid, target) > LEAST_SIGMA).any():
            return resample(self.image, self.grid, target, order=ORDER, fill=fill)
        return resample_spline(self.coefficients, self.part, target, fill)

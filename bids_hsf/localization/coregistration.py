"""Bring two contrasts of one head together: rigid registration, from where the scanner says they lie.

How good the answer is, is told by two figures that need no reference. Sharpness: how much of the
mutual information is lost when the answer is displaced by 4 mm; two contrasts of one head lose a good
part of it, what does not belong together loses little. Repeatability: how far apart two searches end
that begin on opposite sides of the answer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.errors import ScanError
from bids_hsf.geometry import Grid, Matrix
from bids_hsf.localization.metric import Matcher, channel, foreground_edges
from bids_hsf.localization.refinement import refine_rigid
from bids_hsf.localization.search import search
from bids_hsf.localization.volume import Volume, foreground_threshold, from_background, shrink

WORK_VOXEL_MM = 2.0
DISPLACEMENT_MM = 4.0

# Pairs of one head have 0.4 and more, 0.33 with slices of 4 mm, 0.31 with voxels of 3 mm, 0.15 with strong shading and
# noise in both; two different heads 0.18 to 0.26; what does not fit at all below 0.06, or a second search ends
# elsewhere.
MIN_JOINED_QUALITY = 0.28  # two heads' votes must never be joined, whatever that costs noisy scans
MIN_QUALITY = 0.1  # to look for the hippocampi where the other scan has them: the place is judged afterwards
MAX_DISAGREEMENT_MM = 3.0

# The hippocampi lie within this distance of the middle of the head.
REACH_MM = 40.0
N_BINS = 24
N_POINTS = 8000

# Shift in mm, turn in degrees, no scale: how far a search strays from its starts at first.
SPREAD = np.array([5.0, 5.0, 5.0, 4.0, 4.0, 4.0, 0.0])


@dataclass(frozen=True, eq=False)
class Coregistration:
    """Where the second contrast lies with respect to the reference.

    Attributes
    ----------
    reference_from_second : array, (4, 4) float64
        RAS+ mm of the second scan to RAS+ mm of the reference; rigid.
    quality : float
        Share of the mutual information that a displacement of 4 mm costs, 0 to 1.
    disagreement_mm : float
        Largest distance, within 40 mm of the middle of the head, between the answers of two searches.
    """

    reference_from_second: Matrix
    quality: float
    disagreement_mm: float

    def is_usable(self, min_quality: float = MIN_QUALITY) -> bool:
        """Whether the two scans come together."""
        return self.quality >= min_quality and self.disagreement_mm <= MAX_DISAGREEMENT_MM

    def as_record(self) -> dict[str, Any]:
        """Plain values for the sidecar."""
        return {
            "Quality": round(self.quality, 4),
            "DisagreementMm": round(self.disagreement_mm, 3),
            "ReferenceFromScan": np.round(self.reference_from_second, 5).tolist(),
        }

    def checked(self, reference: str, second: str) -> "Coregistration":
        """Give itself, unless it is too bad to join the votes of both scans.

        Raises
        ------
        ScanError
            The two scans, which are named in the message, do not come together.
        """
        if self.is_usable(MIN_JOINED_QUALITY):
            return self
        raise ScanError(
            f"{second} cannot be brought together with {reference}: quality {self.quality:.2f}, expected "
            f"{MIN_JOINED_QUALITY:g} or more; two searches end {self.disagreement_mm:.1f} mm apart, expected "
            f"{MAX_DISAGREEMENT_MM:g} mm or less",
            "Check that both scans are of one head and whole, or run without --multispectral.",
        )


def coregister(
    reference: NDArray[Any], reference_grid: Grid, second: NDArray[Any], second_grid: Grid
) -> Coregistration:
    """Register two contrasts of one head rigidly.

    Parameters
    ----------
    reference, second : array, (X, Y, Z)
        Canonical (RAS+) intensities of any kind, on any grids.
    reference_grid, second_grid : Grid
        Of the two.

    Returns
    -------
    Coregistration
        Good or bad; see `Coregistration.checked`.
    """
    # The smaller field of view is sampled: a slab lies in the whole head, not the head in the slab.
    second_is_smaller = _extent(second_grid) < _extent(reference_grid)
    volumes = [_work_volume(reference, reference_grid), _work_volume(second, second_grid)]
    fixed, moving = reversed(volumes) if second_is_smaller else volumes
    pair = _Pair.of(fixed, moving)
    solution, again = pair.solved(seed=0), pair.solved(seed=1)
    return Coregistration(
        solution if second_is_smaller else np.asarray(np.linalg.inv(solution)),
        pair.sharpness(solution),
        pair.distance_mm(solution, again),
    )


def _extent(grid: Grid) -> float:
    return float(np.prod(grid.shape)) * grid.voxel_volume


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two contrasts, reduced for registration; transforms lead from `fixed` to `moving` mm.

    Attributes
    ----------
    fixed, moving : Volume
        At about 2 mm.
    head : array, (X, Y, Z) bool
        Head in `fixed`, with its rim.
    matcher : Matcher
        Judges transforms on a few thousand points of the head.
    """

    fixed: Volume
    moving: Volume
    head: NDArray[np.bool_]
    matcher: Matcher

    @classmethod
    def of(cls, fixed: Volume, moving: Volume) -> "_Pair":
        """Draw the points on which two volumes are compared."""
        head = ndimage.binary_dilation(_foreground(fixed), iterations=2)
        indices = np.argwhere(head)
        indices = indices[:: max(1, len(indices) // N_POINTS)]
        codes = channel(
            fixed.values[tuple(indices.T)],
            foreground_edges(fixed.values, N_BINS),
            moving.values,
            foreground_edges(moving.values, N_BINS),
        )
        return cls(fixed, moving, head, Matcher(fixed.grid.to_mm(indices), (codes,), moving.grid))

    @property
    def center(self) -> Matrix:
        """Middle (3,) of the head in `fixed`."""
        return np.asarray(self.matcher.points.mean(axis=0))

    def solved(self, seed: int) -> Matrix:
        """Search from the scanner's geometry and, should that be lost, from the middles of the heads."""
        starts = np.tile(np.eye(4), (2, 1, 1))
        starts[1, :3, 3] = self.moving.grid.to_mm(np.argwhere(_foreground(self.moving))).mean(axis=0) - self.center
        found = search(self.matcher, starts, self.center, SPREAD, seed)
        return refine_rigid(self.fixed, self.head, self.moving, found, self.center)

    def sharpness(self, solution: Matrix) -> float:
        """Share of the mutual information that a displacement costs, mean over six directions."""
        displaced = np.tile(solution, (7, 1, 1))
        displaced[1:, :3, 3] += np.concatenate([np.eye(3), -np.eye(3)]) * DISPLACEMENT_MM
        information, *others = self.matcher.scores(displaced)
        return float(np.clip(1 - np.mean(others) / information, 0, 1)) if information > 0 else 0.0

    def distance_mm(self, first: Matrix, second: Matrix) -> float:
        """Largest distance between two answers near the middle of the head."""
        points = self.center + np.concatenate([np.eye(3), -np.eye(3)]) * REACH_MM
        return float(np.linalg.norm(apply_affine(first, points) - apply_affine(second, points), axis=1).max())


def _work_volume(data: NDArray[Any], grid: Grid) -> Volume:
    """Average blocks of voxels to at most 2 mm."""
    return from_background(shrink(Volume(data, grid), WORK_VOXEL_MM))


def _foreground(volume: Volume) -> NDArray[np.bool_]:
    """Head against air."""
    return np.asarray(ndimage.binary_fill_holes(volume.values > foreground_threshold(volume.values)))

"""Bring two contrasts of one head together: rigid registration, from where the scanner says they lie.

How good the answer is, is told by two figures that need no reference. Sharpness: how much of the
mutual information is lost when the answer is displaced by 4 mm; two contrasts of one head lose a good
part of it, what does not belong together loses little. Repeatability: how far apart two searches end
that begin on opposite sides of the answer.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.errors import ScanError
from bids_hsf.geometry import Grid, Matrix
from bids_hsf.localization.intensities import Intensities, foreground_threshold, from_background, shrink
from bids_hsf.localization.metric import MutualInformation, bin_intensities, foreground_edges
from bids_hsf.localization.refinement import refine_rigid
from bids_hsf.localization.search import SearchSettings, search

# Pairs of one head have 0.4 and more, 0.33 with slices of 4 mm, 0.31 with voxels of 3 mm, 0.15 with strong shading and
# noise in both; two different heads 0.18 to 0.26; what does not fit at all below 0.06, or a second search ends
# elsewhere.
MIN_JOINED_QUALITY = 0.28  # two heads' votes must never be joined, whatever that costs noisy scans
GOOD_QUALITY = 0.33  # with less it is worth a look
MIN_QUALITY = 0.1  # to look for the hippocampi where the other scan has them: the place is judged afterwards
MAX_DISAGREEMENT_MM = 3.0

# No scan alone tells the left of a head from its right, two tell whether they agree: seven pairs of five heads had 0.48
# to 0.84 as they are, and 0.35 to 0.62 times that with one of them mirrored. Two different heads have 0.9 times, a
# template that is symmetric once. A pair this good is not asked.
UNASKED_QUALITY = 0.45
MIRRORED_RATIO = 1.3

# Heads move little between two scans of a session, and do not change their size.
RIGID_SEARCH = SearchSettings(shift_mm=5.0, turn_degrees=4.0, log_scale=0.0)


@dataclass(frozen=True)
class CoregistrationSettings:
    """How two contrasts are brought together, and how the answer is judged.

    Attributes
    ----------
    voxel_mm : float
        At most, of both scans once they are reduced.
    n_points : int
        Of the head on which a search compares the two; a few more are taken.
    n_bins : int
        Of the joint histogram, an axis, background included.
    rim_voxels : int
        Of air around the head, which tells where it ends.
    search : SearchSettings
        Near its starts.
    displacement_mm : float
        By which the answer is displaced to see how sharp it is.
    reach_mm : float
        Distance from the middle of the head within which the hippocampi lie: there two answers are compared.
    """

    voxel_mm: float = 2.0
    n_points: int = 8000
    n_bins: int = 24
    rim_voxels: int = 2
    search: SearchSettings = RIGID_SEARCH
    displacement_mm: float = 4.0
    reach_mm: float = 40.0


COREGISTRATION = CoregistrationSettings()


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
    mirrored_quality : float
        The quality that the second scan would have as its mirror image; 0 where its own is above all doubt.
    """

    reference_from_second: Matrix
    quality: float
    disagreement_mm: float
    mirrored_quality: float = 0.0

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right are exchanged in one of the two scans."""
        return self.mirrored_quality >= max(GOOD_QUALITY, MIRRORED_RATIO * self.quality)

    @property
    def exchange(self) -> str:
        """Say of two scans that are mirrored what that means, behind the words that name them."""
        return (
            f"only as a mirror image (quality {self.mirrored_quality:.2f}, as it is {self.quality:.2f}): left and "
            "right are exchanged in one of both"
        )

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
        if self.is_mirrored:
            raise ScanError(
                f"{second} fits {reference} {self.exchange}",
                "Another scan of this person tells which one it is; convert that one anew.",
            )
        if self.is_usable(MIN_JOINED_QUALITY):
            return self
        raise ScanError(
            f"{second} cannot be brought together with {reference}: quality {self.quality:.2f}, expected "
            f"{MIN_JOINED_QUALITY:g} or more; two searches end {self.disagreement_mm:.1f} mm apart, expected "
            f"{MAX_DISAGREEMENT_MM:g} mm or less",
            "Check that both scans are of one head and whole, or run without --multispectral.",
        )


def coregister(
    reference: NDArray[Any],
    reference_grid: Grid,
    second: NDArray[Any],
    second_grid: Grid,
    settings: CoregistrationSettings = COREGISTRATION,
) -> Coregistration:
    """Register two contrasts of one head rigidly.

    Parameters
    ----------
    reference, second : array, (X, Y, Z)
        Canonical (RAS+) intensities of any kind, on any grids.
    reference_grid, second_grid : Grid
        Of the two.
    settings : CoregistrationSettings

    Returns
    -------
    Coregistration
        Good or bad; see `Coregistration.checked`.
    """
    found = _coregistered(reference, reference_grid, second, second_grid, settings)
    if found.quality >= UNASKED_QUALITY:
        return found
    mirrored = _coregistered(reference, reference_grid, second[::-1], second_grid, settings)
    return replace(found, mirrored_quality=mirrored.quality)


def _coregistered(
    reference: NDArray[Any],
    reference_grid: Grid,
    second: NDArray[Any],
    second_grid: Grid,
    settings: CoregistrationSettings,
) -> Coregistration:
    """Register two images as they are."""
    # The smaller field of view is sampled: a slab lies in the whole head, not the head in the slab.
    second_is_smaller = _extent(second_grid) < _extent(reference_grid)
    reduced = [
        from_background(shrink(Intensities(data, grid), settings.voxel_mm))
        for data, grid in ((reference, reference_grid), (second, second_grid))
    ]
    fixed, moving = reversed(reduced) if second_is_smaller else reduced
    heads = _Heads.of(fixed, moving, settings)
    solution, again = heads.solved(seed=0), heads.solved(seed=1)
    return Coregistration(
        solution if second_is_smaller else np.asarray(np.linalg.inv(solution)),
        heads.sharpness(solution),
        heads.distance_mm(solution, again),
    )


def _extent(grid: Grid) -> float:
    """Volume of a field of view in mm3."""
    return float(np.prod(grid.shape)) * grid.voxel_volume


@dataclass(frozen=True, eq=False)
class _Heads:
    """Two contrasts, reduced for registration; transforms lead from `fixed` to `moving` mm.

    Attributes
    ----------
    fixed, moving : Intensities
        At about 2 mm.
    mask : array, (X, Y, Z) bool
        Head in `fixed`, with its rim.
    metric : MutualInformation
        On a few thousand points of the head.
    settings : CoregistrationSettings
    """

    fixed: Intensities
    moving: Intensities
    mask: NDArray[np.bool_]
    metric: MutualInformation
    settings: CoregistrationSettings

    @classmethod
    def of(cls, fixed: Intensities, moving: Intensities, settings: CoregistrationSettings) -> "_Heads":
        """Draw the points on which the two are compared."""
        mask = ndimage.binary_dilation(_foreground(fixed), iterations=settings.rim_voxels)
        indices = np.argwhere(mask)
        indices = indices[:: max(1, len(indices) // settings.n_points)]
        binned = bin_intensities(
            fixed.values[tuple(indices.T)],
            foreground_edges(fixed.values, settings.n_bins),
            moving.values,
            foreground_edges(moving.values, settings.n_bins),
        )
        metric = MutualInformation(fixed.grid.to_mm(indices), (binned,), moving.grid)
        return cls(fixed, moving, mask, metric, settings)

    @property
    def center(self) -> Matrix:
        """Middle (3,) of the head in `fixed`."""
        return np.asarray(self.metric.points.mean(axis=0))

    def solved(self, seed: int) -> Matrix:
        """Search from the scanner's geometry and, should that be lost, from the middles of the heads."""
        starts = np.tile(np.eye(4), (2, 1, 1))
        starts[1, :3, 3] = self.moving.grid.to_mm(np.argwhere(_foreground(self.moving))).mean(axis=0) - self.center
        found = search(self.metric, starts, self.center, seed, self.settings.search)
        return refine_rigid(self.fixed, self.mask, self.moving, found, self.center)

    def sharpness(self, solution: Matrix) -> float:
        """Share of the mutual information that a displacement costs, mean over six directions."""
        displaced = np.tile(solution, (7, 1, 1))
        displaced[1:, :3, 3] += _six_directions() * self.settings.displacement_mm
        information, *others = self.metric.scores(displaced)
        return float(np.clip(1 - np.mean(others) / information, 0, 1)) if information > 0 else 0.0

    def distance_mm(self, first: Matrix, second: Matrix) -> float:
        """Largest distance between two answers near the middle of the head."""
        points = self.center + _six_directions() * self.settings.reach_mm
        return float(np.linalg.norm(apply_affine(first, points) - apply_affine(second, points), axis=1).max())


def _six_directions() -> Matrix:
    """Both ways along each axis, (6, 3)."""
    return np.concatenate([np.eye(3), -np.eye(3)])


def _foreground(intensities: Intensities) -> NDArray[np.bool_]:
    """Head against air."""
    return np.asarray(ndimage.binary_fill_holes(intensities.values > foreground_threshold(intensities.values)))

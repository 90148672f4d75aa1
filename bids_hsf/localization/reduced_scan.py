"""A scan, reduced for registration to the template."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from bids_hsf.geometry import Grid
from bids_hsf.localization.features import load_features
from bids_hsf.localization.intensities import Intensities, from_background, shrink, smooth, without_shading
from bids_hsf.localization.metric import MutualInformation, bin_intensities, foreground_edges


@dataclass(frozen=True)
class ReductionSettings:
    """How far a scan is reduced.

    Attributes
    ----------
    fine_voxel_mm : float
        At most, of what hippocampi look for their own place in; as the template's.
    coarse_voxel_mm : float
        At most, of what the head is searched for in.
    n_bins : int
        Of the joint histogram, an axis, background included.
    """

    fine_voxel_mm: float = 2.0
    coarse_voxel_mm: float = 4.0
    n_bins: int = 16


REDUCTION = ReductionSettings()


@dataclass(frozen=True, eq=False)
class ReducedScan:
    """A scan, reduced for registration to the template.

    Attributes
    ----------
    fine, coarse, smooth : Intensities
        At about 2 mm, 4 mm, and 4 mm as smooth as the template where its gradients are taken.
    metric : MutualInformation
        Of the whole heads.
    """

    fine: Intensities
    coarse: Intensities
    smooth: Intensities
    metric: MutualInformation

    @classmethod
    def of(cls, data: NDArray[Any], grid: Grid, settings: ReductionSettings = REDUCTION) -> "ReducedScan":
        """Reduce a canonical scan (X, Y, Z)."""
        features = load_features()
        fine = from_background(shrink(Intensities(data, grid), settings.fine_voxel_mm))
        coarse = shrink(fine, settings.coarse_voxel_mm)
        soft, unshaded = (smooth(view, features.settings.soft_sigma) for view in (coarse, without_shading(coarse)))
        binned = []
        for expected, observed in zip(features.head, (soft, unshaded), strict=True):
            edges = [foreground_edges(each.values, settings.n_bins) for each in (expected, observed)]
            binned.append(bin_intensities(expected.values, edges[0], observed.values, edges[1]))
        return cls(fine, coarse, soft, MutualInformation(features.head[0].points, tuple(binned), coarse.grid))

"""Candidate transforms, and how well each fits.

That is told by a figure that the search never sees: how far the edges of scan and template run in the same directions
around the hippocampi.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from nibabel.affines import apply_affine

from bids_hsf.findings import Finding
from bids_hsf.geometry import Grid, Matrix
from bids_hsf.localization.features import TemplateSamples, brain_share, load_features
from bids_hsf.localization.intensities import cut_around, smooth, values_at
from bids_hsf.localization.location import DOUBTFUL_QUALITY
from bids_hsf.localization.metric import (
    MutualInformation,
    bin_intensities,
    normalised_gradient_field,
    quantile_edges,
)
from bids_hsf.localization.pattern_search import pattern_search
from bids_hsf.localization.plausibility import implausibilities
from bids_hsf.localization.reduced_scan import ReducedScan
from bids_hsf.localization.template import load_template

# With less of the brain in view its twelve parameters cannot be told.
AFFINE_BRAIN_SHARE = 0.6


@dataclass(frozen=True)
class PlaceSettings:
    """How a hippocampus looks for its own place.

    Attributes
    ----------
    margin_mm : float
        Of the part of the scan that is looked at, beyond the template's samples: it may shift by 9 mm and turn.
    min_share : float
        Of the samples in view: with less a hippocampus stays where the transform of the whole head puts it.
    n_bins : int
        Of the joint histogram, an axis.
    """

    margin_mm: float = 12.0
    min_share: float = 0.3
    n_bins: int = 16


OWN_PLACE = PlaceSettings()


@dataclass(frozen=True, eq=False)
class Candidate:
    """A transform that may be the answer.

    Attributes
    ----------
    scan_from_template : array, (4, 4) float64
        Template mm to scan mm.
    hippocampi : mapping of str to array, (N, 3) float64
        Hemisphere to the points of its hippocampus in template mm, which the transform carries into the scan.
    quality : float
        As a `Location` has it.
    complaints : tuple of Finding
        Why this cannot be a head.
    places : mapping of str to array, (4, 4) float64
        Hemisphere to the transform in template mm that has brought its hippocampus closer; none where missing.
    """

    scan_from_template: Matrix
    hippocampi: Mapping[str, Matrix]
    quality: float
    complaints: tuple[Finding, ...]
    places: Mapping[str, Matrix] = field(default_factory=dict)

    @property
    def doubtful(self) -> bool:
        """Whether the hippocampi may be elsewhere."""
        return self.quality < DOUBTFUL_QUALITY

    def middle(self, hemisphere: str) -> Matrix:
        """Middle (3,) of a hippocampus in the scan's mm."""
        return np.asarray(apply_affine(self.scan_from_template, self.hippocampi[hemisphere]).mean(axis=0))


def holds_part_only(scan_from_template: Matrix, grid: Grid) -> bool:
    """Whether a scan has so little of the brain in view that an affine may stray."""
    return brain_share(scan_from_template, grid) < AFFINE_BRAIN_SHARE


def judged(scan: ReducedScan, scan_from_template: Matrix) -> Candidate:
    """Let each hippocampus find its own place, and tell how well the edges fit then.

    Parameters
    ----------
    scan : ReducedScan
    scan_from_template : array, (4, 4)
        Template mm to scan mm.
    """
    features = load_features()
    hippocampi, fits, places = {}, [], {}
    for side, gradients in features.hippocampus_gradients.items():
        points = load_template().hippocampi[side]
        place = _own_place(scan, scan_from_template, features.hippocampus_intensities[side], points)
        places[side], hippocampi[side] = place, np.asarray(apply_affine(place, points))
        fits.append(_fit(scan, scan_from_template @ place, gradients))
    if holds_part_only(scan_from_template, scan.fine.grid):
        # A slab may hold a sliver of the hippocampi, or none: all of the brain in view has to fit as well.
        fits.append(_fit(scan, scan_from_template, features.brain_gradients))
    quality = min((fit for fit in fits if fit is not None), default=0.0)
    complaints = implausibilities(scan_from_template, hippocampi)
    quality = 0.0 if complaints else float(np.clip(quality, 0, 1))
    return Candidate(scan_from_template, hippocampi, quality, complaints, places)


def quality_in_place(scan: ReducedScan, candidate: Candidate, own: Mapping[str, Matrix]) -> float:
    """Quality that a candidate would have with its hippocampi moved onto somebody's.

    Parameters
    ----------
    scan : ReducedScan
    candidate : Candidate
    own : mapping of str to array, (N, 3) float64
        Hemisphere to points that fill its hippocampus in the scan's mm.
    """
    fits = []
    for side, gradients in load_features().hippocampus_gradients.items():
        moved = np.eye(4)
        if side in own:
            moved[:3, 3] = own[side].mean(axis=0) - candidate.middle(side)
        place = candidate.places.get(side, np.eye(4))
        fits.append(_fit(scan, moved @ candidate.scan_from_template @ place, gradients))
    quality = min((fit for fit in fits if fit is not None), default=0.0)
    return 0.0 if candidate.complaints else float(np.clip(quality, 0, 1))


def _fit(scan: ReducedScan, scan_from_template: Matrix, gradients: TemplateSamples) -> float | None:
    """Normalised gradient field at some of the template's points."""
    return normalised_gradient_field(scan.smooth, scan_from_template, gradients.points, gradients.values)


def _own_place(
    scan: ReducedScan,
    scan_from_template: Matrix,
    around: TemplateSamples,
    hippocampus: Matrix,
    settings: PlaceSettings = OWN_PLACE,
) -> Matrix:
    """Transform (4, 4) in template mm that brings one hippocampus closer than the affine does."""
    carried = apply_affine(scan_from_template, around.points)
    part = cut_around(scan.fine, carried, settings.margin_mm)
    if part is None or part.grid.holds(carried).mean() < settings.min_share:
        return np.eye(4)
    view = smooth(part, load_features().settings.fine_sigma)
    there = values_at(view, carried[part.grid.holds(carried)])
    edges = [quantile_edges(values, settings.n_bins) for values in (around.values, there)]
    binned = bin_intensities(around.values, edges[0], view.values, edges[1])
    metric = MutualInformation(around.points, (binned,), part.grid)
    return pattern_search(metric, scan_from_template, hippocampus.mean(axis=0))

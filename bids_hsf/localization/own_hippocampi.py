"""Hippocampi from somebody's label map: they take the place of the template's, where they fit the scan.

A map is often drawn on another scan of the participant: another session, another run, the mean of several. If the
image that it was drawn on is there, it is registered to the scan and the map goes with it; in any case the map is
held against the scan itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.errors import ScanError, StorageError
from bids_hsf.findings import Finding, Weight
from bids_hsf.geometry import Grid, Matrix
from bids_hsf.localization.candidates import Candidate
from bids_hsf.localization.coregistration import MIN_JOINED_QUALITY, coregister
from bids_hsf.localization.crops import DEFAULT_MARGIN_MM
from bids_hsf.localization.location import DOUBTFUL_QUALITY
from bids_hsf.localization.template import BRAIN_CENTER, load_template

# The crop reaches so far beyond a map: with one that lies further off, a part of the hippocampus is cut away.
MAX_DISTANCE_MM = DEFAULT_MARGIN_MM

# Further off than this it is another head's, however well its edges fit.
MAX_BETTER_DISTANCE_MM = 15.0

# A map that its own image moves by less is of this very scan, and left as it is.
SAME_PLACE_MM = 1.0

# In the provenance of a location, where a map was there and is not what the boxes rest on.
REFUSED = {"LabelMapUsed": False}


@dataclass(frozen=True, eq=False)
class CarriedHippocampi:
    """Hippocampi of a label map, brought to a scan.

    Attributes
    ----------
    points : mapping of str to array, (N, 3) float64, or None
        Hemisphere to points in the scan's mm; None where the map is of another head.
    provenance : mapping of str to value
        How they came there, for the sidecar.
    remarks : tuple of Finding
        What a reader of the results should know.
    """

    points: Mapping[str, Matrix] | None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[Finding, ...] = ()


def carried_by_image(
    own: Mapping[str, Matrix],
    read_image: Callable[[], tuple[NDArray[np.float32], Grid]] | None,
    data: NDArray[np.float32],
    grid: Grid,
) -> CarriedHippocampi:
    """Register the image that a map was drawn on to a scan, and carry the map's hippocampi with it.

    Parameters
    ----------
    own : mapping of str to array, (N, 3) float64
        Hemisphere to points in the mm of that image.
    read_image : callable or None
        Gives its canonical intensities and their grid, or raises a `ScanError`; None where there is none: the
        points are then taken as they are, and it is for `with_own_hippocampi` to say whether they fit.
    data : array, (X, Y, Z) float32
        The scan.
    grid : Grid
        Of `data`.
    """
    if read_image is None:
        return CarriedHippocampi(own)
    try:
        image, image_grid = read_image()
    except (ScanError, StorageError) as error:
        text = f"the image of the label map cannot be read: {error.message}"
        return CarriedHippocampi(own, {}, (Finding("label-map-image", Weight.CHECK, text),))
    together = coregister(data, grid, image, image_grid)
    if not together.is_usable(MIN_JOINED_QUALITY):
        quality, limit = together.quality, MIN_JOINED_QUALITY
        text = (
            f"the label map is not used: the image that it was drawn on is no scan of this head (quality "
            f"{quality:.2f}, expected {limit:g} or more)"
        )
        return CarriedHippocampi(None, REFUSED, (_unused(text, quality, limit),))
    if together.is_mirrored:
        text = f"the label map is not used: the image that it was drawn on fits {together.exchange}"
        finding = _unused(text, together.mirrored_quality, together.quality)
        return CarriedHippocampi(None, REFUSED, (replace(finding, weight=Weight.FAIL),))
    moved = {side: np.asarray(apply_affine(together.reference_from_second, points)) for side, points in own.items()}
    moved_mm = max(float(np.linalg.norm(moved[side] - points, axis=1).mean()) for side, points in own.items())
    if moved_mm < SAME_PLACE_MM:
        return CarriedHippocampi(own)
    provenance = {"LabelMapMovedMm": round(moved_mm, 1), "LabelMapCoregistrationQuality": round(together.quality, 4)}
    return CarriedHippocampi(moved, provenance)


def brain_center_by(own: Mapping[str, Matrix]) -> Matrix:
    """Where the middle of the brain may be, (3,) in the scan's mm: as far from `own` as in the template."""
    template = load_template().hippocampi
    middles = [np.mean([points[side].mean(axis=0) for side in own], axis=0) for points in (own, template)]
    return np.asarray(middles[0] + BRAIN_CENTER - middles[1])


def with_own_hippocampi(
    candidate: Candidate, own: Mapping[str, Matrix], quality: float
) -> tuple[Candidate, tuple[Finding, ...]]:
    """Put somebody's hippocampi into a candidate, unless they do not fit the scan.

    Parameters
    ----------
    candidate : Candidate
    own : mapping of str to array, (N, 3) float64
        Hemisphere to points that fill its hippocampus in the scan's mm.
    quality : float
        As `candidates.quality_in_place` has it for `own`: from now on the candidate's.

    Returns
    -------
    Candidate
        The given one itself where `own` does not fit.
    tuple of Finding
        What a reader should know of it.
    """
    away_mm = max(float(np.linalg.norm(points.mean(axis=0) - candidate.middle(side))) for side, points in own.items())
    apart = f"the hippocampi {away_mm:.0f} mm from where the scan has them"
    is_near = away_mm <= MAX_DISTANCE_MM
    fitted = replace(candidate, hippocampi=_in_template(candidate, own), quality=quality)
    if candidate.doubtful:
        return fitted, (() if is_near else (_far(f"the label map has {apart}", away_mm),))
    if not is_near and not (away_mm <= MAX_BETTER_DISTANCE_MM and quality >= candidate.quality):
        limit = MAX_DISTANCE_MM
        text = f"the label map has {apart}, expected {limit:g} mm or less: it is not used; is it of another scan?"
        return candidate, (_unused(text, away_mm, limit),)
    if fitted.doubtful:
        text = f"the label map does not fit the scan (quality {quality:.2f}): it is not used"
        return candidate, (_unused(text, quality, DOUBTFUL_QUALITY),)
    return fitted, (() if is_near else (_far(f"the label map has {apart}, and fits better there", away_mm),))


def _unused(text: str, figure: float, threshold: float) -> Finding:
    return Finding("label-map-unused", Weight.CHECK, text, round(figure, 4), threshold)


def _far(text: str, away_mm: float) -> Finding:
    return Finding("label-map-far", Weight.CHECK, text, round(away_mm, 1), MAX_DISTANCE_MM)


def _in_template(candidate: Candidate, own: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """Carry points back to template mm."""
    template_from_scan = np.linalg.inv(candidate.scan_from_template)
    return {side: np.asarray(apply_affine(template_from_scan, points)) for side, points in own.items()}

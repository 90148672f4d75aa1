"""Find both hippocampi by affine registration to the MNI152 template, and say all that is known of the answer."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.errors import LocalizationError
from bids_hsf.findings import Finding, Weight
from bids_hsf.geometry import Grid, Matrix
from bids_hsf.labels import SIDE_NAMES
from bids_hsf.localization.candidates import Candidate, judged, quality_in_place
from bids_hsf.localization.features import load_features
from bids_hsf.localization.intracranial_volume import intracranial_volume
from bids_hsf.localization.location import DOUBTFUL_QUALITY, WHOLE_HIPPOCAMPUS_SHARE, Location, rotation_part
from bids_hsf.localization.own_hippocampi import REFUSED, with_own_hippocampi
from bids_hsf.localization.reduced_scan import ReducedScan
from bids_hsf.localization.refinement import import_simpleitk
from bids_hsf.localization.strategy import best_candidate

logger = logging.getLogger(__name__)

# Scanned heads are turned by less against the axes: with more the header, or the answer, is wrong.
MAX_TILT_DEGREES = 60.0

# With less in view the volume is that of a part.
MOST_OF_A_HIPPOCAMPUS = 0.9

# Less than this of both hippocampi, and doubtful at that, is taken for none.
MIN_DOUBTFUL_COVERAGE = 0.5


def prepare_search() -> None:
    """Import and prepare now what every search needs, once a process: meanwhile another thread can do something else.

    A third of a second.
    """
    # First what is large until it is loaded: the scan, which this process loads soon, takes its place then.
    import_simpleitk()
    load_features()


def locate(
    data: NDArray[Any],
    grid: Grid,
    /,
    *,
    orientation_known: bool = True,
    reference: Location | None = None,
    own: Mapping[str, Matrix] | None = None,
    n_threads: int = 1,
) -> Location:
    """Find the hippocampi of a scan; the answer does not depend on the number of threads, each of which sums alone.

    Parameters
    ----------
    data : array, (X, Y, Z)
        Canonical (RAS+) intensities: T1w or T2w, whole head, brain alone or a slab.
    grid : Grid
        Of `data`.
    orientation_known : bool
        False where the file has neither sform nor qform: the head may then point anywhere.
    reference : Location, optional
        Found in another scan of the same head and carried into this one's mm. It is followed unless it fits badly;
        the intracranial volume is its own, since this scan may hold a part of the head only.
    own : mapping of str to array, (N, 3) float64, optional
        Hemisphere to points that fill its hippocampus in the scan's mm, from somebody's label map: they take the
        place of the template's, if they fit: else the provenance tells that they were not used.
    n_threads : int
        Of those fits of the head's size that do not wait for each other.

    Raises
    ------
    LocalizationError
        Both hippocampi lie outside the field of view, or the image is empty.
    """
    if data.size == 0 or data.min() == data.max():
        raise LocalizationError("the image is empty: all its voxels have one value", "Check the scan.")
    scan = ReducedScan.of(data, grid)
    searched = candidate = best_candidate(scan, orientation_known, reference, own)
    remarks: tuple[Finding, ...] = ()
    if own is not None:
        candidate, remarks = with_own_hippocampi(searched, own, quality_in_place(scan, searched, own))
    location = _described(candidate, grid, orientation_known)
    location = replace(location, findings=location.findings + remarks)
    if own is not None and candidate is searched:
        location = replace(location, provenance=REFUSED)
    if reference is not None:
        location = replace(
            location,
            etiv_mm3=reference.etiv_mm3,
            etiv_reason=reference.etiv_reason,
            odd_size_mm3=reference.odd_size_mm3,
        )
    else:
        location = _with_size(location, candidate, scan, n_threads)
    for finding in location.findings:
        logger.debug("Localization: %s", finding.text)
    return location


def judged_at(data: NDArray[Any], grid: Grid, scan_from_template: Matrix) -> Location:
    """Take a transform (4, 4) from elsewhere instead of a search, and say how well it fits a canonical scan.

    Raises
    ------
    LocalizationError
        As `locate`.
    """
    scan = ReducedScan.of(data, grid)
    candidate = judged(scan, scan_from_template)
    return _with_size(_described(candidate, grid, orientation_known=True), candidate, scan)


def _described(candidate: Candidate, grid: Grid, orientation_known: bool) -> Location:
    """Say all that is known of a candidate but for the size of its head, unless nothing is in view."""
    matrix = candidate.scan_from_template
    coverage = {
        side: float(grid.holds(apply_affine(matrix, points)).mean()) for side, points in candidate.hippocampi.items()
    }
    _check_coverage(candidate, coverage)
    return Location(
        matrix,
        candidate.quality,
        coverage,
        findings=_findings(candidate, coverage, orientation_known),
        hippocampi=candidate.hippocampi,
    )


def _with_size(location: Location, candidate: Candidate, scan: ReducedScan, n_threads: int = 1) -> Location:
    """Measure the head."""
    size_mm3, reason = intracranial_volume(candidate, scan, n_threads)
    if reason is None:
        return replace(location, etiv_mm3=size_mm3)
    return replace(location, etiv_reason=reason, odd_size_mm3=size_mm3)


def _check_coverage(candidate: Candidate, coverage: Mapping[str, float]) -> None:
    """Refuse a scan without hippocampi."""
    hint = "Check the scan's field of view; a slab is found best through a whole-head scan of its session."
    quality = candidate.quality
    if max(coverage.values()) == 0:
        raise LocalizationError(f"both hippocampi lie outside the field of view (quality {quality:.2f})", hint)
    if max(coverage.values()) < MIN_DOUBTFUL_COVERAGE and candidate.doubtful:
        raise LocalizationError(
            f"no hippocampus was found in the field of view (quality {quality:.2f}, expected "
            f"{DOUBTFUL_QUALITY:g} or more)",
            hint,
        )


def _findings(candidate: Candidate, coverage: Mapping[str, float], orientation_known: bool) -> tuple[Finding, ...]:
    """Say what a reader of the results should know."""
    found = list(candidate.complaints)
    if candidate.doubtful:
        quality = candidate.quality
        text = (
            f"the hippocampi may not have been found (quality {quality:.2f}, expected {DOUBTFUL_QUALITY:g} or more): "
            "look at the boxes in the report"
        )
        found.append(Finding("localization-doubtful", Weight.FAIL, text, round(quality, 4), DOUBTFUL_QUALITY))
    for side, share in coverage.items():
        if share < WHOLE_HIPPOCAMPUS_SHARE:
            weight = Weight.CHECK if share >= MOST_OF_A_HIPPOCAMPUS else Weight.FAIL
            text = f"{share:.0%} of the {SIDE_NAMES[side]} hippocampus lies in the field of view"
            found.append(Finding("coverage", weight, text, round(share, 4), WHOLE_HIPPOCAMPUS_SHARE, side))
    tilt = _tilt_degrees(candidate.scan_from_template)
    if orientation_known and tilt > MAX_TILT_DEGREES:
        text = f"the head lies {tilt:.0f} degrees from where the header says: check left and right"
        found.append(Finding("head-turned", Weight.CHECK, text, round(tilt, 1), MAX_TILT_DEGREES))
    return tuple(found)


def _tilt_degrees(scan_from_template: Matrix) -> float:
    """Angle between the head's and the scan's axes."""
    cosine = (np.trace(rotation_part(scan_from_template)) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

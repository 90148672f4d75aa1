"""Hippocampi from somebody's label map of the scan: they take the place of the template's."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from nibabel.affines import apply_affine

from bids_hsf.geometry import Matrix
from bids_hsf.localization.candidates import Candidate
from bids_hsf.localization.template import BRAIN_CENTER, load_template

# A label map whose hippocampi lie further from where the scan has them is not of this scan.
MAX_DISTANCE_MM = 15.0


def brain_center_by(own: Mapping[str, Matrix]) -> Matrix:
    """Where the middle of the brain may be, (3,) in the scan's mm: as far from `own` as in the template."""
    template = load_template().hippocampi
    middles = [np.mean([points[side].mean(axis=0) for side in own], axis=0) for points in (own, template)]
    return np.asarray(middles[0] + BRAIN_CENTER - middles[1])


def with_own_hippocampi(candidate: Candidate, own: Mapping[str, Matrix]) -> tuple[Candidate, tuple[str, ...]]:
    """Put somebody's hippocampi into a candidate, unless the two contradict each other.

    Parameters
    ----------
    candidate : Candidate
    own : mapping of str to array, (N, 3) float64
        Hemisphere to points that fill its hippocampus in the scan's mm.

    Returns
    -------
    Candidate
        The given one where they contradict each other and it is not doubtful.
    tuple of str
        What a reader should know of it.
    """
    away_mm = max(float(np.linalg.norm(points.mean(axis=0) - candidate.middle(side))) for side, points in own.items())
    contradict = away_mm > MAX_DISTANCE_MM
    remark = f"the label map has the hippocampi {away_mm:.0f} mm from where the scan has them"
    if contradict and not candidate.doubtful:
        return candidate, (f"{remark}: it is not used; is it of another scan?",)
    template_from_scan = np.linalg.inv(candidate.scan_from_template)
    hippocampi = {side: np.asarray(apply_affine(template_from_scan, points)) for side, points in own.items()}
    return replace(candidate, hippocampi=hippocampi), ((remark,) if contradict else ())

"""The search strategy: where to look for a head, how hard, and when to follow what another scan says."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bids_hsf.geometry import Matrix
from bids_hsf.localization.candidates import Candidate, holds_part_only, judged
from bids_hsf.localization.features import load_features
from bids_hsf.localization.intensities import Intensities, foreground_threshold, smooth
from bids_hsf.localization.location import DOUBTFUL_QUALITY, Location
from bids_hsf.localization.own_hippocampi import brain_center_by
from bids_hsf.localization.reduced_scan import ReducedScan
from bids_hsf.localization.refinement import refine_affine
from bids_hsf.localization.search import cube_rotations, search, start_matrices
from bids_hsf.localization.template import BRAIN_CENTER

logger = logging.getLogger(__name__)

# Below this a second, longer search is worth its time.
RETRY_QUALITY = 0.55


@dataclass(frozen=True)
class TargetSettings:
    """Where in a scan the middle of the brain is looked for.

    Attributes
    ----------
    vertex_percentile : float
        Of the foreground's heights: above it may be a few bright voxels of noise.
    head_height_mm : float
        Below the vertex: the upper 150 mm are brain and face, while neck and shoulders pull the centre of mass down.
    center_depth_mm : float
        Of the middle of the brain below the vertex.
    """

    vertex_percentile: float = 99.5
    head_height_mm: float = 150.0
    center_depth_mm: float = 75.0


TARGETS = TargetSettings()


def best_candidate(
    scan: ReducedScan,
    orientation_known: bool,
    reference: Location | None = None,
    own: Mapping[str, Matrix] | None = None,
) -> Candidate:
    """Choose between where another scan says the head lies and where it is found; as `locate` has its parameters."""
    if reference is None:
        return _searched(scan, orientation_known, own)
    followed = judged(scan, reference.scan_from_template)
    if reference.hippocampi:
        # The other scan has more of the head, and so knows their places better.
        followed = replace(followed, hippocampi=reference.hippocampi)
    if not followed.doubtful:
        return followed
    searched = _searched(scan, orientation_known, own)
    # A slab with hardly any brain fits everywhere a little: only a good answer outdoes the scanner's word.
    return searched if searched.quality >= RETRY_QUALITY else followed


def _searched(scan: ReducedScan, orientation_known: bool, own: Mapping[str, Matrix] | None) -> Candidate:
    """Search, and search harder while the answer is poor."""
    candidates: list[Candidate] = []
    turns = cube_rotations()
    targets = brain_targets(scan.coarse)
    if own is not None:
        targets = np.concatenate([targets, [brain_center_by(own)]])
    first_turns = turns[:1] if orientation_known else turns
    plans = [(first_turns, RETRY_QUALITY), (turns, DOUBTFUL_QUALITY), (turns, 0.0)]
    for seed, (orientations, enough) in enumerate(plans):
        starts = start_matrices(BRAIN_CENTER, targets, orientations)
        found = search(scan.metric, starts, BRAIN_CENTER, seed)
        candidates += [judged(scan, matrix) for matrix in _refined(scan, found)]
        best = max(candidates, key=lambda candidate: candidate.quality)
        if best.quality >= enough:
            break
        logger.debug("Attempt %d: quality %.2f %s", seed + 1, best.quality, best.complaints)
    return best


def brain_targets(scan: Intensities, settings: TargetSettings = TARGETS) -> Matrix:
    """Where the middle of the brain may be, (4, 3) mm: by mass, below the vertex, mid-image, and as in the template."""
    grid = scan.grid
    inside = np.argwhere(scan.values > foreground_threshold(scan.values))
    points = grid.to_mm(inside if len(inside) else np.array([[0, 0, 0]]))
    vertex = np.percentile(points[:, 2], settings.vertex_percentile)
    x, y, _ = points[points[:, 2] > vertex - settings.head_height_mm].mean(axis=0)
    middle = grid.to_mm((np.array(grid.shape) - 1) / 2)
    return np.array([points.mean(axis=0), [x, y, vertex - settings.center_depth_mm], middle, BRAIN_CENTER])


def _refined(scan: ReducedScan, similarity: Matrix) -> list[Matrix]:
    """Fit all twelve parameters; with so little in view that they may stray, that is one of two candidates."""
    features = load_features()
    view = smooth(scan.coarse, features.settings.fine_sigma)
    affine = refine_affine(features.coarse, features.affine_mask, view, similarity, BRAIN_CENTER)
    return [affine, similarity] if holds_part_only(similarity, scan.fine.grid) else [affine]

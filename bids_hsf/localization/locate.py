"""Find both hippocampi: affine registration to the MNI152 template, one crop a hemisphere.

How good the answer is, is told by a figure that the search never sees: how far the edges of scan and template
run in the same directions around the hippocampi.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.errors import LocalizationError
from bids_hsf.geometry import Grid, Matrix
from bids_hsf.labels import SIDE_NAMES
from bids_hsf.localization.location import DOUBTFUL_QUALITY, Location, rotation_part
from bids_hsf.localization.metric import Matcher, channel, edge_likeness, foreground_edges, quantile_edges
from bids_hsf.localization.refinement import refine_affine
from bids_hsf.localization.search import climb, cube_rotations, search, start_matrices
from bids_hsf.localization.template import (
    EDGE_SIGMA_MM,
    SEARCH_SIGMA_MM,
    SHIFT_SIGMA_MM,
    Sample,
    Template,
    load_material,
    load_template,
)
from bids_hsf.localization.volume import (
    Volume,
    cut_around,
    foreground_threshold,
    from_background,
    in_view,
    shrink,
    smooth,
    values_at,
    without_shading,
)

logger = logging.getLogger(__name__)


# Below this a second, longer search is worth its time.
RETRY_QUALITY = 0.55

# Adult heads, in any direction, with what a scanner's gradients and wrong voxel sizes add.
STRETCH_RANGE = (0.65, 1.5)

MAX_TILT_DEGREES = 60.0

# Between the middles of the two hippocampi, mm: 45 to 62 in adults, and the same allowance.
DISTANCE_RANGE_MM = (38.0, 76.0)

# A label map whose hippocampi lie further from where the scan has them is not of this scan.
MAX_OWN_DISTANCE_MM = 15.0

# With less of the brain in view its size cannot be told; with still less, its twelve parameters cannot.
WHOLE_BRAIN_SHARE = 0.95
AFFINE_BRAIN_SHARE = 0.6

# Less than this of both, and doubtful at that, is taken for none.
MIN_DOUBTFUL_COVERAGE = 0.5

# A whole hippocampus, but for what is lost at the border.
WHOLE_HIPPOCAMPUS_SHARE = 0.99

# Where transforms turn: the middle of the template's brain, mm.
CENTER = np.array([0.0, -18.0, 5.0])

# Shift in mm, turn in degrees, logarithm of the scale: how far a search strays at first.
WIDE = np.array([14.0, 14.0, 14.0, 10.0, 10.0, 10.0, 0.08])

# With less of its neighbourhood in view a hippocampus stays where the affine puts it.
MIN_PLACE_SHARE = 0.3
N_BINS = 16


def locate(
    data: NDArray[Any],
    grid: Grid,
    *,
    orientation_known: bool = True,
    reference: Location | None = None,
    own: Mapping[str, Matrix] | None = None,
) -> Location:
    """Find the hippocampi of a scan, on one thread: float sums, and so the answer, would depend on the number.

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
        place of the template's.

    Raises
    ------
    LocalizationError
        Both hippocampi lie outside the field of view, or the image is empty.
    """
    if data.size == 0 or data.min() == data.max():
        raise LocalizationError("the image is empty: all its voxels have one value", "Check the scan.")
    scan = _Scan.of(data, grid)
    answer = _best_answer(scan, orientation_known, reference, own)
    remarks: tuple[str, ...] = ()
    if own is not None:
        answer, remarks = _with_own(answer, own)
    location = _described(answer, grid, orientation_known)
    location = replace(location, warnings=location.warnings + remarks)
    if reference is not None:
        location = replace(location, etiv_mm3=reference.etiv_mm3, etiv_reason=reference.etiv_reason)
    for warning in location.warnings:
        logger.info("Localization: %s", warning)
    return location


def judged_at(data: NDArray[Any], grid: Grid, scan_from_template: Matrix) -> Location:
    """Take a transform (4, 4) from elsewhere instead of a search, and say how well it fits a canonical scan."""
    return _described(_judged(_Scan.of(data, grid), scan_from_template), grid, orientation_known=True)


@dataclass(frozen=True, eq=False)
class _Scan:
    """A scan, reduced for registration.

    Attributes
    ----------
    fine, coarse, edges : Volume
        At about 2 mm, 4 mm, and 4 mm as smooth as the template's gradients.
    matcher : Matcher
        Judges transforms of the whole head.
    """

    fine: Volume
    coarse: Volume
    edges: Volume
    matcher: Matcher

    @classmethod
    def of(cls, data: NDArray[Any], grid: Grid) -> "_Scan":
        """Reduce a scan (X, Y, Z)."""
        fine = from_background(shrink(Volume(data, grid), 2.0))
        coarse = shrink(fine, 4.0)
        views = load_material().views
        channels = []
        for expected, view in zip(views, (coarse, without_shading(coarse)), strict=True):
            observed = smooth(view, SEARCH_SIGMA_MM).values
            bins = [foreground_edges(values, N_BINS) for values in (expected.values, observed)]
            channels.append(channel(expected.values, bins[0], observed, bins[1]))
        return cls(fine, coarse, smooth(coarse, EDGE_SIGMA_MM), Matcher(views[0].points, tuple(channels), coarse.grid))


@dataclass(frozen=True, eq=False)
class _Answer:
    """What one attempt came to.

    Attributes
    ----------
    matrix : array, (4, 4) float64
    hippocampi : mapping of str to array, (N, 3) float64
        Hemisphere to the points of its hippocampus in template mm, which `matrix` carries into the scan.
    quality : float
    complaints : tuple of str
        Why this cannot be a head.
    """

    matrix: Matrix
    hippocampi: Mapping[str, Matrix]
    quality: float
    complaints: tuple[str, ...]

    def middle(self, side: str) -> Matrix:
        """Middle (3,) of a hippocampus in the scan's mm."""
        return np.asarray(apply_affine(self.matrix, self.hippocampi[side]).mean(axis=0))


def _best_answer(
    scan: _Scan, orientation_known: bool, reference: Location | None, own: Mapping[str, Matrix] | None
) -> _Answer:
    """Choose between where another scan says the head lies and where it is found."""
    if reference is None:
        return _searched(scan, orientation_known, own)
    followed = _judged(scan, reference.scan_from_template)
    if reference.hippocampi:
        # The other scan has more of the head, and so knows their places better.
        followed = replace(followed, hippocampi=reference.hippocampi)
    if followed.quality >= DOUBTFUL_QUALITY:
        return followed
    searched = _searched(scan, orientation_known, own)
    # A slab with hardly any brain fits everywhere a little: only a good answer outdoes the scanner's word.
    return searched if searched.quality >= RETRY_QUALITY else followed


def _searched(scan: _Scan, orientation_known: bool, own: Mapping[str, Matrix] | None) -> _Answer:
    """Search, and search harder while the answer is poor."""
    answers: list[_Answer] = []
    turns = cube_rotations()
    targets = _targets(scan.coarse)
    if own is not None:
        hippocampi = load_template().hippocampi
        middles = [np.mean([points[side].mean(axis=0) for side in own], axis=0) for points in (own, hippocampi)]
        targets = np.concatenate([targets, [middles[0] + CENTER - middles[1]]])
    plans = [(turns, RETRY_QUALITY), (turns, DOUBTFUL_QUALITY), (turns, 0.0)]
    if orientation_known:
        plans[0] = (turns[:1], RETRY_QUALITY)
    for seed, (orientations, enough) in enumerate(plans):
        found = search(scan.matcher, start_matrices(CENTER, targets, orientations), CENTER, WIDE, seed)
        answers += [_judged(scan, matrix) for matrix in _refined(scan, found)]
        best = max(answers, key=lambda answer: answer.quality)
        if best.quality >= enough:
            break
        logger.debug("Attempt %d: quality %.2f %s", seed + 1, best.quality, best.complaints)
    return best


def _with_own(answer: _Answer, own: Mapping[str, Matrix]) -> tuple[_Answer, tuple[str, ...]]:
    """Put the hippocampi of a label map into an answer, unless the two contradict each other; and say so."""
    away_mm = max(float(np.linalg.norm(points.mean(axis=0) - answer.middle(side))) for side, points in own.items())
    contradict = away_mm > MAX_OWN_DISTANCE_MM
    remark = f"the label map has the hippocampi {away_mm:.0f} mm from where the scan has them"
    if contradict and answer.quality >= DOUBTFUL_QUALITY:
        return answer, (f"{remark}: it is not used; is it of another scan?",)
    template_from_scan = np.linalg.inv(answer.matrix)
    hippocampi = {side: np.asarray(apply_affine(template_from_scan, points)) for side, points in own.items()}
    return replace(answer, hippocampi=hippocampi), ((remark,) if contradict else ())


def _targets(volume: Volume) -> Matrix:
    """Where the middle of the brain may be, (4, 3) mm: by mass, below the vertex, mid-image, and as in the template."""
    grid = volume.grid
    inside = np.argwhere(volume.values > foreground_threshold(volume.values))
    points = grid.to_mm(inside if len(inside) else np.array([[0, 0, 0]]))
    vertex = np.percentile(points[:, 2], 99.5)
    # Neck and shoulders pull the centre of mass down; the upper 150 mm of a head are brain and face.
    x, y, _ = points[points[:, 2] > vertex - 150].mean(axis=0)
    middle = grid.to_mm((np.array(grid.shape) - 1) / 2)
    return np.array([points.mean(axis=0), [x, y, vertex - 75], middle, CENTER])


def _refined(scan: _Scan, similarity: Matrix) -> list[Matrix]:
    """Fit all twelve parameters; with so little in view that they may stray, that is one of two candidates."""
    material = load_material()
    view = smooth(scan.coarse, SHIFT_SIGMA_MM)
    affine = refine_affine(material.coarse, material.coarse_mask, view, similarity, CENTER)
    return [affine, similarity] if _brain_share(similarity, scan.fine.grid) < AFFINE_BRAIN_SHARE else [affine]


def _judged(scan: _Scan, matrix: Matrix) -> _Answer:
    """Let each hippocampus find its own place, and tell how well edges fit then."""
    material = load_material()
    hippocampi, likenesses = {}, []
    for side, edges in material.edges.items():
        points = load_template().hippocampi[side]
        place = _own_place(scan, matrix, material.neighbourhoods[side], points)
        hippocampi[side] = np.asarray(apply_affine(place, points))
        likenesses.append(edge_likeness(scan.edges, matrix @ place, edges.points, edges.values))
    if _brain_share(matrix, scan.fine.grid) < AFFINE_BRAIN_SHARE:
        # A slab may hold a sliver of the hippocampi, or none: all of the brain in view has to fit as well.
        likenesses.append(edge_likeness(scan.edges, matrix, material.brain_edges.points, material.brain_edges.values))
    quality = min((likeness for likeness in likenesses if likeness is not None), default=0.0)
    complaints = _complaints(matrix, hippocampi)
    return _Answer(matrix, hippocampi, 0.0 if complaints else float(np.clip(quality, 0, 1)), complaints)


def _own_place(scan: _Scan, matrix: Matrix, neighbourhood: Sample, hippocampus: Matrix) -> Matrix:
    """Transform (4, 4) in template mm that brings one hippocampus closer than the affine does."""
    carried = apply_affine(matrix, neighbourhood.points)
    part = cut_around(scan.fine, carried, 12.0)
    if part is None or in_view(part.grid, carried).mean() < MIN_PLACE_SHARE:
        return np.eye(4)
    view = smooth(part, SHIFT_SIGMA_MM)
    there = values_at(view, carried[in_view(part.grid, carried)])
    bins = [quantile_edges(values, N_BINS) for values in (neighbourhood.values, there)]
    codes = channel(neighbourhood.values, bins[0], view.values, bins[1])
    return climb(Matcher(neighbourhood.points, (codes,), part.grid), matrix, hippocampus.mean(axis=0))


def _complaints(matrix: Matrix, hippocampi: Mapping[str, Matrix]) -> tuple[str, ...]:
    """Why a transform cannot be that of a head: its size, its shape, how far apart the hippocampi would be."""
    if np.linalg.det(matrix[:3, :3]) <= 0:
        return ("the head would be a mirror image of the template",)
    found = []
    stretches = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    low, high = STRETCH_RANGE
    if stretches.min() < low or stretches.max() > high:
        found.append(
            f"the head would be {stretches.min():.2f} to {stretches.max():.2f} times as large as the template "
            f"(expected {low:g} to {high:g})"
        )
    left, right = (apply_affine(matrix, hippocampi[side]).mean(axis=0) for side in ("L", "R"))
    distance, (low, high) = float(np.linalg.norm(left - right)), DISTANCE_RANGE_MM
    if not low <= distance <= high:
        found.append(f"the two hippocampi would be {distance:.0f} mm apart (expected {low:g} to {high:g} mm)")
    return tuple(found)


def _tilt_degrees(matrix: Matrix) -> float:
    """Angle between the head's and the scan's axes."""
    cosine = (np.trace(rotation_part(matrix)) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _brain_share(matrix: Matrix, grid: Grid) -> float:
    """Share of the template's brain that lies in the field of view."""
    return float(in_view(grid, apply_affine(matrix, load_material().brain_edges.points)).mean())


def _described(answer: _Answer, grid: Grid, orientation_known: bool) -> Location:
    """Say all that is known of an answer; none where nothing is in view."""
    coverage = {
        side: float(in_view(grid, apply_affine(answer.matrix, points)).mean())
        for side, points in answer.hippocampi.items()
    }
    hint = "Check the scan's field of view; a slab is found best through a whole-head scan of its session."
    if max(coverage.values()) == 0:
        raise LocalizationError(f"both hippocampi lie outside the field of view (quality {answer.quality:.2f})", hint)
    if max(coverage.values()) < MIN_DOUBTFUL_COVERAGE and answer.quality < DOUBTFUL_QUALITY:
        raise LocalizationError(
            f"no hippocampus was found in the field of view (quality {answer.quality:.2f}, expected "
            f"{DOUBTFUL_QUALITY:g} or more)",
            hint,
        )
    etiv, reason = _intracranial_volume(answer, grid, load_template())
    return Location(
        answer.matrix,
        answer.quality,
        coverage,
        etiv,
        reason,
        _warnings(answer, coverage, orientation_known),
        answer.hippocampi,
    )


def _intracranial_volume(answer: _Answer, grid: Grid, template: Template) -> tuple[float | None, str | None]:
    """Volume of the template's brain mask, sulci and ventricles included, times the affine's scale; or why not.

    The atlas scaling factor of Buckner et al., NeuroImage 2004, doi:10.1016/j.neuroimage.2004.06.018.
    """
    share = _brain_share(answer.matrix, grid)
    if share < WHOLE_BRAIN_SHARE:
        return None, f"only {share:.0%} of the brain lies in the field of view"
    if answer.quality < DOUBTFUL_QUALITY:
        return None, "the localization is doubtful"
    volume = float(template.brain.sum()) * template.grid.voxel_volume
    return volume * float(np.linalg.det(answer.matrix[:3, :3])), None


def _warnings(answer: _Answer, coverage: Mapping[str, float], orientation_known: bool) -> tuple[str, ...]:
    """Say what a reader of the results should know."""
    found = list(answer.complaints)
    if answer.quality < DOUBTFUL_QUALITY:
        found.append(
            f"the hippocampi may not have been found (quality {answer.quality:.2f}, expected {DOUBTFUL_QUALITY:g} "
            "or more): look at the boxes in the report"
        )
    for side, share in coverage.items():
        if share < WHOLE_HIPPOCAMPUS_SHARE:
            found.append(f"{share:.0%} of the {SIDE_NAMES[side]} hippocampus lies in the field of view")
    tilt = _tilt_degrees(answer.matrix)
    if orientation_known and tilt > MAX_TILT_DEGREES:
        found.append(f"the head lies {tilt:.0f} degrees from where the header says: check left and right")
    if not orientation_known:
        found.append("the file does not say how the head lies (no sform, no qform): left and right may be swapped")
    return tuple(found)

"""Find both hippocampi: affine registration to the MNI152 template, one crop a hemisphere.

How good the answer is, is told by a figure that the search never sees: how far the edges of scan and template
run in the same directions around the hippocampi.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.errors import LocalizationError
from bids_hsf.geometry import CropBox, Grid, box_around
from bids_hsf.registration import (
    Matcher,
    Volume,
    channel,
    climb,
    cube_rotations,
    cut_around,
    edge_likeness,
    foreground_edges,
    foreground_threshold,
    from_background,
    in_view,
    quantile_edges,
    refine_affine,
    search,
    shrink,
    smooth,
    start_matrices,
    values_at,
    without_shading,
)
from bids_hsf.template import (
    EDGE_SIGMA_MM,
    SEARCH_SIGMA_MM,
    SHIFT_SIGMA_MM,
    Sample,
    Template,
    load_material,
    load_template,
)

__all__ = [
    "DEFAULT_MARGIN_MM",
    "DOUBTFUL_QUALITY",
    "Location",
    "Template",
    "crop_grid",
    "head_axes",
    "hippocampus_points",
    "judged_at",
    "load_template",
    "locate",
    "native_box",
    "with_own_hippocampi",
]

logger = logging.getLogger(__name__)

DEFAULT_MARGIN_MM = 4.0
# Calibrated by tests/benchmarks/localization.py: right answers lie above, wrong ones below.
DOUBTFUL_QUALITY = 0.45
# Below this a second, longer search is worth its time.
RETRY_QUALITY = 0.55
# Adult heads, in any direction, with what a scanner's gradients and wrong voxel sizes add.
STRETCH_RANGE = (0.65, 1.5)
MAX_TILT_DEGREES = 60.0
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
# Between two scans of a session the head moves a little.
NEAR = np.array([3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 0.0])
# With less of its neighbourhood in view a hippocampus stays where the affine puts it.
MIN_PLACE_SHARE = 0.3
# A head that moves further between two scans of a session was taken out of the scanner.
MAX_MOTION_MM = 12.0
N_BINS = 16
SIDE_NAMES = {"L": "left", "R": "right"}

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Location:
    """Where the template's hippocampi lie in a scan.

    Attributes
    ----------
    scan_from_template : array, (4, 4) float64
        Template (MNI152 2009c) RAS+ mm to scan RAS+ mm.
    quality : float
        How far edges around the hippocampi run alike: 1 always, 0 no more than by chance.
    coverage : mapping of str to float
        Hemisphere "L", "R" to the share of the hippocampus inside the field of view.
    etiv_mm3 : float or None
        Estimated total intracranial volume.
    etiv_reason : str or None
        Why there is none.
    warnings : tuple of str
        What a reader of the results should know; empty where all is well.
    hippocampi : mapping of str to array, (N, 3) float64
        Hemisphere to the points of its hippocampus in template mm; the template's own where missing.
    """

    scan_from_template: Matrix
    quality: float
    coverage: Mapping[str, float]
    etiv_mm3: float | None = None
    etiv_reason: str | None = None
    warnings: tuple[str, ...] = ()
    hippocampi: Mapping[str, Matrix] = field(default_factory=dict)

    @property
    def doubtful(self) -> bool:
        """Whether the boxes may be wrong."""
        return self.quality < DOUBTFUL_QUALITY


def locate(
    data: NDArray[Any],
    grid: Grid,
    *,
    n_threads: int = 1,
    orientation_known: bool = True,
    reference: Location | None = None,
) -> Location:
    """Find the hippocampi of a scan.

    Parameters
    ----------
    data : array, (X, Y, Z)
        Canonical (RAS+) intensities: T1w or T2w, whole head, brain alone or a slab.
    grid : Grid
        Of `data`.
    n_threads : int
        Upper limit. One is used, whatever it says: float sums, and so the answer, depend on the number.
    orientation_known : bool
        False where the file has neither sform nor qform: the head may then point anywhere.
    reference : Location, optional
        Of another scan of the session in the same scanner space, for a scan with a limited field of view.

    Raises
    ------
    LocalizationError
        Both hippocampi lie outside the field of view, or the image is empty.
    """
    if n_threads < 1:
        raise ValueError(f"n_threads is {n_threads}, expected 1 or more")
    if data.size == 0 or data.min() == data.max():
        raise LocalizationError("the image is empty: all its voxels have one value", "Check the scan.")
    scan = _Scan.of(data, grid)
    location = _described(_best_answer(scan, orientation_known, reference), grid, orientation_known)
    for warning in location.warnings:
        logger.info("Localization: %s", warning)
    return location


def judged_at(data: NDArray[Any], grid: Grid, scan_from_template: Matrix) -> Location:
    """Take a transform (4, 4) from elsewhere instead of a search, and say how well it fits a canonical scan."""
    return _described(_judged(_Scan.of(data, grid), scan_from_template), grid, orientation_known=True)


def hippocampus_points(location: Location, hemisphere: str) -> Matrix:
    """Points (N, 3) that fill the hippocampus, in the scan's mm."""
    points = location.hippocampi.get(hemisphere)
    if points is None:
        points = load_template().hippocampi[hemisphere]
    return np.asarray(apply_affine(location.scan_from_template, points))


def with_own_hippocampi(
    location: Location, labels: NDArray[np.integer], grid: Grid, values: Mapping[str, set[int]]
) -> Location:
    """Take the hippocampi from somebody's label map instead of the template's.

    Parameters
    ----------
    location : Location
        Of the scan; its affine still gives the head's axes and size.
    labels : array, (X, Y, Z) integer
        Segmentation in the scan's space, such as FreeSurfer's aseg.
    grid : Grid
        Of `labels`.
    values : mapping of str to set of int
        Hemisphere to the labels of its hippocampus: 17 and 53 in aseg and SynthSeg.

    Raises
    ------
    LocalizationError
        A hemisphere has no voxel.
    """
    template_from_scan = np.linalg.inv(location.scan_from_template)
    hippocampi = {}
    for side, wanted in values.items():
        indices = np.argwhere(np.isin(labels, list(wanted)))
        if not len(indices):
            raise LocalizationError(
                f"the label map has no voxel of the {SIDE_NAMES[side]} hippocampus (expected {sorted(wanted)})",
                "Check that the map is of this scan, or run without it.",
            )
        hippocampi[side] = np.asarray(apply_affine(template_from_scan, grid.to_mm(indices)))
    return replace(location, hippocampi=hippocampi)


def native_box(location: Location, grid: Grid, hemisphere: str, margin_mm: float = DEFAULT_MARGIN_MM) -> CropBox:
    """Box of the scan's own voxels around one hippocampus, cut to the field of view.

    The outer faces of its voxels, not their centres, lie `margin_mm` beyond the hippocampus or a little more.
    """
    indices = grid.to_voxels(hippocampus_points(location, hemisphere))
    return box_around(indices, margin_mm / grid.voxel_sizes - 0.5, grid.shape, hemisphere)


def crop_grid(
    location: Location,
    grid: Grid,
    hemisphere: str,
    voxel_size_mm: float | None,
    margin_mm: float = DEFAULT_MARGIN_MM,
) -> Grid:
    """Grid of the crop that a network sees.

    Parameters
    ----------
    location : Location
    grid : Grid
        The scan's canonical grid.
    hemisphere : str
        "L" or "R".
    voxel_size_mm : float or None
        None for the scan's own voxels: a sub-grid of `grid`. Otherwise isotropic voxels along the
        head's own axes: the network then sees an upright hippocampus however the head lay.
    margin_mm : float
        Beyond the hippocampus, on each side.
    """
    if voxel_size_mm is None:
        box = native_box(location, grid, hemisphere, margin_mm)
        return grid.subgrid(box.start, box.stop)
    axes = head_axes(location)
    along = hippocampus_points(location, hemisphere) @ axes
    low, high = along.min(axis=0) - margin_mm, along.max(axis=0) + margin_mm
    x, y, z = (int(n) for n in np.ceil((high - low) / voxel_size_mm) + 1)
    affine = np.eye(4)
    affine[:3, :3] = axes * voxel_size_mm
    # The last voxel may reach a little further than asked: centre what is spare.
    spare = (np.array([x, y, z]) - 1) * voxel_size_mm - (high - low)
    affine[:3, 3] = axes @ (low - spare / 2)
    return Grid((x, y, z), affine)


def head_axes(location: Location) -> Matrix:
    """Directions (3, 3) of the template's axes in the scan: the rotation in the affine's polar decomposition."""
    return _rotation_part(location.scan_from_template)


def _rotation_part(matrix: Matrix) -> Matrix:
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    return np.asarray(u @ vt)


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
    places : mapping of str to array, (4, 4) float64
        Hemisphere to the transform of its hippocampus in template mm, before `matrix`.
    quality : float
    complaints : tuple of str
        Why this cannot be a head.
    """

    matrix: Matrix
    places: Mapping[str, Matrix]
    quality: float
    complaints: tuple[str, ...]

    @property
    def merit(self) -> tuple[bool, float]:
        """Order among answers: what is a head first, then by quality."""
        return not self.complaints, self.quality


def _best_answer(scan: _Scan, orientation_known: bool, reference: Location | None) -> _Answer:
    """Choose between where another scan says the head lies and where it is found."""
    if reference is None:
        return _searched(scan, orientation_known)
    followed = _followed(scan, reference)
    limited = _brain_share(followed.matrix, scan.fine.grid) < AFFINE_BRAIN_SHARE
    if limited and followed.quality >= DOUBTFUL_QUALITY:
        return followed
    searched = _searched(scan, orientation_known)
    # A slab with hardly any brain fits everywhere a little: then the scanner knows better.
    convincing = searched.quality >= RETRY_QUALITY if limited else True
    return searched if convincing and searched.merit > followed.merit else followed


def _followed(scan: _Scan, reference: Location) -> _Answer:
    """Start from where another scan of the session says the head lies, and let the head move a little."""
    start = reference.scan_from_template
    moved = search(scan.matcher, start[None], CENTER, NEAR, 0)
    reach = CENTER + np.array([[60.0, 0, 0], [-60, 0, 0], [0, 60, 0], [0, -60, 0], [0, 0, 60], [0, 0, -60]])
    distance = np.linalg.norm(apply_affine(moved, reach) - apply_affine(start, reach), axis=1).max()
    return _judged(scan, moved if distance <= MAX_MOTION_MM else start)


def _searched(scan: _Scan, orientation_known: bool) -> _Answer:
    """Search, and search harder while the answer is poor."""
    answers: list[_Answer] = []
    turns = cube_rotations()
    plans = [(turns, RETRY_QUALITY), (turns, DOUBTFUL_QUALITY), (turns, 0.0)]
    if orientation_known:
        plans[0] = (turns[:1], RETRY_QUALITY)
    for seed, (orientations, enough) in enumerate(plans):
        starts = start_matrices(CENTER, _targets(scan.coarse), orientations)
        found = search(scan.matcher, starts, CENTER, WIDE, seed)
        answers += [_judged(scan, matrix) for matrix in _refined(scan, found)]
        best = max(answers, key=lambda answer: answer.merit)
        if best.merit >= (True, enough):
            break
        logger.debug("Attempt %d: quality %.2f %s", seed + 1, best.quality, best.complaints)
    return best


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
    places, likenesses = {}, []
    for side, edges in material.edges.items():
        places[side] = _own_place(scan, matrix, material.neighbourhoods[side], load_template().hippocampi[side])
        likenesses.append(edge_likeness(scan.edges, matrix @ places[side], edges.points, edges.values))
    if _brain_share(matrix, scan.fine.grid) < AFFINE_BRAIN_SHARE:
        # A slab may hold a sliver of the hippocampi, or none: all of the brain in view has to fit as well.
        likenesses.append(edge_likeness(scan.edges, matrix, material.brain_edges.points, material.brain_edges.values))
    quality = min((likeness for likeness in likenesses if likeness is not None), default=0.0)
    return _Answer(matrix, places, float(np.clip(quality, 0, 1)), _complaints(matrix))


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


def _complaints(matrix: Matrix) -> tuple[str, ...]:
    """Why a transform cannot be that of a head: its size and its shape."""
    if np.linalg.det(matrix[:3, :3]) <= 0:
        return ("the head would be a mirror image of the template",)
    stretches = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    low, high = STRETCH_RANGE
    if low <= stretches.min() and stretches.max() <= high:
        return ()
    return (
        f"the head would be {stretches.min():.2f} to {stretches.max():.2f} times as large as the template "
        f"(expected {low:g} to {high:g})",
    )


def _tilt_degrees(matrix: Matrix) -> float:
    """Angle between the head's and the scan's axes."""
    cosine = (np.trace(_rotation_part(matrix)) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _brain_share(matrix: Matrix, grid: Grid) -> float:
    """Share of the template's brain that lies in the field of view."""
    return float(in_view(grid, apply_affine(matrix, load_material().brain_edges.points)).mean())


def _described(answer: _Answer, grid: Grid, orientation_known: bool) -> Location:
    """Say all that is known of an answer; none where nothing is in view."""
    template = load_template()
    hippocampi = {side: apply_affine(place, template.hippocampi[side]) for side, place in answer.places.items()}
    coverage = {
        side: float(in_view(grid, apply_affine(answer.matrix, points)).mean()) for side, points in hippocampi.items()
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
    etiv, reason = _intracranial_volume(answer, grid, template)
    return Location(
        answer.matrix,
        answer.quality,
        coverage,
        etiv,
        reason,
        _warnings(answer, coverage, orientation_known),
        hippocampi,
    )


def _intracranial_volume(answer: _Answer, grid: Grid, template: Template) -> tuple[float | None, str | None]:
    """Volume of the template's brain mask, sulci and ventricles included, times the affine's scale; or why not.

    The atlas scaling factor of Buckner et al., NeuroImage 2004, doi:10.1016/j.neuroimage.2004.06.018.
    """
    share = _brain_share(answer.matrix, grid)
    if share < WHOLE_BRAIN_SHARE:
        return None, f"only {share:.0%} of the brain lies in the field of view"
    if answer.quality < DOUBTFUL_QUALITY or answer.complaints:
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

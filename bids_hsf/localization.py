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
from bids_hsf.labels import HEMISPHERES
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
    "load_template",
    "locate",
    "native_box",
    "with_own_hippocampi",
]

logger = logging.getLogger(__name__)

DEFAULT_MARGIN_MM = 4.0
# Calibrated by tests/benchmarks/localization.py: right answers lie above, wrong ones below.
DOUBTFUL_QUALITY = 0.4
# Below this a second, longer search is worth its time.
RETRY_QUALITY = 0.5
# Adult heads, in any direction, with what a scanner's gradients and wrong voxel sizes add.
STRETCH_RANGE = (0.65, 1.5)
MAX_TILT_DEGREES = 60.0
# With less of the brain in view its size cannot be told; with still less, its twelve parameters cannot.
WHOLE_BRAIN_SHARE = 0.95
AFFINE_BRAIN_SHARE = 0.6
# A whole hippocampus, but for what is lost at the border.
WHOLE_HIPPOCAMPUS_SHARE = 0.99
# Where transforms turn: the middle of the template's brain, mm.
CENTER = np.array([0.0, -18.0, 5.0])
# Shift in mm, turn in degrees, logarithm of the scale: how far a search strays at first.
WIDE = np.array([14.0, 14.0, 14.0, 10.0, 10.0, 10.0, 0.08])
# Between two scans of a session the head moves a little.
NEAR = np.array([3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 0.0])
# A hippocampus strays from where an affine puts it by 2-3 mm; this many cost a tenth of the likeness.
SHIFT_LIMIT_MM = 25.0
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
    shifts : mapping of str to array, (3,) float64
        Hemisphere to its hippocampus's own shift, in template mm.
    quality : float
    complaints : tuple of str
        Why this cannot be a head.
    """

    matrix: Matrix
    shifts: Mapping[str, Matrix]
    quality: float
    complaints: tuple[str, ...]


def _best_answer(scan: _Scan, orientation_known: bool, reference: Location | None) -> _Answer:
    """Try, and try harder while the answer is poor."""
    answers = []
    if reference is not None:
        moved = search(scan.matcher, reference.scan_from_template[None], CENTER, NEAR, 0)
        answers.append(_judged(scan, moved, orientation_known))
        limited = _brain_share(moved, scan.fine.grid) < AFFINE_BRAIN_SHARE
        if limited and answers[0].quality >= DOUBTFUL_QUALITY:
            return answers[0]
    turns = cube_rotations()
    plans = [turns[:1], turns] if orientation_known else [turns, turns]
    for seed, orientations in enumerate(plans):
        starts = start_matrices(CENTER, _targets(scan.coarse), orientations)
        similarity = search(scan.matcher, starts, CENTER, WIDE, seed)
        answers.append(_judged(scan, _refined(scan, similarity), orientation_known))
        if answers[-1].quality >= RETRY_QUALITY and not answers[-1].complaints:
            break
        logger.debug("Attempt %d: quality %.2f %s", seed + 1, answers[-1].quality, answers[-1].complaints)
    return max(answers, key=lambda answer: (not answer.complaints, answer.quality))


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


def _refined(scan: _Scan, similarity: Matrix) -> Matrix:
    """All twelve parameters, where enough of the brain is in view to tell them."""
    if _brain_share(similarity, scan.fine.grid) < AFFINE_BRAIN_SHARE:
        return similarity
    material = load_material()
    view = smooth(scan.coarse, SHIFT_SIGMA_MM)
    return refine_affine(material.coarse, material.coarse_mask, view, similarity, CENTER)


def _judged(scan: _Scan, matrix: Matrix, orientation_known: bool) -> _Answer:
    """Let each hippocampus shift by itself, and tell how well edges fit then."""
    material = load_material()
    shifts, likenesses = {}, []
    for side in HEMISPHERES:
        shifts[side] = _own_shift(scan, matrix, material.neighbourhoods[side])
        moved = matrix.copy()
        moved[:3, 3] += matrix[:3, :3] @ shifts[side]
        likenesses.append(edge_likeness(scan.edges, moved, material.edges[side].points, material.edges[side].values))
    seen = [likeness for likeness in likenesses if likeness is not None]
    quality = float(np.clip(np.mean(seen), 0, 1)) if seen else 0.0
    return _Answer(matrix, shifts, quality, _complaints(matrix, orientation_known))


def _own_shift(scan: _Scan, matrix: Matrix, neighbourhood: Sample) -> Matrix:
    """Shift (3,) in template mm that brings one hippocampus closer than the affine does."""
    carried = apply_affine(matrix, neighbourhood.points)
    part = cut_around(scan.fine, carried, 12.0)
    if part is None or not in_view(part.grid, carried).any():
        return np.zeros(3)
    view = smooth(part, SHIFT_SIGMA_MM)
    there = values_at(view, carried[in_view(part.grid, carried)])
    bins = [quantile_edges(values, N_BINS) for values in (neighbourhood.values, there)]
    codes = channel(neighbourhood.values, bins[0], view.values, bins[1])
    return climb(Matcher(neighbourhood.points, (codes,), part.grid), matrix, SHIFT_LIMIT_MM)


def _complaints(matrix: Matrix, orientation_known: bool) -> tuple[str, ...]:
    """Why a transform cannot be that of a head: its size, its shape, its tilt."""
    found = []
    stretches = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    low, high = STRETCH_RANGE
    if stretches.min() < low or stretches.max() > high:
        found.append(
            f"the head would be {stretches.min():.2f} to {stretches.max():.2f} times as large as the template "
            f"(expected {low:g} to {high:g})"
        )
    cosine = (np.trace(_rotation_part(matrix)) - 1) / 2
    tilt = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    if orientation_known and tilt > MAX_TILT_DEGREES:
        found.append(f"the head lies {tilt:.0f} degrees from where the header says (expected {MAX_TILT_DEGREES:g})")
    return tuple(found)


def _brain_share(matrix: Matrix, grid: Grid) -> float:
    """Share of the template's brain that lies in the field of view."""
    return float(in_view(grid, apply_affine(matrix, load_material().brain_points)).mean())


def _described(answer: _Answer, grid: Grid, orientation_known: bool) -> Location:
    """Say all that is known of an answer; none where nothing is in view."""
    template = load_template()
    hippocampi = {side: template.hippocampi[side] + answer.shifts[side] for side in HEMISPHERES}
    coverage = {
        side: float(in_view(grid, apply_affine(answer.matrix, points)).mean()) for side, points in hippocampi.items()
    }
    if max(coverage.values()) == 0:
        raise LocalizationError(
            f"both hippocampi lie outside the field of view (quality {answer.quality:.2f})",
            "Check the scan's field of view; a slab is found best through a whole-head scan of its session.",
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
    if not orientation_known:
        found.append("the file does not say how the head lies (no sform, no qform): left and right may be swapped")
    return tuple(found)

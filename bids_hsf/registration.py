"""Affine registration of a whole scan to a template, from no start that has to be near.

First a search: similarity transforms by the thousand, bred from a lattice of starts and judged on a few thousand
points by mutual information. Then SimpleITK improves the best one to a full affine, and last, each hippocampus
may move a few millimetres by itself, since no affine fits every brain everywhere.

Matrices are 4 x 4 and carry template RAS+ mm to scan RAS+ mm. Everything runs on one thread and draws from seeded
generators, so the answer does not depend on the machine's cores.
"""

import logging
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_hsf.geometry import Grid

logger = logging.getLogger(__name__)

Matrix = NDArray[np.float64]
FloatArray = NDArray[np.float32]

# Below this share of the 98th percentile a voxel is background.
BACKGROUND_SHARE = 0.12
# Receive fields vary over some centimetres, anatomy over less.
SHADING_SIGMA_MM = 25.0
N_SHADING_PASSES = 2
# Scores compare so many transforms at a time: more do not fit the cache.
BATCH = 8
# One standard deviation of head size, as the logarithm of a scale: adult heads lie within +-0.2.
SCALE_SIGMA = 0.15
SCALE_PENALTY = 0.03
MIN_EDGE_POINTS = 50


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities on a grid.

    Attributes
    ----------
    values : array, (X, Y, Z) float32
        Background at about 0.
    grid : Grid
    """

    values: FloatArray
    grid: Grid


def shrink(volume: Volume, voxel_mm: float) -> Volume:
    """Average blocks of voxels, as many along each axis as still fit `voxel_mm` (and a little); four blocks remain."""
    most = np.maximum(np.array(volume.values.shape) // 4, 1)
    factors = np.clip(1.05 * voxel_mm // volume.grid.voxel_sizes, 1, most).astype(int)
    values = volume.values
    for axis, factor in enumerate(factors):
        if factor > 1:
            values = _mean_of_slices(values, axis, int(factor))
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.to_mm((factors - 1) / 2)
    affine[:3, :3] *= factors
    return Volume(np.asarray(values, dtype=np.float32), Grid(_shape(values), affine))


def _mean_of_slices(values: NDArray[Any], axis: int, factor: int) -> FloatArray:
    """Mean of each `factor` neighbours along an axis; what is left over at the end is dropped."""
    length = values.shape[axis] // factor * factor
    index: list[slice] = [slice(None)] * values.ndim
    total = np.zeros(1, dtype=np.float32)
    for first in range(factor):
        index[axis] = slice(first, length, factor)
        total = total + values[tuple(index)]
    return np.asarray(total / factor, dtype=np.float32)


def smooth(volume: Volume, sigma_mm: float) -> Volume:
    """Smooth by a Gaussian."""
    sigmas = sigma_mm / volume.grid.voxel_sizes
    return Volume(ndimage.gaussian_filter(volume.values, sigmas, mode="nearest", truncate=3), volume.grid)


def from_background(volume: Volume) -> Volume:
    """Shift intensities so that the background lies at 0; nothing is below."""
    low = np.percentile(volume.values[::2, ::2, ::2], 0.5)
    return Volume(np.maximum(volume.values - np.float32(low), 0), volume.grid)


def foreground_threshold(values: FloatArray) -> float:
    """Intensity above which a voxel is no background."""
    bright = values[values > 0]
    return BACKGROUND_SHARE * float(np.percentile(bright, 98)) if bright.size else 0.0


def without_shading(volume: Volume) -> Volume:
    """Divide by the local mean of the foreground, which follows a coil's receive field."""
    coarse = shrink(volume, 8.0)
    shading = np.ones_like(coarse.values)
    # Twice: what lies far from a surface coil is told from the background only once the worst is taken off.
    for _ in range(N_SHADING_PASSES):
        shading *= _local_mean(Volume(coarse.values / shading, coarse.grid))
    to_coarse = np.linalg.inv(coarse.grid.affine) @ volume.grid.affine
    scale, offset = np.diag(to_coarse)[:3], to_coarse[:3, 3]
    fine = ndimage.affine_transform(shading, scale, offset, volume.values.shape, order=1, mode="nearest")
    return Volume(volume.values / fine, volume.grid)


def _local_mean(volume: Volume) -> FloatArray:
    """Mean of the foreground around each voxel, above zero everywhere."""
    inside = (volume.values > foreground_threshold(volume.values)).astype(np.float32)
    total = smooth(Volume(volume.values * inside, volume.grid), SHADING_SIGMA_MM).values
    share = smooth(Volume(inside, volume.grid), SHADING_SIGMA_MM).values
    mean = total / np.maximum(share, 1e-3)
    return np.asarray(np.maximum(mean, max(1e-3 * float(mean.max()), 1e-12)))


@dataclass(frozen=True, eq=False)
class Channel:
    """One view of template and scan, as small integers.

    Attributes
    ----------
    expected : array, (N,) int64
        Code of the template at each of the matcher's points.
    observed : array, (X + 2, Y + 2, Z + 2) int64
        Codes of the scan, with a border of `n_bins` that means outside the field of view.
    n_bins : int
    """

    expected: NDArray[np.int64]
    observed: NDArray[np.int64]
    n_bins: int


@dataclass(frozen=True, eq=False)
class Matcher:
    """Judges transforms by the mutual information of template and scan.

    Attributes
    ----------
    points : array, (N, 3) float64
        Template mm.
    channels : tuple of Channel
    grid : Grid
        Of the scan's codes, without their border.
    """

    points: Matrix
    channels: tuple[Channel, ...]
    grid: Grid

    def scores(self, matrices: Matrix) -> Matrix:
        """Mutual information in nats, summed over the channels, times the share of points in view; (B,)."""
        batches = [matrices[first : first + BATCH] for first in range(0, len(matrices), BATCH)]
        return np.concatenate([self._batch_scores(batch) for batch in batches])

    def _batch_scores(self, matrices: Matrix) -> Matrix:
        """Scores of so few transforms that all points of all fit the cache."""
        to_voxels = (np.linalg.inv(self.grid.affine) @ matrices).astype(np.float32)
        indices = to_voxels[:, :3, :3] @ self.points.T.astype(np.float32) + to_voxels[:, :3, 3:] + np.float32(1.5)
        shape = self.channels[0].observed.shape
        x, y, z = (np.clip(indices[:, axis].astype(np.int32), 0, shape[axis] - 1) for axis in range(3))
        flat = ((x * shape[1] + y) * shape[2] + z).astype(np.intp)
        return np.asarray(sum(_information(channel, flat) for channel in self.channels))


def _information(channel: Channel, flat: NDArray[np.intp]) -> Matrix:
    """Mutual information times the share in view, for each row of voxel indices (B, N)."""
    n_bins = channel.n_bins
    # All indices are within: "clip" only spares take's check of each, and a copy.
    keys = channel.observed.ravel().take(flat, mode="clip")
    keys += channel.expected * (n_bins + 1)
    counts = np.array([np.bincount(row, minlength=n_bins * (n_bins + 1)) for row in keys])
    counts = counts.reshape(-1, n_bins, n_bins + 1)[..., :n_bins]
    n_seen = counts.sum(axis=(1, 2))
    joint = counts / np.maximum(n_seen, 1)[:, None, None]
    expected = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    terms = np.zeros_like(joint)
    np.log(np.divide(joint, expected, out=terms, where=joint > 0), out=terms, where=joint > 0)
    return np.asarray((joint * terms).sum(axis=(1, 2)) * n_seen / flat.shape[1])


def quantile_edges(reference: FloatArray, n_bins: int) -> FloatArray:
    """Inner edges (n_bins - 1,) of bins that hold equal shares of `reference`."""
    shares = np.linspace(0, 1, n_bins + 1)[1:-1]
    return np.asarray(np.quantile(reference, shares) if reference.size else 0 * shares, dtype=np.float32)


def foreground_edges(reference: FloatArray, n_bins: int) -> FloatArray:
    """Inner edges of bins of which the first is the background."""
    threshold = foreground_threshold(reference)
    edges = quantile_edges(reference[reference > threshold], n_bins - 1)
    return np.asarray([threshold, *np.maximum(edges, threshold)], dtype=np.float32)


def channel(expected: FloatArray, expected_edges: FloatArray, observed: FloatArray, edges: FloatArray) -> Channel:
    """Code template values (N,) and a scan (X, Y, Z) by the edges of their bins."""
    n_bins = len(edges) + 1
    bordered = np.full([n + 2 for n in observed.shape], n_bins, dtype=np.int64)
    bordered[1:-1, 1:-1, 1:-1] = np.searchsorted(edges, observed)
    return Channel(np.searchsorted(expected_edges, expected).astype(np.int64), bordered, n_bins)


def turned(matrices: Matrix, center: Matrix, steps: Matrix) -> Matrix:
    """Move, turn and scale what transforms (B, 4, 4) make of the template.

    Parameters
    ----------
    matrices : array, (B, 4, 4)
    center : array, (3,)
        Template mm; its image stays where it is but for the shift.
    steps : array, (B, 7)
        Shift in mm, rotation vector in degrees, logarithm of the scale.
    """
    turns = Rotation.from_rotvec(steps[:, 3:6], degrees=True).as_matrix() * np.exp(steps[:, 6])[:, None, None]
    moved = np.tile(np.eye(4), (len(steps), 1, 1))
    moved[:, :3, :3] = turns @ matrices[:, :3, :3]
    anchors = matrices[:, :3, :3] @ center + matrices[:, :3, 3] + steps[:, :3]
    moved[:, :3, 3] = anchors - moved[:, :3, :3] @ center
    return moved


def cube_rotations() -> Matrix:
    """All 24 proper rotations (24, 3, 3) that carry axes to axes, the identity first."""
    found = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        rotation = np.zeros((3, 3))
        rotation[range(3), order] = signs
        if np.linalg.det(rotation) > 0:
            found.append(rotation)
    return np.array(sorted(found, key=lambda rotation: -np.trace(rotation)))


def start_matrices(center: Matrix, targets: Matrix, orientations: Matrix) -> Matrix:
    """Carry `center` onto every target (T, 3) in every orientation (O, 3, 3), turned by 0 or +-24 degrees an axis.

    Returns the transforms, (T * O * 54, 4, 4): heads a tenth larger and smaller than the template.
    """
    angles = np.array(list(product((0.0, -24.0, 24.0), repeat=3)))
    scales = (-0.1, 0.1)
    rows = []
    for target, orientation in product(targets, orientations):
        base = np.eye(4)
        base[:3, :3] = orientation
        base[:3, 3] = target - orientation @ center
        rows.append(base)
    steps = np.array([[0, 0, 0, *turn, scale] for turn, scale in product(angles, scales)])
    bases = np.repeat(np.array(rows), len(steps), axis=0)
    return turned(bases, center, np.tile(steps, (len(rows), 1)))


def search(matcher: Matcher, starts: Matrix, center: Matrix, spread: Matrix, seed: int) -> Matrix:
    """Breed better transforms from given ones.

    Parameters
    ----------
    matcher : Matcher
    starts : array, (B, 4, 4)
    center : array, (3,)
        Template mm around which transforms turn.
    spread : array, (7,)
        Standard deviations of the first generation's steps, as in `turned`; a rigid search has no last one.
    seed : int

    Returns
    -------
    array, (4, 4) float64
        The best.

    Notes
    -----
    An evolution strategy with mutation only: in each generation the parents' children are drawn closer to them,
    and fewer parents survive. It needs no gradient, so that coarse nearest-neighbour sampling is good enough, and
    it follows several valleys until late.
    """
    rng = np.random.default_rng(seed)
    parents, merits = _fittest(starts, _merits(matcher, starts), 24)
    for generation in range(14):
        chosen = parents[np.arange(96) % len(parents)]
        children = turned(chosen, center, rng.standard_normal((96, 7)) * spread * 0.82**generation)
        family = np.concatenate([parents, children])
        merits = np.concatenate([merits, _merits(matcher, children)])
        parents, merits = _fittest(family, merits, max(4, int(24 * 0.88**generation)))
    return np.asarray(parents[0])


def _merits(matcher: Matcher, matrices: Matrix) -> Matrix:
    """Scores, a little lower for heads of unlikely size."""
    log_scale = np.log(np.abs(np.linalg.det(matrices[:, :3, :3]))) / 3
    return np.asarray(matcher.scores(matrices) * (1 - SCALE_PENALTY * (log_scale / SCALE_SIGMA) ** 2))


def _fittest(matrices: Matrix, merits: Matrix, n_kept: int) -> tuple[Matrix, Matrix]:
    """Keep the best of a population, best first."""
    order = np.argsort(-merits, kind="stable")[:n_kept]
    return matrices[order], merits[order]


def refine_affine(template: Volume, mask: NDArray[np.bool_], scan: Volume, start: Matrix, center: Matrix) -> Matrix:
    """Improve all twelve parameters by SimpleITK: Mattes mutual information within `mask` of the template."""
    # SimpleITK knows no sheared grids: the scan is given in a space whose axes are its voxels' and whose unit is mm.
    sizes = scan.grid.voxel_sizes
    scan_from_work = scan.grid.affine @ np.diag([*(1 / sizes), 1.0])
    moving = Volume(_darkened(scan.values), Grid(scan.grid.shape, np.diag([*sizes, 1.0])))
    transform = sitk.AffineTransform(3)
    _give(transform, np.linalg.inv(scan_from_work) @ start, center)
    registration = _mattes_registration(template, mask)
    registration.SetOptimizerAsRegularStepGradientDescent(2.0, 0.05, 30, 0.6)
    found = _optimized(registration, transform, template, moving)
    return start if found is None else np.asarray(scan_from_work @ found)


def refine_rigid(fixed: Volume, mask: NDArray[np.bool_], moving: Volume, start: Matrix, center: Matrix) -> Matrix:
    """Improve a rigid transform by SimpleITK, on one in sixteen voxels within `mask` of the fixed volume."""
    transform = sitk.Euler3DTransform()
    _give(transform, start, center)
    registration = _mattes_registration(fixed, mask)
    registration.SetMetricSamplingStrategy(registration.REGULAR)
    registration.SetMetricSamplingPercentage(1 / 16, seed=1)
    registration.SetOptimizerAsRegularStepGradientDescent(1.0, 0.01, 80, 0.6)
    dark = Volume(_darkened(moving.values), moving.grid)
    found = _optimized(registration, transform, Volume(_darkened(fixed.values), fixed.grid), dark)
    return start if found is None else found


def _mattes_registration(fixed: Volume, mask: NDArray[np.bool_]) -> sitk.ImageRegistrationMethod:
    """Prepare what all registrations share."""
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(32)
    registration.SetMetricFixedMask(_itk_image(mask.astype(np.uint8), fixed.grid))
    registration.SetInterpolator(sitk.sitkLinear)
    # The metric adds up its work units in no fixed order: one makes the answer repeatable.
    registration.SetNumberOfWorkUnits(1)
    return registration


def _optimized(
    registration: sitk.ImageRegistrationMethod, transform: sitk.Transform, fixed: Volume, moving: Volume
) -> Matrix | None:
    """Run a registration from a transform; None where the two volumes hardly overlap."""
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetInitialTransform(transform, inPlace=True)
    try:
        registration.Execute(_itk_image(fixed.values, fixed.grid), _itk_image(moving.values, moving.grid))
    except RuntimeError as error:  # too few points of the one lie in the other
        logger.debug("The transform is left as it was: %s", str(error).strip().splitlines()[-1])
        return None
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return matrix


def _give(transform: sitk.Transform, matrix: Matrix, center: Matrix) -> None:
    """Set a transform of SimpleITK, and the point its parameters turn around."""
    transform.SetCenter(center.tolist())
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation((apply_affine(matrix, center) - center).tolist())


def _darkened(values: FloatArray) -> FloatArray:
    """Cut off the brightest voxels: vessels would take most of the histogram."""
    bright = values[values > 0]
    ceiling = np.float32(np.percentile(bright, 99.5) if bright.size else 1.0)
    return np.minimum(values, ceiling)


def _itk_image(values: NDArray[Any], grid: Grid) -> sitk.Image:
    """Wrap an array (X, Y, Z); SimpleITK calls its millimetres LPS, and is given RAS+ for all images alike."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing(grid.voxel_sizes.tolist())
    image.SetDirection((grid.affine[:3, :3] / grid.voxel_sizes).ravel().tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image


def values_at(volume: Volume, points: Matrix) -> FloatArray:
    """Intensities (N,) at points (N, 3) in the volume's mm, interpolated linearly; the nearest ones outside."""
    indices = volume.grid.to_voxels(points).T
    return np.asarray(ndimage.map_coordinates(volume.values, indices, order=1, mode="nearest"), dtype=np.float32)


def gradients_at(volume: Volume, points: Matrix) -> Matrix:
    """Gradients (N, 3) of the intensity per mm at points (N, 3) in the volume's mm."""
    indices = volume.grid.to_voxels(points).T
    along = [ndimage.map_coordinates(part, indices, order=1, mode="nearest") for part in np.gradient(volume.values)]
    return np.asarray(np.stack(along, axis=1) @ np.linalg.inv(volume.grid.affine[:3, :3]))


def in_view(grid: Grid, points: Matrix) -> NDArray[np.bool_]:
    """Which of the points (N, 3) in mm lie within a voxel of the grid."""
    indices = grid.to_voxels(points)
    return np.asarray(((indices >= -0.5) & (indices <= np.array(grid.shape) - 0.5)).all(axis=1))


def edge_likeness(scan: Volume, matrix: Matrix, points: Matrix, gradients: NDArray[np.floating]) -> float | None:
    """How far edges of scan and template run in the same directions: 1 always, 0 no more than by chance.

    Parameters
    ----------
    scan : Volume
        As smooth as the template was.
    matrix : array, (4, 4)
    points, gradients : array, (N, 3)
        Template mm, and the template's intensity gradients there.

    Returns
    -------
    float or None
        None where hardly any point is in view.

    Notes
    -----
    Mean of the squared cosine between the gradients, weighted by the template's: neither contrast nor shading
    enters. By chance it is 1/3. After Haber and Modersitzki, MICCAI 2006, doi:10.1007/11866763_89.
    """
    carried = apply_affine(matrix, points)
    seen = in_view(scan.grid, carried)
    if seen.sum() < MIN_EDGE_POINTS:
        return None
    # A gradient is a covector: it goes back to the template by the transposed matrix.
    observed = gradients_at(scan, carried[seen]) @ matrix[:3, :3]
    expected = gradients[seen]
    strength, weight = np.linalg.norm(observed, axis=1), np.linalg.norm(expected, axis=1)
    cosines = (observed * expected).sum(axis=1) / np.maximum(strength * weight, 1e-12)
    return float(1.5 * (np.average(cosines**2, weights=weight) - 1 / 3))


def cut_around(volume: Volume, points: Matrix, margin_mm: float) -> Volume | None:
    """Part of a volume around points (N, 3) in its mm; None where they lie outside it altogether."""
    grid = volume.grid
    indices, spare = grid.to_voxels(points), margin_mm / grid.voxel_sizes
    start = np.clip(np.floor(indices.min(axis=0) - spare), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(indices.max(axis=0) + spare) + 1, 0, grid.shape).astype(int)
    if (start >= stop).any():
        return None
    part = volume.values[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    return Volume(part, grid.subgrid(tuple(start.tolist()), tuple(stop.tolist())))


def climb(matcher: Matcher, matrix: Matrix, center: Matrix) -> Matrix:
    """Fit a part of the template more closely than the transform of the whole does.

    Parameters
    ----------
    matcher : Matcher
        Of the part and its surroundings.
    matrix : array, (4, 4)
        Of the whole.
    center : array, (3,)
        Of the part, template mm.

    Returns
    -------
    array, (4, 4) float64
        Template mm to template mm, to be applied before `matrix`: a shift, a turn and a stretch along each axis.

    Notes
    -----
    Steps of 3 mm, 6 degrees and 10 %, then halves and quarters of them, while they raise the score, and no more than
    9 mm, 18 degrees and 20 %. A tenth of the score is the price of 25 mm, of 20 degrees, of 25 %: edges in the noise
    are no reason to move.
    """
    prices, limits = np.repeat([25.0, 20.0, 0.25], 3), np.repeat([9.0, 18.0, 0.2], 3)
    shifts = np.array(list(product((0.0, -3.0, 3.0), repeat=3)))
    turns_and_stretches = np.repeat([0.0, 6.0, 0.1], 3) * np.eye(9)[3:]
    neighbours = np.concatenate([np.pad(shifts, ((0, 0), (0, 6))), turns_and_stretches, -turns_and_stretches])
    best = np.zeros(9)
    for scale in (1.0, 0.5, 0.25):
        for _ in range(6):
            tried = np.clip(best + scale * neighbours, -limits, limits)
            merits = matcher.scores(matrix @ _local(tried, center)) * (1 - 0.1 * ((tried / prices) ** 2).sum(axis=1))
            winner = tried[int(np.argmax(merits))]
            if np.array_equal(winner, best):
                break
            best = winner
    return np.asarray(_local(best[None], center)[0])


def _local(parameters: Matrix, center: Matrix) -> Matrix:
    """Make transforms (B, 4, 4) about a centre of shifts in mm, rotation vectors in degrees, log stretches (B, 9)."""
    turns = Rotation.from_rotvec(parameters[:, 3:6], degrees=True).as_matrix()
    matrices = np.tile(np.eye(4), (len(parameters), 1, 1))
    matrices[:, :3, :3] = turns * np.exp(parameters[:, 6:])[:, None, :]
    matrices[:, :3, 3] = center + parameters[:, :3] - matrices[:, :3, :3] @ center
    return matrices


def _shape(values: NDArray[Any]) -> tuple[int, int, int]:
    """Shape as the type that grids have."""
    x, y, z = values.shape
    return x, y, z

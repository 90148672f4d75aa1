"""Bring two contrasts of one head together: rigid registration, from where the scanner says they lie.

Coordinates are RAS+ millimetres on both sides; SimpleITK, which calls them LPS, is given the same
numbers on both sides, so that nothing has to be flipped.

How good the answer is, is told by two figures that need no reference. Sharpness: how much of the
mutual information is lost when the answer is displaced by 4 mm; two contrasts of one head lose a good
part of it, what does not belong together loses little. Repeatability: how far apart two searches end
that begin on opposite sides of the answer.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.errors import LocalizationError, ScanError
from bids_hsf.geometry import Grid
from bids_hsf.localization import Location, hippocampus_points

logger = logging.getLogger(__name__)

WORK_VOXEL_MM = 2.0
DISPLACEMENT_MM = 4.0
# Pairs of one head have 0.5 and more, 0.27 with thick slices, strong shading and noise; two different heads
# 0.24; what does not fit at all below 0.06, and then a second search ends 4 mm away or more.
DOUBTFUL_QUALITY = 0.25
MIN_QUALITY = 0.15
MAX_DISAGREEMENT_MM = 3.0
# The hippocampi lie within this distance of the middle of the head.
REACH_MM = 40.0
N_BINS = 32

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Coregistration:
    """Where the second contrast lies with respect to the reference.

    Attributes
    ----------
    reference_from_second : array, (4, 4) float64
        RAS+ mm of the second scan to RAS+ mm of the reference; rigid.
    quality : float
        Share of the mutual information that a displacement of 4 mm costs, 0 to 1.
    disagreement_mm : float
        Largest distance, within 40 mm of the middle of the head, between the answers of two searches.
    """

    reference_from_second: Matrix
    quality: float
    disagreement_mm: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the results should know."""
        if self.quality >= DOUBTFUL_QUALITY:
            return ()
        return (f"the two contrasts hardly fit (quality {self.quality:.2f}): are they of one head?",)

    def as_record(self) -> dict[str, Any]:
        """Plain values for the sidecar."""
        return {
            "Quality": round(self.quality, 4),
            "DisagreementMm": round(self.disagreement_mm, 3),
            "ReferenceFromScan": np.round(self.reference_from_second, 5).tolist(),
            "Warnings": list(self.warnings),
        }

    def checked(self, reference: str, second: str) -> "Coregistration":
        """Give itself, unless it is too bad to be used.

        Raises
        ------
        ScanError
            The two scans, which are named in the message, do not come together.
        """
        if self.quality >= MIN_QUALITY and self.disagreement_mm <= MAX_DISAGREEMENT_MM:
            for warning in self.warnings:
                logger.warning("%s, %s: %s", reference, second, warning)
            return self
        raise ScanError(
            f"{second} cannot be brought together with {reference}: quality {self.quality:.2f}, expected "
            f"{MIN_QUALITY:g} or more; two searches end {self.disagreement_mm:.1f} mm apart, expected "
            f"{MAX_DISAGREEMENT_MM:g} mm or less",
            "Check that both scans are of one head and whole, or run without --multispectral.",
        )


def coregister(
    reference: NDArray[Any], reference_grid: Grid, second: NDArray[Any], second_grid: Grid, *, n_threads: int = 1
) -> Coregistration:
    """Register two contrasts of one head rigidly.

    Parameters
    ----------
    reference, second : array, (X, Y, Z)
        Canonical (RAS+) intensities of any kind, on any grids.
    reference_grid, second_grid : Grid
        Of the two.
    n_threads : int
        Upper limit.

    Returns
    -------
    Coregistration
        Good or bad; see `Coregistration.checked`.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(n_threads)
    # The smaller field of view is sampled: a slab lies in the whole head, not the head in the slab.
    second_is_smaller = _extent(second_grid) < _extent(reference_grid)
    images = [_work_image(reference, reference_grid), _work_image(second, second_grid)]
    fixed, moving = reversed(images) if second_is_smaller else images
    search = _Search(fixed, moving)
    solution = search.solve()
    matrix = _matrix_of(solution)
    return Coregistration(
        matrix if second_is_smaller else np.asarray(np.linalg.inv(matrix), dtype=np.float64),
        search.sharpness(solution),
        search.disagreement(solution),
    )


def carried_location(location: Location, reference_from_other: Matrix, grid: Grid) -> Location:
    """Bring what was located in one scan to another of the same head.

    Parameters
    ----------
    location : Location
        In the other scan.
    reference_from_other : array, (4, 4) float64
        RAS+ mm of that scan to RAS+ mm of the reference; rigid.
    grid : Grid
        Of the reference; it may hold a part of the head only.

    Raises
    ------
    LocalizationError
        Both hippocampi lie outside `grid`.
    """
    moved = replace(location, scan_from_template=reference_from_other @ location.scan_from_template)
    coverage = {}
    for hemisphere in location.coverage:
        indices = grid.to_voxels(hippocampus_points(moved, hemisphere))
        inside = (indices >= -0.5) & (indices <= np.array(grid.shape) - 0.5)
        coverage[hemisphere] = float(inside.all(axis=1).mean())
    if max(coverage.values()) == 0:
        raise LocalizationError(
            "both hippocampi lie outside the field of view of the reference scan",
            "Check the scan, or take the other contrast: --reference.",
        )
    return replace(moved, coverage=coverage)


def _extent(grid: Grid) -> float:
    return float(np.prod(grid.shape)) * grid.voxel_volume


class _Search:
    """Rigid registration of one pair of work images; transforms lead from `fixed` to `moving` mm."""

    def __init__(self, fixed: sitk.Image, moving: sitk.Image) -> None:
        self.fixed, self.moving = fixed, moving
        self.mask = _foreground(fixed)
        self.centre = _centre_of_mass(self.mask)

    def solve(self) -> sitk.Euler3DTransform:
        """Search from the scanner's geometry and, should that be lost, from the centres of the heads."""
        geometry = self._transform(np.zeros(6))
        shift = _centre_of_mass(_foreground(self.moving)) - self.centre
        starts = [geometry, self._transform(np.concatenate([np.zeros(3), shift]))]
        coarse = [self._improved(start, shrink_factor=2, step_mm=2.0) for start in starts]
        best = min(coarse, key=self._metric)
        return self._improved(best, shrink_factor=1, step_mm=1.0)

    def sharpness(self, solution: sitk.Euler3DTransform) -> float:
        """Share of the mutual information that a displacement costs, mean over six directions."""
        information = -self._metric(solution)
        if information <= 0:
            return 0.0
        parameters = np.array(solution.GetParameters())
        displaced = []
        for direction in np.concatenate([np.eye(3), -np.eye(3)]) * DISPLACEMENT_MM:
            displaced.append(-self._metric(self._transform(parameters + np.concatenate([np.zeros(3), direction]))))
        return float(np.clip(1 - np.mean(displaced) / information, 0, 1))

    def disagreement(self, solution: sitk.Euler3DTransform) -> float:
        """Largest distance in mm between the solution and the answer of a search that begins beside it."""
        beside = np.array(solution.GetParameters()) + np.array([0.04, -0.04, 0.04, 2.0, -2.0, 2.0])
        answer = self._improved(self._transform(beside), shrink_factor=1, step_mm=1.0)
        points = (self.centre + np.concatenate([np.eye(3), -np.eye(3)]) * REACH_MM).tolist()
        first, second = [np.array([found.TransformPoint(point) for point in points]) for found in (solution, answer)]
        return float(np.linalg.norm(first - second, axis=1).max())

    def _transform(self, parameters: NDArray[np.float64]) -> sitk.Euler3DTransform:
        """Make a rigid transform of three angles in rad and three shifts in mm."""
        transform = sitk.Euler3DTransform()
        transform.SetCenter(self.centre.tolist())
        transform.SetParameters(parameters.tolist())
        return transform

    def _improved(self, start: sitk.Euler3DTransform, shrink_factor: int, step_mm: float) -> sitk.Euler3DTransform:
        transform = self._transform(np.array(start.GetParameters()))
        registration = self._registration(shrink_factor)
        registration.SetOptimizerAsRegularStepGradientDescent(step_mm, 0.01, 80, 0.6)
        registration.SetOptimizerScalesFromPhysicalShift()
        registration.SetInitialTransform(transform, inPlace=True)
        registration.Execute(self.fixed, self.moving)
        return transform

    def _metric(self, transform: sitk.Euler3DTransform) -> float:
        """Negative mutual information; infinite where the images hardly overlap."""
        registration = self._registration(1)
        registration.SetInitialTransform(transform)
        try:
            return float(registration.MetricEvaluate(self.fixed, self.moving))
        except RuntimeError:
            return float("inf")

    def _registration(self, shrink_factor: int) -> sitk.ImageRegistrationMethod:
        registration = sitk.ImageRegistrationMethod()
        registration.SetMetricAsMattesMutualInformation(N_BINS)
        registration.SetMetricFixedMask(self.mask)
        registration.SetMetricSamplingStrategy(registration.REGULAR)
        registration.SetMetricSamplingPercentage(min(0.06 * shrink_factor**3, 1.0), seed=1)
        registration.SetInterpolator(sitk.sitkLinear)
        registration.SetShrinkFactorsPerLevel([shrink_factor])
        registration.SetSmoothingSigmasPerLevel([0.5 * (shrink_factor - 1)])
        # Mattes sums over work units in no fixed order: one makes the answer repeatable.
        registration.SetNumberOfWorkUnits(1)
        return registration


def _matrix_of(transform: sitk.Euler3DTransform) -> Matrix:
    """Matrix (4, 4) of a rigid transform."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return matrix


def _work_image(data: NDArray[Any], grid: Grid) -> sitk.Image:
    """Average blocks of voxels to at most 2 mm, cut off the brightest, and wrap the result for SimpleITK."""
    factors = np.clip(np.floor(1.05 * WORK_VOXEL_MM / grid.voxel_sizes), 1, None).astype(int)
    shape = np.array(data.shape) // factors
    whole = data[tuple(slice(n * factor) for n, factor in zip(shape, factors, strict=True))]
    blocks = np.asarray(whole, dtype=np.float32).reshape(np.stack([shape, factors], 1).ravel().tolist())
    small = blocks.mean(axis=(1, 3, 5))
    low, high = np.percentile(small, (0.5, 99.5))
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.clip(small, low, high).transpose(2, 1, 0)))
    image.SetSpacing((grid.voxel_sizes * factors).tolist())
    image.SetDirection((grid.affine[:3, :3] / grid.voxel_sizes).ravel().tolist())
    image.SetOrigin(grid.to_mm((factors[None] - 1) / 2)[0].tolist())
    return image


def _foreground(image: sitk.Image) -> sitk.Image:
    """Head against air, with its rim."""
    head = sitk.OtsuThreshold(image, 0, 1)
    values = ndimage.binary_fill_holes(sitk.GetArrayFromImage(head))
    filled = sitk.GetImageFromArray(np.asarray(values, dtype=np.uint8))
    filled.CopyInformation(image)
    return sitk.BinaryDilate(filled, (2, 2, 2))


def _centre_of_mass(mask: sitk.Image) -> NDArray[np.float64]:
    """Mean position in mm of a mask's voxels."""
    indices = np.argwhere(sitk.GetArrayFromImage(mask))[:, ::-1].mean(axis=0)
    return np.array(mask.TransformContinuousIndexToPhysicalPoint(indices.tolist()))

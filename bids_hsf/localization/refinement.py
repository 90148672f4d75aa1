"""Improve a transform that is nearly right, by SimpleITK."""

import logging
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.geometry import FloatArray, Grid, Matrix
from bids_hsf.localization.volume import Volume

logger = logging.getLogger(__name__)


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

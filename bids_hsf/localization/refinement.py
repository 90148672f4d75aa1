"""Improve a transform that is nearly right, by SimpleITK."""

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.geometry import Grid, Matrix
from bids_hsf.libraries import release_libraries
from bids_hsf.localization.intensities import Intensities
from bids_hsf.quantiles import percentiles

if TYPE_CHECKING:
    import SimpleITK as sitk

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefinementSettings:
    """How SimpleITK's regular-step gradient descent and its Mattes mutual information are set.

    Attributes
    ----------
    first_step_mm : float
        How far the points move at first.
    last_step_mm : float
        Below this the descent ends: an affine has to be right to a small part of a voxel, a rigid motion by which
        votes are joined to a smaller one.
    max_iterations : int
    relaxation : float
        Share of a step that is left where the direction turns round.
    n_bins : int
        Of the joint histogram, an axis.
    sampled_share : float or None
        Of the voxels within the mask, each moved at random by a part of its size, so that the two images' voxels do not
        coincide; None for all, where they are.
    sampling_seed : int
        A fixed one makes the answer repeatable.
    ceiling_percentile : float
        Of the intensities above zero; brighter voxels, such as vessels, would take most of the histogram.
    gradient_images : bool
        Let SimpleITK compute smooth gradients of both images beforehand, in all voxels; else differences of neighbours
        are taken where they are needed: less work where few voxels are sampled, of images that are smooth already.
    """

    first_step_mm: float
    last_step_mm: float
    max_iterations: int
    relaxation: float = 0.6
    n_bins: int = 32
    sampled_share: float | None = None
    sampling_seed: int = 1
    ceiling_percentile: float = 99.5
    gradient_images: bool = True


# Copies of a head that were turned and resampled are found closer to one place by a quarter of the points, with steps
# that shrink less at a turn, than by all points with steps that shrink sooner; and in half the time.
AFFINE_REFINEMENT = RefinementSettings(
    first_step_mm=2.0, last_step_mm=0.05, max_iterations=40, relaxation=0.75, sampled_share=0.25
)
RIGID_REFINEMENT = RefinementSettings(first_step_mm=1.0, last_step_mm=0.01, max_iterations=80, sampled_share=1 / 16)


def import_simpleitk() -> None:
    """Import SimpleITK now: a tenth of a second, and 90 MB, for which other commands than a run have no use."""
    if "SimpleITK" not in sys.modules:
        import SimpleITK  # noqa: F401

        release_libraries()


def refine_affine(
    template: Intensities,
    mask: NDArray[np.bool_],
    scan: Intensities,
    start: Matrix,
    center: Matrix,
    settings: RefinementSettings = AFFINE_REFINEMENT,
) -> Matrix:
    """Improve all twelve parameters of a transform from the template to a scan.

    Parameters
    ----------
    template, scan : Intensities
    mask : array, (X, Y, Z) bool
        Where in the template the two are compared.
    start : array, (4, 4)
        Template mm to scan mm.
    center : array, (3,)
        Template mm around which the parameters turn.
    settings : RefinementSettings

    Returns
    -------
    array, (4, 4) float64
        `start` itself where hardly anything of the mask lies in the scan.
    """
    return fit_affine(template, mask, darkened(scan, settings), start, center, settings)[0]


def fit_affine(
    template: Intensities,
    mask: NDArray[np.bool_],
    scan: Intensities,
    start: Matrix,
    center: Matrix,
    settings: RefinementSettings = AFFINE_REFINEMENT,
) -> tuple[Matrix, float]:
    """Do as `refine_affine` with a scan that is `darkened`, and give the mutual information in the end too.

    It is 0 where `start` is given back.
    """
    import_simpleitk()
    import SimpleITK as sitk

    # SimpleITK knows no sheared grids: the scan is given in a space whose axes are its voxels' and whose unit is mm.
    sizes = scan.grid.voxel_sizes
    scan_from_work = scan.grid.affine @ np.diag([*(1 / sizes), 1.0])
    work_grid = Grid(scan.grid.shape, np.diag([*sizes, 1.0]))
    moving = Intensities(scan.values, work_grid)
    transform = sitk.AffineTransform(3)
    _give(transform, np.linalg.inv(scan_from_work) @ start, center)
    registration = _mattes_registration(template, mask, settings)
    found = _optimized(registration, transform, template, moving)
    if found is None:
        return start, 0.0
    return np.asarray(scan_from_work @ found), -float(registration.GetMetricValue())


def refine_rigid(
    fixed: Intensities,
    mask: NDArray[np.bool_],
    moving: Intensities,
    start: Matrix,
    center: Matrix,
    settings: RefinementSettings = RIGID_REFINEMENT,
) -> Matrix:
    """Improve the six parameters of a rigid transform (4, 4) from one scan to another; otherwise as `refine_affine`."""
    import_simpleitk()
    import SimpleITK as sitk

    transform = sitk.Euler3DTransform()
    _give(transform, start, center)
    registration = _mattes_registration(fixed, mask, settings)
    found = _optimized(registration, transform, darkened(fixed, settings), darkened(moving, settings))
    return start if found is None else found


def _mattes_registration(
    fixed: Intensities, mask: NDArray[np.bool_], settings: RefinementSettings
) -> "sitk.ImageRegistrationMethod":
    """Prepare metric and optimizer."""
    import SimpleITK as sitk

    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(settings.n_bins)
    registration.SetMetricFixedMask(_itk_image(mask.astype(np.uint8), fixed.grid))
    registration.SetInterpolator(sitk.sitkLinear)
    registration.SetMetricUseMovingImageGradientFilter(settings.gradient_images)
    registration.SetMetricUseFixedImageGradientFilter(settings.gradient_images)
    if settings.sampled_share is not None:
        registration.SetMetricSamplingStrategy(registration.REGULAR)
        registration.SetMetricSamplingPercentage(settings.sampled_share, seed=settings.sampling_seed)
    registration.SetOptimizerAsRegularStepGradientDescent(
        settings.first_step_mm, settings.last_step_mm, settings.max_iterations, settings.relaxation
    )
    # The metric adds up its work units in no fixed order: one makes the answer repeatable.
    registration.SetNumberOfWorkUnits(1)
    return registration


def _optimized(
    registration: "sitk.ImageRegistrationMethod", transform: "sitk.Transform", fixed: Intensities, moving: Intensities
) -> Matrix | None:
    """Run a registration from a transform; None where the two images hardly overlap."""
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


def _give(transform: "sitk.Transform", matrix: Matrix, center: Matrix) -> None:
    """Set a transform of SimpleITK, and the point its parameters turn around."""
    transform.SetCenter(center.tolist())
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation((apply_affine(matrix, center) - center).tolist())


def darkened(scan: Intensities, settings: RefinementSettings) -> Intensities:
    """Cut off the brightest voxels."""
    bright = scan.values[scan.values > 0]
    ceiling = np.float32(percentiles(bright, [settings.ceiling_percentile])[0] if bright.size else 1.0)
    return Intensities(np.minimum(scan.values, ceiling), scan.grid)


def _itk_image(values: NDArray[Any], grid: Grid) -> "sitk.Image":
    """Wrap an array (X, Y, Z); SimpleITK calls its millimetres LPS, and is given RAS+ for all images alike."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing(grid.voxel_sizes.tolist())
    image.SetDirection((grid.affine[:3, :3] / grid.voxel_sizes).ravel().tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image

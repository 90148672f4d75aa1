"""Find both hippocampi: affine registration to the MNI152 template, one crop a hemisphere.

Coordinates are RAS+ millimetres on both sides. SimpleITK calls its axes LPS; it is given plain numbers
here, the same on both sides, so that nothing has to be flipped.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.errors import LocalizationError
from bids_hsf.geometry import CropBox, Grid, box_around
from bids_hsf.labels import HEMISPHERES, RIGHT_OFFSET

logger = logging.getLogger(__name__)

DEFAULT_MARGIN_MM = 5.0
Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Location:
    """Where the template's hippocampi lie in a scan.

    Attributes
    ----------
    scan_from_template : array, (4, 4) float64
        Template (MNI152 2009c) RAS+ mm to scan RAS+ mm.
    quality : float
        0 (nothing fits) to 1.
    coverage : mapping of str to float
        Hemisphere "L", "R" to the share of the hippocampus inside the field of view.
    etiv_mm3 : float or None
        Estimated total intracranial volume.
    etiv_reason : str or None
        Why there is none.
    warnings : tuple of str
        What a reader of the results should know.
    """

    scan_from_template: Matrix
    quality: float
    coverage: Mapping[str, float]
    etiv_mm3: float | None = None
    etiv_reason: str | None = None
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, eq=False)
class Template:
    """The packaged MNI152 2009c symmetric template.

    Attributes
    ----------
    grid : Grid
        Of the two arrays, 2 mm.
    t1w : array, (97, 115, 97) float32
        With skull and neck.
    brain : array, (97, 115, 97) float32
        Share of the voxel that is inside the brain.
    hippocampi : mapping of str to array, (N, 3) float64
        Hemisphere to the centres of the hippocampus's voxels of 1 mm, in mm.
    """

    grid: Grid
    t1w: NDArray[np.float32]
    brain: NDArray[np.float32]
    hippocampi: Mapping[str, Matrix]


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the template files of the package."""
    folder = Path(__file__).parent / "data"
    t1w, brain, labels = [
        nib.load(folder / name) for name in ("template_T1w.nii.gz", "template_brain.nii.gz", "hippocampus_dseg.nii.gz")
    ]
    values = np.asarray(labels.dataobj)
    hippocampi = {
        side: apply_affine(labels.affine, np.argwhere((values > low) & (values < low + RIGHT_OFFSET)))
        for side, low in zip(HEMISPHERES, (0, RIGHT_OFFSET), strict=True)
    }
    return Template(
        Grid(t1w.shape, t1w.affine),
        np.asarray(t1w.dataobj, dtype=np.float32),
        np.asarray(brain.dataobj, dtype=np.float32) / 200,
        hippocampi,
    )


def locate(data: NDArray, grid: Grid, *, n_threads: int = 1) -> Location:
    """Register a scan to the template.

    Parameters
    ----------
    data : array, (X, Y, Z)
        Canonical (RAS+) intensities of any kind.
    grid : Grid
        Of `data`.
    n_threads : int
        Upper limit.

    Raises
    ------
    LocalizationError
        Both hippocampi lie outside the field of view.
    """
    template = load_template()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(n_threads)
    scan_from_template, quality = _register(data, grid, template)
    coverage = {
        side: _share_inside(apply_affine(scan_from_template, points), grid)
        for side, points in template.hippocampi.items()
    }
    if max(coverage.values()) == 0:
        raise LocalizationError(
            "both hippocampi lie outside the scan's field of view",
            "check the scan; a slab needs the session's T1w to be located",
        )
    icv = float(template.brain.sum()) * template.grid.voxel_volume
    etiv = icv * float(np.linalg.det(scan_from_template[:3, :3]))
    return Location(scan_from_template, quality, coverage, etiv)


def hippocampus_points(location: Location, hemisphere: str) -> Matrix:
    """Voxel centres (N, 3) of the template's hippocampus, carried into the scan, in mm."""
    return np.asarray(apply_affine(location.scan_from_template, load_template().hippocampi[hemisphere]))


def native_box(location: Location, grid: Grid, hemisphere: str, margin_mm: float = DEFAULT_MARGIN_MM) -> CropBox:
    """Box of the scan's own voxels around one hippocampus, cut to the field of view."""
    indices = grid.to_voxels(hippocampus_points(location, hemisphere))
    return box_around(indices, margin_mm / grid.voxel_sizes, grid.shape, hemisphere)


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
        Beyond the hippocampus of the template, on each side.
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
    """Directions (3, 3) of the template's axes in the scan: the orthogonal factor of the affine's polar decomposition."""
    u, _, vt = np.linalg.svd(location.scan_from_template[:3, :3])
    return np.asarray(u @ vt)


def _share_inside(points: Matrix, grid: Grid) -> float:
    """Share of points (N, 3) in mm that lie in the grid's field of view."""
    indices = grid.to_voxels(points)
    inside = (indices >= -0.5) & (indices <= np.array(grid.shape) - 0.5)
    return float(inside.all(axis=1).mean())


def _register(data: NDArray, grid: Grid, template: Template) -> tuple[Matrix, float]:
    """Affine from template mm to scan mm, and its quality."""
    scan, scan_from_work = _work_image(data, grid)
    fixed = _itk_image(template.t1w, template.grid.voxel_sizes, template.grid.affine[:3, 3])
    mask = sitk.BinaryDilate(
        _itk_image(template.brain > 0.5, template.grid.voxel_sizes, template.grid.affine[:3, 3]), (4, 4, 4)
    )
    affine = sitk.AffineTransform(3)
    start = sitk.CenteredTransformInitializer(
        fixed, scan, sitk.Similarity3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    similarity = sitk.Similarity3DTransform(start)
    _optimize(fixed, mask, scan, similarity, (4, 3), 60)
    affine.SetMatrix(similarity.GetMatrix())
    affine.SetCenter(similarity.GetCenter())
    affine.SetTranslation(similarity.GetTranslation())
    value = _optimize(fixed, mask, scan, affine, (3, 2, 1), 100)
    work_from_template = np.eye(4)
    work_from_template[:3, :3] = np.array(affine.GetMatrix()).reshape(3, 3)
    work_from_template[:3, 3] = affine.TransformPoint((0.0, 0.0, 0.0))
    return scan_from_work @ work_from_template, -value


def _optimize(
    fixed: sitk.Image,
    mask: sitk.Image,
    moving: sitk.Image,
    transform: sitk.Transform,
    shrink_factors: tuple[int, ...],
    n_iterations: int,
) -> float:
    """Improve `transform` in place; returns the metric."""
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(32)
    registration.SetMetricFixedMask(mask)
    registration.SetMetricSamplingStrategy(registration.REGULAR)
    registration.SetMetricSamplingPercentagePerLevel([min(0.05 * s**2, 0.5) for s in shrink_factors], seed=1)
    registration.SetInterpolator(sitk.sitkLinear)
    registration.SetOptimizerAsRegularStepGradientDescent(2.0, 0.02, n_iterations, 0.6)
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetShrinkFactorsPerLevel(shrink_factors)
    registration.SetSmoothingSigmasPerLevel([0.5 * (s - 1) for s in shrink_factors])
    registration.SetInitialTransform(transform, inPlace=True)
    # Mattes sums over work units in no fixed order: one makes the answer repeatable.
    registration.SetNumberOfWorkUnits(1)
    registration.Execute(fixed, moving)
    return float(registration.GetMetricValue())


def _work_image(data: NDArray, grid: Grid) -> tuple[sitk.Image, Matrix]:
    """Average blocks of voxels to about 2 mm; returns the image and the matrix from its mm to scan mm."""
    factors = np.clip(np.floor(2.1 / grid.voxel_sizes), 1, None).astype(int)
    small = np.nan_to_num(np.asarray(data, dtype=np.float32))
    for axis, factor in enumerate(factors):
        n_blocks = small.shape[axis] // factor
        small = small.take(range(n_blocks * factor), axis=axis)
        shape = (*small.shape[:axis], n_blocks, factor, *small.shape[axis + 1 :])
        small = small.reshape(shape).mean(axis=axis + 1)
    low, high = np.percentile(small[small != 0], (0.5, 99.5)) if small.any() else (0.0, 1.0)
    spacing = grid.voxel_sizes * factors
    origin = grid.voxel_sizes * (factors - 1) / 2
    scan_from_work = grid.affine @ np.diag([*(1 / grid.voxel_sizes), 1.0])
    return _itk_image(np.clip(small, min(low, 0), high), spacing, origin), scan_from_work


def _itk_image(array: NDArray, spacing: NDArray, origin: NDArray) -> sitk.Image:
    """Wrap an array (X, Y, Z), axes along the coordinates."""
    kind = np.uint8 if array.dtype == bool else np.float32
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0).astype(kind)))
    image.SetSpacing([float(v) for v in spacing])
    image.SetOrigin([float(v) for v in origin])
    return image

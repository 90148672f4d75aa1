"""What the numbers of a random view mean, asked of TorchIO: for views that are drawn as HSF draws them.

Whoever compares with HSF then compares with the very package that it deforms crops by. TorchIO is imported when the
first of them is placed, or beforehand by `import_torchio`; views of a sequence, which `transforms` places, never need
it.
"""

from typing import Any

import numpy as np

from bids_hsf.segmentation.transforms import LPS, Matrix, Sample, Shape, Spline, Transforms


def import_torchio() -> None:
    """Import TorchIO now: it takes more than a second, in which another thread can do something else."""
    import torchio  # noqa: F401


def affine(sample: Sample, shape: Shape, voxel_sizes: Matrix) -> Matrix:
    """Ask TorchIO for the matrix (4, 4) of an affine sample."""
    transform = _transform_of(sample).get_affine_transform(_blank_image(shape, voxel_sizes))
    to_mm = LPS * voxel_sizes
    # An affine is known by what it does to the origin and to one step along each axis.
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    steps = [np.array(transform.TransformPoint(tuple(unit))) - origin for unit in np.diag(to_mm)]
    matrix: Matrix = np.eye(4)
    matrix[:3] = np.column_stack([*steps, origin]) / to_mm[:, None]
    return matrix


def spline(sample: Sample, shape: Shape, voxel_sizes: Matrix) -> Spline:
    """Ask TorchIO (so ITK) where the control points of an elastic sample lie and how they move."""
    image = _blank_image(shape, voxel_sizes).as_sitk()
    transform = _transform_of(sample).get_bspline_transform(image)
    fixed = np.array(transform.GetFixedParameters())
    size, origin, spacing, direction = fixed[:3].astype(int), fixed[3:6], fixed[6:9], fixed[9:18]
    to_mm = LPS * voxel_sizes
    coefficients = np.array(transform.GetParameters()).reshape(3, *size[::-1]).transpose(0, 3, 2, 1)
    return Spline(
        coefficients / to_mm[:, None, None, None],
        origin / to_mm,
        spacing * direction.reshape(3, 3).diagonal() / to_mm,
    )


def _transform_of(sample: Sample) -> Any:
    """Build the `torchio.Affine` or `torchio.ElasticDeformation` that follows the flip."""
    import torchio

    if sample.control_points is None:
        return torchio.Affine(scales=sample.scales, degrees=sample.degrees, translation=sample.translation_mm)
    furthest = tuple(float(value) for value in np.abs(sample.control_points).max(axis=(0, 1, 2)))
    return torchio.ElasticDeformation(control_points=sample.control_points, max_displacement=furthest)


def _blank_image(shape: Shape, voxel_sizes: Matrix) -> Any:
    """Build a `torchio.ScalarImage` of zeros on a grid along the scanner's axes."""
    import torchio

    return torchio.ScalarImage(tensor=np.zeros((1, *shape), np.float32), affine=np.diag([*voxel_sizes, 1.0]))


TORCHIO = Transforms(affine, spline)

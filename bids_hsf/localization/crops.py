"""One crop a hemisphere: its box on the scan's voxels, or a grid along the head's own axes."""

import numpy as np

from bids_hsf.geometry import CropBox, Grid, box_around
from bids_hsf.localization.location import Location, head_axes, hippocampus_points

DEFAULT_MARGIN_MM = 4.0


def default_margin_mm(location: Location) -> float:
    """Give a small head a smaller margin: how far a hippocampus strays from its place goes with the head's size."""
    size = float(np.cbrt(abs(np.linalg.det(location.scan_from_template[:3, :3]))))
    return DEFAULT_MARGIN_MM * min(1.0, size)


def native_box(location: Location, grid: Grid, hemisphere: str, margin_mm: float | None = None) -> CropBox:
    """Box of the scan's own voxels around one hippocampus, cut to the field of view.

    The outer faces of its voxels, not their centres, lie `margin_mm` (None for `default_margin_mm`) beyond the
    hippocampus or a little more.
    """
    if margin_mm is None:
        margin_mm = default_margin_mm(location)
    indices = grid.to_voxels(hippocampus_points(location, hemisphere))
    return box_around(indices, margin_mm / grid.voxel_sizes - 0.5, grid.shape, hemisphere)


def crop_grid(
    location: Location,
    grid: Grid,
    hemisphere: str,
    voxel_size_mm: float | None,
    margin_mm: float | None = None,
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
    margin_mm : float or None
        Beyond the hippocampus, on each side; None for `default_margin_mm`.
    """
    if margin_mm is None:
        margin_mm = default_margin_mm(location)
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
    # Processors differ in the last digits of the registration's sums, and equal runs are to give equal bytes.
    return Grid((x, y, z), np.round(affine, 6))

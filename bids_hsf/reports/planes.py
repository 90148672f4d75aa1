"""Where to cut a scan for a picture: planes along and across the hippocampi, or through the whole head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.geometry import Grid
from bids_hsf.labels import HEMISPHERES, RIGHT_OFFSET, SIDE_NAMES
from bids_hsf.quantiles import percentiles

FloatArray = NDArray[np.floating]

Vector = NDArray[np.float64]

N_CORONAL = 8
N_CLOSE = 6  # enlarged, of each hippocampus
CLOSE_MARGIN_MM = 4.5
MARGIN_MM = 9.0


@dataclass(frozen=True, eq=False)
class Plane:
    """A rectangle in space that is drawn as one panel.

    Attributes
    ----------
    center : array, (3,) float64
        RAS+ mm.
    across, up : array, (3,) float64
        Unit vectors of the panel's two directions, to the right and to the top of the picture.
    width_mm, height_mm : float
    caption : str
    ends : tuple of str
        Letters at the left and right edge.
    """

    center: Vector
    across: Vector
    up: Vector
    width_mm: float
    height_mm: float
    caption: str
    ends: tuple[str, str]

    def grid(self, rows: int, columns: int) -> Grid:
        """Grid of (rows, columns, 1) pixels that tile the rectangle, top row first."""
        down = -self.up * self.height_mm / rows
        right = self.across * self.width_mm / columns
        affine = np.eye(4)
        # Next to no thickness: a panel shows a cut, not an average over a slab.
        affine[:3, :3] = np.column_stack([down, right, 0.01 * np.cross(self.across, self.up)])
        affine[:3, 3] = self.center - down * (rows - 1) / 2 - right * (columns - 1) / 2
        return Grid((rows, columns, 1), affine)

    def tiles(self, size_mm: float) -> Grid:
        """Grid of pixels of about `size_mm`."""
        return self.grid(max(round(self.height_mm / size_mm), 2), max(round(self.width_mm / size_mm), 2))

    def project(self, points: Vector) -> Vector:
        """Carry points (N, 3) in mm to mm from the panel's top left corner, (N, 2)."""
        offsets = points - self.center
        return np.column_stack(
            [offsets @ self.across + self.width_mm / 2, self.height_mm / 2 - offsets @ self.up],
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """Orthogonal directions along which a scan is cut.

    Attributes
    ----------
    axes : array, (3, 3) float64
        Columns: unit vectors to the head's right, front and top, in mm.
    long_axes : mapping of str to array, (3,) float64
        Hemisphere to the direction from tail to head of its hippocampus.
    points : mapping of str to array, (N, 3) float64
        Hemisphere to its labelled voxels in mm; those without any are missing.
    follows_hippocampus : bool
        False where the axes are those of the voxel grid.
    """

    axes: Vector
    long_axes: Mapping[str, Vector]
    points: Mapping[str, Vector]
    follows_hippocampus: bool

    def extent(self, sides: Sequence[str] = HEMISPHERES) -> tuple[Vector, Vector]:
        """Lowest and highest coordinate along the axes of the labelled voxels, (3,) each."""
        coordinates = np.concatenate([self.points[side] for side in sides]) @ self.axes
        return coordinates.min(axis=0), coordinates.max(axis=0)


def labelled_voxels(label_map: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
    """Hemisphere to the indices (N, 3) of the labelled voxels of a bilateral map; those without any are missing."""
    labelled = np.flatnonzero(label_map != 0)  # a map is mostly empty, and large
    found, indices = np.column_stack(np.unravel_index(labelled, label_map.shape)), label_map.ravel()[labelled]
    sides = {side: found[(indices > RIGHT_OFFSET) == (side == "R")] for side in HEMISPHERES}
    return {side: voxels for side, voxels in sides.items() if len(voxels)}


def mosaic(
    labelled: Mapping[str, NDArray[np.int64]], grid: Grid, close: bool = False
) -> tuple[list[list[Plane]], Frame]:
    """Rows of panels around `labelled_voxels`, and the frame that they are cut along.

    With `close`, each hippocampus is cut across once more, enlarged, and both together in one row instead of two:
    subfields are as thin as a few pixels where both sides are in one panel.
    """
    frame = _frame({side: grid.to_mm(found) for side, found in labelled.items()}, grid)
    views = [_sagittal(frame, side) for side in frame.points]
    views.insert(1, _axial(frame))
    tallest = max(plane.height_mm for plane in views)
    widest = max(plane.width_mm for plane in views if plane.ends == ("P", "A"))
    top = [replace(p, height_mm=tallest, width_mm=widest if p.ends == ("P", "A") else p.width_mm) for p in views]
    slices = _coronals(frame, grid)
    if close and labelled:
        return [top, slices[:: 2 if len(slices) > 4 else 1], *_close_ups(frame, grid)], frame
    half = -(-len(slices) // 2) if len(slices) > 4 else len(slices)
    return [row for row in (top, slices[:half], slices[half:]) if row], frame


def _frame(points: Mapping[str, Vector], grid: Grid) -> Frame:
    """Directions to cut along: the hippocampi's where voxels are near to cubes, else the voxel grid's.

    Thick slices look their best in the plane in which they were acquired. The grid is also the
    fallback where the labels are no pair of elongated bodies with a plausible pose.
    """
    u, _, vt = np.linalg.svd(grid.affine[:3, :3])
    axes = u @ vt
    if not points:
        middle = grid.to_mm(np.array([[(n - 1) / 2 for n in grid.shape]]))
        cube = np.array(np.meshgrid(*[(-20.0, 20.0)] * 3)).reshape(3, -1).T
        return Frame(axes, {"L": axes[:, 1]}, {"L": middle + cube}, False)
    long_axes = {side: _long_axis(cloud, axes) for side, cloud in points.items()}
    own = _hippocampal_axes(points, long_axes, axes)
    cubic = grid.voxel_sizes.max() / grid.voxel_sizes.min() < 1.5
    if own is not None and cubic:
        return Frame(own, long_axes, points, True)
    return Frame(axes, long_axes, points, False)


def _long_axis(cloud: Vector, axes: Vector) -> Vector:
    """Direction of the largest spread of a cloud (N, 3), pointing forward; the front axis where implausible."""
    front = axes[:, 1]
    if len(cloud) < 50:
        return np.asarray(front)
    direction = np.linalg.eigh(np.cov(cloud.T))[1][:, -1]
    direction = direction * np.sign(direction @ front)
    # A hippocampus dips 20-40 degrees; heads nod 30 more.
    return np.asarray(direction if direction @ front > np.cos(np.deg2rad(70)) else front)


def _hippocampal_axes(points: Mapping[str, Vector], long_axes: Mapping[str, Vector], axes: Vector) -> Vector | None:
    """Axes with the first from the left to the right hippocampus, the second along both; None if implausible."""
    if len(points) < 2 or min(len(cloud) for cloud in points.values()) < 50:
        return None
    right = points["R"].mean(axis=0) - points["L"].mean(axis=0)
    right = right / max(float(np.linalg.norm(right)), 1e-6)
    if right @ axes[:, 0] < np.cos(np.deg2rad(50)):
        return None
    front = long_axes["L"] + long_axes["R"]
    front = _unit(front - (front @ right) * right)
    return np.column_stack([right, front, np.cross(right, front)])


def _sagittal(frame: Frame, side: str) -> Plane:
    """Cut one hippocampus along its own long axis, seen from the right."""
    up = frame.axes[:, 2]
    along = frame.long_axes[side]
    along = _unit(along - (along @ up) * up)
    cloud = frame.points[side]
    off = np.cross(along, up)
    center = _middle(cloud @ along) * along + _middle(cloud @ up) * up + (cloud @ off).mean() * off
    width, height = np.ptp(cloud @ along) + 2 * MARGIN_MM, np.ptp(cloud @ up) + 2 * MARGIN_MM
    caption = f"Sagittal, {SIDE_NAMES[side]} hippocampus"
    return Plane(center, along, up, max(width, 50.0), max(height, 44.0), caption, ("P", "A"))


def _axial(frame: Frame) -> Plane:
    """Cut through both hippocampi along their mean long axis, seen from above with the front on top."""
    right = frame.axes[:, 0]
    up = _unit(np.sum([_unit(axis - (axis @ right) * right) for axis in frame.long_axes.values()], axis=0))
    cloud = np.concatenate(list(frame.points.values()))
    off = np.cross(right, up)
    center = _middle(cloud @ right) * right + _middle(cloud @ up) * up + (cloud @ off).mean() * off
    width, height = np.ptp(cloud @ right) + 2 * MARGIN_MM, np.ptp(cloud @ up) + 2 * MARGIN_MM
    return Plane(center, right, up, max(width, 60.0), max(height, 50.0), "Axial", ("L", "R"))


def _coronals(frame: Frame, grid: Grid) -> list[Plane]:
    """Cut across, evenly from head to tail; through voxel centres where the cut follows the grid."""
    low, high = frame.extent(tuple(frame.points))
    inset = 0.05 * (high[1] - low[1])
    positions = _in_slices(np.linspace(high[1] - inset, low[1] + inset, N_CORONAL), frame, grid)
    size = np.maximum(high - low + 2 * MARGIN_MM, [60.0, 0.0, 44.0])
    right, front, up = frame.axes.T
    planes: list[Plane] = []
    for position in positions:
        center = (low[0] + high[0]) / 2 * right + position * front + (low[2] + high[2]) / 2 * up
        depth = f"{high[1] - position:.0f} mm"
        caption = depth if planes else f"Coronal, {depth} behind the front end"
        planes.append(Plane(center, right, up, float(size[0]), float(size[2]), caption, ("L", "R")))
    return planes


def _in_slices(positions: Vector, frame: Frame, grid: Grid) -> Vector:
    """Move positions along the front axis to the nearest slices, each once, where the cut follows the grid."""
    if frame.follows_hippocampus:
        return positions
    first = grid.affine[:3, 3] @ frame.axes[:, 1]
    step = grid.voxel_sizes[1]
    return np.asarray(np.unique(np.round((positions - first) / step))[::-1] * step + first)


def _close_ups(frame: Frame, grid: Grid) -> list[list[Plane]]:
    """Cut each hippocampus across from head to tail, its own cross-section in the middle; a row a side, one scale."""
    reach = max(1.0, float(grid.voxel_sizes.max()))
    rows: list[list[Plane]] = []
    for side, points in frame.points.items():
        found = points @ frame.axes
        low, high = found[:, 1].min(), found[:, 1].max()
        inset = 0.08 * (high - low)
        row: list[Plane] = []
        for position in _in_slices(np.linspace(high - inset, low + inset, N_CLOSE), frame, grid):
            section = found[np.abs(found[:, 1] - position) <= reach]
            section = section if len(section) else found
            width, _, height = np.ptp(section, axis=0) + 2 * CLOSE_MARGIN_MM
            middle = frame.axes @ [_middle(section[:, 0]), position, _middle(section[:, 2])]
            depth = f"{high - position:.0f} mm"
            caption = depth if row else f"{SIDE_NAMES[side].capitalize()}, {depth}"
            row.append(Plane(middle, frame.axes[:, 0], frame.axes[:, 2], width, height, caption, ("L", "R")))
        rows.append(row)
    widest = max(plane.width_mm for row in rows for plane in row)
    tallest = max(plane.height_mm for row in rows for plane in row)
    return [[replace(plane, width_mm=widest, height_mm=tallest) for plane in row] for row in rows]


def head_planes(image: FloatArray, grid: Grid, boxes: Mapping[str, Grid]) -> list[Plane]:
    """Sagittal cuts through each box, a coronal and an axial one through both, over the whole head."""
    centers = {side: box.to_mm((np.array([box.shape]) - 1) / 2)[0] for side, box in boxes.items()}
    both = np.mean(list(centers.values()), axis=0) if centers else grid.to_mm((np.array([grid.shape]) - 1) / 2)[0]
    u, _, vt = np.linalg.svd(grid.affine[:3, :3])
    right, front, up = (u @ vt).T
    low, high = _head_extent(image, grid, np.column_stack([right, front, up]), boxes)
    middle, size = (low + high) / 2, high - low

    def plane(through: Vector, axes: tuple[int, int], caption: str, ends: tuple[str, str]) -> Plane:
        directions = (right, front, up)
        off = directions[3 - sum(axes)]
        across, top = directions[axes[0]], directions[axes[1]]
        center = middle[axes[0]] * across + middle[axes[1]] * top + (through @ off) * off
        return Plane(center, across, top, float(size[axes[0]]), float(size[axes[1]]), caption, ends)

    sides = [plane(at, (1, 2), f"Sagittal, {SIDE_NAMES[side]} box", ("P", "A")) for side, at in centers.items()]
    return [
        *sides[:1],
        plane(both, (0, 2), "Coronal", ("L", "R")),
        plane(both, (0, 1), "Axial", ("L", "R")),
        *sides[1:],
    ]


def _head_extent(image: FloatArray, grid: Grid, axes: Vector, boxes: Mapping[str, Grid]) -> tuple[Vector, Vector]:
    """Extent along `axes` of the boxes and of all in the field of view that is not air, with a little room."""
    coarse, steps = thin_out(image)
    low, high = percentile_window(coarse)
    tissue = ndimage.binary_opening(coarse > low + 0.12 * (high - low))
    found = np.argwhere(tissue if tissue.any() else np.ones(coarse.shape)) * steps
    ends = np.array([found.min(axis=0), found.max(axis=0)]) + np.outer([-8, 8], 1 / grid.voxel_sizes)
    ends = np.clip(ends, -0.5, np.array(grid.shape) - 0.5)
    corners = [grid.to_mm(np.array(np.meshgrid(*ends.T)).reshape(3, -1).T)]
    corners += [box.corners() for box in boxes.values()]
    coordinates = np.concatenate(corners) @ axes
    return coordinates.min(axis=0), coordinates.max(axis=0)


def thin_out(image: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """At most 96 voxels an axis, and the step between them (3,)."""
    steps = np.array([-(-n // 96) for n in image.shape])
    return image[tuple(slice(None, None, step) for step in steps)], steps


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))


def _middle(coordinates: Vector) -> float:
    return float((coordinates.min() + coordinates.max()) / 2)


def describe_cut(frame: Frame) -> str:
    """Say along which directions a picture is cut."""
    return "cut along the hippocampi's long axis" if frame.follows_hippocampus else "cut along the scan's own axes"


def percentile_window(values: FloatArray) -> tuple[float, float]:
    """Intensities that become black and white: robust against a few bright voxels."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = percentiles(finite, [1, 99.3])
    return low, high if high > low else low + 1


def cross_section(box: Grid, plane: Plane) -> Vector | None:
    """Cut a box; returns its closed outline (N, 2) in mm on a plane, or None where the plane misses it."""
    corners = box.corners()
    heights = (corners - plane.center) @ np.cross(plane.across, plane.up)
    crossings = []
    for a in range(8):
        for b in (a ^ 1, a ^ 2, a ^ 4):
            if a < b and (heights[a] > 0) != (heights[b] > 0):
                part = heights[a] / (heights[a] - heights[b])
                crossings.append(corners[a] + part * (corners[b] - corners[a]))
    if len(crossings) < 3:
        return None
    polygon = plane.project(np.array(crossings))
    angles = np.arctan2(*(polygon - polygon.mean(axis=0)).T[::-1])
    polygon = polygon[np.argsort(angles)]
    return np.vstack([polygon, polygon[:1]])

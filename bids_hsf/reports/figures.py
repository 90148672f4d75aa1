"""Pictures for the reports: arrays on a grid in, the text of an SVG file out.

A picture is drawn once, at the participant level, and never needs the scan again. Its raster parts are
JPEG and PNG inside the SVG; contours, marks and scale bars are vectors. In an ``<img>``, the address
fragment ``#plain`` hides the contours, so that one file serves both halves of a with-and-without
comparison, and ``#entropy`` shows the entropy in their place. All orientations are neurological: the
left of the head is on the left of the picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.geometry import Grid, box_around, resample
from bids_hsf.labels import RIGHT_OFFSET, SIDE_NAMES, Label
from bids_hsf.reports.canvas import HIDDEN, INK, Canvas, Place, grey_jpeg, heat_png, lay_out
from bids_hsf.reports.planes import (
    MARGIN_MM,
    FloatArray,
    Frame,
    Plane,
    Vector,
    cross_section,
    describe_cut,
    head_planes,
    labelled_voxels,
    mosaic,
    percentile_window,
    thin_out,
)
from bids_hsf.reports.splines import SplinedPart

BOX_COLORS = {"L": "#5cc8ff", "R": "#ffa24c"}

BRAIN_COLOR = "#d9e86a"

VOXEL_PIXELS = 2  # along a voxel: more show nothing more, and pixels are what a picture costs
RIM = {"stroke": INK, "stroke-opacity": "0.75", "stroke-width": "0.9"}  # of all structures, over the entropy
SPARE_PIXELS = 4  # around a hemisphere's masks, for the Gaussian that rounds off corners
FINE_LABELS = 4  # from so many a side on, they are too thin to be told apart where both sides are in one panel


@dataclass(frozen=True, eq=False)
class Mosaic:
    """A scan cut along and across its labelled hippocampi: what several pictures share.

    Attributes
    ----------
    panels : tuple of (Plane, Place)
        Each hippocampus along its long axis, both from above, and coronal slices from head to tail.
    coronals : tuple of Plane
    greys : tuple of str
        The scan in each panel, as data addresses.
    structures : tuple of tuple of Cut
        That each panel meets, one hemisphere each.
    note : str
        How the scan is cut.
    """

    panels: tuple[tuple[Plane, Place], ...]
    coronals: tuple[Plane, ...]
    greys: tuple[str, ...]
    structures: tuple[tuple["Cut", ...], ...]
    note: str

    def __iter__(self) -> Iterator[tuple[Plane, Place, str, tuple["Cut", ...]]]:
        """Yield each panel's plane, place and grey values, and the structures that it meets."""
        for (plane, place), grey, met in zip(self.panels, self.greys, self.structures, strict=True):
            yield plane, place, grey, met


def cut_mosaic(image: FloatArray, label_map: NDArray[np.uint8], grid: Grid, pool: Executor | None = None) -> Mosaic:
    """Cut a scan around the structures of a bilateral label map.

    Parameters
    ----------
    image : array, (X, Y, Z) floating
        Scan in canonical (RAS+) axis order, any intensities.
    label_map : array, (X, Y, Z) uint8
        Left k, right 100 + k, on the same grid.
    grid : Grid
        Of both; its axes may be oblique.
    pool : Executor, optional
        Its threads share the work.
    """
    labelled = labelled_voxels(label_map)
    n_labels = max((len(np.unique(label_map[tuple(found.T)])) for found in labelled.values()), default=0)
    rows, frame = mosaic(labelled, grid, close=n_labels >= FINE_LABELS)
    window = _zoom_window(image, frame, grid)
    panels = lay_out(rows)
    tiles = [plane.tiles(_pixel_mm(place, grid)) for plane, place in panels]
    part = SplinedPart.around(image, grid, tiles)
    spread = pool.map if pool else map
    greys = spread(lambda cut: grey_jpeg(part.cut(cut, window[0])[..., 0], window), tiles)
    coronals = tuple(plane for row in rows[1:3] for plane in row)  # what follows lies where these do
    structures = tuple(_structures(label_map, found, grid) for found in labelled.values())
    met = spread(lambda panel: tuple(filter(None, (each.cut(panel[0]) for each in structures))), panels)
    return Mosaic(tuple(panels), coronals, tuple(greys), tuple(met), describe_cut(frame))


def draw_segmentation(
    cut: Mosaic, labels: Sequence[Label], entropy: FloatArray | None = None, grid: Grid | None = None
) -> str:
    """Draw the outlines of the structures on the scan, and beneath them, hidden, its entropy.

    Parameters
    ----------
    cut : Mosaic
    labels : sequence of Label
        The card's, or those of the merge.
    entropy : array, (X, Y, Z) floating, optional
        0-1; nothing of it is drawn where it is not given.
    grid : Grid, optional
        Of `entropy`.

    Returns
    -------
    str
        An SVG document.
    """
    colors = {label.index: label.color for label in labels}
    canvas = Canvas("Outlines of the segmented structures on the scan", [place for _, place in cut.panels])
    for plane, place, grey, met in cut:
        canvas.add_raster(place, grey)
        if entropy is not None and grid is not None:
            values = resample(entropy, grid, plane.tiles(0.5), order=1)[..., 0]
            canvas.add_raster(place, heat_png(values), HIDDEN)
            for _, lines in _outlines([each.joined() for each in met]):
                canvas.add_lines(place, lines, RIM | HIDDEN)
        for index, lines in _outlines(met):
            color = colors.get(index % RIGHT_OFFSET, INK)
            canvas.add_lines(place, lines, {"stroke": color, "data-index": str(index)})
        canvas.add_marks(place, plane, cut.coronals)
    if entropy is not None:
        canvas.add_color_bar("entropy: 0 certain, 1 all classes equally likely")
    canvas.add_legend([(label.abbreviation, label.color) for label in labels], cut.note)
    return canvas.text()


def draw_localization(
    image: FloatArray, grid: Grid, brain: FloatArray, brain_grid: Grid, boxes: Mapping[str, Grid]
) -> str:
    """Draw the template's brain and the boxes of both hippocampi on the whole scan.

    Parameters
    ----------
    image : array, (X, Y, Z) floating
        Scan in canonical (RAS+) axis order.
    grid : Grid
        Of `image`.
    brain : array, (I, J, K) floating or bool
        Share of the voxel that lies in the template's brain.
    brain_grid : Grid
        Of `brain` in the scan's millimetres: the template's shape, and
        ``scan_from_template @ template_affine``.
    boxes : mapping of str to Grid
        Hemisphere "L", "R" to the grid of its crop; its axes may be oblique.
    """
    window = percentile_window(thin_out(image)[0])
    panels = lay_out([head_planes(image, grid, boxes)])
    places = [place for _, place in panels]
    canvas = Canvas("Outline of the template's brain and the boxes of both hippocampi on the scan", places)
    for plane, place in panels:
        values = resample(image, grid, plane.tiles(_pixel_mm(place, grid)), fill=window[0])[..., 0]
        canvas.add_raster(place, grey_jpeg(values, window))
        shares = resample(np.asarray(brain, np.float32), brain_grid, plane.tiles(1.0))[..., 0]
        lines = _level_lines(shares, 0.5, _pixel_sizes(plane, shares.shape))
        canvas.add_lines(place, lines, {"stroke": BRAIN_COLOR, "data-outline": "brain"})
        for side, box in boxes.items():
            outline = cross_section(box, plane)
            if outline is not None:
                attributes = {"stroke": BOX_COLORS[side], "stroke-width": "2", "data-box": side}
                canvas.add_lines(place, [outline], attributes)
        canvas.add_marks(place, plane)
    legend = [("brain of the template", BRAIN_COLOR)]
    legend += [(f"{SIDE_NAMES[side]} box", BOX_COLORS[side]) for side in boxes]
    canvas.add_legend(legend, "cut along the scan's axes, through the boxes")
    return canvas.text()


@dataclass(frozen=True, eq=False)
class Structures:
    """The label map of one hemisphere, cut out.

    Attributes
    ----------
    indices : tuple of int
        Bilateral indices that occur.
    masks : array, (K, X, Y, Z) float32
        One for each index.
    grid : Grid
        Of the masks.
    """

    indices: tuple[int, ...]
    masks: NDArray[np.float32]
    grid: Grid

    def cut(self, plane: Plane) -> "Cut | None":
        """Interpolate the masks on the pixels of a plane around them; None where it does not meet them."""
        outline, voxel_mm = cross_section(self.grid, plane), float(self.grid.voxel_sizes.min())
        if outline is None:
            return None
        tiles = plane.tiles(_spacing(voxel_mm))
        pixel_mm = _pixel_sizes(plane, tiles.shape)
        ends = np.floor(outline.min(axis=0) / pixel_mm), np.ceil(outline.max(axis=0) / pixel_mm)
        reach = ends[0] - SPARE_PIXELS, ends[1] + SPARE_PIXELS
        low, high = (np.clip(each[::-1], 0, tiles.shape[:2]).astype(int) for each in reach)
        if (high - low < 2).any():  # of which there is no outline
            return None
        part = tiles.subgrid((*low.tolist(), 0), (*high.tolist(), 1))
        shares = resample(self.masks, self.grid, part)[..., 0]
        return Cut(self.indices, shares, voxel_mm, low[::-1] * pixel_mm, pixel_mm)


@dataclass(frozen=True, eq=False)
class Cut:
    """The structures of one hemisphere in a plane.

    Attributes
    ----------
    indices : tuple of int
        Bilateral indices.
    shares : array, (K, I, J) float32
        Of each, in the pixels around them.
    voxel_mm : float
        Smallest side of a voxel.
    corner_mm : array, (2,) float64
        Where the pixels begin, from the plane's top left corner, to the right and down.
    pixel_mm : array, (2,) float64
        Width and height of a pixel.
    """

    indices: tuple[int, ...]
    shares: NDArray[np.float32]
    voxel_mm: float
    corner_mm: Vector
    pixel_mm: Vector

    def joined(self) -> "Cut":
        """All of them as one."""
        return replace(self, indices=self.indices[:1], shares=self.shares.sum(axis=0, keepdims=True))


def _pixel_mm(place: Place, grid: Grid) -> float:
    """Side of a pixel of the scan: a unit of the picture, or larger where voxels are much larger than that."""
    return max(1 / place.scale, float(grid.voxel_sizes.min()) / VOXEL_PIXELS)


def _spacing(voxel_mm: float) -> float:
    """Side of the pixels on which outlines are drawn."""
    return float(np.clip(voxel_mm / 2, 0.25, 0.5))


def _pixel_sizes(plane: Plane, shape: Sequence[int]) -> Vector:
    """Width and height (2,) in mm of the pixels of a plane's tiles, of (rows, columns)."""
    return np.array([plane.width_mm / shape[1], plane.height_mm / shape[0]])


def _structures(label_map: NDArray[np.uint8], found: NDArray[np.int64], grid: Grid) -> Structures:
    """Cut out the labelled voxels (N, 3) of one hemisphere, with two voxels of background around."""
    box = box_around(found, np.full(3, 2), label_map.shape, "")
    part = label_map[box.slices]
    indices = np.unique(label_map[tuple(found.T)])
    masks = np.stack([part == index for index in indices]).astype(np.float32)
    return Structures(tuple(indices.tolist()), masks, grid.subgrid(box.start, box.stop))


def _outlines(cuts: Sequence[Cut]) -> Iterator[tuple[int, list[Vector]]]:
    """Outlines in a plane of every label that it cuts, as lines (N, 2) in mm from the top left corner.

    The masks are interpolated linearly, and an outline runs where its label stops being the largest
    of all, so that neighbours share a line and sheets of one voxel survive. Corners of voxels are
    rounded off by a Gaussian of half a voxel; no line strays from its voxels by more than that.
    """
    for cut in cuts:
        sigma = 0.5 * cut.voxel_mm / _spacing(cut.voxel_mm)
        stack = np.concatenate([1 - cut.shares.sum(axis=0, keepdims=True), cut.shares])
        best, second = _two_largest(stack)
        for index, share in zip(cut.indices, cut.shares, strict=True):
            lead = ndimage.gaussian_filter(share - np.where(share >= best, second, best), sigma)
            yield index, _level_lines(lead, 0.0, cut.pixel_mm, cut.corner_mm)


def _two_largest(stack: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Largest and second largest of a stack (K, I, J), K >= 2, in each pixel; sorting takes three times as long."""
    best, second = np.maximum(stack[0], stack[1]), np.minimum(stack[0], stack[1])
    for share in stack[2:]:
        second = np.maximum(second, np.minimum(best, share))
        best = np.maximum(best, share)
    return best, second


def _level_lines(values: FloatArray, level: float, pixel_mm: Vector, corner_mm: Vector | float = 0.0) -> list[Vector]:
    """Lines where pixels (rows, columns) cross a level, (N, 2) in mm from the top left corner of their plane."""
    if values.max() <= level:
        return []
    lines = contourpy.contour_generator(z=values, line_type="Separate").lines(level)
    return [(np.asarray(line) + 0.5) * pixel_mm + corner_mm for line in lines]


def _zoom_window(image: FloatArray, frame: Frame, grid: Grid) -> tuple[float, float]:
    """Grey window from the surroundings of the labelled voxels."""
    voxels = grid.to_voxels(np.concatenate(list(frame.points.values())))
    margin = MARGIN_MM / grid.voxel_sizes
    start = np.clip(np.floor(voxels.min(axis=0) - margin), 0, np.array(grid.shape) - 1).astype(int)
    stop = np.maximum(np.ceil(voxels.max(axis=0) + margin).astype(int), start + 1)
    return percentile_window(image[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))])

"""The sheet of grey matter of both hippocampi, laid flat: a picture for the reports."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_hsf.labels import HEMISPHERES, RIGHT_OFFSET, SIDE_NAMES, Label
from bids_hsf.reports.canvas import GAP, WIDTH, Canvas, Place, heat_png, label_png
from bids_hsf.reports.planes import FloatArray, labelled_voxels

SHEET_MM = (40.0, 20.0)  # a middling length and width, as HippUnfold draws it
CELL_MM = 0.25
REACH_MM = 1.25  # from a cell to the nearest voxel: what is farther off is left empty
N_NEAREST = 8  # a cell has the mean entropy of so many: voxels lie upon each other, at all depths of the sheet
ROWS = ("subfields", "entropy")


def draw_unfolded(label_map: NDArray[np.uint8], maps: Mapping[str, FloatArray], labels: Sequence[Label]) -> str:
    """Draw labels, and entropy below, at the unfolded coordinates of their voxels.

    Parameters
    ----------
    label_map : array, (X, Y, Z) uint8
        Left k, right 100 + k.
    maps : mapping of str to array, (X, Y, Z) floating
        "AP" and "PD", 0 where there are none, and "entropy".
    labels : sequence of Label
        The card's, or those of the merge.

    Returns
    -------
    str
        An SVG document.
    """
    scale = (WIDTH - 3 * GAP) / 2 / SHEET_MM[0]
    size = scale * SHEET_MM[0], scale * SHEET_MM[1]
    places = {
        (side, name): Place(GAP + column * (size[0] + GAP), GAP + row * (size[1] + GAP), *size, scale)
        for row, name in enumerate(ROWS)
        for column, side in enumerate(HEMISPHERES)
    }
    canvas = Canvas("Subfields and entropy of both hippocampi, unfolded", list(places.values()))
    colors, shown = {label.index: label.color for label in labels}, set()
    labelled = labelled_voxels(label_map)
    for side in HEMISPHERES:
        voxels = labelled.get(side, np.zeros((0, 3), np.int64))
        on_sheet = tuple(voxels[maps["AP"][tuple(voxels.T)] > 0].T)
        indices = label_map[on_sheet] % RIGHT_OFFSET
        shown |= set(indices.tolist())
        nearest = cells(maps["AP"][on_sheet], maps["PD"][on_sheet])
        found = {
            "subfields": label_png(_picked(indices, nearest[..., 0]), colors),
            "entropy": heat_png(_mean(maps["entropy"][on_sheet], nearest)),
        }
        for name in ROWS:
            place = places[side, name]
            canvas.add_raster(place, found[name])
            canvas.add_ends(place, f"{SIDE_NAMES[side]}, {name}", ("front", "tail"))
    note = "each hippocampus from subiculum (below) to CA4 (above)"
    canvas.add_legend([(label.abbreviation, label.color) for label in labels if label.index in shown], note)
    return canvas.text()


def cells(ap: FloatArray, pd: FloatArray) -> NDArray[np.intp]:
    """Tell which voxels are the nearest to each cell of the sheet.

    Parameters
    ----------
    ap, pd : array, (N,) floating
        Coordinates of voxels, 0-1.

    Returns
    -------
    array, (rows, columns, N_NEAREST) intp
        From the front to the tail, and from CA4 down to where subiculum begins; the nearest first, N where there is
        none within reach.
    """
    from scipy.spatial import cKDTree  # a tenth of a second, which nobody else needs

    columns, rows = (np.arange(CELL_MM / 2, length, CELL_MM) for length in SHEET_MM)
    at = np.stack(np.meshgrid(columns, rows[::-1]), axis=-1)
    if not len(ap):
        return np.zeros((*at.shape[:2], N_NEAREST), np.intp)
    points = np.stack([ap * SHEET_MM[0], pd * SHEET_MM[1]], axis=1)
    return np.asarray(cKDTree(points).query(at, N_NEAREST, distance_upper_bound=REACH_MM)[1])


def _picked(values: NDArray[Any], nearest: NDArray[np.intp]) -> NDArray[Any]:
    """Pick values (N,) of voxels, 0 where there is none."""
    return np.append(values, values.dtype.type(0))[nearest]


def _mean(values: FloatArray, nearest: NDArray[np.intp]) -> FloatArray:
    """Take the mean of values (N,) over the nearest voxels, (rows, columns)."""
    n_voxels = (nearest < len(values)).sum(axis=-1)
    return np.asarray(_picked(values, nearest).sum(axis=-1) / np.maximum(n_voxels, 1), dtype=np.float32)

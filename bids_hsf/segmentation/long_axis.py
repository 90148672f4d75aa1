"""Head, body and tail of any hippocampal label map, from its long axis.

The border between head and body that anatomists draw is the uncal apex. A model that has learnt it has a
label for the anterior hippocampus, and that label is taken as the head. For any other model the apex
cannot be told from the labels, and the hippocampus is cut into thirds of its length. The border between
body and tail (where the fornix leaves) is in no model's labels: the tail is always the last third.

Source of the uncal apex as the border: Poppenk et al., Trends in Cognitive Sciences 2013,
doi:10.1016/j.tics.2013.03.005.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_hsf.geometry import Grid
from bids_hsf.labels import HEMISPHERES, RIGHT_OFFSET, Label

HEAD, BODY, TAIL = 1, 2, 3
PARTS = (
    Label(HEAD, "Hippocampal head", "head", "#e8743b"),
    Label(BODY, "Hippocampal body", "body", "#4c9f70"),
    Label(TAIL, "Hippocampal tail", "tail", "#2a7ab8"),
)

UNCAL_APEX = (
    "head: the model's anterior label, which ends at the uncal apex; tail: last third of the length; body: between"
)

THIRDS = "head, body, tail: thirds of the length along the long axis; the model's labels do not tell the uncal apex"
MIN_VOXELS = 10


@dataclass(frozen=True, eq=False)
class LongAxisSplit:
    """Head, body and tail of both hippocampi.

    Attributes
    ----------
    label_map : array, (X, Y, Z) uint8
        1 head, 2 body, 3 tail; right + 100.
    rule : str
        How the borders were found, for the sidecar.
    """

    label_map: NDArray[np.uint8]
    rule: str


def split_long_axis(
    label_map: NDArray[np.uint8], grid: Grid, anterior: NDArray[np.float64], head_indices: Collection[int]
) -> LongAxisSplit:
    """Cut both hippocampi of a bilateral label map into head, body and tail.

    Parameters
    ----------
    label_map : array, (X, Y, Z) uint8
        Left k, right 100 + k.
    grid : Grid
        Of the label map.
    anterior : array, (3,) float64
        Direction of the front of the head, RAS+ mm.
    head_indices : collection of int
        Left indices that end at the uncal apex; empty where the model has none.
    """
    parts = np.zeros_like(label_map)
    for hemisphere in HEMISPHERES:
        offset = RIGHT_OFFSET if hemisphere == "R" else 0
        inside = (label_map > offset) & (label_map < offset + RIGHT_OFFSET)
        if np.count_nonzero(inside) < MIN_VOXELS:
            continue
        third = np.searchsorted([1 / 3, 2 / 3], depth_along_axis(grid.to_mm(np.argwhere(inside)), anterior))
        values = (third + HEAD).astype(np.uint8)
        if head_indices:
            is_head = np.isin(label_map[inside], [index + offset for index in head_indices])
            values = np.where(is_head, HEAD, np.where(values == TAIL, TAIL, BODY)).astype(np.uint8)
        parts[inside] = values + np.uint8(offset)
    return LongAxisSplit(parts, UNCAL_APEX if head_indices else THIRDS)


def depth_along_axis(points: NDArray[np.float64], anterior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place of each point (N, 3) in mm along the long axis: 0 at the front end, 1 at the hind end.

    The axis is the first principal component, turned so that it points to the back.
    """
    centred = points - points.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    backward = directions[0] if directions[0] @ anterior < 0 else -directions[0]
    along = centred @ backward
    return np.asarray((along - along.min()) / np.ptp(along))

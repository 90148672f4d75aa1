"""Hippocampi as a segmentation gives them: the template's own, in an image of grey, white and fluid around them."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from bids_hsf.geometry import Grid
from bids_hsf.labels import Label
from bids_hsf.localization.location import Location
from bids_hsf.localization.template import load_template
from bids_hsf.segmentation.decision import Segmentation
from bids_hsf.segmentation.hippocampi import Hippocampi, Hippocampus, join_sides
from bids_hsf.segmentation.model import Options

TEMPLATE = load_template()
ALL = np.concatenate([TEMPLATE.hippocampi[side] for side in "LR"])
START, STOP = np.round(ALL.min(axis=0)).astype(int) - 16, np.round(ALL.max(axis=0)).astype(int) + 17
GRID = Grid(
    tuple((STOP - START).tolist()),
    np.array([[1.0, 0, 0, START[0]], [0, 1, 0, START[1]], [0, 0, 1, START[2]], [0, 0, 0, 1]]),
)
HERE = Location(np.eye(4), 0.9, {"L": 1.0, "R": 1.0}, 1.5e6)
LABELS = (Label(1, "Front", "front", "#ff0000"), Label(2, "Back", "back", "#00ff00"))
Change = Callable[[np.ndarray], np.ndarray]


def body(side: str) -> np.ndarray:
    """Mask (X, Y, Z) of the template's hippocampus."""
    inside = np.zeros(GRID.shape, bool)
    inside[tuple(np.round(GRID.to_voxels(TEMPLATE.hippocampi[side])).astype(int).T)] = True
    return inside


def image() -> np.ndarray:
    """T1w: grey hippocampi among blobs of grey, white and fluid, some noise; edges are a voxel wide."""
    rng = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(rng.normal(0, 1, GRID.shape), 3)
    dark, bright = np.percentile(blobs, [15, 50])
    data = np.where(blobs < dark, 30.0, np.where(blobs < bright, 70.0, 100.0))
    for side in "LR":
        data[body(side)] = 70.0
    data = ndimage.gaussian_filter(data, 0.5)
    return (data + rng.normal(0, 2.5, GRID.shape)).astype(np.float32)


def hippocampi(changed: dict[str, Change] | None = None, sureness: float = 0.96, unsure: float = 0.02) -> Hippocampi:
    """Both, changed where a test wants it; front and back are halves of the image."""
    sides = []
    for side in "LR":
        inside = (changed or {}).get(side, lambda mask: mask)(body(side))
        labels = np.where(np.indices(GRID.shape)[1] > GRID.shape[1] // 2, 1, 2).astype(np.uint8) * inside
        entropy = np.where(ndimage.binary_erosion(inside), unsure, 0.4).astype(np.float32)
        shares = np.stack([1 - sureness * inside, sureness * (labels == 1), sureness * (labels == 2)])
        corners = np.argwhere(body(side))
        starts, stops = corners.min(axis=0) - 10, corners.max(axis=0) + 11
        box = tuple(slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
        segmentation = Segmentation(labels[box], *[entropy[box]] * 4, 1, entropy[box])
        n_components = int(ndimage.label(inside, np.ones((3, 3, 3)))[1])
        passes = np.zeros((1, 3), np.float32)
        sides.append(
            Hippocampus(
                hemisphere=side,
                crop=GRID,
                slices=box,
                segmentation=segmentation,
                probabilities=shares[(slice(None), *box)].astype(np.float32),
                pass_volumes=passes,
                volume_errors=np.full(3, np.nan),
                n_components=n_components,
            )
        )
    return join_sides(sides, GRID, LABELS, Options())

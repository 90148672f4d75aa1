"""The page on which a scan's hippocampi can be turned: the crop around them, labels and entropy, drawn by NiiVue.

It is one file that loads nothing, like the other pages: the viewer is in it, compressed, and the images.
"""

import base64
import gzip
import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.lookup_tables import colored
from bids_hsf.geometry import Grid
from bids_hsf.reports.pages import data_block, render
from bids_hsf.reports.planes import percentile_window
from bids_hsf.segmentation.hippocampi import Hippocampi

VIEWER = Path(__file__).parents[1] / "data" / "viewer" / "niivue.js.gz"
SCRIPTS = ("turning.js",)
REACH_MM = 5.0  # beyond what the networks were shown
MAX_VOXELS = 1_500_000
ENDS = ("start", "stop")


def turning_page(title: str, image: NDArray[np.float32], found: Hippocampi, back: str | None) -> str:
    """Render the page of one scan.

    Parameters
    ----------
    title : str
        Name of the scan.
    image : array, (X, Y, Z) float32
        The scan, on the grid of `found`.
    found : Hippocampi
    back : str or None
        Address of the subject's page.
    """
    part = _part(found)
    low, high = percentile_window(image[part])
    grey = np.clip((image[part] - low) / (high - low), 0, 1)
    grid = _grid(found.grid, part)
    colors = colored(found.labels)
    return render(
        "turning.html.j2",
        scripts=SCRIPTS,
        admitted=(viewer_checksum(),),
        title=title,
        back=back,
        citation=None,
        legend=[(name, "#{:02x}{:02x}{:02x}".format(*color)) for _, name, color in colors],
        viewer=base64.b64encode(VIEWER.read_bytes()).decode(),
        images=data_block(
            {
                "scan": _nifti(255 * grey, grid),
                "labels": _nifti(found.label_map[part], grid, "label"),
                "entropy": _nifti(255 * found.maps["entropy"][part], grid),
                "colors": _color_table(colors),
            }
        ),
    )


@lru_cache(maxsize=1)
def viewer_checksum() -> str:
    """Checksum of the viewer's script, as a content security policy has it."""
    script = gzip.decompress(VIEWER.read_bytes())
    return f"sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}"


def _part(found: Hippocampi) -> tuple[slice, ...]:
    """Box around all that the networks were shown; of a very fine scan every second voxel, or fewer."""
    sizes, shape = found.grid.voxel_sizes, np.array(found.grid.shape)
    spare = np.ceil(REACH_MM / sizes).astype(int)
    starts, stops = (np.array([[getattr(s, end) for s in side.slices] for side in found.sides]) for end in ENDS)
    start = np.maximum(starts.min(axis=0) - spare, 0)
    stop = np.minimum(stops.max(axis=0) + spare, shape)
    steps = np.ones(3, dtype=int)
    while np.ceil((stop - start) / steps).prod() > MAX_VOXELS:
        steps[(sizes * steps).argmin()] += 1
    return tuple(slice(*ends) for ends in zip(start.tolist(), stop.tolist(), steps.tolist(), strict=True))


def _grid(grid: Grid, part: Sequence[slice]) -> Grid:
    """Grid of the voxels that are shown."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_mm(np.array([[each.start for each in part]], dtype=float))[0]
    affine[:3, :3] *= [each.step for each in part]
    shape = tuple(len(range(each.start, each.stop, each.step)) for each in part)
    return Grid((shape[0], shape[1], shape[2]), affine)


def _nifti(values: NDArray[Any], grid: Grid, intent: str = "none") -> str:
    """Encode values as a compressed NIfTI of bytes; of labels the viewer does not interpolate."""
    image = nib.Nifti1Image(np.round(values).astype(np.uint8), grid.affine)
    image.header.set_intent(intent)
    return base64.b64encode(gzip.compress(image.to_bytes(), mtime=0)).decode()


def _color_table(colors: Iterable[tuple[int, str, tuple[int, int, int]]]) -> dict[str, list[Any]]:
    """Colours of all 256 bytes as the viewer takes them; what is no label is clear."""
    named = {index: (name, (*color, 255)) for index, name, color in colors}
    rows = [named.get(index, ("", (0, 0, 0, 0))) for index in range(256)]
    table: dict[str, list[Any]] = {channel: [row[1][place] for row in rows] for place, channel in enumerate("RGBA")}
    return table | {"I": list(range(256)), "labels": [row[0] for row in rows]}

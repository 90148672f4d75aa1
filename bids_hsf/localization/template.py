"""The packaged MNI152 2009c template."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.geometry import Grid, Matrix
from bids_hsf.labels import HEMISPHERES, RIGHT_OFFSET

# Where transforms turn: the middle of the template's brain, mm.
BRAIN_CENTER = np.array([0.0, -18.0, 5.0])

# Of the brain's file, where a voxel lies inside altogether.
WHOLE_VOXEL = 200


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
    """Read the template files of the package, once a process."""
    folder = Path(__file__).parents[1] / "data"
    names = ("template_T1w.nii.gz", "template_brain.nii.gz", "hippocampus_dseg.nii.gz")
    t1w, brain, labels = [nib.load(folder / name) for name in names]
    values = np.asarray(labels.dataobj)
    hippocampi = {
        side: np.asarray(apply_affine(labels.affine, np.argwhere((values > low) & (values < low + RIGHT_OFFSET))))
        for side, low in zip(HEMISPHERES, (0, RIGHT_OFFSET), strict=True)
    }
    return Template(
        Grid(t1w.shape, t1w.affine),
        np.asarray(t1w.dataobj, dtype=np.float32),
        np.asarray(brain.dataobj, dtype=np.float32) / np.float32(WHOLE_VOXEL),
        hippocampi,
    )

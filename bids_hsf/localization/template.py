"""The packaged MNI152 2009c template, and what every registration to it needs, made once a process."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.geometry import Grid, Matrix
from bids_hsf.labels import HEMISPHERES, RIGHT_OFFSET
from bids_hsf.localization.volume import Volume, gradients_at, smooth, values_at, without_shading

# Scalp and the air around it tell how large the head is: without them a brain fits into a skull.
BRAIN_SURROUNDINGS_MM = 12.0
HEAD_SURROUNDINGS_MM = 28.0
AFFINE_SURROUNDINGS_MM = 14.0
SEARCH_SIGMA_MM = 3.0
EDGE_SIGMA_MM = 3.0
EDGE_RADIUS_MM = 25.0
SHIFT_SIGMA_MM = 1.0
SHIFT_RADIUS_MM = 20.0


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


@dataclass(frozen=True, eq=False)
class Sample:
    """Points of the template and something of it there.

    Attributes
    ----------
    points : array, (N, 3) float64
        Template mm.
    values : array, (N,) or (N, 3) floating
    """

    points: Matrix
    values: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Material:
    """What the template gives to every registration.

    Attributes
    ----------
    views : tuple of Sample
        Intensities of head and air, smoothed: as they are, and without shading. The points are the same.
    coarse : Volume
        The template at 4 mm.
    coarse_mask : array, (49, 58, 49) bool
        Where an affine has to fit.
    brain_edges : Sample
        Gradients of the intensity in the whole brain, per mm, every 6 mm.
    neighbourhoods : mapping of str to Sample
        Hemisphere to intensities around its hippocampus.
    edges : mapping of str to Sample
        Hemisphere to gradients of the intensity in the brain around its hippocampus, per mm.
    """

    views: tuple[Sample, ...]
    coarse: Volume
    coarse_mask: NDArray[np.bool_]
    brain_edges: Sample
    neighbourhoods: Mapping[str, Sample]
    edges: Mapping[str, Sample]


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the template files of the package."""
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
        np.asarray(brain.dataobj, dtype=np.float32) / np.float32(200),
        hippocampi,
    )


@lru_cache(maxsize=1)
def load_material() -> Material:
    """Prepare the template for registration."""
    template = load_template()
    volume = Volume(template.t1w, template.grid)
    inside = template.brain > 0.5
    outside_mm = _distance_mm(inside, template.grid)
    chosen = _every(outside_mm <= BRAIN_SURROUNDINGS_MM, 3) | _every(outside_mm <= HEAD_SURROUNDINGS_MM, 6)
    views = [smooth(view, SEARCH_SIGMA_MM) for view in (volume, without_shading(volume))]
    soft, softer = smooth(volume, SHIFT_SIGMA_MM), smooth(volume, EDGE_SIGMA_MM)
    half = (slice(None, None, 2),) * 3
    coarse_values = np.ascontiguousarray(soft.values[half])
    x, y, z = coarse_values.shape
    neighbourhoods, edges = {}, {}
    for side, points in template.hippocampi.items():
        away_mm = _distance_to(points, template.grid)
        near = _points(_every(away_mm <= SHIFT_RADIUS_MM, 2), template.grid)
        neighbourhoods[side] = Sample(near, values_at(soft, near))
        near = _points(_every((away_mm <= EDGE_RADIUS_MM) & inside, 2), template.grid)
        edges[side] = Sample(near, gradients_at(softer, near))
    head, brain = (_points(mask, template.grid) for mask in (chosen, _every(inside, 3)))
    return Material(
        tuple(Sample(head, values_at(view, head)) for view in views),
        Volume(coarse_values, Grid((x, y, z), template.grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))),
        outside_mm[half] <= AFFINE_SURROUNDINGS_MM,
        Sample(brain, gradients_at(softer, brain)),
        neighbourhoods,
        edges,
    )


def _every(mask: NDArray[np.bool_], step: int) -> NDArray[np.bool_]:
    """Keep one in `step` voxels along each axis."""
    kept = np.zeros_like(mask)
    lattice = (slice(None, None, step),) * 3
    kept[lattice] = mask[lattice]
    return kept


def _points(mask: NDArray[np.bool_], grid: Grid) -> Matrix:
    """Centres of the voxels of a mask, in mm."""
    return grid.to_mm(np.argwhere(mask))


def _distance_mm(mask: NDArray[np.bool_], grid: Grid) -> Matrix:
    """Distance of each voxel to the mask."""
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=grid.voxel_sizes))


def _distance_to(points: Matrix, grid: Grid) -> Matrix:
    """Distance of each voxel to the nearest of `points`, to a voxel's accuracy."""
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(np.rint(grid.to_voxels(points)).astype(int).T)] = True
    return _distance_mm(mask, grid)

"""Features of the template that every registration to it needs, made once a process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from threading import Lock

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.geometry import Grid, Matrix, box_around
from bids_hsf.localization.intensities import (
    Intensities,
    gradients_at,
    shape_of,
    smooth,
    values_at,
    without_shading,
)
from bids_hsf.localization.template import load_template


@dataclass(frozen=True)
class FeatureSettings:
    """Where the template is sampled, and how smooth it is there. All are mm; the template's voxels have 2 mm.

    Attributes
    ----------
    soft_sigma : float
        Gaussian of the intensities in which a head is searched for, which has to be seen from afar, and of those whose
        gradients are taken.
    fine_sigma : float
        Gaussian of the intensities in which an affine is refined, and hippocampi look for their own place.
    brain_surroundings, head_surroundings : float
        Around the brain, what is sampled densely and thinly: scalp and the air around it tell how large the head is,
        without them a brain fits into a skull.
    affine_surroundings : float
        Around the brain, where an affine has to fit.
    edge_surroundings : float
        Around the brain, where its size is measured: to the inside of the skull, not to the scalp.
    hippocampus_surroundings, gradient_surroundings : float
        Around a hippocampus, where intensities and gradients are sampled.
    brain_spacing, head_spacing, hippocampus_spacing : int
        Of the sampling points of the brain (and of its gradients), the head and the hippocampi, in template voxels.
    coarse_spacing : int
        Of the voxels that an affine is refined on, in template voxels.
    """

    soft_sigma: float = 3.0
    fine_sigma: float = 1.0
    brain_surroundings: float = 12.0
    head_surroundings: float = 28.0
    affine_surroundings: float = 14.0
    edge_surroundings: float = 5.0
    hippocampus_surroundings: float = 20.0
    gradient_surroundings: float = 25.0
    brain_spacing: int = 3
    head_spacing: int = 6
    hippocampus_spacing: int = 2
    coarse_spacing: int = 2


FEATURES = FeatureSettings()
BORDER = 2  # voxels around what is compared: enough for differences of neighbours
_LOCK = Lock()


@dataclass(frozen=True, eq=False)
class TemplateSamples:
    """Points of the template and something of it there.

    Attributes
    ----------
    points : array, (N, 3) float64
        Template mm.
    values : array, (N,) or (N, 3) floating
        Intensities, or their gradients per mm.
    """

    points: Matrix
    values: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class TemplateFeatures:
    """What the template gives to every registration.

    Attributes
    ----------
    settings : FeatureSettings
        By which they were made: scans have to be as smooth.
    head : tuple of TemplateSamples, (2,)
        Intensities of head and air, as they are and without shading. The points are the same.
    coarse : Intensities
        The template at 4 mm.
    affine_mask : array, (49, 58, 49) bool
        Where in `coarse` an affine has to fit.
    brain : Intensities
        The template at 2 mm around its brain.
    brain_edge_mask : array, of its shape, bool
        Where in `brain` its size shows.
    brain_gradients : TemplateSamples
        Gradients in the whole brain.
    hippocampus_intensities, hippocampus_gradients : mapping of str to TemplateSamples
        Hemisphere to what is around its hippocampus; gradients in the brain only.
    """

    settings: FeatureSettings
    head: tuple[TemplateSamples, ...]
    coarse: Intensities
    affine_mask: NDArray[np.bool_]
    brain: Intensities
    brain_edge_mask: NDArray[np.bool_]
    brain_gradients: TemplateSamples
    hippocampus_intensities: Mapping[str, TemplateSamples]
    hippocampus_gradients: Mapping[str, TemplateSamples]


def load_features(settings: FeatureSettings = FEATURES) -> TemplateFeatures:
    """Prepare the template for registration, once: whoever comes while another thread is at it waits for it."""
    with _LOCK:
        return _features(settings)


@lru_cache(maxsize=1)
def _features(settings: FeatureSettings) -> TemplateFeatures:
    template = load_template()
    grid, t1w = template.grid, Intensities(template.t1w, template.grid)
    fine, soft = smooth(t1w, settings.fine_sigma), smooth(t1w, settings.soft_sigma)
    inside = template.brain > 0.5
    around, points_near = {}, []
    reach_mm = max(settings.hippocampus_surroundings, settings.gradient_surroundings)
    for side, hippocampus in template.hippocampi.items():
        away_mm = _distance_to(hippocampus, grid, reach_mm)
        near = _points(away_mm <= settings.hippocampus_surroundings, settings.hippocampus_spacing, grid)
        around[side] = TemplateSamples(near, values_at(fine, near))
        is_near = (away_mm <= settings.gradient_surroundings) & inside
        points_near.append(_points(is_near, settings.hippocampus_spacing, grid))
    of_brain, *of_hippocampi = _gradient_samples(soft, [_points(inside, settings.brain_spacing, grid), *points_near])
    at_edge = within(inside, grid, settings.edge_surroundings)
    near_brain = box_around(np.argwhere(at_edge), np.full(3, BORDER), grid.shape, "")
    return TemplateFeatures(
        settings=settings,
        head=_head_samples(soft, smooth(without_shading(t1w), settings.soft_sigma), inside, settings),
        coarse=_every(fine, settings.coarse_spacing),
        affine_mask=within(inside, grid, settings.affine_surroundings, settings.coarse_spacing),
        brain=Intensities(fine.values[near_brain.slices], grid.subgrid(near_brain.start, near_brain.stop)),
        brain_edge_mask=at_edge[near_brain.slices],
        brain_gradients=of_brain,
        hippocampus_intensities=around,
        hippocampus_gradients=dict(zip(around, of_hippocampi, strict=True)),
    )


def brain_share(scan_from_template: Matrix, grid: Grid) -> float:
    """Share of the template's brain that lies in the field of view of a scan (on `grid`)."""
    return float(grid.holds(apply_affine(scan_from_template, load_features().brain_gradients.points)).mean())


def _head_samples(
    soft: Intensities, unshaded: Intensities, inside: NDArray[np.bool_], settings: FeatureSettings
) -> tuple[TemplateSamples, ...]:
    """Sample head and air at one set of points, as they are and without shading."""
    chosen = np.zeros(soft.grid.shape, dtype=bool)
    dense, thin = _lattice(settings.brain_spacing), _lattice(settings.head_spacing)
    # Half of the lattice is enough, those of one colour of a chessboard in three dimensions.
    is_one_colour = np.indices(chosen[dense].shape).sum(axis=0) % 2 == 0
    chosen[dense] = within(inside, soft.grid, settings.brain_surroundings, settings.brain_spacing) & is_one_colour
    chosen[thin] |= within(inside, soft.grid, settings.head_surroundings, settings.head_spacing)
    points = soft.grid.to_mm(np.argwhere(chosen))
    return tuple(TemplateSamples(points, values_at(view, points)) for view in (soft, unshaded))


def _gradient_samples(soft: Intensities, sets: Sequence[Matrix]) -> list[TemplateSamples]:
    """Take gradients at several sets of points (N, 3), all at once: the whole template has to be gone through."""
    ends = np.cumsum([len(points) for points in sets])[:-1]
    found = np.split(gradients_at(soft, np.concatenate(sets)), ends)
    return [TemplateSamples(points, gradients) for points, gradients in zip(sets, found, strict=True)]


def _every(intensities: Intensities, step: int) -> Intensities:
    """Keep one in `step` voxels along each axis."""
    values = np.ascontiguousarray(intensities.values[_lattice(step)])
    affine = intensities.grid.affine @ np.diag([*[float(step)] * 3, 1.0])
    return Intensities(values, Grid(shape_of(values), affine))


def _points(mask: NDArray[np.bool_], step: int, grid: Grid) -> Matrix:
    """Centres (N, 3) in mm of one in `step` voxels of a mask along each axis of the grid."""
    kept = np.zeros_like(mask)
    kept[_lattice(step)] = mask[_lattice(step)]
    return grid.to_mm(np.argwhere(kept))


def _lattice(step: int) -> tuple[slice, slice, slice]:
    """Index of one in `step` voxels along each axis."""
    every = slice(None, None, step)
    return every, every, every


def within(mask: NDArray[np.bool_], grid: Grid, reach_mm: float, step: int = 1) -> NDArray[np.bool_]:
    """Tell which of one in `step` voxels along each axis lie within a reach of a mask.

    The square of a distance is a sum over axes, so that of the nearest voxel is looked for along one after the other
    (Saito and Toriwaki 1994): of a few voxels, and not far, in a fifth of the time that SciPy takes for all distances.
    """
    squares = np.where(mask, np.float32(0), np.float32(np.inf))
    for axis, (n, size) in enumerate(zip(mask.shape, grid.voxel_sizes, strict=True)):
        reach = int(reach_mm // size)
        edges = [(reach, reach) if each == axis else (0, 0) for each in range(3)]
        padded = np.moveaxis(np.pad(squares, edges, constant_values=np.inf), axis, 0)
        shifted = (padded[reach + k :][:n:step] + np.float32((k * size) ** 2) for k in range(-reach, reach + 1))
        squares = np.moveaxis(reduce(np.minimum, shifted), 0, axis)
    return np.asarray(squares <= reach_mm**2)


def _distance_to(points: Matrix, grid: Grid, reach_mm: float) -> Matrix:
    """Distance of each voxel to the nearest of `points`, to a voxel's accuracy; infinite beyond a reach."""
    voxels = np.rint(grid.to_voxels(points)).astype(int)
    reach = np.ceil(reach_mm / grid.voxel_sizes).astype(int)
    # A twentieth of the template: further away nobody looks.
    start = np.maximum(voxels.min(axis=0) - reach, 0)
    stop = np.minimum(voxels.max(axis=0) + reach + 1, grid.shape)
    mask = np.zeros(stop - start, dtype=bool)
    mask[tuple((voxels - start).T)] = True
    distances: Matrix = np.full(grid.shape, np.inf)
    part = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    distances[part] = ndimage.distance_transform_edt(~mask, sampling=grid.voxel_sizes)
    return distances

"""Which random views of a crop the networks are shown: drawn one by one, or by a low-discrepancy sequence.

Where a recipe asks for "random" (HSF's way), views are drawn independently and placed by TorchIO, and all networks look
at the same ones.
Where it asks for "sobol", they are points of a scrambled Sobol sequence (Sobol 1967, doi:10.1016/0041-5553(67)90144-9;
Owen 1995, doi:10.1007/978-1-4612-2552-2_19) and each network has views of its own: the points of a look, one a
network, follow each other in the sequence. Both draw from the recipe's distribution and have the same limit; the points
of a sequence keep out of each other's way, so that it takes fewer of them to come near it. Either begins alike whatever
its length: the first views of many are those of few.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from bids_hsf.hub.cards import AugmentationRecipe
from bids_hsf.segmentation.torchio_transforms import TORCHIO, import_torchio
from bids_hsf.segmentation.transforms import WRITTEN_OUT, Sample, Transforms

Unit = NDArray[np.float64]

# Of the sequence: the flip, which transform, three scales, three angles, three shifts.
N_DIMENSIONS = 11


@dataclass(frozen=True, eq=False)
class Look:
    """One look of every network at a crop.

    Attributes
    ----------
    number : int
        0 for the plain crop.
    samples : tuple of Sample or None
        What each network is shown; None for the plain crop.
    """

    number: int
    samples: tuple[Sample | None, ...]

    def of(self, networks: slice) -> "Look":
        """Tell what some of the networks are shown."""
        return Look(self.number, self.samples[networks])


def transforms_of(recipe: AugmentationRecipe) -> Transforms:
    """Tell who places the views of a recipe: those that are drawn as HSF draws them, TorchIO itself."""
    return TORCHIO if recipe.sampling == "random" else WRITTEN_OUT


def import_libraries(recipe: AugmentationRecipe) -> None:
    """Import what views are drawn and placed with now: meanwhile another thread can do something else."""
    if recipe.sampling == "random":
        import_torchio()
    else:
        from scipy.stats import qmc  # noqa: F401


def looks(recipe: AugmentationRecipe, n_networks: int, rng: np.random.Generator) -> Iterator[Look]:
    """Draw looks without end as a recipe says, the plain one first; the generator is the only source of chance."""
    yield Look(0, (None,) * n_networks)
    number = 1
    if recipe.sampling == "random" or recipe.mirrors_alone:
        while True:
            yield Look(number, (_draw_one(recipe, rng),) * n_networks)
            number += 1
    views = _sobol(recipe, rng)
    while True:
        yield Look(number, tuple(islice(views, n_networks)))
        number += 1


def _draw_one(recipe: AugmentationRecipe, rng: np.random.Generator) -> Sample:
    """Draw a sample that knows of no other."""
    flip = bool(rng.random() < recipe.flip_probability)
    if rng.random() < recipe.affine_probability:
        angle, shift = recipe.rotation_degrees, recipe.translation_mm
        return Sample(
            flip,
            scales=tuple(rng.uniform(*recipe.scales, size=3).tolist()),
            degrees=tuple(rng.uniform(-angle, angle, size=3).tolist()),
            translation_mm=tuple(rng.uniform(-shift, shift, size=3).tolist()),
        )
    n, furthest = recipe.elastic_control_points, recipe.elastic_displacement_mm
    return Sample(flip, control_points=rng.uniform(-furthest, furthest, size=(n, n, n, 3)))


def _sobol(recipe: AugmentationRecipe, rng: np.random.Generator) -> Iterator[Sample]:
    """Draw samples at the points of a scrambled sequence."""
    following = _spread_points(N_DIMENSIONS, rng)
    return samples_at((following() for _ in count()), recipe, rng)


def samples_at(points: Iterator[Unit], recipe: AugmentationRecipe, rng: np.random.Generator) -> Iterator[Sample]:
    """Draw samples at points (11,) of the unit cube; elastic ones have control points from a sequence of their own."""
    n = recipe.elastic_control_points
    elastic = _spread_points(3 * n**3, rng)
    for point in points:
        if point[1] < recipe.affine_probability:
            yield _affine_at(point, recipe)
        else:
            control_points = _within(elastic(), recipe.elastic_displacement_mm).reshape(n, n, n, 3)
            yield Sample(bool(point[0] < recipe.flip_probability), control_points=control_points)


def _spread_points(n_dimensions: int, rng: np.random.Generator) -> Callable[[], Unit]:
    """Make what gives the next point (n_dimensions,) of a sequence; drawn one by one in more than it has dimensions."""
    # Memory and time, which only a run with random views has to pay.
    from scipy.stats import qmc

    if n_dimensions > qmc.Sobol.MAXDIM:
        return lambda: rng.random(n_dimensions)
    sequence = qmc.Sobol(n_dimensions, seed=rng)
    return lambda: np.asarray(sequence.random(1)[0])


def _affine_at(point: Unit, recipe: AugmentationRecipe) -> Sample:
    """Affine sample at a point (11,) of the unit cube."""
    lowest, highest = recipe.scales
    return Sample(
        bool(point[0] < recipe.flip_probability),
        scales=tuple((lowest + (highest - lowest) * point[2:5]).tolist()),
        degrees=tuple(_within(point[5:8], recipe.rotation_degrees).tolist()),
        translation_mm=tuple(_within(point[8:11], recipe.translation_mm).tolist()),
    )


def _within(points: Unit, furthest: float) -> Unit:
    """Spread points of the unit cube over +- `furthest`."""
    return np.asarray(furthest * (2 * points - 1))

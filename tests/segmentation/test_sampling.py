"""Views drawn one by one, or by a sequence: from one distribution, alike however many are taken."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voting import draw

from bids_hsf.hub.cards import AugmentationRecipe
from bids_hsf.segmentation.sampling import Look, looks
from bids_hsf.segmentation.transforms import Sample

RANDOM = AugmentationRecipe(sampling="random")
SOBOL = AugmentationRecipe(sampling="sobol")
BOTH = pytest.mark.parametrize("recipe", [RANDOM, SOBOL], ids=["random", "sobol"])
MIRROR = AugmentationRecipe(
    flip_probability=1, affine_probability=1, scales=(1, 1), rotation_degrees=0, translation_mm=0
)


def taken(recipe: AugmentationRecipe, n_networks: int, n_looks: int, seed: int = 0) -> list[Look]:
    return list(islice(looks(recipe, n_networks, np.random.default_rng(seed)), n_looks))


def drawn(recipe: AugmentationRecipe, n: int, seed: int = 0) -> list[Sample]:
    return draw(recipe, n, np.random.default_rng(seed))


def parameters(sample: Sample | None) -> tuple[object, ...]:
    assert sample is not None
    points = None if sample.control_points is None else sample.control_points.tobytes()
    return sample.flip, sample.scales, sample.degrees, sample.translation_mm, points


@BOTH
def test_same_seed_same_views_and_another_seed_others(recipe: AugmentationRecipe) -> None:
    first, second, other = ([parameters(s) for s in drawn(recipe, 12, seed)] for seed in (3, 3, 4))
    assert first == second
    assert first != other


@BOTH
def test_first_views_of_many_are_those_of_few(recipe: AugmentationRecipe) -> None:
    few, many = taken(recipe, 3, 9), taken(recipe, 3, 21)
    for a, b in zip(few[1:], many[1:], strict=False):
        assert a.number == b.number
        assert [parameters(s) for s in a.samples] == [parameters(s) for s in b.samples]


@BOTH
def test_plain_crop_comes_first_and_looks_are_numbered(recipe: AugmentationRecipe) -> None:
    found = taken(recipe, 2, 4)
    assert found[0].samples == (None, None)
    assert [look.number for look in found] == [0, 1, 2, 3]
    assert found[2].of(slice(1, 2)).samples == found[2].samples[1:]


def test_networks_share_views_that_are_drawn_one_by_one_and_have_points_of_a_sequence_to_themselves() -> None:
    for look in taken(RANDOM, 3, 4)[1:]:
        assert len({id(sample) for sample in look.samples}) == 1
    points = [parameters(sample) for look in taken(SOBOL, 3, 8)[1:] for sample in look.samples]
    assert len(set(points)) == len(points)
    # The networks together walk through one sequence.
    assert points == [parameters(sample) for sample in drawn(SOBOL, 21)]


@BOTH
def test_shares_of_flips_and_affines_are_those_of_the_recipe(recipe: AugmentationRecipe) -> None:
    samples = drawn(recipe, 2048)
    assert np.mean([s.flip for s in samples]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([s.control_points is None for s in samples]) == pytest.approx(0.8, abs=0.03)


def test_a_few_points_of_a_sequence_are_spread_evenly_where_chance_is_not() -> None:
    always_affine = replace(SOBOL, affine_probability=1.0)
    for seed in range(20):
        samples = drawn(always_affine, 8, seed)
        assert sum(s.flip for s in samples) == 4
        # One of eight points lies in each eighth of every parameter's range.
        for values, lowest, width in (
            (np.array([s.scales for s in samples]), 0.8, 0.4),
            (np.array([s.degrees for s in samples]), -15.0, 30.0),
            (np.array([s.translation_mm for s in samples]), -3.0, 6.0),
        ):
            eighths = np.sort(np.floor((values - lowest) / width * 8).astype(int), axis=0)
            assert (eighths == np.arange(8)[:, None]).all()


@pytest.mark.parametrize("sampling", ["random", "sobol"])
@given(st.integers(0, 2**32), st.floats(0.5, 1), st.floats(1, 2), st.floats(0, 40), st.floats(0, 9))
@settings(max_examples=30, deadline=None)
def test_parameters_stay_within_the_recipe(
    sampling: str, seed: int, low: float, high: float, degrees: float, mm: float
) -> None:
    recipe = AugmentationRecipe(0.5, 0.5, (low, high), degrees, mm, 5, mm, sampling)  # type: ignore[arg-type]
    for sample in drawn(recipe, 5, seed):
        assert all(low <= s <= high for s in sample.scales)
        assert np.abs(sample.degrees).max() <= degrees
        assert np.abs(sample.translation_mm).max() <= mm
        if sample.control_points is not None:
            assert sample.control_points.shape == (5, 5, 5, 3)
            assert np.abs(sample.control_points).max() <= mm


@pytest.mark.parametrize("n", [4, 19, 20, 64])
def test_elastic_views_have_as_many_control_points_as_the_recipe_says(n: int) -> None:
    """A sequence has 21,201 dimensions at most: those of 19 points an axis."""
    recipe = replace(SOBOL, affine_probability=0, elastic_control_points=n)
    first, second = ([sample.control_points for sample in drawn(recipe, 2, seed)] for seed in (1, 1))
    for one, other in zip(first, second, strict=True):
        assert one is not None
        assert one.shape == (n, n, n, 3)
        assert np.array_equal(one, other)
        assert 0.9 * 4.0 < np.abs(one).max() <= 4.0
    assert not np.array_equal(*first)


def test_recipe_that_mirrors_alone_draws_flips_alone() -> None:
    assert MIRROR.mirrors_alone
    assert all(sample.mirrors_alone for sample in drawn(MIRROR, 9))
    for change in ({"flip_probability": 0.5}, {"affine_probability": 0.9}, {"rotation_degrees": 1}):
        assert not replace(MIRROR, **change).mirrors_alone

"""How a pass votes: for one class, or for all by shares."""

import numpy as np
import pytest
from reference_vote import interpolate, reference_view
from voting import draw, vote

from bids_hsf.geometry import Grid
from bids_hsf.hub.cards import AugmentationRecipe
from bids_hsf.labels import Label
from bids_hsf.segmentation.ballots import PLURALITY, SHARES, Ballot
from bids_hsf.segmentation.decision import decide
from bids_hsf.segmentation.votes import Field, Votes

SHAPE = (16, 18, 14)
VOXEL_SIZES = np.array([1.0, 0.9, 1.2])
LABELS = (Label(1, "Head", "HEAD", "#ff0000"), Label(2, "Tail", "TAIL", "#00ff00"))


def network(crop: Field) -> Field:
    """Three classes, by intensity alone."""
    powers = np.exp([np.zeros_like(crop), 2 * crop, 1 - 2 * crop])
    return np.asarray(powers / powers.sum(axis=0), np.float32)


def crop_of(seed: int = 3) -> Field:
    x, y, z = np.meshgrid(*(np.linspace(-2, 2, n) for n in SHAPE), indexing="ij")
    noise = np.random.default_rng(seed).normal(0, 0.2, SHAPE)
    return np.asarray(np.sin(1.5 * x) + np.cos(y) * z / 2 + noise, np.float32)


def voted(ballot: Ballot, samples: list, n_networks: int = 1) -> Votes:
    return vote(crop_of(), [network] * n_networks, Grid(SHAPE, np.diag([*VOXEL_SIZES, 1.0])), samples, ballot=ballot)


def shares(probabilities: np.ndarray) -> np.ndarray:
    powers = probabilities**1.5
    return np.asarray(powers / powers.sum(axis=0))


def test_shares_are_those_written_out_plainly() -> None:
    samples = draw(AugmentationRecipe(affine_probability=1), 5, np.random.default_rng(2))
    crop = crop_of()
    expected = 0.4 * shares(network(crop).astype(np.float64))
    for sample in samples:
        view, back, seen = reference_view(crop, sample, VOXEL_SIZES)
        carried = [interpolate(channel, back) for channel in network(view.astype(np.float32))]
        expected += shares(np.array(carried)) * seen
    found = voted(SHARES, samples)
    differences = np.abs(found.vote_sum - expected).max(axis=0)
    # Where the border of a view passes within rounding of a voxel, one of both may have seen it.
    assert np.mean(differences > 1e-3) < 0.001


def test_votes_of_a_voxel_sum_to_the_weights_of_the_passes_that_saw_it() -> None:
    samples = draw(AugmentationRecipe(), 6, np.random.default_rng(5))
    found = voted(SHARES, samples, n_networks=2)
    assert found.seen.min() < 14  # some views leave something out
    np.testing.assert_allclose(found.vote_sum.sum(axis=0), found.seen - 2 * 0.6, atol=1e-4)
    decided = decide(found, LABELS)
    assert 1 / 3 <= decided.vote_share.min() < decided.vote_share.max() <= 1


def test_a_class_that_is_close_gets_its_part() -> None:
    probabilities = np.array([0.0, 0.5, 0.5, 0.9, 0.1, 0.0], np.float32).reshape(2, 3).T
    np.testing.assert_allclose(SHARES.cast(probabilities).T, [[0, 0.5, 0.5], [27 / 28, 1 / 28, 0]], atol=1e-6)
    np.testing.assert_array_equal(PLURALITY.cast(probabilities).T, [[0, 0.5, 0.5], [1, 0, 0]])


def test_the_volume_of_a_pass_is_that_of_its_labels_however_it_votes() -> None:
    samples = draw(
        AugmentationRecipe(
            flip_probability=1, affine_probability=1, scales=(1, 1), rotation_degrees=0, translation_mm=0
        ),
        1,
        np.random.default_rng(0),
    )
    np.testing.assert_array_equal(voted(SHARES, samples).pass_volumes, voted(PLURALITY, samples).pass_volumes)


def test_what_is_told_of_uncertainty_does_not_depend_on_the_way_to_vote() -> None:
    samples = draw(AugmentationRecipe(), 4, np.random.default_rng(1))
    by_shares, by_class = (decide(voted(ballot, samples), LABELS) for ballot in (SHARES, PLURALITY))
    for name in ("entropy", "expected_entropy", "mutual_information", "still_entropy"):
        np.testing.assert_array_equal(getattr(by_shares, name), getattr(by_class, name))
    assert 0 < np.mean(by_shares.labels != by_class.labels) < 0.1


@pytest.mark.parametrize("ballot", [PLURALITY, SHARES])
def test_a_single_plain_pass_gives_the_most_probable_class(ballot: Ballot) -> None:
    labels = decide(voted(ballot, []), LABELS).labels
    np.testing.assert_array_equal(labels, network(crop_of()).argmax(axis=0))

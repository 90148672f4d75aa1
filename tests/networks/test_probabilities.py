"""What counts as probabilities, and the softmax."""

import numpy as np
import pytest

from bids_hsf.networks.probabilities import are_probabilities, softmax


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([0.3, 0.7], True), ([0.3, 0.705], True), ([0.3, 0.72], False), ([-0.2, 1.2], False), ([np.nan, 1.0], False)],
)
def test_probabilities_are_positive_and_sum_to_1(scores, expected):
    assert are_probabilities(np.array(scores, np.float32).reshape(2, 1, 1, 1)) is expected


def test_softmax_gives_probabilities():
    logits = np.random.default_rng(0).normal(0, 9, (4, 3, 3, 3)).astype(np.float32)
    assert are_probabilities(softmax(logits))
    np.testing.assert_array_equal(softmax(logits).argmax(axis=0), logits.argmax(axis=0))


def test_large_logits_do_not_overflow():
    logits = np.array([1000.0, 0.0], np.float32).reshape(2, 1, 1, 1)
    assert softmax(logits).ravel().tolist() == [1.0, 0.0]

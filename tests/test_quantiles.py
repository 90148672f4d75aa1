"""Percentiles by sorting, held against NumPy's."""

import numpy as np
import pytest

from bids_hsf.quantiles import percentiles

PERCENTS = [0, 0.5, 10, 50, 99.3, 100]


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 4, 5), (40, 50, 60)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_are_numpys(shape, dtype):
    values = np.random.default_rng(0).gamma(2, 100, shape).astype(dtype)
    np.testing.assert_allclose(percentiles(values, PERCENTS), np.percentile(values, PERCENTS), rtol=1e-6)


def test_values_are_left_in_their_order():
    values = np.array([3.0, 1.0, 2.0])
    percentiles(values, PERCENTS)
    assert values.tolist() == [3.0, 1.0, 2.0]


def test_the_largest_numbers_are_no_further_apart_than_they_are():
    """Their difference is more than float32 holds."""
    furthest = np.finfo(np.float32).max
    assert percentiles(np.array([-furthest, furthest]), [50]) == [0.0]

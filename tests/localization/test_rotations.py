"""Rotation vectors to matrices, against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bids_hsf.localization.rotations import rotation_matrices


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-9, 1e-3, 0.05, 0.06, 1.0, 30.0, 400.0]))
@settings(max_examples=60, deadline=None)
def test_matrices_are_scipys_to_the_last_bit(seed: int, degrees: float) -> None:
    vectors = np.random.default_rng(seed).normal(0, degrees, (50, 3))
    vectors[:2, 1:], vectors[2:4, 0] = 0, 0
    expected = Rotation.from_rotvec(vectors, degrees=True).as_matrix()
    np.testing.assert_array_equal(rotation_matrices(vectors), expected)


def test_no_rotation_is_the_identity() -> None:
    np.testing.assert_array_equal(rotation_matrices(np.zeros((2, 3))), [np.eye(3)] * 2)
    assert rotation_matrices(np.zeros((0, 3))).shape == (0, 3, 3)


@pytest.mark.parametrize(("axis", "other"), [(0, 1), (1, 2), (2, 0)])
def test_turn_is_right_handed(axis: int, other: int) -> None:
    (matrix,) = rotation_matrices(90 * np.eye(3)[None, axis])
    np.testing.assert_allclose(matrix @ np.eye(3)[other], np.eye(3)[3 - axis - other], atol=1e-15)

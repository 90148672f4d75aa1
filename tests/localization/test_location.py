"""What a location tells."""

import numpy as np
import pytest
from nibabel.affines import apply_affine

from bids_hsf.geometry import Grid
from bids_hsf.localization.location import (
    DOUBTFUL_QUALITY,
    Location,
    head_axes,
    hippocampus_points,
    is_limited,
    rotation_part,
)
from bids_hsf.localization.template import load_template

TURN = np.array([[1, 0, 0, 3.0], [0, 0.8, -0.6, 1], [0, 0.6, 0.8, 0], [0, 0, 0, 1]])


def test_points_are_the_templates_unless_others_are_known() -> None:
    location = Location(TURN, 1.0, {}, hippocampi={"L": np.array([[1.0, 2.0, 3.0]])})
    np.testing.assert_allclose(hippocampus_points(location, "L"), apply_affine(TURN, [[1.0, 2.0, 3.0]]))
    np.testing.assert_allclose(hippocampus_points(location, "R"), apply_affine(TURN, load_template().hippocampi["R"]))


def test_it_moves_with_the_head() -> None:
    location = Location(TURN, 1.0, {"L": 1.0, "R": 1.0})
    np.testing.assert_allclose(location.moved(np.linalg.inv(TURN)).scan_from_template, np.eye(4), atol=1e-12)


def test_axes_are_the_rotation_whatever_the_size() -> None:
    stretched = TURN @ np.diag([1.2, 0.9, 1.1, 1.0])
    np.testing.assert_allclose(head_axes(Location(stretched, 1.0, {})), TURN[:3, :3], atol=1e-12)
    sheared = rotation_part(np.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 1.0]]))
    np.testing.assert_allclose(sheared @ sheared.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(("quality", "doubtful"), [(DOUBTFUL_QUALITY, False), (DOUBTFUL_QUALITY - 0.01, True)])
def test_doubt_begins_below_the_calibrated_figure(quality: float, doubtful: bool) -> None:
    assert Location(np.eye(4), quality, {}).doubtful is doubtful


def test_a_slab_is_limited_and_a_head_is_not() -> None:
    assert is_limited(Grid((180, 15, 180), np.diag([0.8, 2.0, 0.8, 1.0])))
    assert not is_limited(Grid((180, 220, 180), np.eye(4)))

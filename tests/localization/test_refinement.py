"""SimpleITK improves what is nearly right, and leaves alone what it cannot."""

from collections.abc import Callable

import numpy as np
import pytest
from blobs import moved
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.localization.features import load_features
from bids_hsf.localization.intensities import Intensities
from bids_hsf.localization.refinement import refine_affine, refine_rigid
from bids_hsf.localization.search import turned
from bids_hsf.localization.template import BRAIN_CENTER

CORNERS = BRAIN_CENTER + np.array([[50.0, 0, 0], [0, 60, 0], [0, 0, 50], [-50, 0, 0]])
SHEAR = np.array([[1.0, 0.03, 0], [0, 1.02, 0], [0, 0, 0.99]])


def motion(*step: float) -> NDArray[np.float64]:
    return turned(np.eye(4)[None], BRAIN_CENTER, np.array([step]))[0]


def error_mm(found: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(apply_affine(found, CORNERS) - apply_affine(truth, CORNERS), axis=1).max())


def test_an_affine_is_found_on_sheared_voxels() -> None:
    features = load_features()
    truth = motion(2.0, -1.0, 2.0, 2.0, -1.0, 2.0, 0.02)
    truth[:3, :3] @= SHEAR
    scan = moved(features.coarse, truth)
    found = refine_affine(features.coarse, features.affine_mask, scan, np.eye(4), BRAIN_CENTER)
    assert error_mm(np.eye(4), truth) > 4
    assert error_mm(found, truth) < 1


def test_a_rigid_motion_is_found_and_stays_rigid() -> None:
    features = load_features()
    truth = motion(3.0, -2.0, 4.0, 4.0, -3.0, 2.0, 0.0)
    scan = moved(features.coarse, truth)
    found = refine_rigid(features.coarse, features.affine_mask, scan, np.eye(4), BRAIN_CENTER)
    assert error_mm(np.eye(4), truth) > 6
    assert error_mm(found, truth) < 1
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("refine", [refine_affine, refine_rigid])
def test_the_start_is_left_where_nothing_overlaps(refine: Callable[..., NDArray[np.float64]]) -> None:
    features = load_features()
    away = motion(2000.0, 0, 0, 0, 0, 0, 0)
    found = refine(features.coarse, features.affine_mask, moved(features.coarse, away), np.eye(4), BRAIN_CENTER)
    np.testing.assert_array_equal(found, np.eye(4))


def test_an_image_without_anything_bright_moves_nothing() -> None:
    features = load_features()
    dark = Intensities(np.zeros_like(features.coarse.values), features.coarse.grid)
    found = refine_rigid(features.coarse, features.affine_mask, dark, np.eye(4), BRAIN_CENTER)
    assert error_mm(found, np.eye(4)) < 1

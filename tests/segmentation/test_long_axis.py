"""Thirds of a rod whose length is known, however it lies."""

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bids_hsf.geometry import Grid
from bids_hsf.segmentation.long_axis import THIRDS, UNCAL_APEX, split_long_axis

FRONT = np.array([0.0, 1.0, 0.0])


def rods() -> np.ndarray:
    """Two rods of 30 voxels along y, the front twelve of each with label 1, the rest with label 2."""
    label_map = np.zeros((20, 40, 10), np.uint8)
    label_map[3:6, 5:35, 3:6] = 2
    label_map[3:6, 23:35, 3:6] = 1
    right = label_map[::-1]
    return np.where(right > 0, right + 100, label_map).astype(np.uint8)


@pytest.mark.parametrize("voxel_sizes", [(1.0, 1.0, 1.0), (0.5, 1.3, 0.7)])
@pytest.mark.parametrize("degrees", [0, 35])
def test_thirds_of_a_rod(voxel_sizes: tuple[float, ...], degrees: float) -> None:
    turn = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    grid = Grid((20, 40, 10), nib.affines.from_matvec(turn @ np.diag(voxel_sizes), [3, 4, 5]))
    split = split_long_axis(rods(), grid, turn @ FRONT, ())
    assert split.rule == THIRDS
    for offset in (0, 100):
        assert [(split.label_map == offset + part).sum() for part in (1, 2, 3)] == [90, 90, 90]
        front = np.argwhere(split.label_map == offset + 1)[:, 1]
        assert (front.min(), front.max()) == (25, 34)
    np.testing.assert_array_equal(split.label_map > 0, rods() > 0)


def test_a_model_that_knows_the_apex_gives_the_head() -> None:
    split = split_long_axis(rods(), Grid((20, 40, 10), np.eye(4)), FRONT, {1})
    assert split.rule == UNCAL_APEX
    np.testing.assert_array_equal(split.label_map % 100 == 1, rods() % 100 == 1)
    assert (split.label_map == 103).sum() == 90
    assert (split.label_map == 102).sum() == 72


def test_a_missing_side_stays_empty() -> None:
    label_map = rods()
    label_map[label_map > 100] = 0
    split = split_long_axis(label_map, Grid((20, 40, 10), np.eye(4)), FRONT, ())
    assert split.label_map.max() == 3

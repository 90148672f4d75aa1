"""Volumes of known boxes, and tables whose columns differ."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from bids_hsf.geometry import Grid
from bids_hsf.labels import Label
from bids_hsf.segmentation import volumes

LABELS = (Label(1, "Anterior hippocampus", "anterior", "#e8743b"), Label(2, "Posterior", "posterior", "#2a7ab8"))


@pytest.fixture
def label_map() -> np.ndarray:
    label_map = np.zeros((10, 10, 10), dtype=np.uint8)
    label_map[:2, :3, :4] = 1
    label_map[5:7, :5, :1] = 102
    return label_map


@pytest.mark.parametrize("voxel_sizes", [(1, 1, 1), (0.4, 0.4, 2.0), (0.9, 1.1, 1.0)])
def test_volume_of_a_box_under_any_voxel_size(label_map: np.ndarray, voxel_sizes: tuple[float, ...]) -> None:
    grid = Grid((10, 10, 10), nib.affines.from_matvec(np.diag([-1, 1, 1]) @ np.diag(voxel_sizes), [1, 2, 3]))
    entropy = np.full((10, 10, 10), 0.25, np.float32)
    rows = volumes.measure(label_map, grid, LABELS, entropy, {}, etiv_mm3=1.5e6)
    by_index = {row["index"]: row for row in rows.to_records()}
    assert list(by_index) == [1, 2, 101, 102]
    assert by_index[1]["volume_mm3"] == pytest.approx(24 * np.prod(voxel_sizes), abs=0.01)
    assert by_index[102]["volume_mm3"] == pytest.approx(10 * np.prod(voxel_sizes), abs=0.01)
    assert by_index[1]["volume_per_mille_eTIV"] == pytest.approx(24 * np.prod(voxel_sizes) / 1500, abs=1e-4)
    assert by_index[1]["entropy_mean"] == 0.25
    assert by_index[2]["voxels"] == 0
    assert by_index[2]["entropy_mean"] is None
    assert by_index[102]["hemisphere"] == "R"


def test_spread_over_passes_has_its_own_columns(label_map: np.ndarray) -> None:
    spread = {1: {"mean": 24.0, "sd": 1.5, "low": 22.0, "high": 26.0}}
    rows = volumes.measure(label_map, Grid((10, 10, 10), np.eye(4)), LABELS, np.zeros((10, 10, 10), np.float32), spread)
    records = rows.to_records()
    assert records[0]["volume_mm3_sd"] == 1.5
    assert records[1]["volume_mm3_sd"] is None


def test_volumes_have_prediction_intervals_where_the_errors_of_the_model_are_known(label_map: np.ndarray) -> None:
    labels = (replace(LABELS[0], true_over_found=(0.9, 1.25)), LABELS[1])
    found = volumes.measure(label_map, Grid((10, 10, 10), np.eye(4)), labels, np.zeros((10, 10, 10), np.float32), {})
    assert found["L_anterior"].predicted == pytest.approx((21.6, 30))
    assert found["L_posterior"].predicted is None
    first, second, *_ = found.to_records()
    assert (first["volume_mm3_predicted_low"], first["volume_mm3_predicted_high"]) == (21.6, 30.0)
    assert "volume_mm3_predicted_low" not in second


def test_asymmetry_of_nothing_is_unknown() -> None:
    assert volumes.asymmetry_index(0, 0) is None

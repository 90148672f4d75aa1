import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_hsf.errors import NoInputError
from bids_hsf.geometry import Grid
from bids_hsf.segmentation.evaluation import (
    Score,
    dice,
    find_cases,
    hausdorff95,
    isotropic_grid,
    summarize,
    volume_similarity,
)

ONES = np.ones(3)


def box(start: tuple[int, int, int], stop: tuple[int, int, int], shape: tuple[int, int, int] = (12, 12, 12)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


def test_measures_of_equal_masks() -> None:
    mask = box((2, 2, 2), (8, 9, 10))
    assert (dice(mask, mask), hausdorff95(mask, mask, ONES), volume_similarity(mask, mask)) == (1, 0, 1)


def test_measures_of_known_masks() -> None:
    first, second = box((2, 2, 2), (6, 6, 6)), box((2, 2, 4), (6, 6, 8))
    assert dice(first, second) == 0.5
    assert volume_similarity(first, second) == 1
    assert volume_similarity(first, box((2, 2, 2), (6, 6, 4))) == pytest.approx(2 / 3)
    # The far face of a box moved by 2 voxels of 1.5 mm lies 3 mm beyond the other one.
    assert hausdorff95(first, second, np.array([1.0, 1.0, 1.5])) == 3.0
    assert hausdorff95(first, second, ONES) == hausdorff95(second, first, ONES)


def test_one_voxel_far_away_does_not_move_the_95th_percentile() -> None:
    first = box((2, 2, 2), (10, 10, 10))
    second = first.copy()
    second[0, 0, 0] = True
    assert hausdorff95(first, second, ONES) == 0


def test_empty_masks() -> None:
    empty, some = np.zeros((12, 12, 12), bool), box((2, 2, 2), (4, 4, 4))
    assert math.isnan(dice(empty, empty))
    assert math.isnan(volume_similarity(empty, empty))
    assert math.isnan(hausdorff95(empty, empty, ONES))
    assert (dice(empty, some), volume_similarity(some, empty)) == (0, 0)
    assert math.isnan(hausdorff95(some, empty, ONES))


def test_means_leave_out_what_does_not_exist() -> None:
    scores = [Score("a", "x", 0.8, 1.0, 0.9), Score("b", "x", 0.6, math.nan, 0.7), Score("a", "y", math.nan, 1.0, 1.0)]
    means = {(mean.label, mean.measure): mean for mean in summarize(scores)}
    assert means["x", "dice"].mean == pytest.approx(0.7)
    assert means["x", "dice"].sd == pytest.approx(0.2 / 2**0.5)
    assert means["x", "dice"].standard_error == pytest.approx(0.1)
    assert (means["x", "hd95_mm"].n, means["x", "hd95_mm"].mean) == (1, 1.0)
    assert means["y", "dice"].n == 0
    assert math.isnan(means["y", "dice"].mean)


def test_an_isotropic_grid_covers_the_crop() -> None:
    turned = np.array([[0.0, -2.0, 0.0, 5.0], [0.7, 0.0, 0.0, -3.0], [0.0, 0.0, 1.1, 9.0], [0, 0, 0, 1]])
    grid = Grid((31, 20, 17), turned)
    target = isotropic_grid(grid, 1.0)
    np.testing.assert_allclose(target.voxel_sizes, 1.0)
    edges = np.array([[-0.5, -0.5, -0.5], np.array(grid.shape) - 0.5])
    indices = target.to_voxels(grid.to_mm(edges))
    low, high = indices.min(axis=0), indices.max(axis=0)
    assert (low >= -0.5 - 1e-6).all()
    assert (high <= np.array(target.shape) - 0.5 + 1e-6).all()
    assert (low <= 0).all()  # and by less than a voxel
    assert (high >= np.array(target.shape) - 1).all()
    middles = [g.to_mm((np.array([g.shape]) - 1) / 2) for g in (grid, target)]
    np.testing.assert_allclose(*middles, atol=1e-9)
    near = Grid((9, 9, 9), np.diag([1.0005, 1.0, 1.0, 1.0]))
    assert isotropic_grid(near, 1.0) is near


def test_cases_are_paired_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    for folder, names in (
        (images, ("b_0000.nii.gz", "a.nii", "alone.nii.gz", "._a.nii")),
        (labels, ("a.nii.gz", "b.nii")),
    ):
        folder.mkdir()
        for name in names:
            nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.uint8), np.eye(4)), folder / name)
    assert [(case.name, case.image_path.name, case.label_path.name) for case in find_cases(images, labels)] == [
        ("a", "a.nii", "a.nii.gz"),
        ("b", "b_0000.nii.gz", "b.nii"),
    ]
    assert "alone.nii.gz has no labels" in caplog.text
    with pytest.raises(NoInputError, match="no such folder"):
        find_cases(images, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoInputError, match="labels of the same name"):
        find_cases(tmp_path / "empty", labels)

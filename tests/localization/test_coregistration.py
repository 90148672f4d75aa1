"""Two contrasts of one head, moved by a known rigid motion, on other voxels, as a slab, and what does not belong."""

from dataclasses import dataclass

import numpy as np
import pytest
from example_data import BIDS_DIR
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from bids_hsf.errors import ScanError
from bids_hsf.geometry import Grid, resample
from bids_hsf.images import load_scan
from bids_hsf.localization.coregistration import MIN_JOINED_QUALITY, Coregistration, coregister

SHAPE = (64, 76, 62)
AFFINE = np.array([[3.0, 0, 0, -95], [0, 3, 0, -131], [0, 0, 3, -77], [0, 0, 0, 1]])
NEAR_HIPPOCAMPI = np.array([[-26.0, -21, -13], [26, -21, -13], [-26, -10, -18], [26, -35, 0]])


@dataclass(frozen=True)
class Brain:
    t1w: np.ndarray
    t2w: np.ndarray
    grid: Grid


@pytest.fixture(scope="module")
def brain() -> Brain:
    folder = BIDS_DIR / "sub-icbm152" / "anat"
    grid = Grid(SHAPE, AFFINE)
    scans = [load_scan(folder / f"sub-icbm152_{suffix}.nii.gz") for suffix in ("T1w", "T2w")]
    return Brain(*(resample(scan.data, scan.grid, grid) for scan in scans), grid)


def motion(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def error_mm(found: Coregistration, reference_from_second: np.ndarray) -> float:
    points = apply_affine(np.linalg.inv(reference_from_second), NEAR_HIPPOCAMPI)
    return float(np.linalg.norm(apply_affine(found.reference_from_second, points) - NEAR_HIPPOCAMPI, axis=1).max())


def test_a_known_motion_is_found(brain: Brain) -> None:
    true = motion((5, -4, 6), (7, -5, 4))
    moved = Grid(SHAPE, np.linalg.inv(true) @ AFFINE)
    found = coregister(brain.t1w, brain.grid, brain.t2w, moved)
    assert error_mm(found, true) < 1.0
    assert error_mm(Coregistration(np.eye(4), 1.0, 0.0), true) > 8
    assert found.quality > MIN_JOINED_QUALITY
    assert found.checked("a", "b") is found
    two_heads = Coregistration(true, 0.26, 0.5)  # the best that pairs of different heads had
    assert two_heads.is_usable()
    with pytest.raises(ScanError, match=r"quality 0\.26, expected 0\.28 or more"):
        two_heads.checked("a", "b")
    record = found.as_record()
    assert record["Quality"] == round(found.quality, 4)
    assert record["DisagreementMm"] < 1
    np.testing.assert_allclose(record["ReferenceFromScan"], found.reference_from_second, atol=1e-5)
    rotation = found.reference_from_second[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)


def test_a_slab_on_either_side_is_found_the_same_each_time(brain: Brain) -> None:
    true = motion((2, 3, -3), (-4, 3, 5))
    tilt = motion((-20, 0, 0), (0, 0, 0))
    slab_in_head = tilt @ np.diag([1.5, 2, 1.5, 1])
    slab_in_head[:3, 3] = np.array([0, -22, -12]) - slab_in_head[:3, :3] @ np.array([59.5, 19.5, 49.5])
    slab = Grid((120, 40, 100), slab_in_head)
    values = resample(brain.t2w, brain.grid, slab)
    moved = Grid(slab.shape, np.linalg.inv(true) @ slab.affine)
    found = coregister(brain.t1w, brain.grid, values, moved)
    again = coregister(brain.t1w, brain.grid, values, moved)
    back = coregister(values, moved, brain.t1w, brain.grid)
    assert error_mm(found, true) < 1.2
    assert found.reference_from_second.tobytes() == again.reference_from_second.tobytes()
    np.testing.assert_allclose(back.reference_from_second @ found.reference_from_second, np.eye(4), atol=0.05)


@pytest.mark.parametrize("part", [slice(None), slice(30, 50)])
def test_a_scan_whose_sides_are_exchanged_is_told(part: slice) -> None:
    scan = load_scan(BIDS_DIR / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz")
    grid = Grid(SHAPE, AFFINE)
    t1w = resample(scan.data, scan.grid, grid)
    other = np.where(t1w > 0.1 * t1w.max(), t1w.max() - t1w, 0).astype(np.float32)[:, part]
    place = grid.subgrid((0, part.start or 0, 0), (SHAPE[0], part.stop or SHAPE[1], SHAPE[2]))
    right, exchanged = (coregister(t1w, grid, data, place) for data in (other, other[::-1].copy()))
    assert right.checked("a", "b") is right
    assert (right.is_mirrored, exchanged.is_mirrored) == (False, True)
    assert exchanged.mirrored_quality == pytest.approx(right.quality, abs=0.05)
    with pytest.raises(ScanError, match="b fits a only as a mirror image .* left and right are exchanged in one of"):
        exchanged.checked("a", "b")
    assert not Coregistration(np.eye(4), 0.19, 0.5, 0.26).is_mirrored  # two heads
    assert not Coregistration(np.eye(4), 0.4, 0.5, 0.4).is_mirrored  # a symmetric one


@pytest.mark.parametrize("spoil", ["upside down", "noise"])
def test_what_does_not_belong_together_is_refused(brain: Brain, spoil: str) -> None:
    noise = np.random.default_rng(1).normal(100, 10, SHAPE).astype(np.float32)
    second = {"upside down": brain.t2w[:, :, ::-1], "noise": noise}[spoil]
    found = coregister(brain.t1w, brain.grid, second, brain.grid)
    with pytest.raises(
        ScanError, match=r"sub-01_T1w cannot be brought together with sub-01_T2w: quality 0\."
    ) as caught:
        found.checked("sub-01_T2w", "sub-01_T1w")
    assert "--multispectral" in (caught.value.hint or "")

"""The hippocampi are in the box, wherever the head lies, and a scan without them says so."""

from functools import lru_cache

import nibabel as nib
import numpy as np
import pytest
from example_data import BIDS_DIR, Disturbance, disturb
from nibabel.affines import apply_affine

from bids_hsf.errors import LocalizationError
from bids_hsf.geometry import to_canonical
from bids_hsf.localization import Location, crop_grid, head_axes, hippocampus_points, locate, native_box

# Middles of the hippocampi in MNI152 2009c, mm: where anybody finds them in the template.
MIDDLE = {"L": np.array([-26.0, -22.0, -13.0]), "R": np.array([26.0, -22.0, -13.0])}
UPRIGHT = Disturbance((0, 0, 0), (0, 0, 0), (1, 1, 1), "RAS")


@lru_cache
def head(subject: str, contrast: str = "T1w") -> nib.Nifti1Image:
    return nib.load(BIDS_DIR / f"sub-{subject}" / "anat" / f"sub-{subject}_{contrast}.nii.gz")


def located(image: nib.Nifti1Image) -> tuple[Location, np.ndarray]:
    data, grid = to_canonical(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    return locate(data, grid), grid


@pytest.mark.parametrize("contrast", ["T1w", "T2w"])
def test_template_space_is_found_in_itself(contrast: str) -> None:
    location, grid = located(head("icbm152", contrast))
    np.testing.assert_allclose(location.scan_from_template, np.eye(4), atol=2.5)
    assert location.coverage == {"L": 1.0, "R": 1.0}
    assert not location.warnings
    assert 1.6e6 < (location.etiv_mm3 or 0) < 2.2e6
    for side, middle in MIDDLE.items():
        box = native_box(location, grid, side)
        inside = grid.to_voxels(middle[None])[0]
        assert (inside > box.start).all()
        assert (inside < box.stop).all()


@pytest.mark.parametrize(
    "disturbance",
    [
        Disturbance(),
        Disturbance((30, 0, 0), (0, 40, -30), (1, 1, 1), "PSR"),
        Disturbance((-10, 15, -25), (25, 0, 10), (2.0, 1.0, 3.0), "RAS"),
    ],
)
def test_a_moved_head_is_found_where_it_was_moved_to(disturbance: Disturbance) -> None:
    image, motion = disturb(head("colin27"), disturbance)
    moved, _ = located(image)
    still, _ = located(head("colin27"))
    for side in ("L", "R"):
        expected = apply_affine(motion, hippocampus_points(still, side))
        errors = np.linalg.norm(hippocampus_points(moved, side) - expected, axis=1)
        assert errors.max() < 5
    turned = head_axes(moved).T @ motion[:3, :3] @ head_axes(still)
    assert np.degrees(np.arccos(np.clip((np.trace(turned) - 1) / 2, -1, 1))) < 6


def test_crop_of_a_fixed_voxel_size_lies_along_the_head() -> None:
    image, _ = disturb(head("colin27"), Disturbance((25, 0, 0), (0, 0, 0), (1, 1, 1), "RAS"))
    location, grid = located(image)
    crop = crop_grid(location, grid, "L", 1.0)
    np.testing.assert_allclose(crop.affine[:3, :3], head_axes(location), atol=1e-9)
    indices = crop.to_voxels(hippocampus_points(location, "L"))
    assert (indices >= 3).all()
    assert (indices <= np.array(crop.shape) - 4).all()


def test_native_crop_is_a_part_of_the_scan() -> None:
    location, grid = located(head("colin27"))
    crop = crop_grid(location, grid, "R", None)
    offset = grid.to_voxels(crop.to_mm(np.zeros((1, 3))))[0]
    np.testing.assert_allclose(offset, np.round(offset), atol=1e-6)
    np.testing.assert_array_equal(crop.affine[:3, :3], grid.affine[:3, :3])


def test_half_a_head_is_flagged_with_its_share() -> None:
    image = head("icbm152")
    data, grid = to_canonical(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    start = (0, int(grid.to_voxels(np.array([[0.0, -20.0, 0.0]]))[0][1]), 0)
    part = grid.subgrid(start, grid.shape)
    location = locate(data[:, start[1] :], part)
    assert 0.1 < location.coverage["L"] < 0.9
    assert location.warnings
    assert location.etiv_mm3 is None
    assert location.etiv_reason


def test_a_scan_above_the_hippocampi_is_refused() -> None:
    image = head("icbm152")
    data, grid = to_canonical(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    start = (0, 0, int(grid.to_voxels(np.array([[0.0, 0.0, 25.0]]))[0][2]))
    with pytest.raises(LocalizationError):
        locate(data[:, :, start[2] :], grid.subgrid(start, grid.shape))


def test_the_same_scan_gives_the_same_answer() -> None:
    image, _ = disturb(head("icbm152"), UPRIGHT)
    first, _ = located(image)
    second, _ = located(image)
    np.testing.assert_array_equal(first.scan_from_template, second.scan_from_template)

"""Transforms between scan and template as other programs read them."""

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from bids_hsf.bids.names import loose_outputs, scan_outputs
from bids_hsf.bids.transforms import write_transforms

# Turned, sheared, scaled and shifted, as no accident would be right.
SCAN_FROM_TEMPLATE = np.array(
    [[0.9, 0.2, -0.1, 3.0], [-0.15, 1.1, 0.05, -7.0], [0.1, -0.2, 0.95, 5.0], [0.0, 0.0, 0.0, 1.0]]
)
TEMPLATE_AFFINE = np.array([[2.0, 0, 0, -30], [0, 2, 0, -34], [0, 0, 2, -26], [0, 0, 0, 1]])
SCAN_AFFINE = np.array([[0.0, 1.5, 0, -28], [-1.5, 0, 0, 36], [0, 0, 2, -30], [0, 0, 0, 1]])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path, Path]:
    """A scan, an empty image on the template's grid, and the two transforms."""
    rng = np.random.default_rng(0)
    scan = ndimage.gaussian_filter(rng.normal(size=(44, 40, 32)), 2).astype(np.float32)
    scan[~ndimage.binary_erosion(np.ones(scan.shape), iterations=2)] = 0  # beyond the border, each has its own way
    paths = tmp_path / "scan.nii.gz", tmp_path / "template.nii.gz"
    for path, data, affine in zip(paths, (scan, np.zeros((30, 34, 28), np.float32)), (SCAN_AFFINE, TEMPLATE_AFFINE),
                                  strict=True):  # fmt: skip
        image = nib.Nifti1Image(data, affine)
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        nib.save(image, path)
    outputs = scan_outputs(tmp_path, [("sub", "01")], "T1w", "toy")
    write_transforms(outputs, SCAN_FROM_TEMPLATE)
    return *paths, outputs.transform_to_template, outputs.transform_from_template


def in_the_template(scan_path: Path) -> np.ndarray:
    """The scan where the template's voxels lie, by hand."""
    voxels = np.indices((30, 34, 28)).reshape(3, -1)
    there = np.linalg.inv(SCAN_AFFINE) @ SCAN_FROM_TEMPLATE @ TEMPLATE_AFFINE
    data = nib.load(scan_path).get_fdata()
    positions = (there @ np.vstack([voxels, np.ones(voxels.shape[1])]))[:3]
    return ndimage.map_coordinates(data, positions, order=1).reshape(30, 34, 28)


def test_simpleitk_carries_a_scan_to_the_template(files: tuple[Path, ...]) -> None:
    scan, template, to_template, _ = files
    fixed, moving = (sitk.ReadImage(str(path)) for path in (template, scan))
    moved = sitk.Resample(moving, fixed, sitk.ReadTransform(str(to_template)), sitk.sitkLinear, 0.0)
    expected = in_the_template(scan)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(sitk.GetArrayFromImage(moved).T, expected, atol=1e-4)


def test_nitransforms_reads_the_same(files: tuple[Path, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own past
        from nitransforms.linear import Affine
        from nitransforms.resampling import apply

        scan, template, to_template, from_template = files
        there = Affine.from_filename(to_template, fmt="itk", reference=template, moving=scan)
        back = Affine.from_filename(from_template, fmt="itk", reference=scan, moving=template)
        np.testing.assert_allclose(there.matrix, SCAN_FROM_TEMPLATE, atol=1e-9)
        np.testing.assert_allclose(back.matrix, np.linalg.inv(SCAN_FROM_TEMPLATE), atol=1e-9)
        moved = apply(there, scan, order=1)
    np.testing.assert_allclose(moved.get_fdata(), in_the_template(scan), atol=1e-4)


def test_names(tmp_path: Path) -> None:
    outputs = scan_outputs(tmp_path, [("sub", "01"), ("ses", "2")], "UNIT1", "hsf", "multispectral")
    assert outputs.transform_to_template.relative_to(tmp_path).as_posix() == (
        "sub-01/ses-2/anat/sub-01_ses-2_seg-hsf_desc-multispectral_from-UNIT1_to-MNI152NLin2009cSym_mode-image_xfm.txt"
    )
    loose = loose_outputs(tmp_path, "head", "hsf")
    assert loose.transform_from_template.name == "head_seg-hsf_from-MNI152NLin2009cSym_to-scan_mode-image_xfm.txt"

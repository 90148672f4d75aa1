import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_hsf.bids import maps, names


@pytest.fixture
def scan() -> nib.Nifti1Image:
    image = nib.Nifti1Image(np.ones((5, 6, 7), np.int16), nib.affines.from_matvec(np.diag([-0.9, 1.1, 1.0]), [1, 2, 3]))
    image.set_sform(image.affine, code="aligned")
    image.set_qform(image.affine, code="scanner")
    return image


def test_map_keeps_both_transforms_of_the_scan(tmp_path: Path, scan: nib.Nifti1Image) -> None:
    path = tmp_path / "map.nii.gz"
    maps.write_image(path, np.zeros(scan.shape, np.uint8), scan)
    written = nib.load(path)
    np.testing.assert_allclose(written.affine, scan.affine, atol=1e-6)
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (2, 1)
    assert written.get_data_dtype() == np.uint8


def test_equal_maps_are_equal_bytes(tmp_path: Path, scan: nib.Nifti1Image) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        maps.write_image(tmp_path / name, np.zeros(scan.shape, np.float32), scan)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("filled", [[], [(0, 0, 0)], [(4, 5, 6)], [(0, 0, 3), (2, 5, 3)], [(1, 2, 0), (3, 3, 6)]])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_map_comes_back_wherever_it_is_empty(
    tmp_path: Path, scan: nib.Nifti1Image, filled: list[tuple[int, int, int]], order: str
) -> None:
    data = np.zeros(scan.shape, np.float32, order=order)
    for number, place in enumerate(filled):
        data[place] = 0.25 + number
    maps.write_image(tmp_path / "a.nii.gz", data, scan, decimals=4)
    np.testing.assert_array_equal(nib.load(tmp_path / "a.nii.gz").get_fdata(), data)


def test_probabilities_come_back_from_their_bytes(tmp_path: Path, scan: nib.Nifti1Image) -> None:
    outputs = names.scan_outputs(tmp_path, [("sub", "01")], "T1w", "x")
    probabilities = np.random.default_rng(0).random((*scan.shape, 4)).astype(np.float32)
    maps.write_probabilities(outputs, probabilities, ["L_a", "L_p", "R_a", "R_p"], scan, "sub-01/anat/a.nii.gz")
    written = nib.load(outputs.map(None))
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_allclose(written.get_fdata(), probabilities, atol=0.5 / 255 + 1e-6)
    sidecar = json.loads(outputs.map(None).with_name("sub-01_space-T1w_seg-x_probseg.json").read_text())
    assert sidecar["LabelMap"] == ["L_a", "L_p", "R_a", "R_p"]


@pytest.mark.parametrize("nonsense", [(2.0, 2.0, 2.0), (np.nan, 0.0, 0.0)])
def test_an_unusable_qform_beside_a_good_sform_is_left_out(
    tmp_path: Path, scan: nib.Nifti1Image, nonsense: tuple[float, float, float]
) -> None:
    for name, value in zip(("quatern_b", "quatern_c", "quatern_d"), nonsense, strict=True):
        scan.header[name] = value
    maps.write_image(tmp_path / "map.nii.gz", np.zeros(scan.shape, np.uint8), scan)
    written = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(written.affine, scan.affine, atol=1e-6)
    np.testing.assert_allclose(written.header.get_zooms(), (0.9, 1.1, 1.0), atol=1e-6)
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (2, 0)

"""The Python functions, against what the command line made of the same brains."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from segmented_example import MODEL, Segmented

import bids_hsf
from bids_hsf.errors import FetchError, ModelError, UnreadableImageError, UsageError


@pytest.fixture(scope="module")
def model(segmented: Segmented):
    # As many threads as a run of several scans takes for each: another number gives other last digits of entropies.
    with bids_hsf.open_model(MODEL, n_threads=1) as opened:
        yield opened


def scan_path(segmented: Segmented, scan: str = "sub-colin27_T1w") -> Path:
    return segmented.bids_dir / scan.split("_")[0] / "anat" / f"{scan}.nii.gz"


def made(segmented: Segmented, scan: str, ending: str) -> Path:
    subject, suffix = scan.split("_")
    return segmented.output_dir / subject / "anat" / f"{subject}_space-{suffix}_seg-longaxisSingleFast_{ending}"


def voxels(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj)


@pytest.mark.parametrize("scan", ["sub-colin27_T1w", "sub-icbm152_T2w"])
def test_equal_to_the_command_line_voxel_by_voxel(model, segmented: Segmented, scan: str) -> None:
    result = model.segment(scan_path(segmented, scan))
    expected = nib.load(made(segmented, scan, "dseg.nii.gz"))
    np.testing.assert_array_equal(voxels(result.label_map), voxels(expected))
    np.testing.assert_allclose(result.label_map.affine, expected.affine, atol=1e-6)
    entropy = nib.load(made(segmented, scan, "desc-entropy_probseg.nii.gz"))
    np.testing.assert_allclose(voxels(result.entropy), voxels(entropy), atol=1e-4)
    sidecar = json.loads(made(segmented, scan, "dseg.json").read_text())
    assert result.location.quality == pytest.approx(sidecar["Localization"]["Quality"], abs=1e-4)
    # The command line knows the T1w of the session, whose size a T2w takes; alone it is measured to some percent.
    tolerance = 0.5 if sidecar["Localization"].get("eTIVOf") is None else 0.03 * sidecar["eTIV_mm3"]
    assert result.location.etiv_mm3 == pytest.approx(sidecar["eTIV_mm3"], abs=tolerance)
    assert [finding.text for finding in result.findings] == [finding["Text"] for finding in sidecar["Findings"]]
    assert result.predicted_dice == sidecar["PredictedDice"]


def test_images_in_memory_are_as_good_as_files(model, segmented: Segmented) -> None:
    image = nib.load(scan_path(segmented))
    expected = voxels(model.segment(scan_path(segmented)).label_map)
    np.testing.assert_array_equal(voxels(model.segment(image).label_map), expected)
    # A header without codes would leave the orientation open: the affine of a pair is taken at its word.
    found = model.segment((np.asarray(image.dataobj), image.affine))
    np.testing.assert_array_equal(voxels(found.label_map), expected)


def test_boxes_hold_what_was_found(model, segmented: Segmented) -> None:
    result = model.segment(scan_path(segmented))
    canonical = voxels(nib.as_closest_canonical(result.label_map))
    for hemisphere, low in (("L", 0), ("R", 100)):
        inside = np.zeros(canonical.shape, bool)
        inside[result.boxes[hemisphere].slices] = True
        assert inside[(canonical > low) & (canonical < low + 99)].all()


def test_volumes_are_those_of_the_table(model, segmented: Segmented, tmp_path: Path) -> None:
    result = model.segment(scan_path(segmented))
    assert result.volumes["L_anterior"].volume_mm3 == pytest.approx(
        result.volumes.to_records()[0]["volume_mm3"], abs=0.01
    )
    with pytest.raises(KeyError):
        result.volumes["anterior"]
    paths = result.save(tmp_path / "out", "colin")
    assert [path.name for path in paths] == [
        "colin_seg-longaxisSingleFast_dseg.nii.gz",
        "colin_seg-longaxisSingleFast_dseg.tsv",
        "colin_seg-longaxisSingleFast_dseg.json",
        "colin_seg-longaxisSingleFast_desc-entropy_probseg.nii.gz",
    ]
    assert all(path.is_file() for path in paths)
    for ending in ("dseg.nii.gz", "dseg.tsv", "desc-entropy_probseg.nii.gz"):
        expected = made(segmented, "sub-colin27_T1w", ending).read_bytes()
        assert (tmp_path / "out" / f"colin_seg-longaxisSingleFast_{ending}").read_bytes() == expected


def test_options_bring_further_maps(segmented: Segmented, tmp_path: Path) -> None:
    options = bids_hsf.Options(full_uncertainty=True, probabilities=True, n_augmentations=1)
    with bids_hsf.open_model("longaxis_single_accurate", merge="whole") as model:
        result = model.segment(scan_path(segmented), options=options)
    assert set(result.maps) == {"entropy", "mutual_information", "expected_entropy", "vote_share"}
    assert [volume.abbreviation for volume in result.volumes] == ["L_hippocampus", "R_hippocampus"]
    assert result.volumes["L_hippocampus"].spread is not None
    assert result.probabilities is not None
    assert result.probabilities.shape == (*result.label_map.shape, 2)
    assert len(result.save(tmp_path)) == 8


def test_two_contrasts_join_their_votes(model, segmented: Segmented) -> None:
    t1w, t2w = (scan_path(segmented, f"sub-icbm152_{suffix}") for suffix in ("T1w", "T2w"))
    joined = model.segment(t1w, t2w=t2w)
    assert joined.label_map.shape == nib.load(t1w).shape
    assert all(volume.spread is not None for volume in joined.volumes)


def test_one_call(segmented: Segmented) -> None:
    result = bids_hsf.segment(scan_path(segmented), MODEL)
    assert {volume.hemisphere for volume in result.volumes} == {"L", "R"}


def test_models_are_listed() -> None:
    names = [card.name for card in bids_hsf.list_models()]
    assert {"longaxis_single_fast", "bagging_accurate"} <= set(names)


class TestErrors:
    def test_what_is_missing_is_said_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BIDS_HSF_CACHE", str(tmp_path))
        with pytest.raises(FetchError, match=r"arunet_4\.0\.0b0.*missing.*downloads are off"):
            bids_hsf.open_model("bagging_accurate", download=False)

    def test_names(self) -> None:
        with pytest.raises(ModelError, match="longaxis_single_fast"):
            bids_hsf.open_model("longaxis_singel_fast")
        with pytest.raises(UsageError, match="1/23 is not offered"):
            bids_hsf.open_model(MODEL, merge="1/23")

    def test_images(self, model, tmp_path: Path) -> None:
        with pytest.raises(UnreadableImageError, match="does not exist"):
            model.segment(tmp_path / "none.nii.gz")
        with pytest.raises(UnreadableImageError, match=r"expected an affine of shape \(4, 4\), got \(3, 3\)"):
            model.segment((np.zeros((20, 20, 20)), np.eye(3)))
        with pytest.raises(UnreadableImageError, match="the image is constant"):
            model.segment((np.zeros((20, 20, 20)), np.eye(4)))
        with pytest.raises(UnreadableImageError, match="expected three axes"):
            model.segment((np.zeros((20, 20, 20, 5)), np.eye(4)))


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, bids_hsf; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "nibabel", "torch", "scipy", "onnxruntime", "pydantic", "bids"} & set(loaded)
    assert set(bids_hsf.__all__) <= set(dir(bids_hsf))
    with pytest.raises(AttributeError):
        bids_hsf.nothing_of_the_kind  # noqa: B018

"""Names, bytes and the promise that a file that is there is whole."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_hsf import files
from bids_hsf.bids import maps, names, output_dataset, sidecars, tables
from bids_hsf.errors import OutputError, StorageError


@pytest.fixture
def scan() -> nib.Nifti1Image:
    image = nib.Nifti1Image(np.ones((5, 6, 7), np.int16), nib.affines.from_matvec(np.diag([-0.9, 1.1, 1.0]), [1, 2, 3]))
    image.set_sform(image.affine, code="aligned")
    image.set_qform(image.affine, code="scanner")
    return image


def test_entities_stand_in_bids_order() -> None:
    entities = [("sub", "01"), ("ses", "2"), ("acq", "hi"), ("run", "1"), ("chunk", "3")]
    outputs = names.scan_outputs(Path("/out"), entities, "T2w", "hsfCA123")
    stem = "sub-01_ses-2_acq-hi_run-1_space-T2w_chunk-3_seg-hsfCA123"
    assert outputs.dseg == Path(f"/out/sub-01/ses-2/anat/{stem}_dseg.nii.gz")
    assert outputs.map("entropy") == Path(f"/out/sub-01/ses-2/anat/{stem}_desc-entropy_probseg.nii.gz")
    assert outputs.map(None) == Path(f"/out/sub-01/ses-2/anat/{stem}_probseg.nii.gz")
    assert outputs.figure("entropy") == Path(f"/out/sub-01/figures/{stem}_desc-entropy_dseg.svg")


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


def test_probabilities_come_back_from_their_bytes(tmp_path: Path, scan: nib.Nifti1Image) -> None:
    outputs = names.scan_outputs(tmp_path, [("sub", "01")], "T1w", "x")
    probabilities = np.random.default_rng(0).random((*scan.shape, 4)).astype(np.float32)
    maps.write_probabilities(outputs, probabilities, ["L_a", "L_p", "R_a", "R_p"], scan, "sub-01/anat/a.nii.gz")
    written = nib.load(outputs.map(None))
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_allclose(written.get_fdata(), probabilities, atol=0.5 / 255 + 1e-6)
    sidecar = json.loads(outputs.map(None).with_name("sub-01_space-T1w_seg-x_probseg.json").read_text())
    assert sidecar["LabelMap"] == ["L_a", "L_p", "R_a", "R_p"]


def test_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.tsv"]


def test_full_disk_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="No space left") as caught,
        files.replacing(tmp_path / "x") as temporary,
    ):
        temporary.write_text("half")
        raise OSError(28, os.strerror(28))
    assert str(tmp_path / "x") in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_missing_values_are_written_as_bids_wants(tmp_path: Path) -> None:
    tables.write_tsv(tmp_path / "t.tsv", ["a", "b"], [{"a": 1}, {"a": None, "b": 2.5}])
    assert (tmp_path / "t.tsv").read_text() == "a\tb\n1\tn/a\nn/a\t2.5\n"
    assert tables.read_tsv(tmp_path / "t.tsv")[1] == {"a": "n/a", "b": "2.5"}


def test_a_raw_dataset_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.8.0"}')
    with pytest.raises(OutputError, match="raw BIDS dataset"):
        output_dataset.prepare_output_dir(tmp_path, tmp_path / "bids", "MIT")


def test_root_files_are_left_alone_when_equal(tmp_path: Path) -> None:
    output_dataset.prepare_output_dir(tmp_path / "out", tmp_path, "CC0")
    before = {path: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    output_dataset.prepare_output_dir(tmp_path / "out", tmp_path, "CC0")
    assert {path: path.stat().st_ino for path in (tmp_path / "out").iterdir()} == before


def test_temporary_files_of_killed_runs_go_once_they_are_old(tmp_path: Path) -> None:
    out, logs = tmp_path / "out", tmp_path / "out/logs"
    logs.mkdir(parents=True)
    old = [out / ".README.md.0123abcd", logs / ".CITATION.bib.0255ede6"]
    kept = [logs / ".sub-01_space-T1w_seg-toy.lock", logs / "CITATION.bib", logs / ".CITATION.md.01234567"]
    for path in old + kept:
        path.touch()
    for path in old + kept[:-1]:
        os.utime(path, (0, 0))
    output_dataset.prepare_output_dir(out, tmp_path, "CC0")
    assert [path.exists() for path in old + kept] == [False, False, True, True, True]


def test_licences_of_all_models_of_a_folder_are_told(tmp_path: Path) -> None:
    for text in ("MIT", "CC0", "MIT"):
        output_dataset.prepare_output_dir(tmp_path / "out", tmp_path, text)
    assert json.loads((tmp_path / "out/dataset_description.json").read_text())["License"] == "CC0; MIT"


def test_licences_of_models_that_begin_at_once_are_all_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    describe = output_dataset.dataset_description

    def describe_slowly(*arguments: Any) -> dict[str, Any]:
        time.sleep(0.2)  # between reading what was there and writing
        return describe(*arguments)

    monkeypatch.setattr(output_dataset, "dataset_description", describe_slowly)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda text: output_dataset.prepare_output_dir(tmp_path / "out", tmp_path, text), ["MIT", "CC0"]))
    assert json.loads((tmp_path / "out/dataset_description.json").read_text())["License"] == "CC0; MIT"
    assert list((tmp_path / "out/logs").iterdir()) == []


def test_identity_of_a_scan_with_a_session() -> None:
    sidecar = {
        "Scan": "sub-01_ses-pre_run-2_T1w",
        "Model": {"Name": "m"},
        "Localization": {"Quality": 0.9, "Coverage": {"L": 1.0, "R": 0.5}, "Warnings": ["a", "b"]},
        "Components": {"L": 1, "R": 2},
    }
    row = sidecars.identity_columns(sidecar)
    assert (row["participant_id"], row["session_id"], row["scan"]) == ("sub-01", "ses-pre", "sub-01_ses-pre_run-2_T1w")
    assert row["warnings"] == "a; b"

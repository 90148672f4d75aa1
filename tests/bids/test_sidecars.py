import json
import os
from pathlib import Path
from typing import Any

import pytest
from sidecars import sidecar

from bids_hsf.bids.names import scan_outputs
from bids_hsf.bids.sidecars import Coregistration, Sidecar, find_sidecar, origin, read_sidecar
from bids_hsf.bids.typed_json import ForeignFileError, NotWholeError

JOINED = Coregistration("sub-01_T2w", 0.8, 0.123, ((1.0, 0.0), (0.0, 1.0)))


@pytest.mark.parametrize(
    "changes",
    [{}, {"coregistration": JOINED}, {"etiv_mm3": None, "etiv_reason": "a slab"}, {"long_axis_rule": "thirds"}],
)
def test_what_is_written_is_read_back(tmp_path: Path, changes: dict[str, Any]) -> None:
    written = sidecar(**changes)
    path = tmp_path / "sidecar.json"
    path.write_text(json.dumps(written.to_json()))
    assert read_sidecar(path) == written
    assert list(read_sidecar(path).to_json()) == list(written.to_json())


def test_the_quality_stands_once() -> None:
    content = sidecar().to_json()
    assert content["Localization"]["Quality"] == 0.9312
    assert "localization_quality" not in content
    assert json.dumps(content).count("0.9312") == 1


def test_voxels_of_the_scan_itself_are_told_by_a_word() -> None:
    content = sidecar().to_json()
    assert content["Model"]["VoxelSizeMm"] == 1.0
    content["Model"]["VoxelSizeMm"] = "native"
    read = Sidecar.from_json(content)
    assert read.model.voxel_size_mm is None
    assert read.to_json() == content


def test_sidecars_of_older_versions_may_lack_much() -> None:
    old = {"Scan": "sub-1_T1w", "Model": {"Name": "m"}, "Request": {}, "localization_quality": 0.9}
    read = Sidecar.from_json(old)
    assert (read.scan, read.model.name, read.app_version) == ("sub-1_T1w", "m", "unknown")
    assert (read.passes, read.localization.quality, read.coregistration, read.etiv_mm3) == (None, None, None, None)
    assert read.entities == {"sub": "1"}


def test_what_older_versions_warned_of_is_a_note() -> None:
    content = sidecar(findings=()).to_json()
    content["Localization"]["Warnings"] = ["a slab"]
    read = Sidecar.from_json(content)
    assert [(each.weight, each.text) for each in read.findings] == [("note", "a slab")]
    assert "Warnings" not in read.to_json()["Localization"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Scan": None}, "Scan is missing"),
        ({"Scan": 7}, "Scan is a number, expected a text"),
        ({"Model": [1]}, "Model is a list, expected an object"),
        ({"Model": {}}, "Model.Name is missing"),
        ({"Request": 1}, "Request is a number, expected an object"),
        ({"Localization": 3}, "Localization is a number, expected an object"),
        ({"Localization": {"Quality": "good"}}, "Localization.Quality is a text, expected a finite number"),
        ({"Localization": {"Warnings": [[]]}}, "Localization.Warnings is a list, expected a list of texts"),
        ({"Findings": {}}, "Findings is an object, expected a list"),
        ({"Findings": [{"Code": "a", "Text": "b"}]}, "Findings.Weight is missing"),
        (
            {"Findings": [{"Code": "a", "Text": "b", "Weight": "awful"}]},
            "Findings.Weight is 'awful', expected note, check, fail",
        ),
        ({"Findings": [{"Code": "a", "Weight": "note", "Text": 1}]}, "Findings.Text is a number, expected a text"),
        ({"PredictedDice": {"L": None, "R": "x"}}, "PredictedDice.R is a text, expected a finite number"),
        ({"Components": {"L": "x"}}, "Components.L is a text, expected a finite number"),
        ({"Coregistration": {"Quality": 1}}, "Coregistration.Scan is missing"),
        ({"eTIV_mm3": float("inf")}, "eTIV_mm3 is a number, expected a finite number"),
    ],
)
def test_values_of_another_kind_are_told_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NotWholeError) as caught:
        Sidecar.from_json(sidecar().to_json() | changes)
    assert str(caught.value) == f"it is not whole ({message}); run the participant level again"


def test_a_sidecar_without_its_settings_is_not_whole() -> None:
    content = sidecar().to_json()
    del content["Request"]
    with pytest.raises(NotWholeError, match="Request is missing"):
        Sidecar.from_json(content)


@pytest.mark.parametrize(
    "content", [{}, {"Sources": ["a"], "RawSources": ["b"]}, {"GeneratedBy": {"Name": "fMRIPrep"}, "Scan": "sub-1_T1w"}]
)
def test_sidecars_of_other_software_are_told_apart(content: dict[str, Any]) -> None:
    with pytest.raises(ForeignFileError, match="bids-hsf did not write it"):
        Sidecar.from_json(content)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_what_cannot_be_read_is_not_whole(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sidecar.json"
    path.write_bytes(content)
    with pytest.raises(NotWholeError, match=r"^it (cannot be read|is not whole) .*; run the participant level again$"):
        read_sidecar(path)
    assert find_sidecar(path) is None


def test_pipes_devices_loops_and_sparse_files_are_not_waited_for(tmp_path: Path) -> None:
    pipe, device, loop, sparse = (tmp_path / name for name in ("pipe", "device", "loop", "sparse"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    loop.symlink_to("loop")
    with sparse.open("wb") as stream:
        stream.truncate(6 << 30)
    for path in (pipe, device, loop, sparse, tmp_path):
        with pytest.raises(NotWholeError, match="it cannot be read"):
            read_sidecar(path)


def test_no_sidecar_is_no_fault(tmp_path: Path) -> None:
    assert find_sidecar(tmp_path / "none.json") is None
    with pytest.raises(FileNotFoundError):
        read_sidecar(tmp_path / "none.json")


def test_the_map_of_parts_names_the_map_that_it_was_made_of(tmp_path: Path) -> None:
    whole, parts = [scan_outputs(tmp_path, [("sub", "01")], "T1w", name) for name in ("toy", "toyHBT")]
    made = sidecar().of_parts(whole, parts, "thirds")
    assert made.segmentation == "toyHBT"
    assert made.sources == (*sidecar().sources, "bids::sub-01/anat/sub-01_space-T1w_seg-toy_dseg.nii.gz")
    assert made.to_json()["LongAxisRule"] == "thirds"
    assert "head (1)" in made.description


def test_a_map_lies_in_the_space_of_its_first_source() -> None:
    assert origin(["a", "b"]) == {"SpatialReference": "a", "Sources": ["a", "b"]}

import json
import os
import time
from pathlib import Path

import pytest

from bids_hsf import __version__
from bids_hsf.bids import provenance as records
from bids_hsf.networks.device import Device
from bids_hsf.runs import provenance
from bids_hsf.runs.config import Config


def test_clock_adds_up_by_stage() -> None:
    clock = provenance.Clock()
    for _ in range(2):
        with clock.stage("sleep"):
            time.sleep(0.01)
    with pytest.raises(ValueError, match="x"), clock.stage("fail"):
        raise ValueError("x")
    assert clock.seconds["sleep"] >= 0.02
    assert set(clock.seconds) == {"sleep", "fail"}


def test_record_is_json_and_says_what_ran(tmp_path: Path) -> None:
    device = Device("cpu", "CPUExecutionProvider", {"a": "1"}, 3, "asked for")
    config = Config(tmp_path / "bids", tmp_path / "out", ("participant",), command=("bids-hsf", "x"))
    record = json.loads(
        json.dumps(provenance.record({"Model": "m"}, [], [], device, config, provenance.Clock()).to_json())
    )
    assert record["App"]["Version"] == __version__
    assert record["Request"] == {"Model": "m"}
    assert record["Device"]["Provider"] == "CPUExecutionProvider"
    assert record["Command"] == ["bids-hsf", "x"]
    assert {"numpy", "nibabel", "pybids", "SimpleITK"} <= set(record["Packages"])
    assert 10 < record["PeakMemoryMB"] < 100_000


def test_replaced_image_is_told_from_a_touched_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, gone = tmp_path / "image", tmp_path / "gone"
    image.write_bytes(b"old")
    known = provenance.describe_inputs({"a": image})
    with monkeypatch.context() as patch:
        patch.setattr(records, "checksums", None)  # of size and time alone
        assert provenance.replaced_inputs(known, {"a": image}) == []
    os.utime(image, ns=(0, 0))
    assert provenance.replaced_inputs(known, {"a": image}) == []
    image.write_bytes(b"new")
    assert provenance.replaced_inputs(known, {"a": image}) == ["a"]
    image.write_bytes(b"longer")
    assert provenance.replaced_inputs(known, {"a": image}) == ["a"]
    # What is not there, not asked for or was not recorded may be as it was.
    assert provenance.replaced_inputs(known, {"a": gone}) == []
    assert provenance.replaced_inputs(known, {"b": image}) == []
    assert provenance.replaced_inputs([], {"a": image}) == []
    assert provenance.describe_inputs({"a": gone}) == []


def test_work_folder_follows_tmpdir_where_it_is_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert provenance.default_work_dir(Path("/out")).parent == tmp_path
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    assert provenance.default_work_dir(Path("/out")) == Path("/out/.work")
    monkeypatch.delenv("TMPDIR")
    assert provenance.default_work_dir(Path("/out")) == Path("/out/.work")


def test_what_was_compiled_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("compiled/model.blob", "cache/models/net.onnx", "mine.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    provenance.remove_compiled(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["mine.txt", "net.onnx"]
    provenance.remove_compiled(tmp_path / "gone")

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bids_hsf.bids import output_dataset
from bids_hsf.errors import OutputError


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

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bids_hsf.bids import output_dataset
from bids_hsf.bids.names import MULTISPECTRAL, ScanOutputs, scan_outputs
from bids_hsf.errors import OutputError, StorageError
from bids_hsf.files import claimed


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
    old = [out / ".README.md.bids-hsf-0123abcd", logs / ".CITATION.bib.bids-hsf-0255ede6"]
    # A note of the user's is none, however old and whatever its name looks like.
    kept = [logs / ".sub-01_space-T1w_seg-toy.lock", out / ".notes.20240101", logs / ".CITATION.md.bids-hsf-01234567"]
    for path in old + kept:
        path.touch()
    for path in old + kept[:-1]:
        os.utime(path, (0, 0))
    output_dataset.tidy(out)
    assert [path.exists() for path in old + kept] == [False, False, True, True, True]


def test_claims_of_runs_killed_long_ago_go_unless_they_are_held(tmp_path: Path) -> None:
    old, held, young = (tmp_path / f".sub-{name}_T1w_seg-toy.lock" for name in ("01", "02", "03"))
    temporary, note = tmp_path / ".sub-01_T1w_seg-toy_started.json.bids-hsf-0123abcd", tmp_path / ".my.lock"
    with claimed(held):
        for path in (old, held, young, temporary, note):
            path.touch()
            if path != young:
                os.utime(path, (0, 0))
        output_dataset.tidy(tmp_path / "out", [old, held, young, temporary, note, tmp_path / ".sub-04.lock"])
        assert [path.exists() for path in (old, held, young, temporary, note)] == [False, True, True, False, True]


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


def outputs_of(output_dir: Path, description: str | None = None) -> ScanOutputs:
    return scan_outputs(output_dir, [("sub", "01")], "T1w", "toy", description)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    outputs = outputs_of(tmp_path)
    outputs.sidecar.mkdir(parents=True)
    with pytest.raises(StorageError, match=r"Cannot remove .*_dseg\.json"):
        output_dataset.discard(outputs)


def test_only_what_this_app_writes_is_removed(tmp_path: Path) -> None:
    outputs, joined = outputs_of(tmp_path), outputs_of(tmp_path, MULTISPECTRAL)
    own = [outputs.sidecar, outputs.map("voteshare"), outputs.map(None), outputs.figure("entropy")]
    manual = outputs.dseg.with_name("sub-01_space-T1w_seg-toy_desc-manual_dseg.nii.gz")
    touch(*own, joined.dseg, manual)
    output_dataset.discard(outputs)
    assert [path.exists() for path in own] == [False] * 4
    assert joined.dseg.exists()
    assert manual.exists()
    output_dataset.discard(joined)
    assert not joined.dseg.exists()
    assert manual.exists()


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"Name": "raw"}, "holds a raw BIDS dataset"),
        ({"DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}, "holds the derivatives of fMRIPrep"),
    ],
)
def test_a_folder_of_another_dataset_is_refused(tmp_path: Path, description: dict[str, Any], message: str) -> None:
    (tmp_path / "dataset_description.json").write_text(json.dumps(description))
    with pytest.raises(OutputError, match=message):
        output_dataset.check_output_dir(tmp_path)


@pytest.mark.parametrize("makers", [None, [], "x", [{"Name": "bids-hsf"}, {"Name": "other"}], [7]])
def test_derivatives_of_no_other_app_are_taken(tmp_path: Path, makers: Any) -> None:
    description = {"DatasetType": "derivative", "GeneratedBy": makers}
    (tmp_path / "dataset_description.json").write_text(json.dumps(description))
    output_dataset.check_output_dir(tmp_path)


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is not a folder"):
        output_dataset.check_output_dir(tmp_path / "file" / "out")


def test_the_dataset_tells_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "DatasetDOI": "doi:10.1/2"}')
    monkeypatch.setenv("BIDS_HSF_CONTAINER", "someone/bids-hsf:1.0")
    description = output_dataset.dataset_description(tmp_path, "MIT")
    assert description["SourceDatasets"] == [{"URL": tmp_path.as_uri(), "DOI": "doi:10.1/2"}]
    assert description["GeneratedBy"][0]["Container"] == {"Type": "docker", "Tag": "someone/bids-hsf:1.0"}


@pytest.mark.parametrize("doi", [5, "", ["doi:10.1/2"], None])
def test_what_is_no_doi_is_not_passed_on(tmp_path: Path, doi: Any) -> None:
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "x", "DatasetDOI": doi}))
    assert output_dataset.dataset_description(tmp_path, "MIT")["SourceDatasets"] == [{"URL": tmp_path.as_uri()}]


def test_readme_says_what_lies_there(tmp_path: Path) -> None:
    output_dataset.prepare_output_dir(tmp_path / "out", tmp_path, "MIT")
    text = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    for word in ("_dseg.nii.gz", "group_volumes.tsv", "desc-multispectral", "For research use only"):
        assert word in text
    assert text.endswith("not for clinical use.\n")

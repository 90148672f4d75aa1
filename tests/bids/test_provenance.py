import json
from pathlib import Path

import pytest

from bids_hsf.bids.provenance import Failure, KnownFile, Provenance, read_failure, read_outputs, read_provenance

PROVENANCE = Provenance(
    request={"Seed": 42},
    inputs=(KnownFile("sub-01/anat/sub-01_T1w.nii.gz", 10, 1_795_844_397_729_958_632, "ab"),),
    app={"Name": "bids-hsf"},
    packages={"numpy": "2.0"},
    device={"Provider": "CPUExecutionProvider", "Threads": 2},
    host={"Machine": "x86_64"},
    command=("bids-hsf", "x"),
    container=None,
    seconds={"load": 0.5},
    peak_memory_mb=300,
    finished="2031-04-05T06:07:08+0000",
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "provenance.json"
    path.write_text(json.dumps(PROVENANCE.to_json()))
    assert read_provenance(path) == PROVENANCE


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"Inputs": "x"}', '{"Inputs": [{"Path": "a"}]}', '{"Seconds": {"load": "long"}}']
)
def test_what_is_not_whole_says_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "provenance.json"
    path.write_text(content)
    assert read_provenance(path) == read_provenance(tmp_path / "none.json") == Provenance()


@pytest.mark.parametrize("content", ["[]", "{", '{"Outputs": "x"}', '{"Outputs": [{"Path": ["a"]}]}'])
def test_of_outputs_that_are_not_whole_none_are_known(tmp_path: Path, content: str) -> None:
    path = tmp_path / "provenance.json"
    path.write_text(content)
    assert read_outputs(path, {"a"}) == ()


def test_failures_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "failure.json"
    failure = Failure("truncated file", "fetch it", 65)
    path.write_text(json.dumps(failure.to_json()))
    assert read_failure(path) == failure
    path.write_text('{"Error": 7}')
    assert read_failure(path) == read_failure(tmp_path / "none.json") == Failure("")

import json
import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bids_trees import write_scan, write_tree

from bids_hsf import validation
from bids_hsf.validation import link_subjects, run_validator, validate_input


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = write_tree(
        tmp_path / "bids",
        ["sub-01/ses-1/func/sub-01_ses-1_task-x_bold.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz", "T1w.json"],
    )
    (root / "README").write_text("Phantoms")
    write_scan(root / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz")
    return root


def test_tree_of_links_holds_the_chosen_anatomy_alone(dataset: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    link_subjects(dataset, ["01"], tree)
    files = sorted(p.relative_to(tree).as_posix() for p in tree.glob("**/*") if p.is_file() or p.is_symlink())
    assert files == ["README", "T1w.json", "dataset_description.json", "sub-01/ses-1/anat"]
    assert (tree / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz").read_bytes()


def test_wrong_name_is_found_and_told_in_a_few_lines(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_scan(dataset / "sub-01/ses-1/anat/sub-01_T1w_acq-x_ses-1.nii.gz")
    with caplog.at_level(logging.INFO):
        counts = validate_input(dataset, ["01"], tmp_path)
    assert sum(counts.values()) >= 1
    assert "sub-01_T1w_acq-x_ses-1.nii.gz" in caplog.text
    assert len(caplog.records) <= validation.SHOWN_FINDINGS + 1
    assert list(tmp_path.iterdir()) == [dataset]


def test_sound_dataset_passes(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert not validate_input(dataset, ["01"], tmp_path)
    assert "BIDS validator: no errors" in caplog.text


def test_root_sidecar_of_what_was_not_chosen_is_no_finding(dataset: Path, tmp_path: Path) -> None:
    (dataset / "T2w.json").write_text("{}")
    assert not validate_input(dataset, ["01"], tmp_path)


def test_broken_links_of_other_subjects_do_not_matter(dataset: Path, tmp_path: Path) -> None:
    (dataset / "sub-02/anat/sub-02_T2w.nii.gz").symlink_to("gone")
    assert not validate_input(dataset, ["01"], tmp_path)


@pytest.mark.parametrize(
    "failure", [OSError("no such program"), subprocess.TimeoutExpired("x", 1), None], ids=["absent", "slow", "silent"]
)
def test_validator_that_cannot_run_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception | None
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        if failure is not None:
            raise failure
        return subprocess.CompletedProcess([], 1, stdout="", stderr="panicked")

    monkeypatch.setattr(subprocess, "run", fail)
    assert run_validator(tmp_path, tmp_path) is None
    assert "the input is not validated" in caplog.text


def test_many_kinds_of_findings_are_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    issues = [{"code": f"CODE_{i}", "severity": "error", "location": f"/file{i}"} for i in range(30)]
    issues.append({"code": "SOFT", "severity": "warning", "location": "/x"})
    report = json.dumps({"issues": {"issues": issues}})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 16, stdout=report))
    counts = validate_input(write_tree(tmp_path / "bids", []), [], tmp_path)
    assert len(counts) == 30
    assert len(caplog.records) == validation.SHOWN_FINDINGS + 1
    assert "22 further kinds" in caplog.text

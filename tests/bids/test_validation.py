import errno
import fcntl
import logging
import os
import sys
import tempfile
from pathlib import Path

import pytest
from bids_trees import write_scan, write_tree

from bids_hsf.bids import validation
from bids_hsf.bids.validation import link_subjects, tell_findings, validating


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
    image = "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"
    assert files == ["README", "T1w.json", "dataset_description.json", image]
    assert (tree / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz").read_bytes()


def test_wrong_name_is_found_and_told_in_a_few_lines(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_scan(dataset / "sub-01/ses-1/anat/sub-01_T1w_acq-x_ses-1.nii.gz")
    with caplog.at_level(logging.INFO), validating(dataset, ["01"], tmp_path):
        pass
    assert "sub-01_T1w_acq-x_ses-1.nii.gz" in caplog.text
    assert len(caplog.records) <= validation.SHOWN_FINDINGS + 1
    assert list(tmp_path.iterdir()) == [dataset]


def test_sound_dataset_passes(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), validating(dataset, ["01"], tmp_path):
        pass
    assert "BIDS validator: no errors" in caplog.text


def test_root_sidecar_of_what_was_not_chosen_is_no_finding(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (dataset / "T2w.json").write_text("{}")
    with caplog.at_level(logging.INFO), validating(dataset, ["01"], tmp_path):
        pass
    assert [record.getMessage() for record in caplog.records] == ["BIDS validator: no errors"]


def test_broken_links_of_other_subjects_do_not_matter(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (dataset / "sub-02/anat/sub-02_T2w.nii.gz").symlink_to("gone")
    with caplog.at_level(logging.INFO), validating(dataset, ["01"], tmp_path):
        pass
    assert [record.getMessage() for record in caplog.records] == ["BIDS validator: no errors"]


def install_validator(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    """Let a shell script stand where deno does; with None there is none."""
    (folder / "bin").mkdir()
    monkeypatch.setattr(sys, "executable", str(folder / "bin" / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if script is not None:
        (folder / "bin" / "deno").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bin" / "deno").chmod(0o755)


@pytest.mark.parametrize("script", [None, "exec sleep 60", "echo panicked"], ids=["absent", "slow", "silent"])
def test_validator_that_cannot_run_stops_nothing(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, script: str | None
) -> None:
    install_validator(tmp_path, monkeypatch, script)
    monkeypatch.setattr(validation, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(validation, "SECONDS_A_SUBJECT", 0)
    with validating(dataset, ["01"], tmp_path):
        pass
    assert "the input is not validated" in caplog.text


def test_whoever_leaves_by_an_error_does_not_wait(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install_validator(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(KeyboardInterrupt), validating(dataset, ["01"], tmp_path):
        raise KeyboardInterrupt
    assert not caplog.records  # a validator that had ended by itself would be told of: it said nothing
    assert not list(tmp_path.glob("bids-hsf-validate-*"))


def test_error_of_the_run_leaves_no_finding_unsaid(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(validation, "GRACE_SECONDS", 120.0)
    write_scan(dataset / "sub-01/ses-1/anat/sub-01_T1w_acq-x_ses-1.nii.gz")
    with pytest.raises(KeyError), validating(dataset, ["01"], tmp_path):
        raise KeyError
    assert "sub-01_T1w_acq-x_ses-1.nii.gz" in caplog.text
    # But it does not wait for long.
    caplog.clear()
    install_validator(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(validation, "GRACE_SECONDS", 0.1)
    with caplog.at_level(logging.INFO), pytest.raises(KeyError), validating(dataset, ["01"], tmp_path):
        raise KeyError
    assert [record.getMessage() for record in caplog.records] == ["BIDS validator: stopped before it had ended"]


def test_many_subjects_are_validated_in_parts_and_told_together(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    issue = '{"code": "%s", "severity": "error", "location": "/%s"}'
    found = ", ".join((issue % ("ROOT", "README"), issue % ("SUBJECT", "$(ls -d sub-*)")))
    install_validator(tmp_path, monkeypatch, f"""cat <<END\n{{"issues": {{"issues": [{found}]}}}}\nEND""")
    monkeypatch.setattr(validation, "SUBJECTS_AT_ONCE", 1)
    with caplog.at_level(logging.INFO), validating(dataset, ["02", "01"], tmp_path):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "BIDS validator: SUBJECT in 2 place(s), first /sub-01",
        "BIDS validator: ROOT in 1 place(s), first /README",
    ]


def test_many_kinds_of_findings_are_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    issues = [{"code": f"CODE_{i}", "severity": "error", "location": f"/file{i}"} for i in range(30)]
    issues.append({"code": "SOFT", "severity": "warning", "location": "/x"})
    counts = tell_findings({"issues": {"issues": issues}})
    assert len(counts) == 30
    assert len(caplog.records) == validation.SHOWN_FINDINGS + 1
    assert "22 further kinds" in caplog.text


def test_what_would_keep_the_validator_for_ever_is_not_shown_to_it(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anat = dataset / "sub-01/ses-1/anat"
    for path in (dataset / "T1w.json", anat / "sub-01_ses-1_T1w.json"):
        with path.open("wb") as stream:
            stream.truncate(6 << 30)  # sparse: nothing on the disk
    os.mkfifo(anat / "sub-01_ses-1_run-2_T1w.json")
    with caplog.at_level(logging.INFO), validating(dataset, ["01"], tmp_path):
        pass
    messages = [record.getMessage() for record in caplog.records]
    assert messages[-1] == "BIDS validator: no errors"
    assert sorted(message.split()[2].rsplit("/", 1)[1] for message in messages[:-1]) == [
        "T1w.json",
        "sub-01_ses-1_T1w.json",
        "sub-01_ses-1_run-2_T1w.json",
    ]


def test_folders_of_killed_runs_go_and_those_of_others_stay(dataset: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "work"
    dead, alive, other = (
        work_dir / name for name in (f"{validation.FOLDER_PREFIX}a", f"{validation.FOLDER_PREFIX}b", "validate-me")
    )
    for folder in (dead, alive, other):
        (folder / "from-01").mkdir(parents=True)
        os.utime(folder, (0, 0))
    descriptor = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with validating(dataset, ["01"], work_dir):
            pass
    finally:
        os.close(descriptor)
    assert [folder.exists() for folder in (dead, alive, other)] == [False, True, True]


def test_links_lie_elsewhere_where_the_work_folder_knows_none(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    work_dir, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    work_dir.mkdir()
    elsewhere.mkdir()
    whole = os.symlink

    def refuse(target: str, link: str, *rest: object) -> None:
        if work_dir in Path(link).parents:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        whole(target, link)

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    with caplog.at_level(logging.INFO), validating(dataset, ["01"], work_dir):
        assert list(elsewhere.glob(f"{validation.FOLDER_PREFIX}*"))
    assert [record.getMessage() for record in caplog.records] == ["BIDS validator: no errors"]
    assert [*work_dir.iterdir(), *elsewhere.iterdir()] == []


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_a_validator_that_was_sent_a_signal_is_no_trouble(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    install_validator(tmp_path, monkeypatch, f"kill -{name} $$")
    with caplog.at_level(logging.INFO), validating(dataset, ["01"], tmp_path):
        pass
    assert caplog.text == ""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bids_trees import model_card

from bids_hsf import __version__
from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.provenance import Provenance, describe_file
from bids_hsf.errors import OutputError
from bids_hsf.files import write_json
from bids_hsf.runs.config import Config
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.planning import plan_jobs
from bids_hsf.runs.states import State, changed, difference, is_done_by_now, state_of, unfinished


def scan(name: str) -> Scan:
    *pairs, suffix = name.split("_")
    entities = tuple((pair.split("-")[0], pair.split("-")[1]) for pair in pairs)
    return Scan(Path("/bids") / f"{name}.nii.gz", f"{name}.nii.gz", suffix, entities)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(Path("/bids"), tmp_path, ("participant",))


def plan(config: Config, *names: str) -> list[Job]:
    return plan_jobs([scan(name) for name in names or ("sub-01_T1w",)], model_card(), None, config)


def finish(job: Job, **sidecar: Any) -> None:
    for path in job.expected_files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    maker = {"Name": "bids-hsf", "Version": __version__}
    content = {"Scan": job.key, "Model": {"Name": "m"}, "Request": dict(job.request), "GeneratedBy": maker, **sidecar}
    job.outputs.sidecar.write_text(json.dumps(content))


def test_states_in_the_life_of_a_scan(config: Config) -> None:
    (job,) = plan(config)
    assert state_of(job) is State.MISSING
    job.outputs.failure.parent.mkdir(parents=True)
    job.outputs.failure.write_text("{}")
    assert state_of(job) is State.FAILED
    finish(job)
    assert state_of(job) is State.DONE
    assert state_of(replace(job, request={**job.request, "Seed": 7})) is State.DIFFERENT


def test_result_of_a_file_of_another_name_is_of_another_image(config: Config) -> None:
    (job,) = plan(config)
    finish(job)
    job.outputs.provenance.parent.mkdir(parents=True)

    def state_after(made_of: str) -> State:
        image = {"Path": made_of, "Bytes": 1, "ModifiedNs": 0, "SHA256": "ab"}
        job.outputs.provenance.write_text(json.dumps({"Inputs": [image]}))
        return state_of(job)

    assert job.scan.relative_path == "sub-01_T1w.nii.gz"
    assert state_after("sub-01_T1w.nii") is State.DONE  # compressed since
    assert state_after("sub-01_space-MNI_T1w.nii.gz") is State.REPLACED
    job.outputs.provenance.write_text(json.dumps({"Inputs": "nonsense"}))
    assert state_of(job) is State.DONE


@pytest.mark.parametrize("place", range(7))
def test_a_scan_that_lacks_any_file_is_not_done(config: Config, place: int) -> None:
    (job,) = plan(config)
    finish(job)
    assert len(job.expected_files) == 7
    job.expected_files[place].unlink()
    assert state_of(job) is State.MISSING
    assert unfinished([job], force=False) == [job]


def test_damaged_sidecar_is_as_good_as_none(config: Config) -> None:
    (job,) = plan(config)
    finish(job)
    job.outputs.sidecar.write_text('{"Request":')
    assert state_of(job) is State.MISSING


def test_only_what_is_missing_is_done_again(config: Config) -> None:
    jobs = plan(config, "sub-01_T1w", "sub-02_T1w", "sub-03_T1w")
    finish(jobs[1])
    assert [job.key for job in unfinished(jobs, force=False)] == ["sub-01_T1w", "sub-03_T1w"]
    assert unfinished(jobs, force=True) == jobs


def test_other_settings_in_one_folder_are_refused_and_named(config: Config) -> None:
    (job,) = plan(config)
    finish(job)
    other = replace(job, request={**job.request, "Seed": 7})
    with pytest.raises(OutputError, match="Seed was 42, now 7") as caught:
        unfinished([other], force=False)
    assert "--force" in (caught.value.hint or "")
    assert unfinished([other], force=True) == [other]
    with pytest.raises(OutputError, match="Seed was 42, now 7"):
        is_done_by_now(other)
    assert is_done_by_now(job)
    files = replace(job, request={**job.request, "Members": {}})
    with pytest.raises(OutputError, match="other model files"):
        unfinished([files], force=False)


def test_results_of_another_version_are_said(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    (job,) = plan(config)
    finish(job, GeneratedBy={"Name": "bids-hsf", "Version": "0.0.1"})
    assert unfinished([job], force=False) == []
    assert "bids-hsf 0.0.1" in caplog.text


def recorded(job: Job) -> None:
    """Record the files of a job as they are."""
    root = job.outputs.output_dir
    known = tuple(describe_file(path.relative_to(root).as_posix(), path) for path in job.expected_files)
    write_json(job.outputs.provenance, Provenance(outputs=known).to_json())


@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("spoil", ["", "x" * 9000], ids=["empty", "other"])
def test_a_scan_with_a_file_that_is_not_as_it_was_written_is_not_done(
    config: Config, place: int, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    (job,) = plan(config)
    finish(job)
    recorded(job)
    assert state_of(job) is State.DONE
    path = job.expected_files[place]
    path.write_text(spoil if path != job.outputs.sidecar else path.read_text() + "\n")
    assert state_of(job) is State.CHANGED
    assert changed(job) == [path.name]
    assert unfinished([job], force=False) == [job]
    assert f"{job.key} is done again: {path.name} is not as it was written" in caplog.text


def test_a_change_of_the_same_size_is_found_and_a_copy_is_not_taken_for_one(config: Config) -> None:
    (job,) = plan(config)
    finish(job)
    recorded(job)
    for path in job.expected_files:
        os.utime(path, (0, 0))  # as a copy or DataLad leaves it
    assert state_of(job) is State.DONE
    job.outputs.table.write_text("y")
    assert state_of(job) is State.CHANGED


def test_an_empty_file_is_never_done_even_without_a_record(config: Config) -> None:
    (job,) = plan(config)
    finish(job)
    job.outputs.dseg.write_text("")
    assert state_of(job) is State.CHANGED


def test_a_name_that_no_disk_takes_has_failed_before_any_work(config: Config) -> None:
    (job,) = plan(config, f"sub-{'a' * 240}_T1w")
    assert job.name_fault is not None
    assert "expected at most 255" in job.name_fault
    assert state_of(job) is State.FAILED


def test_names_that_differ_in_case_alone_are_refused_where_the_disk_does_not_tell_them_apart(config: Config) -> None:
    several = plan(config, "sub-Ab_T1w", "sub-aB_T1w", "sub-02_T1w")
    description = config.output_dir / "dataset_description.json"
    description.write_text("{}")
    assert len(unfinished(several, force=False)) == 3
    description.with_name("DATASET_DESCRIPTION.JSON").write_text("{}")  # as exFAT shows it
    for force in (False, True):
        with pytest.raises(OutputError, match=r"sub-Ab_T1w and of sub-aB_T1w .* upper and lower case"):
            unfinished(several, force)
        # One page a participant.
        with pytest.raises(OutputError, match="sub-Ab_T1w and of sub-aB_T2w"):
            unfinished(plan(config, "sub-Ab_T1w", "sub-aB_T2w"), force)
    assert len(unfinished(plan(config, "sub-Ab_ses-1_T1w", "sub-Ab_ses-2_T1w", "sub-02_T1w"), force=False)) == 3


def test_results_of_another_scan_under_the_same_name_are_never_replaced(config: Config) -> None:
    for name in ("dataset_description.json", "DATASET_DESCRIPTION.JSON"):
        (config.output_dir / name).write_text("{}")
    (job,) = plan(config, "sub-aB_T1w")
    finish(job, Scan="sub-Ab_T1w")  # of a run on that participant alone
    assert state_of(job) is State.DIFFERENT
    assert difference(job) == "it is of sub-Ab_T1w, which is the same name to this disk"
    for force in (False, True):
        with pytest.raises(OutputError, match="Results of sub-Ab_T1w and of sub-aB_T1w would have the same names"):
            unfinished([job], force)
    with pytest.raises(OutputError, match="same names"):
        is_done_by_now(job)

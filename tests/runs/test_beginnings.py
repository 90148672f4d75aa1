import json
import os
import platform
import threading
import time
from pathlib import Path

import pytest
from bids_trees import model_card

from bids_hsf.bids.dataset import Scan
from bids_hsf.errors import ScanError
from bids_hsf.files import claimed
from bids_hsf.runs.beginnings import STALE_SECONDS, Beginning, is_at_work, read_beginning, scheduler_job, told
from bids_hsf.runs.config import Config
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.planning import plan_jobs
from bids_hsf.runs.signals import Stopped
from bids_hsf.runs.states import State, judged, state_of


@pytest.fixture
def job(tmp_path: Path) -> Job:
    path = "sub-01/anat/sub-01_T1w.nii.gz"
    scan = Scan(tmp_path / "bids" / path, path, "T1w", (("sub", "01"),))
    (job,) = plan_jobs([scan], model_card(), None, Config(tmp_path / "bids", tmp_path / "out", ("participant",)))
    return job


def test_a_record_is_there_while_a_scan_is_worked_on_and_goes_with_its_end(job: Job) -> None:
    with claimed(job.outputs.claim), told(job):
        beginning = read_beginning(job.outputs.started)
        assert beginning is not None
        assert (beginning.host, beginning.process) == (platform.node(), os.getpid())
        assert state_of(job) is State.RUNNING
    assert state_of(job) is State.MISSING
    with pytest.raises(ScanError), told(job):
        raise ScanError("cut", "mend it")
    assert state_of(job) is State.MISSING  # whoever hears of the error records it


def test_what_a_killed_run_left_beside_its_record_goes_even_if_the_scan_fails(job: Job) -> None:
    old = job.outputs.started.with_name(".sub-01_failure.json.bids-hsf-0123abcd")
    old.parent.mkdir(parents=True)
    old.write_text("half a")
    os.utime(old, (0, 0))
    with pytest.raises(ScanError), told(job):
        raise ScanError("cut", "mend it")
    assert not old.exists()


def test_what_was_stopped_or_killed_is_told_so_and_not_as_missing(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "123")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    job.outputs.failure.parent.mkdir(parents=True)
    job.outputs.failure.write_text('{"Error": "of an earlier run"}')
    for error, signal in ((Stopped(), "SIGTERM"), (KeyboardInterrupt(), "SIGINT")):
        with pytest.raises((Stopped, KeyboardInterrupt)), claimed(job.outputs.claim), told(job):
            raise error
        assert state_of(job) is State.KILLED
        beginning = read_beginning(job.outputs.started)
        assert beginning is not None
        assert beginning.ended_by == signal
        assert beginning.told.startswith(f"job 123_4 on {platform.node()} began it at ")
        assert beginning.told.endswith(f"was ended by {signal}")


def test_whoever_is_elsewhere_is_at_work_as_long_as_there_are_signs_of_life(job: Job) -> None:
    record, claim = job.outputs.started, job.outputs.claim
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps(Beginning("today", "another", 7).to_json()))
    elsewhere = read_beginning(record)
    assert elsewhere is not None
    assert is_at_work(elsewhere, record, claim)
    assert not is_at_work(Beginning("today", platform.node(), 7), record, claim)  # here the lock tells
    old = record.stat().st_mtime - 2 * STALE_SECONDS
    os.utime(record, (old, old))
    assert not is_at_work(elsewhere, record, claim)
    with claimed(claim):
        assert is_at_work(elsewhere, record, claim)
    assert "killed without a word" in elsewhere.told


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_clock_that_is_wrong_by_hours_makes_nobody_killed_and_nobody_immortal(
    job: Job, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr("bids_hsf.runs.beginnings.BEAT_SECONDS", 0.2)
    records = [job.outputs.started, job.outputs.started.with_name("sub-01_T2w_started.json")]
    records[0].parent.mkdir(parents=True)
    over = threading.Event()

    def touch(record: Path) -> None:
        at = time.time() + 3600 * hours
        os.utime(record, (at, at))

    def live() -> None:
        while not over.wait(0.05):
            touch(records[0])

    for record in records:
        record.write_text(json.dumps(Beginning("today", "another", 7).to_json()))
        touch(record)
    living = threading.Thread(target=live)
    living.start()
    try:
        alive, dead = (
            is_at_work(Beginning("today", "another", 7), record, job.outputs.claim, watch=True) for record in records
        )
        assert alive
        assert not dead
        assert judged(job, None, watch=True) is State.RUNNING
    finally:
        over.set()
        living.join()


def test_old_signs_of_life_are_not_waited_for(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bids_hsf.runs.beginnings.time.sleep", lambda _seconds: pytest.fail("it waits"))
    record = job.outputs.started
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps(Beginning("today", "another", 7).to_json()))
    os.utime(record, (0, 0))
    assert not is_at_work(Beginning("today", "another", 7), record, job.outputs.claim, watch=True)
    os.utime(record, (time.time() - 3600,) * 2)
    assert state_of(job) is State.KILLED  # a run that only wants to know what is to be done


def test_a_record_that_is_damaged_still_tells_that_somebody_began(tmp_path: Path) -> None:
    path = tmp_path / "started.json"
    assert read_beginning(path) is None
    path.write_text('{"Started": 3}')
    assert read_beginning(path) == Beginning("?", "?", 0)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "9"}, "9"),
        ({"SLURM_JOB_ID": "11", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "2"}, "9_2"),
        ({"PBS_JOBID": "7[3].host"}, "7[3].host"),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "0"}, "5"),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "8"}, "5[8]"),
        ({"JOB_ID": "6", "SGE_TASK_ID": "undefined"}, "6"),
        ({"JOB_ID": "6", "SGE_TASK_ID": "1"}, "6[1]"),
    ],
)
def test_names_of_jobs_are_the_schedulers_own(environ: dict[str, str], name: str | None) -> None:
    assert scheduler_job(environ) == name

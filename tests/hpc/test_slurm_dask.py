"""Dask asks a real Slurm for workers: cancelled ones cost nothing, held ones are waited for, dead ones end the run."""

import subprocess
import time
from pathlib import Path

import pytest
from fast_app import write_card, write_dataset
from slurm import Slurm
from toy_runs import HANG_SECONDS, Place, wait_for, wait_until

pytestmark = pytest.mark.hpc

JOB = """
jobqueue:
  slurm:
    name: {name}
    cores: 1
    processes: 1
    memory: 1500MB
    walltime: "00:20:00"
    interface: lo
    log-directory: {logs}
    {more}
    scheduler-options: {{dashboard_address: ":0"}}
distributed:
  adaptive: {{minimum: 2}}
"""


@pytest.fixture
def place(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environ[name])
    place = Place(write_dataset(tmp_path / "bids", 8), write_card(tmp_path), tmp_path / "reference")
    assert place.run(place.reference).returncode == 0
    return place


def jobs(name: str, state: str = "RUNNING") -> list[str]:
    """Numbers of the jobs of this name in a state."""
    command = ["squeue", "-h", "-o", "%i", "-n", name, "-t", state]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def files(out: Path) -> dict[str, bytes]:
    found = {path for pattern in ("sub-*/**/*", "*.html", "*.tsv") for path in out.glob(pattern) if path.is_file()}
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


def test_a_cancelled_worker_costs_nothing(place: Place, tmp_path: Path) -> None:
    name, gate = f"hsf-{tmp_path.name[-20:]}", tmp_path / "gate"
    settings = tmp_path / "slurm.yaml"
    settings.write_text(JOB.format(name=name, logs=tmp_path / "jobs", more=""))
    words = ("--executor", "dask", "--dask-jobqueue", settings, "--nprocs", "2")
    with place.start(tmp_path / "out", *words, gate=gate, cwd=tmp_path) as client:
        locks = tmp_path / "out" / "logs"
        # Two scans are under way: each in a job of its own.
        wait_until(
            lambda: (len(list(locks.rglob("*.lock"))) >= 2 and len(jobs(name)) == 2) or client.poll() is not None
        )
        assert client.poll() is None, client.stderr.read() if client.stderr else ""
        cancelled = jobs(name)[0]
        subprocess.run(["scancel", "--signal=KILL", cancelled], check=True)
        subprocess.run(["scancel", cancelled], check=True)
        wait_until(lambda: cancelled not in jobs(name))
        gate.touch()
        _, said = client.communicate(timeout=HANG_SECONDS)
    assert client.returncode == 0, said
    assert "8 of 8 scan(s) done" in said
    assert files(tmp_path / "out") == files(place.reference)
    wait_until(lambda: not jobs(name))


def settings(tmp_path: Path, more: str, minutes: float = 0.1) -> tuple[str, tuple[object, ...]]:
    """Name of the jobs, and the words of a run that waits some seconds for workers."""
    name, path = f"hsf-{tmp_path.name[-20:]}", tmp_path / "slurm.yaml"
    path.write_text(JOB.format(name=name, logs=tmp_path / "jobs", more=more))
    return name, ("--executor", "dask", "--dask-jobqueue", path, "--nprocs", "2", "--dask-wait", minutes)


def test_jobs_in_the_queue_are_waited_for_longer_than_no_workers(place: Place, tmp_path: Path) -> None:
    # In half a minute workers start on a busy machine, too.
    name, words = settings(tmp_path, 'job-extra-directives: ["--hold"]', 0.5)
    with place.start(tmp_path / "out", *words, cwd=tmp_path) as client:
        wait_for(client, "wait in the queue of the batch system")
        time.sleep(40)  # longer than it would wait without a queue
        assert client.poll() is None
        while client.poll() is None:
            held = jobs(name, "PENDING")
            subprocess.run(["scontrol", "release", ",".join(held)], check=False) if held else time.sleep(0.5)
        said = client.stderr.read() if client.stderr else ""
    assert client.returncode == 0, said
    assert "8 of 8 scan(s) done" in said


def test_jobs_that_end_without_a_worker_end_the_run(place: Place, tmp_path: Path) -> None:
    name, words = settings(tmp_path, 'job-script-prologue: ["exit 1"]')
    with place.start(tmp_path / "out", *words, cwd=tmp_path) as client:
        _, said = client.communicate(timeout=HANG_SECONDS)
    assert client.returncode == 69, said
    assert "No worker of Dask has been there for 0.1 minute(s)" in said
    numbers = {log.stem.rpartition("-")[2] for log in (tmp_path / "jobs").glob("*.err")}
    assert numbers
    assert all(number in said for number in numbers)
    assert not jobs(name, "PENDING")
    assert "8 not begun" not in said  # nothing was: no summary of nothing

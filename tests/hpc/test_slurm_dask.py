"""Dask asks a real Slurm for its workers; one is cancelled in the midst, and the outputs are those of one process."""

import subprocess
from pathlib import Path

import pytest
from fast_app import write_card, write_dataset
from slurm import Slurm
from toy_runs import HANG_SECONDS, Place, wait_until

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


def jobs(name: str) -> list[str]:
    """Numbers of the jobs of this name that run."""
    command = ["squeue", "-h", "-o", "%i", "-n", name, "-t", "RUNNING"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def files(out: Path) -> dict[str, bytes]:
    found = {path for pattern in ("sub-*/**/*", "*.html", "*.tsv") for path in out.glob(pattern) if path.is_file()}
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


def test_a_cancelled_worker_costs_nothing(place: Place, tmp_path: Path) -> None:
    name, gate = f"hsf-{tmp_path.name[-20:]}", tmp_path / "gate"
    settings = tmp_path / "slurm.yaml"
    settings.write_text(JOB.format(name=name, logs=tmp_path / "jobs"))
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

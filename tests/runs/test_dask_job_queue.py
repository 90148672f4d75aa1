"""What a batch system is asked for workers with, and what it says of their jobs."""

from pathlib import Path

import pytest
from fake_tasks import FakeFunction, FakeTask

from bids_hsf.errors import UsageError
from bids_hsf.runs.dask_engine import DaskEngine
from bids_hsf.runs.dask_job_queue import BATCH_SYSTEMS, n_in_queue

PBS_HEAD = """
pbs:
                                                            Req'd  Req'd   Elap
Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time
--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----
"""
SGE_HEAD = """job-ID  prior   name       user         state submit/start at     queue                  slots ja-task-ID
--------------------------------------------------------------------------------------------------------------
"""

# Of jobs 11 (waits), 12 (runs) and 111, of somebody's other work, which waits.
LISTED = {
    "slurm": ("squeue", "11 PD\n12 R\n111 PD\n"),
    "pbs": (
        "qstat",
        PBS_HEAD
        + "11.pbs          ann      workq    dask-work*    --    1   1    2gb 04:00 Q   --\n"
        + "12.pbs          ann      workq    dask-work*  17110   1   1    2gb 04:00 R 00:01\n"
        + "111.pbs         ann      workq    other         --    1   1    2gb 04:00 Q   --\n",
    ),
    "sge": (
        "qstat",
        SGE_HEAD
        + "     11 0.00000 dask-worke ann          qw    11/28/2026 18:00:00                         1\n"
        + "     12 0.55500 dask-worke ann          r     11/28/2026 18:00:00 all.q@node1             1\n"
        + "    111 0.00000 other      ann          hqw   11/28/2026 18:00:00                         1\n",
    ),
    "lsf": (
        "bjobs",
        "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n"
        "11      ann     PEND  normal     head                    dask-worker Nov 28 18:00\n"
        "12      ann     RUN   normal     head        node1       dask-worker Nov 28 18:00\n"
        "111     ann     PEND  normal     head                    other      Nov 28 18:00\n",
    ),
    "htcondor": ("condor_q", "11.0 status-1\n12.0 status-2\n111.0 status-1\n"),
    "oar": (
        "oarstat",
        "Job id     Name           User           Submission Date     S Queue\n"
        "---------- -------------- -------------- ------------------- - ----------\n"
        "11         dask-worker    ann            2026-11-28 18:00:00 W default\n"
        "12         dask-worker    ann            2026-11-28 18:00:00 R default\n"
        "111        other          ann            2026-11-28 18:00:00 W default\n",
    ),
    "moab": (
        "showq",
        "eligible jobs----------------------\n"
        "JOBID              USERNAME      STATE  PROCS     WCLIMIT            QUEUETIME\n"
        "11                 ann            Idle      1    04:00:00  Sat Nov 28 18:00:00\n"
        "12                 ann         Running      1    04:00:00  Sat Nov 28 18:00:00\n"
        "111                ann            Idle      1    04:00:00  Sat Nov 28 18:00:00\n",
    ),
}


def stand_in(folder: Path, command: str, body: str) -> None:
    path = folder / command
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins, first on the path."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_every_batch_system_is_known_here() -> None:
    assert set(LISTED) == set(BATCH_SYSTEMS)


@pytest.mark.parametrize("name", LISTED)
def test_jobs_that_have_not_begun_are_counted(name: str, commands: Path) -> None:
    command, listing = LISTED[name]
    (commands / "listing").write_text(listing)
    stand_in(commands, command, f"cat '{commands / 'listing'}'")
    suffix = ".0" if name == "htcondor" else ""
    assert n_in_queue(name, [f"11{suffix}", f"12{suffix}", f"13{suffix}"]) == 1
    assert n_in_queue(name, [f"12{suffix}"]) == 0
    assert n_in_queue(name, []) == 0


def test_a_batch_system_that_does_not_answer_says_nothing(commands: Path) -> None:
    stand_in(commands, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    assert n_in_queue("slurm", ["11"]) is None
    assert n_in_queue("oar", ["11"]) is None  # no such command


def test_lsf_fails_where_there_are_no_jobs(commands: Path) -> None:
    stand_in(commands, "bjobs", "echo 'No unfinished job found' >&2; exit 255")
    assert n_in_queue("lsf", ["11"]) == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("jobqueue: {slurm: {cores: 1, memory: 2GB}, pbs: {cores: 1}}", "expected one of slurm, pbs"),
        ("jobqueue: {cloud: {cores: 1}}", "expected one of slurm, pbs"),
        ("queue: long", "expected one of slurm, pbs"),
        ("jobqueue: {slurm: {memory: 2GB}}", "lacks the setting cores"),
        ("jobqueue: {slurm: {cores: 1, memory: 2GB, planets: 9}}", "planets"),
        ("jobqueue: [", "jobs.yaml.*line 1"),
        ("- jobqueue", "jobs.yaml.*got a list"),
    ],
)
def test_a_configuration_of_no_batch_system_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=reason):
        list(DaskEngine(job_queue=path).run([FakeTask("a")], FakeFunction, False))


def test_a_batch_system_that_takes_no_job_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jobs.yaml"
    options = "{dashboard_address: ':0'}"
    path.write_text(f"jobqueue: {{slurm: {{cores: 1, memory: 2GB, queue: moon, scheduler-options: {options}}}}}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="sbatch"):
        list(DaskEngine(job_queue=path).run([FakeTask("a")], FakeFunction, False))
    command = tmp_path / "sbatch"
    command.write_text("#!/bin/sh\necho 'invalid partition specified: moon' >&2\nexit 1\n")
    command.chmod(0o755)
    with pytest.raises(UsageError, match="invalid partition specified: moon"):
        list(DaskEngine(job_queue=path).run([FakeTask("a")], FakeFunction, False))

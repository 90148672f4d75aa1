import errno
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_hsf.errors import BidsHsfError, LocalizationError, ModelError, StorageError, UsageError
from bids_hsf.runs.config import Resources
from bids_hsf.runs.scheduling import Outcome, Task, Worker, run_tasks, share_cores
from bids_hsf.runs.signals import Stop, Stopped

WORKING = Path(tempfile.gettempdir()) / "bids-hsf-test-worker"


ERRORS: dict[str, Exception] = {
    "unknown": KeyError("surprise"),
    "memory": MemoryError(),
    "disk": OSError(errno.ESTALE, "Stale file handle", "/out/x"),
    "threads": RuntimeError("can't start new thread"),
    "processes": BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
}


@dataclass(frozen=True)
class FakeTask:
    """What a fake task does: "ok", "known", "unknown", "memory" or "killed"."""

    key: str
    kind: str = "ok"


class FakeFunction:
    """Does a task, or fails as its kind says. Lives at module level: spawned processes import it."""

    def __call__(self, task: FakeTask) -> None:
        if task.kind == "pid":
            print(os.getpid(), flush=True)
        if task.kind in ("slow", "pid"):
            time.sleep(0.4)
        if task.kind == "long":
            mark = Path(f"{WORKING}.{os.getpid()}")
            mark.touch()
            time.sleep(3)
            mark.unlink()
        if task.kind in ERRORS:
            raise ERRORS[task.kind]
        if task.kind == "known":
            raise LocalizationError(f"{task.key}: no head", "Look at it.")
        if task.kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if task.kind == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)


def run(tasks: list[FakeTask], n_processes: int = 1, stop: bool = False) -> dict[str, Outcome]:
    return {outcome.key: outcome for outcome in run_tasks(tasks, FakeFunction, n_processes, stop)}


@pytest.mark.parametrize(
    ("fixed", "n_tasks", "allowed", "expected"),
    [
        (Resources(), 1, 1, (1, 1)),
        (Resources(), 1, 16, (1, 4)),
        (Resources(), 100, 2, (1, 2)),
        (Resources(nthreads=8), 100, 16, (2, 4)),
        (Resources(nthreads=64), 100, 16, (4, 4)),
        (Resources(nprocs=16), 100, 16, (16, 1)),
        (Resources(omp_nthreads=8), 100, 16, (2, 8)),
        (Resources(omp_nthreads=8), 1, 16, (1, 8)),
        (Resources(nprocs=2, omp_nthreads=3), 100, 16, (2, 3)),
        (Resources(mem_mb=4000), 100, 64, (2, 4)),
        (Resources(mem_mb=100), 100, 64, (1, 4)),
    ],
)
def test_cores_are_shared(fixed: Resources, n_tasks: int, allowed: int, expected: tuple[int, int]) -> None:
    assert share_cores(fixed, n_tasks, allowed) == expected


def test_memory_of_the_machine_limits_the_scans_at_once() -> None:
    assert share_cores(Resources(), 100, 64, 4000 << 20) == (2, 4)
    assert share_cores(Resources(mem_mb=8000), 100, 64, 4000 << 20) == (5, 4)
    assert share_cores(Resources(nprocs=8), 100, 64, 4000 << 20) == (8, 8)
    assert share_cores(Resources(), 100, 64, 4000 << 20, scan_mb=600) == (6, 4)
    assert share_cores(Resources(), 100, 64, 4000 << 20, scan_mb=5000) == (1, 4)


@pytest.mark.parametrize("fixed", [Resources(nprocs=4, omp_nthreads=5), Resources(nthreads=2, omp_nthreads=3)])
def test_contradicting_numbers_are_refused(fixed: Resources) -> None:
    with pytest.raises(UsageError, match="exceeds"):
        share_cores(fixed, 10, 16)


numbers = st.none() | st.integers(1, 64)


resources = st.builds(Resources, nthreads=numbers, nprocs=numbers, omp_nthreads=numbers)


@given(resources, st.integers(1, 99), st.integers(1, 128))
def test_never_more_threads_than_cores(fixed: Resources, n_tasks: int, allowed: int) -> None:
    try:
        n_processes, n_threads = share_cores(fixed, n_tasks, allowed)
    except UsageError:
        return
    assert 1 <= n_processes * n_threads <= min(fixed.nthreads or allowed, allowed)
    assert n_threads == (fixed.omp_nthreads or n_threads)


def test_one_failure_leaves_the_others_unharmed() -> None:
    kinds = ["ok", "known", "unknown", "memory", "ok", "disk"]
    outcomes = run([FakeTask(f"{i}", kind) for i, kind in enumerate(kinds)])
    assert [outcomes[str(i)].error is None for i in range(6)] == [True, False, False, False, True, False]
    assert isinstance(outcomes["5"].error, StorageError)
    assert str(outcomes["5"].error) == "5: Stale file handle (/out/x)"
    assert isinstance(outcomes["1"].error, LocalizationError)
    assert "KeyError" in str(outcomes["2"].error)
    assert "memory" in str(outcomes["3"].error)


def test_stop_starts_nothing_after_a_failure() -> None:
    assert list(run([FakeTask("a"), FakeTask("b", "known"), FakeTask("c")], stop=True)) == ["a", "b"]


def test_pool_gives_the_same_outcomes_and_survives_a_killed_worker() -> None:
    kinds = ["slow", "killed", "known", "slow", "unknown", "ok", "ok"]
    tasks = [FakeTask(name, kind) for name, kind in zip("abcdefg", kinds, strict=True)]
    outcomes = run(tasks, n_processes=2)
    assert sorted(outcomes) == list("abcdefg")
    assert {key for key, outcome in outcomes.items() if outcome.error is None} == {"a", "d", "f", "g"}
    assert outcomes["c"].error is not None
    assert outcomes["c"].error.hint == "Look at it."
    assert "killed" in str(outcomes["b"].error)


class Unopenable(FakeFunction):
    """Cannot even be made."""

    def __init__(self) -> None:
        raise ModelError("no such network")


def test_what_cannot_be_opened_fails_every_job_by_name() -> None:
    tasks = [FakeTask("a"), FakeTask("b"), FakeTask("c")]
    outcomes = list(run_tasks(tasks, Unopenable, 2, False))
    assert [str(outcome.error) for outcome in outcomes] == ["no such network"] * 3


def test_workers_log_through_the_parent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        run([FakeTask("a", "unknown"), FakeTask("b")], n_processes=2)
    (record,) = [record for record in caplog.records if record.name == "bids_hsf.runs.scheduling"]
    assert record.levelno == logging.DEBUG
    assert "KeyError" in caplog.text


def test_workers_end_with_a_killed_parent() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_scheduling import FakeFunction, FakeTask\nfrom bids_hsf.runs.scheduling import run_tasks\n"
        "if __name__ == '__main__':\n"
        "    for outcome in run_tasks([FakeTask(str(i), 'pid') for i in range(50)], FakeFunction, 2, False): pass"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline()
    parent.kill()
    # The pipe ends when the last process that holds it does: the workers hold it too.
    parent.communicate(timeout=20)


def test_ctrl_c_does_not_reach_workers() -> None:
    outcomes = run([FakeTask("a", "interrupted"), FakeTask("b", "interrupted")], n_processes=2)
    assert [outcome.error for outcome in outcomes.values()] == [None, None]


def test_worker_that_was_asked_to_stop_begins_no_task() -> None:
    begun: list[FakeTask] = []
    stop = Stop(at_work=False)
    worker = Worker(begun.append, stop)
    assert worker.do(FakeTask("a")).error is None
    stop(signal.SIGTERM, None)  # while it waits, nothing is raised
    with pytest.raises(Stopped):
        worker.do(FakeTask("b"))
    assert begun == [FakeTask("a")]
    assert not stop.at_work


def test_worker_is_interrupted_in_a_task_alone() -> None:
    stop = Stop(at_work=False)
    with pytest.raises(Stopped):
        Worker(lambda task: stop(signal.SIGTERM, None), stop).do(FakeTask("a"))
    assert not stop.at_work


def test_repeated_kills_end_the_run_and_blame_no_task_that_was_not_begun(caplog: pytest.LogCaptureFixture) -> None:
    tasks = [FakeTask(str(number), "killed") for number in range(8)]
    outcomes = run(tasks, n_processes=2)
    assert sorted(outcomes) == ["0", "1", "2", "3"]
    assert "4 worker processes were killed in a row; 4 scan(s) not begun" in caplog.text
    assert all("killed" in str(outcome.error) for outcome in outcomes.values())


def test_killing_a_worker_that_waits_ends_nothing() -> None:
    # Three workers, and after a while one task: two of them wait, one of these holds the lock of their queue.
    tasks = [FakeTask("a"), FakeTask("b"), FakeTask("c"), FakeTask("d", "long")]
    outcomes = {}
    for outcome in run_tasks(tasks, FakeFunction, 3, False):
        outcomes[outcome.key] = outcome
        if len(outcomes) == 3 and "d" not in outcomes:
            time.sleep(0.5)
            for worker in multiprocessing.active_children():
                if not Path(f"{WORKING}.{worker.pid}").exists():
                    assert worker.pid is not None
                    os.kill(worker.pid, signal.SIGKILL)
    assert sorted(outcomes) == ["a", "b", "c", "d"]
    assert [outcome.error for outcome in outcomes.values()] == [None] * 4


def test_without_shared_memory_scans_run_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    outcomes = run([FakeTask("a"), FakeTask("b", "known")], n_processes=2)
    assert [outcomes["a"].error is None, outcomes["b"].error is None] == [True, False]
    assert "cannot share memory in /dev/shm ([Errno 13] Permission denied)" in caplog.text


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_limits_of_threads_and_processes_are_named(kind: str) -> None:
    error = run([FakeTask("a", kind)])["a"].error
    assert error is not None
    assert "starts no further process or thread" in error.message
    assert "ulimit -u" in str(error.hint)


def test_stop_in_a_pool_starts_nothing_after_a_failure() -> None:
    tasks = [FakeTask("a", "known"), FakeTask("b"), *(FakeTask(str(number), "slow") for number in range(6))]
    outcomes = run(tasks, n_processes=2, stop=True)
    assert outcomes["a"].error is not None
    assert len(outcomes) < len(tasks)


def test_workers_end_with_whoever_leaves_in_the_midst() -> None:
    running = run_tasks([FakeTask("a"), FakeTask("b", "slow"), FakeTask("c", "slow")], FakeFunction, 2, False)
    assert next(running).key in "abc"
    running.close()
    assert multiprocessing.active_children() == []


def test_tasks_satisfy_the_protocol() -> None:
    task: Task = FakeTask("x")
    assert task.key == "x"


def test_hint_crosses_a_process_boundary() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(BidsHsfError("what", "how")))
    assert (error.message, error.hint) == ("what", "how")

import errno
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_tasks import WORKING, FakeFunction, FakeTask, Unopenable

from bids_hsf.errors import BidsHsfError, LocalizationError, StorageError
from bids_hsf.runs.local_engines import InProcess, LocalPool, Worker
from bids_hsf.runs.signals import Stop, Stopped
from bids_hsf.runs.tasks import Engine, Outcome, Task


def run(tasks: list[FakeTask], n_processes: int = 1, stop: bool = False) -> dict[str, Outcome]:
    engine: Engine = LocalPool(n_processes) if n_processes > 1 else InProcess()
    return {outcome.key: outcome for outcome in engine.run(tasks, FakeFunction, stop)}


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


def test_what_cannot_be_opened_fails_every_job_by_name() -> None:
    tasks = [FakeTask("a"), FakeTask("b"), FakeTask("c")]
    outcomes = list(LocalPool(2).run(tasks, Unopenable, False))
    assert [str(outcome.error) for outcome in outcomes] == ["no such network"] * 3


def test_workers_log_through_the_parent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        run([FakeTask("a", "unknown"), FakeTask("b")], n_processes=2)
    (record,) = [record for record in caplog.records if record.name == "bids_hsf.runs.tasks"]
    assert record.levelno == logging.DEBUG
    assert "KeyError" in caplog.text


def test_workers_end_with_a_killed_parent() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from fake_tasks import FakeFunction, FakeTask\nfrom bids_hsf.runs.local_engines import LocalPool\n"
        "if __name__ == '__main__':\n"
        "    tasks = [FakeTask(str(i), 'pid') for i in range(50)]\n"
        "    for outcome in LocalPool(2).run(tasks, FakeFunction, False): pass"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parents[1] / "support")], stdout=subprocess.PIPE, text=True
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
    for outcome in LocalPool(3).run(tasks, FakeFunction, False):
        outcomes[outcome.key] = outcome
        if len(outcomes) == 3 and "d" not in outcomes:
            time.sleep(0.5)
            for worker in multiprocessing.active_children():
                if not Path(f"{WORKING}.{worker.pid}").exists():
                    assert worker.pid is not None
                    os.kill(worker.pid, signal.SIGKILL)
    assert sorted(outcomes) == ["a", "b", "c", "d"]
    assert [outcome.error for outcome in outcomes.values()] == [None] * 4


def test_workers_that_are_killed_while_an_outcome_is_told_end_nothing() -> None:
    tasks = [FakeTask(name, kind) for name, kind in zip("abcde", ["ok", "slow", "ok", "slow", "ok"], strict=True)]
    outcomes = {}
    for outcome in LocalPool(2).run(tasks, FakeFunction, False):
        if not outcomes:
            workers = multiprocessing.active_children()
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.join(60)
            time.sleep(0.5)  # until the pool knows
        outcomes[outcome.key] = outcome
    assert sorted(outcomes) == list("abcde")
    assert [outcome.error for outcome in outcomes.values()] == [None] * 5


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
    running = LocalPool(2).run([FakeTask("a"), FakeTask("b", "slow"), FakeTask("c", "slow")], FakeFunction, False)
    assert next(running).key in "abc"
    running.close()
    assert multiprocessing.active_children() == []


def test_tasks_satisfy_the_protocol() -> None:
    task: Task = FakeTask("x")
    assert (task.key, task.kin) == ("x", "x")


def test_the_scans_of_a_session_are_done_by_one_process(caplog: pytest.LogCaptureFixture) -> None:
    sessions = [FakeTask(f"{session}{scan}", "where", session) for session in "abcd" for scan in "12"]
    with caplog.at_level(logging.INFO):
        outcomes = run(sessions, n_processes=2)
    assert sorted(outcomes) == sorted(task.key for task in sessions)
    where = dict(line.split(" by ") for line in caplog.messages if " by " in line)
    assert all(where[f"{session}1"] == where[f"{session}2"] for session in "abcd")


def test_a_killed_scan_takes_none_of_its_session_with_it() -> None:
    kinds = [("a1", "ok", "a"), ("a2", "killed", "a"), ("a3", "known", "a")]
    others = [(name, "ok", name) for name in "bcd"]
    outcomes = run([FakeTask(*values) for values in kinds + others], n_processes=2)
    assert {key for key, outcome in outcomes.items() if outcome.error is None} == {"a1", "b", "c", "d"}
    assert "killed" in str(outcomes["a2"].error)
    assert outcomes["a3"].error is not None
    assert outcomes["a3"].error.hint == "Look at it."


def test_hint_crosses_a_process_boundary() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(BidsHsfError("what", "how")))
    assert (error.message, error.hint) == ("what", "how")

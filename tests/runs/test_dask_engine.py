"""Many scans on Dask: the same bytes, whatever is killed, and the run ends when it is told to."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from distributed import Client, Future, LocalCluster
from fake_tasks import FakeFunction, FakeTask, Unopenable
from fast_app import write_card, write_dataset
from toy_runs import HANG_SECONDS, Place, wait_for, wait_until

from bids_hsf.errors import ClusterError, DiskError, UsageError
from bids_hsf.machine import allowed_memory
from bids_hsf.runs.dask_engine import DaskEngine
from bids_hsf.runs.dask_worker import worker_memory
from bids_hsf.runs.endings import MAX_UNWRITTEN, while_disk_lasts
from bids_hsf.runs.tasks import Outcome

PAGES = ("sub-*/**/*", "*.html", "*.tsv", "dataset_description.json", "logs/CITATION.*")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans of the fast app go on while this file is there."""
    path = tmp_path_factory.mktemp("gate") / "open"
    path.touch()
    return path


@pytest.fixture(scope="module")
def cluster(gate: Path) -> Iterator[str]:
    """Two workers of one thread; the first kill of a worker is told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAST_APP_GATE", str(gate))
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            started = LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
            )
        with started:
            yield started.scheduler_address


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("dask")
    return Place(write_dataset(folder / "bids", 4), write_card(folder), folder / "reference")


def run(scheduler: str, tasks: list[FakeTask], stop: bool = False) -> dict[str, Outcome]:
    return {outcome.key: outcome for outcome in DaskEngine(scheduler).run(tasks, FakeFunction, stop)}


def test_one_process_a_pool_and_dask_give_the_same_bytes(cluster: str, place: Place, tmp_path: Path) -> None:
    engines = {
        "one": ("--nprocs", "1"),
        "pool": ("--nprocs", "2"),
        "dask": ("--executor", "dask", "--dask-scheduler", cluster, "--nprocs", "1"),
    }
    for name, words in engines.items():
        result = place.run(tmp_path / name, *words)
        assert result.returncode == 0, result.stderr
        assert "4 of 4 scan(s) done" in result.stderr
    assert "Dask at tcp://127.0.0.1" in result.stderr
    expected = files(tmp_path / "one")
    assert sum(path.endswith("_dseg.nii.gz") for path in expected) == 4
    assert sum(path.endswith(".html") for path in expected) >= 5
    assert files(tmp_path / "pool") == expected
    assert files(tmp_path / "dask") == expected
    (saved,) = (tmp_path / "dask" / "logs").glob("config_*.toml")
    assert 'device = "cpu"' in saved.read_text()


def files(out: Path) -> dict[str, bytes]:
    found = {path for pattern in PAGES for path in out.glob(pattern) if path.is_file()}
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


def test_killed_workers_cost_their_own_scans_at_most(
    cluster: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = ["slow", "killed", "known", "where", "unknown", "ok", "killed once"]
    tasks = [FakeTask(str(tmp_path / name), kind) for name, kind in zip("abcdefg", kinds, strict=True)]
    with caplog.at_level(logging.DEBUG):
        outcomes = {Path(key).name: outcome for key, outcome in run(cluster, tasks).items()}
    assert sorted(outcomes) == list("abcdefg")
    assert {key for key, outcome in outcomes.items() if outcome.error is None} == {"a", "d", "f", "g"}
    assert (tmp_path / "g").exists()
    assert "its worker process was killed" in str(outcomes["b"].error)
    assert outcomes["c"].error is not None
    assert outcomes["c"].error.hint == "Look at it."
    # What is logged there is read here.
    assert any(record.name == "bids_hsf.test" and " by " in record.getMessage() for record in caplog.records)
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ('raise ImportError("libfoo.so.1: cannot open")', r"cannot run the app \(ImportError: libfoo.so.1"),
        ("import os; os._exit(1)", "are killed when they import the app"),
        ('__version__ = "0.0.9"', r"bids-hsf is 0.0.9 there, [0-9.]+ here"),
    ],
)
def test_workers_that_cannot_import_the_app_end_the_run_with_a_reason(tmp_path: Path, app: str, reason: str) -> None:
    # Before our own on the path of the worker, which its nanny starts again each time that it dies.
    for name in ("__init__", "runs/__init__", "runs/dask_worker"):
        path = tmp_path / "bids_hsf" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(app if name == "__init__" else "")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=logging.CRITICAL) as empty,
        worker_elsewhere(empty.scheduler_address, tmp_path),
        pytest.raises(ClusterError, match=reason) as refused,
    ):
        run(empty.scheduler_address, [FakeTask("a"), FakeTask("b")])
    assert refused.value.exit_code == 69
    assert "\n" not in refused.value.message


@contextmanager
def worker_elsewhere(scheduler: str, path: Path) -> Iterator[None]:
    """Start a worker that finds packages in a folder first."""
    words = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--nthreads", "1", "--no-dashboard"]
    words += ["--local-directory", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(path)}
    silent = subprocess.DEVNULL
    with subprocess.Popen(words, env=environment, cwd=path, stderr=silent, start_new_session=True) as nanny:
        try:
            yield
        finally:
            os.killpg(nanny.pid, signal.SIGKILL)  # with the worker that it may just have started again


def test_memory_at_which_a_worker_would_pause_for_ever_is_not_used(cluster: str) -> None:
    with Client(cluster) as client:
        (limit,) = {worker["memory_limit"] for worker in client.scheduler_info()["workers"].values()}
        assert client.submit(worker_memory, pure=False).result() <= 0.8 * limit < allowed_memory()


def test_a_disk_that_takes_nothing_ends_a_run_on_dask_as_well(cluster: str, caplog: pytest.LogCaptureFixture) -> None:
    tasks = [FakeTask("first"), *(FakeTask(str(number), "disk") for number in range(30))]
    told = list(while_disk_lasts(DaskEngine(cluster).run(tasks, FakeFunction, False)))
    assert len(told) < len(tasks)
    assert all(type(outcome.error) is DiskError for outcome in told[-MAX_UNWRITTEN:])
    assert "The disk has not taken 4 scans in a row" in caplog.text


def test_what_cannot_be_opened_fails_every_scan_by_name(cluster: str) -> None:
    outcomes = list(DaskEngine(cluster).run([FakeTask("a"), FakeTask("b")], Unopenable, False))
    assert [str(outcome.error) for outcome in outcomes] == ["no such network"] * 2


def test_stop_starts_nothing_after_a_failure(cluster: str) -> None:
    tasks = [FakeTask("a", "known"), *(FakeTask(str(number), "slow") for number in range(30))]
    outcomes = run(cluster, tasks, stop=True)
    assert outcomes["a"].error is not None
    assert len(outcomes) < len(tasks)


def test_sigterm_ends_the_client_and_the_next_run_goes_on(
    cluster: str, place: Place, tmp_path: Path, gate: Path
) -> None:
    words = ("--executor", "dask", "--dask-scheduler", cluster)
    gate.unlink()
    with place.start(tmp_path / "out", *words) as client:
        wait_for(client, "Dask at tcp://")
        wait_until(lambda: bool(list((tmp_path / "out" / "logs").rglob("*.lock"))) or client.poll() is not None)
        client.send_signal(signal.SIGTERM)
        assert client.wait(HANG_SECONDS) == 143
    assert not list((tmp_path / "out").rglob("*_dseg.json"))
    gate.touch()
    result = place.run(tmp_path / "out", *words)
    assert result.returncode == 0, result.stderr
    assert place.run(tmp_path / "one").returncode == 0
    assert files(tmp_path / "out") == files(tmp_path / "one")


@pytest.fixture
def few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are counted more often than people would want it."""
    monkeypatch.setattr("bids_hsf.runs.dask_engine.COUNTING_SECONDS", 0.2)


@pytest.mark.usefixtures("few_seconds")
def test_a_cluster_without_workers_ends_the_run_with_the_reason() -> None:
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=logging.CRITICAL) as empty,
        pytest.raises(ClusterError, match="No worker of Dask has been there") as end,
    ):
        list(DaskEngine(empty.scheduler_address, patience=1.0).run([FakeTask("a")], FakeFunction, False))
    assert end.value.exit_code == 69
    assert empty.scheduler_address in str(end.value.hint)


@pytest.mark.usefixtures("few_seconds")
@pytest.mark.parametrize("comes_back", [False, True])
def test_a_worker_that_goes_before_it_has_handed_over_what_it_did(
    monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    with LocalCluster(
        n_workers=1, processes=False, protocol="tcp", dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as own:
        take, taken = Future.result, []

        def result(future: Future, timeout: float | None = None) -> object:
            taken.append(future.key)
            if len(taken) == 2:  # the first one says that the worker can import the app
                own.scale(0)
                wait_until(lambda: not own.scheduler.workers)
                own.scale(int(comes_back))
            return take(future, timeout=timeout)

        monkeypatch.setattr(Future, "result", result)
        engine = DaskEngine(own.scheduler_address, patience=30.0 if comes_back else 1.0)
        tasks = engine.run([FakeTask("a"), FakeTask("b")], FakeFunction, False)
        if comes_back:
            assert sorted(outcome.key for outcome in tasks) == ["a", "b"]
        else:
            with pytest.raises(ClusterError, match="No worker of Dask has been there"):
                list(tasks)


@pytest.mark.usefixtures("few_seconds")
def test_when_all_workers_are_gone_what_is_done_is_told_and_the_next_run_goes_on(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("FAST_APP_SECONDS", "0.5")
    # One scan at a time: of two at once both may be written before either is told.
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    ) as own:
        words = ("--executor", "dask", "--dask-scheduler", own.scheduler_address)

        def leave() -> None:
            wait_until(lambda: len(list(out.rglob("*_dseg.json"))) == 2)  # the first one has been told
            own.scale(0)

        leaving = threading.Thread(target=leave)
        leaving.start()
        left = place.run(out, *words, "--dask-wait", "0.03")
        leaving.join()
        assert left.returncode == 69, left.stderr
        assert re.search(r"[123] of 4 scan\(s\) done, [123] not begun", left.stderr)
        assert "No worker of Dask has been there for 0.03 minute(s)" in left.stderr
        assert list(out.glob("sub-*.html"))
        assert not (out / "group_volumes.tsv").exists()
        own.scale(1)
        ended = place.run(out, *words)
    assert ended.returncode == 0, ended.stderr
    assert place.run(tmp_path / "one").returncode == 0
    assert files(out) == files(tmp_path / "one")


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bids_hsf.runs.dask_engine.CONNECTING_SECONDS", 0.5)
    with pytest.raises(ClusterError, match="no scheduler answers"):
        run("tcp://127.0.0.1:9", [FakeTask("a")])
    with pytest.raises(ClusterError, match="no scheduler answers"):
        run("nonsense://x", [FakeTask("a")])


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError) as refused:
        run("tcp://127.0.0.1:9", [FakeTask("a")])
    assert "bids-hsf[dask]" in str(refused.value.hint)

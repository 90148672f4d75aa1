"""What a worker of Dask does for this app: tools are opened once a process, and its log goes home with the results."""

import logging
import logging.handlers
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, NoReturn

from bids_hsf.machine import allowed_memory
from bids_hsf.runs.tasks import Bundle, OpenTools, Outcome, TaskFunction, run_bundle, run_one

UNPAUSED = 0.9  # of the limit, where a worker is never paused: it is killed at 0.95


@dataclass(frozen=True)
class Done:
    """What comes back of a bundle.

    Attributes
    ----------
    outcomes : list of Outcome
    records : list of LogRecord
        What was logged meanwhile, as text.
    """

    outcomes: list[Outcome]
    records: list[logging.LogRecord]


class Workplace:
    """The tools of this process, for one run at a time.

    A worker may have several threads: the second scan waits for the first one, whose networks and memory are as many
    as were thought of.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run = ""
        self._function: TaskFunction | None = None

    def do(self, run: str, open_tools: OpenTools, bundle: Bundle, stop: bool) -> Done:
        """Do tasks of a run, with its tools."""
        with self._lock, _kept_records() as records:
            if self._run != run:
                self._function = None  # of an earlier run: its networks are closed before others are opened
                self._run, self._function = run, _opened(open_tools)
            assert self._function is not None
            outcomes = run_bundle(partial(run_one, self._function), bundle, stop)
        return Done(outcomes, list(_drained(records)))


_workplace = Workplace()  # of this process, if it is a worker


def do_bundle(run: str, open_tools: OpenTools, bundle: Bundle, stop: bool) -> Done:
    """Do tasks in this process; Dask calls it."""
    return _workplace.do(run, open_tools, bundle, stop)


def worker_threads(at_most: int) -> int:
    """Threads that the worker of Dask in this process was given."""
    from distributed import get_worker

    return max(1, min(at_most, int(get_worker().state.nthreads)))


def worker_memory() -> int:
    """Bytes that it may use: at a share of its limit it takes no further task until it has less, beyond it is killed.

    What stays open between scans does not become less: it would wait for ever.
    """
    from distributed import get_worker

    manager = get_worker().memory_manager
    if not manager.memory_limit:
        return allowed_memory()
    return min(allowed_memory(), int(manager.memory_limit * (manager.memory_pause_fraction or UNPAUSED)))


def _opened(open_tools: OpenTools) -> TaskFunction:
    """Open the tools; where they cannot be, each task says why."""
    try:
        return open_tools()
    except Exception as error:
        return partial(_raise, error)


def _raise(error: Exception, _task: Any) -> NoReturn:
    raise error


@contextmanager
def _kept_records() -> Iterator["SimpleQueue[logging.LogRecord]"]:
    """Keep what the app logs for whoever reads it; Dask's own words stay in the log of the worker."""
    records: SimpleQueue[logging.LogRecord] = SimpleQueue()
    app = logging.getLogger("bids_hsf")
    handler = logging.handlers.QueueHandler(records)
    level, app.propagate = app.level, False
    app.addHandler(handler)
    app.setLevel(logging.DEBUG)
    try:
        yield records
    finally:
        app.removeHandler(handler)
        app.setLevel(level)
        app.propagate = True


def _drained(records: "SimpleQueue[logging.LogRecord]") -> Iterator[logging.LogRecord]:
    while not records.empty():
        yield records.get()

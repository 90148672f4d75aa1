"""Run many scans on this machine: in this process, or in a pool of processes."""

import logging
import logging.handlers
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from bids_hsf.machine import search_rarely_for_cycles
from bids_hsf.runs.signals import CLEAN_UP_SECONDS, Stop, Stopped, undisturbed
from bids_hsf.runs.tasks import (
    MAX_KILLS,
    Bundle,
    OpenTools,
    Outcome,
    Task,
    TaskFunction,
    bundled,
    killed,
    run_bundle,
    run_one,
    tell_of_kills,
)

logger = logging.getLogger(__name__)

IDLE_SECONDS = 1.0  # in which a message is read, and a line of the log passed on


@dataclass(frozen=True)
class InProcess:
    """Does tasks here, one after the other."""

    def run(self, tasks: Sequence[Any], open_tools: OpenTools, stop: bool) -> Generator[Outcome, None, None]:
        """Do each task once, as `Engine` says."""
        function = open_tools()
        for task in tasks:
            outcome = run_one(function, task)
            yield outcome
            if stop and outcome.error is not None:
                return


@dataclass(frozen=True)
class LocalPool:
    """Does tasks in processes of this machine, each with its own tools.

    Attributes
    ----------
    n_processes : int
    """

    n_processes: int

    def run(self, tasks: Sequence[Any], open_tools: OpenTools, stop: bool) -> Generator[Outcome, None, None]:
        """Do each task once, as `Engine` says; what cannot be shared among processes is done here."""
        n_processes = min(self.n_processes, len(tasks))
        if n_processes <= 1 or not _can_share():
            yield from InProcess().run(tasks, open_tools, stop)
        else:
            yield from _run_in_pools(deque(bundled(tasks, n_processes)), open_tools, n_processes, stop)


def _can_share() -> bool:
    """Whether processes can share locks, which live in /dev/shm; where they cannot, one process does all."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as error:
        logger.warning("Scans run one after the other: processes cannot share memory in /dev/shm (%s)", error)
        return False
    return True


def _run_in_pools(waiting: deque[Bundle], open_tools: OpenTools, n_processes: int, stop: bool) -> Iterator[Outcome]:
    """Run tasks in a pool; when a worker is killed, find out by which task, and go on with a new pool."""
    kills = 0
    while waiting:
        lost = yield from _run_in_pool(waiting, open_tools, n_processes, stop)
        for task in lost:
            # Each alone: the one that is killed again is the culprit, the others were its victims.
            again = yield from _run_in_pool(deque([(task,)]), open_tools, 1, stop)
            kills = kills + 1 if again else 0
            if again:
                yield killed(task)
        if kills >= MAX_KILLS or (stop and kills):
            break
    if waiting and not stop:
        tell_of_kills(sum(map(len, waiting)))


def _run_in_pool(
    waiting: deque[Bundle], open_tools: OpenTools, n_processes: int, stop: bool
) -> Generator[Outcome, None, list[Any]]:
    """Run tasks from the front of a queue until it is empty or a worker is killed; returns the tasks then under way."""
    with _open_pool(open_tools, n_processes) as pool:
        running: dict[Future[list[Outcome]], Bundle] = {}
        while waiting or running:
            # No more than can run: what has not begun is not lost with the pool.
            while waiting and len(running) < n_processes:
                bundle = waiting.popleft()
                try:
                    with undisturbed():
                        running[pool.submit(_run_in_worker, bundle, stop)] = bundle
                except BrokenProcessPool:  # killed while an outcome was told
                    waiting.appendleft(bundle)
                    return [task for bundle in running.values() for task in bundle]
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            lost: list[Any] = []
            for future in finished:
                bundle = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    lost += bundle
                    continue
                outcomes = future.result()
                yield from outcomes
                if stop and outcomes[-1].error is not None:
                    waiting.clear()
            if lost:
                return lost + [task for bundle in running.values() for task in bundle]
    return []


@contextmanager
def _open_pool(open_tools: OpenTools, n_processes: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool whose workers log through this process; they end with it, however it ends."""
    # Forking a process with ONNX Runtime's threads alive can dead-lock.
    context = multiprocessing.get_context("spawn")
    records: multiprocessing.Queue[logging.LogRecord] = context.Queue()
    listener = _Listener(records, _Relay())
    listener.start()
    pool = ProcessPoolExecutor(n_processes, context, initializer=_open_worker, initargs=(open_tools, records))
    try:
        yield pool
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        # Killed with a lock in its hands, one worker lets others wait for ever.
        last_resort = threading.Timer(2 * CLEAN_UP_SECONDS, _kill, [multiprocessing.active_children()])
        last_resort.daemon = True
        last_resort.start()
        pool.shutdown(wait=True, cancel_futures=True)
        last_resort.cancel()
        listener.stop()
        records.close()
        records.cancel_join_thread()


def _kill(workers: Sequence[multiprocessing.process.BaseProcess]) -> None:
    for worker in workers:
        worker.kill()


class _Listener(logging.handlers.QueueListener):
    """Passes on what workers log; does not wait for those that were killed in the midst of a line."""

    def stop(self) -> None:
        """Pass on what has come, and end."""
        thread: threading.Thread | None = self._thread
        self.enqueue_sentinel()
        if thread is not None:
            thread.join(CLEAN_UP_SECONDS)


class _Relay(logging.Handler):
    """Hand a worker's record to the logger that it was meant for."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(record.name).handle(record)


class Worker:
    """What a worker process does: one task after the other, until it is asked to stop.

    Parameters
    ----------
    function : callable
        Does one task.
    stop : Stop
        Handler of the signals of this process; it interrupts a task, and nothing else: torn from its queue a worker
        would leave half a message to the next. One that waits ends a moment later: the pool, broken, sends it no word.
    """

    def __init__(self, function: TaskFunction, stop: Stop) -> None:
        self._function = function
        self._stop = stop

    def ask_to_stop(self, number: int, frame: Any) -> None:
        """Handle a signal: interrupt the task, if there is one, and end once there is none."""
        self._stop(number, frame)
        threading.Thread(target=self._end_when_idle, daemon=True).start()

    def _end_when_idle(self) -> None:
        time.sleep(IDLE_SECONDS)
        while self._stop.at_work:
            time.sleep(IDLE_SECONDS)
        os._exit(self._stop.code)

    def do(self, task: Task) -> Outcome:
        """Do one task and tell how it ended.

        Raises
        ------
        Stopped
            The process has been asked to stop.
        """
        self._stop.at_work = True
        try:
            if self._stop.code:
                raise Stopped
            return run_one(self._function, task)
        finally:
            self._stop.at_work = False


_worker: Worker | None = None  # of this process, if it is one


def _open_worker(open_tools: OpenTools, records: Any) -> None:
    """Make this process a worker: log home, end with the parent, open what all tasks share."""
    global _worker
    root = logging.getLogger()
    root.handlers = [logging.handlers.QueueHandler(records)]
    root.setLevel(logging.DEBUG)
    search_rarely_for_cycles()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    stop = Stop(at_work=False)
    try:
        _worker = Worker(open_tools(), stop)
    except Exception as error:  # would break the pool and hide the reason
        _worker = Worker(partial(_raise, error), stop)
    # From here on files are written, and half ones are cleared away on the way out.
    signal.signal(signal.SIGTERM, _worker.ask_to_stop)
    sys.unraisablehook = stop.swallowed


def _end_with_parent() -> None:
    """End this process when the parent is killed: a pool's workers would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _run_in_worker(bundle: Bundle, stop: bool) -> list[Outcome]:
    assert _worker is not None
    return run_bundle(_worker.do, bundle, stop)


def _raise(error: Exception, _task: Task) -> NoReturn:
    raise error

"""Run many scans: in this process, or in a pool of processes; one failure leaves the others unharmed."""

import logging
import logging.handlers
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol

from bids_hsf.errors import BidsHsfError, MemoryLimitError, StorageError, UsageError
from bids_hsf.machine import no_more_threads
from bids_hsf.runs.config import Resources
from bids_hsf.runs.signals import CLEAN_UP_SECONDS, Stop, Stopped, undisturbed

logger = logging.getLogger(__name__)


SCAN_MEMORY_MB = 1500  # of one process at work, where nobody has estimated it

# So many workers killed one after the other are no accident of one scan.
MAX_KILLS = 4

IDLE_SECONDS = 1.0  # in which a message is read, and a line of the log passed on


class Task(Protocol):
    """A unit of work; its key names it in the log."""

    @property
    def key(self) -> str:
        """Name of the task."""


TaskFunction = Callable[[Any], None]


def share_cores(
    resources: Resources,
    n_tasks: int,
    allowed: int,
    memory_bytes: int | None = None,
    scan_mb: int = SCAN_MEMORY_MB,
) -> tuple[int, int]:
    """Choose how many scans run at once and with how many threads each.

    Parameters
    ----------
    resources : Resources
        What the user fixed.
    n_tasks : int
    allowed : int
        Cores that this process may use.
    memory_bytes : int, optional
        Memory that it may use; the user's own limit comes first.
    scan_mb : int
        Memory that one scan is thought to take.

    Returns
    -------
    n_processes, n_threads : int
        Their product does not exceed the cores in total.

    Raises
    ------
    UsageError
        The numbers that the user fixed contradict each other.

    Examples
    --------
    >>> share_cores(Resources(), n_tasks=100, allowed=16)
    (4, 4)
    >>> share_cores(Resources(nprocs=3), n_tasks=100, allowed=16)
    (3, 5)
    """
    total = min(resources.nthreads or allowed, allowed)
    n_threads = resources.omp_nthreads or max(1, total // resources.nprocs if resources.nprocs else min(4, total))
    fitting = max(1, total // n_threads)
    memory_mb = resources.mem_mb or (memory_bytes >> 20 if memory_bytes else None)
    if memory_mb:
        fitting = max(1, min(fitting, memory_mb // scan_mb))
    n_processes = resources.nprocs or min(fitting, max(1, n_tasks))
    if n_processes * n_threads > total:
        raise UsageError(
            f"--nprocs {n_processes} x --omp-nthreads {n_threads} exceeds the {total} core(s) to use",
            "--nthreads is the number of cores in total, --nprocs of scans at once, --omp-nthreads of threads a scan.",
        )
    return n_processes, n_threads


@dataclass(frozen=True)
class Outcome:
    """How one task ended.

    Attributes
    ----------
    key : str
    seconds : float
    error : BidsHsfError or None
    """

    key: str
    seconds: float
    error: BidsHsfError | None = None


def run_tasks(
    tasks: Sequence[Task], make_function: Callable[[], TaskFunction], n_processes: int, stop: bool
) -> Iterator[Outcome]:
    """Run each task once and tell how it ended, as soon as it did.

    Parameters
    ----------
    tasks : sequence of Task
    make_function : callable
        Called once a process, it opens what all tasks share (networks, template) and gives the
        function that does one task. Must be picklable where `n_processes` exceeds 1.
    n_processes : int
    stop : bool
        Start no further task after the first failure; those that run are finished.
    """
    if n_processes <= 1 or len(tasks) <= 1 or not _can_share():
        yield from _run_here(tasks, make_function, stop)
    else:
        yield from _run_in_pools(deque(tasks), make_function, min(n_processes, len(tasks)), stop)


def _can_share() -> bool:
    """Whether processes can share locks, which live in /dev/shm; where they cannot, one process does all."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as error:
        logger.warning("Scans run one after the other: processes cannot share memory in /dev/shm (%s)", error)
        return False
    return True


def _run_here(tasks: Sequence[Task], make_function: Callable[[], TaskFunction], stop: bool) -> Iterator[Outcome]:
    function = make_function()
    for task in tasks:
        outcome = _run_one(function, task)
        yield outcome
        if stop and outcome.error is not None:
            return


def _run_in_pools(
    waiting: deque[Task], make_function: Callable[[], TaskFunction], n_processes: int, stop: bool
) -> Iterator[Outcome]:
    """Run tasks in a pool; when a worker is killed, find out by which task, and go on with a new pool."""
    kills = 0
    while waiting:
        lost = yield from _run_in_pool(waiting, make_function, n_processes, stop)
        for task in lost:
            # Each alone: the one that is killed again is the culprit, the others were its victims.
            killed = yield from _run_in_pool(deque([task]), make_function, 1, stop)
            kills = kills + 1 if killed else 0
            if killed:
                yield Outcome(task.key, 0.0, _killed(task))
        if kills >= MAX_KILLS or (stop and kills):
            break
    if waiting and not stop:
        # They are not to blame, and are recorded as missing.
        logger.error("%d worker processes were killed in a row; %d scan(s) not begun", kills, len(waiting))


def _killed(task: Task) -> BidsHsfError:
    message = f"{task.key}: its worker process was killed, most likely for want of memory"
    return MemoryLimitError(message, "Lower --nprocs, or raise the memory of the job; finished scans are kept.")


def _run_in_pool(
    waiting: deque[Task], make_function: Callable[[], TaskFunction], n_processes: int, stop: bool
) -> Generator[Outcome, None, list[Task]]:
    """Run tasks from the front of a queue until it is empty or a worker is killed; returns the tasks then under way."""
    with _open_pool(make_function, n_processes) as pool:
        running: dict[Future[Outcome], Task] = {}
        while waiting or running:
            # No more than can run: what has not begun is not lost with the pool.
            while waiting and len(running) < n_processes:
                task = waiting.popleft()
                with undisturbed():
                    running[pool.submit(_run_in_worker, task)] = task
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            lost = []
            for future in finished:
                task = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    lost.append(task)
                    continue
                outcome = future.result()
                yield outcome
                if stop and outcome.error is not None:
                    waiting.clear()
            if lost:
                return lost + list(running.values())
    return []


@contextmanager
def _open_pool(make_function: Callable[[], TaskFunction], n_processes: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool whose workers log through this process; they end with it, however it ends."""
    # Forking a process with ONNX Runtime's or torch's threads alive can dead-lock.
    context = multiprocessing.get_context("spawn")
    records: multiprocessing.Queue[logging.LogRecord] = context.Queue()
    listener = _Listener(records, _Relay())
    listener.start()
    pool = ProcessPoolExecutor(n_processes, context, initializer=_open_worker, initargs=(make_function, records))
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
            return _run_one(self._function, task)
        finally:
            self._stop.at_work = False


_worker: Worker | None = None  # of this process, if it is one


def _open_worker(make_function: Callable[[], TaskFunction], records: Any) -> None:
    """Make this process a worker: log home, end with the parent, open what all tasks share."""
    global _worker
    root = logging.getLogger()
    root.handlers = [logging.handlers.QueueHandler(records)]
    root.setLevel(logging.DEBUG)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    stop = Stop(at_work=False)
    try:
        _worker = Worker(make_function(), stop)
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


def _run_in_worker(task: Task) -> Outcome:
    assert _worker is not None
    return _worker.do(task)


def _raise(error: Exception, _task: Task) -> NoReturn:
    raise error


def _run_one(function: TaskFunction, task: Task) -> Outcome:
    started = time.perf_counter()
    error: BidsHsfError | None = None
    try:
        function(task)
    except BidsHsfError as known:
        error = known
    except MemoryError:
        error = MemoryLimitError(f"{task.key}: out of memory", "Lower --nprocs or raise the memory of the job.")
    except OSError as failed:
        logger.debug("%s", task.key, exc_info=True)
        error = _of_system(task, failed)
    except Exception as unknown:
        logger.debug("%s", task.key, exc_info=True)
        limit = no_more_threads(unknown)
        reason = f"{type(unknown).__name__}: {' '.join(str(unknown).split())}"
        report = "Please report it, with the file in logs/."
        error = limit or BidsHsfError(f"{task.key}: internal error ({reason})", report)
    return Outcome(task.key, time.perf_counter() - started, error)


def _of_system(task: Task, failed: OSError) -> BidsHsfError:
    """Say what the system has refused."""
    limit = no_more_threads(failed)
    if limit is not None:
        return limit
    place = f" ({failed.filename})" if failed.filename else ""
    message = f"{task.key}: {failed.strerror or failed}{place}"
    return StorageError(message, "Check disks, mounts and permissions; the same command goes on.")

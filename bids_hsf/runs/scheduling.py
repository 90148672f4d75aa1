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
from typing import Any, NoReturn, Protocol

from bids_hsf.errors import BidsHsfError, MemoryLimitError, StorageError, UsageError
from bids_hsf.runs.config import Resources
from bids_hsf.runs.signals import Stop, Stopped, undisturbed

logger = logging.getLogger(__name__)


SCAN_MEMORY_MB = 1500  # of one process at work, where nobody has estimated it

# So many workers killed one after the other are no accident of one scan.
MAX_KILLS = 4


class Job(Protocol):
    """A unit of work; its key names it in the log."""

    @property
    def key(self) -> str:
        """Name of the job."""


Process = Callable[[Any], None]


def share_cores(
    resources: Resources,
    n_jobs: int,
    allowed: int,
    memory_bytes: int | None = None,
    scan_mb: int = SCAN_MEMORY_MB,
) -> tuple[int, int]:
    """Choose how many scans run at once and with how many threads each.

    Parameters
    ----------
    resources : Resources
        What the user fixed.
    n_jobs : int
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
    >>> share_cores(Resources(), n_jobs=100, allowed=16)
    (4, 4)
    >>> share_cores(Resources(nprocs=3), n_jobs=100, allowed=16)
    (3, 5)
    """
    total = min(resources.nthreads or allowed, allowed)
    n_threads = resources.omp_nthreads or max(1, total // resources.nprocs if resources.nprocs else min(4, total))
    fitting = max(1, total // n_threads)
    memory_mb = resources.mem_mb or (memory_bytes >> 20 if memory_bytes else None)
    if memory_mb:
        fitting = max(1, min(fitting, memory_mb // scan_mb))
    n_processes = resources.nprocs or min(fitting, max(1, n_jobs))
    if n_processes * n_threads > total:
        raise UsageError(
            f"--nprocs {n_processes} x --omp-nthreads {n_threads} exceeds the {total} core(s) to use",
            "--nthreads is the number of cores in total, --nprocs of scans at once, --omp-nthreads of threads a scan.",
        )
    return n_processes, n_threads


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Attributes
    ----------
    key : str
    seconds : float
    error : BidsHsfError or None
    """

    key: str
    seconds: float
    error: BidsHsfError | None = None


def run_jobs(
    jobs: Sequence[Job], make_process: Callable[[], Process], n_processes: int, stop: bool
) -> Iterator[Outcome]:
    """Run each job once and tell how it ended, as soon as it did.

    Parameters
    ----------
    jobs : sequence of Job
    make_process : callable
        Called once a process, it opens what all jobs share (networks, template) and gives the
        function that does one job. Must be picklable where `n_processes` exceeds 1.
    n_processes : int
    stop : bool
        Start no further job after the first failure; those that run are finished.
    """
    if n_processes <= 1 or len(jobs) <= 1:
        yield from _run_here(jobs, make_process, stop)
    else:
        yield from _run_in_pools(deque(jobs), make_process, min(n_processes, len(jobs)), stop)


def _run_here(jobs: Sequence[Job], make_process: Callable[[], Process], stop: bool) -> Iterator[Outcome]:
    process = make_process()
    for job in jobs:
        outcome = _run_one(process, job)
        yield outcome
        if stop and outcome.error is not None:
            return


def _run_in_pools(
    waiting: deque[Job], make_process: Callable[[], Process], n_processes: int, stop: bool
) -> Iterator[Outcome]:
    """Run jobs in a pool; when a worker is killed, find out by which job, and go on with a new pool."""
    kills = 0
    while waiting:
        lost = yield from _run_in_pool(waiting, make_process, n_processes, stop)
        for job in lost:
            # Each alone: the one that is killed again is the culprit, the others were its victims.
            killed = yield from _run_in_pool(deque([job]), make_process, 1, stop)
            kills = kills + 1 if killed else 0
            if killed:
                yield Outcome(job.key, 0.0, _killed(job))
        if kills >= MAX_KILLS or (stop and kills):
            break
    for job in waiting if not stop else ():
        yield Outcome(job.key, 0.0, _killed(job))


def _killed(job: Job) -> BidsHsfError:
    message = f"{job.key}: its worker process was killed, most likely for want of memory"
    return MemoryLimitError(message, "Lower --nprocs, or raise the memory of the job; finished scans are kept.")


def _run_in_pool(
    waiting: deque[Job], make_process: Callable[[], Process], n_processes: int, stop: bool
) -> Generator[Outcome, None, list[Job]]:
    """Run jobs from the front of a queue until it is empty or a worker is killed; returns the jobs then under way."""
    with _open_pool(make_process, n_processes) as pool:
        running: dict[Future[Outcome], Job] = {}
        while waiting or running:
            # No more than can run: what has not begun is not lost with the pool.
            while waiting and len(running) < n_processes:
                job = waiting.popleft()
                with undisturbed():
                    running[pool.submit(_run_in_worker, job)] = job
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            lost = []
            for future in finished:
                job = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    lost.append(job)
                    continue
                outcome = future.result()
                yield outcome
                if stop and outcome.error is not None:
                    waiting.clear()
            if lost:
                return lost + list(running.values())
    return []


@contextmanager
def _open_pool(make_process: Callable[[], Process], n_processes: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool whose workers log through this process; they end with it, however it ends."""
    # Forking a process with ONNX Runtime's or torch's threads alive can dead-lock.
    context = multiprocessing.get_context("spawn")
    records: multiprocessing.Queue[logging.LogRecord] = context.Queue()
    listener = logging.handlers.QueueListener(records, _Relay())
    listener.start()
    pool = ProcessPoolExecutor(n_processes, context, initializer=_open_worker, initargs=(make_process, records))
    try:
        yield pool
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        listener.stop()
        records.close()


class _Relay(logging.Handler):
    """Hand a worker's record to the logger that it was meant for."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(record.name).handle(record)


_worker_process: Process | Exception | None = None

# A worker that waits is sent home by the pool: torn from its queue it would leave half a message to the next.
_stop = Stop(at_work=False)


def _open_worker(make_process: Callable[[], Process], records: Any) -> None:
    """Make this process a worker: log home, end with the parent, open what all jobs share."""
    global _worker_process
    root = logging.getLogger()
    root.handlers = [logging.handlers.QueueHandler(records)]
    root.setLevel(logging.DEBUG)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _worker_process = make_process()
    except Exception as error:  # would break the pool and hide the reason
        _worker_process = error
    # From here on files are written, and half ones are cleared away on the way out.
    signal.signal(signal.SIGTERM, _stop)
    sys.unraisablehook = _stop.swallowed


def _end_with_parent() -> None:
    """End this process when the parent is killed: a pool's workers would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _run_in_worker(job: Job) -> Outcome:
    process = _worker_process
    if isinstance(process, Exception):
        error = process
        return _run_one(lambda _job: _raise(error), job)
    assert process is not None
    _stop.at_work = True
    try:
        if _stop.code:
            raise Stopped
        return _run_one(process, job)
    finally:
        _stop.at_work = False


def _raise(error: Exception) -> NoReturn:
    raise error


def _run_one(process: Process, job: Job) -> Outcome:
    started = time.perf_counter()
    error: BidsHsfError | None = None
    try:
        process(job)
    except BidsHsfError as known:
        error = known
    except MemoryError:
        error = MemoryLimitError(f"{job.key}: out of memory", "Lower --nprocs or raise the memory of the job.")
    except OSError as failed:
        logger.debug("%s", job.key, exc_info=True)
        place = f" ({failed.filename})" if failed.filename else ""
        message = f"{job.key}: {failed.strerror or failed}{place}"
        error = StorageError(message, "Check disks, mounts and permissions; the same command goes on.")
    except Exception as unknown:
        logger.debug("%s", job.key, exc_info=True)
        reason = f"{type(unknown).__name__}: {' '.join(str(unknown).split())}"
        error = BidsHsfError(f"{job.key}: internal error ({reason})", "Please report it, with the file in logs/.")
    return Outcome(job.key, time.perf_counter() - started, error)

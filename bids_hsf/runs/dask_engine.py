"""Run many scans on Dask: on a cluster that is there, or on workers that a scheduler such as Slurm is asked for."""

import logging
import time
import uuid
from collections import deque
from collections.abc import Generator, Iterator, MutableSequence, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from bids_hsf import __version__
from bids_hsf.errors import ClusterError, UsageError
from bids_hsf.runs.dask_absence import Absence, Supply
from bids_hsf.runs.dask_job_queue import INSTALL_HINT, LEAVING_SECONDS, asked_for
from bids_hsf.runs.dask_worker import Done, do_bundle
from bids_hsf.runs.tasks import MAX_KILLS, Bundle, OpenTools, Outcome, bundled, killed, tell_of_kills

logger = logging.getLogger(__name__)

# Workers that are asked for where nobody says how many.
MAX_WORKERS = 32

# Bundles under way at a time: the next one lies at the worker when one is done, and no more are kept in memory.
WINDOW_A_WORKER = 3
MIN_WINDOW = 8

CONNECTING_SECONDS = 30
COUNTING_SECONDS = 5.0  # workers come and go

ENVIRONMENT = "They need the same environment as this process: Python, bids-hsf and its packages."
# As text: what needs no package of ours arrives everywhere.
CHECK = f"""
import bids_hsf, bids_hsf.runs.dask_worker
if bids_hsf.__version__ != {__version__!r}:
    raise ImportError(f"bids-hsf is {{bids_hsf.__version__}} there, {__version__} here")
"""


@dataclass(frozen=True)
class DaskEngine:
    """Does tasks on the workers of a Dask cluster.

    Attributes
    ----------
    scheduler : str or None
        Address of a scheduler, or path of the JSON file that it has written.
    job_queue : Path or None
        Configuration of dask-jobqueue, for workers that are asked for as they are needed.
    n_workers : int or None
        Of these, at most.
    patience : float
        Seconds without any worker, and without any that waits in a queue, after which the run ends.
    """

    scheduler: str | None = None
    job_queue: Path | None = None
    n_workers: int | None = None
    patience: float = 600.0

    def run(self, tasks: Sequence[Any], open_tools: OpenTools, stop: bool) -> Generator[Outcome, None, None]:
        """Do each task once, as `Engine` says; one whose worker is killed time and again fails by itself."""
        with self._client(len(tasks)) as (client, supply):
            crowd = _Crowd(client, supply.n_expected, Absence(supply, self.patience), open_tools, stop)
            crowd.check()
            waiting = deque(bundled(tasks, max(1, crowd.count())))
            while waiting:
                lost: list[Bundle] = []
                yield from crowd.work(waiting, lost, WINDOW_A_WORKER)
                # Not all of them were to blame: what is lost again, each by itself, is tried with nothing beside it.
                again = deque((task,) for bundle in lost for task in bundle)
                suspects: deque[Bundle] = deque()
                yield from crowd.work(again, suspects, 1)
                culprits: list[Bundle] = []
                all_killed = yield from crowd.work(suspects, culprits, None)
                yield from (killed(task) for (task,) in culprits)
                if stop and culprits:
                    return
                waiting.extendleft([*suspects, *again])
                if all_killed and waiting:
                    tell_of_kills(sum(map(len, waiting)))
                    return

    @contextmanager
    def _client(self, n_tasks: int) -> Iterator[tuple[Any, Supply]]:
        """Connect to the cluster; gives the client, and where further workers come from."""
        distributed = _distributed()
        if self.job_queue is not None:
            most = min(self.n_workers or MAX_WORKERS, n_tasks)
            with (
                asked_for(self.job_queue, most) as (cluster, supply),
                _connected(distributed, address=cluster) as client,
            ):
                yield client, supply
        else:
            assert self.scheduler is not None
            is_file = Path(self.scheduler).suffix == ".json"
            place = {"scheduler_file": self.scheduler} if is_file else {"address": self.scheduler}
            with _connected(distributed, **place) as client:
                advice = (
                    f"Start some (dask worker {client.scheduler.address}) and give the same command again, which goes "
                    "on; --dask-wait waits longer."
                )
                yield client, Supply(0, lambda: 0, lambda: advice)


class _Crowd:
    """The workers of a cluster, as a run sees them."""

    def __init__(self, client: Any, expected: int, absence: Absence, open_tools: OpenTools, stop: bool) -> None:
        self._client = client
        self._expected = expected
        self._absence = absence
        self._open_tools = open_tools
        self._stop = stop
        self._run = uuid.uuid4().hex
        self._n_sent = 0
        self._counted_at = -COUNTING_SECONDS
        self._n_workers = 0

    def count(self) -> int:
        """Count workers that are there, or asked for, every few seconds.

        Raises
        ------
        ClusterError
            For too long there has been none.
        """
        now = time.monotonic()
        if now - self._counted_at >= COUNTING_SECONDS:
            self._counted_at = now
            self._n_workers = len(self._client.nthreads())
            if self._n_workers:
                self._absence.ends()
            else:
                self._absence.goes_on()
        return max(self._n_workers, self._expected)

    def check(self) -> None:
        """Have a worker import the app, before it is given tasks: over those it would fall without a word, for ever.

        Raises
        ------
        ClusterError
            It cannot, has another version, or does not live through it, as often as the scheduler tries; or none comes.
        """
        done: SimpleQueue[Any] = SimpleQueue()
        future = self._client.submit(exec, CHECK, key=f"bids-hsf-{self._run}", pure=False)
        future.add_done_callback(done.put)
        while (ended := _ended(done)) is None:
            self.count()
        if ended.was_killed:
            raise ClusterError("The workers of Dask are killed when they import the app", ENVIRONMENT)
        if not ended.came_back:
            raise _refusal(future)

    def work(
        self, waiting: deque[Bundle], lost: MutableSequence[Bundle], window: int | None
    ) -> Generator[Outcome, None, bool]:
        """Do tasks from the front of a queue, up to its end, or until too many workers were killed in a row.

        Parameters
        ----------
        waiting : deque of Bundle
        lost : sequence of Bundle
            To it are added those whose workers were killed, as often as the scheduler tries.
        window : int or None
            Bundles a worker that are under way at a time; None for a single one in all.

        Returns
        -------
        bool
            Whether too many workers were killed.

        Raises
        ------
        ClusterError
            The scheduler is gone, for too long there has been no worker, or they cannot run the app.
        """
        done: SimpleQueue[Any] = SimpleQueue()
        running: dict[Any, Bundle] = {}
        kills = 0
        try:
            while running or (waiting and kills < MAX_KILLS):
                most = self._most(window)
                room = most - len(running)
                # Some at a time: the scheduler takes as long over a graph of one as over one of many.
                if waiting and kills < MAX_KILLS and (room >= most / 3 or room >= len(waiting)):
                    bundles = [waiting.popleft() for _ in range(min(room, len(waiting)))]
                    for future, bundle in zip(self._send(bundles), bundles, strict=True):
                        running[future] = bundle
                        future.add_done_callback(done.put)
                ended = _ended(done)
                if ended is None:
                    continue
                bundle = running.pop(ended.future)
                outcomes = self._outcomes(ended)
                if outcomes is None:
                    kills += 1
                    lost.append(bundle)
                    continue
                kills = 0
                yield from outcomes
                if self._stop and outcomes[-1].error is not None:
                    waiting.clear()
        finally:
            if running:
                with suppress(Exception):
                    self._client.cancel(list(running), force=True)
        return kills >= MAX_KILLS

    def _most(self, window: int | None) -> int:
        """Bundles that may be under way."""
        n_workers = self.count()
        if window is None:
            return 1
        return max(window * n_workers, MIN_WINDOW if window > 1 else 1)

    def _send(self, bundles: Sequence[Bundle]) -> list[Any]:
        names = [f"{bundle[0].key}-{self._run}-{self._n_sent + place}" for place, bundle in enumerate(bundles)]
        self._n_sent += len(bundles)
        function = partial(do_bundle, self._run, self._open_tools, stop=self._stop)
        futures: list[Any] = self._client.map(function, bundles, key=names, pure=False)
        return futures

    def _outcomes(self, ended: "_Ended") -> list[Outcome] | None:
        """Give what has come back, after what was logged there; None where the worker was killed."""
        if ended.was_killed:
            return None
        if not ended.came_back:
            raise _refusal(ended.future)
        done: Done = ended.result
        for record in done.records:
            logging.getLogger(record.name).handle(record)
        return done.outcomes


@dataclass(frozen=True, eq=False)
class _Ended:
    """A task that has ended.

    Attributes
    ----------
    future : Future
        Of Dask.
    came_back : bool
        Whether it ended well, and what it came to is here.
    result : object
        That.
    """

    future: Any
    came_back: bool
    result: Any = None

    @property
    def was_killed(self) -> bool:
        """Whether the scheduler gave it up, whose workers did not live through it."""
        from distributed import KilledWorker

        return self.future.status == "error" and isinstance(self.future.exception(), KilledWorker)


def _ended(done: SimpleQueue[Any]) -> _Ended | None:
    """Give a task that has ended; None where none has within a second, or the last was lost with its worker."""
    from distributed import CancelledError
    from distributed import TimeoutError as NotThere

    with suppress(Empty):
        future = done.get(timeout=1.0)
        try:
            # A worker that goes before it has handed over what it did takes it along; without a limit of time one
            # would wait for it to be computed again, by a worker that may never come.
            if future.status == "finished":
                return _Ended(future, True, future.result(timeout=COUNTING_SECONDS))
        except NotThere:
            logger.debug("What %s came to is not to be had from its worker", future.key)
        except (Exception, CancelledError):
            if future.status == "finished":  # there, but not to be read here
                raise
        if future.status not in ("pending", "lost", "finished"):
            return _Ended(future, came_back=False)
        future.add_done_callback(done.put)  # it is computed again
    return None


def _refusal(future: Any) -> ClusterError:
    """Say why a run cannot go on: the scheduler is gone, or it or its workers cannot run the app."""
    if future.status == "error":
        error = future.exception()
        while error.__cause__ is not None:  # Dask's own words about it say less
            error = error.__cause__
        reason = f"{type(error).__name__}: {_first_line(error)}"
        return ClusterError(f"The scheduler or the workers of Dask cannot run the app ({reason})", ENVIRONMENT)
    return ClusterError("The scheduler of Dask is gone", "Finished scans are kept; the same command goes on.")


def _distributed() -> Any:
    """Import Dask, which is no requirement of the app."""
    try:
        import distributed
    except ImportError as error:
        raise UsageError(f"--executor dask: {error}", INSTALL_HINT) from error
    return distributed


@contextmanager
def _connected(distributed: Any, **place: Any) -> Iterator[Any]:
    """Connect to a scheduler, and leave it without waiting for what still runs."""
    told = next(iter(place.values()))
    try:
        client = distributed.Client(**place, timeout=CONNECTING_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"--dask-scheduler {told}: no scheduler answers ({_first_line(error)})",
            "Give the address that it prints, such as tcp://10.0.0.1:8786, or the file of its --scheduler-file.",
        ) from error
    try:
        logger.info("Dask at %s: %d worker(s) now", client.scheduler.address, len(client.nthreads()))
        yield client
    finally:
        client.close(timeout=LEAVING_SECONDS)


def _first_line(error: BaseException) -> str:
    """Shorten what another library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

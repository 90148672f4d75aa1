"""Run many scans on Dask: on a cluster that is there, or on workers that a scheduler such as Slurm is asked for."""

import logging
import time
import uuid
from collections import deque
from collections.abc import Generator, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from bids_hsf import __version__
from bids_hsf.errors import ClusterError, UsageError
from bids_hsf.runs.dask_worker import Done, do_bundle
from bids_hsf.runs.tasks import MAX_KILLS, Bundle, OpenTools, Outcome, bundled, killed, tell_of_kills

logger = logging.getLogger(__name__)

INSTALL_HINT = "pip install 'bids-hsf[dask]', here and where the workers run."

# Of dask-jobqueue: its configuration names the first, its code the second.
JOB_QUEUES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "htcondor": "HTCondorCluster",
    "oar": "OARCluster",
    "moab": "MoabCluster",
}

# Workers that are asked for where nobody says how many.
MAX_WORKERS = 32

# Bundles under way at a time: the next one lies at the worker when one is done, and no more are kept in memory.
WINDOW_A_WORKER = 3
MIN_WINDOW = 8

CONNECTING_SECONDS = 30
COUNTING_SECONDS = 5.0  # workers come and go
WAITING_SECONDS = 60.0  # without any worker, before that is said
LEAVING_SECONDS = 3

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
    """

    scheduler: str | None = None
    job_queue: Path | None = None
    n_workers: int | None = None

    def run(self, tasks: Sequence[Any], open_tools: OpenTools, stop: bool) -> Generator[Outcome, None, None]:
        """Do each task once, as `Engine` says; one whose worker is killed time and again fails by itself."""
        with self._client(len(tasks)) as (client, expected):
            crowd = _Crowd(client, expected, open_tools, stop)
            crowd.check()
            waiting = deque(bundled(tasks, max(1, crowd.n_workers)))
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
    def _client(self, n_tasks: int) -> Iterator[tuple[Any, int]]:
        """Connect to the cluster; gives the client, and how many workers are expected beside those that are there."""
        distributed = _distributed()
        if self.job_queue is not None:
            most = min(self.n_workers or MAX_WORKERS, n_tasks)
            with _asked_for(self.job_queue, most) as cluster, _connected(distributed, address=cluster) as client:
                yield client, most
        else:
            assert self.scheduler is not None
            is_file = Path(self.scheduler).suffix == ".json"
            place = {"scheduler_file": self.scheduler} if is_file else {"address": self.scheduler}
            with _connected(distributed, **place) as client:
                yield client, 0


class _Crowd:
    """The workers of a cluster, as a run sees them."""

    def __init__(self, client: Any, expected: int, open_tools: OpenTools, stop: bool) -> None:
        self._client = client
        self._expected = expected
        self._open_tools = open_tools
        self._stop = stop
        self._run = uuid.uuid4().hex
        self._n_sent = 0
        self._counted_at = -COUNTING_SECONDS
        self._n_workers = 0
        self._alone_since = time.monotonic()

    @property
    def n_workers(self) -> int:
        """Workers that are there, or asked for; counted every few seconds."""
        now = time.monotonic()
        if now - self._counted_at >= COUNTING_SECONDS:
            self._counted_at = now
            self._n_workers = len(self._client.nthreads())
            if self._n_workers:
                self._alone_since = now
            elif now - self._alone_since >= WAITING_SECONDS:
                self._alone_since = now
                logger.warning("No worker of Dask is there; waiting for one")
        return max(self._n_workers, self._expected)

    def check(self) -> None:
        """Have a worker import the app, before it is given tasks: over those it would fall without a word, for ever.

        Raises
        ------
        ClusterError
            It cannot, has another version, or does not live through it, as often as the scheduler tries.
        """
        done: SimpleQueue[Any] = SimpleQueue()
        future = self._client.submit(exec, CHECK, key=f"bids-hsf-{self._run}", pure=False)
        future.add_done_callback(done.put)
        ended = None
        while ended is None and self.n_workers >= 0:  # counted, so that it is said where there is none
            ended = _ended(done)
        if future.status == "error" and _is_kill(future.exception()):
            raise ClusterError("The workers of Dask are killed when they import the app", ENVIRONMENT)
        _result(future)

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
                future = _ended(done)
                if future is None:
                    continue
                bundle = running.pop(future)
                outcomes = self._outcomes(future)
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
        if window is None:
            return 1
        return max(window * self.n_workers, MIN_WINDOW if window > 1 else 1)

    def _send(self, bundles: Sequence[Bundle]) -> list[Any]:
        names = [f"{bundle[0].key}-{self._run}-{self._n_sent + place}" for place, bundle in enumerate(bundles)]
        self._n_sent += len(bundles)
        function = partial(do_bundle, self._run, self._open_tools, stop=self._stop)
        futures: list[Any] = self._client.map(function, bundles, key=names, pure=False)
        return futures

    def _outcomes(self, future: Any) -> list[Outcome] | None:
        """Give what has come back, after what was logged there; None where the worker was killed."""
        if future.status == "error" and _is_kill(future.exception()):
            return None
        done: Done = _result(future)
        for record in done.records:
            logging.getLogger(record.name).handle(record)
        return done.outcomes


def _ended(done: SimpleQueue[Any]) -> Any:
    """Give a future that has ended; None where none has within a second."""
    with suppress(Empty):
        future = done.get(timeout=1.0)
        if future.status not in ("pending", "lost"):
            return future
        future.add_done_callback(done.put)  # lost with its worker: it is computed again
    return None


def _is_kill(error: BaseException) -> bool:
    """Whether the scheduler gave a task up, whose workers did not live through it."""
    from distributed import KilledWorker

    return isinstance(error, KilledWorker)


def _result(future: Any) -> Any:
    """Give what has come back.

    Raises
    ------
    ClusterError
        The scheduler is gone, or it or its workers cannot run the app.
    """
    if future.status == "error":
        error = future.exception()
        while error.__cause__ is not None:  # Dask's own words about it say less
            error = error.__cause__
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise ClusterError(f"The scheduler or the workers of Dask cannot run the app ({reason})", ENVIRONMENT)
    if future.status != "finished":
        raise ClusterError("The scheduler of Dask is gone", "Finished scans are kept; the same command goes on.")
    return future.result()


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


@contextmanager
def _asked_for(path: Path, most: int) -> Iterator[Any]:
    """Start a scheduler here, and have a batch system start its workers, as many as there is work for."""
    import dask

    try:
        import dask_jobqueue
    except ImportError as error:
        raise UsageError(f"--dask-jobqueue: {error}", INSTALL_HINT) from error
    settings = _job_queue_settings(path)
    (name,) = settings["jobqueue"]
    merged = {key: dask.config.merge(dask.config.get(key, {}), value) for key, value in settings.items()}
    with dask.config.set(merged):
        try:
            cluster = getattr(dask_jobqueue, JOB_QUEUES[name])()
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise UsageError(f"--dask-jobqueue {path}: {_last_line(error)}") from error
        try:
            _ask_for_first(cluster, f"--dask-jobqueue {path}: {name}")
            asked = dask.config.get("distributed.adaptive")
            most = int(min(most, asked["maximum"]))
            cluster.adapt(minimum=min(int(asked["minimum"]), most), maximum=most)
            logger.info("Dask asks %s for up to %d worker(s), as %s says", name, most, path)
            logger.debug("Job of a worker:\n%s", cluster.job_script())
            yield cluster
        finally:
            # Jobs that were never taken cannot be closed.
            for number in [n for n, job in cluster.workers.items() if job.status.name == "created"]:
                job = cluster.workers.pop(number)
                job.status = type(job.status).failed
            cluster.close(timeout=LEAVING_SECONDS)


def _ask_for_first(cluster: Any, told: str) -> None:
    """Ask for one worker, and see whether the batch system takes its job: later ones are asked for in the background.

    Raises
    ------
    UsageError
        It does not.
    """

    async def asked() -> None:
        cluster.worker_spec.update(cluster.new_worker_spec())
        await cluster

    try:
        cluster.sync(asked)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{told} takes no job: {_last_line(error)}") from error


def _job_queue_settings(path: Path) -> Mapping[str, Any]:
    """Read a configuration of dask-jobqueue, which names one batch system.

    Raises
    ------
    UsageError
        It is not one.
    """
    import dask

    expected = "expected for example {jobqueue: {slurm: {cores: 4, processes: 4, memory: 16GB, walltime: '04:00:00'}}}"
    if not path.is_file():
        raise UsageError(f"--dask-jobqueue: there is no file {path}")
    try:
        found = list(dask.config.collect_yaml([str(path)]))
    except Exception as error:
        raise UsageError(f"--dask-jobqueue: {' '.join(str(error).split())}", expected) from error
    settings = found[0] if found and isinstance(found[0], dict) else {}
    queues = settings.get("jobqueue")
    if not isinstance(queues, dict) or len(queues) != 1 or not set(queues) <= set(JOB_QUEUES):
        known = ", ".join(JOB_QUEUES)
        raise UsageError(f"--dask-jobqueue {path}: expected one of {known} under 'jobqueue'", expected)
    (name,) = queues
    known_keys = {key.replace("_", "-") for key in dask.config.get(f"jobqueue.{name}", {})}
    unknown = [key for key in queues[name] or {} if key.replace("_", "-") not in known_keys]
    if unknown:
        raise UsageError(
            f"--dask-jobqueue {path}: {name} has no setting {unknown[0]}", f"Known: {', '.join(sorted(known_keys))}"
        )
    for key in ("cores", "memory"):
        if dask.config.get(f"jobqueue.{name}.{key}") is None and not (queues[name] or {}).get(key):
            raise UsageError(f"--dask-jobqueue {path}: {name} lacks the setting {key}, of one job", expected)
    return settings


def _last_line(error: BaseException) -> str:
    """Say why a job was not taken: what the batch system says comes last."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _first_line(error: BaseException) -> str:
    """Shorten what another library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

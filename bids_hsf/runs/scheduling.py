"""Who does the scans of a run, and with what: an engine, how its processes open their tools, on which device."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Thread

from bids_hsf.errors import UsageError
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.models import fetch
from bids_hsf.machine import allowed_memory
from bids_hsf.networks.device import Device, choose_device, settings_to_try
from bids_hsf.networks.members import member_files
from bids_hsf.networks.providers import PROVIDERS
from bids_hsf.networks.rehearsal import rehearse
from bids_hsf.networks.sessions import MemberFile
from bids_hsf.runs import provenance
from bids_hsf.runs.config import Config, Resources
from bids_hsf.runs.dask_engine import DaskEngine
from bids_hsf.runs.dask_worker import worker_memory, worker_threads
from bids_hsf.runs.estimates import SAMPLED_SCANS, expected_memory_mb
from bids_hsf.runs.jobs import Job, Plan
from bids_hsf.runs.local_engines import InProcess, LocalPool
from bids_hsf.runs.tasks import Engine, OpenTools, TaskFunction

logger = logging.getLogger(__name__)

SCAN_MEMORY_MB = 1500  # of one process at work, where nobody has estimated it

# Threads of one scan: a second one buys a fifth, a fifth one nothing.
MAX_THREADS = 4

# One scan keeps a graphics processor busy for some seconds of the five that the processor needs for the rest.
MAX_ON_GPU = 4

MakeFunction = Callable[[Sequence[MemberFile], Device], TaskFunction]
"""Makes the function that does one scan, of verified networks and a device that works."""


@dataclass(frozen=True)
class Crew:
    """Who does the scans of a run, and with what.

    Attributes
    ----------
    engine : Engine
    open_tools : callable
        Makes a process ready for scans.
    resources : Resources
        What was asked for, and chosen.
    """

    engine: Engine
    open_tools: OpenTools
    resources: Resources

    def resources_on(self, device: Device) -> Resources:
        """Say what a replay has to use: another number of threads or another device gives other float sums."""
        return replace(self.resources, omp_nthreads=device.n_threads, device=device.name)


def muster(
    todo: Sequence[Job],
    plan: Plan,
    config: Config,
    cores: Callable[[], int],
    make: MakeFunction,
    make_ready: Callable[[], None],
) -> Crew:
    """Choose an engine; the model's files are fetched and verified before any scan.

    Parameters
    ----------
    todo : sequence of Job
    plan : Plan
    config : Config
    cores : callable
        Tells how many cores this process may use.
    make : callable
    make_ready : callable
        What this process needs for scans of its own, beside the choice of the device.
    """
    resources = config.resources
    if resources.executor == "dask":
        fetch(plan.card)
        engine = DaskEngine(
            resources.dask_scheduler, resources.dask_jobqueue, resources.nprocs, 60 * resources.dask_wait
        )
        return Crew(engine, partial(_open_on_worker, plan.card, config, make), resources)
    return _local_crew(todo, plan, config, cores(), make, make_ready)


def _local_crew(
    todo: Sequence[Job], plan: Plan, config: Config, cores: int, make: MakeFunction, make_ready: Callable[[], None]
) -> Crew:
    """Share this machine: its device is proved once for all processes."""
    ensemble = fetch(plan.card)
    networks = member_files(ensemble.member_paths, ensemble.card)
    scan_mb = max(expected_memory_mb(job, plan.card, config) for job in todo[:SAMPLED_SCANS])
    resources = config.resources
    n_processes, n_threads = share_cores(resources, len(todo), cores, allowed_memory(), scan_mb)
    total_bytes = resources.mem_mb << 20 if resources.mem_mb else allowed_memory()
    if n_processes == 1 and cores > 1:
        # The networks are opened and tried by native code, which leaves the interpreter to others.
        Thread(target=_quietly, args=(make_ready,), name="make ready").start()
    device = _chosen_device(config, networks, n_threads, total_bytes // n_processes)
    if resources.nprocs is None and _is_gpu(device):
        n_processes = min(n_processes, MAX_ON_GPU)
        device = replace(device, memory_bytes=total_bytes // n_processes)
    told = (plan.card.name, device.provider, n_processes, n_threads, device.reason)
    logger.info("%s on %s: %d scan(s) at once, %d thread(s) each (%s)", *told)
    if n_processes > 1:
        networks[0].let_go()  # each process opens its own
    engine = LocalPool(n_processes) if n_processes > 1 else InProcess()
    crew = Crew(engine, partial(make, networks, device), resources)
    return replace(crew, resources=crew.resources_on(device))


def _quietly(make_ready: Callable[[], None]) -> None:
    """Do what a scan needs ahead of it; what fails here fails there again, and is told."""
    with suppress(Exception):
        make_ready()


def _open_on_worker(card: ModelCard, config: Config, make: MakeFunction) -> TaskFunction:
    """Open the tools on a worker of Dask: its own device, in its own memory."""
    ensemble = fetch(card)
    networks = member_files(ensemble.member_paths, ensemble.card)
    resources = config.resources
    n_threads = resources.omp_nthreads or worker_threads(MAX_THREADS)
    limits = [worker_memory(), *([resources.mem_mb << 20] if resources.mem_mb else [])]
    device = _chosen_device(config, networks, n_threads, min(limits))
    told = (card.name, device.provider, n_threads, device.memory_bytes >> 20, device.reason)
    logger.debug("%s on %s: %d thread(s), %d MB (%s)", *told)
    return make(networks, device)


def _chosen_device(config: Config, networks: Sequence[MemberFile], n_threads: int, memory_bytes: int) -> Device:
    """Prove a device on the first network, once all of them have been seen not to crash."""
    compiled = (config.work_dir or provenance.default_work_dir(config.output_dir)) / provenance.COMPILED
    asked, reduced = config.resources.device, config.method.reduced_precision
    rehearse(networks, settings_to_try(asked, n_threads, compiled, reduced_precision=reduced))
    return choose_device(asked, networks[0], n_threads, memory_bytes, compiled, reduced_precision=reduced)


def _is_gpu(device: Device) -> bool:
    return any(provider.gpu for provider in PROVIDERS if provider.name == device.name)


def share_cores(
    resources: Resources,
    n_tasks: int,
    allowed: int,
    memory_bytes: int | None = None,
    scan_mb: int = SCAN_MEMORY_MB,
) -> tuple[int, int]:
    """Choose how many scans run at once and with how many threads each: as many as there are cores, of one thread.

    A second thread makes a scan a fifth faster, a second scan at once does 1.6 times as many in a time.

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
    (16, 1)
    >>> share_cores(Resources(), n_tasks=3, allowed=16)
    (3, 4)
    >>> share_cores(Resources(nprocs=3), n_tasks=100, allowed=16)
    (3, 5)
    """
    total = min(resources.nthreads or allowed, allowed)
    fitting = max(1, total // (resources.omp_nthreads or 1))
    memory_mb = resources.mem_mb or (memory_bytes >> 20 if memory_bytes else None)
    if memory_mb:
        fitting = max(1, min(fitting, memory_mb // scan_mb))
    n_processes = resources.nprocs or min(fitting, max(1, n_tasks))
    share = max(1, total // n_processes)
    n_threads = resources.omp_nthreads or (share if resources.nprocs else min(MAX_THREADS, share))
    if n_processes * n_threads > total:
        raise UsageError(
            f"--nprocs {n_processes} x --omp-nthreads {n_threads} exceeds the {total} core(s) to use",
            "--nthreads is the number of cores in total, --nprocs of scans at once, --omp-nthreads of threads a scan.",
        )
    return n_processes, n_threads

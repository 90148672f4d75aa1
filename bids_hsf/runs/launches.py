"""What a run would need on a cluster, and the launcher that asks for it."""

import math

import numpy as np

from bids_hsf.errors import StorageError, UnreadableImageError
from bids_hsf.images import open_scan
from bids_hsf.runs import estimates
from bids_hsf.runs.census import participant_line
from bids_hsf.runs.config import Config
from bids_hsf.runs.jobs import Job, Plan
from bids_hsf.runs.launchers import Launch, Needs, launcher_of
from bids_hsf.runs.planning import number_of_augmentations
from bids_hsf.runs.scheduling import share_cores
from bids_hsf.runs.states import State, state_of

USUAL_CORES = 2  # of a task; nodes lend few cores sooner than many


def launcher(plan: Plan, config: Config) -> str:
    """Write the launcher that was asked for."""
    assert config.behaviour.launcher is not None
    words = participant_line(config)
    launch = Launch(needs_of(plan, config), tuple(words), str(config.bids_dir), str(config.output_dir))
    return launcher_of(config.behaviour.launcher, launch)


def needs_of(plan: Plan, config: Config) -> Needs:
    """Reckon what the scans that are not done take, on cores of the kind that this machine has.

    Cores and memory of the machine on which this is asked, most likely a login node, do not count.
    """
    resources, card = config.resources, plan.card
    todo = [job for job in plan.jobs if config.behaviour.force or state_of(job) is not State.DONE] or plan.jobs
    n_augmentations = number_of_augmentations(card, config.method)
    sampled = todo[:: math.ceil(len(todo) / estimates.SAMPLED_SCANS)]
    sizes = [_size_of(job) for job in sampled]
    memory_mb = estimates.memory_mb(max(n_voxels for n_voxels, _ in sizes), card, n_augmentations, config.behaviour)
    cores = resources.nthreads or (resources.nprocs or 1) * (resources.omp_nthreads or 1)
    cores = cores if resources.nthreads or resources.nprocs or resources.omp_nthreads else USUAL_CORES
    limit = None if resources.mem_mb is None else resources.mem_mb << 20
    at_once, n_threads = share_cores(resources, len(todo), cores, limit, memory_mb)
    left = {job.key for job in todo}
    done = [job.outputs.provenance for job in plan.jobs if job.key not in left]
    measured = estimates.seconds_so_far(done or [job.outputs.provenance for job in plan.jobs])
    # The networks run where the worker decides; a graphics processor is not counted upon unless it is named.
    device = "cpu" if resources.device == "auto" else resources.device
    guessed = estimates.mean_seconds(sizes, card, n_augmentations, n_threads, device)
    return Needs(
        n_scans=len(todo),
        n_participants=len({job.scan.participant for job in todo}),
        scan_seconds=measured or guessed,
        at_once=at_once,
        cores=cores,
        memory_mb=resources.mem_mb or memory_mb * at_once,
        source="as the scans that are done" if measured else "a guess; better once some scans are done",
    )


def _size_of(job: Job) -> tuple[int, float]:
    """Voxels of a scan and their volume in mm3, by its header; those of a usual head where that cannot be read."""
    try:
        image = open_scan(job.scan.path)
    except (UnreadableImageError, StorageError):
        return estimates.USUAL_VOXELS, 1.0
    sides = np.sqrt((np.asarray(image.affine)[:3, :3] ** 2).sum(axis=0))
    return math.prod(image.shape[:3]), math.prod(map(float, sides))

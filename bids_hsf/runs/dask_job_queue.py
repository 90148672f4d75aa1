"""Workers of Dask that a batch system starts: what its file says, who asks for them, and whether they still wait."""

import getpass
import logging
import os
import re
import shlex
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bids_hsf.errors import UsageError
from bids_hsf.runs.dask_absence import Supply

logger = logging.getLogger(__name__)

INSTALL_HINT = "pip install 'bids-hsf[dask]', here and where the workers run."
LEAVING_SECONDS = 3
LISTING_SECONDS = 30
NAMED_JOBS = 5


@dataclass(frozen=True)
class BatchSystem:
    """What starts jobs.

    Attributes
    ----------
    cluster : str
        Its class in dask-jobqueue.
    listing : str
        Command that lists the jobs of a user that have not ended, one a line; ``{user}`` and ``{uid}`` are filled in.
    waiting : str
        Pattern of the word in that line that says that the job has not begun.
    """

    cluster: str
    listing: str
    waiting: str


# By their names in dask-jobqueue's configuration.
BATCH_SYSTEMS: Mapping[str, BatchSystem] = {
    "slurm": BatchSystem("SLURMCluster", "squeue --noheader --user={uid} '--format=%i %t'", "PD|CF|RQ|RH|RF"),
    "pbs": BatchSystem("PBSCluster", "qstat -u {user}", "[QHWT]"),
    "sge": BatchSystem("SGECluster", "qstat -u {user}", "h?R?qw"),
    "lsf": BatchSystem("LSFCluster", "bjobs -w", "PEND|PSUSP"),
    "htcondor": BatchSystem(
        "HTCondorCluster",
        r"condor_q -format '%d.' ClusterId -format '%d ' ProcId -format 'status-%d\n' JobStatus",
        "status-[15]",
    ),
    "oar": BatchSystem("OARCluster", "oarstat -u {user}", "[WLH]"),
    "moab": BatchSystem("MoabCluster", "showq -w user={user}", "Idle|Deferred|Hold|BatchHold"),
}


@contextmanager
def asked_for(path: Path, most: int) -> Iterator[tuple[Any, Supply]]:
    """Start a scheduler here, and have a batch system start its workers, as many as there is work for."""
    import dask

    try:
        import dask_jobqueue
    except ImportError as error:
        raise UsageError(f"--dask-jobqueue: {error}", INSTALL_HINT) from error
    settings = _settings(path)
    (name,) = settings["jobqueue"]
    merged = {key: dask.config.merge(dask.config.get(key, {}), value) for key, value in settings.items()}
    with dask.config.set(merged):
        try:
            cluster = getattr(dask_jobqueue, BATCH_SYSTEMS[name].cluster)()
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise UsageError(f"--dask-jobqueue {path}: {_last_line(error)}") from error
        try:
            _ask_for_first(cluster, f"--dask-jobqueue {path}: {name}")
            asked = dask.config.get("distributed.adaptive")
            most = int(min(most, asked["maximum"]))
            cluster.adapt(minimum=min(int(asked["minimum"]), most), maximum=most)
            logger.info("Dask asks %s for up to %d worker(s), as %s says", name, most, path)
            logger.debug("Job of a worker:\n%s", cluster.job_script())
            yield cluster, Supply(most, partial(_n_waiting, name, cluster), partial(_advice, cluster, path))
        finally:
            # Jobs that were never taken cannot be closed.
            for number in [n for n, job in cluster.workers.items() if job.status.name == "created"]:
                job = cluster.workers.pop(number)
                job.status = type(job.status).failed
            cluster.close(timeout=LEAVING_SECONDS)


def n_in_queue(name: str, jobs: Collection[str]) -> int | None:
    """Count those of some jobs that have not begun.

    Parameters
    ----------
    name : str
        A batch system, as dask-jobqueue's configuration calls it.
    jobs : collection of str
        Their numbers.

    Returns
    -------
    int or None
        None where the batch system does not say.
    """
    system = BATCH_SYSTEMS[name]
    words = [word.format(user=_user(), uid=os.getuid()) for word in shlex.split(system.listing)]
    try:
        listed = subprocess.run(  # noqa: S603 - the batch system's own command, as its table has it
            words, check=False, capture_output=True, text=True, timeout=LISTING_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.debug("%s: %s", words[0], error)
        return None
    # LSF fails where there are no jobs.
    if listed.returncode and "no unfinished job" not in listed.stderr.lower():
        logger.debug("%s: exit %d: %s", words[0], listed.returncode, listed.stderr.strip())
        return None
    lines = [line.split() for line in listed.stdout.splitlines() if line.strip()]
    number = re.compile("|".join(rf"(?<!\d){re.escape(job)}(?!\d)" for job in jobs) or "(?!)")
    waiting = re.compile(system.waiting)
    return sum(bool(number.search(words[0])) and any(map(waiting.fullmatch, words[1:])) for words in lines)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # of a container, whose users have no names
        return str(os.getuid())


def _n_waiting(name: str, cluster: Any) -> int | None:
    return n_in_queue(name, _jobs(cluster))


def _jobs(cluster: Any) -> list[str]:
    return [job.job_id for job in list(cluster.workers.values()) if job.job_id]


def _advice(cluster: Any, path: Path) -> str:
    """Say where to look for the reason why jobs have ended, or run, without a worker that is known here."""
    jobs = _jobs(cluster)
    more = ["..."] if len(jobs) > NAMED_JOBS else []
    named = (
        f"What its jobs have written says why ({', '.join([*jobs[:NAMED_JOBS], *more])}): often" if jobs else "Often"
    )
    return (
        f"{named} that they cannot reach this machine, whose network {path} names by 'interface', or memory, walltime, "
        f"or a full disk of the node. The same command goes on; --dask-wait waits longer."
    )


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


def _settings(path: Path) -> Mapping[str, Any]:
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
    if not isinstance(queues, dict) or len(queues) != 1 or not set(queues) <= set(BATCH_SYSTEMS):
        known = ", ".join(BATCH_SYSTEMS)
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

"""Which scans are done, failed or missing, and why."""

import logging
from collections.abc import Sequence
from enum import StrEnum

from bids_hsf import __version__
from bids_hsf.bids.provenance import read_provenance
from bids_hsf.bids.sidecars import Sidecar, find_sidecar
from bids_hsf.errors import OutputError
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.provenance import replaced_inputs

logger = logging.getLogger(__name__)


class State(StrEnum):
    """Where a scan stands in an output folder."""

    DONE = "done"
    FAILED = "failed"
    MISSING = "missing"
    DIFFERENT = "made with other settings"
    REPLACED = "made of another image"


def state_of(job: Job) -> State:
    """Compare what is on disk with what is asked for."""
    return _judge(job, find_sidecar(job.outputs.sidecar))


def _judge(job: Job, sidecar: Sidecar | None) -> State:
    if sidecar is None:
        return State.FAILED if job.outputs.failure.exists() else State.MISSING
    if sidecar.request != dict(job.request):
        return State.DIFFERENT
    if not all(path.exists() for path in job.expected_files):
        return State.MISSING
    return State.REPLACED if replaced(job) else State.DONE


def replaced(job: Job) -> list[str]:
    """Relative paths of the images that are not those which the result was made of."""
    inputs = read_provenance(job.outputs.provenance).inputs
    others = replaced_inputs(inputs, job.inputs)
    # Derivatives that differ in space- alone have outputs of one name; a file that was compressed since is the same.
    known = {image.path.removesuffix(".gz") for image in inputs}
    if known and job.scan.relative_path.removesuffix(".gz") not in known:
        others.insert(0, job.scan.relative_path)
    return others


def unfinished(jobs: Sequence[Job], force: bool) -> list[Job]:
    """Jobs that are still to be done; with `force` all of them. What is odd about the finished ones is logged.

    Raises
    ------
    OutputError
        Results that were made with another variant or other settings lie under the same names.
    """
    if force:
        return list(jobs)
    sidecars = [find_sidecar(job.outputs.sidecar) for job in jobs]
    states = [_judge(job, sidecar) for job, sidecar in zip(jobs, sidecars, strict=True)]
    different = [job for job, state in zip(jobs, states, strict=True) if state is State.DIFFERENT]
    if different:
        raise _refusal(different)
    for job, state in zip(jobs, states, strict=True):
        if state is State.REPLACED:
            logger.warning("%s is done again: %s is not the image of last time", job.key, ", ".join(replaced(job)))
    pairs = zip(sidecars, states, strict=True)
    versions = {sidecar.app_version for sidecar, state in pairs if sidecar and state is State.DONE}
    for version in sorted(versions - {__version__}):
        logger.warning(
            "Some finished scans were made by bids-hsf %s; this is %s. --force redoes them", version, __version__
        )
    return [job for job, state in zip(jobs, states, strict=True) if state is not State.DONE]


def is_done_by_now(job: Job) -> bool:
    """Whether another run has done what was unfinished.

    Raises
    ------
    OutputError
        It has done so with other settings.
    """
    state = state_of(job)
    if state is State.DIFFERENT:
        raise _refusal([job])
    return state is State.DONE


def _refusal(different: Sequence[Job]) -> OutputError:
    job = different[0]
    what = difference(job)
    return OutputError(
        f"{len(different)} scan(s), first {job.key}, were made with other settings: {what}",
        "Use another output folder, or --force to replace them.",
    )


def difference(job: Job) -> str:
    """Name the settings in which an existing result differs from the request."""
    sidecar = find_sidecar(job.outputs.sidecar)
    found = {} if sidecar is None else sidecar.request
    names = [name for name in job.request if name != "Members" and found.get(name) != job.request[name]]
    return "; ".join(f"{name} was {found.get(name)}, now {job.request[name]}" for name in names) or "other model files"

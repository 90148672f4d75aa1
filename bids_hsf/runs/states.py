"""Which scans are done, failed or missing, and why."""

import logging
from collections.abc import Sequence
from enum import StrEnum

from bids_hsf import __version__
from bids_hsf.bids import output_dataset
from bids_hsf.bids.provenance import Provenance, changed_files, read_provenance
from bids_hsf.bids.sidecars import Sidecar, find_sidecar
from bids_hsf.errors import OutputError
from bids_hsf.runs.beginnings import is_at_work, read_beginning
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.provenance import replaced_inputs

logger = logging.getLogger(__name__)


class State(StrEnum):
    """Where a scan stands in an output folder."""

    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"
    RUNNING = "running"
    MISSING = "missing"
    DIFFERENT = "made with other settings"
    REPLACED = "made of another image"
    CHANGED = "not as it was written"


def state_of(job: Job) -> State:
    """Compare what is on disk with what is asked for."""
    return judged(job, find_sidecar(job.outputs.sidecar))


def judged(job: Job, sidecar: Sidecar | None, *, watch: bool = False) -> State:
    """Do the same where the sidecar of the result, if there is one, has been read.

    With `watch` it may take a while to tell who still is at work, as `is_at_work` says; what is to be done is the same.
    """
    if job.name_fault is not None:
        return State.FAILED
    if sidecar is None:
        return _state_of_nothing(job, watch)
    if _is_of_another(job, sidecar):
        return State.DIFFERENT
    if sidecar.request != dict(job.request):
        return State.DIFFERENT
    if not all(path.exists() for path in job.expected_files):
        return State.MISSING
    known = read_provenance(job.outputs.provenance)
    if _changed(job, known):
        return State.CHANGED
    return State.REPLACED if _replaced(job, known) else State.DONE


def _state_of_nothing(job: Job, watch: bool) -> State:
    """Where a scan without results stands: the latest record counts, that of a beginning."""
    beginning = read_beginning(job.outputs.started)
    if beginning is not None:
        at_work = is_at_work(beginning, job.outputs.started, job.outputs.claim, watch=watch)
        return State.RUNNING if at_work else State.KILLED
    return State.FAILED if job.outputs.failure.exists() else State.MISSING


def replaced(job: Job) -> list[str]:
    """Relative paths of the images that are not those which the result was made of."""
    return _replaced(job, read_provenance(job.outputs.provenance))


def _replaced(job: Job, known: Provenance) -> list[str]:
    inputs = known.inputs
    others = replaced_inputs(inputs, job.inputs)
    # Derivatives that differ in space- alone have outputs of one name; a file that was compressed since is the same.
    names = {image.path.removesuffix(".gz") for image in inputs}
    if names and job.scan.relative_path.removesuffix(".gz") not in names:
        others.insert(0, job.scan.relative_path)
    return others


def changed(job: Job) -> list[str]:
    """Names of the results that are empty, cut, or not as they were written."""
    return _changed(job, read_provenance(job.outputs.provenance))


def _changed(job: Job, known: Provenance) -> list[str]:
    return changed_files(job.outputs.output_dir, known.outputs, job.expected_files)


def unfinished(jobs: Sequence[Job], force: bool) -> list[Job]:
    """Jobs that are still to be done; with `force` all of them. What is odd about the finished ones is logged.

    Raises
    ------
    OutputError
        Results that were made with another variant or other settings lie under the same names, or those of another
        scan would.
    """
    _check_case(jobs)
    if force:
        return list(jobs)
    sidecars = [find_sidecar(job.outputs.sidecar) for job in jobs]
    states = [judged(job, sidecar) for job, sidecar in zip(jobs, sidecars, strict=True)]
    different = [job for job, state in zip(jobs, states, strict=True) if state is State.DIFFERENT]
    if different:
        raise _refusal(different)
    for job, state in zip(jobs, states, strict=True):
        if state is State.REPLACED:
            logger.warning("%s is done again: %s is not the image of last time", job.key, ", ".join(replaced(job)))
        if state is State.CHANGED:
            logger.warning("%s is done again: %s is not as it was written", job.key, ", ".join(changed(job)))
    pairs = zip(sidecars, states, strict=True)
    versions = {sidecar.app_version for sidecar, state in pairs if sidecar and state is State.DONE}
    for version in sorted(versions - {__version__}):
        logger.warning(
            "Some finished scans were made by bids-hsf %s; this is %s. --force redoes them", version, __version__
        )
    return [job for job, state in zip(jobs, states, strict=True) if state is not State.DONE]


def _check_case(jobs: Sequence[Job]) -> None:
    """Refuse scans that differ in upper and lower case alone, on a disk that does not tell these apart.

    Raises
    ------
    OutputError
        They do; or results lie there of a scan whose name does.
    """
    if not jobs or not output_dataset.ignores_case(jobs[0].outputs.output_dir):
        return
    first: dict[str, Job] = {}
    for job in jobs:
        for name in (job.scan.subject, job.outputs.stem):
            other = first.setdefault(name.lower(), job)
            if name not in (other.scan.subject, other.outputs.stem):
                raise _one_name(other.key, job.key)
        sidecar = find_sidecar(job.outputs.sidecar)
        if sidecar is not None and _is_of_another(job, sidecar):
            raise _one_name(sidecar.scan, job.key)


def _is_of_another(job: Job, sidecar: Sidecar) -> bool:
    """Whether a result is of a scan that has another name to us, and the same to its disk."""
    return sidecar.scan != job.key and sidecar.scan.lower() == job.key.lower()


def _one_name(first: str, second: str) -> OutputError:
    return OutputError(
        f"Results of {first} and of {second} would have the same names: "
        "the disk of the output folder does not tell upper and lower case apart",
        "Rename one of them, or give it an output folder of its own, by --participant-label, or on another disk.",
    )


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
    sidecar = find_sidecar(job.outputs.sidecar)
    if sidecar is not None and _is_of_another(job, sidecar):
        return _one_name(sidecar.scan, job.key)
    what = difference(job)
    return OutputError(
        f"{len(different)} scan(s), first {job.key}, were made with other settings: {what}",
        "Use another output folder, or --force to replace them.",
    )


def difference(job: Job) -> str:
    """Name the settings in which an existing result differs from the request."""
    sidecar = find_sidecar(job.outputs.sidecar)
    if sidecar is not None and _is_of_another(job, sidecar):
        return f"it is of {sidecar.scan}, which is the same name to this disk"
    found = {} if sidecar is None else sidecar.request
    names = [name for name in job.request if name != "Members" and found.get(name) != job.request[name]]
    return "; ".join(f"{name} was {found.get(name)}, now {job.request[name]}" for name in names) or "other model files"

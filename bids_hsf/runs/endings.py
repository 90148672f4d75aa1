"""How scans and whole runs ended: in the log, in a record of each failure, in the exit code."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from bids_hsf.bids.provenance import Failure
from bids_hsf.bids.sidecars import find_sidecar
from bids_hsf.errors import BidsHsfError, DiskError, ImageStorageError, OutputError, StorageError
from bids_hsf.files import write_json
from bids_hsf.findings import WEIGHTS, Finding, Weight, worst
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.states import State, state_of
from bids_hsf.runs.tasks import Outcome

logger = logging.getLogger(__name__)

SOME_FAILED, ALL_FAILED = 1, 65
MAX_NAMED = 20  # scans on one line
MAX_UNWRITTEN = 4  # scans in a row that a disk does not take


def log_outcome(outcome: Outcome, job: Job, progress: str) -> None:
    """One line a scan; a failure also leaves its reason for the status level."""
    if outcome.error is None:
        logger.info("%s: done in %.1f s (%s)", outcome.key, outcome.seconds, progress)
        _tell_findings(job)
        return
    logger.error("%s: %s", outcome.key, outcome.error.message)
    if outcome.error.hint:
        logger.error("%s: hint: %s", outcome.key, outcome.error.hint)
    is_of_output = isinstance(outcome.error, StorageError) and not isinstance(outcome.error, ImageStorageError)
    if is_of_output or isinstance(outcome.error, OutputError):
        return
    with suppress(BidsHsfError, OSError):
        if state_of(job) is State.DONE:  # by another run; or it was to be done again, and is still as it was
            return
        error, model = outcome.error, str(job.request["Model"])
        failure = Failure(error.message, error.hint, error.exit_code, job.key, model)
        write_json(job.outputs.failure, failure.to_json())
        job.outputs.started.unlink(missing_ok=True)  # of a worker that was killed


def _tell_findings(job: Job) -> None:
    """Tell what is to be known of a finished scan, a line a weight, the heaviest first."""
    findings = findings_of(job)
    for weight in reversed(WEIGHTS):
        texts = [finding.text for finding in findings if finding.weight is weight]
        if texts:
            level = logging.INFO if weight is Weight.NOTE else logging.WARNING
            logger.log(level, "%s: %s: %s", job.key, weight, "; ".join(texts))


def findings_of(job: Job) -> tuple[Finding, ...]:
    """Read what is to be known of a finished scan."""
    sidecar = find_sidecar(job.outputs.sidecar)
    return () if sidecar is None else sidecar.findings


def say_what_to_look_at(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
    """Name the scans of this run whose results somebody has to look at, the worst first."""
    done = {outcome.key for outcome in outcomes if outcome.error is None}
    weights = {job.key: worst(findings_of(job)) for job in jobs if job.key in done}
    named = [
        f"{key} ({each})" for each in (Weight.FAIL, Weight.CHECK) for key, weight in weights.items() if weight is each
    ]
    if named:
        more = [f"{len(named) - MAX_NAMED} more"] if len(named) > MAX_NAMED else []
        listed = ", ".join([*named[:MAX_NAMED], *more])
        logger.warning("%d of %d scan(s) to be looked at before use: %s", len(named), len(done), listed)


def while_disk_lasts(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Pass outcomes on until several in a row tell of a disk that takes nothing more: the rest would be in vain."""
    in_a_row = 0
    for outcome in outcomes:
        yield outcome
        in_a_row = in_a_row + 1 if isinstance(outcome.error, DiskError) else 0
        if in_a_row == MAX_UNWRITTEN:
            logger.error("The disk has not taken %d scans in a row: no further one is begun", in_a_row)
            return


def summarize(jobs: Sequence[Job], todo: Sequence[Job], outcomes: Sequence[Outcome]) -> int:
    """Say how the run ended; returns its exit code."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    n_left = len(todo) - len(outcomes)
    n_done = len(jobs) - len(errors) - n_left
    rest = f", {n_left} not begun" if n_left else ""
    logger.log(
        logging.WARNING if errors or n_left else logging.INFO, "%d of %d scan(s) done%s", n_done, len(jobs), rest
    )
    if not errors:
        return SOME_FAILED if n_left else 0
    # A full disk or a broken model is not the fault of the scans.
    codes = {error.exit_code for error in errors}
    return SOME_FAILED if n_done else codes.pop() if len(codes) == 1 else ALL_FAILED

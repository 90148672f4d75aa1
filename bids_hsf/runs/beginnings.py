"""Who began with a scan: a record that goes with its end, and stays where the run was killed."""

import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bids_hsf.bids.names import STARTED_END
from bids_hsf.bids.typed_json import Fields, NotWholeError
from bids_hsf.files import is_held, read_json, sweep, write_json
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.signals import Stopped

logger = logging.getLogger(__name__)

BEAT_SECONDS = 15.0  # between two signs of life
STALE_SECONDS = 180.0  # without one a run is gone; where clocks are set, they differ less
WRONG_SECONDS = 86400.0  # by which a clock may be slow: of older signs none is waited for
WATCHES_SECONDS = 300.0  # what was seen once is not looked at again for so long

# What schedulers call the job, in their own words: Slurm's arrays, its other jobs, PBS and Torque, LSF, SGE.
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")


@dataclass(frozen=True)
class Beginning:
    """Who began with a scan, and how that ended if not by itself.

    Attributes
    ----------
    when : str
        Date and time.
    host : str
    process : int
    job : str or None
        The scheduler's name of the job, such as "123_4" for a task of a Slurm array.
    ended_by : str or None
        Name of the signal that the run was told to stop by; None while it runs, and where it had no time to tell.
    """

    when: str
    host: str
    process: int
    job: str | None = None
    ended_by: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {
            "Started": self.when,
            "Host": self.host,
            "Process": self.process,
            "Job": self.job,
            "EndedBy": self.ended_by,
        }

    @property
    def told(self) -> str:
        """What became of it, in a sentence for people."""
        who = f"job {self.job} on {self.host}" if self.job else f"process {self.process} on {self.host}"
        how = (
            f"was ended by {self.ended_by}"
            if self.ended_by
            else "was killed without a word (memory, time, a lost node?), or its disk took none any more"
        )
        return f"{who} began it at {self.when} and {how}"


@contextmanager
def told(job: Job) -> Iterator[None]:
    """Record that this process is at work on a scan, with signs of life, while the block runs."""
    path = job.outputs.started
    sweep(path.parent)  # here, since a scan that fails each time gets no further
    beginning = Beginning(time.strftime("%Y-%m-%dT%H:%M:%S%z"), platform.node(), os.getpid(), scheduler_job(os.environ))
    write_json(path, beginning.to_json())
    over = threading.Event()
    threading.Thread(target=_beat, args=(path, over), daemon=True).start()
    try:
        yield
    except (KeyboardInterrupt, Stopped) as stop:
        over.set()
        number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else int(stop.code or 0) - 128
        with suppress(Exception):  # a disk that takes no word
            write_json(path, replace(beginning, ended_by=_signal_name(number)).to_json())
        raise
    except BaseException:
        _forget(path)  # whoever hears of the error records it
        raise
    else:
        _forget(path)
    finally:
        over.set()


def _forget(path: Path) -> None:
    """Remove a record; on a disk that is read-only by now it stays, and hides no error that is more to the point."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a signal"


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        with suppress(OSError):
            os.utime(path)


def scheduler_job(environ: Mapping[str, str]) -> str | None:
    """Name of the job that this process is part of, None where no scheduler started it."""
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    if array and task:
        return f"{array}_{task}"
    name = next((environ[name] for name in JOB_VARIABLES if environ.get(name)), None)
    task = next((environ[name] for name in ("LSB_JOBINDEX", "SGE_TASK_ID") if environ.get(name, "").isdigit()), "0")
    return f"{name}[{task}]" if name and task != "0" else name


def read_beginning(path: Path) -> Beginning | None:
    """Read who began with a scan; None where nobody is at it, nor was killed at it."""
    content = read_json(path)
    if content is None:
        return None
    fields = Fields(content)
    try:
        return Beginning(
            fields.text("Started") or "?",
            fields.text("Host") or "?",
            int(fields.number("Process") or 0),
            fields.text("Job"),
            fields.text("EndedBy"),
        )
    except NotWholeError:
        return Beginning("?", "?", 0)


def is_at_work(beginning: Beginning, record: Path, claim: Path, *, watch: bool = False) -> bool:
    """Whether who began with a scan still is at it: it holds the lock `claim`, or has touched its `record` since.

    A lock that is free says something on the machine of its holder alone: not all file systems show it to others. Nor
    are all clocks right: with `watch`, where the last sign of life is of no time at which a run would be at work, the
    next one is waited for, once for all scans of an output folder.
    """
    if beginning.ended_by is not None:
        return False
    if is_held(claim):
        return True
    if beginning.host == platform.node():
        return False
    try:
        age = time.time() - record.stat().st_mtime
    except OSError:
        return False
    if abs(age) < STALE_SECONDS:
        return True
    if watch and age < WRONG_SECONDS:
        return record.name in _seen_alive(_all_records(record), time.monotonic() // WATCHES_SECONDS)
    return 0 > age > -WRONG_SECONDS


def _all_records(record: Path) -> Path:
    """Folder under which the records of all scans lie."""
    return next((folder for folder in record.parents if folder.name == "logs"), record.parent)


@lru_cache(maxsize=4)
def _seen_alive(folder: Path, _period: float) -> frozenset[str]:
    """Watch the records of beginnings for as long as it takes to see a sign of life; names of those that gave one."""
    before = {path: _touched(path) for path in folder.rglob(f"*{STARTED_END}")}
    seconds = 1.25 * BEAT_SECONDS
    logger.info("Signs of life are of a time long past or to come: looking for %.0f s who still is at work", seconds)
    time.sleep(seconds)
    # What is gone by now has come to its end by itself.
    return frozenset(path.name for path, touched in before.items() if _touched(path) != touched)


def _touched(record: Path) -> int | None:
    """Tell the time of the last sign of life: by opening the file, as a file server may tell what was a minute ago."""
    try:
        with record.open("rb") as stream:
            return os.fstat(stream.fileno()).st_mtime_ns
    except OSError:
        return None

"""Tasks, how each of them ends, and what an engine is: whoever gets many tasks done."""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from bids_hsf.errors import BidsHsfError, MemoryLimitError, StorageError
from bids_hsf.files import of_disk
from bids_hsf.machine import no_more_threads
from bids_hsf.networks.device import Device

logger = logging.getLogger(__name__)

# So many workers killed one after the other are no accident of one scan.
MAX_KILLS = 4

# Tasks of one kin that a process is given at once; with more, the others would wait for it in the end.
MAX_BUNDLE = 4


class Task(Protocol):
    """A unit of work."""

    @property
    def key(self) -> str:
        """Name of the task, in the log."""

    @property
    def kin(self) -> str:
        """Name of what it shares with the tasks beside it: what one has found, the next in its process need not."""


TaskFunction = Callable[[Any], Device | None]
"""Does one task, and tells where it was computed, if that is worth telling."""

OpenTools = Callable[[], TaskFunction]
"""Opens what all tasks of a process share, and gives the function that does one; it travels there by pickle."""

Bundle = tuple[Any, ...]
"""Tasks that one process does one after the other."""


@dataclass(frozen=True)
class Outcome:
    """How one task ended.

    Attributes
    ----------
    key : str
    seconds : float
    error : BidsHsfError or None
    device : Device or None
        Where it was computed.
    """

    key: str
    seconds: float
    error: BidsHsfError | None = None
    device: Device | None = None


Outcomes = Generator[Outcome, None, None]


class Engine(Protocol):
    """Gets tasks done: in this process, in others of this machine, or on other machines."""

    def run(
        self, tasks: Sequence[Any], open_tools: Callable[[], TaskFunction], stop: bool
    ) -> Generator[Outcome, None, None]:
        """Do each task once and tell how it ended, as soon as it did; one failure leaves the others unharmed.

        Parameters
        ----------
        tasks : sequence of Task
        open_tools : callable
            Called once in each process that does tasks.
        stop : bool
            Start no further task after the first failure; those that run are finished.
        """


def run_one(function: TaskFunction, task: Task) -> Outcome:
    """Do one task; whatever is raised becomes its outcome."""
    started = time.perf_counter()
    error: BidsHsfError | None = None
    device: Device | None = None
    try:
        device = function(task)
    except BidsHsfError as known:
        error = known
    except MemoryError:
        error = MemoryLimitError(f"{task.key}: out of memory", "Lower --nprocs or raise the memory of the job.")
    except OSError as failed:
        logger.debug("%s", task.key, exc_info=True)
        error = _of_system(task, failed)
    except Exception as unknown:
        logger.debug("%s", task.key, exc_info=True)
        limit = no_more_threads(unknown)
        reason = f"{type(unknown).__name__}: {' '.join(str(unknown).split())}"
        report = "Please report it, with the file in logs/."
        error = limit or BidsHsfError(f"{task.key}: internal error ({reason})", report)
    return Outcome(task.key, time.perf_counter() - started, error, device)


def run_bundle(do: Callable[[Any], Outcome], bundle: Bundle, stop: bool) -> list[Outcome]:
    """Do tasks one after the other; with `stop`, up to the first failure."""
    outcomes = []
    for task in bundle:
        outcomes.append(do(task))
        if stop and outcomes[-1].error is not None:
            break
    return outcomes


def bundled(tasks: Sequence[Any], n_processes: int) -> list[Bundle]:
    """Put tasks of one kin that follow each other together, where there are enough of these for all processes."""
    bundles: list[Bundle] = []
    for _, kin in groupby(tasks, key=lambda task: task.kin):
        members = tuple(kin)
        bundles += [members[first : first + MAX_BUNDLE] for first in range(0, len(members), MAX_BUNDLE)]
    # Of few, the last would be done while other processes have nothing to do.
    return bundles if len(bundles) >= 2 * n_processes else [(task,) for task in tasks]


def killed(task: Task) -> Outcome:
    """Tell of a task whose process did not live through it."""
    message = f"{task.key}: its worker process was killed, most likely for want of memory"
    hint = "Lower --nprocs, or raise the memory of the job; finished scans are kept."
    return Outcome(task.key, 0.0, MemoryLimitError(message, hint))


def tell_of_kills(n_left: int) -> None:
    """Say that a run ends since all workers are killed; the rest is not to blame, and recorded as missing."""
    logger.error("%d worker processes were killed in a row; %d scan(s) not begun", MAX_KILLS, n_left)


def _of_system(task: Task, failed: OSError) -> BidsHsfError:
    """Say what the system has refused."""
    limit = no_more_threads(failed)
    if limit is not None:
        return limit
    place = f" ({failed.filename})" if failed.filename else ""
    message = f"{task.key}: {failed.strerror or failed}{place}"
    return of_disk(StorageError(message, "Check disks, mounts and permissions; the same command goes on."), failed)

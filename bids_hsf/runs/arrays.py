"""Which task of a scheduler's array this process is: Slurm, PBS, Torque, SGE and LSF, by their variables."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from bids_hsf.bids.shards import Shard
from bids_hsf.errors import UsageError
from bids_hsf.runs.config import Config

logger = logging.getLogger(__name__)

AUTO = "auto"
MAX_DIGITS = 18


@dataclass(frozen=True)
class Task:
    """A task of an array.

    Attributes
    ----------
    scheduler : str
    number : int
        As the scheduler has it.
    first, last, step : int or None
        The array's numbers, where the scheduler tells them.
    count : int or None
        Its tasks, where the scheduler tells so.
    """

    scheduler: str
    number: int
    first: int | None = None
    last: int | None = None
    step: int | None = None
    count: int | None = None

    @property
    def shard(self) -> Shard | None:
        """The slice of this task; None where the array's numbers are not told, or have gaps."""
        if self.first is None or self.last is None:
            return None
        step = self.step or 1
        count = (self.last - self.first) // step + 1
        place, rest = divmod(self.number - self.first, step)
        if rest or not 0 <= place < count or self.count not in (None, count):
            return None
        return Shard(place + 1, count, by_itself=True)


# Scheduler; variables of the number, the first and the last one, the step and the count; "=1" stands for itself.
VARIABLES = (
    (
        "Slurm",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_MAX",
        "SLURM_ARRAY_TASK_STEP",
        "SLURM_ARRAY_TASK_COUNT",
    ),
    ("SGE", "SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE", ""),
    ("LSF", "LSB_JOBINDEX", "=1", "LSB_JOBINDEX_END", "LSB_JOBINDEX_STEP", ""),
    ("PBS", "PBS_ARRAY_INDEX", "", "", "", ""),
    ("Torque", "PBS_ARRAYID", "", "", "", ""),
)


def array_task(environ: Mapping[str, str]) -> Task | None:
    """Tell which task of an array this process is; None where it is none.

    A job that was sent from within another scheduler's has that one's variables, too: the first is taken, with a word.
    """
    found = list(_tasks(environ))
    if len(found) > 1:
        told = ", ".join(f"task {task.number} of {task.scheduler}" for task in found)
        logger.warning("Several schedulers tell of an array (%s): the first is taken; --shard K/N says which", told)
    return found[0] if found else None


def _tasks(environ: Mapping[str, str]) -> Iterator[Task]:
    """Tasks of arrays that the environment tells of, by scheduler."""
    for scheduler, own, *others in VARIABLES:
        number = _number(environ, own)
        if number is None or (scheduler == "LSF" and number == 0):  # a job that is no array
            continue
        first, last, step, count = (_number(environ, name) for name in others)
        if scheduler == "Slurm" and first is None and count is not None:  # versions that tell the count alone
            first, last = 1, count
        yield Task(scheduler, number, first, last, step, count)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    """Read a number; "undefined" (SGE), what is not there, and what no array can have are none."""
    text = name[1:] if name.startswith("=") else environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def shard_of(text: str, environ: Mapping[str, str]) -> Shard:
    """Read the value of ``--shard``: "3/10", "auto", or "auto/10" where the scheduler tells no count.

    Raises
    ------
    UsageError
        It is not written so, or there is no array, or one with gaps.
    """
    word, _, count = text.partition("/")
    if word != AUTO:
        return Shard.parse(text)
    task = array_task(environ)
    if task is None:
        raise UsageError(f"--shard {text}: this is no task of an array", "Name the shard: --shard K/N")
    if count:
        return Shard.parse(f"{task.number - (1 if task.first is None else task.first) + 1}/{count}")
    shard = task.shard
    if shard is None:
        hint = "Tell how many shards there are: --shard auto/N for an array of 1 to N, or --shard K/N"
        raise UsageError(
            f"--shard auto: {task.scheduler} does not tell the place of task {task.number} in its array", hint
        )
    return Shard(shard.index, shard.count)


def in_array(config: Config, environ: Mapping[str, str]) -> Config:
    """Take the slice of the array's task, where there is one and neither participants nor a slice were named.

    Where the scheduler does not tell the place of the task, all participants are taken, as without an array.
    """
    selection = config.selection
    task = array_task(environ) if not selection.participants and selection.shard is None and not config.images else None
    if task is None:
        return config
    if task.shard is None:
        logger.warning(
            "This is task %d of an array of %s, which does not tell how many there are: all participants are taken; "
            "--shard auto/N takes a slice",
            task.number,
            task.scheduler,
        )
        return config
    if task.shard.count == 1:
        return config
    return replace(config, selection=replace(selection, shard=task.shard))

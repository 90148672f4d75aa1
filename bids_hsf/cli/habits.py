"""Words that people bring from other programs: taken as what they mean here, passed over with a word, or answered."""

import argparse
import logging
from dataclasses import dataclass
from typing import Any

from bids_hsf.errors import UsageError

logger = logging.getLogger(__name__)

LOW_MEM, DEBUG = "low_mem", "debug"  # where the parser keeps them
DEBUG_VERBOSITY = 2


@dataclass(frozen=True)
class Habit:
    """An option that changes nothing here.

    Attributes
    ----------
    flags : tuple of str
    answer : str
        Why it changes nothing; empty where that is what people want to hear, and nothing is said.
    value : str or None
        What it takes: a metavar, one with "..." for several; None for nothing.
    """

    flags: tuple[str, ...]
    answer: str = ""
    value: str | None = None


HABITS = (
    Habit(("--notrack",)),
    Habit(("--no-sub",)),  # of MRIQC
    Habit(("--task-id", "-t"), "anatomical images belong to no task", "LABEL..."),
    Habit(("--resource-monitor",), "seconds and memory of each scan are in OUTPUT_DIR/logs/*_provenance.json anyway"),
    Habit(("--track-carbon",), "carbon is not measured; seconds and hardware are in OUTPUT_DIR/logs/*_provenance.json"),
    Habit(("--country-code",), "carbon is not measured", "CODE"),
    Habit(("--use-plugin",), "scans are shared out by --nprocs here, and by a scheduler's job arrays", "FILE"),
    Habit(("--fs-license-file",), "FreeSurfer is not needed", "FILE"),
    Habit(("--fs-no-reconall", "--no-submm-recon"), "FreeSurfer is not needed"),
    Habit(("--anat-only",), "anatomical images are all that is looked at"),
    Habit(("--longitudinal",), "each session is segmented by itself; group_changes.tsv has what changed between them"),
    Habit(("--write-graph",), "there is no workflow to be drawn"),
    Habit(("--output-layout",), "the outputs always have the layout of BIDS derivatives", "LAYOUT"),
)


class PassOver(argparse.Action):
    """Take an option that changes nothing, and say why it does not.

    Parameters
    ----------
    answer : str
    """

    def __init__(self, *words: Any, answer: str, **options: Any) -> None:
        super().__init__(*words, **options)
        self.answer = answer

    def __call__(self, _parser: argparse.ArgumentParser, _namespace: Any, _value: Any, flag: str | None = None) -> None:
        """Answer."""
        if self.answer:
            logger.info("%s changes nothing: %s", flag, self.answer)


def add_habits(group: Any) -> None:
    """Add all of them to a group of arguments."""
    text = "one scan at a time, the same as --nprocs 1"
    group.add_argument("--low-mem", dest=LOW_MEM, action="store_true", help=text)
    text = "all that can be logged, the same as -vv"
    group.add_argument("--debug", dest=DEBUG, nargs="*", choices=("all", "compcor", "fieldmaps", "pdb"), help=text)
    for habit in HABITS:
        several = habit.value is not None and habit.value.endswith("...")
        takes = {} if habit.value is None else {"metavar": habit.value.removesuffix("...")}
        group.add_argument(
            *habit.flags,
            dest="habits",
            action=PassOver,
            answer=habit.answer,
            nargs="+" if several else 0 if habit.value is None else None,
            help=habit.answer or "nothing is ever sent anywhere",
            **takes,
        )


def take_habits(options: dict[str, Any]) -> None:
    """Turn what has a meaning here into the options that have it.

    Raises
    ------
    UsageError
        ``--low-mem`` beside more than one scan at once.
    """
    if options.pop(DEBUG, None) is not None:
        options["behaviour.verbosity"] = max(options.get("behaviour.verbosity", 0), DEBUG_VERBOSITY)
    if options.pop(LOW_MEM, False) and options.setdefault("resources.nprocs", 1) != 1:
        raise UsageError(f"--low-mem is one scan at a time, which contradicts --nprocs {options['resources.nprocs']}")

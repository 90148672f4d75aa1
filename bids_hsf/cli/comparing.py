"""``bids-hsf compare``: two models on the same scans, from results that are there."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bids_hsf.cli.actions import path_of
from bids_hsf.cli.console import Advice, Console, OneLine, exit_code_of, handling, ours, report_error, show
from bids_hsf.cli.parser import meant
from bids_hsf.errors import UsageError
from bids_hsf.runs.config import LEVELS
from bids_hsf.runs.signals import stoppable

COMMAND = "compare"

ADVICE = Advice(
    stopped="Nothing half-written was left; run the same command again.",
    out_of_memory="Give the job more memory.",
    internal="Please report it.",
)

DESCRIPTION = """Compare two models on the same scans: Dice, volume differences, Bland-Altman plots, a page.

  bids-hsf compare OUT                               the two models of one output folder
  bids-hsf compare OUT --models hsfSingleFast subfieldsSingleFast
  bids-hsf compare OUT1 OUT2                         the same model, or other settings, in two folders

Written are group_comparison_*.html, .tsv (one row a structure of a scan) and .json (its data dictionary)."""

EPILOG = (
    """exit codes: 0 compared; 2 it is not clear which models are meant; 66 nothing to compare; 74 writing failed."""
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are this app's."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, without the whole usage, and which word is likely meant."""
        raise UsageError(message, f"{meant(message, self._option_string_actions)}See bids-hsf compare --help")


def is_comparison(arguments: Sequence[str]) -> bool:
    """Whether a command line begins with this command; a dataset of that name has a level behind it."""
    return arguments[:1] == [COMMAND] and not set(LEVELS) & set(arguments[2:])


def build_parser() -> argparse.ArgumentParser:
    """All arguments of the command."""
    parser = _Parser(
        prog=f"bids-hsf {COMMAND}",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("first", type=path_of, metavar="OUT1", help="output folder of bids-hsf")
    parser.add_argument("second", type=path_of, nargs="?", metavar="OUT2", help="a second one (default: OUT1)")
    text = "the two that are meant, by name or by their seg- label; one for both folders (default: what there is)"
    parser.add_argument("--models", nargs="+", default=[], metavar="MODEL", help=text)
    text = "folder for what is written (default: OUT1)"
    parser.add_argument("-o", "--output-dir", type=path_of, metavar="DIR", help=text)
    return parser


def compare_main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    logging.raiseExceptions = False
    console = Console()
    console.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    console.setLevel(logging.INFO)
    console.addFilter(ours)

    def work() -> int:
        options = build_parser().parse_args(list(arguments))
        folders: tuple[Path, ...] = (options.first,) if options.second is None else (options.first, options.second)
        if len(options.models) > 2 or (len(options.models) == 1 and len(folders) == 1):
            raise UsageError(f"--models takes two names, got {' '.join(options.models)}")
        from bids_hsf.runs.comparing import Asked, compare

        show(str(compare(Asked(folders, tuple(options.models), options.output_dir))))
        return 0

    with handling(console), stoppable() as stop:
        return exit_code_of(work, report_error, stop, ADVICE)

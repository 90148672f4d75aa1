"""``bids-hsf``: BIDS-App arguments to a Config, errors to exit codes."""

import logging
import logging.handlers
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bids_hsf.cli.arguments import config_of, parse
from bids_hsf.cli.comparing import compare_main, is_comparison
from bids_hsf.cli.console import (
    Advice,
    Console,
    OneLine,
    RunLog,
    everything,
    exit_code_of,
    handling,
    ours,
    report_error,
    settle_streams,
    show,
)
from bids_hsf.cli.hsf import is_hsf, translate
from bids_hsf.machine import (
    allowed_cores,
    check_threads,
    keep_numpy_small,
    search_rarely_for_cycles,
)
from bids_hsf.runs.config import Config
from bids_hsf.runs.signals import stoppable

if TYPE_CHECKING:
    from bids_hsf.workflow import Seams

logger = logging.getLogger("bids_hsf")

SPARE_THREADS = 8  # of the log, the validator, the pool of processes

ADVICE = Advice(
    stopped="Finished scans are kept, the same command goes on with the rest.",
    out_of_memory="Lower --nprocs, or give the job more memory.",
    internal="Please report it, with the file in logs/ of the output folder.",
)


def main(argv: Sequence[str] | None = None, seams: "Seams | None" = None) -> int:
    """Run the app; returns the exit code.

    Known errors become one line in the log, unknown ones one line and a traceback in the file.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if is_hsf(arguments):
        return hsf_main(arguments[1:] if arguments[0] == "hsf" else arguments, seams)
    if is_comparison(arguments):
        return compare_main(arguments[1:])
    keep_numpy_small()
    search_rarely_for_cycles()
    # A log that cannot be written (full disk) is no reason to print tracebacks.
    logging.raiseExceptions = False
    console = Console()
    console.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))

    def work() -> int:
        config = config_of(parse(arguments), arguments)
        console.setLevel(logging.DEBUG if config.behaviour.verbosity > 0 else logging.INFO)
        console.addFilter(everything if config.behaviour.verbosity > 1 else ours)
        return run(config, run_log, seams)

    with handling(console), RunLog() as run_log, stoppable() as stop:
        return exit_code_of(work, report_error, stop, ADVICE)


def hsf_main(argv: Sequence[str] | None = None, seams: "Seams | None" = None) -> int:
    """Run a command line of HSF's in the words of this app; returns the exit code."""
    settle_streams()
    runs, code = translate(sys.argv[1:] if argv is None else argv)
    for words in runs:
        code = max(code, main(words, seams))
    return code


def run(config: Config, run_log: RunLog, seams: "Seams | None" = None) -> int:
    """Run the workflow, whose imports take seconds."""
    from bids_hsf.runs.provenance import default_work_dir, keep_caches_out_of_the_way

    cores = allowed_cores()
    check_threads(min(config.resources.nthreads or cores, cores) + SPARE_THREADS)
    keep_caches_out_of_the_way(config.work_dir or default_work_dir(config.output_dir))
    from bids_hsf import workflow

    return workflow.run(config, workflow.Terminal(begin_log=run_log.open, show=show), seams)

"""``bids-hsf``: BIDS-App arguments to a Config, log handlers, errors to exit codes."""

import logging
import logging.handlers
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bids_hsf.arguments import config_of, parse, show
from bids_hsf.config import Config
from bids_hsf.errors import BidsHsfError, StorageError
from bids_hsf.stopping import Stop, Stopped, stoppable

logger = logging.getLogger("bids_hsf")

INTERRUPTED = 130  # what shells report for Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run the app; returns the exit code.

    Known errors become one line in the log, unknown ones one line and a traceback in the file.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # A log that cannot be written (full disk) is no reason to print tracebacks.
    logging.raiseExceptions = False
    console = _Console()
    console.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    with _handling(console), _RunLog() as run_log, stoppable() as stop:
        try:
            config = config_of(parse(arguments), arguments)
            console.setLevel(logging.DEBUG if config.behaviour.verbosity > 0 else logging.INFO)
            console.addFilter(_everything if config.behaviour.verbosity > 1 else _ours)
            return run(config, run_log)
        except BidsHsfError as error:
            return report_error(error)
        except (KeyboardInterrupt, Stopped):
            return report_stop(stop)
        except MemoryError:
            return report_error(BidsHsfError("Out of memory", "Lower --nprocs, or give the job more memory."))
        except OSError as error:
            logger.debug("Where it happened", exc_info=True)
            place = f" ({error.filename})" if error.filename else ""
            return report_error(
                StorageError(f"{error.strerror or error}{place}", "Check disks, mounts and permissions.")
            )
        except Exception as error:
            if stop.code:  # a library that is being imported turns the signal into an error of its own
                return report_stop(stop)
            logger.debug("Internal error", exc_info=True)
            summary = f"Internal error: {type(error).__name__}: {' '.join(str(error).split())}"
            return report_error(BidsHsfError(summary, "Please report it, with the file in logs/ of the output folder."))


def run(config: Config, run_log: "_RunLog") -> int:
    """Run the workflow, whose imports take seconds."""
    from bids_hsf.provenance import default_work_dir, keep_caches_out_of_the_way

    keep_caches_out_of_the_way(config.work_dir or default_work_dir(config.output_dir))
    from bids_hsf import workflow

    return workflow.run(config, workflow.Terminal(begin_log=run_log.open, show=show))


def report_stop(stop: Stop) -> int:
    """Say that a signal ended the run; returns its exit code."""
    logger.error("Stopped by a signal; finished scans are kept, the same command goes on with the rest")
    return stop.code or INTERRUPTED


def report_error(error: BidsHsfError) -> int:
    """Log an error and its hint; returns its exit code."""
    logger.error("%s", error.message)
    if error.hint:
        logger.error("hint: %s", error.hint)
    return error.exit_code


class _Console(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the terminal above a progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        progress = sys.modules.get("tqdm")
        if progress is None:
            super().emit(record)
        else:
            progress.tqdm.write(self.format(record), file=self.stream)


@contextmanager
def _handling(handler: logging.Handler) -> Iterator[None]:
    """Add a handler to the root logger for a while."""
    root = logging.getLogger()
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()


class _RunLog:
    """The log in full, kept in memory until the output folder stands, then in its ``logs/``."""

    def __enter__(self) -> "_RunLog":
        self._handler: logging.Handler = logging.handlers.MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)
        self._handler.addFilter(_debug_of_ours)
        logging.getLogger().addHandler(self._handler)
        return self

    def open(self, path: Path) -> None:
        """Write the log to a file from now on, with all that came before; a second file of one run is not begun."""
        memory = self._handler
        if not isinstance(memory, logging.handlers.MemoryHandler):
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"Cannot write {path}: {error.strerror}", "Check free space and permissions.") from error
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        file.addFilter(_debug_of_ours)
        memory.setTarget(file)
        memory.flush()
        self._replace(file)

    def _replace(self, handler: logging.Handler | None) -> None:
        root = logging.getLogger()
        root.removeHandler(self._handler)
        self._handler.close()
        if handler is not None:
            self._handler = handler
            root.addHandler(handler)

    def __exit__(self, *_: object) -> None:
        self._replace(None)


def _everything(_record: logging.LogRecord) -> bool:
    return True


def _ours(record: logging.LogRecord) -> bool:
    """On the terminal, others are heard from warnings on; not Python itself, nor nibabel on headers: we say those."""
    if record.name in ("py.warnings", "nibabel.global"):
        return False
    return record.name.startswith("bids_hsf") or record.levelno >= logging.WARNING


def _debug_of_ours(record: logging.LogRecord) -> bool:
    """In the file, other packages are heard from INFO on."""
    return record.name.startswith("bids_hsf") or record.levelno >= logging.INFO

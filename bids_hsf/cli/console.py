"""What people read: the terminal, the log of a run, texts that were asked for, errors; and the exit codes of these."""

import io
import logging.handlers
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from bids_hsf.errors import BidsHsfError, StorageError
from bids_hsf.machine import no_more_threads
from bids_hsf.runs.signals import Stop, Stopped
from bids_hsf.text_table import printable

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # what shells report for Ctrl-C
STDERR = 2


@dataclass(frozen=True)
class Advice:
    """What to do next after an error that knows no hint of its own.

    Attributes
    ----------
    stopped : str
        After a signal.
    out_of_memory : str
    internal : str
        After an error that nobody foresaw.
    """

    stopped: str
    out_of_memory: str
    internal: str


def exit_code_of(work: Callable[[], int], report: Callable[[BidsHsfError], int], stop: Stop, advice: Advice) -> int:
    """Do some work; whatever ends it is reported as one known error.

    Parameters
    ----------
    work : callable
        Returns its exit code.
    report : callable
        Says an error and its hint; returns its exit code.
    stop : Stop
        Handler of the signals, which knows which one came.
    advice : Advice

    Returns
    -------
    int
        The exit code.
    """
    try:
        return work()
    except BidsHsfError as error:
        return report(error)
    except (KeyboardInterrupt, Stopped):
        return report(_stopped(stop, advice))
    except MemoryError:
        return report(BidsHsfError("Out of memory", advice.out_of_memory))
    except Exception as error:
        if stop.code:  # a library that is being imported turns the signal into an error of its own
            return report(_stopped(stop, advice))
        logger.debug("Where it happened", exc_info=True)
        limit = no_more_threads(error)
        if limit is not None:
            return report(limit)
        if isinstance(error, OSError):
            place = f" ({error.filename})" if error.filename else ""
            return report(StorageError(f"{error.strerror or error}{place}", "Check disks, mounts and permissions."))
        summary = f"Internal error: {type(error).__name__}: {' '.join(str(error).split())}"
        return report(BidsHsfError(summary, advice.internal))


def _stopped(stop: Stop, advice: Advice) -> BidsHsfError:
    """Say that a signal ended the work."""
    gone = " (SIGHUP: the terminal or the connection is gone)" if stop.code == 128 + signal.SIGHUP else ""
    error = BidsHsfError(f"Stopped by a signal{gone}", advice.stopped)
    error.exit_code = stop.code or INTERRUPTED
    return error


class OneLine(logging.Formatter):
    """Gives each record one line in which no name commands the terminal; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Format the line without its traceback."""
        return printable(super().formatMessage(record), kept="\t")

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Format a traceback."""
        return printable(super().formatException(ei))


COLOURS = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31"}  # yellow, red


def coloured(text: str, level: int, stream: TextIO) -> str:
    """Text in the colour of a warning or an error, if a terminal shows it and nobody asked for none (NO_COLOR)."""
    colour = COLOURS.get(level)
    terminal = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if colour is None or not terminal or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


class Console(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the terminal above a progress bar, if there is one; a terminal that is gone is no reason to stop."""

    def __init__(self) -> None:
        settle_streams()
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        try:
            text = coloured(self.format(record), record.levelno, self.stream)
            progress = sys.modules.get("tqdm")
            if progress is None:
                print(text, file=self.stream, flush=True)
            else:
                progress.tqdm.write(text, file=self.stream)
        except (OSError, ValueError):  # full, closed, or a pipe without a reader
            let_go(self.stream)
        except Exception:
            self.handleError(record)


def settle_streams() -> None:
    """Make sure that the standard streams are there and take every text.

    Where one was closed (``2>&-``) the next file that is opened would get its number, and what a library prints with
    it; and names of files hold bytes that no encoding knows.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def let_go(stream: TextIO) -> None:
    """Send what is still to be printed nowhere: Python would complain once more on exit, and change its code."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def handling(handler: logging.Handler) -> Iterator[None]:
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


class LogFile(logging.FileHandler):
    """A file that may fill its disk: said once, and the run goes on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's own
        """Say that it cannot be written."""
        if not self._failed:
            self._failed = True
            logger.warning("The log %s cannot be written: %s", self.baseFilename, sys.exc_info()[1])

    def close(self) -> None:
        """Close it, whatever becomes of the last lines."""
        with suppress(OSError):
            super().close()


class RunLog:
    """The log in full, kept in memory until the output folder stands, then in its ``logs/``."""

    def __enter__(self) -> "RunLog":
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
            file = LogFile(path)
        except OSError as error:
            raise StorageError(f"Cannot write {path}: {error.strerror}", "Check free space and permissions.") from error
        file.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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


def _print(text: str) -> None:
    """Print, whatever the encoding of the terminal: what it has not is spelt out."""
    try:
        print(text, flush=True)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def complain(line: str, level: int = logging.NOTSET) -> None:
    """Print a line to standard error, if anybody is there to read it; of a level above INFO in its colour."""
    try:
        print(coloured(printable(line, kept=""), level, sys.stderr), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        let_go(sys.stderr)


def everything(_record: logging.LogRecord) -> bool:
    """Let every record through."""
    return True


def ours(record: logging.LogRecord) -> bool:
    """On the terminal, others are heard from warnings on; not Python itself, nor nibabel on headers: we say those."""
    if record.name in ("py.warnings", "nibabel.global"):
        return False
    return record.name.startswith("bids_hsf") or record.levelno >= logging.WARNING


def _debug_of_ours(record: logging.LogRecord) -> bool:
    """In the file, other packages are heard from INFO on."""
    return record.name.startswith("bids_hsf") or record.levelno >= logging.INFO


def show(text: str) -> None:
    """Print what was asked for (a table, a listing) to standard output.

    Raises
    ------
    StorageError
        It cannot be written there.
    """
    try:
        _print(printable(text))
    except BrokenPipeError:
        # `bids-hsf ... status | head` is no error.
        let_go(sys.stdout)
    except OSError as error:
        let_go(sys.stdout)
        raise StorageError(f"Cannot write to standard output: {error.strerror}", "Check free space.") from error


def report_error(error: BidsHsfError) -> int:
    """Log an error and its hint; returns its exit code."""
    logger.error("%s", error.message)
    if error.hint:
        logger.error("hint: %s", error.hint)
    return error.exit_code

import io
import logging
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bids_hsf.cli.console import Advice, Console, OneLine, RunLog, coloured, exit_code_of
from bids_hsf.errors import BidsHsfError, FetchError, StorageError
from bids_hsf.runs.signals import Stop, Stopped

ADVICE = Advice("run it again", "lower something", "report it")


def ended_by(error: BaseException, stop: Stop) -> tuple[int, BidsHsfError]:
    said: list[BidsHsfError] = []

    def work() -> int:
        raise error

    def report(known: BidsHsfError) -> int:
        said.append(known)
        return known.exit_code

    return exit_code_of(work, report, stop, ADVICE), said[0]


def test_work_that_ends_well_has_its_own_code() -> None:
    assert exit_code_of(lambda: 3, lambda _: 70, Stop(), ADVICE) == 3


@pytest.mark.parametrize(
    ("error", "code", "message", "hint"),
    [
        (FetchError("gone", "look there"), 69, "gone", "look there"),
        (MemoryError(), 70, "Out of memory", "lower something"),
        (OSError(28, "No space left", "/x"), 74, "No space left (/x)", "Check disks, mounts and permissions."),
        (OSError("odd"), 74, "odd", "Check disks, mounts and permissions."),
        (KeyError("x"), 70, "Internal error: KeyError: 'x'", "report it"),
        (KeyboardInterrupt(), 130, "Stopped by a signal", "run it again"),
    ],
)
def test_what_ends_the_work_is_a_known_error(error: BaseException, code: int, message: str, hint: str) -> None:
    left, said = ended_by(error, Stop())
    assert (left, said.message, said.hint) == (code, message, hint)


@pytest.mark.parametrize("error", [Stopped(), ImportError("initialization failed"), OSError("cut short")])
def test_after_a_signal_its_code_counts(error: BaseException) -> None:
    stop = Stop(at_work=False)
    stop(signal.SIGTERM, None)
    left, said = ended_by(error, stop)
    assert (left, said.message) == (143, "Stopped by a signal")


def test_log_of_a_run_holds_what_came_before_it_was_opened(tmp_path: Path) -> None:
    logger = logging.getLogger("bids_hsf.test")
    logger.setLevel(logging.DEBUG)
    with RunLog() as log:
        logger.info("early")
        log.open(tmp_path / "logs" / "run.log")
        logger.info("late")
        log.open(tmp_path / "logs" / "second.log")
    text = (tmp_path / "logs" / "run.log").read_text(encoding="utf-8")
    assert text.index("early") < text.index("late")
    assert not (tmp_path / "logs" / "second.log").exists()
    (tmp_path / "file").touch()
    with RunLog() as log, pytest.raises(StorageError, match="Cannot write"):
        log.open(tmp_path / "file" / "run.log")


def test_closed_pipe_is_no_error() -> None:
    code = "import sys; from bids_hsf.cli.console import show; show('x' * 100_000); show('y'); sys.exit(0)"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_log_that_fills_its_disk_is_told_once_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("bids_hsf.test")
    full = tmp_path / "run.log"
    full.symlink_to("/dev/full")
    with RunLog() as log:
        log.open(full)
        for _ in range(3):
            logger.warning("a line")
    told = [record.getMessage() for record in caplog.records if "cannot be written" in record.getMessage()]
    assert told == [f"The log {full} cannot be written: [Errno 28] No space left on device"]


def test_names_of_bytes_that_are_no_text_are_shown_and_logged(tmp_path: Path) -> None:
    code = (
        "import logging, os; from bids_hsf.cli.console import Console, show\n"
        "logging.getLogger().addHandler(Console())\n"
        "logging.getLogger().warning('%s', os.fsdecode(b'caf\\xe9'))\n"
        "show(os.fsdecode(b'caf\\xe9'))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "caf\\udce9\n", "caf\\udce9\n")


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


class TestColours:
    @pytest.fixture(autouse=True)
    def _a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)

    def test_warnings_and_errors_alone(self) -> None:
        assert coloured("x", logging.WARNING, Terminal()) == "\x1b[33mx\x1b[0m"
        assert coloured("x", logging.ERROR, Terminal()) == "\x1b[31mx\x1b[0m"
        assert coloured("x", logging.INFO, Terminal()) == "x"

    def test_files_and_pipes_have_none(self) -> None:
        assert coloured("x", logging.ERROR, io.StringIO()) == "x"

    @pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
    def test_who_wants_none_has_none(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        monkeypatch.setenv(name, value)
        assert coloured("x", logging.ERROR, Terminal()) == "x"

    def test_a_record_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        console = Console()
        console.setFormatter(OneLine("%(levelname)s %(message)s"))
        console.handle(logging.makeLogRecord({"levelno": logging.WARNING, "levelname": "WARNING", "msg": "a\x1b[2J"}))
        assert stream.getvalue() == "\x1b[33mWARNING a\\x1b[2J\x1b[0m\n"

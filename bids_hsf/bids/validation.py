"""Check the selected subjects with the BIDS validator; findings inform."""

import fcntl
import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


TIMEOUT_SECONDS = 300
SECONDS_A_SUBJECT = 0.2  # forty times what an idle machine needs
GRACE_SECONDS = 10.0
SUBJECTS_AT_ONCE = 500
PREFIX = "bids-hsf-validate-"
UNLOCKED_SECONDS = 60.0  # between a folder and its lock no more passes
MAX_TEXT_BYTES = 64 << 20  # the validator reads sidecars whole, sparse ones of terabytes too
# What comes of signals that were meant for the run and all its processes.
SIGNALLED = {code for number in (1, 2, 15) for code in (-number, 128 + number)} | {-signal.SIGKILL}
SHOWN_FINDINGS = 8
ROOT_FILES = ("README", "README.md", "CHANGES", "LICENSE")


@contextmanager
def validating(bids_dir: Path, subjects: Collection[str], work_dir: Path) -> Iterator[None]:
    """Let bids-validator-deno look at the anatomical images of some subjects while the block runs.

    It takes 1.3 s even for one subject, on a core that the first scan leaves idle. Findings are logged as soon as
    they are there; whatever they are, the run goes on: an image that cannot be processed says so itself, with better
    words. A block that is left by an error waits a moment for them, one that is left by a signal does not.
    """
    _sweep(work_dir)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=work_dir) as folder, _held(Path(folder)):
        validation = _Validation(bids_dir, sorted(subjects), Path(folder))
        validation.start()
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception):
                validation.join(GRACE_SECONDS)
                if validation.is_alive():
                    logger.info("BIDS validator: stopped before it had ended")
            validation.stop()
            raise
        finally:
            validation.join()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock a folder: the lock of a run that is killed goes with it, and the next run sees that."""
    with _descriptor(folder) as descriptor:
        with suppress(OSError):  # no locks here
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _sweep(work_dir: Path) -> None:
    """Remove the folders of killed runs."""
    for folder in work_dir.glob(f"{PREFIX}*"):
        with suppress(OSError), _descriptor(folder) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.stat().st_mtime < time.time() - UNLOCKED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _descriptor(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Validation(threading.Thread):
    """Validates subjects, some at a time: the validator keeps all that it has seen, half a megabyte a subject.

    It has no subject filter either, so that it is given trees of links in a folder.
    """

    def __init__(self, bids_dir: Path, subjects: Sequence[str], folder: Path) -> None:
        super().__init__(name="validator")
        self._bids_dir, self._subjects, self._folder = bids_dir, subjects, folder
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self) -> None:
        """Validate, and tell the findings of all parts together."""
        issues: dict[str, Any] = {}
        for start in range(0, len(self._subjects), SUBJECTS_AT_ONCE):
            report = self._validate(self._subjects[start : start + SUBJECTS_AT_ONCE])
            if report is None:
                return
            # Each part finds the same of what it shares with others.
            issues |= {json.dumps(issue): issue for issue in report["issues"]["issues"]}
        tell_findings({"issues": {"issues": list(issues.values())}})

    def _validate(self, subjects: Sequence[str]) -> dict[str, Any] | None:
        tree = self._folder / f"from-{subjects[0]}"
        try:
            link_subjects(self._bids_dir, subjects, tree)
        except OSError as error:
            _warn(error)
            return None
        self._process = start_validator(tree, self._folder)
        if self._process is None:
            return None
        if self._stopped:
            self._process.kill()
        return read_report(self._process, TIMEOUT_SECONDS + SECONDS_A_SUBJECT * len(subjects))

    def stop(self) -> None:
        """Let it end at once, without a word."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()


def tell_findings(report: dict[str, Any]) -> Counter[str]:
    """Log a report in a few lines; returns error codes and the number of files that have them."""
    errors = [issue for issue in report["issues"]["issues"] if issue["severity"] == "error" and not _left_alone(issue)]
    counts = Counter(issue["code"] for issue in errors)
    for code, count in counts.most_common(SHOWN_FINDINGS):
        first = next(issue for issue in errors if issue["code"] == code)
        logger.warning("BIDS validator: %s in %d place(s), first %s", code, count, first.get("location", "?"))
    if len(counts) > SHOWN_FINDINGS:
        logger.warning("BIDS validator: %d further kinds of error", len(counts) - SHOWN_FINDINGS)
    if not counts:
        logger.info("BIDS validator: no errors")
    return counts


def _left_alone(issue: dict[str, Any]) -> bool:
    """Whether a finding comes from the choice of subjects: T2w.json in the root, and no T2w among those chosen."""
    return issue["code"] == "SIDECAR_WITHOUT_DATAFILE" and str(issue.get("location", "")).count("/") == 1


def link_subjects(bids_dir: Path, subjects: Iterable[str], tree: Path) -> None:
    """Make a dataset of links to the root files and the anat folders of some subjects."""
    tree.mkdir(parents=True)
    for path in bids_dir.iterdir():
        if (path.name in ROOT_FILES or path.suffix == ".json") and path.name != "participants.json":
            _link_file(path, tree / path.name)
    for subject in subjects:
        folder = bids_dir / f"sub-{subject}"
        for anat in [folder / "anat", *folder.glob("ses-*/anat")]:
            if os.path.isdir(anat):  # noqa: PTH112 - is_dir() raises where the folder is closed to us
                link = tree / anat.relative_to(bids_dir)
                link.parent.mkdir(parents=True, exist_ok=True)
                _link_folder(anat, link)


def _link_folder(folder: Path, link: Path) -> None:
    """Link a folder, or its files one by one where some of them are none for the validator."""
    with suppress(PermissionError):  # it says so itself
        files = list(folder.iterdir())
        if any(_is_unfit(path) for path in files):
            link.mkdir()
            for path in files:
                _link_file(path, link / path.name)
            return
    link.symlink_to(folder, target_is_directory=True)


def _link_file(path: Path, link: Path) -> None:
    if _is_unfit(path):
        logger.warning("BIDS validator: %s is not looked at: it is no file, or larger than any text", path)
    elif os.path.lexists(path):
        link.symlink_to(path)


def _is_unfit(path: Path) -> bool:
    """Whether a file would keep the validator for ever: a pipe, a device, a text of gigabytes."""
    try:
        found = path.stat()
    except OSError:  # a broken link is for the validator to tell
        return False
    if stat.S_ISDIR(found.st_mode):
        return False
    is_image = path.name.endswith((".nii", ".nii.gz"))
    return not stat.S_ISREG(found.st_mode) or (found.st_size > MAX_TEXT_BYTES and not is_image)


def start_validator(dataset: Path, cache_dir: Path) -> "subprocess.Popen[str] | None":
    """Start bids-validator-deno on a folder; None (with a warning) where there is none."""
    program = Path(sys.executable).with_name("bids-validator-deno")
    command = [str(program) if program.exists() else shutil.which("bids-validator-deno") or str(program)]
    # The validator insists on a cache folder, and containers often have no home.
    environment = {**os.environ, "DENO_DIR": str(cache_dir / "deno"), "NO_COLOR": "1"}
    try:
        return subprocess.Popen(  # noqa: S603 - our own dependency, on a path that we made
            [*command, "--format", "json", str(dataset)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
    except OSError as error:
        _warn(error)
        return None


def read_report(process: "subprocess.Popen[str]", timeout: float) -> dict[str, Any] | None:
    """Wait for a validator's report; None (with a warning) where it does not come, silently where it was stopped."""
    try:
        output, _ = process.communicate(timeout=timeout)
        report: dict[str, Any] = json.loads(output)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        _warn(error)
    except ValueError as error:
        if process.returncode not in SIGNALLED:
            _warn(error)
    else:
        return report
    return None


def run_validator(dataset: Path, cache_dir: Path) -> dict[str, Any] | None:
    """Report of bids-validator-deno on a folder, or None (with a warning) where it cannot run."""
    process = start_validator(dataset, cache_dir)
    return None if process is None else read_report(process, TIMEOUT_SECONDS)


def _warn(error: Exception) -> None:
    logger.warning("The BIDS validator could not run (%s); the input is not validated", error)

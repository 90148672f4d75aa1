"""Check the selected subjects with the BIDS validator; findings inform."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


TIMEOUT_SECONDS = 300
SECONDS_A_SUBJECT = 0.2  # forty times what an idle machine needs
GRACE_SECONDS = 10.0
SUBJECTS_AT_ONCE = 500
SHOWN_FINDINGS = 8
ROOT_FILES = ("README", "README.md", "CHANGES", "LICENSE")


@contextmanager
def validating(bids_dir: Path, subjects: Collection[str], work_dir: Path) -> Iterator[None]:
    """Let bids-validator-deno look at the anatomical images of some subjects while the block runs.

    It takes 1.3 s even for one subject, on a core that the first scan leaves idle. Findings are logged as soon as
    they are there; whatever they are, the run goes on: an image that cannot be processed says so itself, with better
    words. A block that is left by an error waits a moment for them, one that is left by a signal does not.
    """
    with tempfile.TemporaryDirectory(prefix="validate-", dir=work_dir) as folder:
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
        if path.is_file() and (path.name in ROOT_FILES or path.suffix == ".json") and path.name != "participants.json":
            (tree / path.name).symlink_to(path)
    for subject in subjects:
        folder = bids_dir / f"sub-{subject}"
        for anat in [folder / "anat", *folder.glob("ses-*/anat")]:
            if os.path.isdir(anat):  # noqa: PTH112 - is_dir() raises where the folder is closed to us
                link = tree / anat.relative_to(bids_dir)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(anat, target_is_directory=True)


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
        if process.returncode != -signal.SIGKILL:
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

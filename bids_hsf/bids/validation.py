"""Check the selected subjects with the BIDS validator; findings inform.

The validator follows what a dataset says of itself: of a file in git-annex it looks where the dataset's log has it,
and asks the host named there, signed with whatever keys the environment holds. Nothing may leave the machine, so that
it is not started by its own command, which allows for all that. It may read the tree of links and what these lead to;
it may neither write nor open a connection nor start a program, and sees nothing of the user's environment.
"""

import fcntl
import importlib.util
import json
import logging
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any

from bids_hsf.files import temporary_name

logger = logging.getLogger(__name__)


TIMEOUT_SECONDS = 300
SECONDS_A_SUBJECT = 0.2  # forty times what an idle machine needs
GRACE_SECONDS = 10.0
SUBJECTS_AT_ONCE = 500
SHOWN_FINDINGS = 8
ROOT_FILES = ("dataset_description.json", "README", "README.md", "README.rst", "README.txt", "CHANGES", "LICENSE")
MAX_ENTITIES = 6  # that sidecars in the root are looked for by

# The validator takes texts whole, and some 10 bytes for each of theirs. Sidecars have some kB.
MAX_SIDECAR_BYTES = 16 << 20
MEMORY_BYTES = 2 << 30  # of data, with the stacks of a thread a core; it needs 0.6 GB for SUBJECTS_AT_ONCE
HEAP_MB = 1024
# What comes of signals that were meant for all processes of the run.
STOPPED = {code for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) for code in (-number, 128 + number)}

FOLDER_PREFIX = "bids-hsf-validate-"
YOUNG_SECONDS = 60.0  # between the making of a folder and its lock

PERMISSIONS = ("--allow-read=.", "--allow-env", "--deny-net", "--deny-write", "--deny-run", "--deny-ffi", "--deny-sys")
NOTHING_ELSE = ("--no-prompt", "--no-config", "--no-lock", "--no-remote", "--no-npm", "--cached-only")


@contextmanager
def validating(bids_dir: Path, subjects: Collection[str], work_dir: Path) -> Iterator[None]:
    """Let bids-validator-deno look at the anatomical images of some subjects while the block runs.

    It takes 1.3 s even for one subject, on a core that the first scan leaves idle. Findings are logged as soon as
    they are there; whatever they are, the run goes on: an image that cannot be processed says so itself, with better
    words. A block that is left by an error waits a moment for them, one that is left by a signal does not.
    """
    with _folder(_with_links(work_dir)) as folder:
        validation = _Validation(bids_dir, sorted(subjects), folder)
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


def _with_links(work_dir: Path) -> Path:
    """Give a place for trees of links: that of temporary files where the work folder knows none (exFAT, SMB)."""
    probe = work_dir / temporary_name("link")
    try:
        probe.symlink_to("nowhere")
        probe.unlink()
    except OSError:
        return Path(tempfile.gettempdir())
    return work_dir


@contextmanager
def _folder(work_dir: Path) -> Iterator[Path]:
    """Make a folder for one validation, held by a lock, and remove those whose holders were killed."""
    for left in work_dir.glob(f"{FOLDER_PREFIX}*"):
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime < YOUNG_SECONDS:
                continue
            held = _hold(left)
            if held is not None:
                shutil.rmtree(left)
                os.close(held)
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, dir=work_dir, ignore_cleanup_errors=True) as folder:
        held = _hold(Path(folder))
        try:
            yield Path(folder)
        finally:
            if held is not None:
                os.close(held)


def _hold(folder: Path) -> int | None:
    """Lock a folder; None where another process holds it, or the file system knows no locks of folders."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


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
        seconds = TIMEOUT_SECONDS + SECONDS_A_SUBJECT * len(subjects)
        return read_report(self._process, seconds, stopped=lambda: self._stopped)

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
    """Make a dataset of links to the root files and to the files in the anat folders of some subjects.

    Each file has a link of its own, so that the validator sees a plain file where the content of git-annex is there.
    What it would wait for (pipes, devices) or not fit into its memory (endless sidecars) is left out with a warning.
    """
    tree.mkdir(parents=True)
    names = set(ROOT_FILES)
    for subject in subjects:
        folder = bids_dir / f"sub-{subject}"
        for anat in [folder / "anat", *folder.glob("ses-*/anat")]:
            if os.path.isdir(anat):  # noqa: PTH112 - is_dir() raises where the folder is closed to us
                linked = _link_folder(anat, tree / anat.relative_to(bids_dir))
                names |= {inherited for name in linked for inherited in _inherited_sidecars(name)}
    # By name: to list the root of a large dataset takes longer than all else.
    for name in sorted(names):
        _link_file(bids_dir / name, tree / name)


def _inherited_sidecars(name: str) -> Iterator[str]:
    """Names that a sidecar in the root may have which holds for an image: of its entities, any but those of folders.

    >>> list(_inherited_sidecars("sub-01_acq-x_T1w.nii.gz"))
    ['T1w.json', 'acq-x_T1w.json']
    >>> list(_inherited_sidecars("sub-01_acq-x_T1w.json"))
    []
    """
    if not name.endswith((".nii", ".nii.gz")):
        return
    *pairs, suffix = name.removesuffix(".gz").removesuffix(".nii").split("_")
    entities = [pair for pair in pairs if not pair.startswith(("sub-", "ses-"))][:MAX_ENTITIES]
    for length in range(len(entities) + 1):
        for chosen in combinations(entities, length):
            yield "_".join([*chosen, f"{suffix}.json"])


def _link_folder(folder: Path, copy: Path) -> set[str]:
    """Make a folder with links to the files of another one, whose names are returned.

    Links to folders, which may go in circles, are left out.
    """
    linked = set()
    for place, _, names in os.walk(folder):
        target = copy / os.path.relpath(place, folder)
        target.mkdir(parents=True)
        for name in names:
            _link_file(Path(place, name), target / name)
        linked.update(names)
    return linked


def _link_file(path: Path, link: Path) -> None:
    """Link a file that the validator can read through; a link that leads nowhere stays for it to be told of."""
    try:
        found = path.stat()
    except OSError:
        if path.is_symlink():
            link.symlink_to(path)
        return
    if not stat.S_ISREG(found.st_mode):
        if not stat.S_ISDIR(found.st_mode):
            logger.warning("BIDS validator: %s is no regular file, and is left out", path)
    elif found.st_size > MAX_SIDECAR_BYTES and not path.name.endswith((".nii", ".nii.gz")):
        logger.warning("BIDS validator: %s has %d bytes, and is left out", path, found.st_size)
    else:
        link.symlink_to(path)


def start_validator(dataset: Path, cache_dir: Path) -> "subprocess.Popen[str] | None":
    """Start the validator of bids-validator-deno on a folder; None (with a warning) where there is none."""
    beside = Path(sys.executable).with_name("deno")
    deno = str(beside) if beside.exists() else shutil.which("deno") or str(beside)
    package = importlib.util.find_spec("bids_validator_deno")
    bundle = Path((package and package.origin) or "bids_validator_deno").with_name("bids-validator.js")
    limits = [f"--v8-flags=--max-old-space-size={HEAP_MB}", *NOTHING_ELSE]
    try:
        # deno keeps what it compiled.
        cache_dir.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(  # noqa: S603 - our own dependency, on a path that we made
            [deno, "run", *limits, *PERMISSIONS, str(bundle), "--format", "json", "."],
            cwd=dataset,  # a path with a comma could not be named among the permissions
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=_bare_environment(cache_dir.absolute()),
        )
    except OSError as error:
        _warn(error)
        return None
    if hasattr(resource, "prlimit"):  # Linux
        with suppress(OSError):
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
            resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
    return process


def _bare_environment(cache_dir: Path) -> dict[str, str]:
    """Give what deno insists on, and nothing of the user's."""
    folder = str(cache_dir)
    return {
        "DENO_DIR": str(cache_dir / "deno"),
        "DENO_NO_UPDATE_CHECK": "1",
        "HOME": folder,
        "TMPDIR": folder,
        "NO_COLOR": "1",
        "LANG": "C.UTF-8",
    }


def read_report(
    process: "subprocess.Popen[str]", timeout: float, stopped: Callable[[], bool] = lambda: False
) -> dict[str, Any] | None:
    """Wait for a validator's report; None (with a warning) where it does not come, silently where it was stopped."""
    try:
        output, _ = process.communicate(timeout=timeout)
        report: dict[str, Any] = json.loads(output)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        _warn(error)
    except ValueError as error:
        if stopped() or process.returncode in STOPPED:
            return None
        if process.returncode >= 0:
            _warn(error)
            return None
        logger.warning(
            "The BIDS validator was ended by signal %d, perhaps for want of memory; the input is not validated",
            -process.returncode,
        )
    else:
        return report
    return None


def run_validator(dataset: Path, cache_dir: Path) -> dict[str, Any] | None:
    """Report of bids-validator-deno on a folder, or None (with a warning) where it cannot run."""
    process = start_validator(dataset, cache_dir)
    return None if process is None else read_report(process, TIMEOUT_SECONDS)


def _warn(error: Exception) -> None:
    logger.warning("The BIDS validator could not run (%s); the input is not validated", error)

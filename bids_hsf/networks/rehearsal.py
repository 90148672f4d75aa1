"""Networks of strangers are opened in a process of their own, once, before this one does so.

ONNX Runtime and the libraries behind its providers are native code: a file that makes them crash would end the run
without a word, and one that keeps them in an operator for ever could not be ended by it. That process can be killed.
Which file has passed on which provider and build is remembered by its checksum; what ships with this package has
passed long ago.

As a script it is that process: it takes its steps as JSON, and tells each before it is done.
"""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from bids_hsf.errors import BidsHsfError, ModelError
from bids_hsf.machine import runtime_builds
from bids_hsf.networks import sessions
from bids_hsf.networks.bounds import OverdueError
from bids_hsf.networks.sessions import MemberFile, SessionSettings

logger = logging.getLogger(__name__)

MARKS = ".rehearsed"  # in the folder of downloaded models
STEP = "step "
OVERDUE = 75  # exit code of that process, where a step has no end


def rehearse(files: Sequence[MemberFile], tried: Sequence[SessionSettings]) -> None:
    """Open each file that is not known on each provider that will be tried, and let it see a small crop, elsewhere.

    What merely fails there fails here again, with its reason.

    Parameters
    ----------
    files : sequence of MemberFile
    tried : sequence of SessionSettings
        In the order in which they are tried.

    Raises
    ------
    ModelError
        ONNX Runtime crashes, or comes to no end.
    """
    from bids_hsf.hub.models import packaged_hub_dir  # with pydantic behind it, for which the rehearsal would wait

    own = packaged_hub_dir().resolve()
    steps = [
        (file, settings)
        for file in files
        for settings in tried
        if not file.path.resolve().is_relative_to(own) and not _is_marked(file, settings)
    ]
    if not steps or not sys.executable:
        return
    try:
        done = _run_apart(steps)
    except subprocess.TimeoutExpired as error:  # not even the one who waits in it has got through
        raise _endless(*steps[_told(error.stdout) - 1]) from error
    except OSError as error:  # no further process: the scans will say so, if they need one
        logger.debug("No rehearsal: %s", error)
        return
    n_told = _told(done.stdout)
    if done.returncode < 0 and n_told:
        raise _crash(*steps[n_told - 1], -done.returncode)
    if done.returncode == OVERDUE and n_told:
        raise _endless(*steps[n_told - 1])
    if done.returncode:
        logger.debug("No rehearsal: it left with %d: %s", done.returncode, done.stderr[-500:])
        return
    for file, settings in steps:
        _mark(file, settings)


def _run_apart(steps: Sequence[tuple[MemberFile, SessionSettings]]) -> subprocess.CompletedProcess[str]:
    """Do the steps in another process; raises OSError where none can be started."""
    plan = [
        {
            "path": str(file.path),
            "checksums": file.checksums,
            "provider": settings.provider,
            "options": dict(settings.options),
            "n_threads": settings.n_threads,
            "seconds": [sessions.PASS_SECONDS, sessions.PASS_SECONDS_A_VOXEL],
        }
        for file, settings in steps
    ]
    # -P: no module of the folder in which somebody happens to be.
    return subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-P", "-m", __name__],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=len(steps) * (sessions.OPENING_SECONDS + 2 * sessions.PASS_SECONDS),
        check=False,
    )


def _told(output: str | bytes | None) -> int:
    """How many steps were begun."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return sum(1 for line in text.splitlines() if line.startswith(STEP))


def _endless(file: MemberFile, settings: SessionSettings) -> ModelError:
    """Say that a file keeps what opens it for ever."""
    return ModelError(
        f"{file.path}: ONNX Runtime comes to no end with it on {settings.provider}, not even for a small crop",
        "Try --device cpu; if it stays, the file is damaged, or made to do harm: tell whoever made it.",
    )


def _crash(file: MemberFile, settings: SessionSettings, number: int) -> ModelError:
    """Say what a file has done to the process that opened it."""
    if number == signal.SIGKILL:
        return ModelError(
            f"{file.path}: what tried it on {settings.provider} was killed, most likely for want of memory",
            "Allow more memory, or choose a smaller model.",
        )
    name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
    return ModelError(
        f"{file.path}: ONNX Runtime crashes with it on {settings.provider} ({name}), and would have ended this run",
        "Try --device cpu; if it stays, the file is damaged, or made to do harm: tell whoever made it.",
    )


def _mark_path(file: MemberFile, settings: SessionSettings) -> Path | None:
    """Where it is remembered that a file has passed; None for one whose checksum nobody has stated."""
    from bids_hsf.hub.models import cache_root

    if not file.checksums:
        return None
    facts = [file.checksums, settings.provider, runtime_builds()]
    return cache_root() / MARKS / sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _is_marked(file: MemberFile, settings: SessionSettings) -> bool:
    path = _mark_path(file, settings)
    try:
        return path is not None and path.exists()
    except OSError:  # a folder that is closed to us: nobody knows
        return False


def _mark(file: MemberFile, settings: SessionSettings) -> None:
    path = _mark_path(file, settings)
    if path is not None:
        with suppress(OSError):  # then it is tried again by the next run
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def main() -> None:
    """Do the steps that come as JSON."""
    plan: list[dict[str, Any]] = json.load(sys.stdin)
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print what they like
    for number, step in enumerate(plan):
        print(f"{STEP}{number}", file=told, flush=True)
        sessions.PASS_SECONDS, sessions.PASS_SECONDS_A_VOXEL = step["seconds"]
        settings = SessionSettings(step["provider"], step["options"], step["n_threads"])
        try:
            MemberFile(Path(step["path"]), step["checksums"]).open(settings).probe()
        except BidsHsfError as error:
            if isinstance(error.__cause__, OverdueError):
                os._exit(OVERDUE)  # no destructor waits for the thread that is still at it


if __name__ == "__main__":
    main()

"""Tasks that do as they are told, for engines: each lives at module level, since other processes import it."""

import errno
import logging
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bids_hsf.errors import LocalizationError, ModelError

WORKING = Path(tempfile.gettempdir()) / "bids-hsf-test-worker"


ERRORS: dict[str, Exception] = {
    "unknown": KeyError("surprise"),
    "memory": MemoryError(),
    "disk": OSError(errno.ESTALE, "Stale file handle", "/out/x"),
    "threads": RuntimeError("can't start new thread"),
    "processes": BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
}


@dataclass(frozen=True)
class FakeTask:
    """What a fake task does: "ok", "known", "unknown", "memory", "killed", ..."""

    key: str
    kind: str = "ok"
    session: str = ""

    @property
    def kin(self) -> str:
        return self.session or self.key


class FakeFunction:
    """Does a task, or fails as its kind says. Lives at module level: spawned processes import it."""

    def __call__(self, task: FakeTask) -> None:
        if task.kind == "pid":
            print(os.getpid(), flush=True)
        if task.kind == "where":
            logging.getLogger("bids_hsf.test").info("%s by %d", task.key, os.getpid())
        if task.kind in ("slow", "pid"):
            time.sleep(0.4)
        if task.kind == "long":
            mark = Path(f"{WORKING}.{os.getpid()}")
            mark.touch()
            time.sleep(3)
            mark.unlink()
        if task.kind in ERRORS:
            raise ERRORS[task.kind]
        if task.kind == "known":
            raise LocalizationError(f"{task.key}: no head", "Look at it.")
        if task.kind == "killed" or (task.kind == "killed once" and not _came_before(task)):
            os.kill(os.getpid(), signal.SIGKILL)
        if task.kind == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)


class Unopenable(FakeFunction):
    """Cannot even be made."""

    def __init__(self) -> None:
        raise ModelError("no such network")


def _came_before(task: FakeTask) -> bool:
    """Whether a task was begun before, in whatever process; its key is a path."""
    try:
        Path(task.key).touch(exist_ok=False)
    except FileExistsError:
        return True
    return False

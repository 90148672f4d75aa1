"""Bounds for what runs in ONNX Runtime: a signal and a deadline end it, and memory is given up to a limit.

A network is a stranger's program. In the midst of a pass Python hears no signal, and what the pass takes is known
only afterwards; so it runs in a thread beside the one that waits, and under a limit of the operating system.
"""

import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")

GRACE_SECONDS = 5.0  # for an operator to end after it was asked to

_STATUS = Path("/proc/self/statm")
_BYTES_A_CORE = 16 << 20  # stacks of the threads of pools that count cores for themselves

_lock = threading.Lock()
_inside = 0
_before = resource.RLIM_INFINITY


class OverdueError(Exception):
    """A deadline has passed."""


def endable(work: Callable[[], Answer], end: Callable[[], None], seconds: float) -> Answer:
    """Do some work that Python cannot interrupt, in a thread of its own.

    Whatever is raised while this thread waits, by a handler of signals above all, asks the work to end, and is raised
    again when it has ended, or has had a while to.

    Parameters
    ----------
    work : callable
    end : callable
        Asks the work to end.
    seconds : float
        It may take so long.

    Raises
    ------
    OverdueError
        It took longer.
    """
    answers: list[Answer] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=run, daemon=True, name="network").start()
    try:
        if not done.wait(seconds):
            raise OverdueError(f"no end after {seconds:.0f} s")
    except BaseException:
        end()
        done.wait(GRACE_SECONDS)
        raise
    if failures:
        raise failures[0]
    return answers[0]


@contextmanager
def limited_memory(n_bytes: int) -> Iterator[None]:
    """Let this process take so many further bytes, as the operating system counts data, while the block runs.

    What goes beyond is refused, and becomes an error of whoever asked for it. Of blocks in several threads the first
    one sets the limit. Elsewhere than on Linux there is none, nor does a limit of the user's ever become wider.
    """
    global _inside, _before
    with _lock:
        _inside += 1
        if _inside == 1:
            _before, hard = resource.getrlimit(resource.RLIMIT_DATA)
            _set(_taken() + n_bytes + _BYTES_A_CORE * (os.cpu_count() or 1), _before, hard)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                with suppress(OSError, ValueError):
                    resource.setrlimit(resource.RLIMIT_DATA, (_before, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _set(n_bytes: int, soft: int, hard: int) -> None:
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    if _STATUS.exists() and n_bytes < min(bounds, default=1 << 62):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, hard))


def _taken() -> int:
    """Bytes of data that this process has, stacks included."""
    try:
        return int(_STATUS.read_text().split()[5]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0

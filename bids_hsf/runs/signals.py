"""Leave when asked to: Ctrl-C, SIGTERM and SIGHUP become exceptions, so that the usual clean-up runs."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

CLEAN_UP_SECONDS = 10.0
AGAIN_SECONDS = 0.05


class Stopped(SystemExit):
    """A scheduler asks to stop."""

    def __init__(self, code: int = 128 + signal.SIGTERM) -> None:
        super().__init__(code)


class Stop:
    """Handler of these signals.

    What is said again while the clean-up goes on is passed over: it would cut that short, and people
    press Ctrl-C twice, schedulers and broken pools say SIGTERM again.

    Attributes
    ----------
    code : int
        What shells report for the signal that came (130, 143, 129), 0 before.
    at_work : bool
        Whether there is work to leave; nothing is raised otherwise.
    """

    def __init__(self, at_work: bool = True) -> None:
        self.code = 0
        self.at_work = at_work
        self._raised = -math.inf

    def __call__(self, number: int, _frame: Any) -> None:
        """Leave, unless that is under way."""
        self.code = self.code or 128 + number
        if self.at_work and time.monotonic() - self._raised > CLEAN_UP_SECONDS:
            self._raised = time.monotonic()
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped

    def swallowed(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Ask again, a moment later, where the exception came in the midst of a destructor: Python drops it there."""
        if not isinstance(unraisable.exc_value, KeyboardInterrupt | Stopped):
            sys.__unraisablehook__(unraisable)
            return
        self._raised = -math.inf
        number = signal.SIGINT if isinstance(unraisable.exc_value, KeyboardInterrupt) else signal.SIGTERM
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Handle the signals in the main thread; once one came, further ones are ignored for good."""
    stop = Stop()
    # Under nohup a terminal that goes is meant to be passed over.
    taken = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, stop) for number in taken}
    hook, sys.unraisablehook = sys.unraisablehook, stop.swallowed
    try:
        yield stop
    finally:
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            # The interpreter is on its way out, which takes it a while.
            signal.signal(number, signal.SIG_IGN if stop.code else handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals back while processes start, and make these deaf to Ctrl-C and to a terminal that goes.

    A half-started process complains of its half-written instructions. And what comes from the terminal
    goes to the whole group, while it is the parent that decides.
    """
    came: list[int] = []
    held = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in held}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])

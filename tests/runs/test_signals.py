"""Signals: raised once, never lost, never in the midst of what must not be torn."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bids_hsf.runs.signals import SIGNALS, Stop, Stopped, stoppable, undisturbed


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)])
def test_clean_up_is_not_cut_short(number: signal.Signals, error: type[BaseException]) -> None:
    cleaned = []
    with pytest.raises(error), stoppable():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            for again in SIGNALS:
                os.kill(os.getpid(), again)
            cleaned.append(True)
    assert cleaned
    assert [signal.getsignal(name) for name in SIGNALS] == [signal.SIG_IGN] * len(SIGNALS)


def test_a_terminal_that_goes_is_a_signal_unless_nohup_said_otherwise() -> None:
    with pytest.raises(Stopped), stoppable() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(5)
    assert stop.code == 129
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(), undisturbed():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL if handler is None else handler)


def test_handlers_come_back_where_nothing_came() -> None:
    before = [*map(signal.getsignal, SIGNALS)], sys.unraisablehook
    with stoppable():
        assert isinstance(signal.getsignal(signal.SIGTERM), Stop)
    assert ([*map(signal.getsignal, SIGNALS)], sys.unraisablehook) == before


class Trap:
    """Is destroyed when the signal comes."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def test_signal_that_a_destructor_swallows_comes_again(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Stopped), stoppable():
        Trap()
        time.sleep(60)  # cut short by the signal
        pytest.fail("it did not come again")
    assert "Traceback" not in capfd.readouterr().err


def test_other_trouble_of_destructors_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    class Clumsy:
        def __del__(self) -> None:
            raise ValueError("clumsy")

    with stoppable():
        Clumsy()
    assert "clumsy" in capfd.readouterr().err


def test_who_waits_is_not_torn_away() -> None:
    stop = Stop(at_work=False)
    stop(signal.SIGTERM, None)
    assert stop.code == 143


def test_started_processes_are_deaf_to_ctrl_c_and_the_signal_comes_afterwards() -> None:
    ends = []
    with pytest.raises(KeyboardInterrupt), stoppable(), undisturbed():
        command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('alive')"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        os.kill(os.getpid(), signal.SIGINT)
        ends.append(child.communicate(timeout=20)[0])
    assert ends == ["alive\n"]

"""A run waits for workers of Dask as long as it was told to, and as long as a batch system has them in its queue."""

import logging
from types import SimpleNamespace

import pytest

from bids_hsf.errors import ClusterError
from bids_hsf.runs.dask_absence import Absence, Supply

MINUTE = 60.0


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("bids_hsf.runs.dask_absence.time", SimpleNamespace(monotonic=found.monotonic))
    return found


class Queue:
    """Jobs that wait, as a batch system tells them."""

    def __init__(self, n: int | None) -> None:
        self.n = n
        self.asked = 0

    def __call__(self) -> int | None:
        self.asked += 1
        return self.n


def minutes_until_the_end(absence: Absence, clock: Clock, most: int) -> int | None:
    for minute in range(1, most + 1):
        for _ in range(12):
            clock.now += 5
            try:
                absence.goes_on()
            except ClusterError:
                return minute
    return None


def test_without_a_queue_the_run_ends_in_time_and_says_what_to_do(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    absence = Absence(Supply(0, lambda: 0, lambda: "Start some."), 10 * MINUTE)
    clock.now += 9 * MINUTE
    absence.goes_on()
    assert "waiting for one, for 1 more minute(s)" in caplog.text
    clock.now += MINUTE
    with pytest.raises(ClusterError, match="No worker of Dask has been there for 10 minute") as end:
        absence.goes_on()
    assert end.value.exit_code == 69
    assert end.value.hint == "Start some."


def test_a_worker_that_comes_back_starts_the_time_anew(clock: Clock) -> None:
    absence = Absence(Supply(0, lambda: 0, str), 3 * MINUTE)
    for _ in range(5):
        assert minutes_until_the_end(absence, clock, 2) is None
        absence.ends()
    assert minutes_until_the_end(absence, clock, 10) == 3


def test_a_night_in_the_queue_is_no_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue(2)
    absence = Absence(Supply(4, queue, str), 5 * MINUTE)
    with caplog.at_level(logging.WARNING):
        assert minutes_until_the_end(absence, clock, 12 * 60) is None
    assert caplog.text.count("2 job(s) wait in the queue") == 1
    assert 12 * 55 < queue.asked < 12 * 65  # not every few seconds
    # Jobs that left it without a worker have their time from then on.
    queue.n = 0
    assert minutes_until_the_end(absence, clock, 10) == 5


def test_a_batch_system_that_does_not_answer_is_waited_for(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    absence = Absence(Supply(4, Queue(None), str), 5 * MINUTE)
    assert minutes_until_the_end(absence, clock, 60) is None
    assert "does not tell its queue" in caplog.text


def test_less_than_a_minute_is_kept_to(clock: Clock) -> None:
    absence = Absence(Supply(0, lambda: 0, str), 6.0)
    clock.now += 5
    absence.goes_on()
    clock.now += 1
    with pytest.raises(ClusterError, match=r"for 0\.1 minute"):
        absence.goes_on()

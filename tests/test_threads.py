"""Work that is shared between threads."""

import threading
from collections.abc import Iterator

import pytest

from bids_hsf.threads import spread


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_answers_come_in_order(n_threads: int) -> None:
    with spread(n_threads) as share:
        assert list(share(lambda a, b: a - b, range(9), range(9, 0, -1))) == list(range(-9, 9, 2))


def test_one_thread_is_the_callers_own() -> None:
    with spread(1) as share:
        assert list(share(lambda _: threading.get_ident(), [0, 1])) == [threading.get_ident()] * 2


def test_two_work_at_once() -> None:
    both = threading.Barrier(2, timeout=60)
    with spread(2) as share:
        assert sorted(share(lambda _: both.wait(), "ab")) == [0, 1]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_errors_are_the_callers(n_threads: int) -> None:
    def failing(value: int) -> Iterator[int]:
        raise ValueError(value)

    with spread(n_threads) as share, pytest.raises(ValueError, match="7"):
        list(share(failing, [7]))

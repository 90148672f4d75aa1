"""Work that is shared between threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class Caller(Executor):
    """Makes each call at once, in the thread that asks for it; what the call raises, asking for it raises."""

    def submit(self, fn: Callable[..., Answer], /, *args: Any, **kwargs: Any) -> Future[Answer]:
        """Call, and give what is known already."""
        answer: Future[Answer] = Future()
        answer.set_result(fn(*args, **kwargs))
        return answer


def executor_of(n_threads: int, name: str = "") -> Executor:
    """Give so many threads something to do; with one, calls are made by the caller's own.

    Handing a call over to another thread and waiting for it takes a tenth of a millisecond, and memory of another
    thread is kept apart by the C library.
    """
    return Caller() if n_threads == 1 else ThreadPoolExecutor(n_threads, thread_name_prefix=name)


@contextmanager
def spread(n_threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Give a ``map`` whose calls are shared between so many threads; what it yields stays in order.

    >>> with spread(2) as share:
    ...     list(share(pow, (2, 3), (5, 2)))
    [32, 9]
    """
    with executor_of(n_threads) as pool:
        yield pool.map

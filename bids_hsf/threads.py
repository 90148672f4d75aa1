"""Work that is shared between threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def spread(n_threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Give a ``map`` whose calls are shared between so many threads; what it yields stays in order.

    With one, they are made by the caller's own: memory of another would be kept apart by the C library.

    >>> with spread(2) as share:
    ...     list(share(pow, (2, 3), (5, 2)))
    [32, 9]
    """
    if n_threads == 1:
        yield map
        return
    with ThreadPoolExecutor(n_threads) as pool:
        yield pool.map

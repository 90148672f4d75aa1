"""One run at a time works on one scan, however many share an output folder."""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bids_hsf.errors import StorageError

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for whoever has it; it goes with its holder, even one that is killed.

    Where the file system has no locks the work is done all the same: two runs on one scan then write
    the same bytes, each file whole.

    Raises
    ------
    StorageError
        The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _wait_for(path)
    except OSError as error:
        raise StorageError(f"Cannot write {path}: {error.strerror}", "Check free space and permissions.") from error
    try:
        yield
    finally:
        _release(descriptor, path)


def _wait_for(path: Path) -> int:
    """Open and lock a file; returns its descriptor."""
    said = False
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            if _lock(descriptor) and _is_same(descriptor, path):
                return descriptor
        except BaseException:
            _release(descriptor, path)
            raise
        os.close(descriptor)
        if not said:
            logger.info("Waiting for another run that has %s", path.stem.lstrip("."))
            said = True
        time.sleep(POLL_SECONDS)


def _release(descriptor: int, path: Path) -> None:
    """Remove a lock file if it is ours, and give it up."""
    try:
        if _lock(descriptor) and _is_same(descriptor, path):
            # While it is still held: whoever waits for it sees that it is another file now.
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Try to lock an open file; a file system without locks counts as locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        logger.debug("No file locks here: %s", error)
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether a path still names an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

"""Files, whole or not at all: atomic writing, locks between runs, checksums.

A file appears under its final name only when it is whole: it is written beside it under a name that
begins with a dot (which BIDS validators pass over), then renamed.
"""

import codecs
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import xxhash

from bids_hsf.errors import DiskError, StorageError

logger = logging.getLogger(__name__)


# Nobody else's file is named like this: what matches may be removed, once it is old.
TEMPORARY_NAME = re.compile(r"\..*\.bids-hsf-[0-9a-f]{8}", re.DOTALL)
NAME_BYTES, PATH_BYTES = 255, 4095  # of one part of a path, and of a whole one, where the file system tells no less

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT}

MAX_TEXT_BYTES = 64 << 20  # of what is read at once; a sparse file of terabytes is one line of a shell
READ_BYTES = 1 << 16
STALE_SECONDS = 86400.0  # no file takes that long to write, and clocks are wrong by some hours at most


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it becomes `path`, else it is removed.

    Raises
    ------
    StorageError
        The disk is full, the mount is gone, or writing is not permitted.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> StorageError:
    """Say that a file cannot be written."""
    message = f"Cannot write {path}: {error.strerror or error}"
    return of_disk(StorageError(message, "Check free space, quota and permissions."), error)


def of_disk(told: StorageError, error: OSError) -> StorageError:
    """Tell it of a disk that takes nothing more, unless something is wrong with one file or folder alone."""
    return DiskError(told.message, told.hint) if error.errno in DISK_ERRORS else told


def move(path: Path, place: Path) -> None:
    """Give a file its final name, over one that is there, though on another disk: a folder of an output may be a link.

    Raises
    ------
    OSError
        It cannot be done.
    """
    try:
        path.replace(place)
    except OSError as error:
        if error.errno != errno.EXDEV:  # also between folders of two quotas of one disk
            raise
        # Copied beside its place first: what is there is whole.
        with replacing(place) as temporary:
            shutil.copy2(path, temporary)
        path.unlink()


def temporary_name(name: str) -> str:
    """Name beside a file, for what is not whole yet; no longer than a name may be."""
    # Process ids are not unique among containers that share a disk.
    ending = f".bids-hsf-{secrets.token_hex(4)}"
    return f".{os.fsdecode(os.fsencode(name)[: NAME_BYTES - 1 - len(ending)])}{ending}"


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Bytes of a path that are no UTF-8 are written as JSON and Python escape them.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with a fixed layout."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_text(path: Path) -> str:
    """Text of a file that anybody may have put there: nothing waits for a pipe or reads a device without end.

    Raises
    ------
    OSError
        There is none, it may not be read, is no regular file, or larger than any text of this app.
    UnicodeDecodeError
        It is not UTF-8.
    """
    return _read_regular(path, MAX_TEXT_BYTES).decode("utf-8")


def read_foreign_text(path: Path, max_bytes: int) -> str:
    """Text of a file as spreadsheets write it: UTF-8, UTF-16 behind its mark, or what Windows takes for Western text.

    Raises as `read_text` does; it is UnicodeDecodeError if it is none of them.
    """
    content = _read_regular(path, max_bytes)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def open_text(path: Path, max_bytes: int) -> TextIO:
    """Open a text file that is read line by line, of at most so many bytes; raises as `read_text` does."""
    opened, _ = _open_regular(path, max_bytes)
    return TextIOWrapper(os.fdopen(opened, "rb"), encoding="utf-8", newline="")


def _read_regular(path: Path, max_bytes: int) -> bytes:
    """Content of a regular file, without a stream, which costs as much as the reading: a group level reads many."""
    opened, size = _open_regular(path, max_bytes)
    try:
        content = os.read(opened, size + 1)
        while more := os.read(opened, READ_BYTES):
            content += more
    finally:
        os.close(opened)
    return content


def _open_regular(path: Path, max_bytes: int) -> tuple[int, int]:
    """Open a regular file; gives its descriptor, and its size."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(opened)
    if stat.S_ISREG(found.st_mode) and found.st_size <= max_bytes:
        return opened, found.st_size
    os.close(opened)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "No regular file", str(path))
    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))


def read_json(path: Path) -> dict[str, Any] | None:
    """Content of a JSON file, or None where there is none or it is damaged."""
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def sweep(*folders: Path) -> None:
    """Remove temporary files and folders that killed runs left long ago, known by their names."""
    for path in (path for folder in folders for path in folder.glob(".*")):
        if TEMPORARY_NAME.fullmatch(path.name) and is_stale(path):
            remove_temporary(path)


def is_stale(path: Path) -> bool:
    """Whether a file is so old that nobody can be at work on it any more."""
    with suppress(OSError):
        return path.lstat().st_mtime < time.time() - STALE_SECONDS
    return False


def remove_temporary(path: Path) -> None:
    """Remove a temporary file, or a folder with all that is in it, as far as that is permitted."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def name_fault(paths: Iterable[Path]) -> str | None:
    """Why files cannot be made under their names, whatever the disk; None where they can."""
    for path in paths:
        length = len(os.fsencode(path.name))
        if length > NAME_BYTES:
            return f"the name {path.name} has {length} bytes, expected at most {NAME_BYTES}"
        if len(os.fsencode(path)) > PATH_BYTES:
            return f"the path {path} has {len(os.fsencode(path))} bytes, expected at most {PATH_BYTES}"
    return None


def disk_fault(folder: Path) -> str | None:
    """Why nothing more can be written into a folder now, as far as its disk says so: "is ..."; None where it can."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    if found.f_flag & os.ST_RDONLY:
        return "is read-only"
    if found.f_blocks and not found.f_bavail:
        return "is full"
    return "has no room for further files" if found.f_files and not found.f_favail else None


def ignores_case(path: Path) -> bool:
    """Whether a file that is there goes by its name in other letters, too: on exFAT, SMB, most disks of macOS."""
    other = path.name.swapcase()
    try:
        return other != path.name and path.exists() and path.with_name(other).exists()
    except OSError:
        return False


def private_folder(parent: Path) -> Path | None:
    """Name a folder of this user alone, in a place where anybody may make one; None where others hold all its names.

    It is there and closed to others, or is still to be made, by `make_private`.
    """
    for ending in ("", *(f"-{number}" for number in range(1, 10))):
        path = parent / f"bids-hsf-{os.getuid()}{ending}"
        try:
            if is_private(path):
                return path
        except FileNotFoundError:
            return path
        except OSError:
            continue
    return None


def is_private(path: Path) -> bool:
    """Whether a path is a folder of this user's own, no link to one; it is closed to others where it was not."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return False
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return True


def make_private(path: Path) -> None:
    """Make a folder that is closed to others, or take the one that is there.

    Raises
    ------
    OSError
        It cannot be made, or is somebody else's.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if not is_private(path):
        raise FileExistsError(errno.EEXIST, "It is no folder of yours", str(path))


def is_text(path: Path, text: str) -> bool:
    """Whether a file is there and holds a text."""
    try:
        return read_text(path) == text
    except (OSError, UnicodeDecodeError):
        return False


def write_if_changed(path: Path, text: str) -> None:
    """Leave an equal file alone: parallel jobs then never touch each other's root files."""
    if not is_text(path, text):
        write_text(path, text)


FIRST_POLL_SECONDS, POLL_SECONDS = 0.01, 1.0  # each time twice as long, and by chance between one and a half and half


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold a lock file, waiting for whoever has it; it goes with its holder, even one that is killed.

    Where the file system has no locks the work is done all the same: two runs on one scan, or two
    downloads of one model, then write the same bytes, each file whole.

    Yields
    ------
    bool
        Whether nobody else can be at the same work: False where there are no locks.

    Raises
    ------
    StorageError
        The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _wait_for(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield _lock(descriptor) is not None
    finally:
        _release(descriptor, path)


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock file now; one that nobody holds was left by who was killed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def remove_claim(path: Path) -> None:
    """Remove a lock file, unless somebody holds it."""
    with suppress(OSError):
        _release(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), path)


def _wait_for(path: Path) -> int:
    """Open and lock a file; returns its descriptor."""
    said, pause = False, FIRST_POLL_SECONDS
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            with suppress(OSError):  # another's file; ours must open to all who share the folder, whatever the umask
                os.fchmod(descriptor, 0o666)
            if _lock(descriptor) is not False and _is_same(descriptor, path):
                return descriptor
        except BaseException:
            _release(descriptor, path)
            raise
        os.close(descriptor)
        if not said:
            logger.info("Waiting for another run that has %s", path.stem.lstrip("."))
            said = True
        # Not all at once: jobs of an array begin in one second, and would ask in step.
        time.sleep(pause * (0.5 + secrets.randbelow(1001) / 1000))
        pause = min(2 * pause, POLL_SECONDS)


def _release(descriptor: int, path: Path) -> None:
    """Remove a lock file if it is ours, and give it up."""
    try:
        if _lock(descriptor) is not False and _is_same(descriptor, path):
            # While it is still held: whoever waits for it sees that it is another file now. One that stays, on a disk
            # that is read-only by now, keeps nobody out.
            with suppress(OSError):
                path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Try to lock an open file, which may be ours already; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        logger.debug("No file locks here: %s", error)
        return None
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether a path still names an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def checksums(path: Path, algorithms: Sequence[str] = ("sha256", "xxh3_64")) -> dict[str, str]:
    """Checksums of a file by algorithm, hexadecimal."""
    digests: dict[str, Any] = {"sha256": "sha256", "xxh3_64": xxhash.xxh3_64}
    found = {}
    for algorithm in algorithms:
        with path.open("rb") as stream:
            found[algorithm] = hashlib.file_digest(stream, digests[algorithm]).hexdigest()
    return found

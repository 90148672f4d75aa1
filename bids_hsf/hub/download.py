"""Bring one model file into the cache: whole and checked, or not at all.

A transfer goes to a temporary name beside its target, is checked there, and is then renamed. Whatever fails, what was
at the target stays. A lock lets the first of many processes download while the others wait for its file, or for its
failure, which they share.
"""

import errno
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

from bids_hsf import __version__
from bids_hsf.errors import FetchError, StorageError
from bids_hsf.hub.cards import MAX_MODEL_BYTES, Member

logger = logging.getLogger(__name__)


ATTEMPTS = 3
BACK_OFF_S = 1.0  # doubled after each attempt
CONNECT_TIMEOUT_S = 5.0
SILENCE_TIMEOUT_S = 20.0

# Name resolution and a list of dead addresses know no timeout of their own: a cluster node without internet must
# hear within half a minute that nothing comes.
ANSWER_DEADLINE_S = 25.0
LOCK_TIMEOUT_S = 3600.0
RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)

BLOCK_BYTES = 2**18

Check = Callable[[Path], str | None]


class UnreachableError(FetchError):
    """No answer from a host: no network, a firewall, a wrong name."""


def download(member: Member, target: Path, *, check: Check, allow_http: bool) -> None:
    """Bring a member to `target`, unless another process has done so meanwhile.

    Parameters
    ----------
    member : Member
        With an https://, http:// or file:// source.
    target : Path
        File in the cache; replaced only by a file that passed.
    check : callable
        Says what is wrong with a file, or None.
    allow_http : bool
        Take addresses without encryption, redirects to such included.

    Raises
    ------
    FetchError
        If the file cannot be had or is not the one that is expected.
    StorageError
        If it cannot be written.
    """
    scheme = urlsplit(member.source).scheme
    if scheme == "http" and not allow_http:
        raise FetchError(
            "http:// is not taken, for anybody on the way could read along",
            "Use an https:// address, or allow it: --allow-http or BIDS_HSF_ALLOW_HTTP=1.",
        )
    began = time.time()
    with _storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target):
            if check(target) is None:  # another process was first
                return
            with _shared_failure(target, began):
                _replace(member, target, check, allow_http)


def _replace(member: Member, target: Path, check: Check, allow_http: bool) -> None:
    """Transfer to a temporary name, check, rename."""
    handle = tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", suffix=".part", delete=False)  # noqa: SIM115
    temporary = Path(handle.name)
    try:
        with handle, _Sink(handle, member) as sink:  # type: ignore[arg-type]
            if urlsplit(member.source).scheme == "file":
                _copy(member.source, sink)
            else:
                _transfer(member.source, sink, allow_http)
            handle.flush()
            os.fsync(handle.fileno())
        problem = check(temporary)
        if problem:
            raise FetchError(f"what came is not the file of the card: {problem}{_look(temporary)}")
        temporary.chmod(0o644)  # as others of the group must read it; mkstemp keeps it to the owner
        temporary.replace(target)
        logger.info("fetched %s", target)
    finally:
        temporary.unlink(missing_ok=True)


class _Sink:
    """Where the blocks of a transfer go: counted, limited, shown, and shut when nobody waits any more."""

    def __init__(self, file: BinaryIO, member: Member) -> None:
        from tqdm import tqdm

        self._file = file
        self._limit = member.size or MAX_MODEL_BYTES
        self._lock = threading.Lock()
        self._shut = False
        self.answered = threading.Event()
        self.count = 0
        # None: only where stderr is a terminal.
        self._bar = tqdm(
            total=member.size, desc=member.filename, unit="B", unit_scale=True, disable=None, leave=False, delay=1
        )

    def __enter__(self) -> "_Sink":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._shut = True
        self._bar.close()

    def write(self, block: bytes) -> int:
        """Append a block."""
        with self._lock:
            if self._shut:
                raise InterruptedError("nobody waits for this transfer any more")
            self.answered.set()
            self.count += len(block)
            if self.count > self._limit:
                raise FetchError(f"more than the {self._limit} bytes came that are expected at most")
            self._bar.update(len(block))
            return self._file.write(block)

    def flush(self) -> None:
        """Leave flushing to the file's own buffer."""

    def restart(self) -> None:
        """Forget what has come so far."""
        with self._lock:
            if self._shut:
                raise InterruptedError("nobody waits for this transfer any more")
            self.count = 0
            self._file.seek(0)
            self._file.truncate()
            self._bar.reset()

    def expect(self, total: int | None) -> None:
        """Take the server's word on the length, for the progress bar and to stop early."""
        if total is not None and total > self._limit:
            raise FetchError(f"the server announces {total} bytes, at most {self._limit} are expected")
        if total:
            self._bar.total = total


def _copy(source: str, sink: _Sink) -> None:
    """Copy a file:// source."""
    path = Path(unquote(urlsplit(source).path))
    try:
        file = path.open("rb")
    except OSError as error:
        raise FetchError(f"{path}: {error.strerror}", "Correct the path, or mount its folder.") from error
    with file:
        shutil.copyfileobj(file, sink, BLOCK_BYTES)


def _transfer(url: str, sink: _Sink, allow_http: bool) -> None:
    """Run the transfer in a thread of its own, left behind where no answer comes in time."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _try_often(url, sink, allow_http)
        except BaseException as error:
            failures.append(error)
        finally:
            sink.answered.set()

    thread = threading.Thread(target=run, daemon=True, name=f"download {url}")
    thread.start()
    if not sink.answered.wait(ANSWER_DEADLINE_S):
        raise UnreachableError(f"{urlsplit(url).netloc} did not answer within {ANSWER_DEADLINE_S:.0f} s")
    thread.join()
    if failures:
        raise failures[0]


def _try_often(url: str, sink: _Sink, allow_http: bool) -> None:
    """Transfer with new attempts, ever later, where another attempt may help."""
    import pooch
    import requests

    answers: list[Any] = []

    def judge(response: Any, **_: Any) -> None:
        answers.append(response)
        _judge_answer(response, sink, allow_http)

    get = pooch.HTTPDownloader(
        chunk_size=BLOCK_BYTES,
        timeout=(CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S),
        headers={"User-Agent": f"bids-hsf/{__version__}", "Accept-Encoding": "identity"},
        hooks={"response": judge},
    )
    for attempt in range(1, ATTEMPTS + 1):
        try:
            get(url, sink, None)
            return
        except requests.RequestException as error:
            failure = _explain(error, url, sink.count)
            if attempt == ATTEMPTS or not _may_pass(error):
                raise failure from error
        finally:  # neither pooch nor requests closes what they did not read to the end
            while answers:
                answers.pop().close()
        pause = BACK_OFF_S * 2 ** (attempt - 1)
        logger.warning("attempt %d of %d: %s; next one in %.0f s", attempt, ATTEMPTS, failure.message, pause)
        time.sleep(pause)
        sink.restart()


def _judge_answer(response: Any, sink: _Sink, allow_http: bool) -> None:
    """Refuse an answer by its header: a way out of encryption, a web page, too many bytes."""
    onward = urljoin(response.url, response.headers.get("location", "")) if response.is_redirect else response.url
    scheme = urlsplit(onward).scheme
    if scheme != "https" and not (scheme == "http" and allow_http):
        raise FetchError(f"the server redirects to {onward}, which is not https://", "Ask the model's author.")
    if response.is_redirect:
        logger.debug("%s redirects to %s", response.url, onward)
        return
    if response.ok and response.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml")):
        raise FetchError(
            f"a web page came instead of a model, from {response.url}",
            "It may be the login page of a network or a notice of the host: open the address in a browser.",
        )
    length = response.headers.get("content-length", "")
    if response.ok:
        sink.expect(int(length) if length.isdigit() else None)


def _explain(error: Any, url: str, n_bytes: int) -> FetchError:
    """Say in a line what a failed request means."""
    import requests

    host = urlsplit(error.request.url if error.request is not None else url).netloc
    if isinstance(error, requests.HTTPError):
        answer: Any = error.response
        return FetchError(f"{host} answered with status {answer.status_code} ({answer.reason})")
    if isinstance(error, requests.exceptions.SSLError):
        hint = "Behind a proxy that opens connections, set REQUESTS_CA_BUNDLE to its certificates."
        return FetchError(f"the certificate of {host} was not accepted ({_cause(error)})", hint)
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or n_bytes:
        return FetchError(f"the transfer from {host} was cut off after {n_bytes} bytes ({_cause(error)})")
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return UnreachableError(f"no connection to {host} ({_cause(error)})")
    return FetchError(f"{host}: {_cause(error)}")


def _cause(error: BaseException) -> str:
    """Innermost reason of a chain of errors, in a few words."""
    inner: BaseException = error
    while True:
        following = getattr(inner, "reason", None) or inner.__cause__ or next(iter(inner.args), None)
        if not isinstance(following, BaseException):
            return " ".join(str(inner).rpartition(">: ")[2].split())[:200] or type(inner).__name__
        inner = following


def _may_pass(error: Any) -> bool:
    """Tell whether another attempt could end otherwise."""
    import requests

    if isinstance(error, requests.HTTPError):
        answer: Any = error.response
        return answer.status_code in RETRIED_STATUSES
    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, passing) and not isinstance(error, requests.exceptions.SSLError)


def _look(path: Path) -> str:
    """Say so if a file that failed its check looks like a web page or a Git LFS pointer."""
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "; it is a web page, perhaps a login page"
    return "; it is a Git LFS pointer, not the file itself" if head.startswith(b"version https://git-lfs") else ""


@contextmanager
def _storage_errors(target: Path) -> Iterator[None]:
    """Turn what the file system says into an error with a hint."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "Free some space, or set BIDS_HSF_CACHE" if full else "Set BIDS_HSF_CACHE"
        raise StorageError(
            f"{target} cannot be written: {error.strerror or error}", f"{remedy} to a folder that can be written."
        ) from error


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold the lock of a file in the cache; without one where the file system has none."""
    import filelock

    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"), timeout=1, mode=0o666)  # of a shared cache
    try:
        try:
            lock.acquire()
        except filelock.Timeout:
            logger.info("waiting for another process that fetches %s", target.name)
            lock.acquire(timeout=LOCK_TIMEOUT_S, poll_interval=0.25)
    except NotImplementedError:
        logger.warning("%s: no file locks there; jobs that start together may download twice", target.parent)
    except filelock.Timeout as error:
        raise FetchError(
            f"another process has been fetching {target.name} for more than {LOCK_TIMEOUT_S / 60:.0f} minutes",
            f"If none does, delete {lock.lock_file}.",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _shared_failure(target: Path, began: float) -> Iterator[None]:
    """Fail at once where a process that we waited for found no connection, and leave word where this one does."""
    note = target.with_name(f".{target.name}.failed")
    with suppress(OSError):
        if note.stat().st_mtime >= began:
            raise UnreachableError(note.read_text(encoding="utf-8"))
    try:
        yield
    except UnreachableError as error:
        with suppress(OSError):
            note.write_text(error.message, encoding="utf-8")
        raise
    with suppress(OSError):
        note.unlink()

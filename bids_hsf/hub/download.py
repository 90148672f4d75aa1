"""Bring one model file into the cache: whole and checked, or not at all.

A transfer goes to a temporary name beside its target, is checked there, and is then renamed. Whatever fails, what was
at the target stays. A lock lets the first of many processes download while the others wait for its file, or for its
failure, which they share.

Attempts are counted here, not by urllib3: its Retry sees neither a body that is cut off nor a deadline for all of it.
"""

import io
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

from bids_hsf import __version__
from bids_hsf.errors import FetchError
from bids_hsf.files import claimed, read_text, replacing, sweep
from bids_hsf.hub.cards import MAX_MODEL_BYTES, Member, without_credentials

logger = logging.getLogger(__name__)


ATTEMPTS = 3
BACK_OFF_S = 1.0  # doubled after each attempt
CONNECT_TIMEOUT_S = 5.0
SILENCE_TIMEOUT_S = 20.0

# Name resolution and a list of dead addresses know no timeout of their own: a cluster node without internet must
# hear within half a minute that nothing comes.
ANSWER_DEADLINE_S = 25.0
TOTAL_DEADLINE_S = 3600.0  # one byte now and then is no silence
RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)

CLOCK_SLACK_S = 1.0  # of a file server

BLOCK_BYTES = 2**16

Check = Callable[[Path], str | None]


class UnreachableError(FetchError):
    """No answer from a host, or none in time: no network, a firewall, a wrong name."""


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
    if urlsplit(member.source).scheme == "http" and not allow_http:
        raise FetchError(
            "http:// is not taken, for anybody on the way could read along",
            "Use an https:// address, or allow it: --allow-http or BIDS_HSF_ALLOW_HTTP=1.",
        )
    began = time.time()
    with claimed(target.with_name(f".{target.name}.lock")):
        if check(target) is None:  # another process was first
            return
        sweep(target.parent)
        with _shared_failure(target, began), replacing(target) as temporary:
            with temporary.open("wb") as file, _Sink(file, member) as sink:
                _receive(member.source, sink, allow_http)
            problem = check(temporary)
            if problem:
                raise FetchError(f"what came is not the file of the card: {problem}{_look(temporary)}")
            temporary.chmod(0o644)  # whatever the umask: others of the group must read it
    logger.info("fetched %s", target)


@contextmanager
def _shared_failure(target: Path, began: float) -> Iterator[None]:
    """Fail at once where a process that we waited for found no connection, and leave word where this one does."""
    note = target.with_name(f".{target.name}.failed")
    with suppress(OSError, UnicodeDecodeError):
        found = note.lstat()
        # Of somebody else, or of a clock that is ahead, it would stop each download there will ever be.
        if found.st_uid == os.getuid() and began <= found.st_mtime <= time.time() + CLOCK_SLACK_S:
            raise UnreachableError(_printable(read_text(note)))
    try:
        yield
    except UnreachableError as error:
        with suppress(OSError):
            note.write_text(error.message, encoding="utf-8")
        raise
    with suppress(OSError):
        note.unlink()


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

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._shut:
                raise InterruptedError("nobody waits for this transfer any more")
            yield

    def write(self, block: bytes) -> int:
        """Append a block."""
        with self._open():
            self.answered.set()
            self.count += len(block)
            if self.count > self._limit:
                raise FetchError(f"more than the {self._limit} bytes came that are expected at most")
            self._bar.update(len(block))
            return self._file.write(block)

    def restart(self) -> None:
        """Forget what has come so far."""
        with self._open():
            self.count = 0
            self._file.seek(0)
            self._file.truncate()
            self._bar.reset()

    def expect(self, length: str) -> None:
        """Take the server's word on the length, for the progress bar and to stop early."""
        try:
            total = int(length)
        except ValueError:
            return
        if total > self._limit:
            raise FetchError(f"the server announces {total} bytes, at most {self._limit} are expected")
        self._bar.total = total if total > 0 else None


def _receive(source: str, sink: _Sink, allow_http: bool) -> None:
    """Run the transfer in a thread of its own, left behind where no answer, or no end, comes in time."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            if urlsplit(source).scheme == "file":
                _copy(Path(unquote(urlsplit(source).path)), sink)
            else:
                _try_often(source, sink, allow_http)
        except BaseException as error:
            failures.append(error)
        finally:
            sink.answered.set()

    thread = threading.Thread(target=run, daemon=True, name="download")
    thread.start()
    if not sink.answered.wait(ANSWER_DEADLINE_S):
        raise UnreachableError(f"{_host(source)} did not answer within {ANSWER_DEADLINE_S:.3g} s")
    thread.join(TOTAL_DEADLINE_S)
    if thread.is_alive():
        raise UnreachableError(
            f"{_host(source)} sent {sink.count} bytes in {TOTAL_DEADLINE_S:.3g} s, and then we stopped waiting"
        )
    if failures:
        raise failures[0]


def _copy(path: Path, sink: _Sink) -> None:
    """Copy a file:// source."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise FetchError(f"{path}: {error.strerror}", "Correct the path, or mount its folder.") from error
    with file:
        shutil.copyfileobj(file, sink, BLOCK_BYTES)


def _try_often(url: str, sink: _Sink, allow_http: bool) -> None:
    """Transfer with new attempts, ever later, where another attempt may help."""
    import requests

    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(url, sink, allow_http)
            return
        except (requests.RequestException, ValueError) as error:  # redirects may lead to what is no address
            failure = _explain(error, url, sink.count)
            if attempt == ATTEMPTS or not _may_pass(error):
                raise failure from error
        pause = BACK_OFF_S * 2 ** (attempt - 1)
        logger.warning("attempt %d of %d: %s; next one in %.0f s", attempt, ATTEMPTS, failure.message, pause)
        time.sleep(pause)
        sink.restart()


def _transfer(url: str, sink: _Sink, allow_http: bool) -> None:
    """Request an address once, redirects followed, and take what it sends."""
    import requests

    def judge(answer: Any, **_: Any) -> None:
        sink.answered.set()
        try:
            _judge(answer, sink, allow_http)
        except BaseException:
            answer.close()
            raise
        if answer.is_redirect:
            # requests reads the body of a redirect whole, however long it is.
            answer.raw.close()
            answer.raw = io.BytesIO()

    request = requests.get(
        url,
        stream=True,
        timeout=(CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S),
        headers={"User-Agent": f"bids-hsf/{__version__}", "Accept-Encoding": "identity"},
        hooks={"response": judge},
    )
    with request as answer:
        answer.raise_for_status()
        for block in answer.iter_content(BLOCK_BYTES):
            sink.write(block)


def _judge(answer: Any, sink: _Sink, allow_http: bool) -> None:
    """Refuse an answer by its header: a way out of encryption, a web page, too many bytes."""
    onward = urljoin(answer.url, answer.headers.get("location", "")) if answer.is_redirect else answer.url
    scheme = urlsplit(onward).scheme
    if scheme != "https" and not (scheme == "http" and allow_http):
        raise FetchError(f"the server redirects to {_printable(onward)}, which is not https://", "Ask the author.")
    if answer.is_redirect or not answer.ok:
        logger.debug("%s answers %d %s", _host(answer.url), answer.status_code, _printable(onward))
        return
    if answer.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml")):
        raise FetchError(
            f"a web page came instead of a model, from {_printable(answer.url)}",
            "It may be the login page of a network or a notice of the host: open the address in a browser.",
        )
    sink.expect(answer.headers.get("content-length", ""))


def _explain(error: Any, url: str, n_bytes: int) -> FetchError:
    """Say in a line what a failed request means."""
    import requests

    request = getattr(error, "request", None)
    host = _host((request and request.url) or url)
    if isinstance(error, requests.HTTPError):
        answer: Any = error.response
        return FetchError(f"{host} answered with status {answer.status_code} ({_printable(str(answer.reason))})")
    if isinstance(error, requests.exceptions.SSLError):
        hint = "Behind a proxy that opens connections, set REQUESTS_CA_BUNDLE to its certificates."
        return FetchError(f"the certificate of {host} was not accepted ({_cause(error)})", hint)
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or n_bytes:
        return FetchError(f"the transfer from {host} was cut off after {n_bytes} bytes ({_cause(error)})")
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return UnreachableError(f"no connection to {host} ({_cause(error)})")
    return FetchError(f"{host}: {_cause(error)}")


def _may_pass(error: Any) -> bool:
    """Tell whether another attempt could end otherwise; where nobody can be reached at all, none could."""
    import requests
    from urllib3.exceptions import NewConnectionError

    if isinstance(error, requests.HTTPError):
        answer: Any = error.response
        return answer.status_code in RETRIED_STATUSES
    refused = isinstance(getattr(next(iter(error.args), None), "reason", None), NewConnectionError)
    if refused or isinstance(error, (requests.ConnectTimeout, requests.exceptions.SSLError)):
        return False
    return isinstance(error, (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError))


def _cause(error: BaseException) -> str:
    """Innermost reason of a chain of errors, in a few words."""
    inner: BaseException = error
    while True:
        following = getattr(inner, "reason", None) or inner.__cause__ or next(iter(inner.args), None)
        if not isinstance(following, BaseException):
            return _printable(str(inner).rpartition(">: ")[2]) or type(inner).__name__
        inner = following


def _host(url: str) -> str:
    """Host and port of an address, or what there is of it."""
    return _printable(without_credentials(url).partition("//")[2].partition("/")[0] or url)


def _printable(text: str) -> str:
    """Text of a stranger in one short line: no control characters, no passwords."""
    line = " ".join("".join(c if c.isprintable() else " " for c in without_credentials(text)).split())
    return line if len(line) <= 300 else f"{line[:300]}..."


def _look(path: Path) -> str:
    """Say so if a file that failed its check looks like a web page or a Git LFS pointer."""
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "; it is a web page, perhaps a login page"
    return "; it is a Git LFS pointer, not the file itself" if head.startswith(b"version https://git-lfs") else ""

"""An HTTP server on 127.0.0.1 that counts requests and misbehaves on demand."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


class LocalServer(ThreadingHTTPServer):
    """Serves a folder; `manners` says for a path what it does instead of answering well."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.manners: dict[str, list[str]] = {}
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def misbehave(self, path: str, *manners: str) -> None:
        """Do these, one a request, the last one for ever: "ok", a status, "truncate", "html", "-> URL", "hang", ..."""
        self.manners[path] = list(manners)

    def next_manner(self, path: str) -> str:
        left = self.manners.get(path, ["ok"])
        return left.pop(0) if len(left) > 1 else left[0]


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests[path] += 1
        manner = self.server.next_manner(path)
        file = self.server.folder / path.lstrip("/")
        body = file.read_bytes() if file.is_file() else b""
        word, _, rest = manner.partition(" ")
        if word.isdigit() or not file.is_file():
            self.send_error(int(word) if word.isdigit() else 404)
        elif word in ("->", "reason"):
            self.send_response(302 if word == "->" else 404, None if word == "->" else rest)
            self.send_header("Location", rest if word == "->" else "")
            self.end_headers()
        elif word == "length":
            self._answer(body, length=rest)
        elif manner in ("truncate", "truncate silently", "stall"):
            self._answer(body, length=None if rest else len(body), sent=len(body) // 2)
            self.server.released.wait(30 if manner == "stall" else 0)
        else:
            self._misbehave(manner, body)

    def _misbehave(self, manner: str, body: bytes) -> None:
        """Answer well, or not at all, or something else, or without end."""
        if manner == "hang":
            self.server.released.wait(30)
        elif manner in ("html", "untyped html"):
            kind = "text/html; charset=utf-8" if manner == "html" else "application/octet-stream"
            self._answer(b"<!DOCTYPE html><title>Please log in</title>", kind)
        elif manner == "endless":
            self._endless()
        elif manner == "endless redirect":
            self._endless(302, "/copy-of-it.onnx")
        elif manner == "trickle":
            self._trickle(body)
        else:
            if manner == "slow":
                time.sleep(0.5)
            self._answer(body, length=len(body))

    def _answer(
        self,
        body: bytes,
        kind: str = "application/octet-stream",
        *,
        length: int | str | None = None,
        sent: int | None = None,
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body[:sent])
        self.close_connection = True

    def _trickle(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            for index in range(len(body)):
                self.wfile.write(body[index : index + 1])
                if self.server.released.wait(0.05):
                    break

    def _endless(self, status: int = 200, location: str | None = None) -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        try:
            while not self.server.released.is_set():
                self.wfile.write(bytes(2**16))
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[LocalServer]:
    server = LocalServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()

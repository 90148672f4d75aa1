"""An HTTP server on 127.0.0.1 that counts requests and misbehaves on demand."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
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
        if manner.isdigit() or not file.is_file():
            self.send_error(int(manner) if manner.isdigit() else 404)
        elif manner.startswith("-> "):
            self.send_response(302)
            self.send_header("Location", manner[3:])
            self.end_headers()
        elif manner == "hang":
            self.server.released.wait(30)
        elif manner in ("html", "untyped html"):
            kind = "text/html; charset=utf-8" if manner == "html" else "application/octet-stream"
            self._answer(b"<!DOCTYPE html><title>Please log in</title>", kind)
        elif manner == "truncate":
            self._answer(body, length=len(body), sent=len(body) // 2)
        elif manner == "truncate silently":
            self._answer(body, length=None, sent=len(body) // 2)
        elif manner == "stall":
            self._answer(body, length=len(body), sent=len(body) // 2)
            self.server.released.wait(30)
        elif manner == "endless":
            self._endless()
        else:
            if manner == "slow":
                time.sleep(0.5)
            self._answer(body, length=len(body))

    def _answer(
        self,
        body: bytes,
        kind: str = "application/octet-stream",
        *,
        length: int | None = None,
        sent: int | None = None,
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body[:sent])
        self.close_connection = True

    def _endless(self) -> None:
        self.send_response(200)
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

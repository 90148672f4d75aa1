import io
import logging
import os
import resource
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from local_server import LocalServer
from requests.adapters import HTTPAdapter
from served_cards import cached_files, digest, write_card
from twins import write_twin

from bids_hsf import files
from bids_hsf.errors import FetchError, StorageError
from bids_hsf.hub import download, models
from bids_hsf.hub.cards import ModelCard


@pytest.mark.parametrize(
    ("manners", "message"),
    [
        (["html"], "a web page came instead of a model"),
        (["untyped html"], "it is a web page"),
        (["truncate"], "cut off after 1|cut off after [0-9]+ bytes"),
        (["truncate silently"], "what came is not the file of the card: expected sha256"),
        (["404"], "answered with status 404"),
        (["503"], "answered with status 503"),
        (["-> file:///etc/hostname"], "redirects to file:///etc/hostname"),
        (["-> http://[half/"], "127.0.0.1:[0-9]+: Invalid IPv6 URL"),
        (["-> http://*.x:port/"], "127.0.0.1:[0-9]+: |no connection|port"),
        (["-> /twin.onnx"], "Exceeded 30 redirects"),
        (["reason Not\x1b[31m here\x07"], r"answered with status 404 \(Not \[31m here\)"),
        (["-> /login.html"], "a web page came instead of a model, from http://127.0.0.1:[0-9]+/login.html"),
    ],
)
def test_bad_answers_leave_nothing_behind(
    card: ModelCard, served: LocalServer, manners: list[str], message: str
) -> None:
    (served.folder / "login.html").write_text("<html>")
    served.misbehave("/login.html", "html")
    served.misbehave("/twin.onnx", *manners)
    with pytest.raises(FetchError, match=message) as caught:
        models.fetch(card)
    assert card.members[0].source in caught.value.message
    assert cached_files() == []


def test_a_damaged_file_is_kept_where_no_better_one_comes(card: ModelCard, served: LocalServer) -> None:
    path = models.fetch(card).member_paths[0]
    path.write_bytes(b"damaged")
    served.misbehave("/twin.onnx", "500")
    with pytest.raises(FetchError, match="status 500"):
        models.fetch(card)
    assert path.read_bytes() == b"damaged"
    served.misbehave("/twin.onnx", "ok")
    assert models.fetch(card).member_paths[0].read_bytes() != b"damaged"


def test_what_may_pass_is_tried_again(card: ModelCard, served: LocalServer) -> None:
    served.misbehave("/twin.onnx", "503", "truncate", "ok")
    models.fetch(card)
    assert served.requests["/twin.onnx"] == 3
    served.misbehave("/twin.onnx", "404")
    with pytest.raises(FetchError):
        models.fetch(card, cache_dir=card.path.parent / "other")
    assert served.requests["/twin.onnx"] == 4


def test_a_redirect_within_the_rules_is_followed(card: ModelCard, served: LocalServer) -> None:
    write_twin(served.folder / "moved.onnx", n_classes=2)
    served.misbehave("/twin.onnx", f"-> {served.url}/moved.onnx")
    assert models.fetch(card).member_paths[0].is_file()


def test_http_must_be_allowed(card: ModelCard, served: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(models.HTTP_VARIABLE)
    with pytest.raises(FetchError, match="http:// is not taken") as caught:
        models.fetch(card)
    assert "--allow-http" in (caught.value.hint or "")
    assert served.requests.total() == 0
    assert models.fetch(card, allow_http=True).member_paths


def test_a_redirect_out_of_https_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(_: HTTPAdapter, request: requests.PreparedRequest, **__: object) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.url, answer.raw = 302, request.url or "", io.BytesIO()
        answer.headers["location"] = "http://ada:secret@elsewhere/a.onnx"
        return answer

    monkeypatch.setattr(HTTPAdapter, "send", send)
    secure = write_card(tmp_path / "c.yaml", "https://host.example/a.onnx", sha256="0" * 64)
    with pytest.raises(FetchError, match=r"redirects to http://elsewhere/a\.onnx, which is not https"):
        models.fetch(secure, allow_http=False)


def test_an_endless_body_is_cut_at_the_limit(
    card: ModelCard, served: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_MODEL_BYTES", 2**20)
    served.misbehave("/twin.onnx", "endless")
    with pytest.raises(FetchError, match="more than the 1048576 bytes"):
        models.fetch(card)
    assert cached_files() == []


def test_the_size_of_the_card_is_a_limit(card: ModelCard) -> None:
    member = replace(card.members[0], size=10)
    with pytest.raises(FetchError, match=r"the server announces [0-9]+ bytes, at most 10"):
        models.fetch(replace(card, members=(member,)))


def test_silence_ends_and_is_shared_by_those_who_waited(
    card: ModelCard, served: LocalServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(download, "ANSWER_DEADLINE_S", 0.3)
    monkeypatch.setattr(files, "POLL_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    served.misbehave("/twin.onnx", "hang")
    target = models.member_path(card.members[0], card)
    with ThreadPoolExecutor(4) as pool:
        with files.claimed(target.with_name(f".{target.name}.lock")):
            waiting = [pool.submit(models.fetch, card) for _ in range(4)]
            while caplog.text.count("Waiting for another run") < 4:
                time.sleep(0.01)
        failures = [future.exception() for future in waiting]
    assert all(isinstance(failure, download.UnreachableError) for failure in failures)
    assert all("did not answer within 0.3 s" in str(failure) for failure in failures)
    assert served.requests["/twin.onnx"] == 1
    served.misbehave("/twin.onnx", "ok")
    models.fetch(card)
    assert [path.name for path in cached_files()] == [target.name]


def test_a_byte_now_and_then_is_not_waited_for_without_end(
    card: ModelCard, served: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TOTAL_DEADLINE_S", 0.3)
    served.misbehave("/twin.onnx", "trickle")
    with pytest.raises(download.UnreachableError, match=r"sent \d+ bytes in 0\.3 s, and then we stopped waiting"):
        models.fetch(card)
    assert not [path for path in cached_files() if not path.name.endswith(".failed")]


def test_nobody_listening_is_unreachable_at_once(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = write_card(tmp_path / "dead.yaml", "http://127.0.0.1:9/twin.onnx", sha256=card.members[0].sha256 or "")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("who is not there is not asked again"))
    with pytest.raises(download.UnreachableError, match=r"no connection to 127\.0\.0\.1:9 \(.*refused"):
        models.fetch(dead)


def test_an_unknown_host_is_unreachable_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("who is not there is not asked again"))
    card = write_card(tmp_path / "c.yaml", "https://ada:secret@host.example/a.onnx", sha256="0" * 64)
    with pytest.raises(download.UnreachableError, match=r"no connection to host\.example \(.*not known") as caught:
        models.fetch(card)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


def test_file_addresses_are_copied(card: ModelCard, served: LocalServer, tmp_path: Path) -> None:
    source = served.folder / "twin.onnx"
    local = write_card(tmp_path / "local.yaml", source.as_uri(), sha256=digest(source))
    path = models.fetch(local).member_paths[0]
    assert path.is_relative_to(models.cache_root())
    assert path.read_bytes() == source.read_bytes()
    gone = write_card(tmp_path / "gone.yaml", (tmp_path / "gone.onnx").as_uri(), sha256="0" * 64)
    with pytest.raises(FetchError, match=r"gone\.onnx: No such file"):
        models.fetch(gone)


def test_a_cache_that_cannot_be_made_says_so(card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot write .*: Not a directory") as caught:
        models.fetch(card, cache_dir=tmp_path / "file" / "cache")
    assert "BIDS_HSF_CACHE" in (caught.value.hint or "")


def test_a_full_disk_leaves_nothing_half_written(card: ModelCard, served: LocalServer) -> None:
    path = models.fetch(card).member_paths[0]
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # the twin is larger
    try:
        with pytest.raises(StorageError, match="Cannot write .*: File too large"):
            models.fetch(card)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cached_files() == [path]
    assert path.read_bytes() == b"old"


def test_many_processes_that_start_together_download_once(card: ModelCard, served: LocalServer) -> None:
    served.misbehave("/twin.onnx", "slow")
    done = subprocess.run([sys.executable, "-c", TWENTY, str(card.path)], capture_output=True, text=True, timeout=60)
    size = (served.folder / "twin.onnx").stat().st_size
    assert done.stdout.split() == [str(size)] * 20, done.stderr
    assert served.requests["/twin.onnx"] == 1


@pytest.mark.parametrize("length", ["\u00b2", "-1", "9" * 5000, ""])
def test_lengths_that_are_none_are_passed_over(card: ModelCard, served: LocalServer, length: str) -> None:
    served.misbehave("/twin.onnx", f"length {length}")
    assert models.fetch(card).member_paths[0].is_file()


def test_the_body_of_a_redirect_is_not_read(card: ModelCard, served: LocalServer) -> None:
    (served.folder / "copy-of-it.onnx").write_bytes((served.folder / "twin.onnx").read_bytes())
    served.misbehave("/twin.onnx", "endless redirect")
    assert models.fetch(card).member_paths[0].is_file()


def test_what_a_killed_download_left_is_swept_away(card: ModelCard) -> None:
    folder = models.member_path(card.members[0], card).parent
    folder.mkdir(parents=True)
    (folder / ".old.onnx.bids-hsf-0123abcd").touch()
    os.utime(folder / ".old.onnx.bids-hsf-0123abcd", (0, 0))
    models.fetch(card)
    assert len(cached_files()) == 1


# Forked once everything is imported, and let go at once: 20 interpreters would need 20 times as long to start.
TWENTY = """
import os, sys
import requests, tqdm
from bids_hsf.hub import download, models

card = models.find_card(sys.argv[1])
gate, opener = os.pipe()
for _ in range(20):
    if os.fork() == 0:
        os.close(opener)
        os.read(gate, 1)
        size = models.fetch(card).member_paths[0].stat().st_size
        os.write(1, f"{size}\\n".encode())
        os._exit(0)
os.close(opener)
assert all(os.wait()[1] == 0 for _ in range(20))
"""

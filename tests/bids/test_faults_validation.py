"""What a dataset could do through the validator: let it phone, wait, or eat the memory."""

import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from bids_trees import write_scan, write_tree

from bids_hsf.bids import validation
from bids_hsf.bids.validation import link_subjects, read_report, run_validator, start_validator, validating

UUID = "01234567-89ab-cdef-0123-456789abcdef"
KEY = "SHA256E-s1000--" + "ab" * 32 + ".nii.gz"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = write_tree(tmp_path / "bids", ["T1w.json"])
    (root / "README").write_text("Phantoms")
    write_scan(root / "sub-01/anat/sub-01_T1w.nii.gz")
    return root


class Listener:
    """A port of this machine that counts who calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def write_object(git: Path, kind: str, content: bytes) -> bytes:
    whole = f"{kind} {len(content)}".encode() + b"\0" + content
    name = hashlib.sha1(whole).hexdigest()
    path = git / "objects" / name[:2] / name[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zlib.compress(whole))
    return bytes.fromhex(name)


def write_annexed_scan(link: Path, host: str) -> None:
    """Make a link as git-annex has it, without its content, and a log that says at which host that is."""
    git = link.parent / ".git"
    log = f"1700000000s {UUID}:V +version1#{KEY}\n".encode()
    remotes = f"{UUID} name=s3 publicurl=yes host={host} bucket=b region=eu-west-1\n".encode()
    digest = hashlib.md5(KEY.encode()).hexdigest()
    blob = write_object(git, "blob", log)
    inner = write_object(git, "tree", f"100644 {KEY}.log.rmet".encode() + b"\0" + blob)
    middle = write_object(git, "tree", f"40000 {digest[3:6]}".encode() + b"\0" + inner)
    names = {digest[:3]: ("40000", middle), "remote.log": ("100644", write_object(git, "blob", remotes))}
    root = b"".join(f"{mode} {name}".encode() + b"\0" + sha for name, (mode, sha) in sorted(names.items()))
    who = "Ada <ada@host.example> 1700000000 +0000"
    text = f"tree {write_object(git, 'tree', root).hex()}\nauthor {who}\ncommitter {who}\n\nannex\n"
    commit = write_object(git, "commit", text.encode())
    (git / "refs/heads").mkdir(parents=True)
    (git / "refs/heads/git-annex").write_text(commit.hex() + "\n")
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n")
    link.symlink_to(f".git/annex/objects/00/11/{KEY}/{KEY}")


def test_validator_calls_nobody_whom_a_dataset_names(
    dataset: Path, tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    link = dataset / "sub-01/anat/sub-01_acq-annexed_T1w.nii.gz"
    write_annexed_scan(link, f"127.0.0.1:{listener.port}")
    # Straight on the dataset, where the validator reads the log ...
    assert run_validator(dataset, tmp_path / "cache") is not None
    # ... and on the tree of links, as runs have it.
    with validating(dataset, ["01"], tmp_path):
        pass
    assert listener.calls == 0


def test_validator_sees_nothing_of_the_environment_and_may_do_nothing(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    deno = tmp_path / "bin" / "deno"
    deno.parent.mkdir()
    deno.write_text(f'#!/bin/sh\n/usr/bin/env >{told}\necho "$@" >>{told}\necho {{}}\n')
    deno.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(deno.with_name("python")))
    for name in ("AWS_ACCESS_KEY_ID", "GITHUB_TOKEN", "HTTPS_PROXY", "BIDS_SCHEMA", "DENO_AUTH_TOKENS"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("HOME", "/home/ada")
    assert run_validator(dataset, tmp_path / "cache") == {}
    text = told.read_text()
    assert "secret" not in text
    assert "/home/ada" not in text
    arguments = text.splitlines()[-1].split()
    for word in ("net", "write", "run", "ffi", "sys"):
        assert f"--deny-{word}" in arguments
        assert not any(argument.startswith(f"--allow-{word}") for argument in arguments)
    assert "--allow-read=." in arguments
    assert {"--no-prompt", "--no-remote", "--no-npm", "--cached-only"} <= set(arguments)


def test_validator_has_a_limit_of_memory(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Beyond what a run would give it: a folder that holds an endless text.
    with (dataset / "dataset_description.json").open("wb") as file:
        file.truncate(6 << 30)
    process = start_validator(dataset, tmp_path / "cache")
    assert process is not None
    largest = 0

    def watch() -> None:
        nonlocal largest
        while process.poll() is None:
            try:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            except (OSError, ValueError, IndexError):
                return
            largest = max(largest, pages * os.sysconf("SC_PAGE_SIZE"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    read_report(process, 60)
    watcher.join()
    assert largest < validation.MEMORY_BYTES + (512 << 20)


def test_what_the_validator_would_wait_for_is_left_out(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anat = dataset / "sub-01/anat"
    os.mkfifo(anat / "sub-01_acq-pipe_T1w.nii.gz")
    os.mkfifo(dataset / "acq-pipe_T1w.json")
    (anat / "sub-01_acq-zero_T1w.json").symlink_to("/dev/zero")
    (anat / "round").symlink_to(anat)
    (anat / "sub-01_acq-loop_T1w.nii.gz").symlink_to("sub-01_acq-loop_T1w.nii.gz")
    with (anat / "sub-01_T1w.json").open("wb") as file:
        file.truncate(6 << 30)
    tree = tmp_path / "tree"
    link_subjects(dataset, ["01"], tree)
    assert sorted(path.name for path in (tree / "sub-01/anat").iterdir()) == [
        "sub-01_T1w.nii.gz",
        "sub-01_acq-loop_T1w.nii.gz",
    ]
    assert not (tree / "acq-pipe_T1w.json").exists()
    for name in ("sub-01_acq-pipe_T1w.nii.gz", "/acq-pipe_T1w.json", "sub-01_acq-zero_T1w.json", "sub-01_T1w.json"):
        assert name in caplog.text
    caplog.clear()
    with validating(dataset, ["01"], tmp_path):
        pass
    assert "could not run" not in caplog.text


def test_present_content_of_git_annex_is_validated_as_a_plain_file(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = dataset / "sub-01/anat/sub-01_T1w.nii.gz"
    content = dataset / ".git/annex/objects/00/11" / KEY / KEY
    content.parent.mkdir(parents=True)
    image.rename(content)
    image.symlink_to(f"../../.git/annex/objects/00/11/{KEY}/{KEY}")
    with caplog.at_level(logging.INFO), validating(dataset, ["01"], tmp_path):
        pass
    assert [record.getMessage() for record in caplog.records] == ["BIDS validator: no errors"]


def test_folder_with_a_comma_is_validated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_tree(tmp_path / "a,b" / "bids", ["T1w.json"])
    (root / "README").write_text("Phantoms")
    write_scan(root / "sub-01/anat/sub-01_T1w.nii.gz")
    work = tmp_path / "x,y"
    work.mkdir()
    with caplog.at_level(logging.INFO), validating(root, ["01"], work):
        pass
    assert [record.getMessage() for record in caplog.records] == ["BIDS validator: no errors"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_to_the_whole_group_is_no_failure_of_the_validator(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    process = subprocess.Popen(["/bin/sh", "-c", "exec sleep 60"], stdout=subprocess.PIPE, text=True)
    process.send_signal(number)
    assert read_report(process, 60) is None
    assert not caplog.records


def test_validator_that_something_else_killed_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    process = subprocess.Popen(["/bin/sh", "-c", "exec sleep 60"], stdout=subprocess.PIPE, text=True)
    process.kill()
    assert read_report(process, 60) is None
    assert "ended by signal 9" in caplog.text


def test_folders_of_killed_runs_go_and_those_of_others_stay(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "YOUNG_SECONDS", 0.0)
    left = tmp_path / "bids-hsf-validate-left"
    (left / "from-01").mkdir(parents=True)
    (left / "from-01" / "README").symlink_to(dataset / "README")
    (tmp_path / "bids-hsf-validate-of-the-user.txt").write_text("mine")
    (tmp_path / "bids-hsf-validate-link").symlink_to(dataset)
    with validating(dataset, ["01"], tmp_path):
        first = set(tmp_path.glob("bids-hsf-validate-*"))
        assert left not in first
        with validating(dataset, ["01"], tmp_path):
            assert first < set(tmp_path.glob("bids-hsf-validate-*"))
        assert first == set(tmp_path.glob("bids-hsf-validate-*"))
    assert (dataset / "README").read_text() == "Phantoms"
    assert {path.name for path in tmp_path.glob("bids-hsf-validate-*")} == {
        "bids-hsf-validate-of-the-user.txt",
        "bids-hsf-validate-link",
    }

import errno
import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bids_hsf import files
from bids_hsf.errors import StorageError
from bids_hsf.files import claimed

HOLD = (
    "import sys, time; from pathlib import Path; from bids_hsf.files import claimed\n"
    "with claimed(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


def test_lock_file_is_there_while_it_is_held_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "logs" / ".scan.lock"
    with claimed(path):
        assert path.exists()
    assert not path.exists()
    with pytest.raises(KeyError), claimed(path):
        raise KeyError
    assert not path.exists()


def test_killed_holder_holds_no_longer(tmp_path: Path) -> None:
    path = tmp_path / ".scan.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.communicate()
    assert path.exists()
    with claimed(path):
        pass
    assert not path.exists()


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(files, "POLL_SECONDS", 0.005)
    path = tmp_path / ".scan.lock"
    inside: list[int] = []
    most = []

    def work() -> None:
        for _ in range(10):
            with claimed(path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    with caplog.at_level(logging.INFO):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(most) == 40
    assert max(most) == 1
    assert "Waiting for another run that has scan" in caplog.text


def test_disk_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with claimed(tmp_path / ".scan.lock"):
        pass


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Cannot write"), claimed(tmp_path / "file" / "x" / ".scan.lock"):
        pass


def test_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.tsv"]


def test_full_disk_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="No space left") as caught,
        files.replacing(tmp_path / "x") as temporary,
    ):
        temporary.write_text("half")
        raise OSError(28, os.strerror(28))
    assert str(tmp_path / "x") in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_does_not_tell_upper_and_lower_case_apart_is_known_by_a_file_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "dataset_description.json"
    assert not files.ignores_case(path)
    path.write_text("{}")
    assert not files.ignores_case(path)
    path.with_name("DATASET_DESCRIPTION.JSON").write_text("{}")  # as such a disk shows it
    assert files.ignores_case(path)
    (tmp_path / "12").touch()
    assert not files.ignores_case(tmp_path / "12")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"f_flag": os.ST_RDONLY}, "is read-only"),
        ({"f_bavail": 0}, "is full"),
        ({"f_favail": 0}, "has no room for further files"),
        ({"f_files": 0, "f_favail": 0}, None),  # a file system that does not count them
        ({"f_blocks": 0, "f_bavail": 0}, None),
    ],
)
def test_what_a_disk_says_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], fault: str | None
) -> None:
    told = {"f_flag": 0, "f_blocks": 9, "f_bavail": 5, "f_files": 9, "f_favail": 5, **changes}
    monkeypatch.setattr(os, "statvfs", lambda _folder: SimpleNamespace(**told))
    assert files.disk_fault(tmp_path) == fault


def test_a_disk_that_is_gone_says_nothing_of_itself(tmp_path: Path) -> None:
    assert files.disk_fault(tmp_path / "gone") is None

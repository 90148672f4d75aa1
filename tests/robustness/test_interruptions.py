"""Nothing lost, nothing half-done: kills, signals, full disks, mounts that go."""

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from fast_app import write_dataset
from toy_runs import N_SUBJECTS, Place, assert_whole, contents, leftovers, wait_for, wait_until

from bids_hsf.bids.gzip_stream import gzipped
from bids_hsf.runs.endings import MAX_UNWRITTEN


def kill_and_resume(place: Place, out: Path, n_kills: int, *words: object) -> None:
    chance = random.Random(7)
    for _ in range(n_kills):
        process = place.start(out, *words, seconds=0.1)
        wait_for(process, "scan(s) at once" if chance.random() < 0.9 else "selected")
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        process.communicate()
        assert_whole(out)
        # Where all is done, later kills would hit nothing.
        if len(list(out.glob("sub-*/anat/*_dseg.json"))) == N_SUBJECTS or chance.random() < 0.2:
            shutil.rmtree(next(iter(sorted(out.glob("sub-*/anat"))), out), ignore_errors=True)
    for path in leftovers(out):
        os.utime(path, (0, 0))  # of root files and logs/ a later day's run removes them: another may be at work now
    done = place.run(out)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(place.reference)
    assert leftovers(out) == []


@pytest.mark.slow  # kills by the clock: on a busy machine the run may be over, or not yet begun
def test_killed_runs_are_resumed_and_end_in_the_same_bytes(place: Place, tmp_path: Path) -> None:
    kill_and_resume(place, tmp_path / "out", 2)


@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [1, 2])
def test_twenty_killed_runs(place: Place, tmp_path: Path, n_processes: int) -> None:
    kill_and_resume(place, tmp_path / "out", 20, "--nprocs", n_processes)


@pytest.mark.slow  # signals by the clock, likewise
@pytest.mark.parametrize(
    ("number", "code", "n_processes"),
    [
        (signal.SIGTERM, 143, 2),
        (signal.SIGINT, 130, 1),
        pytest.param(signal.SIGTERM, 143, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, 2, marks=pytest.mark.slow),
    ],
)
def test_signals_end_a_run_soon_and_cleanly(
    place: Place, tmp_path: Path, number: signal.Signals, code: int, n_processes: int
) -> None:
    out = tmp_path / "out"
    # Slow scans: the run must still be at work when the signal comes, on a busy machine too.
    process = place.start(out, "--nprocs", n_processes, "--omp-nthreads", 1, seconds=4, start_new_session=True)
    wait_for(process, "sub-01_T1w: done" if n_processes == 1 else "done in")
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    # Ends when the last process that holds the pipe does, workers included.
    _, said = process.communicate(timeout=120)
    assert process.returncode == code
    assert "the same command goes on with the rest" in said
    assert "Traceback" not in said
    assert_whole(out)
    assert leftovers(out) == []
    # What a pool did before is as good as what is done now, in one process.
    assert place.run(out).returncode == 0
    assert contents(out) == contents(place.reference)


def test_full_disk_leaves_nothing_that_looks_finished_and_the_next_run_goes_on(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def fill_up(pieces: Iterable[bytes]) -> Iterator[bytes]:
        yield from islice(gzipped(pieces), 5)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("bids_hsf.bids.maps.gzipped", fill_up)
        done = place.run(out, "participant")
    assert done.returncode == 74, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in out.glob("sub-*/**/*") if path.is_file()] == []
    assert leftovers(out) == []
    done = place.run(out)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(place.reference)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_where_no_scan_can_be_written_none_is_begun_any_more(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    bids_dir, out = write_dataset(tmp_path / "bids", MAX_UNWRITTEN + 3), tmp_path / "out"
    many, tried = Place(bids_dir, place.card, tmp_path), []

    def refuse(path: Path, *_: object, **__: object) -> None:
        tried.append(path)
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("bids_hsf.results.write_image", refuse)
        done = many.run(out, "participant")
    assert done.returncode == 74, done.stderr
    assert len(tried) == MAX_UNWRITTEN
    assert os.strerror(number) in done.stderr
    assert f"has not taken {MAX_UNWRITTEN} scans in a row" in done.stderr
    assert f"0 of {MAX_UNWRITTEN + 3} scan(s) done, 3 not begun" in done.stderr
    assert leftovers(out) == []


def test_a_disk_that_becomes_read_only_is_told_as_that(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", Path.unlink

    def refuse(path: Path, *_: object, **__: object) -> None:
        monkeypatch.setattr(Path, "unlink", keep)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "the map")

    def keep(path: Path, missing_ok: bool = False) -> None:
        if out in path.parents and path.exists():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        whole(path, missing_ok=missing_ok)

    monkeypatch.setattr("bids_hsf.results.write_image", refuse)
    done = place.run(out, "participant", "--participant-label", "01")
    monkeypatch.undo()
    assert done.returncode == 74, done.stderr
    # Not that a lock file could not be removed.
    assert "ERROR sub-01_T1w: sub-01_T1w: Read-only file system (the map)" in done.stderr
    assert place.run(out).returncode == 0
    assert contents(out) == contents(place.reference)


def test_removed_mount_leaves_nothing_in_its_place(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = place.start(out, "participant", seconds=0.5)
    wait_for(process, "sub-01_T1w: done")
    out.rename(tmp_path / "elsewhere")
    out.mkdir()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 74, said
    assert "is gone" in said
    assert "Traceback" not in said
    assert [path for path in out.rglob("*") if path.is_file()] == []


def mount(*words: object) -> None:
    command = ["mount", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[Path]:
    """Empty folder; what is mounted there in the end goes."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    # pathlib's is_mount() takes a folder bound from the same disk for none.
    while subprocess.run(["umount", "-l", path], capture_output=True, check=False).returncode == 0:
        pass


@pytest.mark.slow  # needs the right to mount
@pytest.mark.parametrize("kilobytes", [12, 28, 44, 60, 100, 140, 200, 228])
def test_really_full_disk(place: Place, mount_point: Path, kilobytes: int) -> None:
    mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", mount_point)
    out = mount_point / "out"
    done = place.run(out)
    assert done.returncode == 74, done.stderr
    assert "No space left on device" in done.stderr
    assert "Check free space" in done.stderr
    assert "Traceback" not in done.stderr
    assert_whole(out)
    assert leftovers(out) == []
    mount("-o", "remount,size=10m", mount_point)
    done = place.run(out)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(place.reference)


@pytest.mark.slow  # needs the right to mount
@pytest.mark.parametrize("n_processes", [1, 2])
def test_mount_that_goes_during_the_run(place: Place, mount_point: Path, tmp_path: Path, n_processes: int) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("--bind", disk, mount_point)
    out = mount_point / "out"
    process = place.start(out, "--nprocs", n_processes, seconds=1)
    wait_for(process, "done in")

    def next_scans_are_looked_at() -> bool:
        return len(list(out.glob("logs/*/*_started.json"))) == n_processes and not any(out.glob("logs/*/.*.bids-hsf-*"))

    wait_until(next_scans_are_looked_at)  # what is half-written when a mount goes stays behind it
    subprocess.run(["umount", "-l", mount_point], check=True)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 74, said
    assert f"The output folder {out} is gone" in said
    assert "Check the mount; the same command goes on" in said
    assert "Traceback" not in said
    assert list(mount_point.iterdir()) == []  # nothing is hidden by the next mount
    assert_whole(disk / "out")
    mount("--bind", disk, mount_point)
    done = place.run(out)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(place.reference)
    assert leftovers(out) == []

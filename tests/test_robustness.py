"""Nothing lost, nothing half-done: kills, signals, full disks, bad scans, several runs on one folder."""

import errno
import gzip
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bids_trees import Example, read_examples, write_scan, write_tree
from fast_app import AFFINE, SHAPE, stand_in, write_card, write_dataset, write_head
from odd_images import BAD, sound_images

from bids_hsf import workflow
from bids_hsf.bids.validation import run_validator
from bids_hsf.cli.app import main
from bids_hsf.images import LoadedScan, load_scan

APP = Path(__file__).parent / "support" / "fast_app.py"
N_SUBJECTS = 4
# What must not depend on when, where and in which order the scans were done.
LASTING = ("sub-*/**/*.nii.gz", "sub-*/**/*_dseg.tsv", "sub-*/**/*.json", "group_*.tsv", "dataset_description.json")


@dataclass(frozen=True)
class Result:
    """How a run ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Place:
    """A dataset, a model and what an undisturbed run makes of them."""

    bids_dir: Path
    card: Path
    reference: Path

    def words(self, out: Path, *words: object) -> list[str]:
        model = ["--model", f"{self.card}:toy_fast", "--device", "cpu", "--skip-bids-validation"]
        # Float sums depend on the threads of a scan: bytes are compared at one.
        model += [] if "--omp-nthreads" in words else ["--omp-nthreads", "1"]
        model += [] if "--nprocs" in words else ["--nprocs", "1"]
        words = words if any(str(word).startswith("parti") for word in words) else ("participant", "group", *words)
        return [str(self.bids_dir), str(out), *map(str, words), *model]

    def run(self, out: Path, *words: object) -> Result:
        """Run in this process: the imports take longer than the work."""
        return run_here(*self.words(out, *words))

    def start(self, out: Path, *words: object, seconds: float = 0.0, **options: Any) -> subprocess.Popen[str]:
        """Start a process of its own, `seconds` slower a scan."""
        environment = {**os.environ, "FAST_APP_SECONDS": str(seconds)}
        command = [sys.executable, str(APP), *self.words(out, *words)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def run_here(*words: str) -> Result:
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        stand_in(patch.setattr)
        code = main(list(words))
    return Result(code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("robust")
    made = Place(write_dataset(folder / "bids", N_SUBJECTS), write_card(folder / "hub"), folder / "reference")
    done = made.run(made.reference)
    assert done.returncode == 0, done.stderr
    return made


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    paths = {path for pattern in patterns or LASTING for path in folder.glob(pattern)}
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def unpack(content: dict[str, bytes]) -> dict[str, bytes]:
    """A difference in bytes is easier to read unpacked."""
    return {name: gzip.decompress(data) if name.endswith(".gz") else data for name, data in content.items()}


def assert_whole(folder: Path) -> None:
    """Every file that is there under its own name can be read, and a scan with a sidecar has all its files."""
    for path in folder.rglob("*.nii.gz"):
        if not path.name.startswith("."):
            assert np.isfinite(nib.load(path).get_fdata()).all()
    for path in folder.rglob("*_dseg.json"):
        if path.name.startswith("."):
            continue
        json.loads(path.read_text())
        stem = path.name.removesuffix("_dseg.json")
        names = [f"{stem}_dseg.nii.gz", f"{stem}_dseg.tsv", f"{stem}_desc-entropy_probseg.nii.gz"]
        assert all((path.parent / name).is_file() for name in names)
        assert (folder / "logs" / f"{stem}_provenance.json").is_file()


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name not in (".bidsignore", ".work")]


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} was not said: {''.join(seen)}")


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
    write = gzip.GzipFile.write

    def fill_up(stream: gzip.GzipFile, content: memoryview) -> int:
        write(stream, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(gzip.GzipFile, "write", fill_up)
        done = place.run(out, "participant")
    assert done.returncode == 74, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in out.glob("sub-*/**/*") if path.is_file()] == []
    assert leftovers(out) == []
    done = place.run(out)
    assert done.returncode == 0, done.stderr
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


def test_only_what_is_missing_is_done_again(place: Place, tmp_path: Path) -> None:
    out = shutil.copytree(place.reference, tmp_path / "out")
    (out / "sub-02/anat/sub-02_space-T1w_seg-toy_desc-entropy_probseg.json").unlink()
    done = place.run(out)
    assert done.returncode == 0
    assert "3 done before, 1 to do" in done.stderr
    assert "sub-02_T1w: done" in done.stderr
    assert "sub-01_T1w: done" not in done.stderr
    assert contents(out) == contents(place.reference)


def test_replaced_image_is_noticed_and_done_again(place: Place, tmp_path: Path) -> None:
    bids_dir = shutil.copytree(place.bids_dir, tmp_path / "bids")
    out = shutil.copytree(place.reference, tmp_path / "out")
    other = Place(bids_dir, place.card, out)
    image = bids_dir / "sub-02/anat/sub-02_T1w.nii.gz"
    image.touch()  # a time alone says nothing
    assert f"{N_SUBJECTS} done before" in other.run(out, "participant", "--dry-run").stdout
    write_head(image, seed=99)
    (line,) = [s for s in other.run(out, "participant", "--dry-run").stdout.splitlines() if s.startswith("sub-02")]
    assert "to do again" in line
    assert "made of another image" in line
    shown = run_here(str(bids_dir), str(out), "status").stdout
    assert "sub-02/anat/sub-02_T1w.nii.gz is not the image of last time" in shown
    assert "--participant-label 02" in shown
    done = other.run(out, "participant")
    assert done.returncode == 0, done.stderr
    assert "3 done before, 1 to do" in done.stderr
    assert done.stderr.count("is not the image of last time") == 1
    changed = {
        name
        for name, data in contents(out, "**/*_dseg.nii.gz").items()
        if data != (place.reference / name).read_bytes()
    }
    assert changed == {"sub-02/anat/sub-02_space-T1w_seg-toy_dseg.nii.gz"}
    assert "0 to do" in other.run(out, "participant").stderr


def test_image_that_changes_while_it_is_read_fails(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = write_dataset(tmp_path / "bids", 1), tmp_path / "out"
    other = Place(root, place.card, tmp_path)

    def load_and_replace(path: Path) -> LoadedScan:
        scan = load_scan(path)
        write_head(path, seed=99)
        return scan

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "load_scan", load_and_replace)
        done = other.run(out, "participant")
    assert done.returncode == 65, done.stderr
    assert "sub-01/anat/sub-01_T1w.nii.gz changed while it was read" in done.stderr
    assert not list(out.glob("sub-*/anat/*"))
    assert other.run(out, "participant").returncode == 0
    assert "1 done before" in other.run(out, "participant", "--dry-run").stdout


def test_t2w_is_done_without_a_t1w_that_cannot_be_read(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "bids", 0)
    write_head(root / "sub-01/anat/sub-01_T2w.nii.gz")
    (root / "sub-01/anat/sub-01_T1w.nii.gz").symlink_to("../../.git/annex/objects/gone")
    other = Place(root, write_card(tmp_path / "hub", "T1w, T2w"), tmp_path)
    done = other.run(tmp_path / "out", "participant", "-m", "T2w")
    assert done.returncode == 0, done.stderr


def test_other_settings_are_refused_and_forced(place: Place, tmp_path: Path) -> None:
    out = shutil.copytree(place.reference, tmp_path / "out")
    refused = place.run(out, "--keep-islands")
    assert refused.returncode == 73
    assert "KeepIslands was False, now True" in refused.stderr
    assert contents(out) == contents(place.reference)
    assert place.run(out, "--write-probseg", "--uncertainty", "full").returncode == 0
    assert len(list(out.glob("sub-*/anat/*_seg-toy_probseg.nii.gz"))) == N_SUBJECTS
    # What another request left beside the new results would pass for theirs.
    assert place.run(out, "--keep-islands", "--force").returncode == 0
    assert not list(out.glob("sub-*/anat/*_seg-toy_probseg.nii.gz"))
    assert not list(out.glob("sub-*/anat/*mutualinformation*"))


def test_several_runs_at_once_on_the_same_scans(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs = [place.start(out, seconds=0.3) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in runs]
    assert [process.returncode for process in runs] == [0, 0], "\n".join(said)
    assert contents(out) == contents(place.reference)
    assert leftovers(out) == []
    assert len(list(out.glob("logs/run_*.log"))) == 2
    assert any("Waiting for another run" in text for text in said)


@pytest.mark.slow
def test_several_runs_at_once_on_other_scans(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    labels = [("01", "02"), ("03", "04")]
    runs = [place.start(out, "participant", "--participant-label", *some, seconds=0.2) for some in labels]
    assert [process.wait(timeout=120) for process in runs] == [0, 0]
    for process in runs:
        process.communicate()
    assert place.run(out).returncode == 0
    assert contents(out) == contents(place.reference)


@pytest.mark.slow
def test_a_pool_gives_the_same_bytes(place: Place, tmp_path: Path) -> None:
    process = place.start(tmp_path / "out", "--nprocs", 2)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert contents(tmp_path / "out") == contents(place.reference)


def test_saved_settings_are_replayed_to_the_same_bytes(place: Place, tmp_path: Path) -> None:
    filters = tmp_path / "filter.json"
    filters.write_text('{"t1w": {"session": null}}')
    first, second = tmp_path / "first", tmp_path / "second"
    words = ("--keep-islands", "--box-margin-mm", 3, "--random-seed", 5, "--tta", 1, "--bids-filter-file", filters)
    assert place.run(first, *words).returncode == 0
    (saved,) = first.glob("logs/config_*.toml")
    filters.unlink()
    replay = [str(place.bids_dir), str(second), "participant", "group", "--config-file", str(saved)]
    done = run_here(*replay)
    assert done.returncode == 0, done.stderr
    assert contents(first) == contents(second)
    (replayed,) = second.glob("logs/config_*.toml")
    tables = [tomllib.loads(path.read_text()) for path in (saved, replayed)]
    assert all(tables[0][name] == tables[1][name] for name in ("selection", "method", "resources", "behaviour"))
    # Another network under the same name is not what was saved.
    saved.write_text(saved.read_text().replace('toy.onnx" = "', 'toy.onnx" = "00'))
    done = run_here(*replay)
    assert done.returncode == 69
    assert "not those of the saved run" in done.stderr


def test_dry_run_writes_nothing_and_tells_all(place: Place, tmp_path: Path) -> None:
    bids_dir = shutil.copytree(place.bids_dir, tmp_path / "bids")
    (bids_dir / "sub-02/anat/sub-02_T1w.nii.gz").write_bytes(b"")
    write_scan(bids_dir / "sub-03/anat/sub-03_T1w.nii.gz", affine=np.diag([1, 1, 4, 1.0]))
    write_head(bids_dir / "sub-03/anat/sub-03_T2w.nii.gz")
    other = Place(bids_dir, place.card, tmp_path)
    done = other.run(tmp_path / "out", "participant", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("sub-")}
    assert "to do" in lines["sub-01_T1w"]
    assert "46x55x46 of 4x4x4 mm" in lines["sub-01_T1w"]
    assert "cannot be processed" in lines["sub-02_T1w"]
    assert "is empty" in lines["sub-02_T1w"]
    assert "thick slices (4 mm); small field of view (12 mm)" in lines["sub-03_T1w"]
    assert "left out" in lines["sub-03_T2w"]
    assert "Time: about" in done.stdout
    assert "Memory: about" in done.stdout
    assert not (tmp_path / "out").exists()
    done = place.run(place.reference, "participant", "--dry-run", "--keep-islands")
    assert "refused without --force" in done.stdout
    assert "KeepIslands was False, now True" in done.stdout


@pytest.fixture
def mixed(place: Place, tmp_path: Path) -> Place:
    """One good scan among many bad ones."""
    root = write_dataset(tmp_path / "bids", 1)

    def scan(label: str) -> Path:
        path = root / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        return path

    scan("empty").touch()
    truncated = write_head(scan("truncated"))
    truncated.write_bytes(truncated.read_bytes()[:-5000])
    scan("text").write_text("not an image")
    scan("annexed").symlink_to("../../.git/annex/objects/gone")
    write_scan(scan("constant"), np.ones(SHAPE, dtype=np.uint8), AFFINE)
    write_scan(scan("series"), np.random.default_rng(0).random((*SHAPE, 3), dtype=np.float32), AFFINE)
    huge = bytearray(gzip.decompress(write_head(scan("huge")).read_bytes()))
    huge[42:48] = np.array([1200, 1200, 1200], dtype="<i2").tobytes()
    # As many zeros as a bomb needs to be believed by its length.
    (root / "sub-huge/anat/sub-huge_T1w.nii.gz").write_bytes(gzip.compress(bytes(huge) + bytes(3_000_000), 9))
    return Place(root, place.card, tmp_path / "none")


def test_bad_scans_fail_one_by_one_and_the_others_finish(mixed: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = mixed.run(out)
    assert done.returncode == 1, done.stderr
    assert "1 of 8 scan(s) done" in done.stderr
    assert "Traceback" not in done.stderr
    reasons = {
        "empty": "is empty",
        "truncated": "damaged or truncated",
        "text": "not a readable NIfTI",
        "annexed": "broken link",
        "constant": "is constant",
        "series": "expected three axes and one volume",
        "huge": "truncated",
    }
    shown = run_here(str(mixed.bids_dir), str(out), "status")
    assert shown.returncode == 0, shown.stderr
    for label, reason in reasons.items():
        said = [text for text in done.stderr.splitlines() if f"ERROR sub-{label}_T1w: " in text and "hint" not in text]
        assert len(said) == 1
        assert reason in said[0]
        failure = json.loads((out / "logs" / f"sub-{label}_space-T1w_seg-toy_failure.json").read_text())
        assert reason in failure["Error"]
        (line,) = [line for line in shown.stdout.splitlines() if line.startswith(f"sub-{label}_T1w")]
        assert "failed" in line
        assert reason in line
    assert "8 scan(s): 1 done, 7 failed" in shown.stdout
    assert (out / "group_volumes.tsv").read_text().count("\n") == 2
    # The line that is ready to be pasted does the rest, once the scans are repaired.
    for label in reasons:
        path = mixed.bids_dir / f"sub-{label}/anat/sub-{label}_T1w.nii.gz"
        path.unlink()
        write_head(path, seed=len(label))
    program, *words = shlex.split(shown.stdout.splitlines()[-1])
    assert program == "bids-hsf"
    again = run_here(*words)
    assert again.returncode == 0, again.stderr
    assert "7 to do" in again.stderr
    assert not list(out.glob("logs/*_failure.json"))


def test_scan_without_a_voxel_of_one_hippocampus_is_told(place: Place, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "bids", 1)
    half = np.random.default_rng(0).integers(0, 1000, SHAPE, dtype=np.int16)[: SHAPE[0] // 3]
    write_scan(root / "sub-left/anat/sub-left_T1w.nii.gz", half, AFFINE)
    done = Place(root, place.card, tmp_path).run(tmp_path / "out", "participant")
    assert done.returncode == 1, done.stderr
    assert "sub-left_T1w: the right hippocampus lies outside the field of view" in done.stderr
    assert "sub-01_T1w: done" in done.stderr
    assert not list((tmp_path / "out").glob("sub-left/**/*.nii.gz"))


def test_every_bad_image_is_told_and_every_odd_one_is_done(place: Place, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "bids", 0)
    reasons = {}
    for number, (make, message) in enumerate(BAD):
        label = f"bad{number:02d}"
        folder = tmp_path / label
        folder.mkdir()
        image = make(folder)
        if not (image.exists() or image.is_symlink()):
            continue
        target = root / f"sub-{label}" / "anat" / image.name.replace("scan", f"sub-{label}_T1w")
        target.parent.mkdir(parents=True)
        image.rename(target)
        reasons[label] = message
    noise = np.random.default_rng(0).integers(0, 100, SHAPE)
    sound = sound_images(noise, AFFINE)
    for name, image in sound.items():
        folder = root / f"sub-{name}" / "anat"
        folder.mkdir(parents=True)
        nib.save(image, folder / f"sub-{name}_T1w.nii.gz")
    out = tmp_path / "out"
    done = Place(root, place.card, tmp_path).run(out, "participant")
    assert done.returncode == 1, done.stderr
    assert f"{len(sound)} of {len(sound) + len(reasons)} scan(s) done" in done.stderr
    assert "Traceback" not in done.stderr
    for label, reason in reasons.items():
        (said, *_) = [text for text in done.stderr.splitlines() if f"ERROR sub-{label}_T1w: " in text]
        assert re.search(reason, said), said
        assert not list(out.glob(f"sub-{label}/anat/*"))
    for name in sound:
        image = nib.load(root / f"sub-{name}/anat/sub-{name}_T1w.nii.gz")
        labels = nib.load(out / f"sub-{name}/anat/sub-{name}_space-T1w_seg-toy_dseg.nii.gz")
        assert labels.shape == image.shape[:3]
        np.testing.assert_allclose(labels.affine, image.affine, atol=1e-4)
    assert "sub-contradicting_T1w.nii.gz: sform and qform disagree" in done.stderr
    assert "sub-noform_T1w.nii.gz has neither sform nor qform" in done.stderr


def test_stop_on_first_crash(mixed: Place, tmp_path: Path) -> None:
    done = mixed.run(tmp_path / "out", "participant", "--stop-on-first-crash")
    assert done.returncode == 1, done.stderr
    assert "1 of 8 scan(s) done, 6 not begun" in done.stderr


def test_status_and_group_without_the_raw_data(place: Place, tmp_path: Path) -> None:
    gone = Place(tmp_path / "gone", place.card, tmp_path)
    out = shutil.copytree(place.reference, tmp_path / "out")
    (out / "group_volumes.tsv").unlink()
    paths = (str(gone.bids_dir), str(out))
    assert run_here(*paths, "group").returncode == 0
    assert contents(out) == contents(place.reference)
    assert len(list(out.glob("logs/run_*.log"))) == 2
    shown = run_here(*paths, "status")
    assert (shown.returncode, shown.stdout.split(";")[0]) == (0, f"{N_SUBJECTS} done, 0 failed")
    (out / "sub-01.html").unlink()
    assert run_here(*paths, "participant", "--reports-only").returncode == 0
    assert "sub-01_T1w" in (out / "sub-01.html").read_text()
    assert run_here(*paths, "participant").returncode == 66


def test_status_of_everything_done(place: Place) -> None:
    shown = run_here(str(place.bids_dir), str(place.reference), "status")
    assert (shown.returncode, shown.stdout) == (0, f"toy_fast (seg-toy): {N_SUBJECTS} scan(s): {N_SUBJECTS} done\n")


def test_status_expects_the_outputs_that_the_last_run_was_asked_for(place: Place, tmp_path: Path) -> None:
    out = shutil.copytree(place.reference, tmp_path / "out")
    assert place.run(out, "participant", "--participant-label", "02", "--write-probseg").returncode == 0
    shown = run_here(str(place.bids_dir), str(out), "status")
    assert f"{N_SUBJECTS} scan(s): 1 done, {N_SUBJECTS - 1} missing" in shown.stdout
    _, *words = shlex.split(shown.stdout.splitlines()[-1])
    assert run_here(*words).returncode == 0
    assert len(list(out.glob("sub-*/anat/*_seg-toy_probseg.nii.gz"))) == N_SUBJECTS


def test_participants_whose_labels_no_output_may_hold(place: Place, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "my study", 1)
    write_head(root / "sub-a.b_c/anat/sub-a.b_c_T1w.nii.gz").touch()
    bad = root / "sub-0.2/anat/sub-0.2_T1w.nii.gz"
    write_head(bad).write_bytes(b"")
    other, out = Place(root, place.card, tmp_path), tmp_path / "out"
    done = other.run(out, "participant")
    assert done.returncode == 1, done.stderr
    # The line is of use: it names the folder, not what became of it in the outputs.
    shown = run_here(str(root), str(out), "status")
    assert "--participant-label 0.2" in shown.stdout
    write_head(bad)
    _, *words = shlex.split(shown.stdout.splitlines()[-1])
    assert run_here(*words).returncode == 0
    assert (out / "sub-0p2.html").is_file()
    report = run_validator(out, tmp_path)
    assert report is not None
    assert report["issues"]["issues"] == []


def test_boilerplate_alone(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = place.run(out, "participant", "--boilerplate-only", "--export-lut", "itksnap", "freesurfer", "fsleyes")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (out / "logs").iterdir() if not path.name.startswith("run_"))
    assert names == [
        "CITATION.bib",
        "CITATION.html",
        "CITATION.md",
        "seg-toy_freesurfer.txt",
        "seg-toy_fsleyes.lut",
        "seg-toy_itksnap.txt",
    ]
    assert "toy" in (out / "logs/CITATION.md").read_text()
    assert str(out / "logs/CITATION.md") in done.stderr
    assert '101 255 0 0 1 1 1 "Right Front"' in (out / "logs/seg-toy_itksnap.txt").read_text()
    assert "2 Left-Back 0 255 0 0" in (out / "logs/seg-toy_freesurfer.txt").read_text()
    assert "102 0.00000 1.00000 0.00000 Right Back" in (out / "logs/seg-toy_fsleyes.lut").read_text()
    assert not list(out.glob("sub-*"))


def test_run_leaves_its_log_and_one_line_a_scan(place: Place) -> None:
    (log,) = place.reference.glob("logs/run_*.log")
    lines = [line for line in log.read_text().splitlines() if " INFO " in line]
    for i in range(1, N_SUBJECTS + 1):
        assert sum(f"sub-{i:02d}_T1w" in line for line in lines) == 1
    assert "\r" not in log.read_text()
    assert (place.reference / "logs/CITATION.html").is_file()


UNPRIVILEGED = """
import os, runpy, sys
sys.path.insert(0, {tests!r})

def run(argv):
    sys.argv = argv
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as left:
        print("left with", left.code)

# Python's own folder may be closed to others: the first run imports all that the later ones need.
run({runs!r}[0])
os.environ.pop("HOME", None)
os.umask(0o077)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(54321)
    os.setuid(54321)
for argv in {runs!r}[1:]:
    run(argv)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Folder that other users can reach; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def test_user_without_name_home_and_permissions(open_folder: Path) -> None:
    bids_dir, card = write_dataset(open_folder / "bids", 1), write_card(open_folder / "hub")
    for path in [*bids_dir.rglob("*"), bids_dir, *card.parent.iterdir(), card.parent]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for name, mode in (("cwd", 0o555), ("locked", 0o555), ("out", 0o777), ("rest", 0o777)):
        (open_folder / name).mkdir()
        (open_folder / name).chmod(mode)
    place = Place(bids_dir, card, open_folder)
    before = {path: path.stat().st_mtime_ns for path in bids_dir.rglob("*")}
    runs = [[str(APP), *place.words(open_folder / name)] for name in ("warm", "locked/out", "out")]
    closed_dir = write_dataset(open_folder / "closed", 4)
    for path in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat", "sub-03"):
        (closed_dir / path).chmod(0)
    words = Place(closed_dir, card, open_folder).words(open_folder / "rest", "participant", "-m", "T1w")
    runs.append([str(APP), *(word for word in words if word != "--skip-bids-validation")])
    kept = {name: value for name, value in os.environ.items() if name not in ("TMPDIR", "XDG_CACHE_HOME")}
    code = UNPRIVILEGED.format(tests=str(APP.parent), runs=runs)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=open_folder / "cwd", env=kept)
    codes = [line for line in done.stdout.splitlines() if line.startswith("left with")]
    assert codes == ["left with 0", "left with 73", "left with 0", "left with 1"], done.stderr
    assert "cannot be written" in done.stderr
    # What is closed to us fails by name, and the rest is done.
    for subject, path in (("01", "anat/sub-01_T1w.nii.gz"), ("02", "anat"), ("03", "")):
        closed_path = closed_dir / f"sub-{subject}" / path
        assert f"ERROR sub-{subject}_T1w: {closed_path} may not be read" in done.stderr
    assert "1 of 4 scan(s) done" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in bids_dir.rglob("*")} == before
    names = ["bids", "closed", "cwd", "hub", "locked", "out", "rest", "warm"]
    assert sorted(path.name for path in open_folder.iterdir()) == names
    assert list((open_folder / "cwd").iterdir()) == []
    assert len(list((open_folder / "out").glob("sub-01/anat/*_dseg.json"))) == 1


EXAMPLES = read_examples()
# One of each kind; the others tell the same of other studies.
TYPICAL = {"7t_trt", "asl004", "ds001", "ds000117", "ds113b", "eeg_matchingpennies", "ieeg_visual", "micr_SEM"}
TYPICAL |= {"pheno004", "qmri_mp2rage", "qmri_mpm", "swi"}
REAL = [example for example in EXAMPLES if example.real()]


def end_on(place: Place, tmp_path: Path, paths: list[str]) -> Result:
    return Place(write_tree(tmp_path / "bids", paths), place.card, tmp_path).run(tmp_path / "out", "participant")


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=example.name, marks=[] if example.name in TYPICAL else pytest.mark.slow)
        for example in EXAMPLES
    ],
)
def test_datasets_with_the_content_of_public_ones(example: Example, place: Place, tmp_path: Path) -> None:
    """One subject with the data types and suffixes that the listing of bids-examples gives; names are made up."""
    done = end_on(place, tmp_path, example.rebuilt())
    assert done.returncode == example.code, done.stderr
    assert example.message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("example", REAL, ids=lambda example: example.name)
def test_file_names_of_public_datasets(example: Example, place: Place, tmp_path: Path) -> None:
    """The names are true, of all files that we know; all images are empty (theirs may hold a header)."""
    done = end_on(place, tmp_path, example.real())
    assert done.returncode == example.code, done.stderr
    assert example.message in done.stderr
    assert "Traceback" not in done.stderr
    # No scan is passed over: each has its line.
    t1w = [path for path in example.real() if path.startswith("sub-") and re.search(r"_T1w\.nii(\.gz)?$", path)]
    failed = [line for line in done.stderr.splitlines() if "_T1w: " in line and "is empty" in line]
    doubled = [line for line in done.stderr.splitlines() if "_T1w.nii is left out: its results would have" in line]
    assert len(failed) + len(doubled) == len(t1w)


# All that were released, what was published before, and what is to come; and a description that does not say.
BIDS_VERSIONS = ["1.0.0", "1.0.1", "1.0.2", "1.1.0", "1.1.1", "1.2.0", "1.2.1", "1.2.2", "1.3.0", "1.4.0", "1.4.1"]
BIDS_VERSIONS += ["1.5.0", "1.6.0", "1.7.0", "1.8.0", "1.9.0", "1.10.0", "1.10.1", "1.11.0", "1.11.1"]
BIDS_VERSIONS += ["1.0.0rc2", "2.0.0", "n/a", None]


def write_version(root: Path, version: str | None) -> Path:
    description = {"Name": "Phantoms", "License": "CC0", **({} if version is None else {"BIDSVersion": version})}
    (write_dataset(root, 1) / "dataset_description.json").write_text(json.dumps(description))
    return root


@pytest.mark.parametrize("version", BIDS_VERSIONS)
def test_every_version_of_bids_is_accepted(version: str | None, place: Place, tmp_path: Path) -> None:
    root = write_version(tmp_path / "bids", version)
    done = Place(root, place.card, tmp_path).run(tmp_path / "out", "participant", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 to do" in done.stdout


@pytest.mark.slow  # the validator takes its time
@pytest.mark.parametrize("version", BIDS_VERSIONS)
def test_every_version_of_bids_is_validated_and_done(version: str | None, place: Place, tmp_path: Path) -> None:
    root = write_version(tmp_path / "bids", version)
    words = Place(root, place.card, tmp_path).words(tmp_path / "out", "participant")
    done = run_here(*(word for word in words if word != "--skip-bids-validation"))
    assert done.returncode == 0, done.stderr
    findings = [line for line in done.stderr.splitlines() if "BIDS validator" in line]
    assert len(findings) == 1
    assert "dataset_description.json" in findings[0] if version is None else "no errors" in findings[0]


def test_only_t2w_for_a_model_of_t1w(place: Place, tmp_path: Path) -> None:
    done = end_on(place, tmp_path, ["sub-01/anat/sub-01_T2w.nii.gz"])
    assert done.returncode == 18, done.stderr
    assert "toy_fast is for T1w" in done.stderr


def test_header_alone_is_no_scan(place: Place, tmp_path: Path) -> None:
    """As in the "synthetic" dataset of bids-examples."""
    root = write_dataset(tmp_path / "bids", 1)
    packed = root / "sub-01/anat/sub-01_T1w.nii.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes())[:352])
    packed.unlink()
    done = Place(root, place.card, tmp_path).run(tmp_path / "out", "participant")
    assert done.returncode == 65
    assert "is truncated: 352 bytes cannot hold" in done.stderr


def test_output_of_every_legal_name_is_valid(place: Place, tmp_path: Path) -> None:
    # Addresses in the sidecars have to bear any path.
    card = write_card(tmp_path / "my hub", "T1w, T2w")
    root = write_tree(tmp_path / "données %20 (été) '1'", [])
    names = [
        "sub-01/anat/sub-01_UNIT1.nii.gz",
        "sub-01/anat/sub-01_acq-0.8mm_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-x_ce-gd_rec-norm_run-01_T1w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_T2w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_task-rest_run-1_echo-1_part-mag_chunk-1_T1w.nii.gz",
        "sub-02/ses-2/anat/sub-02_ses-2_run-2_T2w.nii.gz",
    ]
    for seed, name in enumerate(names):
        write_head(root / name, seed)
    out = tmp_path / "résultats 2"
    other = Place(root, card, tmp_path)
    done = other.run(
        out, "-m", "T1w", "T2w", "UNIT1", "participant", "group", "--write-probseg", "--uncertainty", "full"
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(names)} of {len(names)} scan(s) done" in done.stderr
    report = run_validator(out, tmp_path)
    assert report is not None
    assert report["issues"]["issues"] == []


def test_output_of_all_options_two_models_and_failures_is_valid(tmp_path: Path) -> None:
    card = write_card(tmp_path / "hub", "T1w, T2w")
    other = card.with_name("other.yaml")
    other.write_text(card.read_text().replace("toy_", "other_").replace("family: toy", "family: other"))
    root = write_dataset(tmp_path / "bids", 2)
    write_head(root / "sub-01/anat/sub-01_T2w.nii.gz", seed=1)  # that of the T1w: they find together
    write_head(root / "sub-bad/anat/sub-bad_T1w.nii.gz").write_bytes(b"")
    out = tmp_path / "out"
    luts = ("--export-lut", "itksnap", "freesurfer", "fsleyes")
    options = ("--write-probseg", "--uncertainty", "full", "--split-long-axis", "--tta", "1", *luts)
    common = (str(root), str(out), "participant", "group", "--device", "cpu", "--nprocs", "1", "-m", "T1w", "T2w")
    for model, words in ((f"{card}:toy_fast", ("--multispectral",)), (f"{other}:other_voting", ())):
        done = run_here(*common, "--model", model, *options, *words)
        assert done.returncode == 1, done.stderr  # sub-bad is empty
    assert len(list(out.glob("logs/*_failure.json"))) == 2
    assert len(list(out.glob("sub-01/anat/*desc-multispectral_dseg.nii.gz"))) == 2  # the map and its long axis
    report = run_validator(out, tmp_path)
    assert report is not None
    assert report["issues"]["issues"] == []


WHOLE = """merges:
  whole:
    suffix: Whole
    join: [{labels: [front, back], name: All, abbreviation: all, color: "#0000ff"}]
"""
LUTS = ("--export-lut", "itksnap", "freesurfer", "fsleyes")


@pytest.mark.slow  # all of them together are validated above
@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((), "dseg.nii.gz"),
        (("--write-probseg",), "seg-toy_probseg.nii.gz"),
        (("--uncertainty", "full"), "desc-voteshare_probseg.nii.gz"),
        (("--split-long-axis",), "seg-toyHBT_dseg.nii.gz"),
        (("--tta", 2), "dseg.tsv"),
        (("--multispectral",), "desc-multispectral_dseg.nii.gz"),
        (("--multispectral", "--reference", "T2w", "--split-long-axis"), "desc-multispectral_dseg.nii.gz"),
        (("--ca-mode", "whole"), "seg-toyWhole_dseg.nii.gz"),
        (("--keep-islands",), "dseg.json"),
        (("--box-margin-mm", 3), "dseg.json"),
        (("-m", "UNIT1"), "space-UNIT1_seg-toy_dseg.nii.gz"),
        (("-m", "T2w"), "space-T2w_seg-toy_dseg.nii.gz"),
        (LUTS, "seg-toy_fsleyes.lut"),
        (("--boilerplate-only",), "CITATION.md"),
        (("--derivatives", "segs={}"), "dseg.json"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_output_of_each_option_is_valid(words: tuple[object, ...], name: str, tmp_path: Path) -> None:
    card = write_card(tmp_path / "hub", "T1w, T2w")
    card.write_text(card.read_text().replace("license:", WHOLE + "license:"))
    root = write_dataset(tmp_path / "bids", 0)
    for suffix in ("T1w", "T2w", "UNIT1"):
        write_head(root / f"sub-01/anat/sub-01_{suffix}.nii.gz")
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[10:14, 20:30, 10:14], labels[30:34, 20:30, 10:14] = 17, 53
    write_scan(tmp_path / "segs/sub-01_T1w_synthseg.nii.gz", labels, AFFINE)
    given = [str(word).format(tmp_path / "segs") for word in words]
    out = tmp_path / "out"
    done = Place(root, card, tmp_path).run(out, "participant", *given)
    assert done.returncode == 0, done.stderr
    if "--boilerplate-only" not in words:
        assert run_here(str(root), str(out), "group").returncode == 0
        assert run_here(str(root), str(out), "participant", "--reports-only").returncode == 0
    assert list(out.rglob(f"*{name}"))
    report = run_validator(out, tmp_path)
    assert report is not None
    # Where no scan is done there is no subject, and the validator warns of that.
    expected = ["SUBJECT_FOLDERS"] if "--boilerplate-only" in words else []
    assert [issue["code"] for issue in report["issues"]["issues"]] == expected


@pytest.mark.slow
def test_five_thousand_subjects_are_looked_through_in_a_minute_and_a_gigabyte(place: Place, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "bids", [])
    head = write_head(tmp_path / "head.nii.gz").read_bytes()
    for i in range(5000):
        for session in ("1", "2"):
            stem = f"sub-{i:05d}_ses-{session}"
            folder = root / f"sub-{i:05d}" / f"ses-{session}"
            names = ["anat/{}_T1w.json", "anat/{}_T2w.nii.gz", "dwi/{}_dwi.nii.gz", "func/{}_task-rest_bold.nii.gz"]
            write_tree(folder, [name.format(stem) for name in names], None)
        (root / f"sub-{i:05d}/ses-1/anat/sub-{i:05d}_ses-1_T1w.nii.gz").write_bytes(head)
    done = place_run_measured(Place(root, place.card, tmp_path), tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "5000 to do" in done.stdout
    kilobytes, seconds = done.stdout.splitlines()[-1].split()
    # Of a processor: other tests run beside this one. The benchmark of many subjects takes the time of day.
    assert float(seconds) < 60
    assert int(kilobytes) < 1_000_000


def place_run_measured(place: Place, out: Path) -> subprocess.CompletedProcess[str]:
    """Dry run; the last line of its output is the peak memory in kB and the processor's seconds."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:])\n"
        "usage = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(usage.ru_maxrss, usage.ru_utime + usage.ru_stime)\n"
        "sys.exit(done.returncode)"
    )
    command = [sys.executable, str(APP), *place.words(out, "participant", "--dry-run")]
    return subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)

"""One bad thing, outside of the scans, ends no run: terminals, homes, names, what lies in the output folder."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fast_app import write_dataset
from toy_runs import (
    APP,
    HANG_SECONDS,
    N_SUBJECTS,
    Place,
    assert_whole,
    contents,
    leftovers,
    run_here,
    wait_for,
    wait_until,
)

from bids_hsf.bids.group_table import read_group_table

NO_HOME = """
import os, pwd, sys
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
    os.environ.pop(name, None)
sys.path.insert(0, {support!r})
from fast_app import run_fast
sys.exit(run_fast({words!r}))
"""
STEM = "space-T1w_seg-toyFast"


@pytest.fixture
def out(place: Place, tmp_path: Path) -> Path:
    """Copy of the output folder of an undisturbed run."""
    return Path(shutil.copytree(place.reference, tmp_path / "out"))


def run_in_shell(place: Place, out: Path, redirection: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the app in a shell; the exit code is the app's, not that of what reads from it."""
    script = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
    command = ["bash", "-c", script, "bash", sys.executable, str(APP), *place.words(out)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=HANG_SECONDS, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "<&- >&- 2>&-", "2>&1 | head -1", "2>&1 | true"])
def test_a_terminal_that_is_full_closed_or_gone_ends_nothing(place: Place, tmp_path: Path, redirection: str) -> None:
    done = run_in_shell(place, tmp_path / "out", redirection)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(place.reference)
    assert len(list((tmp_path / "out").glob("sub-*.html"))) == N_SUBJECTS


def test_a_table_that_was_asked_for_and_cannot_be_printed_is_told(place: Place) -> None:
    words = [sys.executable, str(APP), *place.words(place.reference, "participant", "--dry-run")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=HANG_SECONDS)
    assert done.returncode == 74, done.stderr
    assert "Cannot write to standard output: No space left on device" in done.stderr


def test_bytes_that_are_no_text_in_paths_and_a_terminal_of_ascii(place: Place, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    bids_dir = write_dataset(folder / "bids", 1)
    image = bids_dir / "sub-01/anat/sub-01_T1w.nii.gz"
    image.rename(image.with_name(os.fsdecode(b"sub-01_acq-\xe9_T1w.nii.gz")))
    there = Place(bids_dir, place.card, folder)
    done = run_in_shell(there, folder / "out", "", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert_whole(folder / "out")
    assert "caf\\udce9/out/group_volumes.tsv" in done.stderr
    again = there.run(folder / "out", "participant")
    assert again.returncode == 0
    assert "1 done before, 0 to do" in again.stderr


def test_no_home_and_no_entry_in_passwd(place: Place, tmp_path: Path) -> None:
    code = NO_HOME.format(support=str(APP.parent), words=place.words(tmp_path / "out"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(place.reference)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_name_too_long_is_told_before_all_work_and_the_others_are_done(place: Place, tmp_path: Path) -> None:
    bids_dir = write_dataset(tmp_path / "bids", 2)
    image = bids_dir / "sub-01/anat/sub-01_T1w.nii.gz"
    image.rename(image.with_name(f"sub-01_acq-{'a' * 200}_T1w.nii.gz"))
    there = Place(bids_dir, place.card, tmp_path)
    done = there.run(tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert done.stderr.index("expected at most 255") < done.stderr.index("sub-02_T1w: done")
    assert "1 of 2 scan(s) done" in done.stderr
    for words in (("participant", "--dry-run"), ("participant", "status")):
        assert "expected at most 255" in there.run(tmp_path / "out", *words).stdout


def test_links_in_a_circle_in_the_root_end_nothing(place: Place, tmp_path: Path) -> None:
    bids_dir = write_dataset(tmp_path / "bids", 1)
    for name in ("loop", "sub-loop", "T1w.json", "participants.tsv", ".bidsignore", "README"):
        (bids_dir / name).unlink(missing_ok=True)
        (bids_dir / name).symlink_to(name)
    (bids_dir / "sub-01/ses-loop").symlink_to("ses-loop")
    (bids_dir / "sub-01/anat/sub-01_run-1_T1w.nii.gz").symlink_to("sub-01_run-1_T1w.nii.gz")
    words = [word for word in Place(bids_dir, place.card, tmp_path).words(tmp_path / "out") if "validation" not in word]
    done = subprocess.run([sys.executable, str(APP), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "1 of 2 scan(s) done" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("pattern", ["[", "(?P<", "*", "a{99999999999}"])
def test_a_filter_that_is_no_regular_expression_is_told(place: Place, tmp_path: Path, pattern: str) -> None:
    filters = json.dumps({"t1w": {"acquisition": pattern, "regex_search": True}})
    done = place.run(tmp_path / "out", "participant", "--bids-filter-file", filters)
    assert done.returncode in (2, 18), done.stderr
    assert "Traceback" not in done.stderr
    assert "Internal error" not in done.stderr
    assert not (tmp_path / "out").exists()


def put_foreign_files(folder: Path) -> None:
    """Put what others leave, or what is damaged, into an output folder with results of sub-01 and others."""
    anat = folder / "sub-01/anat"
    (anat / "sub-01_desc-aseg_dseg.json").write_text('{"Sources": ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]}')
    (anat / "sub-01_dseg.tsv").write_text("index\tname\n1\tx\n")
    (anat / "sub-01_desc-aparcaseg_dseg.tsv").write_bytes(b"\xff\xfe\x00")
    for path in (anat, folder / "logs" / "sub-01"):
        (path / f"._sub-01_{STEM}_dseg.json").write_bytes(b"\x00\x05\x16\x07")
        (path / f"._sub-01_{STEM}_failure.json").write_bytes(b"\x00\x05\x16\x07")
        os.mkfifo(path / f"sub-01_desc-pipe_{STEM}_dseg.json")
        os.mkfifo(path / f"sub-01_desc-pipe_{STEM}_failure.json")
    (anat / f"sub-01_desc-deep_{STEM}_dseg.json").write_text("[" * 100_000)
    (folder / "sub-root").symlink_to("/")
    (folder / "sub-up").mkdir()
    (folder / "sub-up/ses-1").symlink_to(folder)
    (folder / "sub-03/anat/extra").symlink_to("/")
    table = folder / f"sub-02/anat/sub-02_{STEM}_dseg.tsv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0], *("\t".join(["n/a"] * row.count("\t")) + "\tn/a" for row in rows[1:])]) + "\n")


@pytest.mark.parametrize("words", [("status",), ("group",), ("participant", "--reports-only"), ("participant",)])
def test_what_others_left_in_the_output_folder_ends_nothing(place: Place, out: Path, words: tuple[str, ...]) -> None:
    put_foreign_files(out)
    gone = Place(place.bids_dir, place.card, place.reference)
    arguments = [word for word in gone.words(out) if word not in ("participant", "group")] + list(words)
    done = subprocess.run(
        [sys.executable, str(APP), *arguments], capture_output=True, text=True, check=False, timeout=HANG_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if words == ("status",):
        assert f"sub-02_T1w  not as it was written  sub-02_{STEM}_dseg.tsv" in done.stdout
        assert f"{N_SUBJECTS - 1} done" in done.stdout
    if words == ("group",):
        rows = [row.split("\t") for row in (out / "group_volumes.tsv").read_text().splitlines()[1:]]
        states = ("sub-01", "done"), ("sub-03", "done"), ("sub-04", "done"), ("sub-02", "failed")
        assert [(row[0], row[6]) for row in rows] == list(states)
        assert f"sub-02_{STEM}_dseg.tsv is left out" in done.stderr
    if words == ("participant",):
        assert f"sub-02_T1w is done again: sub-02_{STEM}_dseg.tsv is not as it was written" in done.stderr
        assert contents(out, "sub-02/**/*.nii.gz") == contents(place.reference, "sub-02/**/*.nii.gz")
        assert [path.name for path in out.glob("logs/replaced/*/*")] == [f"sub-02_{STEM}_dseg.tsv"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(bytes([*path.read_bytes()[:-1], 7])),
        lambda path: path.unlink(),
    ],
    ids=["emptied", "cut", "changed", "removed"],
)
@pytest.mark.parametrize("name", ["dseg.nii.gz", "dseg.tsv", "desc-entropy_probseg.nii.gz"])
def test_a_result_that_is_not_whole_is_not_done_and_is_done_again(
    place: Place, out: Path, name: str, spoil: Callable[[Path], object]
) -> None:
    path = out / "sub-03/anat" / f"sub-03_{STEM}_{name}"
    spoil(path)
    status = place.run(out, "participant", "--dry-run")
    assert "3 done before, 1 to do" in status.stdout
    if "probseg" not in name:
        assert run_here(str(place.bids_dir), str(out), "group").returncode == 0
        (row,) = [row for row in read_group_table(out) if row.participant_id == "sub-03"]
        assert (row.status, row.totals) == ("failed", {"L": None, "R": None})
    again = place.run(out)
    assert again.returncode == 0
    assert "3 done before, 1 to do" in again.stderr
    assert contents(out) == contents(place.reference)


def test_results_that_are_to_be_replaced_stay_where_the_scan_now_fails(place: Place, out: Path) -> None:
    bids_dir = shutil.copytree(place.bids_dir, out.parent / "bids")
    (bids_dir / "sub-01/anat/sub-01_T1w.nii.gz").write_bytes(b"no image")
    before = contents(out, "sub-01/**/*.*")
    done = Place(bids_dir, place.card, out).run(out, "participant", "--force")
    assert done.returncode == 1, done.stderr
    assert contents(out, "sub-01/**/*.*") == before


def test_whoever_is_refused_leaves_no_failure_and_no_methods(place: Place, tmp_path: Path) -> None:
    out, gate = tmp_path / "out", tmp_path / "gate"
    first = place.start(out, "participant", gate=gate)
    wait_for(first, "scan(s) at once")
    wait_until(lambda: any(out.glob("logs/*/.sub-01*.lock")))
    # Of the first scan alone: whoever comes first to another one does it, with his settings.
    second = place.start(out, "participant", "--random-seed", 7, "--participant-label", "01", gate=gate)
    wait_for(second, "Waiting for another run")
    gate.touch()
    codes = [process.communicate(timeout=HANG_SECONDS) and process.returncode for process in (first, second)]
    assert codes[0] == 0
    assert list(out.glob("logs/*/*_failure.json")) == []
    assert contents(out) == {
        name: content for name, content in contents(place.reference).items() if not name.startswith("group")
    }


def test_a_page_of_another_clock_hides_no_scan(place: Place, out: Path) -> None:
    page = out / "sub-02.html"
    whole = page.read_bytes()
    assert place.run(out, "participant").returncode == 0
    assert page.read_bytes() == whole
    for path in out.glob("sub-02/anat/*"):
        path.unlink()
    failure = out / f"logs/sub-02/sub-02_{STEM}_failure.json"
    failure.write_text('{"Error": "x"}')
    assert place.run(out, "participant", "--reports-only").returncode == 0
    assert f"{STEM}_dseg.json" not in page.read_text()
    os.utime(page, (4e9, 4e9))
    assert place.run(out, "participant").returncode == 0
    assert f"{STEM}_dseg.json" in page.read_text()


def test_a_signal_to_all_processes_is_no_fault_of_the_validator(place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    words = [word for word in place.words(tmp_path / "out", "participant") if word != "--skip-bids-validation"]
    process = subprocess.Popen(
        [sys.executable, str(APP), *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FAST_APP_GATE": str(gate)},
        start_new_session=True,
    )
    wait_for(process, "scan(s) at once")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGHUP)
    _, said = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 129, said
    assert "Stopped by a signal (SIGHUP" in said
    assert "could not run" not in said
    assert leftovers(tmp_path / "out") == []

"""A user without name, home and rights, as containers and clusters have them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fast_app import write_card, write_dataset
from toy_runs import APP, Place

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

"""What the dry run and the status tell is what is there, and what their lines do."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bids_trees import write_scan, write_tree
from fast_app import run_fast, write_head
from toy_runs import APP, N_SUBJECTS, Place, contents, run_here

from bids_hsf.hub.models import find_card
from bids_hsf.images import open_scan
from bids_hsf.runs import estimates, overview


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


def test_status_and_group_without_the_raw_data(place: Place, tmp_path: Path) -> None:
    gone = Place(tmp_path / "gone", place.card, tmp_path)
    out = shutil.copytree(place.reference, tmp_path / "out")
    (out / "group_volumes.tsv").unlink()
    paths = (str(gone.bids_dir), str(out))
    assert run_here(*paths, "group").returncode == 0
    assert contents(out) == contents(place.reference)
    assert len(list(out.glob("logs/run_*.log"))) == 2
    shown = run_here(*paths, "status")
    last = shown.stdout.splitlines()[-1].split(";")[0]
    assert (shown.returncode, last) == (0, f"{N_SUBJECTS} done ({len(flags_of(out))} to be looked at), 0 failed")
    (out / "sub-01.html").unlink()
    assert run_here(*paths, "participant", "--reports-only").returncode == 0
    assert "sub-01_T1w" in (out / "sub-01.html").read_text()
    assert run_here(*paths, "participant").returncode == 66


def test_status_of_everything_done(place: Place) -> None:
    shown = run_here(str(place.bids_dir), str(place.reference), "status")
    *lines, last = shown.stdout.splitlines()
    assert shown.returncode == 0
    flagged = flags_of(place.reference)
    counts = f"{N_SUBJECTS} scan(s): {N_SUBJECTS} done, {len(flagged)} of these to be looked at"
    assert last == f"toy_fast (seg-toyFast): {counts}"
    assert len(lines) == len(flagged) + 2
    for line, (scan, (weight, text)) in zip(lines[1:], flagged.items(), strict=False):
        assert line.startswith(f"{scan}  done, {weight}  ")
        assert text in line


def flags_of(out: Path) -> dict[str, tuple[str, str]]:
    """Scan to weight and words of its heaviest finding, from the sidecars; what a toy finds in noise is odd."""
    sidecars = [json.loads(path.read_text()) for path in sorted(out.glob("sub-*/anat/*_seg-toyFast_dseg.json"))]
    found = {sidecar["Scan"]: [(each["Weight"], each["Text"]) for each in sidecar["Findings"]] for sidecar in sidecars}
    flagged = {scan: findings[0] for scan, findings in found.items() if findings and findings[0][0] != "note"}
    assert flagged
    return flagged


def test_status_expects_the_outputs_that_the_last_run_was_asked_for(place: Place, tmp_path: Path) -> None:
    out = shutil.copytree(place.reference, tmp_path / "out")
    assert place.run(out, "participant", "--participant-label", "02", "--write-probseg").returncode == 0
    shown = run_here(str(place.bids_dir), str(out), "status")
    assert f"{N_SUBJECTS} scan(s): 1 done, {N_SUBJECTS - 1} missing" in shown.stdout
    _, *words = shlex.split(shown.stdout.splitlines()[-1])
    assert run_here(*words).returncode == 0
    assert len(list(out.glob("sub-*/anat/*_seg-toyFast_probseg.nii.gz"))) == N_SUBJECTS


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


def test_of_many_scans_some_headers_are_read_and_every_file_is_looked_at(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bids_dir = write_tree(tmp_path / "bids", [])
    head = write_head(bids_dir / "sub-00/anat/sub-00_T1w.nii.gz")
    for i in range(1, 40):
        path = bids_dir / f"sub-{i:02d}/anat/sub-{i:02d}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        path.hardlink_to(head)
    (bids_dir / "sub-17/anat/sub-17_T1w.nii.gz").unlink()
    (bids_dir / "sub-17/anat/sub-17_T1w.nii.gz").write_bytes(b"")
    (bids_dir / "sub-23/anat/sub-23_T1w.nii.gz").unlink()
    large = np.random.default_rng(0).integers(0, 1000, (90, 90, 90), dtype=np.int16)
    write_scan(bids_dir / "sub-23/anat/sub-23_T1w.nii.gz", large)
    opened = []
    monkeypatch.setattr(overview, "open_scan", lambda path: [opened.append(path), open_scan(path)][1])
    monkeypatch.setattr(overview, "READ_HEADERS", 8)
    monkeypatch.setattr(overview, "LARGEST_FILES", 1)
    monkeypatch.setattr(estimates, "SAMPLED_SCANS", 2)
    many = Place(bids_dir, place.card, tmp_path)
    assert run_fast(many.words(tmp_path / "out", "participant", "--dry-run")) == 0
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line for line in shown.splitlines() if line.startswith("sub-")}
    assert len(lines) == 40
    assert "39 to do, 1 cannot be processed" in shown
    assert "is empty" in lines["sub-17_T1w"]
    assert 8 <= len(opened) <= 11
    assert f"Headers: {len(opened)} of 40 were read" in shown
    # The largest file is seen, and counts for memory alone.
    assert "90x90x90 of" in lines["sub-23_T1w"]
    assert f"{estimates.memory_mb(90**3, find_card(f'{place.card}:toy_fast'), 0):,} MB a scan" in shown
    assert sum("46x55x46" in line for line in lines.values()) == len(opened) - 1
    opened.clear()
    assert run_fast(many.words(tmp_path / "out", "participant", "--dry-run", "--shard", "2/10")) == 0
    assert "Headers:" not in capsys.readouterr().out
    assert len(opened) == 4

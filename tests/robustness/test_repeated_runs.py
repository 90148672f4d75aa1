"""The same command again, and several runs on one folder: only what is missing is done, to the same bytes."""

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fast_app import SEAMS, write_dataset, write_head
from toy_runs import N_SUBJECTS, Place, contents, leftovers, run_here, wait_until

from bids_hsf.localization.location import Location


def test_only_what_is_missing_is_done_again(place: Place, tmp_path: Path) -> None:
    out = shutil.copytree(place.reference, tmp_path / "out")
    (out / "sub-02/anat/sub-02_space-T1w_seg-toyFast_desc-entropy_probseg.json").unlink()
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
    assert changed == {"sub-02/anat/sub-02_space-T1w_seg-toyFast_dseg.nii.gz"}
    assert "0 to do" in other.run(out, "participant").stderr


def test_image_that_changes_while_it_is_read_fails(place: Place, tmp_path: Path) -> None:
    root, out = write_dataset(tmp_path / "bids", 1), tmp_path / "out"
    other = Place(root, place.card, tmp_path)

    def replace_and_locate(*scan: Any, **options: Any) -> Location:
        write_head(root / "sub-01/anat/sub-01_T1w.nii.gz", seed=99)
        return SEAMS.locate(*scan, **options)

    done = run_here(*other.words(out, "participant"), seams=replace(SEAMS, locate=replace_and_locate))
    assert done.returncode == 65, done.stderr
    assert "sub-01/anat/sub-01_T1w.nii.gz changed while it was read" in done.stderr
    assert not list(out.glob("sub-*/anat/*"))
    assert other.run(out, "participant").returncode == 0
    assert "1 done before" in other.run(out, "participant", "--dry-run").stdout


def test_other_settings_are_refused_and_forced(place: Place, tmp_path: Path) -> None:
    out = shutil.copytree(place.reference, tmp_path / "out")
    refused = place.run(out, "--keep-islands")
    assert refused.returncode == 73
    assert "KeepIslands was False, now True" in refused.stderr
    assert contents(out) == contents(place.reference)
    assert place.run(out, "--write-probseg", "--uncertainty", "full").returncode == 0
    assert len(list(out.glob("sub-*/anat/*_seg-toyFast_probseg.nii.gz"))) == N_SUBJECTS
    # What another request left beside the new results would pass for theirs.
    assert place.run(out, "--keep-islands", "--force").returncode == 0
    assert not list(out.glob("sub-*/anat/*_seg-toyFast_probseg.nii.gz"))
    assert not list(out.glob("sub-*/anat/*mutualinformation*"))


def test_several_runs_at_once_on_the_same_scans(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    gate = tmp_path / "gate"
    runs = [place.start(out, gate=gate) for _ in range(2)]
    # Both stand before the same scan: one has its lock and waits at the gate, the other waits for the lock.
    wait_until(lambda: any("Waiting for another run" in path.read_text() for path in out.glob("logs/run_*.log")))
    gate.touch()
    said = [process.communicate(timeout=120)[1] for process in runs]
    assert [process.returncode for process in runs] == [0, 0], "\n".join(said)
    assert contents(out) == contents(place.reference)
    assert leftovers(out) == []
    assert len(list(out.glob("logs/run_*.log"))) == 2


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


def test_boilerplate_alone(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = place.run(out, "participant", "--boilerplate-only", "--export-lut", "itksnap", "freesurfer", "fsleyes")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (out / "logs").iterdir() if not path.name.startswith("run_"))
    assert names == [
        "CITATION.bib",
        "CITATION.html",
        "CITATION.md",
        *(f"seg-toyFast_CITATION.{ending}" for ending in ("bib", "html", "md")),
    ]
    assert "toy" in (out / "logs/CITATION.md").read_text()
    assert str(out / "logs/CITATION.md") in done.stderr
    assert '101 255 128 128 1 1 1 "Right Front"' in (out / "seg-toyFast_itksnap.txt").read_text()
    assert "2 Left-Back 0 255 0 0" in (out / "seg-toyFast_freesurfer.txt").read_text()
    assert "102 0.00000 0.60000 0.00000 Right Back" in (out / "seg-toyFast_fsleyes.lut").read_text()
    assert not list(out.glob("sub-*"))


def test_label_descriptions_of_what_is_there_need_no_model(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(place.reference, out)
    done = place.run(out, "participant", "--reports-only", "--export-lut", "slicer")
    assert done.returncode == 0, done.stderr
    assert "101 Right_Front 255 128 128 255" in (out / "seg-toyFast_slicer.ctbl").read_text()
    before = (out / "sub-01/anat/sub-01_space-T1w_seg-toyFast_dseg.json").stat().st_mtime_ns
    assert before == (place.reference / "sub-01/anat/sub-01_space-T1w_seg-toyFast_dseg.json").stat().st_mtime_ns


def test_run_leaves_its_log_and_one_line_a_scan(place: Place) -> None:
    (log,) = place.reference.glob("logs/run_*.log")
    lines = [line for line in log.read_text().splitlines() if " INFO " in line]
    for i in range(1, N_SUBJECTS + 1):
        assert sum(f"sub-{i:02d}_T1w: done in" in line for line in lines) == 1
    assert "\r" not in log.read_text()
    assert (place.reference / "logs/CITATION.html").is_file()

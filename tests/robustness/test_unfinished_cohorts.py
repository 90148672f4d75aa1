"""The group level where not all scans are done: each of the dataset has a row, whatever became of it."""

import os
import shutil
from pathlib import Path

from toy_runs import Place, run_here

from bids_hsf.bids.group_table import read_group_table


def test_scans_of_the_dataset_that_were_never_begun_are_rows(place: Place, tmp_path: Path) -> None:
    out = shutil.copytree(place.reference, tmp_path / "out")
    shutil.rmtree(out / "sub-03")
    done = run_here(str(place.bids_dir), str(out), "group")
    assert done.returncode == 0, done.stderr
    told = {row.scan: (row.status, row.model, row.segmentation) for row in read_group_table(out)}
    assert told.pop("sub-03_T1w") == ("missing", "toy_fast", "toyFast")
    assert set(told.values()) == {("done", "toy_fast", "toyFast")}
    assert "3 done, 1 missing" in done.stderr
    # By name they are as well known as the others.
    assert run_here(str(place.bids_dir), str(out), "group", "--participant-label", "03").returncode == 0
    (row,) = read_group_table(out)
    assert (row.status, "not been segmented" in (row.status_reason or "")) == ("missing", True)


def test_two_models_miss_scans_each_by_itself(place: Place, tmp_path: Path) -> None:
    out = shutil.copytree(place.reference, tmp_path / "out")
    words = [*place.words(out, "participant", "--participant-label", "01"), "--model", f"{place.card}:toy_voting"]
    assert run_here(*words).returncode == 0
    assert run_here(str(place.bids_dir), str(out), "group").returncode == 0
    states = [(row.model, row.status) for row in read_group_table(out)]
    assert (states.count(("toy_fast", "done")), states.count(("toy_voting", "done"))) == (4, 1)
    assert states.count(("toy_voting", "missing")) == 3


def test_what_killed_runs_left_goes_with_the_group_level_behind_an_array(place: Place, tmp_path: Path) -> None:
    out = shutil.copytree(place.reference, tmp_path / "out")
    folders = out, out / "logs", out / "sub-01" / "figures"
    old = [folder / ".table.tsv.bids-hsf-0123abcd" for folder in folders]
    kept = [out / ".table.tsv.bids-hsf-89abcdef", out / ".notes.20240101"]
    for path in old + kept:
        path.write_text("half a")
    for path in [*old, kept[-1]]:
        os.utime(path, (0, 0))
    done = run_here(str(place.bids_dir), str(out), "group", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert all(path.exists() for path in old)
    for words in (("group",), ("participant", "--reports-only")):
        assert run_here(str(place.bids_dir), str(out), *words).returncode == 0
    assert [path for path in old if path.exists()] == []
    assert all(path.exists() for path in kept)

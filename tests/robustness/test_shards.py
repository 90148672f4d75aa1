"""Whole runs on slices of a dataset, as the tasks of an array are, and what is said of those that lack."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_runs import N_SUBJECTS, Place, Result, contents, leftovers, run_here

Task = Callable[[int, int], None]


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    """Play a task of an array of Slurm."""

    def be(number: int, count: int) -> None:
        known = {"ID": number, "MIN": 1, "MAX": count, "STEP": 1, "COUNT": count}
        for name, value in known.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))

    return be


def test_shards_and_the_group_behind_them_leave_what_one_run_leaves(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # In any order, and once more.
    for shard in ("3/3", "1/3", "2/3", "1/3"):
        done = place.run(out, "participant", "--shard", shard)
        assert done.returncode == 0, done.stderr
    # The pages lead to each other at once, although no task saw those of the others.
    assert contents(out, "sub-*.html") == contents(place.reference, "sub-*.html")
    grouped = run_group(place, out)
    assert grouped.returncode == 0, grouped.stderr
    assert contents(out) == contents(place.reference)
    assert contents(out, "*.html") == contents(place.reference, "*.html")
    assert leftovers(out) == []


def run_group(place: Place, out: Path) -> Result:
    return run_here(str(place.bids_dir), str(out), "group", "--require-complete")


def test_a_task_takes_its_slice_by_itself_and_says_so(place: Place, tmp_path: Path, task: Task) -> None:
    out = tmp_path / "out"
    task(2, 2)
    done = place.run(out, "participant")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.glob("sub-*.html")) == ["sub-02.html", "sub-04.html"]
    assert "Shard 2/2: this run takes 2 of 4 participant(s)" in done.stderr
    assert "--shard 1/1 takes all participants" in done.stderr
    # What is missing is told by status and group, and is an error where that is asked for.
    task(1, 2)  # which does not concern them
    shown = place.run(out, "participant", "--dry-run", "--shard", "1/1")
    assert shown.stdout.count("to do") >= 2
    grouped = run_group(place, out)
    assert grouped.returncode == 1
    assert "sub-01_T1w is not begun" in grouped.stderr or "sub-01_T1w is missing" in grouped.stderr
    assert "2 of 4 scan(s) are not done" in grouped.stderr


def test_who_names_participants_in_a_task_gets_these(place: Place, tmp_path: Path, task: Task) -> None:
    out = tmp_path / "out"
    task(2, 4)
    assert place.run(out, "participant", "--participant-label", "03").returncode == 0
    assert [path.name for path in out.glob("sub-*.html")] == ["sub-03.html"]


def test_an_array_with_more_tasks_than_participants_is_not_one_over_participants(
    place: Place, tmp_path: Path, task: Task
) -> None:
    task(7, 50)
    done = place.run(tmp_path / "out", "participant", "--dry-run")
    assert done.returncode == 0
    assert f"{N_SUBJECTS} to do" in done.stdout
    assert "The array has 50 tasks, the dataset 4 participant(s): this run takes all of them" in done.stderr


def test_a_shard_without_participants_or_images_is_no_error(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = place.run(out, "participant", "--shard", "7/50")
    assert (done.returncode, out.exists()) == (0, False)
    assert "Shard 7/50 is empty: there are 4 participant(s)" in done.stderr
    unknown = place.run(out, "participant", "--shard", "1/2", "--participant-label", "99")
    assert unknown.returncode == 18
    for words, message in ((("--shard", "0/2"), "none of the shards"), (("--shard", "auto"), "no task of an array")):
        refused = place.run(out, "participant", *words)
        assert refused.returncode == 2
        assert message in refused.stderr


def test_status_is_an_error_on_request_alone(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert place.run(out, "participant", "--shard", "1/2").returncode == 0
    words = [str(place.bids_dir), str(out), "status"]
    assert run_here(*words).returncode == 0
    lacking = run_here(*words, "--json", "--require-complete")
    found = json.loads(lacking.stdout)
    assert (lacking.returncode, found["complete"]) == (1, False)
    (model,) = found["models"]
    assert model["counts"]["missing"] == 2
    assert [scan["participant"] for scan in model["missing"]] == ["02", "04"]
    assert place.run(out, "participant", "--shard", "2/2").returncode == 0
    whole = run_here(*words, "--json", "--require-complete")
    assert (whole.returncode, json.loads(whole.stdout)["complete"]) == (0, True)

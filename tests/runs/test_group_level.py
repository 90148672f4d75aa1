"""The group level on output folders without images: every scan is a row, and what is said of it can be read."""

import csv
import json
import os
from pathlib import Path

import pytest
from bids import BIDSLayout
from cohorts import outputs_of, write_cohort, write_result
from report_pages import Page
from toy_runs import contents, run_here

from bids_hsf.findings import Finding, Weight
from bids_hsf.reports.group import write_group_report


def group(out: Path, *words: object, bids_dir: Path | None = None):
    return run_here(str(bids_dir or out.parent / "nowhere"), str(out), "group", *map(str, words))


def rows_of(out: Path, name: str = "group_volumes.tsv") -> list[dict[str, str]]:
    with (out / name).open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def page_text(out: Path) -> str:
    return " ".join(Page((out / "group_volumes.html").read_text()).text.split())


def by_scan(out: Path) -> dict[str, dict[str, str]]:
    return {row["scan"]: row for row in rows_of(out)}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    write_cohort(folder, 12)
    (folder / "logs").mkdir()
    return folder


def test_scans_without_results_are_rows_with_their_reason(out: Path) -> None:
    failure = {"Error": "It is cut short", "Hint": None, "ExitCode": 65, "Scan": "sub-x_T1w", "Model": "toy_fast"}
    for scan in ("sub-x_T1w", "sub-00003_T1w"):
        path = outputs_of(out, scan).failure
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**failure, "Scan": scan}))
    started = outputs_of(out, "sub-y_ses-2_T2w").started
    started.parent.mkdir(parents=True, exist_ok=True)
    started.write_text(json.dumps({"Started": "today", "Host": "node7", "Job": "12_3", "EndedBy": "SIGTERM"}))
    outputs_of(out, "sub-00004_T1w").table.write_text("")
    done = group(out)
    assert done.returncode == 0, done.stderr
    rows = by_scan(out)
    assert len(rows) == 14
    told = {scan: (row["status"], row["status_reason"]) for scan, row in rows.items() if row["status"] != "done"}
    assert told.pop("sub-x_T1w") == ("failed", "It is cut short")
    status, reason = told.pop("sub-00004_T1w")
    assert (status, "table" in reason) == ("failed", True)
    status, reason = told.pop("sub-y_ses-2_T2w")
    assert (status, "job 12_3 on node7 began it at today and was ended by SIGTERM" in reason) == ("killed", True)
    # It failed once, and has results: done.
    assert told == {}
    assert (rows["sub-y_ses-2_T2w"]["session_id"], rows["sub-y_ses-2_T2w"]["suffix"]) == ("ses-2", "T2w")
    assert rows["sub-x_T1w"]["L_total_mm3"] == "n/a"
    assert "11 done, 2 failed, 1 killed" in done.stderr


def test_what_killed_runs_left_beside_the_records_of_scans_goes_once_it_is_old(out: Path) -> None:
    folder = out / "logs" / "sub-01"
    folder.mkdir(parents=True, exist_ok=True)
    old = [folder / ".sub-01_T1w_seg-toy.lock", folder / ".sub-01_T1w_seg-toy_started.json.bids-hsf-0123abcd"]
    young = folder / ".sub-01_T2w_seg-toy_started.json.bids-hsf-01234567"
    for path in (*old, young):
        path.touch()
    for path in old:
        os.utime(path, (0, 0))
    group(out, "--dry-run")
    assert all(path.exists() for path in old)
    group(out)
    assert [path.exists() for path in (*old, young)] == [False, False, True]


def test_what_is_not_done_is_told_with_its_model_where_there_are_several(out: Path) -> None:
    def fail(scan: str, model: str) -> str:
        path = outputs_of(out, scan).failure
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"Error": "It is cut short", "Hint": None, "ExitCode": 65, "Scan": scan, "Model": model}
        path.write_text(json.dumps(record))
        return group(out).stderr

    told = fail("sub-x_T1w", by_scan(out)["sub-00001_T1w"]["model"] if group(out).returncode == 0 else "")
    assert "sub-x_T1w is failed: It is cut short" in told
    assert "sub-z_T1w by toy_other is failed: It is cut short" in fail("sub-z_T1w", "toy_other")


def test_failures_alone_are_a_table_too(tmp_path: Path) -> None:
    path = outputs_of(tmp_path, "sub-x_T1w").failure
    path.parent.mkdir(parents=True)
    path.write_text('{"Error": "cut"}')
    assert group(tmp_path).returncode == 0
    assert [row["status"] for row in rows_of(tmp_path)] == ["failed"]


def test_a_scan_far_from_the_others_is_flagged(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_cohort(out, 40)
    write_result(out, "sub-bad_T1w", (600.0, 900.0, 1900.0, 2000.0), entropy=0.35, components={"L": 1, "R": 3})
    assert group(out).returncode == 0
    rows = by_scan(out)
    assert {scan for scan, row in rows.items() if row["outlier"] == "yes"} == {"sub-bad_T1w"}
    assert "L_entropy_mean +" in rows["sub-bad_T1w"]["outlier_measures"]
    assert float(rows["sub-bad_T1w"]["outlier_score"]) > 3
    assert {row["outlier"] for row in rows.values()} == {"yes", "no"}


def test_settings_are_columns_and_mixing_them_is_told(out: Path) -> None:
    request = {"Model": "toy_fast", "Labels": "all", "TestTimeAugmentations": 4, "KeepIslands": True, "Seed": 42}
    write_result(out, "sub-other_T1w", request={**request, "Derivatives": ["freesurfer"]})
    done = group(out)
    row = by_scan(out)["sub-other_T1w"]
    names = ("labels", "test_time_augmentations", "derivatives", "other_settings", "model_version", "suffix")
    assert [row[name] for name in names] == ["all", "4", "freesurfer", "KeepIslands True", "1.0", "T1w"]
    assert "test_time_augmentations differs: n/a (12), 4 (1)" in done.stderr
    assert "mixed settings toy_fast, T1w, seg-toyFast: test_time_augmentations differs" in page_text(out)
    # It is not compared with what was made in another way.
    assert row["outlier"] == "n/a"


def test_pages_of_the_table_in_memory_are_those_of_its_file(out: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "sub-00001").mkdir(parents=True)
    title, cells = 'participant_id\t"the ""site"""\tage\n', 'sub-00001\t"A \t""B"""\t70.5\n'
    (raw / "participants.tsv").write_text(title + cells + "sub-00002\tn/a\t\n")
    write_result(out, "sub-odd_T1w", findings=(Finding("odd", Weight.CHECK, 'A "quoted"\ttext\nin lines'),))
    assert group(out, bids_dir=raw).returncode == 0
    pages = {name: (out / name).read_bytes() for name in ("group_volumes.html", "review.html")}
    (row,) = [row for row in rows_of(out) if row["participant_id"] == "sub-00001"]
    assert (row["the 'site'"], row["age"]) == ("A  'B'", "70.5")
    assert by_scan(out)["sub-odd_T1w"]["findings"] == "A 'quoted' text in lines"
    write_group_report(out)
    assert pages == {name: (out / name).read_bytes() for name in pages}


def test_selection_and_dry_run_are_obeyed(out: Path) -> None:
    assert group(out, "--participant-label", "sub-00001", "00002").returncode == 0
    assert [row["participant_id"] for row in rows_of(out)] == ["sub-00001", "sub-00002"]
    assert len(rows_of(out, "group_volumes_long.tsv")) == 8
    before = contents(out, "**/*.*")
    shown = group(out, "--exclude-participant-label", "00001", "--dry-run")
    assert "11 row(s) would go to" in shown.stdout
    assert contents(out, "**/*.*") == before
    write_result(out, "sub-00001_ses-b_T1w")
    assert group(out, "--session-label", "b").returncode == 0
    assert [row["scan"] for row in rows_of(out)] == ["sub-00001_ses-b_T1w"]
    refused = group(out, "--participant-label", "nobody")
    assert (refused.returncode, "Unknown participant label: nobody" in refused.stderr) == (18, True)
    assert "00001" in refused.stderr
    assert group(out, "--session-label", "c").returncode == 18
    assert [row["scan"] for row in rows_of(out)] == ["sub-00001_ses-b_T1w"]


def test_ratings_are_joined_counted_and_left_out(out: Path, tmp_path: Path) -> None:
    ratings = tmp_path / "qc.tsv"
    lines = ["sub-00001_T1w\ttoy_fast\tgood\tn/a", "sub-00002_T1w\tn/a\texclude\tmotion", "sub-z_T1w\t\tgood\t"]
    ratings.write_text("\n".join(["scan\tmodel\trating\tcomment", *lines]) + "\n")
    done = group(out, "--ratings", ratings)
    assert "1 rated good, 0 rated usable, 1 rated exclude, 10 not rated" in done.stderr
    assert "1 rating(s) are of no scan here: sub-z_T1w in line 4" in done.stderr
    rows = by_scan(out)
    assert [rows[f"sub-0000{i}_T1w"]["qc"] for i in (1, 2, 3)] == ["good", "exclude", "n/a"]
    assert rows["sub-00002_T1w"]["qc_comment"] == "motion"
    done = group(out, "--ratings", ratings, "--leave-out-excluded")
    assert "1 excluded scan(s) left out" in done.stderr
    assert "sub-00002_T1w" not in by_scan(out)
    assert len(rows_of(out, "group_volumes_long.tsv")) == 44
    assert group(out, "--leave-out-excluded").returncode == 2


def test_covariates_are_joined_and_change_is_told(tmp_path: Path) -> None:
    out, root = tmp_path / "out", tmp_path / "bids"
    for session, volume in (("1", 1000.0), ("2", 900.0), ("10", 800.0)):
        write_result(out, f"sub-a_ses-{session}_T1w", (volume, 1000.0, 1000.0, 1000.0))
    (root / "sub-a").mkdir(parents=True)
    (root / "participants.tsv").write_text("participant_id\tage\tmodel\nsub-a\t70\tn/a\n")
    (root / "participants.json").write_text('{"age": {"Description": "Age", "Units": "years"}}')
    (root / "sub-a/sub-a_sessions.tsv").write_text(
        "session_id\tacq_time\tscore\nses-1\t2020-01-01T00:00:00\t3\nses-2\t2021-01-01\t4\nses-10\t2022-01-01\t5\n"
    )
    done = group(out, bids_dir=root)
    assert done.returncode == 0, done.stderr
    row = by_scan(out)["sub-a_ses-2_T1w"]
    assert [row[name] for name in ("age", "participant_model", "session_score", "acq_time")] == [
        "70",
        "n/a",
        "4",
        "2021-01-01",
    ]
    changes = [row for row in rows_of(out, "group_changes.tsv") if row["measure"] == "L_anterior"]
    told = [(row["compared_with"], row["from_session"], row["to_session"], row["change_percent"]) for row in changes]
    assert told == [
        ("first", "ses-1", "ses-2", "-10"),
        ("first", "ses-1", "ses-10", "-20"),
        ("previous", "ses-2", "ses-10", "-11.111"),
    ]
    assert float(changes[0]["change_percent_per_year"]) == pytest.approx(-10, abs=0.05)
    assert changes[0]["years_from"] == "acq_time"
    for name in ("group_volumes", "group_volumes_long", "group_changes"):
        described = json.loads((out / f"{name}.json").read_text())
        assert list(described) == list(rows_of(out, f"{name}.tsv")[0])
        assert all(entry["Description"] for column, entry in described.items() if column != "suffix")
    assert json.loads((out / "group_volumes.json").read_text())["age"]["Units"] == "years"
    # pybids takes what lies beside a table for its metadata, and has a suffix of its own.
    (out / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}')
    layout = BIDSLayout(out, validate=False, is_derivative=True)
    assert [file.filename for file in layout.get(suffix="changes", extension=".tsv")] == ["group_changes.tsv"]
    # Of one session there is no change to tell, and an old table would tell of another cohort.
    assert group(out, "--session-label", "1", bids_dir=root).returncode == 0
    assert not list(out.glob("group_changes.*"))

"""Two models on the same scans, compared on label maps of which everything is known by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from cohorts import write_label_map, write_result
from report_pages import Page
from toy_runs import contents, run_here

from bids_hsf.bids.sidecars import Model


def labels(*voxels: int) -> np.ndarray:
    """Label map with so many voxels of each structure: anterior and posterior left, then right, from fixed corners."""
    found = np.zeros((40, 10, 10), np.uint8)
    for place, (index, count) in enumerate(zip((1, 2, 101, 102), voxels, strict=True)):
        block = found[place * 10 : place * 10 + 10].reshape(-1)
        block[:count] = index
    return found


def add(out: Path, scan: str, model: str, *voxels: int, shift: float = 0.0, version: str = "1.0") -> None:
    variant = f"toy{model.title()}"
    outputs = write_result(
        out, scan, tuple(map(float, voxels)), segmentation=variant, model=Model(f"toy_{model}", version, "toy")
    )
    write_label_map(outputs.dseg, labels(*voxels), shift)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    for place in range(6):
        add(folder, f"sub-{place}_T1w", "fast", 100 + place, 200, 110, 210)
        add(folder, f"sub-{place}_T1w", "slow", 120 + place, 200, 110, 190)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_two_models_of_one_folder(out: Path) -> None:
    add(out, "sub-6_T1w", "fast", 1, 1, 1, 1)
    add(out, "sub-7_T1w", "fast", 1, 1, 1, 1)
    add(out, "sub-7_T1w", "slow", 1, 1, 1, 1, shift=5.0)
    before = contents(out, "sub-*/**/*.*")
    done = run_here("compare", str(out))
    assert done.returncode == 0, done.stderr
    stem = out / "group_comparison_toyFast_toySlow"
    assert done.stdout.strip() == f"{stem}.html"
    rows = {(row["scan"], row["hemisphere"], row["structure"]): row for row in rows_of(Path(f"{stem}.tsv"))}
    # By hand: 100 of 120 voxels are common.
    row = rows["sub-0_T1w", "L", "anterior"]
    assert float(row["dice"]) == pytest.approx(2 * 100 / 220, abs=1e-5)
    assert (row["first_mm3"], row["second_mm3"], row["difference_mm3"]) == ("100", "120", "20")
    assert float(row["difference_percent"]) == pytest.approx(200 * 20 / 220, abs=1e-3)
    assert rows["sub-0_T1w", "L", "posterior"]["dice"] == "1"
    total = rows["sub-0_T1w", "R", "total"]
    assert float(total["dice"]) == pytest.approx(2 * 300 / 620, abs=1e-5)
    assert total["difference_mm3"] == "-20"
    assert rows["sub-6_T1w", "n/a", "n/a"]["reason"] == "only by toy_fast"
    assert "different grids" in rows["sub-7_T1w", "n/a", "n/a"]["reason"]
    assert list(json.loads(Path(f"{stem}.json").read_text())) == list(row)
    page = Page(Path(f"{stem}.html").read_text())
    assert "6 scans compared, 2 not" in page.text
    assert "toy_fast and toy_slow" in page.text
    assert "20.0" in page.text
    assert contents(out, "sub-*/**/*.*") == before


def test_two_folders_with_the_same_model(out: Path, tmp_path: Path) -> None:
    other, page = tmp_path / "other", tmp_path / "pages"
    for place in range(3):
        add(other, f"sub-{place}_T1w", "fast", 100 + place, 200, 110, 210, version="2.0")
    before = contents(out, "**/*.*")
    done = run_here("compare", str(out), str(other), "-o", str(page))
    assert done.returncode == 0, done.stderr
    rows = rows_of(page / "group_comparison_toyFast_toyFast.tsv")
    assert {row["dice"] for row in rows if row["dice"] != "n/a"} == {"1"}
    text = Page((page / "group_comparison_toyFast_toyFast.html").read_text()).text
    assert "toy_fast in out" in text
    assert "2.0" in text
    assert contents(out, "**/*.*") == before
    done = run_here("compare", str(out), str(other), "--models", "toySlow", "toy_fast")
    assert done.returncode == 0, done.stderr
    assert (out / "group_comparison_toySlow_toyFast.html").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("{out}", "--models", "toy_fast", "nobody"), 2, "--models nobody is not one of"),
        (("{out}", "--models", "toy_fast"), 2, "--models takes two names"),
        (("{out}", "{third}"), 2, "It is not clear which models"),
        (("{third}",), 2, "holds one model alone: toy_quick (seg-toyQuick, 1 scans)"),
        (("{three}",), 2, "holds 3 models"),
        (("{out}", "{third}", "--models", "toy_fast", "toy_quick"), 66, "No scan can be compared"),
        (("{out}", "--models", "toy_fast", "toyFast"), 2, "would be compared with itself"),
        (("{third}", "{out}/../third"), 2, "toy_quick in"),
        (("{empty}",), 66, "No finished scan"),
        (("{empty}/none",), 66, "does not exist"),
        ((), 2, "OUT1"),
        (("{out}", "--modle", "x"), 2, "Did you mean --models?"),
    ],
)
def test_what_cannot_be_compared_is_said(out: Path, tmp_path: Path, words, code: int, said: str) -> None:
    add(tmp_path / "third", "sub-x_T1w", "quick", 1, 1, 1, 1)
    for model in ("quick", "fast", "slow"):
        add(tmp_path / "three", "sub-x_T1w", model, 1, 1, 1, 1)
    (tmp_path / "empty").mkdir()
    folders = {name: str(tmp_path / name) for name in ("out", "third", "three", "empty")}
    done = run_here("compare", *(word.format(**folders) for word in words))
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not list(tmp_path.rglob("group_comparison*"))


def test_results_that_are_not_whole_are_said_to_be_so(out: Path) -> None:
    damaged = next((out / "sub-2").rglob("*toySlow_dseg.tsv"))
    damaged.write_text(damaged.read_text()[:-5])
    done = run_here("compare", str(out))
    assert done.returncode == 0, done.stderr
    (row,) = (row for row in rows_of(out / "group_comparison_toyFast_toySlow.tsv") if row["reason"] != "n/a")
    assert row["scan"] == "sub-2_T1w"
    assert row["reason"].startswith("by toy_slow it is not whole: ")
    assert f"sub-2_T1w is not compared: {row['reason']}" in done.stderr


def test_merges_of_one_model_are_told_apart_by_their_label(out: Path) -> None:
    labelled = write_result(
        out, "sub-0_T1w", (1.0, 2.0, 3.0, 4.0), segmentation="toyFastWhole", model=Model("toy_fast", "1.0", "toy")
    )
    write_label_map(labelled.dseg, labels(1, 2, 3, 4))
    done = run_here("compare", str(out), "--models", "toy_fast", "toy_slow")
    assert (done.returncode, "toy_fast is several of" in done.stderr) == (2, True)
    assert "Name one by its seg- label, such as toyFast" in done.stderr
    assert run_here("compare", str(out), "--models", "toyFastWhole", "toy_slow").returncode == 0


def test_a_dataset_of_that_name_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_here("compare", "out", "group")
    assert (done.returncode, "No finished scan" in done.stderr) == (66, True)

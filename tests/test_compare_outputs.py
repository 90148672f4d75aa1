"""The comparison of two output folders sees all that differs, and forgives what may."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from compare_outputs import Finding, Intended, Verdict, compare_folders, differ, main

STEM = "sub-01/anat/sub-01_space-T1w_seg-toy"
LABELS, ENTROPY = f"{STEM}_dseg.nii.gz", f"{STEM}_desc-entropy_probseg.nii.gz"
TABLE, SIDECAR, PAGE = f"{STEM}_dseg.tsv", f"{STEM}_dseg.json", "sub-01.html"
DESCRIPTION = {"GeneratedBy": [{"Name": "bids-hsf", "Version": "0.1.0"}], "DatasetLinks": {"raw": "file:///a"}}


def write_image(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> None:
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)


def labels() -> np.ndarray:
    data = np.zeros((5, 6, 7), dtype=np.uint8)
    data[1:3], data[3:] = 1, 101
    return data


def entropy() -> np.ndarray:
    return np.linspace(0, 1, 210, dtype=np.float32).reshape(5, 6, 7)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture
def before(tmp_path: Path) -> Path:
    folder = tmp_path / "before"
    (folder / "sub-01/anat").mkdir(parents=True)
    (folder / "logs").mkdir()
    write_json(folder / "dataset_description.json", DESCRIPTION)
    write_image(folder / LABELS, labels())
    write_image(folder / ENTROPY, entropy())
    (folder / TABLE).write_text("index\tname\tvolume_mm3\n1\tfront\t60.0\n101\tfront\t84.0\n")
    write_json(folder / SIDECAR, {"Localization": {"Quality": 0.9, "Warnings": ["slab"]}, "quality": 0.9})
    (folder / PAGE).write_text("<p>bids-hsf 0.1.0</p>\n<p>55 ms against 116 ms</p>\n<p>4 559.0</p>\n")
    return folder


@pytest.fixture
def after(before: Path, tmp_path: Path) -> Path:
    return shutil.copytree(before, tmp_path / "after")


def found(before: Path, after: Path, **intended: tuple[str, ...]) -> dict[str, Finding]:
    findings = compare_folders(before, after, Intended(**intended))
    return {finding.path: finding for finding in findings if finding.verdict != Verdict.SAME}


def test_equal_folders_are_the_same(before: Path, after: Path) -> None:
    findings = compare_folders(before, after)
    assert len(findings) == 6
    assert {finding.verdict for finding in findings} == {Verdict.SAME}


def test_what_may_differ_is_no_difference(before: Path, after: Path) -> None:
    (after / "logs/run_2.log").write_text("12 s on another host")
    description = {"GeneratedBy": [{"Name": "bids-hsf", "Version": "0.2.0"}], "DatasetLinks": {"raw": "file:///b/c"}}
    write_json(after / "dataset_description.json", description)
    (after / PAGE).write_text("<p>bids-hsf 0.2.0</p>\n<p>121 ms against 249 ms</p>\n<p>4 559.0</p>\n")
    (after / LABELS).write_bytes(gzip.compress(gzip.decompress((after / LABELS).read_bytes()), 1))
    findings = found(before, after)
    assert {path: finding.verdict for path, finding in findings.items()} == dict.fromkeys(
        ("dataset_description.json", PAGE, LABELS), Verdict.ALLOWED
    )
    assert not differ([*findings.values()])


def test_voxels_are_counted_and_the_largest_difference_told(before: Path, after: Path) -> None:
    changed = labels()
    changed[0, 0, :3] = (1, 1, 101)
    write_image(after / LABELS, changed)
    noisy = entropy()
    noisy[2, 2, 2] += 0.25
    write_image(after / ENTROPY, noisy)
    findings = found(before, after)
    assert findings[LABELS].details == ("3 of 210 voxels (171 are not 0); largest difference 101",)
    assert findings[ENTROPY].details == ("1 of 210 voxels (209 are not 0); largest difference 0.25",)


def test_not_a_number_on_both_sides_is_equal(before: Path, after: Path) -> None:
    hollow = entropy()
    hollow[0, 0, 0] = np.nan
    write_image(before / ENTROPY, hollow)
    hollow[1, 1, 1] = 0
    write_image(after / ENTROPY, hollow)
    assert found(before, after)[ENTROPY].details[0].startswith("1 of 210 voxels")


@pytest.mark.parametrize(
    ("data", "affine", "message"),
    [
        (labels()[:4], np.eye(4), "shape: (5, 6, 7) -> (4, 6, 7)"),
        (labels(), np.diag([1, 1, 1.5, 1]), "affine: elements differ by up to 0.5"),
        (labels().astype(np.int16), np.eye(4), "header field datatype: 2 -> 4"),
    ],
)
def test_grid_and_type_of_images_are_compared(
    before: Path, after: Path, data: np.ndarray, affine: np.ndarray, message: str
) -> None:
    write_image(after / LABELS, data, affine)
    assert message in found(before, after)[LABELS].details


def test_cells_rows_and_columns_are_named(before: Path, after: Path) -> None:
    (after / TABLE).write_text("index\tname\tvoxels\n1\tback\t60\n102\tfront\t84\n")
    details = found(before, after)[TABLE].details
    assert "index 1, name: front -> back" in details
    assert "index 101, name: front -> no such row" in details
    assert "index 102, name: no such row -> front" in details
    assert "column volume_mm3: there -> absent" in details
    assert "column voxels: absent -> new" in details


def test_rows_that_share_their_name_are_told_by_number(before: Path, after: Path) -> None:
    for folder, volume in ((before, "2"), (after, "3")):
        (folder / "group_volumes.tsv").write_text(f"scan\tmm3\nsub-01_T1w\t1\nsub-01_T1w\t{volume}\n")
    assert found(before, after)["group_volumes.tsv"].details == ("scan sub-01_T1w (row 2), mm3: 2 -> 3",)


def test_key_paths_are_named(before: Path, after: Path) -> None:
    write_json(after / SIDECAR, {"Localization": {"Quality": 0.8, "Warnings": ["slab", "thick"]}, "new": None})
    assert found(before, after)[SIDECAR].details == (
        "Localization.Quality: 0.9 -> 0.8",
        "quality: 0.9 -> absent",
        'Localization.Warnings[1]: absent -> "thick"',
        "new: absent -> null",
    )


@pytest.mark.parametrize("key", ["quality", "Localization", "Localization.Warnings", "Warnings"])
def test_intended_keys_are_told_apart(before: Path, after: Path, key: str) -> None:
    old = json.loads((before / SIDECAR).read_text())
    changed = {"quality": {**old, "quality": 1}}.get(key, {**old, "Localization": {"Quality": 0.9, "Warnings": []}})
    write_json(after / SIDECAR, changed)
    assert found(before, after)[SIDECAR].verdict == Verdict.DIFFERENT
    assert found(before, after, keys=(key,))[SIDECAR].verdict == Verdict.INTENDED
    assert found(before, after, keys=("Quality",))[SIDECAR].verdict == Verdict.DIFFERENT


def test_intended_columns_and_files_are_told_apart(before: Path, after: Path) -> None:
    (after / TABLE).write_text("index\tname\tvolume_mm3\n1\tfront\t61.0\n101\tfront\t84.0\n")
    (after / "sub-01.html").unlink()
    (after / "sub-01.txt").write_text("new")
    findings = found(before, after, columns=("*_mm3",), files=("*.html", "*.txt"))
    assert {finding.verdict for finding in findings.values()} == {Verdict.INTENDED}
    assert [*findings] == ["sub-01.html", "sub-01.txt", TABLE]


def test_missing_and_new_files_are_differences(before: Path, after: Path) -> None:
    (after / ENTROPY).rename(after / "sub-01/anat/other.nii.gz")
    findings = found(before, after)
    assert findings[ENTROPY].verdict == Verdict.MISSING
    assert findings["sub-01/anat/other.nii.gz"].verdict == Verdict.NEW
    assert differ([*findings.values()])


def test_lines_of_pages_are_shown(before: Path, after: Path) -> None:
    (after / PAGE).write_text("<p>bids-hsf 0.1.0</p>\n<p>55 ms against 116 ms</p>\n<p>4 560.0</p>\n")
    assert found(before, after)[PAGE].details == ("- <p>4 559.0</p>", "+ <p>4 560.0</p>")


def edit_json(folder: Path) -> None:
    write_json(folder / SIDECAR, {"quality": 0.9, "Localization": {"Quality": 0.9, "Warnings": ["slab"]}})


def edit_table(folder: Path) -> None:
    (folder / TABLE).write_text("index\tname\tvolume_mm3\n101\tfront\t84.0\n1\tfront\t60.0\n")


def edit_page(folder: Path) -> None:
    (folder / PAGE).write_text("\n".join(reversed((folder / PAGE).read_text().splitlines())))


@pytest.mark.parametrize("edit", [edit_json, edit_table, edit_page])
def test_another_order_is_a_difference(before: Path, after: Path, edit: Callable[[Path], None]) -> None:
    edit(after)
    (finding,) = found(before, after).values()
    assert finding.verdict == Verdict.DIFFERENT
    assert finding.details[0].startswith("order or ")


def test_what_is_no_text_is_compared_by_its_bytes(before: Path, after: Path) -> None:
    (before / "picture.png").write_bytes(b"\xff\xfe1")
    (after / "picture.png").write_bytes(b"\xff\xfe12")
    assert found(before, after)["picture.png"].details == ("bytes: 3 -> 4",)


def test_command_prints_a_table_and_leaves_by_what_it_found(
    before: Path, after: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(before), str(after)]
    assert main(paths) == 0
    assert capsys.readouterr().out == "6 file(s): 6 same\n"
    write_json(after / SIDECAR, {f"key{i}": i for i in range(9)})
    assert main([*paths, "--all"]) == 1
    told = capsys.readouterr().out
    assert f"differs     {SIDECAR}\n" in told
    assert "... and 7 more" in told
    assert f"same        {LABELS}\n" in told
    assert told.endswith("6 file(s): 5 same, 1 differs\n")
    assert main([*paths, "--ignore-file", "*_dseg.json"]) == 0
    with pytest.raises(SystemExit) as caught:
        main([str(before), str(after / "logs")])
    assert caught.value.code == 2
    assert "is no output folder of the app" in capsys.readouterr().err

"""Images that belong to no dataset: one command, results beside each other."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fast_app import write_card, write_head
from segmented_example import MODEL, Segmented
from toy_runs import Result, run_here

from bids_hsf.cli.app import main


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return write_card(tmp_path / "hub", contrasts="T1w, T2w")


def run(card: Path, *words: object) -> Result:
    return run_here(*map(str, words), "--model", f"{card}:toy_fast", "--device", "cpu")


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def test_one_real_image_as_in_its_dataset(segmented: Segmented, tmp_path: Path) -> None:
    image = shutil.copy(segmented.bids_dir / "sub-colin27/anat/sub-colin27_T1w.nii.gz", tmp_path / "head.nii.gz")
    assert main([str(image), str(tmp_path / "out"), "--model", MODEL]) == 0
    assert files_of(tmp_path / "out") == [
        "head.html",
        "head_seg-longaxisSingleFast_desc-entropy_probseg.json",
        "head_seg-longaxisSingleFast_desc-entropy_probseg.nii.gz",
        "head_seg-longaxisSingleFast_dseg.json",
        "head_seg-longaxisSingleFast_dseg.nii.gz",
        "head_seg-longaxisSingleFast_dseg.tsv",
    ]
    expected = segmented.output_dir / "sub-colin27/anat/sub-colin27_space-T1w_seg-longaxisSingleFast_dseg.nii.gz"
    found = nib.load(tmp_path / "out/head_seg-longaxisSingleFast_dseg.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(nib.load(expected).dataobj))
    page = (tmp_path / "out/head.html").read_text()
    assert "figures/head_seg-longaxisSingleFast_desc-segmentation_dseg.svg" in page
    assert "Anterior hippocampus" in page


def test_several_images_and_a_second_run(card: Path, tmp_path: Path) -> None:
    images = [write_head(tmp_path / f"{name}.nii.gz", seed) for seed, name in enumerate(("a", "b_T2w"))]
    out = tmp_path / "out"
    done = run(card, *images, out)
    assert done.returncode == 0, done.stderr
    assert {"a.html", "b_T2w.html"} <= set(files_of(out))
    sidecar = json.loads((out / "b_T2w_seg-toyFast_dseg.json").read_text())
    assert (sidecar["Scan"], sidecar["Sources"]) == ("b_T2w", ["b_T2w.nii.gz"])
    assert "2 done before, 0 to do" in run(card, *images, out).stderr


def test_results_may_lie_beside_the_image(card: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    image = write_head(folder / "a.nii.gz")
    before = image.read_bytes()
    assert run(card, image, folder).returncode == 0
    assert image.read_bytes() == before
    assert (folder / "a_seg-toyFast_dseg.nii.gz").is_file()


def test_a_bad_image_leaves_the_others_whole(card: Path, tmp_path: Path) -> None:
    good = write_head(tmp_path / "good.nii.gz")
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(good.read_bytes()[:5000])
    done = run(card, bad, good, tmp_path / "out")
    assert done.returncode == 1
    assert "bad.nii.gz is damaged or truncated" in done.stderr
    assert (tmp_path / "out/good.html").is_file()
    assert not (tmp_path / "out/bad.html").exists()


def test_what_is_wrong_is_said(card: Path, tmp_path: Path) -> None:
    image = write_head(tmp_path / "a.nii.gz")
    for words, code, said in (
        ([image], 2, "the output folder is missing"),
        ([tmp_path / "none.nii.gz", tmp_path / "out"], 66, "The image does not exist"),
        ([tmp_path / "A.nii", tmp_path / "out"], 66, "Did you mean a.nii.gz?"),
        ([tmp_path / "nowhere/a.nii", tmp_path / "out"], 66, "hint: Check the path"),
        ([image, write_head(tmp_path / "other/a.nii.gz"), tmp_path / "out"], 2, "would have results of one name"),
        ([image, tmp_path / "out", "group"], 2, "know no group level"),
        ([image, tmp_path / "out", "--multispectral"], 2, "needs a BIDS dataset"),
        ([image, tmp_path / "out", "partcipant"], 17, "Unknown analysis level"),
    ):
        done = run(card, *words)
        assert (done.returncode, said in done.stderr) == (code, True), (words, done.stderr)
    assert not (tmp_path / "out").exists()


def test_contrast_is_told_by_name_or_asked_for(card: Path, tmp_path: Path) -> None:
    image = write_head(tmp_path / "a.nii.gz")
    preview = run(card, image, tmp_path / "out", "--dry-run", "-m", "T2w")
    assert preview.returncode == 0, preview.stderr
    assert "to do" in preview.stdout
    assert not (tmp_path / "out").exists()

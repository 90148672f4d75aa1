"""What is written is valid BIDS, whatever was asked for and however the scans are named."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from bids_trees import write_scan, write_tree
from fast_app import AFFINE, SHAPE, write_card, write_dataset, write_head
from toy_runs import Place, run_here

from bids_hsf.bids.validation import run_validator


def test_participants_whose_labels_no_output_may_hold(place: Place, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "my study", 1)
    write_head(root / "sub-a.b_c/anat/sub-a.b_c_T1w.nii.gz").touch()
    bad = root / "sub-0.2/anat/sub-0.2_T1w.nii.gz"
    write_head(bad).write_bytes(b"")
    other, out = Place(root, place.card, tmp_path), tmp_path / "out"
    done = other.run(out, "participant")
    assert done.returncode == 1, done.stderr
    # The line is of use: it names the folder, not what became of it in the outputs.
    shown = run_here(str(root), str(out), "status")
    assert "--participant-label 0.2" in shown.stdout
    write_head(bad)
    _, *words = shlex.split(shown.stdout.splitlines()[-1])
    assert run_here(*words).returncode == 0
    assert (out / "sub-0p2.html").is_file()
    report = run_validator(out, tmp_path)
    assert report is not None
    assert report["issues"]["issues"] == []


def test_output_of_every_legal_name_is_valid(place: Place, tmp_path: Path) -> None:
    # Addresses in the sidecars have to bear any path.
    card = write_card(tmp_path / "my hub", "T1w, T2w")
    root = write_tree(tmp_path / "données %20 (été) '1'", [])
    names = [
        "sub-01/anat/sub-01_UNIT1.nii.gz",
        "sub-01/anat/sub-01_acq-0.8mm_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-x_ce-gd_rec-norm_run-01_T1w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_T2w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_task-rest_run-1_echo-1_part-mag_chunk-1_T1w.nii.gz",
        "sub-02/ses-2/anat/sub-02_ses-2_run-2_T2w.nii.gz",
    ]
    for seed, name in enumerate(names):
        write_head(root / name, seed)
    out = tmp_path / "résultats 2"
    other = Place(root, card, tmp_path)
    done = other.run(
        out, "-m", "T1w", "T2w", "UNIT1", "participant", "group", "--write-probseg", "--uncertainty", "full"
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(names)} of {len(names)} scan(s) done" in done.stderr
    report = run_validator(out, tmp_path)
    assert report is not None
    assert report["issues"]["issues"] == []


def test_output_of_all_options_two_models_and_failures_is_valid(tmp_path: Path) -> None:
    card = write_card(tmp_path / "hub", "T1w, T2w")
    other = card.with_name("other.yaml")
    other.write_text(card.read_text().replace("toy_", "other_").replace("family: toy", "family: other"))
    root = write_dataset(tmp_path / "bids", 2)
    write_head(root / "sub-01/anat/sub-01_T2w.nii.gz", seed=1)  # that of the T1w: they find together
    write_head(root / "sub-bad/anat/sub-bad_T1w.nii.gz").write_bytes(b"")
    out = tmp_path / "out"
    luts = ("--export-lut", "itksnap", "freesurfer", "fsleyes")
    options = (
        "--write-probseg",
        "--write-coords",
        "--write-xfm",
        "--uncertainty",
        "full",
        "--split-long-axis",
        "--report-3d",
        "--tta",
        "8",
        *luts,
    )
    common = (str(root), str(out), "participant", "group", "--device", "cpu", "--nprocs", "1", "-m", "T1w", "T2w")
    for model, words in ((f"{card}:toy_fast", ("--multispectral",)), (f"{other}:other_voting", ())):
        done = run_here(*common, "--model", model, *options, *words)
        assert done.returncode == 1, done.stderr  # sub-bad is empty
    assert len(list(out.glob("logs/*/*_failure.json"))) == 2
    assert len(list(out.glob("sub-01/anat/*desc-multispectral_dseg.nii.gz"))) == 2  # the map and its long axis
    assert len(list(out.glob("sub-01/anat/*seg-other*_from-T2w_to-MNI152NLin2009cSym_mode-image_xfm.txt"))) == 1
    report = run_validator(out, tmp_path)
    assert report is not None
    assert report["issues"]["issues"] == []


WHOLE = """merges:
  whole:
    suffix: Whole
    join: [{labels: [front, back], name: All, abbreviation: all, color: "#0000ff"}]
"""
LUTS = ("--export-lut", "itksnap", "freesurfer", "fsleyes")


@pytest.mark.slow  # all of them together are validated above
@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((), "dseg.nii.gz"),
        (("--write-probseg",), "seg-toyFast_probseg.nii.gz"),
        (("--write-coords",), "seg-toyFast_desc-AP_coords.nii.gz"),
        (("--uncertainty", "full"), "desc-voteshare_probseg.nii.gz"),
        (("--split-long-axis",), "seg-toyFastHBT_dseg.nii.gz"),
        (("--tta", 2), "dseg.tsv"),
        (("--multispectral",), "desc-multispectral_dseg.nii.gz"),
        (("--multispectral", "--reference", "T2w", "--split-long-axis"), "desc-multispectral_dseg.nii.gz"),
        (("--ca-mode", "whole"), "seg-toyFastWhole_dseg.nii.gz"),
        (("--keep-islands",), "dseg.json"),
        (("--box-margin-mm", 3), "dseg.json"),
        (("-m", "UNIT1"), "space-UNIT1_seg-toyFast_dseg.nii.gz"),
        (("-m", "T2w"), "space-T2w_seg-toyFast_dseg.nii.gz"),
        (LUTS, "seg-toyFast_fsleyes.lut"),
        (("--boilerplate-only",), "CITATION.md"),
        (("--derivatives", "segs={}"), "dseg.json"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_output_of_each_option_is_valid(words: tuple[object, ...], name: str, tmp_path: Path) -> None:
    card = write_card(tmp_path / "hub", "T1w, T2w")
    card.write_text(card.read_text().replace("license:", WHOLE + "license:"))
    root = write_dataset(tmp_path / "bids", 0)
    for suffix in ("T1w", "T2w", "UNIT1"):
        write_head(root / f"sub-01/anat/sub-01_{suffix}.nii.gz")
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[10:14, 20:30, 10:14], labels[30:34, 20:30, 10:14] = 17, 53
    write_scan(tmp_path / "segs/sub-01_T1w_synthseg.nii.gz", labels, AFFINE)
    given = [str(word).format(tmp_path / "segs") for word in words]
    out = tmp_path / "out"
    done = Place(root, card, tmp_path).run(out, "participant", *given)
    assert done.returncode == 0, done.stderr
    if "--boilerplate-only" not in words:
        assert run_here(str(root), str(out), "group").returncode == 0
        assert run_here(str(root), str(out), "participant", "--reports-only").returncode == 0
    assert list(out.rglob(f"*{name}"))
    report = run_validator(out, tmp_path)
    assert report is not None
    # Where no scan is done there is no subject, and the validator warns of that.
    expected = ["SUBJECT_FOLDERS"] if "--boilerplate-only" in words else []
    assert [issue["code"] for issue in report["issues"]["issues"]] == expected

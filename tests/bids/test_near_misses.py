"""Folders that are nearly datasets: what keeps them from being one is said."""

from pathlib import Path

import pytest
from bids_trees import write_tree

from bids_hsf.bids.dataset import check_dataset, find_scans
from bids_hsf.bids.near_misses import near_misses
from bids_hsf.bids.selection import Selection
from bids_hsf.errors import InvalidDatasetError, NothingSelectedError


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["scan.nii.gz"], "scan.nii.gz at top level: bids-hsf {root}/scan.nii.gz OUTPUT_DIR segments it"),
        (["01/anat/01_T1w.nii.gz"], "01/anat/01_T1w.nii.gz, whose folder 01 is not called sub-LABEL"),
        (["sub_01/anat/x_T1w.nii"], "whose folder sub_01 is not called sub-LABEL"),
        (["sub-01/sub-01_T1w.nii.gz"], "sub-01/sub-01_T1w.nii.gz, which lies in no anat folder"),
        (["sub-01/ses-1/sub-01_ses-1_T1w.nii.gz"], "sub-01_ses-1_T1w.nii.gz, which lies in no anat folder"),
        (["sub-01/Anat/sub-01_T1w.nii.gz"], "whose folder Anat is not called anat"),
        (["sub-01/anat/01_T1w.nii.gz"], "whose name does not begin with sub-01_"),
        (["sub-01/anat/sub-01_t1w.nii.gz"], "whose name does not end with _T1w, _T2w or _UNIT1"),
        (["sub-01/anat/sub-01_MPRAGE.nii.gz"], "whose name does not end with _T1w, _T2w or _UNIT1"),
        (["sub-01/scan/0001.dcm", "sub-01/scan/0002.dcm"], "sub-01/scan/0001.dcm is DICOM: convert it"),
        (["sub-01/mri/T1.mgz"], "sub-01/mri/T1.mgz is FreeSurfer's format: convert it with mri_convert"),
        (["rawdata/dataset_description.json"], "{root}/rawdata is a dataset: give it as BIDS_DIR"),
        (["sub-01/func/sub-01_task-rest_bold.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz"], ""),
        (["sub-01/anat/sub-01_FLAIR.nii.gz", "derivatives/x/T1.nii.gz", ".git/y.nii.gz", "notes.txt"], ""),
    ],
)
def test_what_is_near_is_told(tmp_path: Path, files: list[str], said: str) -> None:
    root = write_tree(tmp_path / "bids", files)
    found = near_misses(root)
    assert said.format(root=root) in found
    assert bool(found) == bool(said)


def test_many_of_a_kind_are_counted(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "bids", [f"sub-{i}/sub-{i}_T1w.nii.gz" for i in range(9)])
    assert near_misses(root) == "Found: sub-0/sub-0_T1w.nii.gz, which lies in no anat folder (9 such)."


def test_folder_of_a_participant_knows_its_dataset(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "bids", ["sub-01/anat/sub-01_T1w.nii.gz"])
    with pytest.raises(InvalidDatasetError) as caught:
        check_dataset(root / "sub-01")
    assert f"bids-hsf {root} OUTPUT_DIR participant --participant-label 01" in (caught.value.hint or "")


def test_loops_and_closed_folders_end_nothing(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "bids", ["a.nii.gz"])
    (root / "loop").symlink_to(".")
    (root / "shut").mkdir(mode=0)
    assert near_misses(root).count("a.nii.gz") == 2  # one image, named twice
    assert near_misses(tmp_path / "gone") == ""


@pytest.mark.parametrize("selection", [Selection(), Selection(participants=("01",))])
def test_no_participants_shows_the_layout(tmp_path: Path, selection: Selection) -> None:
    root = write_tree(tmp_path / "bids", ["t1.nii.gz"])
    with pytest.raises(NothingSelectedError) as caught:
        find_scans(root, selection)
    hint = caught.value.hint or ""
    assert hint.startswith("Known participants: none. Expected layout: BIDS_DIR/dataset_description.json")
    assert "sub-LABEL/[ses-LABEL/]anat/sub-LABEL_[ses-LABEL_]T1w.nii.gz" in hint
    assert "t1.nii.gz at top level" in hint
    assert "\n" not in hint


def test_no_image_shows_what_is_near(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "bids", ["sub-01/anat/sub-01_t1.nii.gz"])
    with pytest.raises(NothingSelectedError) as caught:
        find_scans(root, Selection())
    assert "sub-01/anat/sub-01_t1.nii.gz, whose name does not end with _T1w" in (caught.value.hint or "")


def test_missing_description_shows_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "t1.nii.gz").touch()
    with pytest.raises(InvalidDatasetError) as caught:
        check_dataset(tmp_path)
    assert f"bids-hsf {tmp_path}/t1.nii.gz OUTPUT_DIR" in (caught.value.hint or "")

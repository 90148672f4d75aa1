"""Bytes in names that are no text: of images, folders, and of the dataset itself."""

import os
from pathlib import Path

import pytest
from bids_trees import write_scan, write_tree

from bids_hsf.bids.dataset import check_dataset, find_scans
from bids_hsf.bids.selection import Selection
from bids_hsf.errors import InvalidDatasetError


def renamed(path: Path, name: bytes) -> Path:
    """Give a file or folder a name of any bytes."""
    target = Path(os.fsdecode(os.fsencode(path.parent) + b"/" + name))
    path.rename(target)
    return target


def test_image_whose_name_is_latin_1_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_tree(tmp_path / "bids", [])
    write_scan(root / "sub-01/anat/sub-01_T1w.nii.gz")
    renamed(write_scan(root / "sub-01/anat/sub-01_acq-x_T1w.nii.gz"), b"sub-01_acq-\xe9_T1w.nii.gz")
    write_scan(root / "sub-x/anat/sub-x_T1w.nii.gz")
    renamed(root / "sub-x", b"sub-\xe9")
    assert [scan.key for scan in find_scans(root, Selection())] == ["sub-01_T1w"]
    assert sum("its name is not UTF-8" in record.getMessage() for record in caplog.records) == 2


def test_dataset_whose_path_is_latin_1_is_refused(tmp_path: Path) -> None:
    root = renamed(write_tree(tmp_path / "bids", []), b"bids-\xe9")
    with pytest.raises(InvalidDatasetError, match="not UTF-8"):
        check_dataset(root)


def test_pipe_in_place_of_the_description_is_not_waited_for(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "bids", [], description=None)
    os.mkfifo(root / "dataset_description.json")
    with pytest.raises(InvalidDatasetError, match="No regular file"):
        check_dataset(root)

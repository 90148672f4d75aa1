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


def test_images_and_folders_in_latin_1_are_scans(tmp_path: Path) -> None:
    root = renamed(write_tree(tmp_path / "bids", []), b"bids-\xe9")
    renamed(write_scan(root / "sub-01/anat/sub-01_acq-x_T1w.nii.gz"), b"sub-01_acq-\xe9_T1w.nii.gz")
    write_scan(root / "sub-02/anat/sub-02_T1w.nii.gz")
    check_dataset(root)
    keys = [scan.key for scan in find_scans(root, Selection())]
    assert keys[1] == "sub-02_T1w"
    assert keys[0].isascii()


def test_pipe_in_place_of_the_description_is_not_waited_for(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "bids", [], description=None)
    os.mkfifo(root / "dataset_description.json")
    with pytest.raises(InvalidDatasetError, match="No regular file"):
        check_dataset(root)

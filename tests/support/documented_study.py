"""The dataset that the pages of the site speak of: ``study``, with participants 01 and 02, made of the example data.

As a script, for readers who have no image at hand: ``python tests/support/documented_study.py FOLDER``.
"""

import argparse
import csv
import os
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BIDS_DIR = REPOSITORY / "tests/data/bids"

MODEL = "subfields_single_accurate"
RENAMED = {"colin27": "01", "icbm152": "02"}


def write_study(folder: Path) -> Path:
    """Make the dataset, its images as links to those of the clone; returns the folder.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(BIDS_DIR.iterdir()):
        if path.is_file() and path.name != "participants.tsv":
            shutil.copy(path, folder)
    for source in sorted(BIDS_DIR.glob("sub-*/anat/*")):
        old = source.name.partition("_")[0]
        new = f"sub-{RENAMED[old.removeprefix('sub-')]}"
        target = folder / new / "anat" / source.name.replace(old, new)
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(source, target)
    rows = [["participant_id", "age", "group"], ["sub-01", "34", "control"], ["sub-02", "29", "patient"]]
    with (folder / "participants.tsv").open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(rows)
    (folder / "participants.json").write_text(
        '{"age": {"Description": "Age", "Units": "year"}, "group": {"Description": "Group of the study"}}\n'
    )
    return folder


def write_loose_scan(folder: Path) -> Path:
    """Put one image that belongs to no dataset into a folder: ``scan_T1w.nii.gz``."""
    path = folder / "scan_T1w.nii.gz"
    _link(BIDS_DIR / "sub-colin27/anat/sub-colin27_T1w.nii.gz", path)
    return path


def write_readers_folders(desk: Path) -> None:
    """Lay what the pages call the reader's own folders, ``/data`` and ``/shared``, and the clone, into a folder.

    The dataset there has one scan; FreeSurfer has been run on it.
    """
    (desk / "bids-hsf").symlink_to(REPOSITORY)
    study = desk / "data/study"
    for name in ("study/derivatives", "images", "derivatives/freesurfer/sub-01/mri"):
        (desk / "data" / name).mkdir(parents=True)
    (desk / "shared").mkdir()
    (desk / "data/images/hsf.sif").touch()
    for path in desk.glob("study/*"):
        if path.is_file():
            shutil.copy(path, study)
    (study / "participants.tsv").write_text("participant_id\tage\nsub-01\t34\n")
    (study / "sub-01/anat").mkdir(parents=True)
    _link(BIDS_DIR / "sub-colin27/anat/sub-colin27_T1w.nii.gz", study / "sub-01/anat/sub-01_T1w.nii.gz")


def _link(source: Path, target: Path) -> None:
    """Link where that can be done, else copy."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Lay scan_T1w.nii.gz and the dataset study into FOLDER.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    study = write_study(folder / "study")
    print(write_loose_scan(folder), study, sep="\n")


if __name__ == "__main__":
    _main()

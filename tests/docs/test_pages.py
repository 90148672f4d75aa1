"""Whatever the site tells people to type is typed here, page by page, in a bash.

What is run, what has a stand-in, and what other targets of the Makefile run: `documented_commands`.
"""

import re
from collections.abc import Iterator
from contextlib import chdir
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from distributed import LocalCluster
from documented_commands import DOCS, PAGES, blocks, counts, told_before, way
from typing_shell import Shell, readers_folders

# Clocks and durations, which no page can foretell.
TIMES = re.compile(r"\d\d:\d\d:\d\d|\d+(\.\d+)? (s|min|h)\b")


LABELS = "study/derivatives/bids-hsf/sub-01/anat/sub-01_space-T1w_seg-subfieldsSingleAccurate_dseg.nii.gz"


def with_something_to_type() -> list[Path]:
    return [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", with_something_to_type(), ids=lambda page: page.stem)
def test_what_a_page_tells_to_type_does_what_it_says(
    page: Path, desk: Path, shell: Shell, request: pytest.FixtureRequest
) -> None:
    names: dict[str, Any] = {}
    with chdir(desk):
        for block in blocks(page):
            if block.language == "python":
                exec(compile(block.text, page.name, "exec"), names)
            elif block.language == "console":
                for command, lines in block.commands:
                    if way(command) in ("run", "stand-in") and not told_before(page, command):
                        type_it(command, lines, shell, request)


def type_it(command: str, lines: list[str], shell: Shell, request: pytest.FixtureRequest) -> None:
    """Type one line; what it needs that is of the reader's machine is there before."""
    if "freesurfer=" in command:
        write_recon(shell.folder)
    if "--images crops" in command:
        write_crops(shell.folder)
    if "tcp://head:8786" in command:
        command = command.replace("tcp://head:8786", request.getfixturevalue("dask_cluster"))
    code, said = shell.type(readers_folders(command, shell.folder))
    assert code == 0, f"{command}\n{said}"
    assert_said(lines, said, command)


def assert_said(lines: list[str], said: str, command: str) -> None:
    """Each line of the page is found in what was said, in its order; ``...`` stands for anything."""
    rest = [TIMES.sub("T", line.expandtabs(1).rstrip()) for line in said.splitlines()]
    for line in lines:
        wanted = TIMES.sub("T", line.expandtabs(1).rstrip())
        pattern = re.sub(r"[\[\]?*]", "?", wanted).replace("...", "*")
        place = next((i for i, each in enumerate(rest) if fnmatchcase(each, pattern)), None)
        assert place is not None, f"{command} did not say {line!r}, but:\n" + "\n".join(rest)
        rest = rest[place + 1 :]


def write_recon(desk: Path) -> None:
    """Write what FreeSurfer leaves of the scan of /data/study: both hippocampi, by its numbers."""
    found = nib.load(desk / LABELS)
    labels = np.asarray(found.dataobj)
    aseg = np.where(labels > 100, 53, np.where(labels > 0, 17, 0)).astype(np.int32)
    nib.save(nib.MGHImage(aseg, found.affine), desk / "data/derivatives/freesurfer/sub-01/mri/aseg.mgz")


def write_crops(desk: Path) -> None:
    """Write a crop around a left hippocampus, its front and its back labelled, into folders for `evaluate`."""
    image, found = nib.load(desk / "study/sub-01/anat/sub-01_T1w.nii.gz"), nib.load(desk / LABELS)
    left = (np.asarray(found.dataobj) > 0) & (np.asarray(found.dataobj) < 100)
    corners = np.argwhere(left)
    middle = int(np.median(corners[:, 1]))
    labels = np.where(np.arange(left.shape[1])[:, None] > middle, 1, 2).astype(np.uint8) * left
    box = tuple(slice(a - 12, b + 13) for a, b in zip(corners.min(axis=0), corners.max(axis=0), strict=True))
    for name, whole in (("crops", image), ("labels", nib.Nifti1Image(labels, found.affine))):
        (desk / name).mkdir()
        nib.save(whole.slicer[box], desk / name / "left.nii.gz")


@pytest.fixture
def dask_cluster() -> Iterator[str]:
    """Address of a cluster of one worker in this process."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


def test_everything_is_tried() -> None:
    found = counts()
    assert set(found) == {"run", "stand-in", "Slurm", "installed"}
    assert found["run"] >= 60
    assert found["Slurm"] + found["installed"] <= 25


def test_no_command_hides_in_a_block_that_is_not_tried() -> None:
    """Other blocks hold no lines that call our programs: they belong into a console block."""
    for page in sorted(DOCS.glob("*.md")):
        for language, body in re.findall(r"^ *```([^\n]*)\n(.*?)^ *```$", page.read_text(), re.M | re.S):
            if language not in ("console", "python", "r"):
                assert not re.search(r"^ *(\$ )?(bids-hsf|hsf-hub) \S+ ", body, re.M), (page.name, body)

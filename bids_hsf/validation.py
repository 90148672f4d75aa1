"""Check the selected subjects with the BIDS validator before the work; findings inform, few stop."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 300
SECONDS_A_SUBJECT = 0.2  # forty times what an idle machine needs
SHOWN_FINDINGS = 8
ROOT_FILES = ("README", "README.md", "CHANGES", "LICENSE")


def validate_input(bids_dir: Path, subjects: Collection[str], work_dir: Path) -> Counter[str]:
    """Run bids-validator-deno on the anatomical images of some subjects and log what it finds.

    The validator has no subject filter, so that it is given a tree of links in `work_dir`. Whatever it
    finds, the run goes on: an image that cannot be processed says so itself, with better words.

    Returns
    -------
    Counter
        Error codes and the number of files that have them; empty where the validator could not run.
    """
    with tempfile.TemporaryDirectory(prefix="validate-", dir=work_dir) as folder:
        tree = Path(folder) / "dataset"
        link_subjects(bids_dir, subjects, tree)
        report = run_validator(tree, Path(folder), timeout=TIMEOUT_SECONDS + SECONDS_A_SUBJECT * len(subjects))
    if report is None:
        return Counter()
    errors = [issue for issue in report["issues"]["issues"] if issue["severity"] == "error" and not _left_alone(issue)]
    counts = Counter(issue["code"] for issue in errors)
    for code, count in counts.most_common(SHOWN_FINDINGS):
        first = next(issue for issue in errors if issue["code"] == code)
        logger.warning("BIDS validator: %s in %d place(s), first %s", code, count, first.get("location", "?"))
    if len(counts) > SHOWN_FINDINGS:
        logger.warning("BIDS validator: %d further kinds of error", len(counts) - SHOWN_FINDINGS)
    if not counts:
        logger.info("BIDS validator: no errors")
    return counts


def _left_alone(issue: dict[str, Any]) -> bool:
    """Whether a finding comes from the choice of subjects: T2w.json in the root, and no T2w among those chosen."""
    return issue["code"] == "SIDECAR_WITHOUT_DATAFILE" and str(issue.get("location", "")).count("/") == 1


def link_subjects(bids_dir: Path, subjects: Iterable[str], tree: Path) -> None:
    """Make a dataset of links to the root files and the anat folders of some subjects."""
    tree.mkdir(parents=True)
    for path in bids_dir.iterdir():
        if path.is_file() and (path.name in ROOT_FILES or path.suffix == ".json") and path.name != "participants.json":
            (tree / path.name).symlink_to(path)
    for subject in subjects:
        folder = bids_dir / f"sub-{subject}"
        for anat in [folder / "anat", *folder.glob("ses-*/anat")]:
            if anat.is_dir():
                link = tree / anat.relative_to(bids_dir)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(anat, target_is_directory=True)


def run_validator(dataset: Path, cache_dir: Path, timeout: float = TIMEOUT_SECONDS) -> dict[str, Any] | None:
    """Report of bids-validator-deno on a folder, or None (with a warning) where it cannot run."""
    program = Path(sys.executable).with_name("bids-validator-deno")
    command = [str(program) if program.exists() else shutil.which("bids-validator-deno") or str(program)]
    # The validator insists on a cache folder, and containers often have no home.
    environment = {**os.environ, "DENO_DIR": str(cache_dir / "deno"), "NO_COLOR": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - our own dependency, on a path that we made
            [*command, "--format", "json", str(dataset)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
            check=False,
        )
        report: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        logger.warning("The BIDS validator could not run (%s); the input is not validated", error)
        return None
    return report

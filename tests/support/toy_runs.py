"""Runs of the fast app on toy heads, and what must hold of the folders that they leave."""

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from fast_app import SEAMS

from bids_hsf.cli.app import main
from bids_hsf.workflow import Seams

APP = Path(__file__).with_name("fast_app.py")
N_SUBJECTS = 4
# Only against hanging for ever: nothing is asserted of time.
HANG_SECONDS = 120
# What must not depend on when, where and in which order the scans were done.
LASTING = ("sub-*/**/*.nii.gz", "sub-*/**/*_dseg.tsv", "sub-*/**/*.json", "group_*.tsv", "dataset_description.json")


@dataclass(frozen=True)
class Result:
    """How a run ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Place:
    """A dataset, a model and what an undisturbed run makes of them."""

    bids_dir: Path
    card: Path
    reference: Path

    def words(self, out: Path, *words: object) -> list[str]:
        model = ["--model", f"{self.card}:toy_fast", "--device", "cpu", "--skip-bids-validation"]
        # Float sums depend on the threads of a scan: bytes are compared at one.
        model += [] if "--omp-nthreads" in words else ["--omp-nthreads", "1"]
        model += [] if "--nprocs" in words else ["--nprocs", "1"]
        words = words if any(str(word).startswith("parti") for word in words) else ("participant", "group", *words)
        return [str(self.bids_dir), str(out), *map(str, words), *model]

    def run(self, out: Path, *words: object) -> Result:
        """Run in this process: the imports take longer than the work."""
        return run_here(*self.words(out, *words))

    def start(
        self, out: Path, *words: object, seconds: float = 0.0, gate: Path | str = "", **options: Any
    ) -> subprocess.Popen[str]:
        """Start a process of its own, `seconds` slower a scan; with a `gate` no scan goes on until that file exists."""
        environment = {**os.environ, "FAST_APP_SECONDS": str(seconds), "FAST_APP_GATE": str(gate)}
        command = [sys.executable, str(APP), *self.words(out, *words)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def run_here(*words: str, seams: Seams = SEAMS) -> Result:
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = main(list(words), seams)
    return Result(code, stdout.getvalue(), stderr.getvalue())


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    paths = {path for pattern in patterns or LASTING for path in folder.glob(pattern)}
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def assert_whole(folder: Path) -> None:
    """Every file that is there under its own name can be read, and a scan with a sidecar has all its files."""
    for path in in_their_places(folder, "*.nii.gz"):
        assert np.isfinite(nib.load(path).get_fdata()).all()
    for path in in_their_places(folder, "*_dseg.json"):
        json.loads(path.read_text())
        stem = path.name.removesuffix("_dseg.json")
        names = [f"{stem}_dseg.nii.gz", f"{stem}_dseg.tsv", f"{stem}_desc-entropy_probseg.nii.gz"]
        assert all((path.parent / name).is_file() for name in names)
        assert (folder / "logs" / stem.partition("_")[0] / f"{stem}_provenance.json").is_file()


def in_their_places(folder: Path, pattern: str) -> list[Path]:
    """Files that nobody takes for unfinished: neither hidden nor aside, where results are written before they move."""
    found = folder.rglob(pattern)
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name not in (".bidsignore", ".work")]


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read what a run says until it says a text; one that hangs is killed."""
    assert process.stderr is not None
    seen = []
    hung = threading.Timer(HANG_SECONDS, process.kill)
    hung.start()
    try:
        for line in process.stderr:
            seen.append(line)
            if text in line:
                return
    finally:
        hung.cancel()
    raise AssertionError(f"{text!r} was not said: {''.join(seen)}")


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for what other processes do, for as long as no machine would need."""
    for _ in range(HANG_SECONDS * 20):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")

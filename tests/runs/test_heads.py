"""The T1w of a session is located once in a process, for itself and for its T2w; the answers stay the same."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fast_app import SEAMS, write_card, write_dataset, write_head
from numpy.typing import NDArray
from toy_runs import run_here

from bids_hsf.geometry import Grid
from bids_hsf.localization.location import Location
from bids_hsf.runs.known_heads import KnownHeads
from bids_hsf.workflow import Seams


class Noted:
    """Locates by what is in a scan, and notes of which it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, data: NDArray[Any], _grid: Grid, **_options: Any) -> Location:
        self.asked.append(round(float(data.mean()), 3))
        matrix = np.diag([1.0, 1.0, 1.0, 1.0])
        matrix[0, 3] = float(data.std()) / 1000
        return Location(matrix, 0.9, {"L": 1.0, "R": 1.0}, 1e6 + 1000 * float(data.mean()))


def run(bids_dir: Path, out: Path, card: Path, *words: str) -> list[float]:
    noted = Noted()
    seams = Seams(noted, SEAMS.draw, SEAMS.allowed_cores)
    model = ("--model", f"{card}:toy_fast", "--device", "cpu", "--skip-bids-validation", "--nprocs", "1")
    result = run_here(str(bids_dir), str(out), "participant", *model, "--omp-nthreads", "1", *words, seams=seams)
    assert result.returncode == 0, result.stderr
    return noted.asked


def derivatives(out: Path) -> dict[str, bytes]:
    patterns = ("sub-*/**/*.nii.gz", "sub-*/**/*.json", "sub-*/**/*.tsv", "*.html")
    return {p.relative_to(out).as_posix(): p.read_bytes() for pattern in patterns for p in out.glob(pattern)}


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """One head with a T1w and two T2w."""
    bids_dir = write_dataset(tmp_path / "bids", 1)
    for run_number, seed in ((1, 7), (2, 8)):
        write_head(bids_dir / "sub-01" / "anat" / f"sub-01_run-{run_number}_T2w.nii.gz", seed=seed)
    return bids_dir


def test_the_t1w_of_a_session_is_located_once_and_the_answers_are_the_same(tmp_path: Path, session: Path) -> None:
    card = write_card(tmp_path, "T1w, T2w")
    together = run(session, tmp_path / "together", card)
    assert len(together) == len(set(together)) == 3
    apart = [run(session, tmp_path / "apart", card, "-m", suffix) for suffix in ("T1w", "T2w")]
    assert [len(asked) for asked in apart] == [1, 3]  # the guide once for both T2w
    single = write_dataset(tmp_path / "single", 1)
    for name in ("run-1", "run-2"):
        path = single / "sub-01" / "anat" / f"sub-01_{name}_T2w.nii.gz"
        shutil.copy(session / path.relative_to(single), path)
        assert len(run(single, tmp_path / "single_out", card, "-m", "T2w")) == 2
    everywhere = derivatives(tmp_path / "together")
    assert sum(path.endswith("_dseg.nii.gz") for path in everywhere) == 3
    assert derivatives(tmp_path / "apart") == everywhere
    alone = {path: content for path, content in derivatives(tmp_path / "single_out").items() if "_T2w" in path}
    assert alone == {path: content for path, content in everywhere.items() if path in alone}


def test_a_few_heads_are_known_the_last_ones() -> None:
    known = KnownHeads(size=2)
    places = [Location(np.eye(4), 0.5 + number / 10, {}) for number in range(3)]
    for name, place in zip("abc", places, strict=True):
        known.remember(name, place)
    assert [known.recall(name) for name in "abc"] == [None, *places[1:]]
    known.forget()
    assert known.recall("c") is None

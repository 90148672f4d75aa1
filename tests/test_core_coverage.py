"""What is told of the core's coverage is what was reached, and too little of it fails."""

from pathlib import Path

import core_coverage
import pytest
from coverage import Coverage

SOURCE = """def sign(x):
    if x < 0:
        return -1
    if x:
        return 1
    return 0
"""


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One module a room, of which one is run for one branch."""
    for room in core_coverage.CORE:
        (tmp_path / "bids_hsf" / room).mkdir(parents=True)
        (tmp_path / "bids_hsf" / room / "module.py").write_text(SOURCE if room == "networks" else "X = 1\n")
    monkeypatch.chdir(tmp_path)
    coverage = Coverage(data_file=".coverage", branch=True, config_file=False)
    # A second tracer would end the one that measures these very tests: the data are written as if one had run.
    data = coverage.get_data()
    arcs = {"networks": [(-1, 1), (1, -1), (-1, 2), (2, 3), (3, -1)]}
    rooms = {room: arcs.get(room, [(-1, 1), (1, -1)]) for room in core_coverage.CORE}
    data.add_arcs({str(tmp_path / "bids_hsf" / room / "module.py"): found for room, found in rooms.items()})
    data.write()
    return tmp_path


def test_lines_and_branches_are_told_by_room(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert core_coverage.main([]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["segmentation", "100.0", "%", "100.0", "%"] in told
    assert ["networks", "50.0", "%", "25.0", "%"] in told
    assert ["the", "core", "62.5", "%", "25.0", "%"] in told


@pytest.mark.parametrize(
    ("words", "code"), [(("--lines", "62"), 0), (("--lines", "63"), 1), (("--branches", "26"), 1)], ids=str
)
def test_too_little_fails(measured: Path, words: tuple[str, ...], code: int) -> None:
    assert core_coverage.main(words) == code


def test_branches_are_measured_by_default() -> None:
    assert Coverage(config_file=str(Path(__file__).parents[1] / "pyproject.toml")).get_option("run:branch") is True

"""The quality figure tells right from wrong, and hippocampi find their own place."""

import numpy as np
import pytest
from heads import head, upright

from bids_hsf.geometry import Grid
from bids_hsf.localization.candidates import holds_part_only, judged
from bids_hsf.localization.reduced_scan import ReducedScan
from bids_hsf.localization.template import load_template


@pytest.fixture(scope="module")
def colin() -> ReducedScan:
    scan = head("colin27")
    return ReducedScan.of(scan.data, scan.grid)


@pytest.mark.parametrize("error_mm", [25, 40])
def test_quality_tells_a_wrong_answer(colin: ReducedScan, error_mm: float) -> None:
    wrong = upright("colin27").scan_from_template.copy()
    wrong[:3, 3] += error_mm / np.sqrt(3)
    assert judged(colin, wrong).doubtful
    right = judged(colin, upright("colin27").scan_from_template)
    assert not right.doubtful
    assert right.quality == upright("colin27").quality


def test_hippocampi_find_back_to_their_place(colin: ReducedScan) -> None:
    right = upright("colin27").scan_from_template
    shifted = right.copy()
    shifted[1, 3] += 4.0
    found = judged(colin, shifted)
    for side in ("L", "R"):
        assert np.linalg.norm(found.middle(side) - judged(colin, right).middle(side)) < 2.5


def test_where_there_is_nothing_to_see_no_hippocampus_moves_and_no_head_is_believed() -> None:
    grid = head("colin27").grid
    nothing = np.zeros(grid.shape, dtype=np.float32)
    nothing[0, 0, 0] = 1
    scan = ReducedScan.of(nothing, grid)
    for matrix, complaint in ((np.diag([-1.0, 1, 1, 1]), "mirror"), (np.diag([0.66, 1, 1, 1]), "mm apart")):
        candidate = judged(scan, matrix)
        assert candidate.quality == 0
        assert any(complaint in each.text for each in candidate.complaints)
        for side, points in load_template().hippocampi.items():
            np.testing.assert_array_equal(candidate.hippocampi[side], points)


def test_hippocampi_out_of_view_have_no_quality(colin: ReducedScan) -> None:
    away = np.eye(4)
    away[0, 3] = 1000.0
    candidate = judged(colin, away)
    assert candidate.quality == 0
    assert candidate.complaints == ()


def test_a_slab_holds_a_part_only() -> None:
    whole = load_template().grid
    assert not holds_part_only(np.eye(4), whole)
    assert holds_part_only(np.eye(4), whole.subgrid((0, 45, 0), (97, 70, 97)))
    assert holds_part_only(np.eye(4), Grid((9, 9, 9), np.eye(4)))

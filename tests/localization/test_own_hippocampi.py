"""Somebody's label map: used where scan and map agree, and told where they do not."""

from typing import Any

import numpy as np
import pytest
from example_data import BIDS_DIR
from nibabel.affines import apply_affine

from bids_hsf.errors import UnreadableImageError
from bids_hsf.findings import Finding
from bids_hsf.geometry import Grid, resample
from bids_hsf.images import load_scan
from bids_hsf.localization.candidates import Candidate
from bids_hsf.localization.locate import locate
from bids_hsf.localization.location import hippocampus_points
from bids_hsf.localization.own_hippocampi import brain_center_by, carried_by_image, with_own_hippocampi
from bids_hsf.localization.template import BRAIN_CENTER, load_template

MATRIX = np.array([[1.1, 0, 0, 5], [0, 0.9, 0, -3], [0, 0, 1, 8], [0, 0, 0, 1.0]])


def candidate(quality: float) -> Candidate:
    return Candidate(MATRIX, load_template().hippocampi, quality, ())


def own(shift_mm: float) -> dict[str, np.ndarray]:
    points = load_template().hippocampi
    return {side: apply_affine(MATRIX, points[side][::3]) + np.array([shift_mm, 0, 0]) for side in points}


def words(remarks: tuple[Finding, ...]) -> tuple[str, ...]:
    return tuple(remark.text for remark in remarks)


def test_they_take_the_place_of_the_templates() -> None:
    given = own(3.0)
    found, remarks = with_own_hippocampi(candidate(0.9), given, 0.7)
    assert remarks == ()
    assert found.quality == 0.7
    for side in ("L", "R"):
        np.testing.assert_allclose(apply_affine(MATRIX, found.hippocampi[side]), given[side], atol=1e-9)


@pytest.mark.parametrize(("shift_mm", "quality"), [(25.0, 0.95), (14.0, 0.6), (5.0, 0.89)])
def test_those_of_another_scan_are_not_used(shift_mm: float, quality: float) -> None:
    """The crop's margin is what a map may be off, unless its edges fit better."""
    given = candidate(0.9)
    found, remarks = with_own_hippocampi(given, own(shift_mm), quality)
    assert found is given
    assert words(remarks) == (
        f"the label map has the hippocampi {shift_mm:.0f} mm from where the scan has them, expected 4 mm or less: it "
        "is not used; is it of another scan?",
    )


def test_those_that_fit_better_are_taken_from_further_away() -> None:
    found, remarks = with_own_hippocampi(candidate(0.6), own(7.0), 0.8)
    assert found.quality == 0.8
    assert words(remarks) == (
        "the label map has the hippocampi 7 mm from where the scan has them, and fits better there",
    )


def test_those_whose_edges_do_not_fit_are_not_used() -> None:
    given = candidate(0.9)
    found, remarks = with_own_hippocampi(given, own(3.0), 0.3)
    assert found is given
    assert words(remarks) == ("the label map does not fit the scan (quality 0.30): it is not used",)


def test_a_doubtful_answer_is_no_reason_to_distrust_them() -> None:
    found, remarks = with_own_hippocampi(candidate(0.2), own(25.0), 0.1)
    assert words(remarks) == ("the label map has the hippocampi 25 mm from where the scan has them",)
    assert found.doubtful
    np.testing.assert_allclose(apply_affine(MATRIX, found.hippocampi["L"]), own(25.0)["L"], atol=1e-9)


def test_they_tell_where_the_brain_is() -> None:
    shift = np.array([10.0, -20.0, 30.0])
    shifted = {side: points + shift for side, points in load_template().hippocampi.items()}
    assert brain_center_by(shifted) == pytest.approx(BRAIN_CENTER + shift)


TEMPLATE = load_template()
AWAY = np.array([0.0, 14.0, -3.0])


def test_a_map_of_another_scan_goes_with_its_image() -> None:
    """FreeSurfer's one subject folder for two sessions: the head has moved by 14 mm in between."""
    moved = TEMPLATE.grid.affine.copy()
    moved[:3, 3] += AWAY
    points = {side: mm + AWAY for side, mm in TEMPLATE.hippocampi.items()}
    found = carried_by_image(
        points, lambda: (TEMPLATE.t1w, Grid(TEMPLATE.grid.shape, moved)), TEMPLATE.t1w, TEMPLATE.grid
    )
    assert found.points is not None
    assert found.provenance["LabelMapMovedMm"] == pytest.approx(np.linalg.norm(AWAY), abs=0.3)
    for side, mm in TEMPLATE.hippocampi.items():
        np.testing.assert_allclose(found.points[side], mm, atol=0.5)


def test_a_map_of_this_very_scan_stays_as_it_is() -> None:
    found = carried_by_image(TEMPLATE.hippocampi, lambda: (TEMPLATE.t1w, TEMPLATE.grid), TEMPLATE.t1w, TEMPLATE.grid)
    assert found.points is TEMPLATE.hippocampi
    assert (found.provenance, found.remarks) == ({}, ())


def test_a_map_of_another_head_is_not_used() -> None:
    noise = np.random.default_rng(1).normal(100, 10, TEMPLATE.grid.shape).astype(np.float32)
    found = carried_by_image(TEMPLATE.hippocampi, lambda: (noise, TEMPLATE.grid), TEMPLATE.t1w, TEMPLATE.grid)
    assert found.points is None
    assert found.provenance == {"LabelMapUsed": False}
    assert "is no scan of this head" in found.remarks[0].text


def test_a_map_whose_sides_are_exchanged_is_not_used() -> None:
    scan = load_scan(BIDS_DIR / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz")
    grid = Grid((64, 76, 62), np.array([[3.0, 0, 0, -95], [0, 3, 0, -131], [0, 0, 3, -77], [0, 0, 0, 1]]))
    head = resample(scan.data, scan.grid, grid)
    found = carried_by_image(TEMPLATE.hippocampi, lambda: (head[::-1], grid), head, grid)
    assert found.points is None
    (remark,) = found.remarks
    assert (remark.code, remark.weight) == ("label-map-unused", "fail")
    assert "fits only as a mirror image" in remark.text


def test_a_map_whose_image_cannot_be_read_is_taken_as_it_lies() -> None:
    def damaged() -> Any:
        raise UnreadableImageError("orig.mgz is not a readable image: truncated")

    found = carried_by_image(TEMPLATE.hippocampi, damaged, TEMPLATE.t1w, TEMPLATE.grid)
    assert found.points is TEMPLATE.hippocampi
    assert words(found.remarks) == (
        "the image of the label map cannot be read: orig.mgz is not a readable image: truncated",
    )


def test_the_scan_itself_is_asked_where_a_map_has_no_image() -> None:
    """From the field: a map 14 mm off was followed without a word."""
    for shift_mm, used in ((1.5, True), (8.0, False), (14.0, False)):
        own_points = {side: mm + np.array([0, shift_mm, 0]) for side, mm in TEMPLATE.hippocampi.items()}
        found = locate(TEMPLATE.t1w, TEMPLATE.grid, own=own_points)
        middle = hippocampus_points(found, "L").mean(axis=0)
        wanted = own_points["L"] if used else TEMPLATE.hippocampi["L"]
        np.testing.assert_allclose(middle, wanted.mean(axis=0), atol=0.01 if used else 1.5)
        assert any(each.code == "label-map-unused" for each in found.findings) is not used
        assert found.provenance == ({} if used else {"LabelMapUsed": False})

"""Somebody's label map: used where scan and map agree, and told where they do not."""

import numpy as np
import pytest
from nibabel.affines import apply_affine

from bids_hsf.localization.candidates import Candidate
from bids_hsf.localization.own_hippocampi import brain_center_by, with_own_hippocampi
from bids_hsf.localization.template import BRAIN_CENTER, load_template

MATRIX = np.array([[1.1, 0, 0, 5], [0, 0.9, 0, -3], [0, 0, 1, 8], [0, 0, 0, 1.0]])


def candidate(quality: float) -> Candidate:
    return Candidate(MATRIX, load_template().hippocampi, quality, ())


def own(shift_mm: float) -> dict[str, np.ndarray]:
    points = load_template().hippocampi
    return {side: apply_affine(MATRIX, points[side][::3]) + np.array([shift_mm, 0, 0]) for side in points}


def test_they_take_the_place_of_the_templates() -> None:
    given = own(3.0)
    found, remarks = with_own_hippocampi(candidate(0.9), given)
    assert remarks == ()
    for side in ("L", "R"):
        np.testing.assert_allclose(apply_affine(MATRIX, found.hippocampi[side]), given[side], atol=1e-9)


def test_those_of_another_scan_are_not_used() -> None:
    found, remarks = with_own_hippocampi(candidate(0.9), own(25.0))
    assert found.hippocampi is load_template().hippocampi
    assert remarks == (
        "the label map has the hippocampi 25 mm from where the scan has them: it is not used; is it of another scan?",
    )


def test_a_doubtful_answer_is_no_reason_to_distrust_them() -> None:
    found, remarks = with_own_hippocampi(candidate(0.2), own(25.0))
    assert remarks == ("the label map has the hippocampi 25 mm from where the scan has them",)
    np.testing.assert_allclose(apply_affine(MATRIX, found.hippocampi["L"]), own(25.0)["L"], atol=1e-9)


def test_they_tell_where_the_brain_is() -> None:
    shift = np.array([10.0, -20.0, 30.0])
    shifted = {side: points + shift for side, points in load_template().hippocampi.items()}
    assert brain_center_by(shifted) == pytest.approx(BRAIN_CENTER + shift)

import pytest
from sidecars import sidecar

from bids_hsf.bids.tables import Structure
from bids_hsf.runs.group_table import group_row

STRUCTURES = (
    Structure(1, "Left a", "L_a", "#ff0000", "L", 1000.5),
    Structure(2, "Left p", "L_p", "#ff0000", "L", 2000.25),
    Structure(101, "Right a", "R_a", "#ff0000", "R", 900.0),
)


def test_hemispheres_are_added_up() -> None:
    row = group_row(sidecar(), STRUCTURES)
    assert row.volumes == {"L_a": 1000.5, "L_p": 2000.25, "R_a": 900.0}
    assert row.totals == {"L": 3000.75, "R": 900}
    assert row.per_mille["L_total"] == pytest.approx(2.0005)
    assert row.per_mille["R_a"] == pytest.approx(0.6)


def test_identity_comes_from_the_sidecar() -> None:
    row = group_row(sidecar(), STRUCTURES)
    assert (row.participant_id, row.session_id, row.scan) == ("sub-01", "ses-pre", "sub-01_ses-pre_run-2_T1w")
    assert (row.model, row.segmentation) == ("toy_fast", "toy")
    assert (row.localization_quality, row.coverage, row.n_components) == (0.9312, {"L": 1, "R": 0.5}, {"L": 1, "R": 2})
    assert group_row(sidecar(scan="sub-01_T1w", segmentation=""), STRUCTURES).session_id is None


def test_findings_and_predicted_quality_come_along() -> None:
    row = group_row(sidecar(), STRUCTURES)
    assert (row.findings, row.finding_codes, row.worst_finding) == ("a; b", "coverage;structure-empty", "check")
    assert row.predicted_dice == {"L": 0.91, "R": 0.62}
    none = group_row(sidecar(findings=(), predicted_dice={}), STRUCTURES)
    assert (none.findings, none.finding_codes, none.worst_finding) == (None, None, None)
    assert none.cells()["L_predicted_dice"] is None


def test_without_an_intracranial_volume_there_are_no_shares() -> None:
    row = group_row(sidecar(etiv_mm3=None, etiv_reason="a slab"), STRUCTURES)
    assert set(row.per_mille.values()) == {None}
    assert row.etiv_reason == "a slab"


def test_a_volume_that_is_unknown_leaves_its_hemisphere_without_a_total() -> None:
    row = group_row(sidecar(), [*STRUCTURES[:2], Structure(101, "Right a", "R_a", "#ff0000", "R", None)])
    assert row.totals == {"L": 3000.75, "R": None}
    assert row.volumes["R_a"] is row.per_mille["R_a"] is row.per_mille["R_total"] is None
    assert group_row(sidecar(), STRUCTURES[:2]).totals["R"] is None

import pytest

from bids_hsf.runs import group_table


def test_group_row_adds_up_the_hemispheres() -> None:
    structures = [
        {"abbreviation": "L_a", "hemisphere": "L", "volume_mm3": "1000.5"},
        {"abbreviation": "L_p", "hemisphere": "L", "volume_mm3": "2000.25"},
        {"abbreviation": "R_a", "hemisphere": "R", "volume_mm3": "900"},
    ]
    row = group_table.group_row({"participant_id": "sub-01"}, structures, 1.5e6)
    assert row["L_total_mm3"] == 3000.75
    assert row["R_total_mm3"] == 900
    assert row["L_total_per_mille_eTIV"] == pytest.approx(2.0005)
    assert row["R_a_per_mille_eTIV"] == pytest.approx(0.6)
    unknown = group_table.group_row({}, structures, None, "a slab")
    assert unknown["L_total_per_mille_eTIV"] is None
    assert unknown["L_a_per_mille_eTIV"] is None
    assert unknown["eTIV_reason"] == "a slab"


def test_tables_with_other_columns_are_joined() -> None:
    columns, rows = group_table.stack_rows([{"scan": "a", "x": 1}, {"scan": "b", "y": 2}])
    assert columns == ["scan", "x", "y"]
    assert rows[1] == {"scan": "b", "x": None, "y": 2}

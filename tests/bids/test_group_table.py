from pathlib import Path

import pytest

from bids_hsf.bids.group_table import GroupRow, columns_of, read_group_table, write_group_table
from bids_hsf.bids.typed_json import NotWholeError

ROW = GroupRow(
    participant_id="sub-01",
    session_id="ses-a",
    scan="sub-01_ses-a_T1w",
    model="m",
    segmentation="toy",
    localization_quality=0.9312,
    coverage={"L": 1.0, "R": 0.5},
    n_components={"L": 1, "R": 2},
    findings="a; b",
    finding_codes="coverage;structure-empty",
    worst_finding="check",
    predicted_dice={"L": 0.91, "R": None},
    volumes={"L_CA1-3": 812.25, "L_mm3": 3.0, "R_CA1-3": None},
    totals={"L": 815.25, "R": None},
    etiv_mm3=1500000,
    per_mille={"L_CA1-3": 0.5415, "L_mm3": 0.002, "R_CA1-3": None, "L_total": 0.5435, "R_total": None},
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    other = GroupRow("sub-02", "sub-02_T2w", "n", volumes={"L_x": 1.0}, totals={"L": 1.0, "R": None})
    path = write_group_table(tmp_path, [ROW, other])
    assert path.name == "group_volumes.tsv"
    first, second = read_group_table(tmp_path)
    assert first.cells() | ROW.cells() == first.cells()
    assert (first.volumes["L_CA1-3"], first.totals, first.per_mille["L_total"]) == (812.25, ROW.totals, 0.5435)
    # A structure of another model is unknown here.
    assert first.volumes["L_x"] is None
    assert second.volumes["L_CA1-3"] is None
    assert (second.session_id, second.segmentation, second.findings, second.etiv_mm3) == (None, None, None, None)
    text = path.read_text()
    write_group_table(tmp_path, [first, second])
    assert set(text.split()) == set(path.read_text().split())


def test_columns_stand_in_the_order_of_the_documentation() -> None:
    assert columns_of([ROW]) == [
        "participant_id",
        "session_id",
        "scan",
        "model",
        "segmentation",
        "localization_quality",
        "L_coverage",
        "R_coverage",
        "L_n_components",
        "R_n_components",
        "findings",
        "finding_codes",
        "worst_finding",
        "L_predicted_dice",
        "R_predicted_dice",
        "L_CA1-3_mm3",
        "L_mm3_mm3",
        "R_CA1-3_mm3",
        "L_total_mm3",
        "R_total_mm3",
        "eTIV_mm3",
        "eTIV_reason",
        "L_CA1-3_per_mille_eTIV",
        "L_mm3_per_mille_eTIV",
        "R_CA1-3_per_mille_eTIV",
        "L_total_per_mille_eTIV",
        "R_total_per_mille_eTIV",
    ]


def test_columns_of_other_models_come_behind() -> None:
    other = GroupRow("sub-02", "sub-02_T1w", "n", volumes={"L_x": 1.0})
    assert columns_of([ROW, other]) == [*columns_of([ROW]), "L_x_mm3"]
    assert columns_of([]) == []


def test_a_table_with_a_word_in_the_place_of_a_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "group_volumes.tsv").write_text("participant_id\tL_x_mm3\nsub-01\tmuch\n")
    with pytest.raises(NotWholeError, match="'much' in the place of a number"):
        read_group_table(tmp_path)

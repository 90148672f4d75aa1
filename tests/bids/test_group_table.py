from pathlib import Path

import numpy as np
import pytest

from bids_hsf.bids.group_table import GroupRow, GroupTable, columns_of, read_group_table, write_group_table
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
    entropy={"L": 0.1, "R": 0.2},
    settings={"model_version": "1.0", "test_time_augmentations": 20},
    asymmetry={"CA1-3": None, "total": -3.5},
    qc="usable",
    outlier="no",
    outlier_score=1.25,
    covariates={"age": "71", "site": None},
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
    assert (first.covariates, first.settings["test_time_augmentations"]) == ({"age": "71", "site": None}, 20)
    # A structure of another model is unknown here.
    assert first.volumes["L_x"] is None
    assert second.volumes["L_CA1-3"] is None
    assert (second.session_id, second.segmentation, second.findings, second.etiv_mm3) == (None, None, None, None)
    text = path.read_text()
    write_group_table(tmp_path, read_group_table(tmp_path))
    assert path.read_text() == text


def test_columns_stand_in_the_order_of_the_documentation() -> None:
    assert columns_of([ROW]) == [
        *("participant_id", "session_id", "scan", "suffix", "model", "segmentation"),
        *("status", "status_reason", "worst_finding", "finding_codes", "findings", "qc", "qc_comment"),
        *(
            "qc_rated_at",
            "outlier",
            "outlier_score",
            "outlier_measures",
            "model_version",
            "model_files",
            "app_version",
            "labels",
        ),
        *("test_time_augmentations", "derivatives", "other_settings", "localization_quality"),
        *("L_coverage", "R_coverage", "L_n_components", "R_n_components", "L_predicted_dice", "R_predicted_dice"),
        *("L_entropy_mean", "R_entropy_mean", "L_CA1-3_mm3", "L_mm3_mm3", "R_CA1-3_mm3", "L_total_mm3", "R_total_mm3"),
        *("CA1-3_asymmetry_percent", "total_asymmetry_percent", "eTIV_mm3", "eTIV_reason"),
        *("L_CA1-3_per_mille_eTIV", "L_mm3_per_mille_eTIV", "R_CA1-3_per_mille_eTIV"),
        *("L_total_per_mille_eTIV", "R_total_per_mille_eTIV", "age", "site"),
    ]


def test_no_cell_needs_quotes(tmp_path: Path) -> None:
    row = GroupRow("sub-01", "sub-01_T1w", "m", findings='a "b"\tc\nd', covariates={"o'k": "'#"})
    head, cells = (line.split("\t") for line in write_group_table(tmp_path, [row]).read_text().splitlines())
    assert (head[-1], cells[-1], len(cells)) == ("o'k", "'#", len(head))
    assert "a 'b' c d" in cells


def test_table_is_a_sequence_by_columns() -> None:
    table = GroupTable([ROW, GroupRow("sub-02", "sub-02_T2w", "n", status="failed", status_reason="cut")])
    assert (len(table), table[-1].status_reason, [row.suffix for row in table]) == (2, "cut", ["T1w", "T2w"])
    assert table.texts("status") == ["done", "failed"]
    np.testing.assert_equal(table.numbers("L_total_mm3"), [815.25, np.nan])
    np.testing.assert_equal(table.numbers("age"), [71, np.nan])
    np.testing.assert_equal(table.numbers("nothing"), [np.nan, np.nan])
    table.put("qc", [None, "good"])
    (kept,) = table.chosen([False, True])
    assert (kept.qc, kept.scan, len(table[0:2])) == ("good", "sub-02_T2w", 2)
    with pytest.raises(IndexError):
        table[2]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("participant_id\tL_x_mm3\nsub-01\t1", "does not end"),
        ("participant_id\tL_x_mm3\nsub-01\n", "not of one length"),
        ("participant_id\tL_x_mm3\nsub-01\t\udcff\n", "not UTF-8"),
    ],
)
def test_a_table_that_is_not_whole_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "group_volumes.tsv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(NotWholeError, match=fault):
        read_group_table(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_group_table(tmp_path / "elsewhere")


def test_columns_of_other_models_come_behind() -> None:
    other = GroupRow("sub-02", "sub-02_T1w", "n", volumes={"L_x": 1.0})
    *own, age, site = columns_of([ROW])
    assert columns_of([ROW, other]) == [*own, "L_x_mm3", age, site]
    assert columns_of([]) == []


def test_a_table_with_a_word_in_the_place_of_a_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "group_volumes.tsv").write_text("participant_id\tL_x_mm3\nsub-01\tmuch\n")
    with pytest.raises(NotWholeError, match="'much' in the place of a number"):
        read_group_table(tmp_path)

import logging
from pathlib import Path

import pytest

from bids_hsf.bids.covariates import read_covariates


def test_participants_sessions_and_scans_are_joined(tmp_path: Path) -> None:
    anat = tmp_path / "sub-a.b" / "ses-1"
    anat.mkdir(parents=True)
    (tmp_path / "participants.tsv").write_text("\ufeffparticipant_id\tage\tscan\tsex\nsub-a.b\t70\tGE\tn/a\n")
    (tmp_path / "participants.json").write_text('{"age": {"Units": "months"}, "scan": {"Description": "Scanner"}}')
    (tmp_path / "sub-a.b/sub-a.b_sessions.tsv").write_text("session_id\tage\tacq_time\nses-1\t71\t2020-01-02\n")
    (anat / "sub-a.b_ses-1_scans.tsv").write_text("filename\tacq_time\nanat/sub-a.b_ses-1_T1w.nii.gz\t2020-01-03\n")
    found = read_covariates(tmp_path)
    known = {"age": "70", "participant_scan": "GE", "sex": None, "session_age": "71"}
    assert found.of("sub-apb", "ses-1", "sub-apb_ses-1_T2w") == {**known, "acq_time": "2020-01-02"}
    assert found.of("sub-apb", "ses-2", "sub-apb_ses-2_T1w") == {"age": "70", "participant_scan": "GE", "sex": None}
    assert found.of("sub-c", None, "sub-c_T1w") == {}
    assert found.descriptions["participant_scan"] == {"Description": "Scanner"}
    assert found.years_per_unit == {"session_age": 1.0, "age": pytest.approx(1 / 12)}


def test_a_row_a_session_and_labels_without_sub(tmp_path: Path) -> None:
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "participants.tsv").write_text("participant_id\tsession_id\tage\n01\t1\t70\n01\tses-2\t72\n")
    (tmp_path / "sub-01/sub-01_scans.tsv").write_text("filename\tacq_time\nanat/sub-01_T1w.nii.gz\t2020\n")
    found = read_covariates(tmp_path)
    assert [found.of("sub-01", f"ses-{session}", "x") for session in (1, 2, 3)] == [{"age": "70"}, {"age": "72"}, {}]
    assert found.of("sub-01", None, "sub-01_T1w") == {"acq_time": "2020"}


@pytest.mark.parametrize("content", [b"name\tage\nx\t1\n", b"participant_id\tage\nx\n", b"participant_id\n\xff\n"])
def test_a_table_that_is_not_whole_is_told_and_passed_over(tmp_path: Path, content: bytes, caplog) -> None:
    (tmp_path / "participants.tsv").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert read_covariates(tmp_path).of("sub-x", None, "sub-x_T1w") == {}
    assert "participants.tsv is not joined" in caplog.text
    assert read_covariates(tmp_path / "gone").of("sub-x", None, "x") == {}

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


def joined(folder: Path, content: bytes, caplog) -> tuple[dict, str]:
    """What is known of sub-x, and what is said of the table."""
    (folder / "participants.tsv").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        return read_covariates(folder).of("sub-x", None, "sub-x_T1w"), caplog.text


@pytest.mark.parametrize(
    ("content", "is_told"),
    [
        (b"\xef\xbb\xbfparticipant_id\tage\tsite\r\nsub-x\t70\tZ\xc3\xbcrich\r\n", False),
        (b"participant_id\tage\tsite\rsub-x\t70\tZ\xc3\xbcrich\r", False),
        (b"participant_id\tage\tsite\nsub-x\t70\tZ\xfcrich\n", False),
        ("participant_id\tage\tsite\nsub-x\t70\tZürich\n".encode("utf-16"), False),
        (b"participant_id;age;site\nsub-x;70;Z\xc3\xbcrich\n", True),
        (b'participant_id,age,site\nsub-x,70,"Z\xc3\xbcrich"\n\n,,\n', True),
        (b" Participant_ID \tage \tsite\t\nsub-x \t 70\tZ\xc3\xbcrich\t\t\n", False),
    ],
)
def test_tables_that_a_spreadsheet_has_saved_are_joined(tmp_path: Path, content: bytes, is_told: bool, caplog) -> None:
    known, said = joined(tmp_path, content, caplog)
    assert known == {"age": "70", "site": "Zürich"}
    assert ("is none of BIDS" in said) == bool(said) == is_told


def test_a_quotation_mark_swallows_no_rows(tmp_path: Path, caplog) -> None:
    content = b'participant_id\tage\tsite\nsub-w\t60\t"q\nsub-x\t70\tLyon\n'
    assert joined(tmp_path, content, caplog) == ({"age": "70", "site": "Lyon"}, "")


@pytest.mark.parametrize("word", ["n/a", "N/A", "NaN", "nan", "NA", "null", ""])
def test_what_other_programs_write_for_unknown_is_unknown(tmp_path: Path, word: str, caplog) -> None:
    content = f"participant_id\tage\tsite\nsub-x\t{word}\tNAN\n".encode()
    assert joined(tmp_path, content, caplog) == ({"age": None, "site": None}, "")


def test_rows_that_contradict_each_other_are_told(tmp_path: Path, caplog) -> None:
    content = b"participant_id\tage\tsite\nsub-x\t70\tLyon\nsub-x\t71\tLyon\n"
    known, said = joined(tmp_path, content, caplog)
    assert known == {"age": None, "site": "Lyon"}
    assert "has several rows for sub-x: where they differ (age) none is joined; a column session_id" in said


def test_of_columns_of_one_name_the_first_is_taken(tmp_path: Path, caplog) -> None:
    known, said = joined(tmp_path, b"participant_id\tage\tage\nsub-x\t70\t7\n", caplog)
    assert known == {"age": "70"}
    assert "columns of one name, of which the first is taken: age" in said


def test_participants_without_a_row_are_told(tmp_path: Path, caplog) -> None:
    for label in ("01", "02"):
        (tmp_path / f"sub-{label}").mkdir()
    _, said = joined(tmp_path, b"participant_id\tage\nsub-1\t70\nsub-2\t71\n", caplog)
    assert "has no row for 2 of 2 participants: sub-01, sub-02; it has sub-1 instead: are the labels the same?" in said
    caplog.clear()
    _, said = joined(tmp_path, b"participant_id\tage\nsub-01\t70\n", caplog)
    assert said.rstrip().endswith("has no row for 1 of 2 participants: sub-02")


@pytest.mark.parametrize("content", [b"name\tage\nx\t1\n", b"participant_id\tage\nx\n", b"participant_id\n\x81\n"])
def test_a_table_that_is_not_whole_is_told_and_passed_over(tmp_path: Path, content: bytes, caplog) -> None:
    (tmp_path / "participants.tsv").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert read_covariates(tmp_path).of("sub-x", None, "sub-x_T1w") == {}
    assert "participants.tsv is not joined" in caplog.text
    assert read_covariates(tmp_path / "gone").of("sub-x", None, "x") == {}

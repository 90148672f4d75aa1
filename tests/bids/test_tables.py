import os
from pathlib import Path

import pytest

from bids_hsf.bids.tables import Structure, parse_number, read_structures, read_tsv, write_table, write_tsv
from bids_hsf.bids.typed_json import NotWholeError

ROW = {"index": "1", "name": "Left Front", "abbreviation": "L_front", "color": "#ff0000", "hemisphere": "L"}


def test_missing_values_are_written_as_bids_wants(tmp_path: Path) -> None:
    write_tsv(tmp_path / "t.tsv", ["a", "b"], [{"a": 1}, {"a": None, "b": 2.5}])
    assert (tmp_path / "t.tsv").read_text() == "a\tb\n1\tn/a\nn/a\t2.5\n"
    assert read_tsv(tmp_path / "t.tsv")[1] == {"a": "n/a", "b": "2.5"}


def test_tables_of_other_hands_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_bytes(b'a\tb\r\n"one\ttwo"\t"a ""b"""\r\n\r\n')
    assert read_tsv(tmp_path / "t.tsv") == [{"a": "one\ttwo", "b": 'a "b"'}]
    (tmp_path / "t.tsv").write_text("a\tb\n\n1\t\n")
    assert read_tsv(tmp_path / "t.tsv") == [{"a": "1", "b": ""}]


def test_structures_come_back_from_their_table(tmp_path: Path) -> None:
    spread = {"volume_mm3_low": 700, "volume_mm3_high": 900.5}
    rows = [ROW | {"volume_mm3": 812.25, "entropy_mean": 0.1, **spread}, ROW | {"index": 101, "hemisphere": "R"}]
    write_table(tmp_path / "t.tsv", rows)
    first, second = read_structures(tmp_path / "t.tsv")
    assert first == Structure(1, "Left Front", "L_front", "#ff0000", "L", 812.25, 0.1, 700.0, 900.5)
    assert (second.index, second.hemisphere) == (101, "R")
    assert (second.volume_mm3, second.entropy_mean, second.volume_low) == (None, None, None)


def test_columns_that_older_versions_lack_are_unknown() -> None:
    row = {"index": "1", "abbreviation": "L_x", "hemisphere": "L", "volume_mm3": "n/a"}
    assert Structure.from_row(row) == Structure(1, "n/a", "L_x", "", "L", None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"index": "1", "name": "Left-Cerebral-White-Matter", "color": "#fff"}, "it has no abbreviation"),
        (ROW, "it has no volume_mm3"),
        (ROW | {"volume_mm3": "1", "index": "-1"}, "its index is '-1'"),
        (ROW | {"volume_mm3": "1", "hemisphere": "B"}, "its hemisphere 'B'"),
        (ROW | {"volume_mm3": "much"}, "'much' in the place of a number"),
        (ROW | {"volume_mm3": "9" * 1000}, "in the place of a number"),
        (ROW | {"volume_mm3": "nan"}, "'nan' in the place of a number"),
    ],
)
def test_rows_of_other_tables_are_refused_with_a_reason(row: dict[str, str], message: str) -> None:
    with pytest.raises(NotWholeError, match=message):
        Structure.from_row(row)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"index\tvolume_mm3\n1\t21", "its last line does not end"),
        (b"", "its last line does not end"),
        (b"index\tvolume_mm3\n1\n", "not of one length"),
        (b"index\n1\t2\n", "not of one length"),
        (b"index\n\xe9\n", "not UTF-8"),
        (b'a\n"' + b"x" * 200_000 + b'"\n', "it is no table"),
        (b"index\tabbreviation\themisphere\tvolume_mm3\n", "it has no rows"),
    ],
)
def test_damaged_tables_are_refused_with_a_reason(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(NotWholeError, match=message):
        read_structures(tmp_path / "t.tsv")


def test_a_pipe_is_no_table_and_none_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tsv")
    with pytest.raises(NotWholeError, match="it cannot be read"):
        read_tsv(tmp_path / "pipe.tsv")
    with pytest.raises(FileNotFoundError):
        read_tsv(tmp_path / "none.tsv")


def test_numbers_of_cells() -> None:
    assert (parse_number("2.5"), parse_number("n/a"), parse_number(None)) == (2.5, None, None)

from pathlib import Path

import pytest

from bids_hsf.bids.group_row import GroupRow
from bids_hsf.bids.group_table import GroupTable
from bids_hsf.bids.ratings import read_ratings
from bids_hsf.errors import NoInputError, UsageError

TITLE = "scan\tmodel\trating\tcomment\trated_at\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "qc.tsv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    return path


def test_what_the_page_exports_and_what_editors_make_of_it(tmp_path: Path) -> None:
    text = TITLE + "a_T1w\tm\tgood\tn/a\t2026\nb_T1w\tn/a\texclude\tmoved\t\nc_T1w\tm\tn/a\tlater\t\n"
    capital = text.replace("good", "Good").replace("exclude", "EXCLUDE")
    for variant in (text, "\ufeff" + text, text.replace("\n", "\r\n"), text.rstrip("\n"), capital):
        ratings = read_ratings(written(tmp_path, variant))
        assert ratings.of("a_T1w", "m").rating == "good"
        assert ratings.of("a_T1w", "n") is None
        assert ratings.of("b_T1w", "anything").comment == "moved"
        assert (ratings.of("c_T1w", "m").rating, ratings.of("c_T1w", "m").comment) == ("", "later")
    table = GroupTable([GroupRow("a", "a_T1w", "m"), GroupRow("b", "b_T1w", "n"), GroupRow("c", "c_T1w", "m")])
    ratings.put_into(table)
    assert table.texts("qc") == ["good", "exclude", None]
    assert table.texts("qc_comment") == [None, "moved", "later"]
    assert table.texts("qc_rated_at") == ["2026", None, None]
    assert ratings.strangers(table.chosen([True, False, True])) == ["b_T1w in line 3"]


def test_of_a_comment_and_a_rating_of_one_scan_the_rating_stays(tmp_path: Path) -> None:
    lines = ["a_T1w\tm\tn/a\tlook again\t", "a_T1w\tm\tgood\tfine\t"]
    for order in (lines, lines[::-1]):
        rating = read_ratings(written(tmp_path, TITLE + "\n".join(order))).of("a_T1w", "m")
        assert (rating.rating, rating.comment) == ("good", "fine")


@pytest.mark.parametrize("written_as", ["=HYPERLINK(1)", "'=HYPERLINK(1)"])
def test_no_comment_becomes_a_formula(tmp_path: Path, written_as: str) -> None:
    ratings = read_ratings(written(tmp_path, TITLE + f"a_T1w\tm\tgood\t{written_as}\t\n"))
    assert ratings.of("a_T1w", "m").comment == "=HYPERLINK(1)"
    table = GroupTable([GroupRow("a", "a_T1w", "m")])
    ratings.put_into(table)
    assert table.texts("qc_comment") == ["'=HYPERLINK(1)"]


@pytest.mark.parametrize("separator", ["\t", ";", ","])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
def test_spreadsheets_may_have_saved_it(tmp_path: Path, separator: str, coding: str, line_end: str) -> None:
    rows = [TITLE.split(), ["a_T1w", "m", "good", '"Höhe; schräg, ""quer"""', "2026-11-28T10:00:00Z"], [""] * 5]
    path = tmp_path / "qc.csv"
    path.write_bytes(line_end.join(separator.join(row) for row in rows).encode(coding))
    rating = read_ratings(path).of("a_T1w", "m")
    assert (rating.rating, rating.comment) == ("good", 'Höhe; schräg, "quer"')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: there is no column scan"),
        ("scan rating\na good\n", "line 1: there is no column scan"),
        ("scan;rating\ta\n", "line 1: there is no column scan"),
        ("scan;rating\na,good\n", "line 2: 1 columns, expected 2"),
        ("scan\tmodel\na\tb\n", "line 1: there is no column rating"),
        ("scan\trating\tmood\n", "line 1: unknown column 'mood'"),
        ("scan\tscan\trating\n", "line 1: the column 'scan' stands twice"),
        (TITLE + "a\tm\tgood\t\t\nb\tm\tbad\t\t\n", "line 3: the rating of b is 'bad', expected good, usable, exclude"),
        (TITLE + "a\tm\tgood\n", "line 2: 3 columns, expected 5"),
        (TITLE + "\tm\tgood\t\t\n", "line 2: the scan is missing"),
        (TITLE + "a\tm\tgood\t\t\na\tm\texclude\t\t\n", "line 3: a is rated exclude, and good in line 2"),
        (TITLE + "\udc81\n", "cannot be read"),
        ("PK\x03\x04\n", "is a workbook of a spreadsheet"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_ratings(path)
    assert said in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("scan\tratings\n", "Did you mean ratings? Expected are the columns"),
        ("scan\trating\tcoment\n", "Did you mean comment? Expected are the columns"),
        (TITLE + "a\tm\tuseable\t\t\n", "Did you mean usable?"),
    ],
)
def test_near_words_are_told(tmp_path: Path, text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_ratings(written(tmp_path, text))
    assert (caught.value.hint or "").startswith(hint)


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="there is no such file"):
        read_ratings(tmp_path / "none.tsv")
    with pytest.raises(UsageError, match="No regular file|Is a directory"):
        read_ratings(tmp_path)

"""Links between the pages of subjects: in the order of people, put into pages that are there already."""

import pytest
from report_pages import Page, write_scan

from bids_hsf.reports.neighbours import Neighbours, in_order, leads_to, link, linked_neighbours, order_of
from bids_hsf.reports.subject import join_pages, subject_page, write_subject_report

ATTACK = "<!--beside--><b>x</b><!--/beside-->"


def test_subjects_stand_in_the_order_of_people(tmp_path):
    for name in ("sub-1", "sub-2", "sub-10", "logs"):
        (tmp_path / name).mkdir()
    (tmp_path / "sub-3.html").touch()
    order = order_of(tmp_path)
    assert list(order) == ["1", "2", "10"]
    assert order == in_order(["10", "2", "1"])
    assert order["2"] == Neighbours("1", "10")
    assert order["10"] == Neighbours("2", "")
    assert in_order([]) == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [("", ""), ("01", ""), ("", "03"), ("01", "03"), ("ü", 'a"<b>&'), ("a b", "%41")],
)
def test_a_page_that_is_linked_is_the_one_that_is_written_so(tmp_path, before, after):
    write_scan(tmp_path, "sub-02")
    now = Neighbours(before, after)
    for earlier in (Neighbours(), Neighbours("x", "y")):
        page = write_subject_report(tmp_path, "02", earlier)
        assert link(page, now)
        assert page.read_text() == subject_page(tmp_path, "02", now)
        assert leads_to(page, now)
        Page(page.read_text())


def test_the_neighbours_of_a_page_are_read_from_it(tmp_path):
    write_scan(tmp_path, "sub-02")
    page = write_subject_report(tmp_path, "02", Neighbours("01", "03"))
    assert linked_neighbours(page) == Neighbours("01", "03")
    assert linked_neighbours(tmp_path / "sub-09.html") == Neighbours()


def test_marks_in_what_files_say_are_text(tmp_path):
    write_scan(tmp_path, "sub-02", Findings=[{"Code": "x", "Weight": "check", "Text": ATTACK}])
    page = write_subject_report(tmp_path, "02")
    assert link(page, Neighbours("01", ""))
    assert page.read_text() == subject_page(tmp_path, "02", Neighbours("01", ""))


@pytest.mark.parametrize("content", ["", "<html>", "<!--beside--><!--/beside-->", "<!--beside-->", "\0"])
def test_what_has_no_place_for_links_is_left_as_it_is(tmp_path, content):
    page = tmp_path / "sub-02.html"
    page.write_text(content)
    assert not link(page, Neighbours("01", ""))
    assert page.read_text() == content
    assert not link(tmp_path / "sub-03.html", Neighbours("01", ""))


def test_pages_of_older_versions_are_made_again(tmp_path):
    for subject in ("sub-1", "sub-2"):
        write_scan(tmp_path, subject)
    (tmp_path / "sub-1.html").write_text('<link rel="next" href="sub-3.html">')
    write_subject_report(tmp_path, "2", Neighbours("1", ""))
    assert join_pages(tmp_path) == 1
    assert (tmp_path / "sub-1.html").read_text() == subject_page(tmp_path, "1", Neighbours("", "2"))


def test_joining_opens_no_result_again(tmp_path):
    for subject in ("sub-1", "sub-2"):
        write_scan(tmp_path, subject)
        write_subject_report(tmp_path, subject.removeprefix("sub-"))
    expected = [subject_page(tmp_path, "1", Neighbours("", "2")), subject_page(tmp_path, "2", Neighbours("1", ""))]
    for path in {*tmp_path.rglob("*_dseg.*"), *tmp_path.rglob("*.json")}:
        path.unlink()
    assert join_pages(tmp_path) == 2
    assert [(tmp_path / f"sub-{number}.html").read_text() for number in (1, 2)] == expected
    assert join_pages(tmp_path) == 0


@pytest.mark.parametrize("after", ["03", "x" * 300], ids=["fits", "is longer than the room"])
@pytest.mark.parametrize("kind", ["plain", "hard link", "symbolic link", "read-only"])
def test_what_shares_a_page_is_not_touched(tmp_path, kind, after):
    write_scan(tmp_path, "sub-02")
    page = write_subject_report(tmp_path, "02")
    before, kept = page.read_bytes(), tmp_path / "kept"
    if kind == "hard link":
        kept.hardlink_to(page)
    elif kind == "symbolic link":
        page.rename(kept)
        page.symlink_to(kept)
    elif kind == "read-only":
        page.chmod(0o444)
    assert link(page, Neighbours("", after))
    assert page.read_text() == subject_page(tmp_path, "02", Neighbours("", after))
    if kept.exists():
        assert kept.read_bytes() == before


def test_a_page_of_its_own_is_not_written_anew(tmp_path):
    write_scan(tmp_path, "sub-02")
    page = write_subject_report(tmp_path, "02")
    number = page.stat().st_ino
    assert link(page, Neighbours("01", "03"))
    assert page.stat().st_ino == number
    assert page.read_text() == subject_page(tmp_path, "02", Neighbours("01", "03"))

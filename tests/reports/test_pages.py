import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from bids_hsf.reports.pages import (
    anchor,
    citation_link,
    escape_bibtex,
    escape_markdown,
    link_to,
    render,
    to_text,
    to_words,
)


def test_anchors_hold_what_an_address_may():
    assert anchor("sub-01_T1w", "m", "toy") == "sub-01_T1w-m-toy"
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", anchor('sub-"é<', "a b"))
    assert anchor("a b", "") != anchor("a_b", "")


def test_addresses_are_quoted():
    assert link_to(Path("sub-1/a b#é.svg")) == "sub-1/a%20b%23%C3%A9.svg"


def test_the_methods_text_is_linked_where_there_is_one(tmp_path):
    assert citation_link(tmp_path) is None
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/CITATION.html").touch()
    assert citation_link(tmp_path) == "logs/CITATION.html"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        ("", "n/a"),
        (True, "yes"),
        (False, "no"),
        ({"L": 1, "R": None}, "L 1, R n/a"),
        ([[1, 0], [0, 1]], "1 0; 0 1"),
        (["a", 2], "a 2"),
        (0.5, "0.5"),
    ],
)
def test_values_are_written_for_readers(value, text):
    assert to_text(value) == text


@pytest.mark.parametrize(
    ("name", "words"), [("BoxMarginMm", "Box margin mm"), ("eTIVReason", "eTIV Reason"), ("a_b", "a b")]
)
def test_names_are_split_into_words(name, words):
    assert to_words(name) == words


def test_what_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError):
        render("citation.md.j2", "md")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain_name 1.2.0", "plain_name 1.2.0"),
        ("# x", r"\# x"),
        ("- x", r"\- x"),
        ("1. x", "1\\. x"),
        ("_x_", r"\_x\_"),
        ("a\\b", r"a\\b"),
        ("&lt;", r"\&lt;"),
        ("a & b", "a & b"),
        ("<b>`*|~", r"\<b\>\`\*\|\~"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text, escaped):
    assert escape_markdown(text) == escaped


def test_bibtex_shows_a_text_as_it_is():
    assert escape_bibtex("50 % & a_b {x} ~^\\$#") == (
        r"50 \% \& a\_b \textbraceleft{}x\textbraceright{} "
        r"\textasciitilde{}\textasciicircum{}\textbackslash{}\$\#"
    )
    assert escape_bibtex("Ibáñez, é ü 张") == "Ib{\\'a}{\\~n}ez, {\\'e} {\\\"u} 张"

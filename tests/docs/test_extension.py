"""What the pages take from the code is what stands there, and what is not there is no silence."""

import doctest
import re

import pytest
from extension import catalogue, code_tables, docstrings, markdown, parser_tables, sections, unbroken

from bids_hsf import errors
from bids_hsf.cli.arguments import build_parser
from bids_hsf.runs.command_line import FLAGS


def test_examples_of_the_docstrings() -> None:
    for module in (markdown, code_tables, sections, unbroken):
        tried = doctest.testmod(module)
        assert (tried.failed, tried.attempted > 0) == (0, True)


def test_messages_are_told_with_their_hints_and_holes() -> None:
    told = {each.message: each for each in catalogue.told()}
    gone = told["The output folder <output dir> is gone"]
    assert (gone.kind, gone.hint) == ("DiskError", "Check the mount; the same command goes on.")
    # A hint that is chosen before the error is made.
    assert "BIDS_DIR/derivatives/bids-hsf" in told["The output folder <output dir> holds a raw BIDS dataset"].hint
    assert len(told) > 150


def test_every_finding_has_a_sentence() -> None:
    rows = [line.split(" | ") for line in catalogue.findings("").splitlines()[2:]]
    assert len(rows) >= 40
    assert not [row for row in rows if not re.search(r"[a-z]{2} [a-z]", row[2])]
    (far,) = [row for row in rows if "label-map-far" in row[0]]
    assert "fits better there / the label map has" in far[2]


def test_every_kind_of_error_has_a_remedy_of_its_own() -> None:
    kinds = list(catalogue.classes())
    assert kinds[0] is errors.BidsHsfError
    assert all("remedy" in vars(kind) for kind in kinds)
    assert len({kind.remedy for kind in kinds}) == len(kinds) >= 16


def test_options_are_those_of_the_parser_with_their_spellings() -> None:
    table = parser_tables.options("")
    assert all(f"`{flag}" in table for flags in FLAGS.values() for flag in flags)
    assert "`-w`, `--work-dir DIR` | scratch folder" in table
    titles = [group.title for group in build_parser()._action_groups[2:] if group._group_actions]
    assert all(f"## {title.capitalize()}" in table for title in titles)
    assert "hsf-hub fetch" in parser_tables.hub_commands("")


def test_options_of_other_programs_are_told_with_those_of_this_one() -> None:
    table = parser_tables.elsewhere("")
    assert "| `--cores`, `-c`, `--threads`" in table
    assert "| `--nthreads` N is the number of cores |" in table


def test_fields_are_explained_by_their_docstrings() -> None:
    table = code_tables.attributes("sidecars.Localization")
    assert "Template (MNI152 2009c) RAS+ mm to scan RAS+ mm." in table


def test_a_field_that_a_page_shows_must_be_explained(monkeypatch) -> None:
    monkeypatch.setattr(code_tables, "described", lambda kind: [("quality", "float", "")])
    with pytest.raises(ValueError, match=r"sidecars\.Localization\.quality has no line of documentation"):
        code_tables.attributes("sidecars.Localization")


def test_names_that_share_a_type_have_an_entry_each() -> None:
    kept, last = ["Two words, no more : of text", "", "Attributes"], ["c : str"]
    lines = [*kept, "start, stop : tuple of int", "    First, last.", *last]
    docstrings.part_names(None, "class", "x", None, None, lines)
    told = ["start : tuple of int", "    First, last.", "stop : tuple of int", "    First, last."]
    assert lines == [*kept, *told, *last]


def test_scores_are_means_of_the_file(tmp_path, monkeypatch) -> None:
    (tmp_path / "scores.tsv").write_text("case\tlabel\tdice\na\tCA1\t0.5\nb\tCA1\t0.7\nc\tCA1\tn/a\n")
    monkeypatch.setattr(sections, "ROOT", tmp_path)
    assert "| CA1 | 0.600 (0.141) | 3 |" in sections.scores("scores.tsv")


def test_what_a_benchmark_could_not_tell_is_not_a_number_of_the_page(tmp_path, monkeypatch) -> None:
    (tmp_path / "speed.tsv").write_text("way\terror\nnan-free\tnan\n")
    monkeypatch.setattr(sections, "ROOT", tmp_path)
    assert "| nan-free | n/a |" in sections.figures("speed.tsv")


def test_a_section_or_a_link_that_is_not_there_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sections, "ROOT", tmp_path)
    (tmp_path / "guide.md").write_text("# Guide\n\n## First\n\nOne, [two](other.md).\n\n## Second\n\nThree.\n")
    with pytest.raises(ValueError, match="no section 'Third'"):
        sections.section("guide.md Third")
    with pytest.raises(ValueError, match="which is not there"):
        sections.section("guide.md First")
    (tmp_path / "other.md").touch()
    found = sections.section("guide.md First")
    assert found.strip() == "One, [two](https://github.com/clementpoiret/bids-hsf/blob/main/other.md)."

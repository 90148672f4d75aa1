"""The methods text says what ran, and nothing else."""

import itertools
import re
from dataclasses import replace

import pytest
from jinja2 import Environment
from report_pages import write_scan

from bids_hsf.reports import pages
from bids_hsf.reports.methods import Methods, methods_bibtex, methods_html, methods_markdown
from bids_hsf.reports.subject import subject_page
from bids_hsf.segmentation.ballots import SHARES

METHODS = Methods(
    model="bagging_accurate",
    model_version="4.0.0",
    model_license="MIT",
    model_citation="Poiret et al. 2023, doi:10.3389/fninf.2023.1130845",
    labels=("Dentate gyrus", "Subiculum"),
    n_members=5,
    n_augmentations=20,
    contrasts=("T1w", "T2w"),
    provider="OpenVINOExecutionProvider",
    packages={"onnxruntime-openvino": "1.24.1", "SimpleITK": "2.5.7"},
    with_etiv=True,
)
FAST = replace(METHODS, n_members=1, n_augmentations=0, contrasts=("T1w",), voxel_size_mm=1.0, with_etiv=False)


def test_text_says_what_ran():
    text = methods_markdown(METHODS)
    for words in (
        "bagging_accurate 4.0.0 under MIT",
        "Each of the 5 networks",
        "20 copies",
        "105 votes",
        "T1-weighted and T2-weighted",
        "OpenVINO",
        "1.24.1",
        "deformed as TorchIO does",
        "own voxels",
        "Dentate gyrus, Subiculum",
        "Where the whole head is in view, total intracranial volume",
    ):
        assert words in text


def test_text_names_the_software_whose_label_maps_were_used():
    text = methods_markdown(replace(METHODS, label_maps=("freesurfer", "synthseg")))
    assert "label maps of freesurfer or synthseg" in text
    assert "label maps of" not in methods_markdown(METHODS)


def test_text_tells_of_coordinates_where_they_were_written():
    text = methods_markdown(replace(METHODS, with_coordinates=True))
    assert "Unfolded coordinates of grey matter (DeKraker et al., 2022)" in text
    assert "10.7554/eLife.77945" in text
    assert "nfolded" not in methods_markdown(METHODS)


def test_text_tells_a_mirrored_crop_from_deformed_ones():
    text = methods_markdown(replace(METHODS, n_augmentations=1, mirrors_alone=True))
    assert "saw every crop as it is and mirrored." in text
    assert "10 votes" in text
    assert "TorchIO" not in text


def test_text_says_where_views_are_those_of_torchio_itself():
    text = methods_markdown(replace(METHODS, sampling="random", packages={"torchio": "1.2.1"}))
    assert "deformed by TorchIO 1.2.1" in text
    assert "drawn independently, the same copies for all networks" in text
    assert "Sobol" not in text


def test_text_says_how_passes_voted():
    by_shares = methods_markdown(replace(METHODS, ballot=SHARES))
    assert "Each of the 105 passes gave every class of a voxel its probability to the power 1.5" in by_shares
    assert "that over the crop as it is weighted by 0.4" in by_shares
    assert "votes" not in by_shares
    assert "shares" not in methods_markdown(METHODS)


def test_text_says_where_fewer_bits_were_allowed():
    assert "reduced precision" in methods_markdown(replace(METHODS, reduced_precision=True))
    assert "precision" not in methods_markdown(METHODS)


def test_text_leaves_out_what_did_not_run():
    text = methods_markdown(FAST)
    assert "One network" in text
    assert "isotropic voxels of 1 mm" in text
    for words in ("TorchIO", "votes", "T2-weighted", "intracranial", "networks of"):
        assert words not in text
    assert "@article{torchio" not in methods_bibtex(FAST)


@pytest.mark.parametrize("methods", [METHODS, FAST, replace(FAST, provider=None, packages={})])
def test_all_three_cite_the_same_works(methods):
    markdown, page, bibtex = methods_markdown(methods), methods_html(methods), methods_bibtex(methods)
    assert "[@" not in markdown + page
    dois = set(re.findall(r"doi\.org/(\S+)", markdown))
    assert dois == set(re.findall(r"doi = {(\S+)}", bibtex))
    assert dois == set(re.findall(r"doi\.org/([^\s<]+)", page))
    assert set(re.findall(r'href="#(\w+)"', page)) == set(re.findall(r'<li id="(\w+)"', page))
    assert bibtex.count("{") == bibtex.count("}")
    assert methods.model_citation in markdown
    assert methods_markdown(methods) == markdown


def test_bibtex_of_the_card_is_taken_as_it_is():
    entry = "@article{mine,\n  title = {Mine & {\\'E}mile's}\n}"
    assert entry in methods_bibtex(replace(METHODS, model_citation=entry))


@pytest.mark.parametrize("entry", ["@article{mine, title = {Mine}", "@article{mine, title = }}Mine{", "@nobody, 2026"])
def test_bibtex_that_would_spoil_what_follows_is_quoted_instead(entry):
    text = methods_bibtex(replace(METHODS, model_citation=entry))
    assert "@misc{baggingaccurate," in text
    assert balanced(text)


def balanced(text):
    """Count braces as BibTeX does: a backslash before one changes nothing."""
    depths = list(itertools.accumulate((letter == "{") - (letter == "}") for letter in text))
    return min(depths) >= 0 and depths[-1] == 0


HOSTILE = replace(
    METHODS,
    model="<script>x</script>\n\n# {hsf}",
    model_version="1\x1b[31m",
    model_citation="<b>50 % & more_</b> {x \\ ~^$#\r\n@misc{y,} &amp; *z*\n\n- [a](b)",
    model_license="}",
    labels=("<i>", "a\nb"),
)


def test_texts_of_a_card_are_escaped_in_html():
    page = methods_html(HOSTILE)
    for part in ("<script>", "<b>", "<i>", "\x1b"):
        assert part not in page
    assert "&lt;b&gt;50 % &amp; more_&lt;/b&gt;" in page
    assert "&amp;amp; *z* - [a](b)" in page
    assert page.count("<p>") == methods_html(METHODS).count("<p>")


def test_texts_of_a_card_are_escaped_in_bibtex():
    text = methods_bibtex(HOSTILE)
    assert balanced(text)
    assert text.count("\n@") == methods_bibtex(METHODS).count("\n@")
    note = next(line for line in text.splitlines() if line.startswith("  note = "))
    assert r"50 \% \& more\_</b> \textbraceleft{}x \textbackslash{} \textasciitilde{}\textasciicircum{}\$\#" in note


def test_texts_of_a_card_are_escaped_in_markdown():
    text = methods_markdown(HOSTILE)
    assert r"\<b\>50 % & more\_\</b\>" in text
    assert r"\&amp; \*z\* - \[a\](b)" in text
    assert text.count("\n#") == methods_markdown(METHODS).count("\n#")
    assert text.count("\n- ") == methods_markdown(METHODS).count("\n- ")
    assert "\x1b" not in text


def test_a_model_with_the_name_of_a_reference_has_a_key_of_its_own():
    keys = re.findall(r"^@\w+{(\w+),", methods_bibtex(replace(METHODS, model="hsf")), re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert "modelhsf" in keys


def test_accents_are_letters_for_readers_and_codes_for_bibtex():
    assert "Fernando Pérez-García" in methods_markdown(METHODS)
    assert "P{\\'e}rez-Garc{\\'i}a, Fernando" in methods_bibtex(METHODS)


def test_all_templates_of_a_run_can_be_compiled_ahead_of_its_end(tmp_path, monkeypatch):
    write_scan(tmp_path)
    pages._environment.cache_clear()
    pages.prepare_templates()
    monkeypatch.setattr(Environment, "compile", lambda _environment, _source, name, *_: pytest.fail(f"{name} is not"))
    assert subject_page(tmp_path, "01")
    for write in (methods_markdown, methods_html, methods_bibtex):
        assert write(METHODS)

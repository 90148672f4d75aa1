"""Pages of subjects, held against the files that they were made from."""

import json
import logging
import re
from urllib.parse import unquote

import pytest
from report_pages import Page, write_group, write_scan

from bids_hsf.bids.tables import read_tsv
from bids_hsf.files import write_json, write_text
from bids_hsf.reports import group
from bids_hsf.reports.cohort import read_cohort
from bids_hsf.reports.group import write_group_report
from bids_hsf.reports.neighbours import Neighbours, order_of
from bids_hsf.reports.subject import (
    is_up_to_date,
    join_pages,
    subject_page,
    write_subject_report,
)


def group_page(output_dir):
    return group.group_page(output_dir, read_cohort(output_dir))


def test_subject_page_tells_what_the_files_say(tmp_path):
    write_scan(tmp_path)
    text = subject_page(tmp_path, "01")
    page = Page(text)
    volumes = [row["volume_mm3"] for row in read_tsv(next(tmp_path.glob("**/*_dseg.tsv")))]
    shown = page.all("data", "value")
    assert set(volumes) <= set(shown)
    for word in ("sub-01", "bagging", "MIT", "Poiret et al. 2023", "OpenVINOExecutionProvider", "0.9312", "9.8.7"):
        assert word in page.text
    assert "535af004dc7251af" in page.text
    assert "\u22129.5 %" in page.text  # (1 - 1.1) / 1.05
    assert "no remarks" in page.text
    assert "For research use only. Not for clinical use." in page.text


def test_subject_page_has_all_sessions_and_runs_in_order(tmp_path):
    for entities in ("sub-01_ses-b_run-10", "sub-01_ses-b_run-2", "sub-01_ses-a", "sub-010"):
        write_scan(tmp_path, entities)
    page = Page(subject_page(tmp_path, "01"))
    scans = [name for name in page.ids if name.startswith("sub-01") and not name.endswith("-title")]
    assert scans == [f"sub-01_{rest}_T1w-bagging" for rest in ("ses-a", "ses-b_run-2", "ses-b_run-10")]


def test_addresses_lead_somewhere(tmp_path):
    write_scan(tmp_path, "sub-01_ses-1")
    write_scan(tmp_path, "sub-01_ses-1", suffix="T2w", Model={"Name": "other"})
    write_group(tmp_path, 3)
    write_text(tmp_path / "logs" / "CITATION.html", "")
    write_group_report(tmp_path)
    page = Page(write_subject_report(tmp_path, "01").read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    addresses = page.all("a", "href") + page.all("link", "href")
    assert len(page.all("use", "href")) == 0  # the pictures of these scans are empty
    assert "logs/CITATION.html" in addresses
    for address in addresses:
        path, _, fragment = address.partition("#")
        assert not re.match(r"[a-z]+:|/", path)
        if path:
            assert (tmp_path / unquote(path)).is_file()
        elif fragment:
            assert fragment in page.ids
    assert all(set(attributes["for"].split()) <= set(page.ids) for tag, attributes in page.elements if tag == "label")


def test_equal_files_give_equal_pages_without_dates(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_scan(folder)
        write_group(folder, 20)
    assert subject_page(tmp_path / "a", "01") == subject_page(tmp_path / "b", "01")
    assert group_page(tmp_path / "a") == group_page(tmp_path / "b")
    assert "2031" not in subject_page(tmp_path / "a", "01")


def test_names_from_files_are_escaped(tmp_path):
    attack = '<script>alert("1")</script>'
    write_scan(
        tmp_path,
        "sub-<b>",
        volumes=((attack, 100.0),),
        Scan=f"sub-<b>_{attack}_T1w",
        Model={"Name": attack, attack: attack},
        Localization={"Quality": attack},
        Findings=[{"Code": attack, "Weight": "note", "Text": attack}],
    )
    table = next(tmp_path.glob("**/*_dseg.tsv"))
    table.write_text(table.read_text(encoding="utf-8").replace("#2ca02c", "red;background:url(//x)"), encoding="utf-8")
    write_json(tmp_path / "logs" / "sub-<b>" / "sub-<b>_T1w_failure.json", {"Error": attack, "Hint": attack})
    write_group(tmp_path, 9, scan=f"{attack}_T1w", model=attack, findings=attack, participant_id='sub-"><i>')
    for text in (subject_page(tmp_path, "<b>"), group_page(tmp_path)):
        scripts = re.findall(r"<script", text)
        assert len(scripts) == text.count('<script>"use strict"') == 1
        assert "<b></b>" not in text
        assert "<i>" not in text.replace('<i class="swatch"', "")
        assert "url(//x)" not in text
        assert "&lt;script&gt;" in text
        Page(text)


def test_whatever_is_missing_is_left_out(tmp_path):
    write_scan(tmp_path, figures=False)
    table = next(tmp_path.glob("**/*_dseg.tsv"))
    table.with_suffix(".json").unlink()
    next(tmp_path.glob("logs/*/*_provenance.json")).unlink()
    page = Page(subject_page(tmp_path, "01"))
    assert "n/a" in page.text
    assert "Not done: it has no sidecar; run the participant level again" in page.text
    assert page.all("svg", "viewbox") == []
    assert "No finished scan" in Page(subject_page(tmp_path, "02")).text


@pytest.mark.parametrize("content", ["[]", "{", '{"Localization": 3, "Model": [1], "Components": "x", "Request": 1}'])
def test_damaged_sidecars_are_survived(tmp_path, content):
    write_scan(tmp_path)
    next(tmp_path.glob("**/*_dseg.json")).write_text(content, encoding="utf-8")
    assert "450.2" in Page(subject_page(tmp_path, "01")).text


def test_remarks_name_what_is_wrong(tmp_path):
    write_scan(
        tmp_path,
        volumes=(("DG", 0.0), ("CA1", 500.0)),
        Findings=[
            {"Code": f"code-{weight}", "Weight": weight, "Text": text}
            for weight, text in (("fail", "left DG is empty"), ("check", "83% of it"), ("note", "in 3 pieces"))
        ],
    )
    write_json(
        tmp_path / "logs" / "sub-01" / "sub-01_ses-9_T1w_failure.json", {"Error": "truncated file", "Hint": "fetch it"}
    )
    html = subject_page(tmp_path, "01")
    text = Page(html).text
    for level, remark in (("bad", "left DG is empty"), ("warn", "83% of it"), ("note", "in 3 pieces")):
        assert f'<li class="{level}">{remark}</li>' in html
    assert "no remarks" not in text
    assert "truncated file" in text
    assert "fetch it" in text


def test_pictures_have_descriptions_and_tables_headers(tmp_path):
    write_scan(tmp_path)
    page = Page(subject_page(tmp_path, "01"))
    assert [bool(a["aria-label"]) for tag, a in page.elements if tag == "svg"] == [True] * 3
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")


def test_pages_are_written_whole(tmp_path):
    write_scan(tmp_path)
    write_group(tmp_path, 2)
    paths = [write_subject_report(tmp_path, "01"), write_group_report(tmp_path)]
    assert [path.name for path in paths] == ["sub-01.html", "group_volumes.html"]
    assert all(path.read_text(encoding="utf-8").endswith("</html>\n") for path in paths)
    assert not list(tmp_path.rglob(".*"))
    assert json.loads(next(tmp_path.glob("**/*_dseg.json")).read_text(encoding="utf-8"))


def test_scans_with_unknown_volumes_are_shown(tmp_path):
    write_scan(tmp_path)
    table = next(tmp_path.glob("**/*_dseg.tsv"))
    table.write_text(table.read_text(encoding="utf-8").replace("450.25", "n/a"), encoding="utf-8")
    text = Page(subject_page(tmp_path, "01")).text
    assert "the volume of left DG is not known" in text
    assert "Not done" not in text


def test_cut_tables_are_told(tmp_path):
    write_scan(tmp_path)
    table = next(tmp_path.glob("**/*_dseg.tsv"))
    table.write_text(table.read_text(encoding="utf-8")[:-4], encoding="utf-8")
    text = Page(subject_page(tmp_path, "01")).text
    assert "Not done: its table is not whole (its last line does not end); run the participant level again" in text


def test_other_software_in_the_folder_is_passed_over(tmp_path, caplog):
    write_scan(tmp_path)
    (tmp_path / "sub-01/anat/sub-01_desc-aseg_dseg.json").write_text('{"Sources": []}')
    (tmp_path / "sub-01/anat/sub-01_desc-aseg_dseg.tsv").write_bytes(b"index\tname\n2\t\xe9\n")
    with caplog.at_level(logging.WARNING):
        assert "aseg" not in subject_page(tmp_path, "01")
    assert "sub-01_desc-aseg_dseg.json is passed over: bids-hsf did not write it" in caplog.text


def test_models_of_one_scan_are_told_apart_and_so_are_their_maps(tmp_path):
    write_scan(tmp_path)
    anat = tmp_path / "sub-01/anat"
    for name, model in (("other", "other"), ("otherHBT", "other")):
        for ending in ("json", "tsv"):
            text = (anat / f"sub-01_space-T1w_seg-hsf_dseg.{ending}").read_text()
            text = text.replace('"Name": "bagging"', f'"Name": "{model}"')
            text = text.replace('"Scan"', f'"Segmentation": "{name}", "Scan"')
            (anat / f"sub-01_space-T1w_seg-{name}_dseg.{ending}").write_text(text)
    page = Page(subject_page(tmp_path, "01"))
    assert "T1w · other · otherHBT" in page.text
    assert "T1w · bagging" in page.text
    assert len(page.ids) == len(set(page.ids))


def test_a_second_contrast_has_its_own_table(tmp_path):
    joined = {"Scan": "sub-01_T2w", "Quality": 0.8, "DisagreementMm": 0.1, "ReferenceFromScan": [[1, 0], [0, 1]]}
    write_scan(tmp_path, Coregistration=joined, eTIV_mm3=None, eTIVReason="a slab")
    text = Page(subject_page(tmp_path, "01")).text
    assert "Second contrast" in text
    assert "Disagreement mm 0.1" in text
    assert "eTIV Reason a slab" in text


def test_a_page_is_whole_without_the_files_beside_it(tmp_path):
    write_scan(tmp_path)
    for path in tmp_path.glob("sub-01/figures/*"):
        path.write_text(PICTURE, encoding="utf-8")
    text = subject_page(tmp_path, "01")
    page = Page(text)
    assert page.all("img", "src") == []
    # The scan is there once, though three pictures show it.
    assert text.count("AAAA") == 1
    assert [use.lstrip("#") in page.ids for use in page.all("use", "href")] == [True, True]
    assert len(page.ids) == len(set(page.ids))


PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1200 691.5"><image class="scan" x="6" y="6" width="9"
height="9" href="data:image/jpeg;base64,AAAA"/><path class="overlay" d="M0 0l1 1" stroke="#ff0000"/></svg>"""


def test_subjects_are_linked_with_those_beside_them_and_the_group(tmp_path):
    for subject in ("sub-1", "sub-2", "sub-10"):
        write_scan(tmp_path, subject)
    order = order_of(tmp_path)
    assert list(order) == ["1", "2", "10"]
    assert order["2"] == Neighbours("1", "10")
    assert order["10"] == Neighbours("2", "")
    page = Page(subject_page(tmp_path, "2", order["2"]))
    links = [(a.get("rel"), a["href"]) for tag, a in page.elements if tag == "a" and not a["href"].startswith("sub-2/")]
    assert ("prev", "sub-1.html") in links
    assert ("next", "sub-10.html") in links
    assert (None, "group_volumes.html") in links
    assert (None, "review.html") in links


def test_pages_are_joined_once_all_subjects_are_there(tmp_path):
    write_scan(tmp_path, "sub-1")
    alone = order_of(tmp_path)["1"]
    write_subject_report(tmp_path, "1", alone)
    assert is_up_to_date(tmp_path, "1", alone)
    write_scan(tmp_path, "sub-2")
    now = order_of(tmp_path)
    write_subject_report(tmp_path, "2", now["2"])
    assert not is_up_to_date(tmp_path, "1", now["1"])
    assert join_pages(tmp_path) == 1
    assert is_up_to_date(tmp_path, "1", now["1"])
    assert join_pages(tmp_path) == 0


def test_sessions_stand_side_by_side(tmp_path):
    write_scan(tmp_path, "sub-01_ses-1", volumes=(("DG", 400.0), ("CA1", 800.0)))
    write_scan(tmp_path, "sub-01_ses-2", volumes=(("DG", 380.0), ("CA1", 800.0)))
    write_scan(tmp_path, "sub-01_ses-2", suffix="T2w")
    text = Page(subject_page(tmp_path, "01")).text
    assert "Sessions side by side T1w · bagging" in text
    assert re.search(r"DG, left 400\.0 380\.0 \(\u22125\.0 %\)", text)
    assert re.search(r"All structures, left 1 200\.0 1 180\.0 \(\u22121\.7 %\)", text)
    write_scan(tmp_path / "one", "sub-01_ses-1")
    assert "side by side" not in Page(subject_page(tmp_path / "one", "01")).text


def test_volumes_have_their_intervals(tmp_path):
    write_scan(tmp_path)
    table = next(tmp_path.glob("**/*_dseg.tsv"))
    head, *lines = table.read_text(encoding="utf-8").splitlines()
    rows = [f"{head}\tvolume_mm3_low\tvolume_mm3_high", *(f"{line}\t400\t1000" for line in lines)]
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    text = subject_page(tmp_path, "01")
    assert "400.0 \u2013 1\u202f000.0" in text
    assert "--low:40.0%;--high:100.0%" in text
    assert "span the central 95 % of the passes" in text


def test_what_the_true_volume_may_be_is_shown_rather_than_how_far_the_passes_agree(tmp_path):
    write_scan(tmp_path)
    table = next(tmp_path.glob("**/*_dseg.tsv"))
    head, *lines = table.read_text(encoding="utf-8").splitlines()
    names = ("volume_mm3_low", "volume_mm3_high", "volume_mm3_predicted_low", "volume_mm3_predicted_high")
    rows = ["\t".join([head, *names]), *(f"{line}\t400\t410\t300\t1200" for line in lines)]
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    text = subject_page(tmp_path, "01")
    assert "300.0 \u2013 1\u202f200.0" in text
    assert "--low:25.0%;--high:100.0%" in text
    assert "are the 95 % prediction interval of the true volume" in text

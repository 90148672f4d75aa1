"""Pages of subjects, held against the files that they were made from."""

import json
import logging
import re
from urllib.parse import unquote

import pytest
from report_pages import Page, write_group, write_scan

from bids_hsf.bids.tables import read_tsv
from bids_hsf.files import write_json, write_text
from bids_hsf.reports.group import group_page, write_group_report
from bids_hsf.reports.subject import subject_page, write_subject_report


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
    addresses = page.all("a", "href") + page.all("img", "src")
    assert len(page.all("img", "src")) == 12
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
        assert len(scripts) == text.count('<script>"use strict"')
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
    assert page.all("img", "src") == []
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
        assert re.search(f'<span class="chip {level}">\\s*{remark}', html), remark
    assert "no remarks" not in text
    assert "truncated file" in text
    assert "fetch it" in text


def test_pictures_have_descriptions_and_tables_headers(tmp_path):
    write_scan(tmp_path)
    page = Page(subject_page(tmp_path, "01"))
    # The copy without outlines under each picture says nothing of its own.
    assert [bool(a["alt"]) for tag, a in page.elements if tag == "img"] == [False, True] * 3
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

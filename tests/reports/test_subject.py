"""Pages: parsed, and held against the files that they were made from."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest

from bids_hsf.bids.tables import read_tsv, write_tsv
from bids_hsf.files import write_json, write_text
from bids_hsf.reports import subject
from bids_hsf.reports.charts import robust_z, strip_chart

SVG = '<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 1200 691.5"></svg>'
STRUCTURES = (("DG", 450.25), ("CA1", 812.5), ("CA2", 90.75))
VOID = {"meta", "input", "img", "br", "link"}
OPTIONAL = {"td", "th", "tr", "p", "li"}


class Page(HTMLParser):
    """Elements, links, identifiers and text of a page; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)
        self.close()
        assert [tag for tag in self.open if tag not in OPTIONAL] == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.open and self.open[-1] != tag and self.open[-1] in OPTIONAL:
            self.open.pop()
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    def all(self, tag, name):
        return [attributes[name] for kind, attributes in self.elements if kind == tag and name in attributes]

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def write_scan(output_dir, entities="sub-01", *, suffix="T1w", volumes=STRUCTURES, figures=True, **changes):
    """Write a scan's table, sidecar, figures and provenance as the participant level does."""
    subject, stem = entities.split("_")[0], f"{entities}_space-{suffix}_seg-hsf"
    session = re.search(r"_(ses-[^_]+)", entities)
    folder = output_dir / subject / (session[1] if session else "") / "anat"
    rows = [
        {
            "index": index + offset,
            "name": f"{side} {name}",
            "abbreviation": f"{side[0]}_{name}",
            "color": "#2ca02c",
            "mapping": 1,
            "hemisphere": side[0],
            "volume_mm3": round(volume * factor, 2),
            "voxels": 10,
            "entropy_mean": 0.1234,
        }
        for side, offset, factor in (("Left", 0, 1.0), ("Right", 100, 1.1))
        for index, (name, volume) in enumerate(volumes, start=1)
    ]
    write_tsv(folder / f"{stem}_dseg.tsv", list(rows[0]), rows)
    sidecar = {
        "GeneratedBy": {"Name": "bids-hsf", "Version": "9.8.7"},
        "Scan": f"{entities}_{suffix}",
        "Request": {"Model": "bagging", "Members": {"arunet.onnx": "535af004dc7251af"}, "TestTimeAugmentations": 20},
        "Model": {"Name": "bagging", "License": "MIT", "Citation": "Poiret et al. 2023"},
        "Passes": 21,
        "Components": {"L": 1, "R": 1},
        "Localization": {"Quality": 0.9312, "Coverage": {"L": 1.0, "R": 1.0}, "Warnings": []},
        "eTIV_mm3": 1523456,
    }
    write_json(folder / f"{stem}_dseg.json", sidecar | changes)
    write_json(
        output_dir / "logs" / f"{stem}_provenance.json",
        {"Device": {"Provider": "OpenVINOExecutionProvider", "Threads": 2}, "Finished": "2031-04-05T06:07:08"},
    )
    for kind in ("segmentation", "entropy", "localization") if figures else ():
        write_text(output_dir / subject / "figures" / f"{stem}_desc-{kind}_dseg.svg", SVG)


def write_group(output_dir, n, **first):
    """Write a table of `n` scans; `first` changes the first row."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(n):
        row = {
            "participant_id": f"sub-{index:04d}",
            "session_id": None,
            "scan": f"sub-{index:04d}_T1w",
            "model": "bagging",
            "localization_quality": 0.9,
            "warnings": None,
        }
        for side in ("L", "R"):
            row |= {f"{side}_{name}_mm3": round(v * rng.uniform(0.9, 1.1), 2) for name, v in STRUCTURES}
            row[f"{side}_total_mm3"] = round(sum(row[f"{side}_{name}_mm3"] for name, _ in STRUCTURES), 2)
        rows.append(row | {"eTIV_mm3": 1500000} | (first if index == 0 else {}))
    write_tsv(output_dir / "group_volumes.tsv", list(rows[0]), rows)


def test_subject_page_tells_what_the_files_say(tmp_path):
    write_scan(tmp_path)
    text = subject.subject_page(tmp_path, "01")
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
    page = Page(subject.subject_page(tmp_path, "01"))
    scans = [name for name in page.ids if name.startswith("sub-01") and not name.endswith("-title")]
    assert scans == [f"sub-01_{rest}_T1w-bagging" for rest in ("ses-a", "ses-b_run-2", "ses-b_run-10")]


def test_addresses_lead_somewhere(tmp_path):
    write_scan(tmp_path, "sub-01_ses-1")
    write_scan(tmp_path, "sub-01_ses-1", suffix="T2w", Model={"Name": "other"})
    write_group(tmp_path, 3)
    write_text(tmp_path / "logs" / "CITATION.html", "")
    subject.write_group_report(tmp_path)
    page = Page(subject.write_subject_report(tmp_path, "01").read_text(encoding="utf-8"))
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


def test_group_page_links_to_the_sections_of_subject_pages(tmp_path):
    write_scan(tmp_path)
    write_group(tmp_path, 1, participant_id="sub-01", scan="sub-01_T1w")
    link = next(a for a in Page(subject.group_page(tmp_path)).all("a", "href") if a.startswith("sub-01.html"))
    assert link.partition("#")[2] in Page(subject.subject_page(tmp_path, "01")).ids


def test_equal_files_give_equal_pages_without_dates(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_scan(folder)
        write_group(folder, 20)
    assert subject.subject_page(tmp_path / "a", "01") == subject.subject_page(tmp_path / "b", "01")
    assert subject.group_page(tmp_path / "a") == subject.group_page(tmp_path / "b")
    assert "2031" not in subject.subject_page(tmp_path / "a", "01")


def test_names_from_files_are_escaped(tmp_path):
    attack = '<script>alert("1")</script>'
    write_scan(
        tmp_path,
        "sub-<b>",
        volumes=((attack, 100.0),),
        Scan=f"sub-<b>_{attack}_T1w",
        Model={"Name": attack, attack: attack},
        Localization={"Quality": attack, "Warnings": [attack]},
    )
    table = next(tmp_path.glob("**/*_dseg.tsv"))
    table.write_text(table.read_text(encoding="utf-8").replace("#2ca02c", "red;background:url(//x)"), encoding="utf-8")
    write_json(tmp_path / "logs" / "sub-<b>_T1w_failure.json", {"Error": attack, "Hint": attack})
    write_group(tmp_path, 9, scan=f"{attack}_T1w", model=attack, warnings=attack, participant_id='sub-"><i>')
    for text in (subject.subject_page(tmp_path, "<b>"), subject.group_page(tmp_path)):
        scripts = re.findall(r"<script", text)
        assert len(scripts) == text.count('<script>"use strict"')
        assert "<b></b>" not in text
        assert "<i>" not in text.replace('<i class="swatch"', "")
        assert "url(//x)" not in text
        assert "&lt;script&gt;" in text
        Page(text)


def test_policy_allows_the_own_script_alone(tmp_path):
    write_group(tmp_path, 3)
    text = subject.group_page(tmp_path)
    policy = next(a["content"] for tag, a in Page(text).elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "http" not in policy


def test_whatever_is_missing_is_left_out(tmp_path):
    write_scan(tmp_path, figures=False)
    table = next(tmp_path.glob("**/*_dseg.tsv"))
    table.with_suffix(".json").unlink()
    next(tmp_path.glob("logs/*_provenance.json")).unlink()
    page = Page(subject.subject_page(tmp_path, "01"))
    assert "n/a" in page.text
    assert "Not done: it has no sidecar; run the participant level again" in page.text
    assert page.all("img", "src") == []
    assert "No finished scan" in Page(subject.subject_page(tmp_path, "02")).text


@pytest.mark.parametrize("content", ["[]", "{", '{"Localization": 3, "Model": [1], "Components": "x", "Request": 1}'])
def test_damaged_sidecars_are_survived(tmp_path, content):
    write_scan(tmp_path)
    next(tmp_path.glob("**/*_dseg.json")).write_text(content, encoding="utf-8")
    assert "450.2" in Page(subject.subject_page(tmp_path, "01")).text


def test_remarks_name_what_is_wrong(tmp_path):
    write_scan(
        tmp_path,
        volumes=(("DG", 0.0), ("CA1", 500.0)),
        Components={"L": 1, "R": 3},
        Localization={"Quality": 0.4, "Coverage": {"L": 1.0, "R": 0.83}, "Warnings": ["poor fit", "83% of it"]},
    )
    write_json(tmp_path / "logs" / "sub-01_ses-9_T1w_failure.json", {"Error": "truncated file", "Hint": "fetch it"})
    text = Page(subject.subject_page(tmp_path, "01")).text
    for remark in ("poor fit", "83% of it", "right side came out in 3 pieces", "left DG is empty"):
        assert remark in text
    assert "in the field of view" not in text  # localization has warned of it already
    assert "no remarks" not in text
    assert "truncated file" in text
    assert "fetch it" in text


def test_pictures_have_descriptions_and_tables_headers(tmp_path):
    write_scan(tmp_path)
    page = Page(subject.subject_page(tmp_path, "01"))
    # The copy without outlines under each picture says nothing of its own.
    assert [bool(a["alt"]) for tag, a in page.elements if tag == "img"] == [False, True] * 3
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")


@pytest.mark.parametrize("n", [1, 5000])
def test_group_page_of_any_size(tmp_path, n):
    write_group(tmp_path, n)
    text = subject.group_page(tmp_path)
    page = Page(text)
    assert len(text.encode()) < 2_000_000
    rows = read_tsv(tmp_path / "group_volumes.tsv")
    assert page.text.count("_T1w") >= n
    assert f"{float(rows[-1]['L_total_mm3']):.0f}" in page.text
    assert len([tag for tag, _ in page.elements if tag == "circle"]) <= 2500
    medians = re.findall(r"median ([\d.\u202f]+)", " ".join(page.all("svg", "aria-label")))
    expected = np.median([float(row["L_total_mm3"]) for row in rows])
    assert medians[0].replace("\u202f", "") == f"{expected:.1f}"


def test_group_page_of_no_scan(tmp_path):
    write_tsv(tmp_path / "group_volumes.tsv", ["participant_id", "scan"], [])
    assert "No scan" in Page(subject.group_page(tmp_path)).text


def test_outliers_are_named(tmp_path):
    write_group(tmp_path, 40, L_CA1_mm3=301.0, R_CA2_mm3=None)
    text = subject.group_page(tmp_path)
    page = Page(text)
    assert "sub-0000 L CA1 301.0" in page.text
    assert re.search(r"class=o>301\b", text)
    assert "1 to look at" in page.text
    assert "n/a" in page.text


def test_models_and_contrasts_are_judged_apart(tmp_path):
    write_group(tmp_path, 10)
    rows = read_tsv(tmp_path / "group_volumes.tsv")
    for row in rows.copy():
        tripled = {name: 3 * float(value) for name, value in row.items() if "_mm3" in name}
        rows.append(row | {"scan": row["scan"].replace("T1w", "T2w")} | tripled)
    write_tsv(tmp_path / "group_volumes.tsv", list(rows[0]), rows)
    page = Page(subject.group_page(tmp_path))
    assert "bagging, T1w 10 scans" in page.text
    assert "bagging, T2w 10 scans" in page.text
    assert "0 to look at" in page.text


def test_robust_z_needs_enough_scans_and_spread():
    assert not robust_z(np.array([1.0, 1, 1, 1, 1, 1, 1, 99])).any()
    assert not robust_z(np.array([1.0, 2, 3, 99])).any()
    values = np.array([10.0, 11, 12, 13, 14, 15, 16, 17, 90, np.nan])
    scores = robust_z(values)
    assert scores[8] > 3.5
    assert np.abs(np.delete(scores, 8)).max() < 3.5


def test_strip_chart_keeps_order_and_outliers():
    values = np.sin(np.arange(2000)) * 50 + 500
    values[1234] = 2000
    chart = strip_chart("CA1", {"L": values, "R": np.full(2000, np.nan)}, [f"scan{i}" for i in range(2000)])
    (strip,) = chart.strips
    assert strip.n == 2000
    assert "scan1234" in [name.text for name in strip.names]
    by_value = sorted(strip.points, key=lambda point: point.value)
    assert [p.y for p in by_value] == sorted((p.y for p in by_value), reverse=True)
    assert strip.high <= strip.third <= strip.median <= strip.first <= strip.low  # heights count from the top
    assert len(strip.points) + chart.n_hidden == 2000


def test_names_beside_a_strip_do_not_overlap():
    values = np.concatenate([np.linspace(100, 110, 50), np.full(5, 400.0)])
    (strip,) = strip_chart("x", {"L": values}, [f"s{i}" for i in range(55)]).strips
    heights = sorted(name.y for name in strip.names)
    assert len(heights) == 5
    assert min(np.diff(heights)) >= 11


def test_pages_are_written_whole(tmp_path):
    write_scan(tmp_path)
    write_group(tmp_path, 2)
    paths = [subject.write_subject_report(tmp_path, "01"), subject.write_group_report(tmp_path)]
    assert [path.name for path in paths] == ["sub-01.html", "group_volumes.html"]
    assert all(path.read_text(encoding="utf-8").endswith("</html>\n") for path in paths)
    assert not list(tmp_path.rglob(".*"))
    assert json.loads(next(tmp_path.glob("**/*_dseg.json")).read_text(encoding="utf-8"))

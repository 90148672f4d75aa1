"""The group's page, held against the table that it was made from."""

import base64
import hashlib
import json
import logging
import re

import numpy as np
import pytest
from report_pages import Page, write_group, write_judged, write_scan

from bids_hsf.bids.tables import read_tsv, write_tsv
from bids_hsf.reports import group
from bids_hsf.reports.cohort import read_cohort
from bids_hsf.reports.subject import subject_page


def group_page(output_dir):
    return group.group_page(output_dir, read_cohort(output_dir))


def test_group_page_links_to_the_sections_of_subject_pages(tmp_path):
    write_scan(tmp_path)
    write_group(tmp_path, 1, participant_id="sub-01", scan="sub-01_T1w")
    link = next(a for a in Page(group_page(tmp_path)).all("a", "href") if a.startswith("sub-01.html"))
    assert link.partition("#")[2] in Page(subject_page(tmp_path, "01")).ids


def test_policy_allows_the_own_script_alone(tmp_path):
    write_group(tmp_path, 3)
    text = group_page(tmp_path)
    policy = next(a["content"] for tag, a in Page(text).elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "http" not in policy


@pytest.mark.parametrize("n", [1, 5000])
def test_group_page_of_any_size(tmp_path, n):
    write_group(tmp_path, n)
    text = group_page(tmp_path)
    page = Page(text)
    assert len(text.encode()) < 2_000_000
    rows = read_tsv(tmp_path / "group_volumes.tsv")
    assert page.text.count("_T1w") == min(n, 1000)
    assert f"{float(rows[0]['L_total_mm3']):.0f}" in page.text
    assert len([tag for tag, _ in page.elements if tag == "circle"]) <= 2500
    medians = re.findall(r"median ([\d.\u202f]+)", " ".join(page.all("svg", "aria-label")))
    expected = np.median([float(row["L_total_mm3"]) for row in rows])
    assert medians[0].replace("\u202f", "") == f"{expected:.1f}"


def test_group_page_of_no_scan(tmp_path):
    write_tsv(tmp_path / "group_volumes.tsv", ["participant_id", "scan"], [])
    assert "No scan" in Page(group_page(tmp_path)).text


def test_outliers_are_named(tmp_path):
    write_group(tmp_path, 40, L_CA1_mm3=301.0, R_CA2_mm3=None)
    text = group_page(tmp_path)
    page = Page(text)
    assert re.search(r"sub-0000 [\d.]+ L CA1 \u2212[\d.]+", page.text)
    assert "1 to look at" in page.text
    assert "n/a" in page.text


def test_models_and_contrasts_are_judged_apart(tmp_path):
    write_group(tmp_path, 10)
    rows = read_tsv(tmp_path / "group_volumes.tsv")
    for row in rows.copy():
        tripled = {name: 3 * float(value) for name, value in row.items() if name.endswith("_mm3")}
        rows.append(row | {"scan": row["scan"].replace("T1w", "T2w"), "suffix": "T2w"} | tripled)
    write_judged(tmp_path, rows)
    page = Page(group_page(tmp_path))
    assert "bagging, T1w 10 scans" in page.text
    assert "bagging, T2w 10 scans" in page.text
    assert "0 to look at" in page.text


def test_settings_part_the_charts_and_are_named(tmp_path):
    write_group(tmp_path, 10)
    rows = read_tsv(tmp_path / "group_volumes.tsv")
    rows += [row | {"scan": f"{row['scan']}2", "test_time_augmentations": "20"} for row in rows]
    write_judged(tmp_path, rows)
    assert "bagging, T1w, test time augmentations 20 10 scans" in Page(group_page(tmp_path)).text


def test_scans_without_a_result_are_rows_with_their_reason(tmp_path):
    write_group(tmp_path, 9, status="failed", status_reason="The file is cut", findings=None)
    text = group_page(tmp_path)
    assert "9 scans of 9 subjects; 1 to look at, 1 without result" in Page(text).text
    assert "The file is cut" in Page(text).text
    assert "sub-0000.html" not in text


def test_findings_stand_beside_the_scan(tmp_path):
    write_group(tmp_path, 9, findings="Blurred.", worst_finding="check")
    table = group_page(tmp_path).partition('id="table"')[2]
    assert re.findall(r'<th scope="col">([^<]+)', table)[:2] == ["Scan", "findings"]
    assert re.search(r"<tr class=f><th scope=row><a[^>]*>sub-0000_T1w</a><td>Blurred.<td>", table)


def test_every_row_of_a_large_table_can_be_found(tmp_path):
    write_group(tmp_path, 2100, findings="look at it", worst_finding="check")
    text = group_page(tmp_path)
    page = Page(text)
    assert "The search goes through all 2100 rows; without it 1000 are shown" in page.text
    rows = json.loads(re.search(r'id="rows">(.*?)</script>', text, re.DOTALL)[1])
    assert sorted(row[0] for row in rows) == [f"sub-{i:04d}_T1w" for i in range(2100)]
    assert page.text.index("sub-0000_T1w") < page.text.index("sub-0999_T1w")


def test_points_are_links_of_which_the_odd_ones_alone_stop_the_tabulator(tmp_path):
    write_group(tmp_path, 40, L_CA1_mm3=301.0)
    page = Page(group_page(tmp_path))
    points = [a for tag, a in page.elements if tag == "a" and "tabindex" in a]
    assert {point["tabindex"] for point in points} == {"-1"}
    assert len(points) > 100
    charts = [a for tag, a in page.elements if tag == "svg"]
    assert {chart["role"] for chart in charts} == {"group"}


def test_volumes_are_charted_by_covariate_side_and_session(tmp_path):
    write_group(tmp_path, 20)
    rows = read_tsv(tmp_path / "group_volumes.tsv")
    for index, row in enumerate(rows):
        subject = f"sub-{index // 2:02d}"
        row |= {"participant_id": subject, "session_id": f"ses-{index % 2}", "age": str(30 + index), "site": "Caen"}
    write_judged(tmp_path, rows)
    text = group_page(tmp_path)
    titles = " ".join(Page(text).all("svg", "aria-label"))
    for title, n in (("By age", 40), ("Left against right", 20), ("By session", 40)):
        assert f"{title}, volume of all structures in mm³, {n} points." in titles
    assert text.count('class="course"') == 1 + 2 * (10 * 2)
    assert "By site" not in text


def test_long_names_of_sessions_and_covariates_have_room_below_their_axes(tmp_path):
    write_group(tmp_path, 20)
    rows = read_tsv(tmp_path / "group_volumes.tsv")
    covariate = "years_" * 15 + "old"
    for index, row in enumerate(rows):
        session = ("ses-1", "ses-SecondVisitAfterManyYears", "ses-baseline24", "ses-x")[index % 4]
        row |= {"participant_id": f"sub-{index // 4:02d}", "session_id": session, covariate: str(30 + index)}
    write_judged(tmp_path, rows)
    ticks = re.findall('<text class="x-tick"[^>]*>([^<]*)</text>', group_page(tmp_path))
    assert {"ses-1", "baseline24", "Secon…Years"} <= set(ticks)
    assert max(map(len, ticks)) <= 55


@pytest.mark.parametrize("content", [b"", b"participant_id\tscan\n\xff\n", b"scan\tL_x_mm3\nsub-1_T1w\tmuch\n", None])
def test_a_table_that_is_not_whole_is_told_and_shows_no_scan(tmp_path, caplog, content):
    if content is not None:
        (tmp_path / "group_volumes.tsv").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert "No scan" in Page(group_page(tmp_path)).text
    assert ("group_volumes.tsv is passed over" in caplog.text) == (content is not None)


def test_names_with_signs_are_charted(tmp_path):
    rows = [{"participant_id": f"sub-{i}", "scan": f"sub-{i}_T1w", "model": "m", "status": "done"} for i in range(9)]
    for side in ("L", "R"):
        rows = [row | {f"{side}_CA1-3_mm3": 800.0 + i, f"{side}_DG_mm3": 90.0} for i, row in enumerate(rows)]
    write_tsv(tmp_path / "group_volumes.tsv", list(rows[0]), rows)
    assert "CA1-3, volume in mm³." in " ".join(Page(group_page(tmp_path)).all("svg", "aria-label"))

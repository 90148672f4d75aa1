"""The contact sheet, held against the table that it was made from; tests/browser clicks through it."""

import json
import re

import pytest
from report_pages import Page, write_group, write_judged, write_scan

from bids_hsf.bids.tables import read_tsv
from bids_hsf.reports import review
from bids_hsf.reports.cohort import read_cohort


def review_page(output_dir):
    return review.review_page(output_dir, read_cohort(output_dir))


def scans_of(text):
    """What the page's script is given, one mapping a card."""
    told = json.loads(re.search(r'<script type="application/json" id="scans">(.*?)</script>', text, re.DOTALL)[1])
    cards = []
    for place, scan in enumerate(told["columns"]["scan"]):
        card = {"scan": scan} | {name: values[place] for name, values in told["columns"].items()}
        card |= {name: each["values"][each["codes"][place]] for name, each in told["choices"].items()}
        cards.append(card)
    return cards, told


def change_rows(output_dir, changes):
    rows = read_tsv(output_dir / "group_volumes.tsv")
    for index, change in changes.items():
        rows[index] |= change
    write_judged(output_dir, rows)


def test_the_worst_come_first_and_what_is_missing_last(tmp_path):
    write_group(tmp_path, 20)
    blurred = {"findings": "The scan is blurred.", "worst_finding": "note"}
    doubtful = {"findings": "The localization is doubtful.", "worst_finding": "check"}
    changes = {
        3: blurred,
        5: {"findings": "In three pieces.", "worst_finding": "fail", "L_predicted_dice": "0.5"},
        6: {"findings": "In three pieces.", "worst_finding": "fail", "L_predicted_dice": "0.3"},
        7: doubtful | {"L_predicted_dice": "0.8", "R_predicted_dice": "0.7"},
        9: {"status": "failed", "status_reason": "The file is cut."},
        11: {"status": "missing"},
        12: {"R_CA1_mm3": "9000"},
    }
    change_rows(tmp_path, changes)
    text = review_page(tmp_path)
    cards, _ = scans_of(text)
    order = [int(card["scan"][4:8]) for card in cards]
    assert order[:6] == [9, 6, 5, 7, 12, 3]
    assert order[-1] == 11
    assert cards[0]["remark"] == "The file is cut."
    assert cards[4]["weight"] == "check"
    assert cards[4]["remark"].startswith("far from the others (robust z): R CA1 +")
    assert cards[3]["dice"] == 0.7
    assert "20 scans of 20 subjects; 5 to look at" in Page(text).text


def test_cards_have_figures_of_the_participant_level(tmp_path):
    write_scan(tmp_path, "sub-01_ses-2_run-1")
    scan = "sub-01_ses-2_run-1_T1w"
    write_group(tmp_path, 1, participant_id="sub-01", session_id="ses-2", scan=scan, segmentation="hsf")
    (card,), _ = scans_of(review_page(tmp_path))
    assert (tmp_path / "sub-01/figures" / f"{card['stem']}_desc-segmentation_dseg.svg").is_file()
    assert (card["session"], card["contrast"], card["model"]) == ("ses-2", "T1w", "bagging")


def test_sites_are_filtered_by_and_ages_are_not(tmp_path):
    write_group(tmp_path, 30)
    change_rows(tmp_path, {i: {"site": "AB"[i % 2], "age": str(20 + i), "note": f"unlike {i}"} for i in range(30)})
    _, told = scans_of(review_page(tmp_path))
    assert {name for name in told["choices"] if name.startswith("other ")} == {"other site"}
    assert told["choices"]["other site"]["title"] == "Site"


def test_ratings_of_the_table_are_shown(tmp_path):
    write_group(tmp_path, 9)
    change_rows(
        tmp_path,
        {2: {"qc": "exclude", "qc_comment": "moved", "qc_rated_at": "2026-01-02"}, 4: {"qc": "good"}, 5: {"qc": "n/a"}},
    )
    cards, told = scans_of(review_page(tmp_path))
    found = {cards[number]["scan"]: rest for number, *rest in told["ratings"]}
    assert found == {"sub-0002_T1w": ["exclude", "moved", "2026-01-02"], "sub-0004_T1w": ["good", "", ""]}


def test_joined_labels_of_one_model_are_one_card(tmp_path):
    write_group(tmp_path, 9)
    rows = [row | {"segmentation": "hsf"} for row in read_tsv(tmp_path / "group_volumes.tsv")]
    write_judged(tmp_path, [*rows, rows[0] | {"segmentation": "hsfHBT"}, rows[1] | {"model": "other"}])
    cards, _ = scans_of(review_page(tmp_path))
    assert len(cards) == 10
    assert [card["model"] for card in cards].count("other") == 1


def test_names_with_markup_stay_text(tmp_path):
    attack = "</script><script>alert('1')</script><!--"
    write_group(tmp_path, 9, scan=f"{attack}_T1w", model=attack, findings=attack, worst_finding="check")
    text = review_page(tmp_path)
    assert len(re.findall("<script", text)) == 2
    assert "alert(" not in re.sub(r"\\u003cscript>alert", "", text)
    assert scans_of(text)[0][0]["remark"] == attack


def test_no_scan_no_card(tmp_path):
    cards, told = scans_of(review_page(tmp_path))
    assert cards == []
    assert told["ratings"] == []


@pytest.mark.parametrize("n", [1, 3000])
def test_equal_tables_give_equal_pages_and_a_scan_costs_little(tmp_path, n):
    write_group(tmp_path, n)
    text = review_page(tmp_path)
    assert text == review_page(tmp_path)
    assert len(text.encode()) < 46_000 + 200 * n
    Page(text)

"""The contact sheet, clicked through."""

from pathlib import Path

import pytest
from report_pages import write_group, write_scan

from bids_hsf.bids.ratings import read_ratings
from bids_hsf.bids.tables import read_tsv, write_tsv
from bids_hsf.files import write_text
from bids_hsf.reports.group import write_group_report
from bids_hsf.reports.subject import write_subject_report

ATTACK = '<img src=x onerror="document.title=1"><b>bold</b>'


@pytest.fixture
def output_dir(tmp_path):
    """Sixty scans of thirty subjects; one is flagged, one failed, one is named to do harm."""
    write_group(tmp_path, 60)
    path = tmp_path / "group_volumes.tsv"
    rows = read_tsv(path)
    for index, row in enumerate(rows):
        subject, session = f"sub-{index // 2:02d}", f"ses-{index % 2 + 1}"
        row |= {"participant_id": subject, "session_id": session, "scan": f"{subject}_{session}_T1w"}
        row |= {"segmentation": "hsf", "site": ("Caen", "Lyon")[index % 4 // 2], "status": "done"}
    rows[7] |= {"findings": f"Blurred {ATTACK}", "worst_finding": "fail"}
    rows[9] |= {"status": "failed", "status_reason": "The file is cut short"}
    write_tsv(path, list(dict.fromkeys(name for row in rows for name in row)), rows)
    for session in ("ses-1", "ses-2"):
        write_scan(tmp_path, f"sub-03_{session}", Segmentation="hsf")
    for kind in ("thumbnail", "segmentation"):
        write_text(tmp_path / f"sub-04/figures/sub-04_ses-1_space-T1w_seg-hsf_desc-{kind}_dseg.svg", SMALL)
    write_group_report(tmp_path)
    write_subject_report(tmp_path, "03")
    return tmp_path


SMALL = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 262" width="360" height="262"/>'


@pytest.fixture
def page(output_dir, open_page):
    return open_page(output_dir / "review.html")


@pytest.fixture
def by_name(page):
    page.get_by_label("Order").select_option("by name")
    return page


def titles(page):
    return [text.strip() for text in page.locator(".card h3").all_inner_texts()]


def card(page, scan):
    return page.locator(".card").filter(has=page.locator("h3", has_text=scan))


def exported(page, folder: Path) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Export qc.tsv").click()
    assert download.value.suggested_filename == "qc.tsv"
    path = folder / "exported" / "qc.tsv"
    download.value.save_as(path)
    assert path.read_text(encoding="utf-8").splitlines()[0] == "scan\tmodel\trating\tcomment\trated_at"
    return read_tsv(path)


def test_the_worst_come_first_a_page_at_a_time(page):
    assert titles(page)[:2] == ["sub-04_ses-2_T1w", "sub-03_ses-2_T1w"]
    assert len(titles(page)) == 48
    page.get_by_role("button", name="Later").click()
    assert len(titles(page)) == 12
    assert "Page 2 of 2" in page.locator("#place").inner_text()


def test_names_with_markup_stay_text(page):
    remark = card(page, "sub-03_ses-2_T1w").locator(".remark")
    assert ATTACK.replace('"', "'") in remark.inner_text()  # no cell of the table has quotes
    assert page.locator(".remark img, .remark b").count() == 0
    assert page.title() == "Review · bids-hsf"


def test_ratings_by_click_are_kept_and_exported(by_name, output_dir, open_page):
    card(by_name, "sub-03_ses-2_T1w").get_by_role("button", name="exclude").click()
    field = card(by_name, "sub-03_ses-2_T1w").get_by_label("Comment on")
    field.fill('"moved", a lot\tand again')
    card(by_name, "sub-10_ses-1_T1w").get_by_role("button", name="good").click()
    assert "2 of 60 rated: 1 good, 0 usable, 1 exclude" in by_name.locator("#progress").inner_text()
    rows = {row["scan"]: row for row in exported(by_name, output_dir)}
    assert set(rows) == {"sub-03_ses-2_T1w", "sub-10_ses-1_T1w"}
    assert rows["sub-03_ses-2_T1w"]["rating"] == "exclude"
    assert rows["sub-03_ses-2_T1w"]["comment"] == "'moved', a lot and again"
    # The group level reads what the page writes.
    taken = read_ratings(output_dir / "exported" / "qc.tsv")
    assert taken.of("sub-03_ses-2_T1w", "bagging").comment == "'moved', a lot and again"
    assert taken.of("sub-10_ses-1_T1w", "bagging").rating == "good"
    assert rows["sub-10_ses-1_T1w"]["model"] == "bagging"
    assert rows["sub-10_ses-1_T1w"]["comment"] == "n/a"
    assert rows["sub-10_ses-1_T1w"]["rated_at"].endswith("Z")
    again = open_page(output_dir / "review.html")
    # Another tab's storage is told a moment later where the machine is busy; the page draws itself anew then.
    again.get_by_text("2 of 60 rated: 1 good, 0 usable, 1 exclude").wait_for()
    again.get_by_label("Order").select_option("by name")
    assert card(again, "sub-10_ses-1_T1w").get_by_role("button", name="good").get_attribute("aria-pressed") == "true"
    assert card(again, "sub-03_ses-2_T1w").get_by_label("Comment on").input_value() == "'moved', a lot and again"


def test_what_another_tab_rates_shows_here(by_name, output_dir, open_page):
    other = open_page(output_dir / "review.html")
    card(by_name, "sub-10_ses-1_T1w").get_by_role("button", name="good").click()
    other.get_by_text("1 of 60 rated: 1 good, 0 usable, 0 exclude").wait_for()
    other.get_by_label("Show").select_option("good")
    assert titles(other) == ["sub-10_ses-1_T1w"]


@pytest.mark.parametrize("comment", ["=cmd|'/c calc'!A1", "+1 look again", "-2 mm too low", "@home"])
def test_no_comment_becomes_a_formula(by_name, output_dir, open_page, comment):
    card(by_name, "sub-10_ses-1_T1w").get_by_role("button", name="good").click()
    card(by_name, "sub-10_ses-1_T1w").get_by_label("Comment on").fill(comment)
    assert [row["comment"] for row in exported(by_name, output_dir)] == [f"'{comment}"]
    assert read_ratings(output_dir / "exported" / "qc.tsv").of("sub-10_ses-1_T1w", "bagging").comment == comment
    by_name.evaluate("localStorage.clear()")
    again = open_page(output_dir / "review.html")
    again.get_by_label("Order").select_option("by name")
    again.locator("#file").set_input_files(output_dir / "exported" / "qc.tsv")
    again.get_by_text("1 rating(s) taken").wait_for()
    assert card(again, "sub-10_ses-1_T1w").get_by_label("Comment on").input_value() == comment


def test_ratings_by_key(page, output_dir):
    for key in ("g", "x", "ArrowRight", "u", "k"):
        page.keyboard.press(key)
    first, second, _, fourth = titles(page)[:4]
    rows = {row["scan"]: row["rating"] for row in exported(page, output_dir)}
    assert rows == {first: "good", second: "exclude", fourth: "usable"}
    page.keyboard.press("c")
    page.keyboard.type("good dog")  # letters of a comment rate nothing
    page.keyboard.press("Enter")
    page.keyboard.press("0")
    rows = {row["scan"]: (row["rating"], row["comment"]) for row in exported(page, output_dir)}
    assert rows[fourth] == ("n/a", "good dog")


def test_keys_can_be_switched_off(page, output_dir):
    page.get_by_role("checkbox", name="keys").uncheck()
    page.keyboard.press("g")
    assert exported(page, output_dir) == []


def test_import_takes_newer_ratings_and_tells_what_it_cannot_take(by_name, output_dir):
    card(by_name, "sub-10_ses-1_T1w").get_by_role("button", name="good").click()
    lines = [
        "model\tscan\trating\tcomment\trated_at",
        "bagging\tsub-10_ses-1_T1w\texclude\tn/a\t2001-01-01T00:00:00Z",
        "bagging\tsub-11_ses-1_T1w\tusable\tfine\t2001-01-01T00:00:00Z",
        "bagging\tsub-99_T1w\tgood\tn/a\t2001-01-01T00:00:00Z",
        "bagging\tsub-12_ses-1_T1w\twonderful\tn/a\tn/a",
    ]
    path = output_dir / "theirs.tsv"
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    by_name.locator("#file").set_input_files(path)
    said = by_name.locator("#said")
    said.get_by_text("2 rating(s) taken").wait_for()
    for part in ("1 are newer here and stay", "1 are of scans that this page does not have", "no rating: 5"):
        assert part in said.inner_text()
    rows = {row["scan"]: (row["rating"], row["comment"]) for row in exported(by_name, output_dir)}
    assert rows == {
        "sub-10_ses-1_T1w": ("good", "n/a"),
        "sub-11_ses-1_T1w": ("usable", "fine"),
        "sub-99_T1w": ("good", "n/a"),
    }
    workbook = output_dir / "qc.xlsx"
    workbook.write_bytes(b"PK\x03\x04\x14")
    by_name.locator("#file").set_input_files(workbook)
    said.get_by_text("qc.xlsx is a workbook: save it as text.").wait_for()
    other = output_dir / "other.tsv"
    other.write_text("a\tb\n1\t2\n")
    by_name.locator("#file").set_input_files(other)
    said.get_by_text("other.tsv is no qc.tsv: it has no column scan, rating.").wait_for()


SCAN = "sub-10_ses-1_T1w"
TABLE = [["scan", "rating", "comment"], [SCAN, "Good", '"Höhe; ""quer"""'], ["", "", ""], ["sub-99_T1w", "", ""]]


@pytest.mark.parametrize(("separator", "coding"), [(";", "utf-8-sig"), ("\t", "utf-16"), (",", "cp1252")])
def test_what_a_spreadsheet_has_saved_is_taken(page, output_dir, separator, coding):
    path = output_dir / "qc.csv"
    end = "\r" if coding == "cp1252" else "\r\n"
    path.write_bytes(end.join(map(separator.join, TABLE)).encode(coding))
    page.locator("#file").set_input_files(path)
    page.get_by_text("1 rating(s) taken from qc.csv.").wait_for()
    rows = exported(page, output_dir)
    told = {name: rows[0][name] for name in ("scan", "model", "rating", "comment", "rated_at")}
    assert len(rows) == 1
    assert told == {"scan": SCAN, "model": "bagging", "rating": "good", "comment": "Höhe; 'quer'", "rated_at": "n/a"}


def test_where_two_raters_differ_it_is_said(by_name, output_dir):
    card(by_name, SCAN).get_by_role("button", name="good").click()
    path = output_dir / "theirs.tsv"
    lines = ["scan\trating\trated_at", f"{SCAN}\texclude\t2001-01-01", "sub-99_T1w\tgood\t2001-01-01"]
    path.write_text("\n".join(lines))
    by_name.locator("#file").set_input_files(path)
    words = f"1 were rated otherwise here: {SCAN} (good here, exclude there; good stays)"
    by_name.get_by_text(words).wait_for()
    assert "1 more of scans that are not here: sub-99_T1w." in by_name.locator("#progress").inner_text()
    lines[1] = f"{SCAN}\tusable\t2099-01-01T10:00:00+02:00"
    path.write_text("\n".join(lines))
    by_name.locator("#file").set_input_files(path)
    by_name.get_by_text("(good here, usable there; usable stays)").wait_for()
    rows = {row["scan"]: (row["rating"], row["rated_at"]) for row in exported(by_name, output_dir)}
    assert rows[SCAN] == ("usable", "2099-01-01T08:00:00Z")


def test_what_others_wrote_into_the_browser_does_no_harm(page, output_dir):
    page.keyboard.press("g")
    page.evaluate(
        """() => { const name = Object.keys(localStorage).find((each) => each.startsWith("bids-hsf qc"));
        const folder = name.split(" ").slice(0, 3).join(" ");
        localStorage.setItem(`${folder} a\tb`, "{");
        localStorage.setItem(`${folder} c\td`, '{"rating": "<b>", "comment": 3}'); }"""
    )
    page.reload()
    assert "1 of 60 rated: 1 good" in page.locator("#progress").inner_text()
    assert [row["rating"] for row in exported(page, output_dir)] == ["good"]


def test_keys_of_any_keyboard(page, output_dir):
    for key, code in (("G", "KeyG"), ("п", "KeyG"), ("ö", "Semicolon"), ("Ч", "KeyX")):
        page.evaluate(
            "([key, code]) => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, code, bubbles: true}))",
            [key, code],
        )
    assert sorted(row["rating"] for row in exported(page, output_dir)) == ["exclude", "good", "good"]


def test_a_key_that_is_held_down_rates_once(page, output_dir):
    for _ in range(4):
        page.keyboard.down("u")
    page.keyboard.up("u")
    assert len(exported(page, output_dir)) == 1


def test_what_is_exported_comes_back_with_another_folder(by_name, output_dir, open_page):
    card(by_name, "sub-10_ses-1_T1w").get_by_role("button", name="usable").click()
    before = exported(by_name, output_dir)
    elsewhere = output_dir / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "review.html").write_bytes((output_dir / "review.html").read_bytes())
    other = open_page(elsewhere / "review.html")
    assert exported(other, elsewhere) == []  # another folder's ratings are not this one's
    other.locator("#file").set_input_files(output_dir / "exported" / "qc.tsv")
    other.get_by_text("1 rating(s) taken").wait_for()
    assert exported(other, elsewhere) == before


def test_filters(page):
    page.get_by_label("Show").select_option("flagged")
    assert titles(page) == ["sub-04_ses-2_T1w", "sub-03_ses-2_T1w"]
    page.get_by_label("Show").select_option("undone")
    assert titles(page) == ["sub-04_ses-2_T1w"]
    assert "The file is cut short" in page.locator(".card").inner_text()
    page.get_by_label("Show").select_option("all")
    page.get_by_label("Session").select_option("ses-2")
    page.get_by_label("Site").select_option("Lyon")
    page.get_by_label("Order").select_option("by name")
    assert titles(page)[:3] == ["sub-01_ses-2_T1w", "sub-03_ses-2_T1w", "sub-05_ses-2_T1w"]
    page.get_by_label("Search").fill("sub-05")
    assert titles(page) == ["sub-05_ses-2_T1w"]
    page.locator(".open").first.press("g")
    page.get_by_label("Search").fill("")
    page.get_by_label("Show").select_option("unrated")
    assert "sub-05_ses-2_T1w" not in titles(page)
    page.get_by_label("Search").fill("no such scan")
    assert "No scan is left" in page.locator("#place").inner_text()


def test_pictures_are_loaded_as_they_come_into_view(by_name):
    # Drawn anew and asked at once.
    loading = by_name.locator("#order").evaluate(
        """select => { select.dispatchEvent(new Event("change"));
        return [...document.querySelectorAll(".open img")].map(image => image.loading); }"""
    )
    assert len(loading) == 47  # one of 48 has failed
    assert set(loading) == {"lazy"}
    small = card(by_name, "sub-04_ses-1_T1w").locator("img")
    small.scroll_into_view_if_needed()
    assert "desc-thumbnail" in small.get_attribute("src")
    # Of an older version: no small picture, then none at all.
    large = card(by_name, "sub-03_ses-2_T1w").locator("img")
    large.scroll_into_view_if_needed()
    by_name.wait_for_function("image => image.src.includes('desc-segmentation')", arg=large.element_handle())
    none = card(by_name, "sub-10_ses-1_T1w").locator(".open")
    none.scroll_into_view_if_needed()
    none.get_by_text("no picture").wait_for()


def test_enlarged_scans_are_gone_through_by_key(page, output_dir):
    page.keyboard.press("ArrowRight")
    page.keyboard.press("e")
    dialog = page.locator("dialog")
    assert dialog.get_by_role("heading").inner_text() == "sub-03_ses-2_T1w"
    # Only older versions have a file of its own for the entropy.
    (output_dir / "sub-03/figures/sub-03_ses-2_space-T1w_seg-hsf_desc-entropy_dseg.svg").unlink()
    page.keyboard.press("v")
    layer = "desc-segmentation_dseg.svg#entropy"
    page.wait_for_function("layer => document.querySelector('dialog img').src.endsWith(layer)", arg=layer)
    page.keyboard.press("x")
    assert dialog.get_by_role("heading").inner_text() == titles(page)[2]
    dialog.get_by_role("button", name="Previous").click()
    assert dialog.get_by_role("button", name="exclude").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert card(page, "sub-03_ses-2_T1w").get_attribute("data-rating") == "exclude"
    page.get_by_label("Search").fill("sub-03_ses-1")
    card(page, "sub-03_ses-1_T1w").locator(".open").click()
    assert "desc-entropy_dseg.svg" in dialog.locator("img").get_attribute("src")


@pytest.mark.parametrize("way", ["button", "key"])
def test_all_scans_are_printed_with_their_pictures(by_name, way):
    by_name.evaluate(
        """() => { window.print = () => {
        const cards = [...document.querySelectorAll(".card")];
        const isShown = (card) => card.querySelector(".nothing") || card.querySelector("img")?.naturalWidth;
        const missing = cards.filter((card) => !isShown(card));
        window.printed = [cards.length, missing.length, document.getElementById("place").textContent]; } }"""
    )
    by_name.get_by_role("button", name="Later").click()
    if way == "button":
        by_name.get_by_role("button", name="Print").click()
    else:
        by_name.keyboard.press("Control+p")
    by_name.wait_for_function("() => window.printed")
    assert by_name.evaluate("window.printed") == [60, 0, "60 scans"]
    by_name.evaluate("dispatchEvent(new Event('afterprint'))")
    assert len(titles(by_name)) == 12  # the page that was seen before


@pytest.fixture
def with_all_pictures(output_dir):
    for index in range(60):
        subject, session = f"sub-{index // 2:02d}", f"ses-{index % 2 + 1}"
        write_text(
            output_dir / f"{subject}/figures/{subject}_{session}_space-T1w_seg-hsf_desc-thumbnail_dseg.svg", SMALL
        )


WHEN_PRINTED = """() => addEventListener("beforeprint", () => { window.printed = [
    [...document.querySelectorAll(".card img")].filter((image) => !image.naturalWidth).length, scrollY]; })"""


@pytest.mark.usefixtures("with_all_pictures")
def test_the_browsers_own_menu_prints_what_nobody_has_scrolled_to(by_name):
    by_name.evaluate(WHEN_PRINTED)
    by_name.wait_for_function("() => [...document.querySelectorAll('.card img')].every((image) => image.naturalWidth)")
    by_name.pdf()
    assert by_name.evaluate("window.printed") == [0, 0]
    assert by_name.locator("#unprinted").text_content() == ""


@pytest.mark.usefixtures("with_all_pictures")
def test_pictures_that_are_not_printed_are_told_on_the_sheet(by_name):
    # The second page, at once: three of its pictures were on no page before, in whichever order.
    missing = by_name.locator("#later").evaluate(
        """later => { later.click(); dispatchEvent(new Event("beforeprint"));
        return document.getElementById("unprinted").textContent; }"""
    )
    n_missing, _, words = missing.partition(" ")
    assert (3 <= int(n_missing) <= 12, words) == (True, "picture(s) had not been loaded yet: print again.")


def test_links_lead_to_the_scan_on_its_subjects_page(page):
    card(page, "sub-03_ses-2_T1w").get_by_role("link").click()
    page.wait_for_load_state()
    address, _, fragment = page.url.partition("#")
    assert address.endswith("/sub-03.html")
    assert page.locator(f'[id="{fragment}"]').count() == 1


def test_ratings_of_the_table_can_be_changed(output_dir, open_page):
    path = output_dir / "group_volumes.tsv"
    rows = [row | {"qc": "good" if row["scan"] == "sub-10_ses-1_T1w" else "n/a"} for row in read_tsv(path)]
    write_tsv(path, list(rows[0]), rows)
    write_group_report(output_dir)
    page = open_page(output_dir / "review.html")
    assert [row["rating"] for row in exported(page, output_dir)] == ["good"]
    page.get_by_label("Search").fill("sub-10_ses-1")
    card(page, "sub-10_ses-1_T1w").get_by_role("button", name="good").click()
    assert [row["rating"] for row in exported(page, output_dir)] == ["n/a"]

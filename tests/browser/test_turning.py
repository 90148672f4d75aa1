"""The page to turn the hippocampi, with WebGL drawn by the processor."""

import io

import numpy as np
import pytest
from found_hippocampi import hippocampi, image
from PIL import Image

from bids_hsf.files import write_text
from bids_hsf.reports.turning import turning_page

RED, GREEN = (255, 0, 0), (0, 255, 0)  # of the left side's labels


@pytest.fixture
def page(open_page, tmp_path):
    path = tmp_path / "sub-01" / "figures" / "turned.html"
    write_text(path, turning_page("sub-01_T1w", image(), hippocampi(), "../../sub-01.html"))
    page = open_page(path, width=420)  # the processor draws: no more than is needed
    page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=120_000)
    return page


def shown(page) -> np.ndarray:
    """Pixels of what is drawn (rows, columns, 3)."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return np.asarray(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB"), int)


def share(pixels: np.ndarray, color: tuple[int, int, int]) -> float:
    """Share of the pixels with about the hue of a colour."""
    strong = pixels.max(axis=2) > 60
    hue = pixels / np.maximum(pixels.max(axis=2, keepdims=True), 1) * 255
    return float((strong & (np.abs(hue - color).max(axis=2) < 60)).mean())


def move(page, slider: str, value: float) -> None:
    page.locator(f"#{slider}").fill(str(value))


def test_labels_are_seen_turned_and_hidden(page):
    before = shown(page)
    assert share(before, RED) > 0.002
    assert share(before, GREEN) > 0.002
    page.locator("#canvas").focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    assert (np.abs(shown(page) - before).max(axis=2) > 40).mean() > 0.01
    move(page, "labels", 0)
    without = shown(page)
    assert share(without, GREEN) == 0
    assert share(without, RED) < share(before, RED)  # the cube that tells the directions has some, too
    assert without.max() > 40  # the scan is still there


def test_the_scan_is_cut_open_and_shown_in_planes(page):
    move(page, "scan", 1)
    whole = shown(page)
    page.select_option("#side", "90,0")
    assert (np.abs(shown(page) - whole).max(axis=2) > 40).mean() > 0.01
    page.select_option("#view", "1")
    plane = shown(page)
    # One coronal slice, grey but for labels and the cross.
    grey = (np.ptp(plane, axis=2) < 12) & (plane.max(axis=2) > 20)
    assert grey.mean() > 0.2
    move(page, "entropy", 1)
    assert (np.abs(shown(page) - plane).max(axis=2) > 40).mean() > 0.001


def test_it_leads_back(page):
    assert page.get_by_role("link", name="The subject's page").get_attribute("href") == "../../sub-01.html"


def test_without_webgl_it_says_so(context, tmp_path):
    path = tmp_path / "turned.html"
    write_text(path, turning_page("sub-01_T1w", image(), hippocampi(), None))
    page = context.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(path.as_uri())
    page.get_by_text("WebGL 2 is missing").wait_for()

"""The page to turn the hippocampi: what is in it, and that it is the viewer that NOTICE tells of."""

import base64
import gzip
import hashlib
import json
import re
from html import unescape

import nibabel as nib
import numpy as np
import pytest
from found_hippocampi import GRID, hippocampi, image
from report_pages import Page

from bids_hsf.bids.lookup_tables import colored
from bids_hsf.geometry import Grid
from bids_hsf.reports.turning import MAX_VOXELS, VIEWER, turning_page
from bids_hsf.segmentation.hippocampi import Hippocampi

ATTACK = "sub-01_T1w</script><img src=x onerror=alert(1)>"


def images_of(page: str) -> dict:
    text = re.search(r'<script type="application/json" id="images">(.*?)</script>', page, re.DOTALL)[1]
    told = json.loads(text)
    for name in ("scan", "labels", "entropy"):
        told[name] = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(told[name])))
    return told


@pytest.fixture(scope="module")
def page() -> str:
    return turning_page(ATTACK, image(), hippocampi(), "../../sub-01.html")


def test_the_crop_lies_where_the_scan_has_it(page):
    found, told = hippocampi(), images_of(page)
    labels = told["labels"]
    start = np.round(GRID.to_voxels(labels.affine[:3, 3][None])[0]).astype(int)
    part = tuple(slice(a, a + n) for a, n in zip(start, labels.shape, strict=True))
    assert np.array_equal(np.asarray(labels.dataobj), found.label_map[part])
    assert (found.label_map > 0).sum() == (np.asarray(labels.dataobj) > 0).sum()
    assert np.allclose(np.asarray(told["entropy"].dataobj) / 255, found.maps["entropy"][part], atol=0.002)
    grey = np.asarray(told["scan"].dataobj, float)
    assert np.corrcoef(grey.ravel(), image()[part].ravel())[0, 1] > 0.95
    assert {tuple(each.affine.ravel()) for each in (told["scan"], told["entropy"], labels)} == {
        tuple(labels.affine.ravel())
    }


def test_colours_are_those_of_the_lookup_tables(page):
    told, colors = images_of(page)["colors"], colored(hippocampi().labels)
    assert {len(values) for values in told.values()} == {256}
    for index, name, color in colors:
        assert tuple(told[channel][index] for channel in "RGB") == color
        assert (told["A"][index], told["labels"][index]) == (255, name)
    assert sum(told["A"]) == 255 * len(colors)
    assert all(name in Page(page).text for _, name, _ in colors)


def test_a_fine_scan_is_thinned_out_in_place():
    found = hippocampi()
    finer = Grid(tuple(4 * n for n in GRID.shape), GRID.affine @ np.diag([0.25, 0.25, 0.25, 1.0]))
    larger = np.kron(found.label_map, np.ones((4, 4, 4), np.uint8))
    slices = [tuple(slice(4 * s.start, 4 * s.stop) for s in side.slices) for side in found.sides]
    sides = tuple(
        type(side)(**(side.__dict__ | {"slices": places})) for side, places in zip(found.sides, slices, strict=True)
    )
    fine = Hippocampi(finer, found.labels, larger, {"entropy": larger / 200}, None, {}, sides)
    labels = images_of(turning_page("a", larger.astype(np.float32), fine, None))["labels"]
    assert np.prod(labels.shape) <= MAX_VOXELS
    for at in np.argwhere(np.asarray(labels.dataobj) > 0)[::500]:
        voxel = np.round(finer.to_voxels(nib.affines.apply_affine(labels.affine, at)[None])[0]).astype(int)
        assert larger[tuple(voxel)] == labels.dataobj[tuple(at)]


def test_the_page_loads_nothing_and_runs_known_scripts_alone(page):
    parsed = Page(page)
    assert parsed.all("img", "src") == parsed.all("script", "src") == []
    assert ATTACK in parsed.text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    admitted = unescape(re.search("script-src (.*)", policy)[1]).split()
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    scripts.append(gzip.decompress(base64.b64decode(re.search(r'id="viewer">([^<]*)<', page)[1])).decode())
    sums = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert admitted == [f"'sha256-{each}'" for each in sums]


def test_the_viewer_is_the_one_that_the_notice_tells_of():
    script = gzip.decompress(VIEWER.read_bytes())
    notice = VIEWER.with_name("NOTICE").read_text(encoding="utf-8")
    assert f"sha256 of the script: {hashlib.sha256(script).hexdigest()}" in notice
    assert VIEWER.stat().st_size < 1_000_000
    for package in ("gl-matrix", "nifti-reader-js", "fflate", "structured-clone", "uuid", "array-equal", "Niivue"):
        assert package in notice


def test_an_empty_label_map_has_a_page():
    nothing = {side: lambda mask: np.zeros_like(mask) for side in "LR"}
    assert not np.asarray(images_of(turning_page("a", image(), hippocampi(nothing), None))["labels"].dataobj).any()

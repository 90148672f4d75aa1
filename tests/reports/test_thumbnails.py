"""Small pictures, made of large ones."""

import io
import re
from base64 import b64decode
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from bids_hsf.geometry import Grid
from bids_hsf.labels import Label
from bids_hsf.reports.figures import cut_mosaic, draw_segmentation
from bids_hsf.reports.thumbnails import add_missing_thumbnails, thumbnail

SVG = "{http://www.w3.org/2000/svg}"
LABELS = (Label(1, "Front", "front", "#ff0000"), Label(2, "Back", "back", "#00ff00"))


@pytest.fixture(scope="module")
def picture():
    shape = (70, 70, 50)
    image = gaussian_filter(np.random.default_rng(0).normal(0, 1, shape), 2).astype(np.float32)
    label_map = np.zeros(shape, np.uint8)
    for offset, x in ((0, 12), (100, 50)):
        label_map[x : x + 8, 20:35, 20:28] = 2 + offset
        label_map[x : x + 8, 35:50, 20:28] = 1 + offset
    return draw_segmentation(cut_mosaic(image, label_map, Grid(shape, np.eye(4))), LABELS)


def test_a_small_picture_has_the_outlines_of_the_large_one(picture):
    small = thumbnail(picture)
    assert len(small) < min(15_000, len(picture) / 4)
    root = ET.fromstring(small)
    assert {path.get("stroke") for path in root.iter(f"{SVG}path")} == {"#ff0000", "#00ff00"}
    assert thumbnail(picture) == small


def test_its_raster_is_whole_and_its_outlines_lie_within(picture):
    root = ET.fromstring(thumbnail(picture))
    (raster,) = root.iter(f"{SVG}image")
    decoded = Image.open(io.BytesIO(b64decode(raster.get("href").partition(",")[2])))
    assert decoded.size == (round(float(raster.get("width"))), round(float(raster.get("height"))))
    assert np.asarray(decoded.convert("L")).std() > 10
    width, height = (float(number) for number in root.get("viewBox").split()[2:])
    for path in root.iter(f"{SVG}path"):
        x, y = (float(number) for number in re.findall(r"[\d.]+", path.get("transform"))[:2])
        start = [float(number) / 10 for number in re.findall(r"-?\d+", path.get("d"))[:2]]
        assert 0 <= x + start[0] <= width
        assert 0 <= y + start[1] <= height


@pytest.mark.parametrize("text", ["", "<svg", '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>', "<a/>"])
def test_of_no_picture_there_is_no_small_one(text):
    assert thumbnail(text) is None


def test_a_picture_that_points_elsewhere_is_not_taken(picture):
    assert thumbnail(re.sub("data:image/jpeg;base64,", "file:///etc/", picture, count=1)) is None


def test_folders_of_older_versions_get_small_pictures_once(tmp_path, picture):
    (tmp_path / "a_desc-segmentation_dseg.svg").write_text(picture)
    (tmp_path / "b_desc-segmentation_dseg.svg").write_text("<svg/>")
    kept = tmp_path / "c_desc-thumbnail_dseg.svg"
    kept.write_text("kept")
    (tmp_path / "c_desc-segmentation_dseg.svg").write_text(picture)
    add_missing_thumbnails(tmp_path)
    assert sorted(path.name[0] for path in tmp_path.glob("*thumbnail*")) == ["a", "c"]
    assert kept.read_text() == "kept"

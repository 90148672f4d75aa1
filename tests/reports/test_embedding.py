"""Pictures taken into a page: all that the figures have, and nothing that others put into their files."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from bids_hsf.geometry import Grid
from bids_hsf.labels import Label
from bids_hsf.reports.embedding import Album
from bids_hsf.reports.figures import cut_mosaic, draw_segmentation

SVG = "{http://www.w3.org/2000/svg}"


def svg(content, view_box="0 0 1200 600"):
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view_box}">{content}</svg>'


@pytest.fixture(scope="module")
def picture():
    shape = (60, 60, 40)
    label_map = np.zeros(shape, np.uint8)
    label_map[10:16, 15:45, 15:22], label_map[44:50, 15:45, 15:22] = 1, 101
    grid = Grid(shape, np.eye(4))
    cut = cut_mosaic(np.random.default_rng(0).normal(size=shape).astype(np.float32), label_map, grid)
    entropy = (label_map > 0).astype(np.float32) / 2
    return draw_segmentation(cut, [Label(1, "Whole", "whole", "#ff0000")], entropy, grid)


def test_two_layers_of_one_picture_share_the_scan(picture):
    album = Album()
    first, second = album.embed(picture, "a"), album.embed(picture, "b", "entropy")
    assert (first.width, first.top_height < first.height) == (1200, True)
    n_panels = first.content.count("image/jpeg")
    assert n_panels > 4
    assert second.content.count("image/jpeg") == 0
    assert second.content.count("<use ") == n_panels
    assert "hidden" not in first.content + second.content
    assert ">whole<" in first.content
    assert ">whole<" not in second.content
    assert "entropy: 0 certain" in second.content
    assert "entropy" not in first.content


@pytest.mark.parametrize(("layer", "others"), [("overlay", {"entropy"}), ("entropy", {"overlay", "legend"})])
def test_all_of_a_layer_gets_in_but_title_and_style(picture, layer, others):
    before = [
        element.tag.removeprefix(SVG)
        for child in ET.fromstring(picture)
        if child.get("class") not in others
        for element in child.iter()
    ]
    after = [element.tag for element in ET.fromstring(Album().embed(picture, "a", layer).content).iter()][1:]
    assert sorted(after) == sorted(tag for tag in before if tag not in ("title", "style", "g"))


def test_a_picture_without_entropy_has_no_such_layer():
    assert Album().embed(svg("<rect/>"), "a", "entropy") is None


def test_identifiers_are_the_pages_own(picture):
    content = Album().embed(picture, "sub-01-b", "entropy").content
    assert 'id="sub-01-b-ramp"' in content
    assert 'fill="url(#sub-01-b-ramp)"' in content


@pytest.mark.parametrize(
    "content",
    [
        "<script>alert(1)</script>",
        '<rect onclick="alert(1)" style="color:red"/>',
        '<image href="https://example.org/x.png"/>',
        '<image href="data:image/svg+xml;base64,AAAA"/>',
        '<a href="javascript:alert(1)"><text>x</text></a>',
        "<foreignObject><body xmlns='http://www.w3.org/1999/xhtml'>alert</body></foreignObject>",
        '<rect fill="url(https://example.org)"/>',
        '<use href="#other"/>',
    ],
)
def test_what_is_no_figures_stays_out(content):
    found = Album().embed(svg(content), "a").content
    for word in ("alert", "http", "script", "style", "base64", "#other", "onclick"):
        assert word not in found


def test_markup_in_a_text_stays_text():
    found = Album().embed(svg("<text>&lt;b&gt; &amp;amp;</text>"), "a").content
    assert "<text>&lt;b&gt; &amp;amp;</text>" in found


@pytest.mark.parametrize("text", ["", "<svg", "<svg/>", "<html/>", svg("", "0 0 x 1"), svg("", "-1 0 1 1")])
def test_what_is_no_picture_is_not_taken_in(text):
    assert Album().embed(text, "a") is None

import base64
import io
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image

from bids_hsf.reports.canvas import Canvas, grey_jpeg, heat_png, lay_out, path_data
from bids_hsf.reports.planes import Plane

SVG = "{http://www.w3.org/2000/svg}"


def plane(width_mm: float, height_mm: float, ends: tuple[str, str] = ("L", "R")) -> Plane:
    """Axial plane through the origin."""
    return Plane(np.zeros(3), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), width_mm, height_mm, "A & B", ends)


def decode(address: str) -> Image.Image:
    """Picture in a data address."""
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def test_panels_fill_their_rows_in_one_scale() -> None:
    panels = lay_out([[plane(60, 40), plane(30, 40)], [plane(90, 20)]])
    places = [place for _, place in panels]
    assert places[0].scale == places[1].scale
    assert places[0].x < places[1].x
    assert places[2].y > places[0].y


def test_a_document_holds_what_was_added_and_escapes_names() -> None:
    panels = lay_out([[plane(60, 40)]])
    ((shown, place),) = panels
    canvas = Canvas("<title> & more", [place])
    canvas.add_raster(place, grey_jpeg(np.zeros((8, 12)), (0.0, 1.0)))
    line = np.array([[0.0, 0], [10, 0], [10, 10], [0, 0]])
    canvas.add_lines(place, [line, line[:1]], {"stroke": "#ff0000", "data-index": "1"})
    canvas.add_marks(place, shown, [shown])
    canvas.add_color_bar("entropy")
    canvas.add_legend([("<x>", "#ff0000")], "note & more")
    document = ET.fromstring(canvas.text())
    assert document.find(f"{SVG}title").text == "<title> & more"
    words = " ".join(element.text or "" for element in document.iter(f"{SVG}text"))
    for word in ("A & B", "<x>", "note & more", "entropy"):
        assert word in words
    assert [path.get("data-index") for path in document.iter(f"{SVG}path") if path.get("data-index")] == ["1"]


def test_greys_lie_between_the_ends_of_the_window() -> None:
    image = decode(grey_jpeg(np.array([[-5.0] * 16, [5.0] * 16]).repeat(8, axis=0), (0.0, 1.0)))
    assert image.size == (16, 16)
    values = np.asarray(image.convert("L"))
    assert values[:6].max() < 10
    assert values[-6:].min() > 245


def test_heat_is_clear_where_there_is_none() -> None:
    image = decode(heat_png(np.array([[0.0, 1.0]]))).convert("RGBA")
    assert image.getpixel((0, 0))[3] == 0
    assert image.getpixel((1, 0))[3] > 150


def test_lines_lose_the_points_that_lie_between_others() -> None:
    along = np.linspace(0, 100, 21)
    bent = np.concatenate([np.stack([along, 0 * along], 1), np.stack([0 * along + 100, along], 1)[1:]])
    square = np.concatenate([bent, bent[-2::-1, ::-1]])  # there and, mirrored, back
    dot = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert path_data([bent], tolerance=1.5) == ["M0 0l100 0 0 100"]
    assert path_data([square], tolerance=1.5) == ["M0 0l100 0 0 100-100 0z"]
    assert path_data([dot, bent, square], tolerance=1.5) == ["", "M0 0l100 0 0 100", "M0 0l100 0 0 100-100 0z"]
    assert path_data([], tolerance=1.5) == []


def test_of_many_lines_each_is_simplified_as_alone() -> None:
    rng = np.random.default_rng(5)
    lines = [np.cumsum(rng.normal(0, 3, (n, 2)), axis=0) for n in (2, 3, 40, 200, 1000)]
    assert path_data(lines, tolerance=2.0) == [path_data([line], tolerance=2.0)[0] for line in lines]

"""Small pictures for the contact sheet, from the large one of the outlines alone: the scan is not needed.

Folders of older versions, which have no small pictures, get them with their pages.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from bids_hsf.bids.names import THUMBNAIL
from bids_hsf.files import read_text, sweep, write_text
from bids_hsf.reports.canvas import BACKGROUND, ENTROPY, Place, join_rasters, path_data, webp
from bids_hsf.reports.planes import Vector

WIDTH, MAX_HEIGHT, GAP = 360.0, 150.0, 3.0
SVG = "{http://www.w3.org/2000/svg}"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True, eq=False)
class Panel:
    """One panel of the large picture.

    Attributes
    ----------
    place : Place
        Where it stands there; its `scale` is 1.
    address : str
        The scan, as a data address.
    lines : tuple of (str, tuple of array)
        Colour and outlines (N, 2), in units of the large picture from the panel's top left corner.
    """

    place: Place
    address: str
    lines: tuple[tuple[str, tuple[Vector, ...]], ...]


def write_thumbnail(path: Path, picture: str) -> None:
    """Write the small picture of a large one, where it can be made; the contact sheet does without."""
    small = thumbnail(picture)
    if small is not None:
        write_text(path, small)


def add_missing_thumbnails(folder: Path) -> None:
    """Make the small pictures that a folder of figures lacks: of scans that an older version has done."""
    sweep(folder)
    for large in sorted(folder.glob("*segmentation_dseg.svg")):
        small = large.with_name(large.name.replace("segmentation_dseg.svg", f"{THUMBNAIL}_dseg.svg"))
        if not small.exists():
            with suppress(OSError, UnicodeDecodeError):
                write_thumbnail(small, read_text(large))


def thumbnail(picture: str) -> str | None:
    """Make the small picture; None where the large one is no SVG of this app.

    Parameters
    ----------
    picture : str
        Text of the SVG that `figures.draw_segmentation` gives.

    Returns
    -------
    str or None
        Text of an SVG, a tenth of the size: each hippocampus along its long axis, both from above, and one
        of the coronal slices.
    """
    try:
        panels = list(_panels(ET.fromstring(picture)))  # noqa: S314 - expat of 2.4.1 and later refuses entity bombs
    except (ET.ParseError, ValueError, KeyError):
        return None
    places = list(_lay_out(_choose(panels)))
    if not places:
        return None
    height = max(place.y + place.height for _, place in places) + GAP
    root = ET.Element("svg", {"xmlns": SVG[1:-1], "viewBox": f"0 0 {WIDTH:.0f} {height:.0f}"})
    grey = join_rasters([(panel.address, place) for panel, place in places], (round(WIDTH), round(height)))
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": BACKGROUND})
    ET.SubElement(root, "image", {"href": webp(grey), "width": f"{WIDTH:.0f}", "height": f"{height:.0f}"})
    for panel, place in places:
        _add_lines(root, panel, place)
    return ET.tostring(root, encoding="unicode") + "\n"


def _panels(root: ET.Element) -> Iterator[Panel]:
    """Read the panels in the order in which they were drawn."""
    rasters = [element for element in root.iter(f"{SVG}image") if element.get("class") == "scan"]
    outlines: dict[tuple[str, str], list[tuple[str, tuple[Vector, ...]]]] = {}
    for path in root.iter(f"{SVG}path"):
        if path.get("class") == ENTROPY:
            continue
        x, y = NUMBER.findall(path.attrib["transform"])[:2]
        outlines.setdefault((x, y), []).append((path.attrib["stroke"], tuple(_lines(path.attrib["d"]))))
    for raster in rasters:
        x, y, width, height = (raster.attrib[name] for name in ("x", "y", "width", "height"))
        place = Place(float(x), float(y), float(width), float(height), 1.0)
        if not raster.attrib["href"].startswith("data:image/jpeg;base64,") or min(place.width, place.height) <= 0:
            raise ValueError("no picture of this app")
        yield Panel(place, raster.attrib["href"], tuple(outlines.get((x, y), ())))


def _lines(data: str) -> Iterator[Vector]:
    """Read path data as `canvas` writes them, back to lines in units of the picture."""
    for part in data.split("M")[1:]:
        numbers = np.array([float(number) for number in NUMBER.findall(part)]).reshape(-1, 2)
        line = np.cumsum(numbers, axis=0) / 10
        yield np.concatenate([line, line[:1]]) if part.rstrip().endswith("z") else line


def _choose(panels: Sequence[Panel]) -> tuple[list[Panel], list[Panel]]:
    """Take the views along the hippocampi from the side; then the one from above and a slice across."""
    if not panels:
        return [], []
    first_row = [panel for panel in panels if panel.place.y < panels[0].place.y + panels[0].place.height]
    slices = panels[len(first_row) :]
    # Left side, from above, right side; of one hippocampus there is one side alone.
    sides, above = first_row[::2], first_row[1:2]
    return sides, [*above, *slices[len(slices) // 3 :][:1]]


def _lay_out(rows: tuple[list[Panel], list[Panel]]) -> Iterator[tuple[Panel, Place]]:
    """Fill the width with each row, its panels at one height."""
    y = GAP
    for row in filter(None, rows):
        room = WIDTH - GAP * (len(row) + 1)
        height = min(room / sum(panel.place.width / panel.place.height for panel in row), MAX_HEIGHT)
        widths = [height * panel.place.width / panel.place.height for panel in row]
        x = (WIDTH - sum(widths) - GAP * (len(row) - 1)) / 2
        for panel, width in zip(row, widths, strict=True):
            yield panel, Place(x, y, width, height, width / panel.place.width)
            x += width + GAP
        y += height + GAP


def _add_lines(root: ET.Element, panel: Panel, place: Place) -> None:
    for color, lines in panel.lines:
        data = "".join(path_data([line * place.scale * 10 for line in lines], tolerance=3.0))
        if data:
            look = {"fill": "none", "stroke": color, "stroke-width": "12", "stroke-linejoin": "round"}
            place_at = f"translate({place.x:.1f} {place.y:.1f}) scale(.1)"
            ET.SubElement(root, "path", {"d": data, "transform": place_at} | look)

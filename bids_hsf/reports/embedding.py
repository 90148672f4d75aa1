"""Pictures within a page, so that it is whole wherever it is sent: from the files of the figures.

A picture's file may have been changed by anybody who writes into the folder. Only elements and attributes that the
figures have get into the page, and no address but of data; a scan that two pictures show is there once.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from markupsafe import Markup

from bids_hsf.reports.canvas import ENTROPY, LEGEND, OUTLINES

SVG = "{http://www.w3.org/2000/svg}"
ELEMENTS = frozenset({"rect", "image", "path", "text", "defs", "linearGradient", "stop"})
ATTRIBUTES = {"class", "d", "transform", "preserveAspectRatio", "x", "y", "width", "height", "rx", "offset"}
ATTRIBUTES |= {"fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-linejoin", "vector-effect"}
ATTRIBUTES |= {"font-size", "font-family", "text-anchor", "stop-color"}
DATA = re.compile(r"data:image/(?:jpeg|png|webp);base64,[A-Za-z0-9+/=]*")
VIEW_BOX = re.compile(r"0 0 (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Picture:
    """A figure as a part of a page.

    Attributes
    ----------
    name : str
        Identifier of its drawing within the page.
    width, height : float
        Of the whole.
    top_height : float
        Of the first row of panels.
    content : Markup
        What stands between the tags of the ``svg`` element.
    """

    name: str
    width: float
    height: float
    top_height: float
    content: Markup


@dataclass(frozen=True)
class Album:
    """The pictures of one page.

    Attributes
    ----------
    rasters : dict
        Address and place of a scan's panel to the identifier by which it is drawn again.
    """

    rasters: dict[tuple[str, ...], str] = field(default_factory=dict)

    def embed(self, text: str, name: str, layer: str = OUTLINES) -> Picture | None:
        """Take a picture in, with the one layer or with `ENTROPY`, under a name that no other has.

        None where it is no SVG of this app, or has no such layer.
        """
        try:
            root = ET.fromstring(text)  # noqa: S314 - expat of 2.4.1 and later refuses entity bombs
            size = VIEW_BOX.fullmatch(root.get("viewBox", ""))
            top_height = _top_height(root)
        except (ET.ParseError, ValueError):
            return None
        if root.tag != f"{SVG}svg" or size is None:
            return None
        if layer == ENTROPY and all(element.get("class") != ENTROPY for element in root):
            return None
        whole = ET.Element("g", {"id": name})
        self._copy(root, whole, name, {OUTLINES, LEGEND} if layer == ENTROPY else {ENTROPY})
        content = Markup(ET.tostring(whole, encoding="unicode"))  # noqa: S704 - of known elements alone
        return Picture(name, float(size[1]), float(size[2]), top_height or float(size[2]), content)

    def _copy(self, source: ET.Element, target: ET.Element, name: str, left_out: Collection[str]) -> None:
        """Copy what the figures have from one element to another, but for some classes."""
        for element in source:
            tag = element.tag.removeprefix(SVG) if isinstance(element.tag, str) else ""
            if tag not in ELEMENTS or element.get("class") in left_out:
                continue
            attributes = {key: value for key, value in element.attrib.items() if key in ATTRIBUTES}
            if attributes.get("class") == ENTROPY:  # the page hides and shows what lies over a scan by one name
                attributes["class"] = OUTLINES
            if tag == "image":
                self._add_raster(element.get("href", ""), attributes, target, name)
                continue
            if tag == "linearGradient":
                attributes["id"] = f"{name}-ramp"
            if "url(" in "".join(attributes.values()):
                attributes["fill"] = f"url(#{name}-ramp)"
                attributes = {key: value for key, value in attributes.items() if key == "fill" or "url(" not in value}
            copy = ET.SubElement(target, tag, attributes)
            copy.text = element.text if tag == "text" else None
            self._copy(element, copy, name, left_out)

    def _add_raster(self, address: str, attributes: dict[str, str], target: ET.Element, name: str) -> None:
        if not DATA.fullmatch(address):
            return
        key = (address, *(attributes.get(side, "") for side in ("x", "y", "width", "height")))
        if key in self.rasters:
            ET.SubElement(target, "use", {"href": f"#{self.rasters[key]}"})
            return
        self.rasters[key] = f"{name}-{len(self.rasters)}"
        ET.SubElement(target, "image", {"id": self.rasters[key], "href": address} | attributes)


def _top_height(root: ET.Element) -> float:
    """Height down to which the first row of panels reaches; 0 where there is none."""
    scans = [image.attrib for image in root.iter(f"{SVG}image") if image.get("class") == "scan"]
    sides = [(float(scan.get("y", "0")), float(scan.get("height", "0"))) for scan in scans]
    return max((y + height for y, height in sides if y < sides[0][0] + sides[0][1]), default=0.0)

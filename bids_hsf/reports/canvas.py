"""An SVG drawing of panels: pixels, lines, marks, legend. Nothing in it depends on the time or the machine."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from PIL import Image, WebPImagePlugin  # noqa: F401 - else saving one imports those of all formats

from bids_hsf.reports.planes import FloatArray, Plane, Vector

WIDTH = 1200.0
GAP = 6.0
HEADER = 30.0
BACKGROUND, INK = "#0d1014", "#eef1f5"
TAG = {"rx": "4", "fill-opacity": "0.62"}

# Anchors in OKLab (lightness, green-red, blue-yellow), evenly spaced in lightness so that equal steps of
# entropy look like equal steps: night blue, purple, red, orange, pale yellow.
RAMP_OKLAB = np.array(
    [[0.25, 0.00, -0.10], [0.42, 0.13, -0.10], [0.59, 0.19, 0.06], [0.76, 0.10, 0.14], [0.93, -0.01, 0.10]]
)

# Classes of what lies over the scan: outlines with their legend, or else entropy with its own; no viewer that knows no
# style shows both.
OUTLINES, LEGEND, ENTROPY = "overlay", "legend", "entropy"
HIDDEN = {"class": ENTROPY, "visibility": "hidden"}

STYLE = (
    f"#plain:target ~ .{OUTLINES},#{ENTROPY}:target ~ .{OUTLINES},#{ENTROPY}:target ~ .{LEGEND}"
    f"{{visibility:hidden}}#{ENTROPY}:target ~ .{ENTROPY}{{visibility:visible}}"
    f"svg:active .{OUTLINES},svg:active .{ENTROPY}{{visibility:hidden!important}}"
)


@dataclass(frozen=True)
class Place:
    """Where a panel stands in the drawing, in its units.

    Attributes
    ----------
    x, y : float
        Top left corner.
    width, height : float
    scale : float
        Units a millimetre.
    """

    x: float
    y: float
    width: float
    height: float
    scale: float


def lay_out(rows: Sequence[Sequence[Plane]]) -> list[tuple[Plane, Place]]:
    """Give each plane its place: a row fills the width, all its panels at one scale."""
    panels, y = [], GAP
    for row in rows:
        room = WIDTH - GAP * (len(row) + 1)
        # A narrow field of view is not blown up over the whole screen.
        scale = min(room / sum(plane.width_mm for plane in row), 460 / max(plane.height_mm for plane in row))
        x = (WIDTH - scale * sum(plane.width_mm for plane in row) - GAP * (len(row) - 1)) / 2
        height = scale * max(plane.height_mm for plane in row)
        for plane in row:
            width, own = scale * plane.width_mm, scale * plane.height_mm
            panels.append((plane, Place(x, y + (height - own) / 2, width, own, scale)))
            x += width + GAP
        y += height + GAP
    return panels


class Canvas:
    """An SVG document of panels, with a legend below.

    Parameters
    ----------
    title : str
        What it shows, for those who cannot see it.
    places : sequence of Place
        Of all panels.
    """

    def __init__(self, title: str, places: Sequence[Place]) -> None:
        self._root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
        self._height = GAP + max(place.y + place.height for place in places)
        self._paths: list[tuple[ET.Element, Sequence[Vector]]] = []
        ET.SubElement(self._root, "title").text = title
        ET.SubElement(self._root, "style").text = STYLE
        for name in ("plain", ENTROPY):  # what an address may end with
            ET.SubElement(self._root, "g", {"id": name})
        self._rectangle(0, 0, WIDTH, 0, BACKGROUND)

    def add_raster(self, place: Place, address: str, look: Mapping[str, str] | None = None) -> None:
        """Place an image, its data in `address`: the scan, unless its `look` has another class."""
        attributes = {"class": "scan", "href": address, "preserveAspectRatio": "none"} | dict(look or {})
        sides = {"x": place.x, "y": place.y, "width": place.width, "height": place.height}
        ET.SubElement(self._root, "image", attributes | {name: _number(value) for name, value in sides.items()})

    def add_lines(self, place: Place, lines: Sequence[Vector], attributes: Mapping[str, str]) -> None:
        """Draw lines (N, 2), mm from the panel's top left corner."""
        x, y = _number(place.x), _number(place.y)
        drawing = {"class": OUTLINES, "d": "", "transform": f"translate({x} {y}) scale(.1)", "fill": "none"}
        look = {"stroke-width": "1.5", "stroke-linejoin": "round", "vector-effect": "non-scaling-stroke"}
        path = ET.SubElement(self._root, "path", drawing | look | dict(attributes))
        # Tenths of a unit are whole numbers, so that a step takes four letters.
        self._paths.append((path, [line * place.scale * 10 for line in lines]))

    def add_marks(self, place: Place, plane: Plane, slices: Sequence[Plane] = ()) -> None:
        """Caption, letters at both ends, a scale bar, and ticks where `slices` cross a sagittal panel."""
        bottom = place.y + place.height
        for cut in slices if plane.ends == ("P", "A") else ():
            front = np.cross(cut.up, cut.across)
            step = float((cut.center - plane.center) @ front / (plane.across @ front))
            x = place.x + place.width / 2 + step * place.scale
            self._rectangle(x - 2, bottom - 8, 4, 8, BACKGROUND)
            self._rectangle(x - 0.75, bottom - 7, 1.5, 7, INK, {"class": "tick"})
        self.add_ends(place, plane.caption, plane.ends)
        length = (50 if place.scale < 2.5 else 10 if place.scale < 6 else 5) * place.scale
        right = place.x + place.width - 6
        shade = max(length + 6, 46)
        self._rectangle(right - shade, bottom - 30, shade, 24, BACKGROUND, TAG)
        self._rectangle(right - (shade + length) / 2, bottom - 12, length, 2.5, INK, {"class": "scale-bar"})
        text = f"{length / place.scale:.0f} mm"
        self._label(right - shade / 2, bottom - 17, text, size=11, anchor="middle")

    def add_ends(self, place: Place, caption: str, ends: tuple[str, str]) -> None:
        """Caption a panel, and name its left and its right end."""
        self._tag(place.x + 5, place.y + 5, caption)
        middle = place.y + place.height / 2 - 9
        self._tag(place.x + 5, middle, ends[0])
        self._tag(place.x + place.width - 17.7 - 6.3 * len(ends[1]), middle, ends[1])

    def add_legend(self, entries: Sequence[tuple[str, str]], note: str) -> None:
        """Name the colours, and say how the scan is cut and seen."""
        look = {"class": LEGEND}
        x, y = 12.0, self._height + 17
        for name, color in entries:
            if x > WIDTH - 540:
                x, y = 12.0, y + 22
            self._rectangle(x, y - 10, 12, 12, color, {"rx": "3"} | look)
            self._label(x + 18, y, name, size=13, more=look)
            x += 34 + 7.6 * len(name)
        self._height = y - 17
        self._add_note(note)

    def add_color_bar(self, name: str) -> None:
        """Show the colours of 0 to 1 in the place of the legend, which is added after it."""
        y = self._height + 7
        gradient = ET.SubElement(
            ET.SubElement(self._root, "defs", {"class": ENTROPY}), "linearGradient", {"id": "ramp"}
        )
        for value, color in zip(np.linspace(0, 1, 13), _ramp(np.linspace(0, 1, 13)), strict=True):
            red, green, blue = (color * 255).round().astype(int)
            attributes = {"offset": f"{value:.3f}", "stop-color": f"#{red:02x}{green:02x}{blue:02x}"}
            ET.SubElement(gradient, "stop", attributes)
        self._rectangle(26, y, 180, 12, "url(#ramp)", {"rx": "3"} | HIDDEN)
        for x, text in ((12, "0"), (212, "1"), (228, name)):
            self._label(x, y + 10, text, size=13, more=HIDDEN)

    def _write_paths(self) -> None:
        """Give the paths their lines, all at once, and leave out those that have none."""
        data = iter(path_data([line for _, lines in self._paths for line in lines], tolerance=1.5))
        for path, lines in self._paths:
            path.set("d", "".join(next(data) for _ in lines))
            if not path.get("d"):
                self._root.remove(path)
        self._paths.clear()

    def _add_note(self, note: str) -> None:
        text = f"{note}; left of the head on the left (neurological)"
        self._label(WIDTH - 12, self._height + 17, text, size=12, anchor="end")
        self._height += HEADER

    def text(self) -> str:
        """Finish the document."""
        self._write_paths()
        height = _number(self._height)
        self._root.set("viewBox", f"0 0 {WIDTH:.0f} {height}")
        self._root.set("width", f"{WIDTH:.0f}")
        self._root.set("height", height)
        background = self._root.find("rect")
        if background is not None:
            background.set("height", height)
        return ET.tostring(self._root, encoding="unicode") + "\n"

    def _rectangle(
        self, x: float, y: float, width: float, height: float, color: str, more: Mapping[str, str] | None = None
    ) -> None:
        sides = {"x": _number(x), "y": _number(y), "width": _number(width), "height": _number(height)}
        ET.SubElement(self._root, "rect", sides | {"fill": color} | dict(more or {}))

    def _tag(self, x: float, y: float, text: str) -> None:
        """Write on a shade, which keeps letters readable on bright tissue; its width is a guess at the font's."""
        self._rectangle(
            x, y, 12 + 6.3 * len(text) + 4.5 * text.count("m") + (1.5 if len(text) == 1 else 0), 19, BACKGROUND, TAG
        )
        self._label(x + 6, y + 14, text, size=12)

    def _label(
        self, x: float, y: float, text: str, *, size: int, anchor: str = "start", more: Mapping[str, str] | None = None
    ) -> None:
        attributes = dict(more or {}) | {
            "x": _number(x),
            "y": _number(y),
            "font-size": str(size),
            "text-anchor": anchor,
            "font-family": "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
            "fill": INK,
        }
        ET.SubElement(self._root, "text", attributes).text = text


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def path_data(lines: Sequence[Vector], tolerance: float) -> list[str]:
    """Path data with whole-number steps of lines (N, 2), each closed where it ends at its start."""
    return [_steps(line) for line in _simplify(lines, tolerance)]


def _steps(line: Vector) -> str:
    closed = bool(np.allclose(line[0], line[-1]))
    points = np.round(line).astype(int)
    if len(points) < 3:
        return ""
    steps = np.diff(points, axis=0)[: -1 if closed else None]
    numbers = " ".join(str(number) for number in steps.ravel()).replace(" -", "-")
    return f"M{points[0][0]} {points[0][1]}l{numbers}" + ("z" if closed else "")


def _simplify(lines: Sequence[Vector], tolerance: float) -> list[Vector]:
    """Leave out points (N, 2) that lie within `tolerance` of the line through the others (Douglas and Peucker 1973)."""
    if not lines:
        return []
    points = np.concatenate(lines)
    lengths = np.array([len(line) for line in lines])
    ends = np.cumsum(lengths)
    starts, middles = ends - lengths, ends - lengths + lengths // 2  # a closed line has no chord between its ends
    keep = np.zeros(len(points), bool)
    keep[[*starts, *middles, *(ends - 1)]] = True
    first, last = np.concatenate([starts, middles]), np.concatenate([middles, ends - 1])
    # All chords of a level at once, of all lines: line by line takes five times as long, chord by chord more.
    while len(first):
        long = last - first >= 2
        first, last = first[long], last[long]
        if not len(first):
            break
        counts = last - first - 1
        offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
        chord = points[last] - points[first]
        owner = np.repeat(np.arange(len(first)), counts)
        inner = np.arange(counts.sum()) - offsets[owner] + first[owner] + 1
        between = points[inner] - points[first][owner]
        length = np.maximum(np.hypot(chord[:, 0], chord[:, 1]), 1e-9)[owner]
        distances = np.abs(chord[owner, 0] * between[:, 1] - chord[owner, 1] * between[:, 0]) / length
        farthest = np.maximum.reduceat(distances, offsets)
        hits = np.flatnonzero(distances == farthest[owner])
        split = inner[hits[np.searchsorted(owner[hits], np.arange(len(first)))]]
        far = farthest > tolerance
        keep[split[far]] = True
        first, last = np.concatenate([first[far], split[far]]), np.concatenate([split[far], last[far]])
    return [line[kept] for line, kept in zip(lines, np.split(keep, ends[:-1]), strict=True)]


def grey_jpeg(values: FloatArray, window: tuple[float, float]) -> str:
    """Encode values (rows, columns) as a data address; `window` becomes black to white."""
    low, high = window
    grey = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1) * 255
    stream = io.BytesIO()
    Image.fromarray(grey.round().astype(np.uint8)).save(stream, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def join_rasters(rasters: Sequence[tuple[str, Place]], size: tuple[int, int]) -> Image.Image:
    """Put pictures, as `grey_jpeg` gives them, into their places in one grey picture of `size` (width, height)."""
    whole = Image.new("L", size, BACKGROUND)
    for address, place in rasters:
        picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        left, top = round(place.x), round(place.y)
        corner = round(place.x + place.width) - left, round(place.y + place.height) - top
        whole.paste(picture.convert("L").resize(corner, Image.Resampling.LANCZOS), (left, top))
    return whole


def webp(picture: Image.Image) -> str:
    """Encode a picture as a data address, half as long as JPEG's."""
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "WEBP", quality=60, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def heat_png(values: FloatArray) -> str:
    """Encode values (rows, columns) in 0-1 as a data address: colours that fade out towards 0."""
    steps = np.linspace(0, 1, 256)
    colors = (_ramp(steps) * 255).round().astype(np.uint8)
    opacity = (np.clip(steps / 0.25, 0, 1) ** 0.8 * 215).round().astype(np.uint8)
    picture = Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8))
    picture.putpalette(colors.tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=opacity.tobytes(), optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def label_png(indices: NDArray[np.generic], colors: Mapping[int, str]) -> str:
    """Encode indices (rows, columns) of "#rrggbb" colours as a data address; 0, and what has no colour, is clear."""
    palette, opacity = np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8)
    for index, color in colors.items():
        palette[index], opacity[index] = np.frombuffer(bytes.fromhex(color[1:]), np.uint8), 255
    picture = Image.fromarray(indices.astype(np.uint8))
    picture.putpalette(palette.tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=opacity.tobytes(), optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _ramp(values: Vector) -> Vector:
    """Colours (N, 3) in sRGB 0-1 for values (N,) in 0-1.

    OKLab to linear sRGB by the matrices of Ottosson (2020), https://bottosson.github.io/posts/oklab/.
    """
    stops = np.linspace(0, 1, len(RAMP_OKLAB))
    lab = np.column_stack([np.interp(values, stops, channel) for channel in RAMP_OKLAB.T])
    to_cone = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((lab @ to_cone.T) ** 3 @ to_rgb.T, 0, 1)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))

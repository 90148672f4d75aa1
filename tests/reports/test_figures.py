"""Pictures: rendered or parsed, and held against the arrays that they were made from."""

import base64
import io
import re
from dataclasses import dataclass
from functools import cache
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.spatial.transform import Rotation

from bids_hsf.geometry import Grid
from bids_hsf.labels import Label
from bids_hsf.reports.figures import cut_mosaic, draw_localization, draw_segmentation

SVG = "{http://www.w3.org/2000/svg}"
LABELS = (Label(1, "Front", "Ant", "#e69f00"), Label(2, "Back", "Post", "#56b4e9"))


def make_grid(voxel_sizes, rotation=(0.0, 0.0, 0.0), extent_mm=(110, 90, 70)):
    """Grid around the origin whose axes are turned by `rotation` degrees."""
    shape = tuple(round(e / v) for e, v in zip(extent_mm, voxel_sizes, strict=True))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", rotation, degrees=True).as_matrix() @ np.diag(voxel_sizes)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


@cache
def make_label_map(grid, sides=("L", "R")):
    """Two ellipsoids of 44 x 14 x 14 mm that dip and diverge like hippocampi, front and back halves apart."""
    indices = np.indices(grid.shape).reshape(3, -1).T
    points = grid.to_mm(indices)
    label_map = np.zeros(grid.shape, np.uint8)
    for side, sign, offset in (("L", -1, 0), ("R", 1, 100)):
        if side not in sides:
            continue
        turn = Rotation.from_euler("xz", (-20, -12 * sign), degrees=True).as_matrix()
        local = (points - [26 * sign, 0, 0]) @ turn
        inside = ((local / [7, 22, 7]) ** 2).sum(axis=1) < 1
        values = np.where(local[:, 1] > 0, 1, 2) + offset
        label_map.reshape(-1)[inside] = values[inside]
    label_map.setflags(write=False)
    return label_map


@dataclass
class Panel:
    """A panel cut out of a parsed picture: its pixels, and its lines in the pixels' coordinates."""

    pixels: np.ndarray
    lines: list[tuple[ET.Element, list[np.ndarray]]]
    caption: str
    scale: float  # pixels a unit of the picture

    def filled(self, **wanted):
        """Mask of what the lines with these attributes enclose (even-odd)."""
        rows, columns = self.pixels.shape
        mask = np.zeros((rows, columns), bool)
        for element, lines in self.lines:
            if all(element.get(name.replace("_", "-")) == value for name, value in wanted.items()):
                for line in lines:
                    canvas = Image.new("1", (columns, rows))
                    ImageDraw.Draw(canvas).polygon([tuple(p) for p in line], fill=1)
                    mask ^= np.asarray(canvas)
        return mask


def parse_panels(svg):
    root = ET.fromstring(svg)
    captions = {(round(float(t.get("x")) - 11), round(float(t.get("y")) - 19)): t.text for t in root.iter(SVG + "text")}
    panels = []
    for image in root.iter(SVG + "image"):
        if image.get("class") != "scan":
            continue
        x, y = float(image.get("x")), float(image.get("y"))
        data = base64.b64decode(image.get("href").split(",")[1])
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        scale = pixels.shape[1] / float(image.get("width"))
        lines = []
        for path in root.iter(SVG + "path"):
            place = re.fullmatch(r"translate\((\S+) (\S+)\) scale\(.1\)", path.get("transform"))
            if (float(place[1]), float(place[2])) == (x, y):
                lines.append((path, [line / 10 * scale for line in parse_path(path.get("d"))]))
        caption = captions.get((round(x), round(y)), "")
        panels.append(Panel(pixels, lines, caption, scale))
    return root, panels


def parse_path(data):
    for part in re.findall(r"M[^M]*", data):
        start, steps = re.fullmatch(r"M(.*?)l(.*?)z?", part).groups()
        numbers = [int(n) for n in re.findall(r"-?\d+", steps)]
        yield np.cumsum([[int(n) for n in start.split()], *np.reshape(numbers, (-1, 2))], axis=0).astype(float)


def dice(a, b):
    return 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)


GRIDS = {
    "cubes": make_grid((1.0, 1.0, 1.0)),
    "oblique": make_grid((0.9, 0.9, 0.9), (14, -6, 18)),
    "slices": make_grid((0.5, 2.0, 0.5), (-20, 0, 0)),
}
COARSE = make_grid((1.6, 1.6, 1.6))


@pytest.fixture(scope="module", params=GRIDS.values(), ids=GRIDS)
def drawn(request):
    """A picture of a scan that is bright exactly where it is labelled."""
    grid = request.param
    label_map = make_label_map(grid)
    svg = draw_segmentation(cut_mosaic((label_map > 0).astype(np.float32), label_map, grid), LABELS)
    return svg, label_map, grid


def test_outlines_lie_where_the_labels_are(drawn):
    _, panels = parse_panels(drawn[0])
    assert len(panels) == 11
    scores = [dice(panel.filled(), panel.pixels > 127) for panel in panels if (panel.pixels > 127).sum() > 300]
    assert len(scores) >= 9
    assert min(scores) > 0.9


def test_left_is_on_the_left_and_front_is_in_front(drawn):
    _, panels = parse_panels(drawn[0])
    for panel in panels:
        columns = {index: panel.filled(data_index=index).nonzero() for index in ("1", "2", "101", "102")}
        centers = {index: where[1].mean() for index, where in columns.items() if len(where[1])}
        if panel.caption.startswith("Sagittal"):
            front, back = ("1", "2") if "left" in panel.caption else ("101", "102")
            assert set(centers) == {front, back}
            assert centers[front] > centers[back]  # the front is on the right
        else:
            middle = panel.pixels.shape[1] / 2
            assert all(center < middle if len(index) == 1 else center > middle for index, center in centers.items())
        if panel.caption == "Axial":
            assert columns["1"][0].mean() < columns["2"][0].mean()  # the front is on top


def test_millimetres_are_right_in_both_directions():
    grid = make_grid((0.8, 2.4, 1.2), extent_mm=(96, 96, 96))
    radii = np.linalg.norm(grid.to_mm(np.indices(grid.shape).reshape(3, -1).T), axis=1).reshape(grid.shape)
    ball = (radii < 15).astype(np.uint8)
    root, panels = parse_panels(draw_segmentation(cut_mosaic(ball.astype(float), ball, grid), LABELS))
    bars = [float(bar.get("width")) for bar in root.iter(SVG + "rect") if bar.get("class") == "scale-bar"]
    largest = max(range(len(panels)), key=lambda i: panels[i].filled().sum() if "mm" in panels[i].caption else 0)
    points = np.concatenate([line for _, lines in panels[largest].lines for line in lines])
    across, down = np.ptp(points, axis=0) / panels[largest].scale  # in units of the picture, as the bar
    assert across == pytest.approx(down, rel=0.06)
    assert across / bars[largest] == pytest.approx(3.0, rel=0.06)  # 30 mm against a bar of 10 mm


def test_sheets_of_one_voxel_are_drawn():
    grid = GRIDS["cubes"]
    sheet = np.zeros(grid.shape, np.uint8)
    sheet[20:40, 30:60, 30:36] = 1
    sheet[30, 30:60, 30:36] = 2
    assert 'data-index="2"' in draw_segmentation(cut_mosaic(np.ones(grid.shape), sheet, grid), LABELS)


def test_pictures_are_small_whole_and_the_same_each_time():
    grid = make_grid((0.8, 0.8, 0.8), (8, 5, -12), (96, 76, 56))
    label_map = make_label_map(grid)
    noise = np.random.default_rng(0).normal(100, 12, grid.shape).astype(np.float32) + 40 * (label_map > 0)
    entropy = np.abs(np.sin(np.indices(grid.shape).sum(axis=0) / 9)).astype(np.float32)

    def draw():
        return draw_segmentation(cut_mosaic(noise, label_map, grid), LABELS, entropy, grid)

    first = draw()
    assert first == draw()
    assert len(first) < 450_000
    assert "neurological" in first
    assert not re.search(r"20\d\d-\d\d", re.sub(r'href="[^"]*"', "", first))


def test_the_fragments_of_an_address_choose_what_lies_over_the_scan():
    grid = COARSE
    label_map = make_label_map(grid)
    cut = cut_mosaic(np.ones(grid.shape), label_map, grid)
    root = ET.fromstring(draw_segmentation(cut, LABELS, np.zeros(grid.shape, np.float32), grid))
    style = root.find(SVG + "style").text
    assert "#plain:target ~ .overlay,#entropy:target ~ .overlay,#entropy:target ~ .legend{visibility:hidden}" in style
    assert "#entropy:target ~ .entropy{visibility:visible}" in style
    children = list(root)
    targets = [i for i, child in enumerate(children) if child.get("id") in ("plain", "entropy")]
    for name in ("overlay", "legend", "entropy"):
        layer = [i for i, child in enumerate(children) if child.get("class") == name]
        assert layer
        assert min(layer) > max(targets)  # "~" reaches later siblings alone
    # Whatever knows no style shows the outlines, as does a picture without an entropy.
    drawn = [child for child in children if child.get("class") == "entropy" and child.tag != SVG + "defs"]
    assert {child.get("visibility") for child in drawn} == {"hidden"}
    assert "hidden" not in {child.get("visibility") for child in children if child.get("class") != "entropy"}
    assert all(child.get("class") != "entropy" for child in ET.fromstring(draw_segmentation(cut, LABELS)))


def test_entropy_is_opaque_where_it_is_high():
    grid = COARSE
    label_map = make_label_map(grid)
    entropy = (label_map > 100).astype(np.float32)
    svg = draw_segmentation(cut_mosaic(np.ones(grid.shape), label_map, grid), LABELS, entropy, grid)
    root = ET.fromstring(svg)
    maps = [image for image in root.iter(SVG + "image") if image.get("class") == "entropy"]
    assert len(maps) == 11
    data = base64.b64decode(maps[1].get("href").split(",")[1])
    opacity = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3]
    left, right = np.array_split(opacity, 2, axis=1)
    assert left.max() == 0
    assert right.max() > 180


@pytest.mark.parametrize("sides", [(), ("L",), ("R",)], ids=["none", "left", "right"])
def test_missing_hippocampi_and_empty_scans_are_drawn(sides):
    grid = COARSE
    label_map = make_label_map(grid, sides)
    image = np.full(grid.shape, np.nan if sides else 0.0, np.float32)
    for svg in (
        draw_segmentation(cut_mosaic(image, label_map, grid), LABELS),
        draw_segmentation(cut_mosaic(image, label_map, grid), LABELS, np.zeros(grid.shape, np.float32), grid),
        draw_localization(image, grid, np.zeros((4, 4, 4)), Grid((4, 4, 4), np.eye(4)), {}),
    ):
        _, panels = parse_panels(svg)
        assert panels


def test_names_are_escaped():
    grid = COARSE
    hostile = (Label(1, "x", '<script>alert("x")</script>', "#112233"),)
    svg = draw_segmentation(cut_mosaic(np.ones(grid.shape), make_label_map(grid), grid), hostile)
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg


@pytest.mark.parametrize("rotation", [(0, 0, 0), (12, 0, 20)], ids=["straight", "turned"])
def test_brain_and_boxes_lie_where_they_are(rotation):
    grid = make_grid((2.5, 2.5, 2.5), rotation, (180, 200, 160))
    points = grid.to_mm(np.indices(grid.shape).reshape(3, -1).T)
    brain_grid = make_grid((4.0, 4.0, 4.0), (5, 5, 5), (180, 200, 160))
    places = brain_grid.to_mm(np.indices(brain_grid.shape).reshape(3, -1).T)
    brain = ((places / [65, 80, 55]) ** 2).sum(axis=1).reshape(brain_grid.shape) < 1
    boxes = {}
    for side, x in (("L", -26), ("R", 26)):
        box = make_grid((1.0, 1.0, 1.0), (-10, 0, 8), (30, 50, 34))
        box.affine[:3, 3] += [x, -5, -8]
        boxes[side] = box
    in_brain = ((points / [65, 80, 55]) ** 2).sum(axis=1) < 1
    picture = draw_localization(in_brain.reshape(grid.shape).astype(float), grid, brain, brain_grid, boxes)
    _, panels = parse_panels(picture)
    assert [panel.caption for panel in panels] == ["Sagittal, left box", "Coronal", "Axial", "Sagittal, right box"]
    assert min(dice(panel.filled(data_outline="brain"), panel.pixels > 127) for panel in panels) > 0.95
    for side, box in boxes.items():
        voxels = box.to_voxels(points)
        inside = ((voxels > -0.5) & (voxels < np.array(box.shape) - 0.5)).all(axis=1)
        svg = draw_localization(inside.reshape(grid.shape).astype(float), grid, brain, brain_grid, boxes)
        _, panels = parse_panels(svg)
        assert min(dice(panel.filled(data_box=side), panel.pixels > 127) for panel in panels[1:3]) > 0.9
    other = [panels[0].filled(data_box="R"), panels[3].filled(data_box="L")]
    assert not any(mask.any() for mask in other)  # a sagittal cut shows its own box alone


@pytest.mark.parametrize("voxel_mm", [0.4, 1.0])
def test_pictures_have_two_pixels_a_voxel_and_no_more_than_units(voxel_mm):
    grid = make_grid((voxel_mm,) * 3, extent_mm=(80, 80, 60))
    cut = cut_mosaic(np.ones(grid.shape), make_label_map(grid), grid)
    _, panels = parse_panels(draw_segmentation(cut, LABELS))
    assert max(panel.scale for panel in panels) <= 1.02
    for (plane, _), panel in zip(cut.panels, panels, strict=True):
        pixel_mm = plane.width_mm / panel.pixels.shape[1]
        assert pixel_mm == pytest.approx(voxel_mm / 2, rel=0.02) or panel.scale == pytest.approx(1, rel=0.02)

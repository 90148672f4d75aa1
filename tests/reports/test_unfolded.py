"""The flat map of the report, drawn of a made-up sheet."""

import base64
import io
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image
from report_pages import SVG, Page, write_scan

from bids_hsf.files import write_text
from bids_hsf.labels import Label
from bids_hsf.reports.subject import subject_page
from bids_hsf.reports.unfolded import CELL_MM, SHEET_MM, cells, draw_unfolded

LABELS = (
    Label(1, "Below", "below", "#ff0000"),
    Label(2, "Above", "above", "#00ff00"),
    Label(3, "None", "x", "#0000ff"),
)


def decoded(address: str) -> np.ndarray:
    """Pixels (rows, columns, 4) of a picture in a data address."""
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    return np.asarray(picture.convert("RGBA"))


def sheet() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Both sides: label 1 in the lower half of the sheet, 2 in the upper, 3 off it; the right one ends half-way."""
    ap, pd = np.meshgrid((np.arange(80) + 0.5) / 80, (np.arange(40) + 0.5) / 40, indexing="ij")
    labels = np.zeros((80, 40, 3), np.uint8)
    labels[..., 0] = np.where(pd < 0.5, 1, 2)
    labels[..., 1] = np.where(ap < 0.5, labels[..., 0] + 100, 0)
    labels[..., 2] = 3
    on_sheet = (labels > 0) & (labels != 3)
    maps = {name: values[..., None] * on_sheet for name, values in {"AP": ap, "PD": pd, "entropy": ap}.items()}
    return labels, {name: values.astype(np.float32) for name, values in maps.items()}


def test_cells_run_from_the_front_to_the_tail_and_from_above_to_below() -> None:
    n_rows, n_columns = (round(mm / CELL_MM) for mm in SHEET_MM[::-1])
    found = cells(np.array([0.02, 0.98]), np.array([0.02, 0.98]))
    assert found.shape[:2] == (n_rows, n_columns)
    assert found[-1, 0, 0] == 0  # the front, where subiculum begins
    assert found[0, -1, 0] == 1
    assert found[0, 0, 0] == found[n_rows // 2, n_columns // 2, 0] == 2  # nothing is near
    assert (cells(np.zeros(0), np.zeros(0)) == 0).all()


def test_labels_and_entropy_stand_where_their_voxels_lie_on_the_sheet() -> None:
    root = ET.fromstring(draw_unfolded(*sheet(), LABELS))
    rasters = [element.get("href", "") for element in root if element.tag.endswith("image")]
    left, left_entropy, right, right_entropy = map(decoded, rasters)
    rows, columns = left.shape[:2]
    assert tuple(left[rows // 4, columns // 3]) == (0, 255, 0, 255)
    assert tuple(left[3 * rows // 4, columns // 3]) == (255, 0, 0, 255)
    assert (left[..., 3] > 0).mean() > 0.98
    assert right[rows // 2, columns // 4, 3] == 255
    assert right[rows // 2, 3 * columns // 4, 3] == right_entropy[rows // 2, 3 * columns // 4, 3] == 0
    brightness = left_entropy[rows // 2, [columns // 4, columns // 2, 3 * columns // 4], :3].sum(axis=1)
    assert (np.diff(brightness.astype(int)) > 0).all()
    words = " ".join("".join(element.itertext()) for element in root)
    assert "below" in words
    assert "above" in words
    assert " x " not in words  # it has no place on the sheet


def test_a_side_without_any_grey_matter_is_left_empty() -> None:
    labels, maps = sheet()
    labels[..., 1] = 0
    maps["AP"][..., 1] = 0
    root = ET.fromstring(draw_unfolded(labels, maps, LABELS))
    rasters = [element.get("href", "") for element in root if element.tag.endswith("image")]
    assert (decoded(rasters[2])[..., 3] == 0).all()


def test_page_shows_the_flat_map_where_there_is_one(tmp_path) -> None:
    write_scan(tmp_path)
    assert "Unfolded" not in Page(subject_page(tmp_path, "01")).text
    path = tmp_path / "sub-01/figures/sub-01_space-T1w_seg-hsf_desc-unfolded_dseg.svg"
    write_text(path, SVG)
    text = Page(subject_page(tmp_path, "01")).text
    assert "Unfolded" in text
    assert "laid flat" in text

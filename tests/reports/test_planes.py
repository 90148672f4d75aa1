import numpy as np
import pytest

from bids_hsf.geometry import Grid
from bids_hsf.reports.planes import (
    Plane,
    cross_section,
    describe_cut,
    head_planes,
    labelled_voxels,
    mosaic,
    percentile_window,
    thin_out,
)

AXIAL = Plane(np.zeros(3), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 40.0, 20.0, "Axial", ("L", "R"))


def box(shape: tuple[int, int, int], center: tuple[float, float, float] = (0, 0, 0)) -> Grid:
    """Grid of 1 mm voxels around a point."""
    affine = np.eye(4)
    affine[:3, 3] = np.array(center) - (np.array(shape) - 1) / 2
    return Grid(shape, affine)


def test_a_plane_is_tiled_from_its_top_left_corner() -> None:
    grid = AXIAL.tiles(0.5)
    assert grid.shape == (40, 80, 1)
    np.testing.assert_allclose(grid.to_mm(np.array([[0, 0, 0], [39, 79, 0]])), [[-19.75, 9.75, 0], [19.75, -9.75, 0]])
    np.testing.assert_allclose(AXIAL.project(np.array([[-20.0, 10, 0], [0, 0, 5]])), [[0, 0], [20, 10]])


def test_the_section_of_a_box_is_its_closed_outline() -> None:
    outline = cross_section(box((10, 6, 4)), AXIAL)
    assert outline is not None
    np.testing.assert_allclose(outline[0], outline[-1])
    assert {tuple(point) for point in outline.round(6).tolist()} == {(15, 7), (25, 7), (15, 13), (25, 13)}
    assert cross_section(box((10, 6, 4), (0, 0, 9)), AXIAL) is None


def test_labelled_voxels_are_told_by_side() -> None:
    label_map = np.zeros((9, 9, 9), np.uint8)
    label_map[1, 2, 3], label_map[7, 2, 3], label_map[7, 3, 3] = 2, 101, 103
    found = labelled_voxels(label_map)
    assert {side: voxels.tolist() for side, voxels in found.items()} == {"L": [[1, 2, 3]], "R": [[7, 2, 3], [7, 3, 3]]}
    assert labelled_voxels(np.zeros((3, 3, 3), np.uint8)) == {}


@pytest.mark.parametrize("sides", ["", "L", "LR"])
def test_a_mosaic_shows_each_side_both_from_above_and_slices(sides: str) -> None:
    grid = box((80, 60, 40))
    cloud = np.argwhere(np.ones((10, 36, 12)))
    places = {"L": (10, 12, 14), "R": (60, 12, 14)}
    rows, frame = mosaic({side: cloud + places[side] for side in sides}, grid)
    captions = [plane.caption for plane in rows[0]]
    assert sum(caption.startswith("Sagittal") for caption in captions) == max(len(sides), 1)
    assert "Axial" in captions
    assert sum(len(row) for row in rows[1:]) == 8
    assert len({plane.height_mm for plane in rows[0]}) == 1
    assert frame.follows_hippocampus == (sides == "LR")
    assert ("long axis" in describe_cut(frame)) == frame.follows_hippocampus


def test_close_ups_follow_each_hippocampus_on_its_own_way() -> None:
    grid = box((80, 60, 40))
    # A body that turns outwards and up behind.
    bent = np.array([(x + y // 4, 35 - y, z + y // 6) for y in range(36) for x in range(8) for z in range(6)])
    left = bent * (-1, 1, 1) + (28, 12, 14)
    rows, _ = mosaic({"L": left, "R": np.add(bent, (50, 12, 14))}, grid, close=True)
    assert [len(row) for row in rows] == [3, 4, 6, 6]
    for row, name in zip(rows[2:], ("Left", "Right"), strict=True):
        assert row[0].caption.startswith(f"{name}, ")
        middles = np.array([plane.center for plane in row])
        assert np.ptp(middles[:, 0]) > 5
        assert np.all(np.diff(middles[:, 1]) < 0)  # from head to tail
        # Both fill more of the panel than a view of both sides would.
        assert row[0].width_mm < rows[1][0].width_mm / 2
    assert len({(plane.width_mm, plane.height_mm) for row in rows[2:] for plane in row}) == 1
    assert len(mosaic({}, grid, close=True)[0]) == 3


def test_thick_slices_are_cut_as_they_were_acquired() -> None:
    grid = Grid((80, 20, 80), np.diag([1.0, 4, 1, 1]))
    cloud = np.argwhere(np.ones((10, 9, 10)))
    _, frame = mosaic({"L": np.add(cloud, (10, 5, 30)), "R": np.add(cloud, (60, 5, 30))}, grid)
    assert not frame.follows_hippocampus


def test_the_whole_head_is_cut_through_both_boxes() -> None:
    grid = box((100, 120, 90))
    image = np.zeros(grid.shape, np.float32)
    image[10:90, 10:110, 10:80] = 100
    boxes = {"L": box((20, 40, 20), (-25, -10, -10)), "R": box((20, 40, 20), (25, -10, -10))}
    planes = head_planes(image, grid, boxes)
    assert [plane.caption for plane in planes] == ["Sagittal, left box", "Coronal", "Axial", "Sagittal, right box"]
    assert planes[0].center[0] == pytest.approx(-25)
    assert [plane.caption for plane in head_planes(image, grid, {})] == ["Coronal", "Axial"]


def test_windows_bear_images_without_contrast() -> None:
    assert percentile_window(np.full((4, 4, 4), np.nan)) == (0.0, 1.0)
    assert percentile_window(np.full((4, 4, 4), 7.0)) == (7.0, 8.0)
    low, high = percentile_window(np.append(np.linspace(0, 100, 1000), 1e6))
    assert 0 <= low < 2
    assert 98 < high <= 101


def test_large_images_are_thinned_out() -> None:
    coarse, steps = thin_out(np.zeros((97, 96, 300)))
    assert coarse.shape == (49, 96, 75)
    assert steps.tolist() == [2, 1, 4]

"""The hippocampi are in their boxes, wherever the head lies, and a scan without them says so."""

import numpy as np
import pytest
from example_data import Disturbance
from heads import Head, boxes, head, upright
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from bids_hsf.errors import LocalizationError
from bids_hsf.geometry import Grid, resample
from bids_hsf.localization.coregistration import coregister
from bids_hsf.localization.crops import crop_grid, native_box
from bids_hsf.localization.locate import judged_at, locate
from bids_hsf.localization.location import DOUBTFUL_QUALITY, Location, head_axes, hippocampus_points, is_limited
from bids_hsf.localization.template import load_template

SIDES = ("L", "R")


def assert_in_boxes(location: Location, scan: Head) -> None:
    for side in SIDES:
        voxels = np.rint(scan.grid.to_voxels(scan.outermost(side))).astype(int)
        box = native_box(location, scan.grid, side)
        assert (voxels >= box.start).all()
        assert (voxels < box.stop).all()
        crop = crop_grid(location, scan.grid, side, 1.0)
        within = crop.to_voxels(scan.outermost(side))
        assert (within >= -0.5).all()
        assert (within <= np.array(crop.shape) - 0.5).all()
        # 25 x 38 x 40 mm, 4 mm more on each side, and a little for what templates do not know.
        assert np.prod(crop.shape) < 2.5 * 25 * 38 * 40


@pytest.mark.parametrize(("subject", "contrast"), [("icbm152", "T1w"), ("icbm152", "T2w"), ("colin27", "T1w")])
def test_upright_heads(subject: str, contrast: str) -> None:
    location = upright(subject, contrast)
    assert_in_boxes(location, head(subject, contrast))
    assert location.coverage == {"L": 1.0, "R": 1.0}
    assert not location.findings
    assert not location.doubtful
    assert 1.6e6 < (location.etiv_mm3 or 0) < 2.2e6


def test_template_is_found_in_itself() -> None:
    np.testing.assert_allclose(upright().scan_from_template, np.eye(4), atol=0.5)
    assert upright().quality > 0.9


@pytest.mark.parametrize(
    ("subject", "contrast", "disturbance"),
    [
        ("colin27", "T1w", Disturbance()),
        ("colin27", "T1w", Disturbance((30, 0, 0), (0, 40, -30), (1, 1, 1), "PSR")),
        ("colin27", "T1w", Disturbance((-10, 15, -25), (60, 0, 10), (2.0, 1.0, 3.0), "RAS")),
        ("icbm152", "T2w", Disturbance((25, -20, 30), (0, 0, 0), (1.5, 1.5, 1.5), "LPI", padding_mm=30)),
    ],
)
def test_moved_heads(subject: str, contrast: str, disturbance: Disturbance) -> None:
    scan = head(subject, contrast, disturbance)
    location = locate(scan.data, scan.grid)
    assert_in_boxes(location, scan)
    assert not location.findings
    turned = head_axes(location).T @ scan.motion[:3, :3] @ head_axes(upright(subject, contrast))
    assert np.degrees(np.arccos(np.clip((np.trace(turned) - 1) / 2, -1, 1))) < 5


def test_shaded_noisy_brain_without_skull() -> None:
    scan = head("colin27", "T1w", Disturbance((12, -8, 10), (5, 5, 5), (1.2, 1.2, 1.2), "RAS"))
    template = load_template()
    there = Grid(template.grid.shape, scan.motion @ upright("colin27").scan_from_template @ template.grid.affine)
    brain = resample(template.brain, there, scan.grid) > 0.5
    rng = np.random.default_rng(0)
    shading = np.exp(np.linspace(-0.8, 0.8, scan.data.shape[1]))[:, None]
    noise = rng.normal(0, 0.1 * np.percentile(scan.data, 98), scan.data.shape)
    location = locate(((scan.data * shading + noise) * brain).astype(np.float32), scan.grid)
    assert_in_boxes(location, scan)
    assert not location.doubtful


def test_head_without_header_may_point_anywhere() -> None:
    scan = head("colin27", "T1w", Disturbance((8, 5, -6), (0, 0, 0), (1.5, 1.5, 1.5), "RAS"))
    # Stored as PIR, a turn and no mirror, and read as if it were RAS.
    order, flipped = (1, 2, 0), (0, 1)
    data = np.flip(scan.data.transpose(order), flipped)
    new_from_old = np.eye(4)[[*order, 3]]
    for axis in flipped:
        new_from_old[axis] *= -1
        new_from_old[axis, 3] = data.shape[axis] - 1
    assert np.linalg.det(new_from_old) > 0
    stripped = Grid(data.shape, np.diag([1.5, 1.5, 1.5, 1.0]))
    motion = stripped.affine @ new_from_old @ np.linalg.inv(scan.grid.affine) @ scan.motion
    location = locate(data, stripped, orientation_known=False)
    assert_in_boxes(location, Head(data, stripped, motion, "colin27"))


def test_half_a_head_is_flagged_with_its_share() -> None:
    scan = head().cut((-200, -20, -200), (200, 200, 200))
    location = locate(scan.data, scan.grid)
    points = load_template().hippocampi
    for side in SIDES:
        expected = float((points[side][:, 1] > -20.5).mean())
        assert location.coverage[side] == pytest.approx(expected, abs=0.08)
    assert len(location.findings) == 2
    assert location.etiv_mm3 is None
    assert "field of view" in (location.etiv_reason or "")
    assert location.quality > DOUBTFUL_QUALITY


@pytest.mark.parametrize("middle_mm", [-65.0, 45.0])
def test_slab_beside_the_hippocampi_is_refused(middle_mm: float) -> None:
    scan = head("icbm152", "T2w").cut((-90, middle_mm - 15, -60), (90, middle_mm + 15, 90))
    for reference in (None, upright()):
        with pytest.raises(LocalizationError, match="field of view"):
            locate(scan.data, scan.grid, reference=reference)


def test_a_sliver_of_a_hippocampus_that_does_not_look_like_one_is_none() -> None:
    noise = np.random.default_rng(0).normal(100, 10, (60, 20, 60)).astype(np.float32)
    affine = np.diag([3.0, 1.0, 3.0, 1.0])
    affine[:3, 3] = (-90, -12, -80)
    with pytest.raises(LocalizationError, match="no hippocampus was found in the field of view") as caught:
        judged_at(noise, Grid(noise.shape, affine), np.eye(4))
    assert "expected 0.45 or more" in caught.value.message
    assert "whole-head scan of its session" in (caught.value.hint or "")


def t2w_slab(motion: NDArray[np.float64]) -> tuple[NDArray[np.float32], Grid]:
    """T2w slab of 0.8 x 2 x 0.8 mm through the front halves of the hippocampi."""
    still = head("icbm152", "T2w")
    affine = np.diag([0.8, 2.0, 0.8, 1.0])
    affine[:3, 3] = (-72, -18, -66)
    grid = Grid((180, 15, 180), affine)
    return resample(still.data, still.grid, Grid(grid.shape, np.linalg.inv(motion) @ affine)), grid


def test_slab_is_found_through_another_scan_of_the_session() -> None:
    """The head moves by 3 mm and 2 degrees between the scans."""
    motion = np.eye(4)
    angle = np.radians(2)
    motion[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    motion[:3, 3] = (2, -2, 1)
    data, grid = t2w_slab(motion)
    assert is_limited(grid)
    assert not is_limited(head().grid)
    together = coregister(data, grid, head().data, head().grid)
    assert together.is_usable()
    location = locate(data, grid, reference=upright().moved(together.reference_from_second))
    for side in SIDES:
        expected = apply_affine(motion, hippocampus_points(upright(), side))
        assert np.linalg.norm(hippocampus_points(location, side) - expected, axis=1).max() < 1
        assert 0.2 < location.coverage[side] < 0.8
    assert not location.doubtful
    # The other scan has the whole head.
    assert location.etiv_mm3 == upright().etiv_mm3


def test_what_is_no_head_is_doubtful() -> None:
    values = np.zeros((100, 100, 100), dtype=np.float32)
    values[50, 50, 50] = 1
    ball = (distance_transform_edt(values == 0, sampling=2) < 80).astype(np.float32)
    ball += gaussian_filter(np.random.default_rng(0).normal(0, 3, ball.shape), 3) * ball
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -100
    location = locate(ball, Grid(ball.shape, affine))
    assert location.doubtful
    assert any("may not have been found" in finding.text for finding in location.findings)
    assert location.etiv_mm3 is None
    assert "doubtful" in (location.etiv_reason or "")


def test_empty_image_is_refused() -> None:
    with pytest.raises(LocalizationError, match="empty"):
        locate(np.zeros((20, 20, 20), dtype=np.float32), Grid((20, 20, 20), np.eye(4)))


def test_answer_does_not_depend_on_what_was_located_before() -> None:
    scan = head("colin27")
    again = locate(scan.data, scan.grid)
    np.testing.assert_array_equal(again.scan_from_template, upright("colin27").scan_from_template)
    for side in SIDES:
        np.testing.assert_array_equal(again.hippocampi[side], upright("colin27").hippocampi[side])


def test_intracranial_volume_follows_the_size_of_the_head() -> None:
    scan, plain = head("colin27"), upright("colin27").etiv_mm3
    larger = locate(scan.data, Grid(scan.grid.shape, np.diag([1.05, 1.05, 1.05, 1.0]) @ scan.grid.affine))
    assert plain is not None
    assert larger.etiv_mm3 == pytest.approx(1.05**3 * plain, rel=0.03)


def test_own_hippocampi_replace_the_templates() -> None:
    scan = head("colin27")
    location = locate(scan.data, scan.grid, own=boxes())
    assert not location.findings
    box = native_box(location, scan.grid, "L", 2.0)
    np.testing.assert_allclose(scan.grid.to_mm(np.array([box.start]))[0], (-34, -40, -24), atol=1.1)
    np.testing.assert_allclose(scan.grid.to_mm(np.array([box.stop]))[0], (-19, -5, -4), atol=1.1)


def test_own_hippocampi_of_another_scan_are_not_used() -> None:
    scan = head("colin27")
    location = locate(scan.data, scan.grid, own=boxes(25.0))
    assert any("of another scan" in finding.text for finding in location.findings)
    for side in SIDES:
        np.testing.assert_allclose(location.hippocampi[side], upright("colin27").hippocampi[side], atol=3)


def test_heads_that_cannot_be_are_told() -> None:
    # Where there is nothing to see no hippocampus has a reason to move.
    grid = head("colin27").grid
    nothing = np.zeros(grid.shape, dtype=np.float32)
    nothing[0, 0, 0] = 1
    impossible = {
        "mirror image": np.diag([-1.0, 1, 1, 1]),
        "times as large": np.diag([0.6, 1, 1, 1]),
        "mm apart": np.diag([0.66, 1, 1, 1]),
    }
    for complaint, matrix in impossible.items():
        judged = judged_at(nothing, grid, matrix)
        assert judged.quality == 0
        assert any(complaint in finding.text for finding in judged.findings)
        assert judged.etiv_mm3 is None

"""What is measured of a hippocampus and of the image around it, on phantoms whose figures are known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import ndimage

from bids_hsf.findings import Finding, Weight
from bids_hsf.geometry import Grid
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.location import Location
from bids_hsf.localization.template import load_template
from bids_hsf.segmentation.decision import Segmentation
from bids_hsf.segmentation.hippocampi import Hippocampus
from bids_hsf.segmentation.measures import SideMeasures, alternation, largest_step, measure_side, noise_and_blur

ONE_MM = np.ones(3)
TEMPLATE = load_template()
# A box of 1 mm voxels around the template's left hippocampus, in its place in the head.
POINTS = TEMPLATE.hippocampi["L"]
START = np.round(POINTS.min(axis=0)).astype(int) - 12
SHAPE = tuple((np.round(POINTS.max(axis=0)).astype(int) + 13 - START).tolist())
GRID = Grid(SHAPE, np.array([[1.0, 0, 0, START[0]], [0, 1, 0, START[1]], [0, 0, 1, START[2]], [0, 0, 0, 1]]))


def body() -> np.ndarray:
    inside = np.zeros(SHAPE, bool)
    inside[tuple(np.round(GRID.to_voxels(POINTS)).astype(int).T)] = True
    return inside


def edges(noise: float, blur_mm: float) -> np.ndarray:
    """Checkers of 16 mm, 100 and 200, blurred, then noisy."""
    x, y, z = np.indices(SHAPE)
    plain = 100.0 + 100 * ((x // 16 + y // 16 + z // 16) % 2)
    smooth = ndimage.gaussian_filter(plain, blur_mm) if blur_mm else plain
    return (smooth + np.random.default_rng(0).normal(0, noise, SHAPE)).astype(np.float32)


@dataclass(frozen=True)
class Case:
    inside: np.ndarray
    sureness: float = 0.95

    def measured(
        self, data: np.ndarray | None = None, location: Location | None = None, grid: Grid = GRID
    ) -> SideMeasures:
        entropy = np.where(ndimage.binary_erosion(self.inside), 0.02, 0.5).astype(np.float32)
        foreground = np.where(self.inside, self.sureness, 0.0)
        by_all_views = np.ones_like(entropy)
        segmentation = Segmentation(self.inside.astype(np.uint8), *[by_all_views] * 4, 1, still_entropy=entropy)
        side = Hippocampus(
            hemisphere="L",
            crop=grid,
            slices=tuple(slice(0, n) for n in SHAPE),
            segmentation=segmentation,
            probabilities=np.stack([1 - foreground, foreground]).astype(np.float32),
            pass_volumes=np.zeros((1, 2), np.float32),
            volume_errors=np.full(2, np.nan),
            n_components=1,
        )
        return measure_side(side, AlignedScan("sub-01_T1w", edges(2, 0.5) if data is None else data, grid), location)


HERE = Location(np.eye(4), 0.9, {"L": 1.0, "R": 1.0})


def test_a_hippocampus_in_its_place() -> None:
    inside = body()
    found = Case(inside).measured(location=HERE)
    assert found.volume_mm3 == inside.sum()
    assert found.main_share == pytest.approx(1, abs=0.01)
    assert found.head_share == pytest.approx(1)
    assert found.overlap == pytest.approx(1)
    assert found.distance_mm == pytest.approx(0, abs=0.1)
    assert not found.is_turned
    assert found.structure_entropies == {1: pytest.approx(0.02)}
    assert found.median_entropy == pytest.approx(0.02)
    assert 0.05 < found.entropy < 0.4


def test_a_head_that_lies_as_none_does_is_told() -> None:
    turned = replace(HERE, findings=(Finding("head-turned", Weight.CHECK, "turned", 90.0, 45.0),))
    assert Case(body()).measured(location=turned).is_turned


def test_one_that_was_shifted_or_shrunk_or_broken() -> None:
    inside = body()
    shifted = Case(np.roll(inside, 9, axis=1)).measured(location=HERE)
    assert shifted.distance_mm == pytest.approx(9, abs=0.2)
    assert shifted.overlap is not None
    assert shifted.overlap < 0.8
    larger = Location(np.diag([2.0 ** (1 / 3)] * 3 + [1.0]), 0.9, {"L": 1.0, "R": 1.0})
    assert Case(inside).measured(location=larger).head_share == pytest.approx(0.5, rel=1e-3)
    broken = inside.copy()
    middle = SHAPE[1] // 2
    broken[:, middle - 3 : middle + 3] = False
    front, behind = broken[:, middle:].sum(), broken[:, :middle].sum()
    assert Case(broken).measured().main_share == pytest.approx(max(front, behind) / (front + behind), abs=0.02)


def test_an_empty_one_is_all_that_is_bad() -> None:
    found = Case(np.zeros(SHAPE, bool)).measured(location=HERE)
    assert (found.volume_mm3, found.main_share, found.overlap, found.structure_entropies) == (0, 0, 0, {})
    assert (found.entropy, found.median_entropy, found.distance_mm, found.look) == (1, 1, None, None)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_noise_is_measured_in_any_unit(scale: float) -> None:
    for noise in (4.0, 10.0, 25.0):
        snr, _ = noise_and_blur((scale * edges(noise, 1.0)).astype(np.float32), ONE_MM)
        low, high = np.percentile(edges(noise, 1.0), [5, 95])
        assert snr == pytest.approx((high - low) / noise, rel=0.1)


def test_blur_is_measured_through_noise() -> None:
    sharp, blurred, worse = (noise_and_blur(edges(3, mm), ONE_MM)[1] for mm in (0.5, 2.0, 4.0))
    noisy = noise_and_blur(edges(12, 0.5), ONE_MM)[1]
    assert sharp is not None
    assert blurred is not None
    assert worse is not None
    assert sharp > 1.4 * blurred > 1.4 * worse
    assert noisy == pytest.approx(sharp, rel=0.25)
    # Twice as fine voxels, the same edges.
    fine = np.repeat(np.repeat(np.repeat(edges(0, 2.0), 2, 0), 2, 1), 2, 2)
    assert noise_and_blur(fine, ONE_MM / 2)[1] == pytest.approx(blurred, rel=0.3)


def test_a_stripe_is_a_step_and_tissue_is_none() -> None:
    data = edges(5, 1.0)
    calm = largest_step(data)
    data[:, :, 20:23] += 200
    step = largest_step(data)
    assert calm is not None
    assert step is not None
    assert calm < 0.25 < 0.5 < step


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_head_that_moved_between_two_interleaves_alternates_and_tissue_and_noise_do_not(axis: int) -> None:
    still, noise = edges(5, 1.0), np.random.default_rng(3).normal(0, 9, SHAPE).astype(np.float32)
    moved = np.moveaxis(still.copy(), axis, 0)
    moved[::2] = np.roll(moved[::2], 3, axis=1)
    calm, most, found = alternation(still), alternation(noise), alternation(np.moveaxis(moved, 0, axis))
    assert calm is not None
    assert most is not None
    assert found is not None
    assert calm < most < 1.03 < 1.3 < found
    assert alternation(still[:, :8, :8][:9]) is None
    assert alternation(np.ones((20, 20, 20), np.float32)) is None


def test_wild_voxels_are_counted() -> None:
    data = edges(5, 1.0)
    assert Case(body()).measured(data).wild_share == 0
    data.ravel()[::100] = 1e6
    assert Case(body()).measured(data).wild_share == pytest.approx(0.01, rel=0.1)


def test_an_image_of_one_value_says_nothing() -> None:
    flat = np.full(SHAPE, 7, np.float32)
    assert noise_and_blur(flat, ONE_MM) == (None, None)
    assert largest_step(flat) is None
    found = Case(body()).measured(flat)
    assert (found.snr, found.sharpness, found.step, found.look) == (None, None, None, None)


@pytest.mark.parametrize(("sizes", "looked_at"), [((1.0, 1, 1), 1.0), ((0.5, 0.7, 0.5), 1.0), ((2.0, 2, 2), 0.5)])
def test_coarse_voxels_on_the_border_do_not_make_the_inside_unsure(
    sizes: tuple[float, float, float], looked_at: float
) -> None:
    """Of a hippocampus in voxels of 2 mm most lie on the border, where the label has to change."""
    thin = np.zeros(SHAPE, bool)
    thin[10:18, 10:40, 10:15] = True
    found = Case(thin).measured(grid=Grid(SHAPE, np.diag([*sizes, 1.0])))
    border = 1 - float(ndimage.binary_erosion(thin).sum() / thin.sum())
    assert border > 0.5
    assert found.median_entropy == pytest.approx(0.5 if looked_at == 1 else 0.02)
    assert found.structure_entropies == {1: found.median_entropy}
    assert found.entropy == pytest.approx(0.02 + 0.48 * (border - (1 - looked_at)) / looked_at, abs=0.001)

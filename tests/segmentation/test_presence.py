"""A hippocampus that is not there is told, one that is there is not."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from bids_hsf.segmentation.presence import Look, doubts, look_of

SHAPE = (40, 60, 40)
ONE_MM = np.ones(3)
FLUID, GREY, WHITE = {"T1w": 30.0, "T2w": 110.0}, {"T1w": 70.0, "T2w": 70.0}, {"T1w": 100.0, "T2w": 50.0}


@dataclass(frozen=True)
class Phantom:
    """A body of grey matter between white matter, cortex and fluid."""

    data: np.ndarray
    inside: np.ndarray

    def replaced(self, values: np.ndarray | float) -> "Phantom":
        return Phantom(np.where(self.inside, values, self.data).astype(np.float32), self.inside)


def phantom(contrast: str) -> Phantom:
    x, y, z = np.indices(SHAPE)
    inside = ((x - 20) / 7) ** 2 + ((y - 30) / 20) ** 2 + ((z - 20) / 6) ** 2 < 1
    data = np.where(x < 20, WHITE[contrast], GREY[contrast])
    data[z > 24] = WHITE[contrast]
    data[(z > 23) & (x > 20) & (z < 29)] = FLUID[contrast]
    data[inside] = GREY[contrast]
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return Phantom((ndimage.gaussian_filter(data, 0.6) + noise).astype(np.float32), inside)


def said(body: Phantom, voxel_sizes: np.ndarray = ONE_MM) -> tuple[str, ...]:
    return texts({"L": look_of(body.data, body.inside, voxel_sizes)}, {})


def texts(looks: dict[str, Look | None], volumes_mm3: dict[str, float]) -> tuple[str, ...]:
    return tuple(finding.text for finding in doubts(looks, volumes_mm3))


@pytest.mark.parametrize("contrast", ["T1w", "T2w"])
def test_a_hippocampus_is_there(contrast: str) -> None:
    assert said(phantom(contrast)) == ()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(scale: float) -> None:
    body = phantom("T1w")
    scaled = Phantom((body.data * scale).astype(np.float32), body.inside)
    found, expected = (look_of(each.data, each.inside, ONE_MM) for each in (scaled, body))
    assert found is not None
    assert expected is not None
    assert (found.rank, found.contrast, found.spread) == pytest.approx(
        (expected.rank, expected.contrast, expected.spread), rel=1e-3
    )


@pytest.mark.parametrize(
    ("contrast", "level", "noise", "words"),
    [
        ("T1w", 30.0, 4.0, "is as dark as the darkest"),
        ("T1w", 0.0, 4.0, "is as dark as the darkest 0%"),
        ("T2w", 125.0, 4.0, "is as bright as the brightest"),
        ("T1w", 70.0, 0.0, "is all of one intensity"),
        ("T1w", 70.0, 60.0, "is as motley as all that surrounds it"),
    ],
)
def test_what_is_none_is_told(contrast: str, level: float, noise: float, words: str) -> None:
    body = phantom(contrast)
    filling = np.random.default_rng(1).normal(level, noise, SHAPE)
    (doubt,) = said(body.replaced(filling))
    assert doubt.startswith(f"what is labelled as the left hippocampus {words}")
    assert doubt.endswith(": is it there?")


def test_what_is_somewhat_too_motley_is_a_note() -> None:
    # Of right label maps through dark slices, or under a spike.
    looks = {"L": Look(0.46, -0.15, 1.12), "R": Look(0.46, -0.15, 1.3)}
    left, right = doubts(looks, {})
    assert (left.weight, right.weight) == ("note", "fail")
    assert left.threshold == right.threshold == 1.0


def test_fine_voxels_are_passed_through_and_coarse_ones_say_nothing() -> None:
    body = phantom("T1w").replaced(np.random.default_rng(1).normal(30, 4, SHAPE))
    fine = Phantom(*(np.repeat(np.repeat(np.repeat(a, 2, 0), 2, 1), 2, 2) for a in (body.data, body.inside)))
    assert "is as dark as" in said(fine, ONE_MM / 2)[0]
    assert look_of(body.data[::6, ::6, ::6], body.inside[::6, ::6, ::6], 6 * ONE_MM) is None
    assert look_of(np.full(SHAPE, 7, np.float32), body.inside, ONE_MM) is None


@pytest.mark.parametrize(
    ("look", "is_told"),
    [
        (Look(0.38, -0.06, 0.08), False),  # a T1w whose grey levels lie close together, of known truth
        (Look(0.89, 0.53, 0.39), False),  # a T2w of an odd contrast
        (Look(0.92, 0.72, 0.16), True),  # fluid in its place in a T2w
        (Look(0.04, -0.67, 0.1), True),  # in a T1w
        (Look(0.4, -0.1, 0.0), True),  # a label map
    ],
)
def test_odd_contrasts_are_no_lesions(look: Look, is_told: bool) -> None:
    assert bool(texts({"L": look}, {})) is is_told


def test_two_that_are_unlike_are_told() -> None:
    sound, white = Look(0.33, -0.2, 0.25), Look(0.75, 0.3, 0.25)
    assert texts({"L": sound, "R": Look(0.4, -0.1, 0.3)}, {}) == ()
    (doubt,) = texts({"L": sound, "R": white}, {})
    assert doubt.startswith(
        "the two hippocampi do not look alike: 33% of what surrounds the left one is darker than it"
    )


def test_hardly_anything_is_no_hippocampus() -> None:
    looks = {"L": None, "R": None}
    assert texts(looks, {"L": 2100.0, "R": 900.0}) == ()
    assert texts(looks, {"L": 0.0, "R": 2100.0}) == ("only 0 mm3 of the left hippocampus were found: is it there?",)

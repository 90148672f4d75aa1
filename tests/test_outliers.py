"""What no tissue has goes; what is left stays as it is, bit by bit."""

import numpy as np
import pytest

from bids_hsf.outliers import tissue_range, without_outliers

SHAPE = (40, 44, 36)


def brain(seed: int = 0) -> np.ndarray:
    """Air, and a body of dark, middle and bright tissue with noise."""
    rng = np.random.default_rng(seed)
    data = np.abs(rng.normal(0, 4, SHAPE))
    data[8:32, 8:36, 6:30] = rng.choice([35.0, 75.0, 110.0], (24, 28, 24)) + rng.normal(0, 4, (24, 28, 24))
    return data.astype(np.float32)


def cleaned(data: np.ndarray) -> np.ndarray:
    return without_outliers(data, tissue_range(data))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, -900.0])
def test_a_sound_image_is_the_same_array(scale: float, offset: float) -> None:
    data = (brain() * scale + offset * scale).astype(np.float32)
    assert cleaned(data) is data


def test_black_and_enhanced_vessels_are_sound() -> None:
    data = brain()
    data[data < 20] = 0
    data[20:22, 20:24, 20:22] = 450
    assert cleaned(data) is data


@pytest.mark.parametrize("wild", [1e4, 3e6, -32768.0, -1e30])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_wild_voxels_become_tissue(wild: float, size: int) -> None:
    data = brain()
    sound = data.copy()
    data[10 : 10 + size, 10 : 10 + size, 10 : 10 + size] = wild
    found = cleaned(data)
    assert found.min() >= sound.min()
    assert found.max() <= sound.max()
    outside = data == sound
    np.testing.assert_array_equal(found[outside], sound[outside])


@pytest.mark.parametrize("fill", [-1000.0, -32768.0, 32767.0, 1e9])
def test_fill_around_a_brain_becomes_black(fill: float) -> None:
    data = brain()
    outside = np.ones(SHAPE, bool)
    outside[8:32, 8:36, 6:30] = False
    data[outside] = fill
    tissue = tissue_range(data)
    found = without_outliers(data, tissue)
    assert tissue.fills == (fill,)
    assert found[outside].max() == found.min() < 35
    assert found.min() > -35
    np.testing.assert_array_equal(found[~outside], data[~outside])


def test_fill_at_both_ends_goes() -> None:
    data = brain()
    data[:4], data[36:] = -5000, 9000
    assert set(tissue_range(data).fills) == {-5000, 9000}


def test_saturated_tissue_is_no_fill() -> None:
    data = np.minimum(brain(), 100)
    assert tissue_range(data).fills == ()
    assert cleaned(data) is data


def test_zero_around_a_brain_is_air_as_masks_leave_it() -> None:
    data = np.where(brain() > 20, brain() + 300, 0).astype(np.float32)
    assert tissue_range(data).fills == ()
    assert cleaned(data) is data


@pytest.mark.parametrize("level", [330.0, 2000.0])
def test_a_bright_slice_of_a_crop_becomes_tissue(level: float) -> None:
    """4 % of the voxels: as many as raise the deviation until the tissue has no contrast left."""
    crop = brain()[8:32, 8:36, 6:30]
    data = crop.copy()
    data[:, 14] += level
    tissue = tissue_range(data, is_crop=True)
    found = without_outliers(data, tissue)
    assert found.max() <= crop.max()
    others = np.arange(28) != 14
    np.testing.assert_array_equal(found[:, others], crop[:, others])
    assert without_outliers(crop, tissue_range(crop, is_crop=True)) is crop


def test_a_block_of_wild_voxels_does_not_tell_how_bright_tissue_is() -> None:
    data = brain()
    sound = data.copy()
    data[10:18, 10:20, 8:18] = 1e5
    assert cleaned(data).max() <= sound.max()


@pytest.mark.parametrize("air", [0.0, 2.0])
@pytest.mark.parametrize("share", [0.02, 0.06, 0.101])
def test_a_brain_in_much_air_is_no_outlier(air: float, share: float) -> None:
    """Masked brains in the box of a whole head, as FreeSurfer leaves them; newborns."""
    rng = np.random.default_rng(0)
    data = np.abs(rng.normal(0, air, (80, 80, 80))).astype(np.float32)
    side = round(data.size ** (1 / 3) * share ** (1 / 3))
    inside = (slice(10, 10 + side),) * 3
    data[inside] = rng.choice([35.0, 75.0, 110.0], (side,) * 3) + rng.normal(0, 4, (side,) * 3)
    data[12, 12, 12] = 1e6
    found = cleaned(data)
    assert found[12, 12, 12] < 150
    found[12, 12, 12] = data[12, 12, 12]
    np.testing.assert_array_equal(found, data)


def test_a_map_of_a_few_voxels_stays_what_it_is() -> None:
    data = np.zeros(SHAPE, np.float32)
    data[10:13, 10:13, 10:13] = np.arange(27).reshape(3, 3, 3)
    assert cleaned(data) is data


def test_scattered_wild_voxels_are_no_body() -> None:
    data = brain()
    data.ravel()[np.random.default_rng(0).choice(data.size, data.size // 50, replace=False)] = np.linspace(
        1e4, 1e5, data.size // 50
    )
    assert cleaned(data).max() < 150

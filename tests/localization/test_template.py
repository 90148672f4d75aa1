"""The packaged template is what its docstring says."""

import numpy as np

from bids_hsf.localization.template import BRAIN_CENTER, load_template


def test_arrays_lie_on_one_symmetric_grid() -> None:
    template = load_template()
    assert template.t1w.shape == template.brain.shape == template.grid.shape == (97, 115, 97)
    np.testing.assert_allclose(template.grid.voxel_sizes, 2.0)
    assert template.t1w.dtype == template.brain.dtype == np.float32
    assert template.brain.min() == 0
    assert template.brain.max() == 1
    np.testing.assert_array_equal(template.brain, template.brain[::-1])


def test_the_brain_is_as_large_as_the_symmetric_icbm152_and_turns_about_its_middle() -> None:
    template = load_template()
    assert 1.8e6 < template.brain.sum() * template.grid.voxel_volume < 2.0e6
    inside = template.grid.to_mm(np.argwhere(template.brain > 0.5))
    assert np.abs((inside.min(axis=0) + inside.max(axis=0)) / 2 - BRAIN_CENTER).max() < 5


def test_hippocampi_are_mirror_images_in_mm() -> None:
    hippocampi = load_template().hippocampi
    assert set(hippocampi) == {"L", "R"}
    assert hippocampi["L"][:, 0].max() < 0 < hippocampi["R"][:, 0].min()
    mirrored = hippocampi["R"] * [-1, 1, 1]
    assert {tuple(point) for point in mirrored} == {tuple(point) for point in hippocampi["L"]}
    assert 2000 < len(mirrored) < 6000


def test_it_is_read_once() -> None:
    assert load_template() is load_template()

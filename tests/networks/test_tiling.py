"""Tiles cover a crop, overlap, and blend into what they agree on."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_hsf.networks.tiling import HALO, OVERLAP, plan_tiles, predict_tiled


@given(
    shape=st.tuples(*[st.integers(1, 40).map(lambda n: 8 * n)] * 3),
    share=st.floats(0.05, 1.2),
)
@settings(max_examples=60, deadline=None)
def test_tiles_cover_the_crop_fit_and_overlap(shape, share):
    most = int(share * np.prod(shape))
    tiling = plan_tiles(shape, most, 8)
    if tiling is None:
        return
    assert np.prod(tiling.tile) <= most
    for size, length, starts in zip(shape, tiling.tile, tiling.starts, strict=True):
        assert starts[0] == 0
        assert starts[-1] + length == size
        assert all(start % 8 == 0 for start in starts)
        assert all(a + length - b >= OVERLAP for a, b in itertools.pairwise(starts))


def test_crop_that_fits_is_one_tile():
    assert plan_tiles((64, 64, 64), 64**3, 8).n_tiles == 1


def test_nothing_fits():
    assert plan_tiles((448, 448, 448), 1000, 8) is None


def test_blending_gives_back_what_each_tile_agrees_on():
    crop = np.random.default_rng(0).random((40, 104, 72), dtype=np.float32)
    tiling = plan_tiles(crop.shape, 40 * 64 * 64, 8)
    assert tiling.n_tiles > 1
    found = predict_tiled(lambda tile: np.stack([tile, 1 - tile]), crop, tiling)
    np.testing.assert_allclose(found, [crop, 1 - crop], atol=1e-6)


def test_border_of_a_tile_has_no_weight():
    """Whatever a network makes of the voxels next to its zero padding, it is not seen."""
    crop = np.zeros((32, 32, 104), np.float32)
    tiling = plan_tiles(crop.shape, 32 * 32 * 72, 8)

    def spoil_inner_borders(tile: np.ndarray) -> np.ndarray:
        answer = np.zeros((1, *tile.shape), np.float32)
        answer[..., :HALO] = answer[..., -HALO:] = 1
        return answer

    found = predict_tiled(spoil_inner_borders, crop, tiling)[0]
    assert (found[..., HALO:-HALO] == 0).all()

"""The core, on toy networks: crops, votes, both hippocampi on the scan's voxels."""

import gc
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from bids_trees import model_card
from scipy import ndimage
from twins import write_twin

from bids_hsf.errors import ScanError
from bids_hsf.geometry import Grid
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.location import Location
from bids_hsf.networks import members
from bids_hsf.networks.device import Device
from bids_hsf.networks.predictor import OnnxPredictor
from bids_hsf.segmentation import model
from bids_hsf.segmentation.hippocampi import Crop, Hippocampi, segment, segment_crop, vote_on
from bids_hsf.segmentation.model import Model, Options
from bids_hsf.segmentation.sampling import looks
from bids_hsf.segmentation.votes import Tally

CPU = Device("cpu", "CPUExecutionProvider", {}, n_threads=1)


@pytest.mark.parametrize("kept_bytes", [0, 1 << 30])
def test_members_that_vote_in_turn_are_the_ensemble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(model, "SMALL_ENSEMBLE_BYTES", kept_bytes)
    paths = tuple(write_twin(tmp_path / f"{n}.onnx", n_classes=3, shift=n / 5) for n in range(3))
    card = model_card(n_augmentations=2, members=())
    opened = Model(card, paths, CPU)
    grid = Grid((24, 20, 22), np.eye(4))
    data = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    contrast = AlignedScan("sub-01_T1w", data, grid)
    crops = [Crop(contrast, side, data[:: 1 if side == "L" else -1], grid) for side in "LR"]
    alive: list[int] = []

    gc.collect()  # what other tests left goes now, not while it is counted

    def count_open() -> int:
        return sum(type(thing) is OnnxPredictor for thing in gc.get_objects())

    elsewhere = count_open() - 1  # other tests' networks in this process, without the one that the model has open

    def counted_open(*arguments: object) -> OnnxPredictor:
        alive.append(count_open() - elsewhere)
        return OnnxPredictor(*arguments)

    monkeypatch.setattr(members, "OnnxPredictor", counted_open)
    votes = vote_on(crops, opened)
    # The first was open already; in turn, it was closed before the second was opened.
    assert alive == ([1, 2] if kept_bytes else [0, 0])
    monkeypatch.undo()
    for crop, found in zip(crops, votes, strict=True):
        networks = [OnnxPredictor(path, card, CPU) for path in paths]
        tally = Tally(crop.data, grid)
        tally.add(networks, list(islice(looks(card.recipe, 3, crop.random_state(Options().seed)), 3)))
        together = tally.votes()
        assert found.n_passes == together.n_passes == 9
        np.testing.assert_allclose(found.vote_sum, together.vote_sum, atol=1e-4)
        np.testing.assert_allclose(found.probability_sum, together.probability_sum, atol=1e-4)
    assert not np.allclose(votes[0].vote_sum, votes[1].vote_sum[:, ::-1])  # other random samples


# 4 mm voxels over the template's head.
HEAD = Grid((46, 55, 46), np.array([[4.0, 0, 0, -90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]]))
UPRIGHT = Location(np.eye(4), 1.0, {"L": 1.0, "R": 1.0}, 1.5e6)


@pytest.fixture
def opened(tmp_path: Path) -> Model:
    path = write_twin(tmp_path / "toy.onnx", n_classes=3)
    return Model(model_card(n_augmentations=0, members=()), [path], CPU)


def head(seed: int = 0) -> AlignedScan:
    data = np.random.default_rng(seed).normal(size=HEAD.shape).astype(np.float32)
    return AlignedScan("sub-01_T1w", data, HEAD)


def test_both_sides_lie_on_the_scans_grid(opened: Model) -> None:
    options = Options(full_uncertainty=True, probabilities=True, keep_islands=True)
    found = segment([head()], UPRIGHT, opened, options)
    assert found.label_map.shape == HEAD.shape
    assert set(found.maps) == {"entropy", "mutual_information", "expected_entropy", "vote_share"}
    left, right = (np.argwhere((found.label_map > low) & (found.label_map < low + 99)) for low in (0, 100))
    assert HEAD.to_mm(left)[:, 0].max() < 0 < HEAD.to_mm(right)[:, 0].min()
    assert found.probabilities is not None
    assert found.probabilities.shape == (*HEAD.shape, 4)
    chosen = found.label_map == 101
    assert (found.probabilities[chosen].argmax(axis=1) == 2).all()
    volumes = found.volumes(etiv_mm3=None)
    assert [v.voxels for v in volumes] == [(found.label_map == v.index).sum() for v in volumes]
    assert found.n_passes == 1
    assert found.spreads == {}


def test_outside_the_boxes_nothing_is_in_doubt(opened: Model) -> None:
    found = segment([head()], UPRIGHT, opened, Options(full_uncertainty=True))
    corner = (0, 0, 0)
    assert found.maps["entropy"][corner] == found.maps["expected_entropy"][corner] == 0
    assert found.maps["vote_share"][corner] == 1
    assert found.probabilities is None


def test_sides_are_the_same_however_many_threads_share_them(tmp_path: Path, opened: Model) -> None:
    twice = Model(opened.card, [tmp_path / "toy.onnx"], replace(CPU, n_threads=2))
    scans = [head(), replace(head(1), key="sub-01_T2w")]
    one, two = (segment(scans, UPRIGHT, each) for each in (opened, twice))
    np.testing.assert_array_equal(one.label_map, two.label_map)
    assert [side.hemisphere for side in two.sides] == ["L", "R"]
    for a, b in zip(one.sides, two.sides, strict=True):
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-6)


def test_islands_go_unless_they_are_to_be_kept(opened: Model) -> None:
    kept = segment([head()], UPRIGHT, opened, Options(keep_islands=True)).label_map > 0
    cleaned = segment([head()], UPRIGHT, opened).label_map > 0
    assert (kept | cleaned == kept).all()
    assert cleaned.sum() <= kept.sum()


def test_a_second_contrast_joins_its_votes(opened: Model) -> None:
    second = replace(head(1), key="sub-01_T2w")
    joined = segment([head(), second], UPRIGHT, opened)
    assert joined.n_passes == 2
    assert set(joined.spreads) == {1, 2, 101, 102}
    assert (joined.label_map != segment([head()], UPRIGHT, opened).label_map).any()


def test_a_second_contrast_elsewhere_is_passed_over(opened: Model) -> None:
    far = Grid(HEAD.shape, HEAD.affine + np.array([[0, 0, 0, 1000.0]] + [[0, 0, 0, 0]] * 3))
    joined = segment([head(), AlignedScan("sub-01_T2w", head(1).data, far)], UPRIGHT, opened)
    assert joined.n_passes == 1


def test_seed_and_scan_decide_the_random_views(tmp_path: Path) -> None:
    path = write_twin(tmp_path / "toy.onnx", n_classes=3)
    augmented = Model(model_card(n_augmentations=2, members=()), [path], CPU)
    one, same, other = (segment([head()], UPRIGHT, augmented, Options(seed=seed)).maps["entropy"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_hippocampus_outside_the_scan_is_refused(tmp_path: Path) -> None:
    low = Grid((46, 55, 8), HEAD.affine + np.array([[0, 0, 0, 0]] * 2 + [[0, 0, 0, 120.0]] + [[0, 0, 0, 0]]))
    contrast = AlignedScan("sub-01_T1w", head().data[:, :, :8], low)
    path = write_twin(tmp_path / "toy.onnx", n_classes=3)
    opened = Model(model_card(n_augmentations=0, voxel_size_mm=None, members=()), [path], CPU)
    with pytest.raises(ScanError, match="the left hippocampus lies outside the field of view"):
        segment([contrast], UPRIGHT, opened)


def test_a_ready_made_crop_comes_back_on_its_own_voxels(opened: Model) -> None:
    grid = Grid((24, 20, 22), np.eye(4))
    crop = AlignedScan("case", np.random.default_rng(0).normal(size=grid.shape).astype(np.float32), grid)
    found = segment_crop(crop, grid, opened)
    assert found.segmentation.labels.shape == grid.shape
    finer = Grid((48, 40, 44), np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]]))
    assert segment_crop(crop, finer, opened).segmentation.labels.shape == grid.shape


def test_a_closed_model_has_no_network_open(tmp_path: Path) -> None:
    path = write_twin(tmp_path / "toy.onnx", n_classes=3)
    with Model(model_card(n_augmentations=0, members=()), [path], CPU) as opened:
        assert opened.members.n_open == 1
    assert opened.members.n_open == 0


def test_views_are_taken_until_volumes_are_steady(tmp_path: Path) -> None:
    paths = [write_twin(tmp_path / f"{n}.onnx", n_classes=3, shift=n / 5) for n in range(2)]
    opened = Model(model_card(n_augmentations=0, members=()), paths, CPU, augmented=True)

    def found(**options: float) -> Hippocampi:
        return segment([smooth], UPRIGHT, opened, Options(**options))  # type: ignore[arg-type]

    noise = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=HEAD.shape), 1)
    smooth = AlignedScan("sub-01_T1w", (noise / noise.std()).astype(np.float32), HEAD)
    some, most = found(tolerance=0.9), found(tolerance=1e-6)
    assert some.n_passes == 2 * 9
    assert most.n_passes == 2 * 65
    # As if that number had been asked for.
    np.testing.assert_array_equal(some.label_map, found(n_augmentations=8).label_map)
    records = some.volumes(None).to_records()
    assert all(0 < record["volume_se_sampling"] < record["volume_mm3_sd"] for record in records)
    assert "volume_se_sampling" not in found(n_augmentations=3).volumes(None).to_records()[0]
    assert most.spreads[1]["sampling"] < some.spreads[1]["sampling"]

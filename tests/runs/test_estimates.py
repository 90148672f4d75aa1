"""Time and memory before a run: rough, and from what is known then."""

import json
from dataclasses import replace

import pytest
from bids_trees import model_card

from bids_hsf.hub.cards import AugmentationRecipe, Member
from bids_hsf.hub.models import find_card
from bids_hsf.networks.memory import HSF_FILE_BYTES
from bids_hsf.runs import estimates, pace
from bids_hsf.runs.config import Behaviour


def member(source: str, size: int | None) -> Member:
    return Member("x.onnx", source, size, "ab" * 32, None)


def test_sizes_are_those_of_the_card_else_of_the_files_else_of_hsf_networks(tmp_path) -> None:
    (tmp_path / "here.onnx").write_bytes(bytes(70))
    members = (member("https://hub/x", 50), member("here.onnx", None), member("gone.onnx", None))
    card = model_card(members=(*members, member("https://hub/y", None)), path=tmp_path / "card.yaml")
    assert estimates.float_sizes(card) == [50, 70, HSF_FILE_BYTES, HSF_FILE_BYTES]
    # Four int8 weights take the bytes of one of float32; of HSF's own networks the floats are known.
    assert estimates.float_sizes(replace(card, precision="int8")) == [200, 280, HSF_FILE_BYTES, HSF_FILE_BYTES]


def test_memory_grows_with_the_scan_and_the_largest_member() -> None:
    small = model_card(members=(member("https://hub/x", 10**7),), n_augmentations=0)
    large = replace(small, members=(member("https://hub/x", 10**7), member("https://hub/y", 10**8)))
    assert estimates.memory_mb(10**6, small, 0) < estimates.memory_mb(10**7, small, 0)
    assert estimates.memory_mb(10**6, small, 0) < estimates.memory_mb(10**6, large, 0)


def test_only_random_samples_take_the_memory_of_views() -> None:
    card = model_card()
    still = {"scales": (1.0, 1.0), "rotation_degrees": 0.0, "translation_mm": 0.0}
    mirror = AugmentationRecipe(flip_probability=1, affine_probability=1, **still)
    plain, random = (estimates.memory_mb(10**6, card, n) for n in (0, 20))
    assert random - plain == 60
    by_torchio = replace(card, recipe=replace(card.recipe, sampling="random"))
    assert estimates.memory_mb(10**6, by_torchio, 20) - plain == 230
    assert estimates.memory_mb(10**6, replace(card, recipe=mirror), 1) == plain


# Peaks of the resident set of workers on ICBM152 (8.5 million voxels), the larger of CPU provider and OpenVINO.
@pytest.mark.parametrize(
    ("model", "behaviour", "measured_mb"),
    [
        ("longaxis_single_fast", Behaviour(), 285),
        ("longaxis_single_fast", Behaviour(write_probabilities=True), 358),
        ("subfields_single_fast", Behaviour(), 297),
        ("subfields_single_fast", Behaviour(write_probabilities=True), 443),
        ("subfields_single_fast", Behaviour(write_coordinates=True), 375),
        ("subfields_bagging_sq", Behaviour(), 348),
    ],
)
def test_workers_take_no_more_than_is_expected_and_not_much_less(model, behaviour, measured_mb) -> None:
    card = find_card(model)
    expected_mb = estimates.memory_mb(193 * 229 * 193, card, card.n_augmentations, behaviour)
    assert measured_mb < expected_mb < 1.4 * measured_mb


def test_models_of_hsf_take_what_their_networks_take() -> None:
    card = find_card("bagging_accurate")
    assert 1500 < estimates.memory_mb(8_000_000, card, card.n_augmentations) < 2100


def test_seconds_grow_with_passes_and_fall_with_cores() -> None:
    card = find_card("longaxis_single_fast")
    one = estimates.seconds(8_000_000, card, 0, 1)
    assert estimates.seconds(8_000_000, card, 20, 1) > one > estimates.seconds(8_000_000, card, 0, 4)
    assert estimates.seconds(32_000_000, card, 0, 1) > one


def test_seconds_so_far_are_the_median_of_what_can_be_read(tmp_path) -> None:
    paths = []
    for name, content in {"a": {"Seconds": {"load": 1, "locate": 2.5}}, "b": {"Seconds": {"load": 9}}, "c": {}}.items():
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(content))
    assert estimates.seconds_so_far(paths) == 6.25
    assert estimates.seconds_so_far([paths[2], tmp_path / "none.json"]) is None


def test_networks_on_the_scans_own_voxels_take_the_more_the_smaller_these_are() -> None:
    native, own = model_card(voxel_size_mm=None, n_augmentations=0), model_card(voxel_size_mm=0.5, n_augmentations=0)
    assert estimates.flop_of(native, 0, 0.125) == pytest.approx(8 * estimates.flop_of(native, 0, 1.0))
    assert estimates.flop_of(own, 0, 1.0) == pytest.approx(estimates.flop_of(native, 0, 0.125))
    assert estimates.flop_of(native, 3, 1.0) == pytest.approx(4 * estimates.flop_of(native, 0, 1.0))


def test_int8_files_are_a_quarter_of_the_size_of_networks_that_compute_as_much() -> None:
    floats, bytes_ = find_card("longaxis_bagging_accurate"), find_card("longaxis_bagging_sq")
    assert estimates.flop_of(bytes_, 1) == pytest.approx(estimates.flop_of(floats, 1), rel=0.15)
    assert estimates.seconds(8_000_000, bytes_, 1, 1) < estimates.seconds(8_000_000, floats, 1, 1)


def test_int8_files_that_nobody_has_seen_are_thought_to_compute_as_much_as_hsfs_float_ones() -> None:
    floats, int8 = find_card("bagging_accurate"), find_card("bagging_sq")
    assert estimates.flop_of(int8, 7) == estimates.flop_of(floats, 7)
    assert estimates.seconds(8_000_000, int8, 7, 2) < estimates.seconds(8_000_000, floats, 7, 2)


def test_a_faster_provider_shortens_what_the_networks_take_and_nothing_else() -> None:
    card = find_card("longaxis_bagging_fast")
    cpu, openvino, gpu = (estimates.seconds(8_000_000, card, 0, 1, device=name) for name in ("cpu", "openvino", "cuda"))
    assert cpu > openvino > gpu > estimates.SECONDS_BESIDE_THE_NETWORK


# Processor seconds of further scans of ICBM152's T1w (tests/benchmarks/estimates.py) over `pace.slowness`, on a shared
# Xeon with AMX.
@pytest.mark.parametrize(
    ("model", "views", "device", "seconds"),
    [
        ("longaxis_single_fast", 0, "cpu", 2.26),
        ("longaxis_single_fast", 20, "openvino", 5.63),
        ("longaxis_bagging_accurate", 1, "openvino", 3.93),
        ("longaxis_bagging_sq", 1, "cpu", 5.12),
        ("longaxis_bagging_sq", 1, "openvino", 2.42),
        ("subfields_single_fast", 0, "openvino", 3.19),
        ("subfields_single_fast", 20, "cpu", 19.6),
        ("subfields_bagging_sq", 1, "openvino", 3.86),
    ],
)
def test_the_estimate_of_a_packaged_model_is_what_was_measured_within_half(model, views, device, seconds) -> None:
    told = estimates.seconds(8_000_000, find_card(model), views, 1, device=device)
    assert seconds / 1.5 < told < seconds * 1.5


def test_time_is_told_at_the_pace_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card("longaxis_single_fast")
    there = estimates.seconds(estimates.USUAL_VOXELS, card, 1, 1)
    for slowness in (0.5, 1.0, 3.0):
        monkeypatch.setattr(estimates, "slowness", lambda slowness=slowness: slowness)
        assert estimates.mean_seconds([], card, 1, 1, "cpu") == pytest.approx(slowness * there)


def test_the_pace_is_measured_once_and_is_that_of_a_computer() -> None:
    pace.slowness.cache_clear()
    first = pace.slowness()
    # Nobody's processor is ten times as fast as one of 2023, and this app is of no use on one that is 50 times slower.
    assert 0.1 < first < 50
    assert pace.slowness() == first


def test_more_labels_take_longer() -> None:
    few, many = model_card(), find_card("subfields_single_fast")
    many = replace(many, members=few.members, precision=few.precision, voxel_size_mm=few.voxel_size_mm)
    assert len(many.labels) > len(few.labels)
    of_few, of_many = (estimates.seconds(estimates.USUAL_VOXELS, card, 0, 1) for card in (few, many))
    assert of_many > of_few

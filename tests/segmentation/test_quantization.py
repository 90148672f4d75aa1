"""int8 twins: made of the packaged network, judged on a real hippocampus, and refused where they cannot be."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from bids_trees import model_card
from fast_app import write_card
from heads import head, upright
from toy_networks import make_unet, write_network
from twins import write_sq_twin

from bids_hsf.cli.hub import main
from bids_hsf.errors import ModelError, UsageError
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.models import fetch, find_card
from bids_hsf.hub.twin_card import write_twin_card
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.networks.quantizing import Quantized
from bids_hsf.networks.sessions import CPU, SessionSettings, open_session
from bids_hsf.segmentation.coordinates import CoordinatesNetwork
from bids_hsf.segmentation.hippocampi import Crop, cut_crops
from bids_hsf.segmentation.model import Model, open_ensemble
from bids_hsf.segmentation.quantization import PLAIN, check_quantizable, compare, make_twin, network_inputs

NAME = "longaxis_single_fast"
ON_CPU = SessionSettings(CPU, {}, 1)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return find_card(NAME)


@pytest.fixture(scope="module")
def model(card: ModelCard) -> Model:
    return open_ensemble(fetch(card), "cpu", 1)


@pytest.fixture(scope="module")
def crops(model: Model) -> list[Crop]:
    """Left and right hippocampus of a real head."""
    shown = head()
    scan = AlignedScan("sub-icbm152_T1w", shown.data, shown.grid)
    return [crop for side in "LR" for crop in cut_crops([scan], upright(), side, model, PLAIN)]


@pytest.fixture(scope="module")
def twin(card: ModelCard, crops: list[Crop], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "twin" / "single_int8.onnx"
    made = make_twin(fetch(card).member_paths[0], path, network_inputs(crops[:1], card), ON_CPU)
    assert made.in_float == ()
    return path


def test_inner_convolutions_read_eight_bits_and_the_ends_do_not(twin: Path) -> None:
    graph = onnx.load(twin).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    read = [made_by.get(node.input[0]) for node in graph.node if node.op_type == "Conv"]
    assert read[0] != "DequantizeLinear"
    assert read[-1] != "DequantizeLinear"
    assert read[1:-1] == ["DequantizeLinear"] * (len(read) - 2)
    int8 = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert sum(np.prod(tensor.dims) for tensor in int8) > 1e6


def test_network_whose_nodes_have_no_names_has_a_twin_too(tmp_path: Path) -> None:
    source, seen = write_network(tmp_path / "net.onnx", depth=3), [np.ones((1, 1, 8, 8, 8), np.float32)]
    assert not any(node.name for node in onnx.load(source).graph.node)
    Quantized(source, seen).write(tmp_path / "twin.onnx")
    graph = onnx.load(tmp_path / "twin.onnx").graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    read = [made_by.get(node.input[0]) for node in graph.node if node.op_type == "Conv"]
    assert read[0] != "DequantizeLinear"
    assert read[1:-1] == ["DequantizeLinear"] * (len(read) - 2)


@pytest.mark.parametrize("float_answers", [False, True], ids=["answers rounded", "answers in float"])
def test_convolutions_left_in_float_are_those_of_the_network(tmp_path: Path, float_answers: bool) -> None:
    source, target = tmp_path / "net.onnx", tmp_path / "twin.onnx"
    source.write_bytes(make_unet(widths=(4, 8)).SerializeToString())
    seen = np.random.default_rng(0).normal(size=(1, 1, 16, 16, 16)).astype(np.float32)
    expected = open_session(source, ON_CPU).run(seen)
    quantized = Quantized(source, [seen], float_answers=float_answers)
    errors = []
    for in_float in ((), quantized.convolutions[:3], quantized.convolutions):
        quantized.write(target, in_float)
        onnx.checker.check_model(target)
        nodes = onnx.load(target).graph.node
        made_by = {output: node.op_type for node in nodes for output in node.output}
        int8 = {node.name for node in nodes if node.op_type == "Conv" and made_by.get(node.input[1])}
        assert int8 == set(quantized.convolutions) - set(in_float)
        # Nothing else reads what was rounded for the convolutions: skips and the image stay exact.
        others = [name for node in nodes if node.op_type in ("Concat", "MaxPool") for name in node.input]
        assert "DequantizeLinear" not in {made_by.get(name) for name in others}
        errors.append(np.abs(open_session(target, ON_CPU).run(seen) - expected).max())
    assert errors[0] > 0
    assert errors[-1] == 0


def test_what_bears_no_rounding_is_left_in_float(tmp_path: Path) -> None:
    """One bright voxel in what calibration sees makes the steps of all activations coarse."""
    source = tmp_path / "net.onnx"
    source.write_bytes(make_unet(widths=(4, 8)).SerializeToString())
    rng = np.random.default_rng(0)
    seen = [rng.normal(size=(1, 1, 16, 16, 16)).astype(np.float32) for _ in range(2)]
    seen[1][0, 0, 0, 0, 0] = 1000.0
    made = make_twin(source, tmp_path / "twin.onnx", seen, ON_CPU)
    quantized = Quantized(source, seen[:1])
    assert 1 <= len(made.in_float) < made.n_convolutions
    assert set(made.in_float) <= set(quantized.convolutions)
    assert sum(quantized.work[name] for name in made.in_float) <= sum(quantized.work.values()) / 4


def test_work_of_convolutions_is_their_voxels_times_their_weights(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    source.write_bytes(make_unet(widths=(4, 8)).SerializeToString())
    work = Quantized(source, [np.ones((1, 1, 16, 8, 8), np.float32)]).work
    voxels = 16 * 8 * 8
    # Two blocks of three convolutions each beside the outer ones: half the size below, and the whole one above.
    expected = [4 * 4 * 27 * voxels, *(8 * n * voxels / 8 for n in (4 * 27, 8 * 27, 4))]
    expected += [4 * n * voxels for n in (12 * 27, 4 * 27, 12)]
    assert sorted(work.values()) == sorted(expected)


def test_twin_finds_what_its_network_finds_where_it_was_not_calibrated(
    card: ModelCard, crops: list[Crop], twin: Path, model: Model
) -> None:
    path = twin.parents[1] / "twin_card.yaml"
    write_twin_card(path, card, "twin", [twin], "as good as its network")
    found = find_card(str(path))
    assert (found.name, found.precision, found.family, found.labels) == ("twin", "int8", "longaxis", card.labels)
    assert [merge.name for merge in found.merges] == [merge.name for merge in card.merges]
    assert found.members[0].size == twin.stat().st_size
    with open_ensemble(fetch(found), "cpu", 1) as opened:
        agreement = compare(crops[1:], model, opened)
    assert agreement.n_crops == 1
    assert set(agreement.dice) == {"anterior", "posterior", "whole"}
    assert min(agreement.dice.values()) > 0.98


def test_twin_brings_the_network_that_tells_coordinates(tmp_path: Path) -> None:
    card = find_card(f"{write_card(tmp_path)}:toy_fast")
    twin = tmp_path / "hub" / "twin" / "toy_int8.onnx"
    twin.parent.mkdir(parents=True)
    shutil.copyfile(tmp_path / "toy.onnx", twin)
    write_twin_card(tmp_path / "hub" / "twin.yaml", card, "twin", [twin], "as good as its network")
    for name in ("toy.onnx", "coordinates.onnx", "toy.yaml"):
        (tmp_path / name).unlink()
    found = find_card(str(tmp_path / "hub" / "twin.yaml"))
    fetch(found, offline=True)
    assert found.coordinates is not None
    assert card.coordinates is not None
    assert found.coordinates.labels == card.coordinates.labels
    CoordinatesNetwork(found, 1)(np.full((3, 8, 8, 8), 1 / 3, np.float32))


def test_inputs_are_crops_as_networks_see_them_and_their_mirror_images(card: ModelCard, crops: list[Crop]) -> None:
    plain, mirrored = network_inputs(crops[:1], card)
    assert plain.shape[:2] == (1, 1)
    assert all(n % card.pad_multiple == 0 for n in plain.shape[2:])
    np.testing.assert_allclose(mirrored.mean(), plain.mean(), atol=1e-4)
    assert not np.array_equal(plain, mirrored)


def test_network_without_float_convolutions_is_refused_and_nothing_written(tmp_path: Path) -> None:
    source = write_sq_twin(tmp_path / "sq.onnx")
    with pytest.raises(ModelError, match="no convolution in float32"):
        make_twin(source, tmp_path / "hub" / "twin.onnx", [np.zeros((1, 1, 8, 8, 8), np.float32)], ON_CPU)
    assert not (tmp_path / "hub").exists()


def test_what_calibration_cannot_run_is_an_error_that_names_the_file(card: ModelCard, tmp_path: Path) -> None:
    source = fetch(card).member_paths[0]
    with pytest.raises(ModelError, match="single.onnx: it cannot be quantised"):
        make_twin(source, tmp_path / "twin.onnx", [np.zeros((1, 1, 8, 8), np.float32)], ON_CPU)
    assert not list(tmp_path.iterdir())


def test_int8_model_needs_no_twin_and_onnx_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is int8 already"):
        check_quantizable(replace(model_card(members=()), precision="int8"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match="needs the package onnx") as caught:
        check_quantizable(model_card(members=()))
    assert "bids-hsf[quantize]" in (caught.value.hint or "")


def test_command_says_where_the_twin_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BIDS_HSF_HUB", raising=False)
    assert main(["quantize", NAME, "--scans", str(tmp_path / "none.nii.gz")]) == 2
    assert "--dest" in capsys.readouterr().err
    assert main(["quantize", NAME, "--scans", str(tmp_path / "none.nii.gz"), "--dest", str(tmp_path), "--json"]) == 66
    assert "none.nii.gz" in json.dumps(capsys.readouterr())

"""What the file of a network tells of itself, and what is left to people."""

import dataclasses
import re
from pathlib import Path

import onnx
import pytest
from onnx import helper
from toy_networks import make_network, write_network
from twins import write_sq_twin, write_twin

from bids_hsf.errors import ModelError
from bids_hsf.hub.cards import ModelCard, load_cards
from bids_hsf.segmentation.card_draft import OPEN_FIELDS, draft_card, unfilled


def drafted(network: Path, name: str = "card.yaml", url: str | None = None) -> ModelCard:
    """The card of a network, written and read again."""
    path = network.parent / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(draft_card(network, path, url).text, encoding="utf-8")
    return load_cards(path)[0]


def write_pooling_network(path: Path, multiple: int) -> Path:
    """A network that goes down by `multiple` and up again, so that no other sides come back whole."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["down"], kernel_shape=[multiple] * 3, strides=[multiple] * 3),
        helper.make_node("Resize", ["down", "", "scales"], ["up"], mode="nearest"),
        helper.make_node("Sub", ["x", "up"], ["rest"]),
        helper.make_node("Concat", ["rest", "up"], ["y"], axis=1),
    ]
    scales = helper.make_tensor("scales", onnx.TensorProto.FLOAT, [5], [1, 1, multiple, multiple, multiple])
    tensors = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, "a", "b", "c"])
        for name, channels in (("x", 1), ("y", 2))
    ]
    graph = helper.make_graph(nodes, "pool", tensors[:1], tensors[1:], [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_all_that_the_file_tells(tmp_path: Path) -> None:
    card = drafted(write_network(tmp_path / "Lab-Net_v2.1.onnx", n_classes=4))
    assert (card.family, card.name, card.version) == ("LabNet", "LabNet_fast", "2.1")
    assert (card.output, card.precision, card.pad_multiple) == ("probabilities", "float32", 1)
    assert [label.index for label in card.labels] == [1, 2, 3]
    (member,) = card.members
    assert (member.source, member.size) == ("Lab-Net_v2.1.onnx", (tmp_path / "Lab-Net_v2.1.onnx").stat().st_size)
    assert member.sha256 is not None
    assert member.xxh3_64 is not None


def test_merges_stand_ready_behind_their_hash_marks(tmp_path: Path) -> None:
    network = write_network(tmp_path / "net.onnx", n_classes=4)
    path = tmp_path / "net.yaml"
    path.write_text(re.sub(r"^# ?(?=merges:|  )", "", draft_card(network, path).text, flags=re.MULTILINE))
    (card,) = load_cards(path)
    (merge,) = card.merges
    assert (merge.name, [label.abbreviation for label in merge.labels]) == ("whole", ["hippocampus"])


@pytest.mark.parametrize("multiple", [2, 8])
def test_what_the_sides_of_a_crop_have_to_be(tmp_path: Path, multiple: int) -> None:
    card = drafted(write_pooling_network(tmp_path / "pool.onnx", multiple))
    assert (card.pad_multiple, card.output, len(card.labels)) == (multiple, "logits", 1)


def test_int8_is_seen(tmp_path: Path) -> None:
    assert drafted(write_sq_twin(tmp_path / "sq.onnx")).precision == "int8"


def test_where_the_file_is(tmp_path: Path) -> None:
    network = write_twin(tmp_path / "net.onnx", n_classes=2)
    url = "https://models.example.org/net.onnx"
    assert drafted(network, url=url).members[0].source == url
    assert drafted(network, "other/card.yaml").members[0].source == network.as_uri()
    odd = write_twin(tmp_path / "né t.onnx", n_classes=2)
    assert drafted(odd).members[0].source == odd.as_uri()


def test_what_is_left_is_told(tmp_path: Path) -> None:
    network = write_twin(tmp_path / "net.onnx", n_classes=2)
    card = drafted(network)
    assert set(unfilled(card)) - {"labels"} <= set(OPEN_FIELDS)
    assert "license" in unfilled(card)
    filled = dataclasses.replace(card, license="MIT", authors=("Ada",))
    assert {"license", "authors"} & set(unfilled(filled)) == set()


def test_what_is_no_such_network(tmp_path: Path) -> None:
    path = tmp_path / "flat.onnx"
    model = make_network()
    model.graph.node[-1].output[0] = "probabilities"
    model.graph.node.append(helper.make_node("ReduceMean", ["probabilities"], ["mean"], axes=[2], keepdims=1))
    model.graph.output[0].name = "mean"
    onnx.save(model, path)
    with pytest.raises(ModelError, match="gives an output of"):
        draft_card(path, tmp_path / "card.yaml")
    path.write_bytes(b"no network")
    with pytest.raises(ModelError, match="not an ONNX file"):
        draft_card(path, tmp_path / "card.yaml")

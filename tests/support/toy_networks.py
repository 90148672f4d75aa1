"""Small networks of 3x3x3 convolutions with random weights, for what twins.py's single voxel cannot show."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bids_trees import model_card
from onnx import TensorProto, helper, numpy_helper

from bids_hsf.hub.cards import ModelCard
from bids_hsf.labels import Label
from bids_hsf.networks.device import Device

CPU = Device("cpu", "CPUExecutionProvider", {}, n_threads=1, memory_bytes=1 << 40)

PROBE = Path(__file__).parents[2] / "bids_hsf" / "data" / "probe.onnx"


def make_network(
    n_classes: int = 3,
    width: int = 4,
    *,
    depth: int = 2,
    instance_norm: bool = False,
    axes: Sequence[int | str] = ("x", "y", "z"),
) -> onnx.ModelProto:
    """`depth` convolutions of `width` maps, each with leaky ReLU, then a 1x1x1 convolution and softmax."""
    rng = np.random.default_rng(width)
    nodes, tensors = [], []

    def add(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weights(name: str, *shape: int) -> str:
        values = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        tensors.append(numpy_helper.from_array(values, name))
        return name

    current, n_in = "crop", 1
    for layer in range(depth):
        kernel = weights(f"kernel{layer}", width, n_in, 3, 3, 3)
        current = add("Conv", [current, kernel], f"conv{layer}", pads=[1] * 6)
        if instance_norm:
            tensors.append(numpy_helper.from_array(np.ones(width, np.float32), f"scale{layer}"))
            tensors.append(numpy_helper.from_array(np.zeros(width, np.float32), f"shift{layer}"))
            inputs = [current, f"scale{layer}", f"shift{layer}"]
            current = add("InstanceNormalization", inputs, f"norm{layer}")
        current = add("LeakyRelu", [current], f"active{layer}", alpha=0.01)
        n_in = width
    logits = add("Conv", [current, weights("head", n_classes, width, 1, 1, 1)], "logits")
    add("Softmax", [logits], "labels", axis=1)
    return _model(nodes, tensors, n_classes, axes)


def toy_card(n_classes: int = 6, **changes: object) -> ModelCard:
    """Card of a made-up model of probabilities that names no files."""
    labels = tuple(Label(i, f"Structure {i}", f"S{i}", "#ff0000") for i in range(1, n_classes))
    return model_card(**{"labels": labels, "members": (), "merges": (), **changes})


def write_model(path: Path, nodes: list[onnx.NodeProto], out_shape: list[int | str], **options: object) -> Path:
    """Network `nodes` from "x" to "y" with declared output shape; options: in_shape, in_type, more_inputs, tensors."""
    kind = options.get("in_type", TensorProto.FLOAT)
    inputs = [helper.make_tensor_value_info("x", kind, options.get("in_shape", ["b", 1, "i", "j", "k"]))]
    inputs += [helper.make_tensor_value_info(name, kind, [1]) for name in options.get("more_inputs", ())]
    outputs = [helper.make_tensor_value_info("y", kind, out_shape)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(options.get("tensors", ())))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def write_moody(path: Path, *, at: float = 6.0) -> Path:
    """Write a network of two classes whose outputs sum to 1 unless a voxel exceeds `at` standard deviations."""
    nodes = [
        helper.make_node("Concat", ["x", "nought"], ["scores"], axis=1),
        helper.make_node("Softmax", ["scores"], ["sure"], axis=1),
        helper.make_node("Sub", ["x", "at"], ["above"]),
        helper.make_node("Relu", ["above"], ["excess"]),
        helper.make_node("Add", ["sure", "excess"], ["y"]),
    ]
    nodes.insert(0, helper.make_node("Sub", ["x", "x"], ["nought"]))
    return write_model(path, nodes, ["b", 2, "i", "j", "k"], tensors=[numpy_helper.from_array(np.float32(at), "at")])


def make_unet(n_classes: int = 6, widths: tuple[int, ...] = (16, 32, 64, 128), seed: int = 0) -> onnx.ModelProto:
    """Residual U-Net with instance norm and random weights: what a hub's network costs, and no more.

    The default has 132 kFLOP a voxel (52 GFLOP on 64x96x64) and 6 MB; widths of 64 to 512 have 95 MB and 16 times
    the work, near to HSF's own.
    """
    unet = _UNet(np.random.default_rng(seed))
    kept, current, n_in = [], "crop", 1
    for level, width in enumerate(widths):
        if level:
            current = unet.add("MaxPool", [current], kernel_shape=[2] * 3, strides=[2] * 3)
        current = unet.block(current, n_in, width)
        kept.append(current)
        n_in = width
    for skipped, width in zip(kept[-2::-1], widths[-2::-1], strict=True):
        scales = unet.tensor(np.array([1, 1, 2, 2, 2], np.float32))
        current = unet.add("Resize", [current, "", scales], mode="linear")
        current = unet.block(unet.add("Concat", [current, skipped], axis=1), n_in + width, width)
        n_in = width
    logits = unet.conv(current, n_in, n_classes, 1)
    unet.nodes.append(helper.make_node("Softmax", [logits], ["labels"], axis=1))
    return _model(unet.nodes, unet.tensors, n_classes)


class _UNet:
    """A graph that grows node by node."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: list[str], **attributes: object) -> str:
        output = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def tensor(self, values: np.ndarray) -> str:
        name = f"tensor{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, source: str, n_in: int, n_out: int, size: int) -> str:
        scale = np.sqrt(2 / (n_in * size**3))
        kernel = self.tensor(self.rng.normal(0, scale, (n_out, n_in, *[size] * 3)).astype(np.float32))
        return self.add("Conv", [source, kernel], pads=[size // 2] * 6)

    def norm(self, source: str, width: int) -> str:
        scale, shift = self.tensor(np.ones(width, np.float32)), self.tensor(np.zeros(width, np.float32))
        return self.add("InstanceNormalization", [source, scale, shift])

    def block(self, source: str, n_in: int, width: int) -> str:
        first = self.add("LeakyRelu", [self.norm(self.conv(source, n_in, width, 3), width)], alpha=0.01)
        second = self.norm(self.conv(first, width, width, 3), width)
        return self.add("LeakyRelu", [self.add("Add", [second, self.conv(source, n_in, width, 1)])], alpha=0.01)


def write_network(path: Path, *args: int, **options: Any) -> Path:
    """Write what `make_network` makes."""
    path.write_bytes(make_network(*args, **options).SerializeToString())
    return path


def _model(
    nodes: list[onnx.NodeProto],
    tensors: list[onnx.TensorProto],
    n_classes: int,
    axes: Sequence[int | str] = ("x", "y", "z"),
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("crop", TensorProto.FLOAT, ["batch", 1, *axes])]
    outputs = [helper.make_tensor_value_info("labels", TensorProto.FLOAT, ["batch", n_classes, *axes])]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    # The toy network that `bids-hsf --device list` proves the providers with.
    write_network(PROBE, width=8, instance_norm=True)

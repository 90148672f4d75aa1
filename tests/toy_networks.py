"""Small networks of 3x3x3 convolutions with random weights, for what twins.py's single voxel cannot show."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PROBE = Path(__file__).parents[1] / "bids_hsf" / "data" / "probe.onnx"


def make_network(n_classes: int = 3, width: int = 4, *, depth: int = 2, instance_norm: bool = False) -> onnx.ModelProto:
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
    return _model(nodes, tensors, n_classes)


def write_network(path: Path, *args: int, **options: bool | int) -> Path:
    """Write what `make_network` makes."""
    path.write_bytes(make_network(*args, **options).SerializeToString())
    return path


def _model(nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], n_classes: int) -> onnx.ModelProto:
    axes = ["x", "y", "z"]
    inputs = [helper.make_tensor_value_info("crop", TensorProto.FLOAT, ["batch", 1, *axes])]
    outputs = [helper.make_tensor_value_info("labels", TensorProto.FLOAT, ["batch", n_classes, *axes])]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    # The toy network that `bids-hsf --device list` proves the providers with.
    write_network(PROBE, width=8, instance_norm=True)

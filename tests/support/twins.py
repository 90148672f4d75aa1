"""Tiny networks under the contract of HSF's: same tensor names, opset, dynamic axes, softmax over classes."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from toy_networks import write_model

INPUT, OUTPUT = "cropped_hippocampus", "segmented_hippocampus"
AXES = ["x", "y", "z"]


def centres(n_classes: int, shift: float = 0.0) -> np.ndarray:
    """Z-scored intensity that a twin takes for the middle of each class, background lowest."""
    return np.linspace(-1.0, 2.0, n_classes) + shift


def write_twin(
    path: Path,
    *,
    n_classes: int = 6,
    shift: float = 0.0,
    middle: np.ndarray | None = None,
    sharpness: float = 4.0,
    output: str = "probabilities",
    input_name: str = INPUT,
    extra_nodes: tuple[onnx.NodeProto, ...] = (),
    opset_imports: tuple[onnx.OperatorSetIdProto, ...] = (),
) -> Path:
    """Write a network that sorts voxels into classes by intensity: the class with the nearest centre wins.

    -(x - c)^2 loses its x^2 in a softmax, so that 2 c x - c^2 is enough: one 1x1x1 convolution.
    """
    middle = centres(n_classes, shift) if middle is None else middle
    weights = (2 * sharpness * middle).reshape(n_classes, 1, 1, 1, 1).astype(np.float32)
    bias = (-sharpness * middle**2).astype(np.float32)
    nodes = [helper.make_node("Conv", [input_name, "weights", "bias"], ["logits"]), *extra_nodes]
    last = "Softmax" if output == "probabilities" else "Identity"
    nodes.append(helper.make_node(last, ["logits"], [OUTPUT], **({"axis": 1} if last == "Softmax" else {})))
    tensors = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")]
    return _save(path, nodes, tensors, n_classes, input_name, opset_imports)


def write_coordinates_twin(path: Path, *, n_labels: int = 2, add: float = 0.0) -> Path:
    """Write a network that takes the first label's probability for AP, the second's for PD and their sum for IO."""
    weights = np.zeros((3, n_labels, 1, 1, 1), np.float32)
    weights[[0, 1, 2, 2], [0, 1, 0, 1]] = 1
    nodes = [helper.make_node("Conv", ["x", "weights", "bias"], ["y"])]
    tensors = [numpy_helper.from_array(weights, "weights")]
    tensors.append(numpy_helper.from_array(np.full(3, add, np.float32), "bias"))
    return write_model(path, nodes, ["batch", 3, *AXES], in_shape=["batch", n_labels, *AXES], tensors=tensors)


def write_sq_twin(path: Path, *, n_classes: int = 6) -> Path:
    """Write the same network as HSF's sq models have it: ConvInteger on dynamically quantized input."""
    middle = centres(n_classes)
    scale = np.float32(np.abs(2 * middle).max() / 127)
    weights = np.round(2 * middle / scale).reshape(n_classes, 1, 1, 1, 1).astype(np.int8)
    bias = (-(middle**2)).reshape(1, n_classes, 1, 1, 1).astype(np.float32)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", [INPUT], ["quantized", "input_scale", "input_zero"]),
        helper.make_node("ConvInteger", ["quantized", "weights", "input_zero"], ["counts"]),
        helper.make_node("Cast", ["counts"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["input_scale", "weight_scale"], ["scale"]),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT], axis=1),
    ]
    tensors = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(scale, "weight_scale"),
        numpy_helper.from_array(bias, "bias"),
    ]
    return _save(path, nodes, tensors, n_classes, INPUT, ())


def write_external_data_twin(path: Path, location: str) -> Path:
    """Write a network whose weights lie in another file, `location`, as an attacker might name it."""
    write_twin(path)
    model = onnx.load(path)
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "24")):
        weights.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def write_custom_operator_twin(path: Path) -> Path:
    """Write a network with an operator that only somebody's own library knows."""
    custom = helper.make_node("Steal", ["logits"], ["unused"], domain="com.stranger")
    return write_twin(path, extra_nodes=(custom,), opset_imports=(helper.make_opsetid("com.stranger", 1),))


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    tensors: list[onnx.TensorProto],
    n_classes: int,
    input_name: str,
    opset_imports: tuple[onnx.OperatorSetIdProto, ...],
) -> Path:
    inputs = [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", 1, *AXES])]
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", n_classes, *AXES])]
    graph = helper.make_graph(nodes, "twin", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), *opset_imports], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path

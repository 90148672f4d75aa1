"""int8 twins of float networks: for CPUs that multiply eight bits faster than thirty-two.

Each convolution reads uint8 activations (one scale a tensor, from what calibration saw) and symmetric int8 weights (one
scale an output channel), written as QuantizeLinear and DequantizeLinear pairs, which ONNX Runtime's providers turn into
integer arithmetic. What reads the image and what gives the answer stay in float32: they are a small part of the work,
and what is lost there nothing makes good. No weight is trained, so that a network has to bear the rounding as it is.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import ModelError
from bids_hsf.files import replacing
from bids_hsf.networks.sessions import first_line

Field = NDArray[np.float32]


def quantize(source: Path, target: Path, inputs: Sequence[Field]) -> None:
    """Write the int8 twin of a network.

    Parameters
    ----------
    source, target : Path
        ONNX files; `target` is whole or not there.
    inputs : sequence of array, (1, 1, X, Y, Z) float32
        What activations are measured on.

    Raises
    ------
    ModelError
        ONNX Runtime cannot quantise it.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Inputs(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.following: Iterator[dict[str, Field]] = ({name: tensor} for tensor in inputs)

        def get_next(self) -> dict[str, Field] | None:
            return next(self.following, None)

    model = _named(source)
    name, outer = _ends(model, source)
    with replacing(target) as written, _quiet_root():
        try:
            quantize_static(
                model,
                written,
                Inputs(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=outer,
            )
        except Exception as error:  # ONNX Runtime and onnx raise whatever they meet
            raise ModelError(
                f"{source}: it cannot be quantised: {first_line(error)}",
                "Only networks of float32 convolutions can be; export it anew, or use it as it is.",
            ) from error


@contextmanager
def _quiet_root() -> Iterator[None]:
    """Silence what ONNX Runtime's quantiser says to the root logger: advice that does not concern these networks."""

    def refuse(_record: logging.LogRecord) -> bool:
        return False

    root = logging.getLogger()
    root.addFilter(refuse)
    try:
        yield
    finally:
        root.removeFilter(refuse)


def _named(path: Path) -> Any:
    """Load a network as an `onnx.ModelProto` in which each node has a name, by which some are left in float32."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    taken = {node.name for node in model.graph.node}
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        while not node.name and name in taken:
            name += "_"
        node.name = name
    return model


def _ends(model: Any, path: Path) -> tuple[str, list[str]]:
    """Name of a network's input, and of the convolutions that read it and that come last."""
    graph = model.graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    if not convolutions:
        raise ModelError(f"{path}: it has no convolution in float32 to quantise", "Use it as it is.")
    weights = {tensor.name for tensor in graph.initializer}
    name = next(each.name for each in graph.input if each.name not in weights)
    return name, [node.name for node in (convolutions[0], convolutions[-1])]

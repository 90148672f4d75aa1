"""int8 twins of float networks: for CPUs that multiply eight bits faster than thirty-two.

Each inner convolution reads uint8 activations (one scale a tensor, from what calibration saw) and symmetric int8
weights (one scale an output channel), written as QuantizeLinear and DequantizeLinear pairs, which ONNX Runtime's
providers turn into integer arithmetic. Everything else reads what it reads in the float network: what sees the image
and what gives the answer above all, for what is lost there nothing makes good. No weight is trained, so that a network
has to bear the rounding as it is; single convolutions can be left in float32.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import ModelError
from bids_hsf.files import replacing
from bids_hsf.networks.sessions import CPU, first_line

Field = NDArray[np.float32]

ROUNDING = ("QuantizeLinear", "DequantizeLinear")


class Quantized:
    """A network whose inner convolutions are known in eight bits as well, to be written with some of them so.

    Parameters
    ----------
    source : Path
        ONNX file in float32.
    inputs : sequence of array, (1, 1, X, Y, Z) float32
        What activations are measured on.
    float_answers : bool
        Let convolutions answer in float32. OpenVINO is as fast so, and what they say is rounded once less; ONNX
        Runtime's own CPU provider computes in integers only where answers are rounded, too.

    Attributes
    ----------
    convolutions : tuple of str
        The inner ones, by the names of their nodes.
    work : mapping of str to float
        Multiplications that each of them takes on the first input.

    Raises
    ------
    ModelError
        ONNX Runtime cannot quantise it.
    """

    def __init__(self, source: Path, inputs: Sequence[Field], *, float_answers: bool = False) -> None:
        self._float = _named(source)
        name, outer = _ends(self._float, source)
        inner = [node for node in self._float.graph.node if node.op_type == "Conv" and node.name not in outer]
        self.convolutions = tuple(node.name for node in inner)
        try:
            self.work = _multiplications(self._float, inner, {name: inputs[0]})
            self._int8 = _rounded(self._float, {name: inputs}, outer, float_answers=float_answers)
        except Exception as error:  # ONNX Runtime and onnx raise whatever they meet
            raise ModelError(
                f"{source}: it cannot be quantised: {first_line(error)}",
                "Only networks of float32 convolutions can be; export it anew, or use it as it is.",
            ) from error

    def write(self, target: Path, in_float: Collection[str] = ()) -> None:
        """Write the twin, whole or not at all, with some of the `convolutions` left in float32."""
        import onnx

        twin = onnx.ModelProto()
        twin.CopyFrom(self._int8)
        originals = {node.name: node for node in self._float.graph.node}
        int8 = set(self.convolutions) - set(in_float)
        answers = {output for name in int8 for output in originals[name].output}
        for node in twin.graph.node:
            if node.op_type not in ROUNDING and node.name not in int8:
                for place, name in enumerate(originals[node.name].input):
                    if name not in answers:
                        node.input[place] = name
        _tidy(twin.graph, self._float.graph.initializer, int8)
        with replacing(target) as written:
            onnx.save(twin, written)


def _rounded(model: Any, inputs: dict[str, Sequence[Field]], outer: Sequence[str], *, float_answers: bool) -> Any:
    """Let ONNX Runtime quantise all but the outer convolutions of a network, for the inputs of a name."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Inputs(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.following = ({name: tensor} for name, tensors in inputs.items() for tensor in tensors)

        def get_next(self) -> dict[str, Field] | None:
            return next(self.following, None)

    source = onnx.ModelProto()
    source.CopyFrom(model)  # which the quantiser would change
    with TemporaryDirectory(prefix="quantize-") as folder, _quiet_root():
        written = Path(folder) / "int8.onnx"
        quantize_static(
            source,
            written,
            Inputs(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(outer),
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"] if float_answers else []},
        )
        return onnx.load(written)


def _multiplications(model: Any, convolutions: Sequence[Any], shown: dict[str, Field]) -> dict[str, float]:
    """Count what each convolution multiplies in one pass: its answer's voxels times its weights."""
    import onnx
    from onnxruntime import InferenceSession

    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    # Asked of a pass: sizes that a network works out by itself are known from nothing else.
    names = [name for node in convolutions for name in (node.output[0], node.input[1])]
    for place, name in enumerate(names):
        measured.graph.node.append(onnx.helper.make_node("Shape", [name], [f"sizes of {place}"]))
        measured.graph.output.append(
            onnx.helper.make_tensor_value_info(f"sizes of {place}", onnx.TensorProto.INT64, [5])
        )
    session = InferenceSession(measured.SerializeToString(), providers=[CPU])
    sizes = session.run([f"sizes of {place}" for place in range(len(names))], shown)
    return {
        node.name: float(np.prod(answer[2:]) * np.prod(weights))
        for node, answer, weights in zip(convolutions, sizes[::2], sizes[1::2], strict=True)
    }


def _tidy(graph: Any, weights: Sequence[Any], int8: Collection[str]) -> None:
    """Give a graph the float weights that it reads, and take out what nobody reads."""
    by_name = {tensor.name: tensor for tensor in weights}
    of_float = {
        name
        for node in graph.node
        if node.op_type not in ROUNDING and node.name not in int8
        for name in node.input
        if name in by_name
    }
    of_int8 = {name for node in graph.node if node.name in int8 for name in node.input}
    nodes = [node for node in graph.node if not set(node.output) & (of_float - of_int8)]
    results = {output.name for output in graph.output}
    while True:
        read = {name for node in nodes for name in node.input} | results
        alive = [node for node in nodes if node.op_type not in ROUNDING or read & set(node.output)]
        if len(alive) == len(nodes):
            break
        nodes = alive
    made = {name for node in nodes for name in node.output}
    kept = {tensor.name: tensor for tensor in graph.initializer if tensor.name in read}
    kept |= {name: by_name[name] for name in of_float if name not in kept and name not in made}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept.values())


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
    first = [node.name for node in convolutions if name in node.input] or [convolutions[0].name]
    return name, [*first, convolutions[-1].name]

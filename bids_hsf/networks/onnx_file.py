"""What an ONNX file says of itself, read without ONNX Runtime and before ONNX Runtime sees it.

ONNX is a protocol-buffers message; a table of the few fields that matter is enough to walk it. Two
things are learnt: whether the file is safe to load (ONNX Runtime resolves "external data" against the
current folder, "../" included, even for a model that is loaded from memory), and how wide the network
is, which tells the memory that a pass needs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bids_hsf.errors import ModelError

# Message -> field number -> message of that field. Names and numbers are those of onnx.proto.
_MESSAGES: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}

_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_FUNCTION_DOMAIN = 10
_TENSOR_DIMS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14
_MOST_NESTED = 64
_STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")

_FALLBACK_WIDTH = 32


@dataclass(frozen=True)
class NetworkFile:
    """Facts of an ONNX file.

    Attributes
    ----------
    size : int
        Bytes.
    width : int
        Feature maps at full resolution: the least output channels of its 3-D convolutions with more
        than one tap.
    operators : frozenset of str
        Types of its nodes, those of other domains than ONNX's own as "domain::type".
    has_external_data : bool
        Some of its weights lie in other files.
    """

    size: int
    width: int
    operators: frozenset[str]
    has_external_data: bool


def examine(model: bytes, path: Path) -> NetworkFile:
    """Read the facts of an ONNX model in memory; `path` only names it in errors.

    Raises
    ------
    ModelError
        The bytes are no ONNX model.
    """
    data = memoryview(model)
    operators: set[tuple[str, str]] = set()
    known = set(_STANDARD_DOMAINS)
    dims: list[tuple[int, ...]] = []
    external = False
    try:
        for message, fields in _walk(data, "Model", 0):
            if message == "Node":
                operators.add((_text(fields, _NODE_DOMAIN), _text(fields, _NODE_OPERATOR)))
            elif message == "Function":
                known.add(_text(fields, _FUNCTION_DOMAIN))  # spelt out inside the file, in other operators
            elif message == "Tensor":
                dims.append(_dims(fields))
                external = external or _TENSOR_EXTERNAL in fields or 1 in fields.get(_TENSOR_LOCATION, ())
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path}: not an ONNX file ({len(data)} bytes)", "Fetch it again: hsf-hub verify") from error
    if not operators:
        raise ModelError(f"{path}: an ONNX file without any operator ({len(data)} bytes)")
    names = frozenset(kind if domain in known else f"{domain}::{kind}" for domain, kind in operators)
    return NetworkFile(len(data), _width(dims), names, external)


def refuse_unsafe(facts: NetworkFile, path: Path) -> None:
    """Refuse a network that would make ONNX Runtime read other files or run other code.

    Raises
    ------
    ModelError
    """
    hint = "Export the network into one file with ONNX's own operators; do not use this one if its origin is doubtful"
    if facts.has_external_data:
        raise ModelError(f"{path}: expected all weights inside the file, got external data", hint)
    foreign = sorted(name for name in facts.operators if "::" in name or name == "EPContext")
    if foreign:
        raise ModelError(f"{path}: expected ONNX's own operators, got {', '.join(foreign)}", hint)


_Fields = dict[int, list["int | memoryview"]]


def _walk(data: memoryview, message: str, depth: int) -> Iterator[tuple[str, _Fields]]:
    """Yield every message of the table inside `data`, with its fields."""
    if depth > _MOST_NESTED:
        raise ValueError("nested too deeply")
    fields: _Fields = {}
    children = _MESSAGES[message]
    for number, value in _fields(data):
        if number in children:
            if not isinstance(value, memoryview):
                raise ValueError("a number where a message was expected")
            yield from _walk(value, children[number], depth + 1)
        else:
            fields.setdefault(number, []).append(value)
    yield message, fields


def _fields(data: memoryview) -> Iterator[tuple[int, "int | memoryview"]]:
    """Yield field numbers and values of one message: numbers, or bytes that are not copied."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        wire = key & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if wire == 2:
            size, place = _varint(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if size > len(data) - place:
            raise ValueError("truncated")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Read the number at `place` in base 128, least digit first; returns it and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _text(fields: _Fields, number: int) -> str:
    """Text of a field, "" where it is missing."""
    value = fields.get(number, [memoryview(b"")])[-1]
    if not isinstance(value, memoryview):
        raise ValueError("a number where a text was expected")
    return bytes(value).decode()


def _dims(fields: _Fields) -> tuple[int, ...]:
    """Shape of a tensor: single numbers, or packed ones."""
    dims: list[int] = []
    for value in fields.get(_TENSOR_DIMS, ()):
        if isinstance(value, int):
            dims.append(value)
            continue
        place = 0
        while place < len(value):
            size, place = _varint(value, place)
            dims.append(size)
    return tuple(dims)


def _width(shapes: list[tuple[int, ...]]) -> int:
    """Least output channels of the convolutions with more than one tap, else the most of the others."""
    kernels = [shape for shape in shapes if len(shape) == 5]
    wide = [shape[0] for shape in kernels if shape[2] * shape[3] * shape[4] > 1]
    return min(wide) if wide else max((shape[0] for shape in kernels), default=_FALLBACK_WIDTH)

"""What an ONNX file says of itself, read without ONNX Runtime and before ONNX Runtime sees it.

ONNX is a protocol-buffers message; a table of the messages that hold operators, weights or further graphs
is enough to walk it. Two things are learnt: whether the file is safe to load (ONNX Runtime resolves
"external data" against the current folder, "../" included, even for a model that is loaded from memory),
and how wide the network is, which tells the memory that a pass needs.

The check is worth something only where ONNX Runtime reads the same. Its parser keeps 32 bits of a tag and
of an enumeration, takes numbers with needless digits, and passes over fields of the wrong wire type. No
exporter writes any of that, so what can be read in two ways is refused, and so is what is not known here:
a newer ONNX Runtime may know it. What was read is then all that there is in the file.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bids_hsf.errors import ModelError

_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types

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

# The other fields of these messages, by how they are written: texts, bytes and messages that are not walked.
_BYTES_FIELDS: dict[str, tuple[int, ...]] = {
    "Model": (2, 3, 4, 6, 8, 14, 26),
    "Training": (3, 4),
    "Function": (1, 4, 5, 6, 8, 9, 10, 12, 13, 14),
    "Graph": (2, 10, 11, 12, 13, 14, 16),
    "Node": (1, 2, 3, 4, 6, 7, 8, 9, 10),
    "Attribute": (1, 4, 9, 13, 14, 15, 21),
    "SparseTensor": (),
    "Tensor": (3, 6, 8, 9, 12, 13, 16),
}
_NUMBER_FIELDS: dict[str, tuple[int, ...]] = {"Model": (1, 5), "Attribute": (3, 20), "Tensor": (2, 14)}
_FLOAT_FIELDS: dict[str, tuple[int, ...]] = {"Attribute": (2,)}
# Repeated ones are written one by one, or packed into bytes.
_NUMBERS_FIELDS: dict[str, tuple[int, ...]] = {"Attribute": (8,), "SparseTensor": (3,), "Tensor": (1, 5, 7, 11)}
_FLOATS_FIELDS: dict[str, tuple[int, ...]] = {"Attribute": (7,), "Tensor": (4,)}
_DOUBLES_FIELDS: dict[str, tuple[int, ...]] = {"Tensor": (10,)}

_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_FUNCTION_NAME, _FUNCTION_DOMAIN = 1, 10
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_RAW, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 2, 9, 13, 14
# Bits of a value, by the number of its type.
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16}
# What is kept of a message while it is walked; weights and names of tensors are passed over.
_KEPT: dict[str, tuple[int, ...]] = {
    "Node": (_NODE_OPERATOR, _NODE_DOMAIN),
    "Function": (_FUNCTION_NAME, _FUNCTION_DOMAIN),
    "Tensor": (_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_RAW, _TENSOR_EXTERNAL, _TENSOR_LOCATION),
}
_MOST_NESTED = 64
_MOST_FIELD_NUMBER = 2**29 - 1
_MOST_FIELDS = 1_000_000  # of a file; the largest of the hub has some 10,000
_MOST_AXES = 16  # twice what any operator takes
_FEW_VALUES = 4096  # of a tensor whose values may be left out
_LONGEST_NUMBER = 10  # bytes
_MOST_KEPT = 64  # of one message: no tensor has more axes
_STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")

# A compiled network inside or beside the file: a provider opens what it names.
_COMPILED = "EPContext"

# They repeat a graph as often as the file likes, for ever if it does. No network that looks at a crop needs them.
_ENDLESS = frozenset({"Loop", "Scan", "SequenceMap", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"})

_FALLBACK_WIDTH = 32


@dataclass(frozen=True)
class NetworkFacts:
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


def examine(model: bytes, path: Path) -> NetworkFacts:
    """Read the facts of an ONNX model in memory; `path` only names it in errors.

    Raises
    ------
    ModelError
        The bytes are no ONNX model, or can be read in more than one way.
    """
    data = memoryview(model)
    operators: set[tuple[str, str]] = set()
    spelt_out: set[tuple[str, str]] = set()
    dims: list[tuple[int, ...]] = []
    external = False
    try:
        for message, fields in _walk(data, "Model", 0, itertools.count(1)):
            if message == "Node":
                operators.add((_text(fields, _NODE_DOMAIN), _text(fields, _NODE_OPERATOR)))
            elif message == "Function":
                spelt_out.add((_text(fields, _FUNCTION_DOMAIN), _text(fields, _FUNCTION_NAME)))
            elif message == "Tensor":
                dims.append(_dims(fields))
                _check_raw(fields, dims[-1])
                if len(dims[-1]) > _MOST_AXES or math.prod(dims[-1]) > 2 * len(data) + _FEW_VALUES:
                    raise ValueError(f"a tensor of {len(dims[-1])} axes and more values than the file can hold")
                # ONNX Runtime keeps 32 bits of the location: any other than 0 may be "external" to it.
                external = external or _TENSOR_EXTERNAL in fields or any(fields.get(_TENSOR_LOCATION, ()))
    except (ValueError, IndexError) as error:
        reason = "truncated" if isinstance(error, IndexError) else error
        raise ModelError(
            f"{path}: not an ONNX file ({reason}; {len(data)} bytes)", "Fetch it again: hsf-hub verify"
        ) from error
    if not operators:
        raise ModelError(f"{path}: an ONNX file without any operator ({len(data)} bytes)")
    return NetworkFacts(len(data), _width(dims), _names(operators, spelt_out), external)


def refuse_unsafe(facts: NetworkFacts, path: Path) -> None:
    """Refuse a network that would make ONNX Runtime read other files or run other code.

    Raises
    ------
    ModelError
    """
    hint = "Export the network into one file with ONNX's own operators; do not use this one if its origin is doubtful"
    if facts.has_external_data:
        raise ModelError(f"{path}: expected all weights inside the file, got external data", hint)
    foreign = sorted(name for name in facts.operators if "::" in name or name == _COMPILED)
    if foreign:
        raise ModelError(f"{path}: expected ONNX's own operators, got {', '.join(foreign)}", hint)
    endless = sorted(facts.operators & _ENDLESS)
    if endless:
        raise ModelError(
            f"{path}: expected a network without loops, got {', '.join(endless)}",
            "Export it with its loops unrolled; do not use this one if its origin is doubtful",
        )


_Fields = dict[int, list["int | memoryview"]]


def _names(operators: Iterable[tuple[str, str]], spelt_out: set[tuple[str, str]]) -> frozenset[str]:
    """Name operators, those that are neither ONNX's own nor spelt out as functions of the file with their domain."""
    return frozenset(
        kind if domain in _STANDARD_DOMAINS or (domain, kind) in spelt_out else f"{domain}::{kind}"
        for domain, kind in operators
    )


def _wire_types() -> dict[str, dict[int, tuple[int, ...]]]:
    """Wire types that each known field may have, by message."""
    kinds = (
        (_BYTES_FIELDS, (_BYTES,)),
        (_NUMBER_FIELDS, (_NUMBER,)),
        (_FLOAT_FIELDS, (_FOUR_BYTES,)),
        (_NUMBERS_FIELDS, (_NUMBER, _BYTES)),
        (_FLOATS_FIELDS, (_FOUR_BYTES, _BYTES)),
        (_DOUBLES_FIELDS, (_EIGHT_BYTES, _BYTES)),
    )
    table: dict[str, dict[int, tuple[int, ...]]] = {}
    for message, children in _MESSAGES.items():
        table[message] = dict.fromkeys(children, (_BYTES,))
        for fields, wires in kinds:
            table[message] |= dict.fromkeys(fields.get(message, ()), wires)
    return table


_WIRE_TYPES = _wire_types()


def _walk(data: memoryview, message: str, depth: int, counter: Iterator[int]) -> Iterator[tuple[str, _Fields]]:
    """Yield every message of the table inside `data`, with the fields that are kept of it."""
    if depth > _MOST_NESTED:
        raise ValueError("nested too deeply")
    fields: _Fields = {}
    children, known, kept = _MESSAGES[message], _WIRE_TYPES[message], _KEPT.get(message, ())
    for number, wire, value in _fields(data):
        if next(counter) > _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS} fields")
        if number not in known:
            raise ValueError(f"field {number} of a {message} is not known")
        if wire not in known[number]:
            raise ValueError(f"field {number} of a {message} has wire type {wire}")
        if number in children and isinstance(value, memoryview):
            yield from _walk(value, children[number], depth + 1, counter)
        elif number in kept:
            values = fields.setdefault(number, [])
            values.append(value)
            if len(values) > _MOST_KEPT:
                raise ValueError(f"field {number} stands {len(values)} times in a {message}")
    yield message, fields


def _fields(data: memoryview) -> Iterator[tuple[int, int, "int | memoryview"]]:
    """Yield field numbers, wire types and values of one message: numbers, or bytes that are not copied."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if not 1 <= number <= _MOST_FIELD_NUMBER:
            raise ValueError(f"field number {number}")
        if wire == _NUMBER:
            value, place = _varint(data, place)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, place = _varint(data, place)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {wire}")
        if size > len(data) - place:
            raise ValueError("truncated")
        yield number, wire, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Read the number at `place` in base 128, least digit first; returns it and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
    if value >= 2**64:
        raise ValueError("a number of more than 64 bits")
    if byte == 0 and shift:
        raise ValueError("a number with needless digits")
    return value, place


def _text(fields: _Fields, number: int) -> str:
    """Text of a field, "" where it is missing; of several the last one, as protocol buffers have it."""
    value = fields.get(number, [memoryview(b"")])[-1]
    assert isinstance(value, memoryview)
    return bytes(value).decode()


def _dims(fields: _Fields) -> tuple[int, ...]:
    """Shape of a tensor: single numbers, or packed ones."""
    dims: list[int] = []
    for value in fields.get(_TENSOR_DIMS, ()):
        if isinstance(value, int):
            dims.append(value)
            continue
        if len(value) > _MOST_KEPT * _LONGEST_NUMBER:
            raise ValueError(f"a shape of {len(value)} bytes")
        place = 0
        while place < len(value):
            size, place = _varint(value, place)
            dims.append(size)
    return tuple(dims)


def _check_raw(fields: _Fields, shape: tuple[int, ...]) -> None:
    """Require that raw values are as many as the shape says: ONNX Runtime dies of some that are not."""
    kinds, raw = fields.get(_TENSOR_TYPE, [0]), fields.get(_TENSOR_RAW)
    bits = _BITS.get(kinds[-1]) if isinstance(kinds[-1], int) else None
    if raw is None or bits is None:
        return
    assert isinstance(raw[-1], memoryview)
    if len(raw[-1]) != math.prod(shape) * bits // 8:
        raise ValueError(f"{len(raw[-1])} bytes of values for a tensor of shape {list(shape)}")


def _width(shapes: list[tuple[int, ...]]) -> int:
    """Least output channels of the convolutions with more than one tap, else the most of the others."""
    kernels = [shape for shape in shapes if len(shape) == 5]
    wide = [shape[0] for shape in kernels if shape[2] * shape[3] * shape[4] > 1]
    return min(wide) if wide else max((shape[0] for shape in kernels), default=_FALLBACK_WIDTH)

"""What is read from an ONNX file, and what is refused: above all what ONNX Runtime would read in another way."""

import time
from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from toy_networks import PROBE, make_network
from twins import write_custom_operator_twin, write_external_data_twin, write_twin

from bids_hsf.errors import ModelError
from bids_hsf.networks.onnx_file import NetworkFacts, examine, refuse_unsafe

NUMBER, EIGHT, BYTES, GROUP, FOUR = 0, 1, 2, 3, 5
GRAPH, INITIALIZER, NODE = 7, 5, 1  # of the model, of the graph
EXTERNAL_DATA, DATA_LOCATION = 13, 14
LOCATION_ENTRY = b"\x0a\x08location\x12\x0b/etc/passwd"


def varint(number: int, needless: int = 0) -> bytes:
    """Base 128, least digit first, with needless zeros at the end if that is wished for."""
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F)
    digits += [0] * needless
    return bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:])


def field(number: int, content: bytes, *, needless: int = 0) -> bytes:
    """Bytes of a field that holds bytes."""
    return varint(number << 3 | BYTES, needless) + varint(len(content)) + content


def model_with(graph_content: bytes) -> bytes:
    """Sound model with more in its graph: protocol buffers merge two occurrences of one message."""
    return make_network().SerializeToString() + field(GRAPH, graph_content)


SMALL = make_network(width=1, depth=1, instance_norm=True).SerializeToString()

# How each message comes into a model.
MESSAGES = {
    "Model": (onnx.ModelProto, bytes),
    "Graph": (onnx.GraphProto, lambda content: field(GRAPH, content)),
    "Node": (onnx.NodeProto, lambda content: field(GRAPH, field(NODE, content))),
    "Attribute": (onnx.AttributeProto, lambda content: field(GRAPH, field(NODE, field(5, content)))),
    "Tensor": (onnx.TensorProto, lambda content: field(GRAPH, field(INITIALIZER, content))),
    "SparseTensor": (onnx.SparseTensorProto, lambda content: field(GRAPH, field(15, content))),
    "Function": (onnx.FunctionProto, lambda content: field(25, content)),
    "Training": (onnx.TrainingInfoProto, lambda content: field(20, content)),
}


def wire_types(known: FieldDescriptor) -> tuple[int, ...]:
    """Wire types of a field by the encoding of protocol buffers; repeated numbers may be packed into bytes."""
    if known.type in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return (BYTES,)
    one = {FieldDescriptor.TYPE_FLOAT: FOUR, FieldDescriptor.TYPE_DOUBLE: EIGHT}.get(known.type, NUMBER)
    return (one, BYTES) if known.is_repeated else (one,)


def facts_of(model: bytes) -> NetworkFacts:
    return examine(model, Path("stranger.onnx"))


def check(model: bytes) -> None:
    refuse_unsafe(facts_of(model), Path("stranger.onnx"))


class TestFacts:
    def test_width_is_that_of_the_convolutions_at_full_resolution(self):
        facts = facts_of(make_network(width=12).SerializeToString())
        assert facts.width == 12
        assert facts.operators == {"Conv", "LeakyRelu", "Softmax"}
        assert not facts.has_external_data

    def test_network_of_single_voxels(self, tmp_path):
        path = write_twin(tmp_path / "twin.onnx", n_classes=6)
        assert examine(path.read_bytes(), path).width == 6

    def test_network_without_weights(self):
        node = helper.make_node("Identity", ["x"], ["y"])
        model = helper.make_model(helper.make_graph([node], "g", [], []))
        assert facts_of(model.SerializeToString()).width == 32

    def test_single_and_packed_dimensions_are_the_same(self):
        dims = [7, 1, 3, 3, 3]
        single = b"".join(varint(1 << 3) + varint(n) for n in dims)
        packed = field(1, b"".join(varint(n) for n in dims))
        for tensor in (single, packed):
            assert facts_of(model_with(field(INITIALIZER, tensor)) + b"").width == 4
            assert facts_of(field(GRAPH, field(NODE, field(4, b"Conv")) + field(INITIALIZER, tensor))).width == 7

    def test_packaged_probe_is_the_one_that_toy_networks_makes(self):
        assert onnx.load(PROBE) == make_network(width=8, instance_norm=True)

    def test_packaged_networks_pass(self):
        for path in (Path(__file__).parents[2] / "models_hub" / "longaxis").glob("*.onnx"):
            check(path.read_bytes())

    def test_every_kind_of_field_that_onnx_writes_passes(self):
        """Messages, texts, numbers, floats, packed ones and single ones, negative numbers in ten bytes."""
        model = make_network()
        model.graph.node.append(
            helper.make_node("Any", ["x"], ["z"], f=1.5, i=-3, s="text", floats=[1.0, 2.0], ints=[-1, 2], strings=["a"])
        )
        for kind, values in ((TensorProto.DOUBLE, [1.0]), (TensorProto.INT64, [-1, 3]), (TensorProto.UINT64, [1])):
            model.graph.initializer.append(helper.make_tensor(f"t{kind}", kind, [len(values)], values))
        model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [1], [b"word"]))
        sparse = helper.make_sparse_tensor(
            helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]),
            helper.make_tensor("i", TensorProto.INT64, [1], [0]),
            [4],
        )
        model.graph.sparse_initializer.append(sparse)
        model.metadata_props.add(key="made", value="by hand")
        model.model_version = -1
        check(model.SerializeToString())


class TestExternalData:
    @pytest.mark.parametrize("location", ["weights.bin", "../weights.bin"])
    def test_weights_in_other_files(self, tmp_path, location):
        path = write_external_data_twin(tmp_path / "twin.onnx", location)
        with pytest.raises(ModelError, match=r"stranger.onnx: expected all weights inside the file, got external data"):
            check(path.read_bytes())

    def test_in_a_constant_node(self):
        model = make_network()
        tensor = TensorProto(name="c", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
        model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))
        assert facts_of(model.SerializeToString()).has_external_data

    def test_location_without_entries_and_entries_without_location(self):
        for tensor in (varint(DATA_LOCATION << 3) + varint(1), field(EXTERNAL_DATA, LOCATION_ENTRY)):
            assert facts_of(model_with(field(INITIALIZER, tensor))).has_external_data

    def test_location_of_which_onnx_runtime_keeps_32_bits(self):
        tensor = varint(DATA_LOCATION << 3) + varint(2**32 + 1)
        assert facts_of(model_with(field(INITIALIZER, tensor))).has_external_data

    def test_tag_with_needless_digits(self):
        tensor = field(EXTERNAL_DATA, LOCATION_ENTRY, needless=1)
        with pytest.raises(ModelError, match="not an ONNX file .a number with needless digits"):
            check(model_with(field(INITIALIZER, tensor)))

    def test_tag_of_which_onnx_runtime_keeps_32_bits(self):
        """For a reader of 64 bits it is a field that nobody knows."""
        tensor = field(EXTERNAL_DATA + 2**29, LOCATION_ENTRY)
        with pytest.raises(ModelError, match="field number 536870925"):
            check(model_with(field(INITIALIZER, tensor)))


class TestOperators:
    def test_operator_of_somebody(self, tmp_path):
        path = write_custom_operator_twin(tmp_path / "twin.onnx")
        with pytest.raises(ModelError, match="expected ONNX's own operators, got com.stranger::Steal"):
            check(path.read_bytes())

    @pytest.mark.parametrize(("kind", "domain"), [("Steal", "com.stranger"), ("EPContext", "com.microsoft")])
    def test_in_a_nested_graph(self, kind, domain):
        model = make_network()
        inner = helper.make_graph([helper.make_node(kind, [], ["z"], domain=domain)], "inner", [], [])
        outer = helper.make_graph([helper.make_node("If", ["c"], ["z"], then_branch=inner)], "outer", [], [])
        model.graph.node.append(helper.make_node("Loop", ["n"], ["z"], body=outer))
        with pytest.raises(ModelError, match=kind):
            check(model.SerializeToString())

    @pytest.mark.parametrize(("kind", "domain"), [("Steal", "com.stranger"), ("EPContext", "com.microsoft")])
    def test_in_a_function(self, kind, domain):
        model = make_network()
        model.functions.append(function("Same", [helper.make_node(kind, ["a"], ["b"], domain=domain)]))
        with pytest.raises(ModelError, match=kind):
            check(model.SerializeToString())

    def test_function_that_the_file_spells_out_is_no_foreign_operator(self):
        model = make_network()
        model.functions.append(function("Same", [helper.make_node("Identity", ["a"], ["b"])]))
        model.graph.node.append(helper.make_node("Same", ["crop"], ["copy"], domain="own.domain"))
        assert "Same" in facts_of(model.SerializeToString()).operators
        check(model.SerializeToString())

    def test_another_operator_of_that_domain_is(self):
        model = make_network()
        model.functions.append(function("Same", [helper.make_node("Identity", ["a"], ["b"])]))
        model.graph.node.append(helper.make_node("Other", ["crop"], ["copy"], domain="own.domain"))
        with pytest.raises(ModelError, match="own.domain::Other"):
            check(model.SerializeToString())

    def test_the_last_of_two_names_counts_as_it_does_for_onnx_runtime(self):
        node = field(4, b"Identity") + field(4, b"EPContext") + field(7, b"com.microsoft")
        with pytest.raises(ModelError, match="EPContext"):
            check(model_with(field(NODE, node)))


def function(name: str, nodes: list[onnx.NodeProto]) -> onnx.FunctionProto:
    return helper.make_function("own.domain", name, ["a"], ["b"], nodes, [helper.make_opsetid("", 17)])


class TestLoops:
    @pytest.mark.parametrize("kind", ["Loop", "Scan", "SequenceMap"])
    def test_what_may_go_on_for_ever(self, kind):
        model = make_network()
        inner = helper.make_graph([helper.make_node("Identity", ["a"], ["z"])], "inner", [], [])
        model.graph.node.append(helper.make_node(kind, ["n"], ["z"], body=inner))
        with pytest.raises(ModelError, match=f"expected a network without loops, got {kind}"):
            check(model.SerializeToString())

    def test_in_a_function(self):
        model = make_network()
        model.functions.append(function("Same", [helper.make_node("Loop", ["a"], ["b"])]))
        with pytest.raises(ModelError, match="without loops"):
            check(model.SerializeToString())

    def test_branches_end(self):
        model = make_network()
        inner = helper.make_graph([helper.make_node("Identity", ["a"], ["z"])], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["n"], ["z"], then_branch=inner, else_branch=inner))
        check(model.SerializeToString())


class TestBytes:
    @pytest.mark.parametrize("content", [b"not a network", b"\x08\x08", bytes(range(256)), b"\x08\x80"])
    def test_no_onnx_at_all(self, content):
        with pytest.raises(ModelError, match=r"stranger.onnx: (not an ONNX file|an ONNX file without any operator)"):
            facts_of(content)

    def test_empty(self):
        with pytest.raises(ModelError, match=r"without any operator \(0 bytes\)"):
            facts_of(b"")

    def test_truncated(self):
        with pytest.raises(ModelError, match=r"not an ONNX file \(truncated"):
            facts_of(make_network().SerializeToString()[:-100])

    @pytest.mark.parametrize("garbage", [b"\x00", b"\x00\x00", b"\x0a", b"\xff" * 11, b"\x07"])
    def test_trailing_garbage(self, garbage):
        with pytest.raises(ModelError, match="not an ONNX file"):
            facts_of(make_network().SerializeToString() + garbage)

    def test_length_with_needless_digits(self):
        name = varint(2 << 3 | BYTES) + varint(3, needless=2) + b"abc"
        with pytest.raises(ModelError, match="needless digits"):
            facts_of(make_network().SerializeToString() + name)

    def test_number_of_more_than_64_bits(self):
        for number in (2**64, 2**71):
            with pytest.raises(ModelError, match="more than 64 bits"):
                facts_of(make_network().SerializeToString() + varint(1 << 3) + varint(number))

    @pytest.mark.parametrize(
        ("tensor", "told"),
        [
            (varint(1 << 3 | FOUR) + bytes(4), "field 1 of a Tensor has wire type 5"),
            (varint(EXTERNAL_DATA << 3) + b"\x01", "field 13 of a Tensor has wire type 0"),
            (field(DATA_LOCATION, b"\x01"), "field 14 of a Tensor has wire type 2"),
            (varint(10 << 3 | FOUR) + bytes(4), "field 10 of a Tensor has wire type 5"),
            (varint(4 << 3 | GROUP), "wire type 3"),
        ],
    )
    def test_known_field_of_a_wrong_wire_type(self, tensor, told):
        with pytest.raises(ModelError, match=told):
            facts_of(model_with(field(INITIALIZER, tensor)))

    @pytest.mark.parametrize("kind", [*MESSAGES])
    def test_each_field_is_taken_in_the_wire_types_that_onnx_gives_it_and_in_no_other(self, kind):
        """Against the definition that the package onnx carries."""
        message, embed = MESSAGES[kind]
        content = {NUMBER: b"\x00", EIGHT: bytes(8), BYTES: b"\x00", FOUR: bytes(4)}
        for known in message.DESCRIPTOR.fields:
            for wire, value in content.items():
                model = make_network().SerializeToString() + embed(varint(known.number << 3 | wire) + value)
                if wire in wire_types(known):
                    facts_of(model)
                else:
                    with pytest.raises(ModelError, match=f"field {known.number} of a {kind} has wire type {wire}"):
                        facts_of(model)

    def test_name_of_an_operator_that_is_no_text(self):
        with pytest.raises(ModelError, match="not an ONNX file"):
            facts_of(model_with(field(NODE, field(4, b"\xff\xfe"))))

    def test_field_that_nobody_knows_is_refused(self):
        """A newer ONNX Runtime may know it, and find weights in other files by it."""
        with pytest.raises(ModelError, match="field 900 of a Model is not known"):
            check(make_network().SerializeToString() + field(900, b"future"))
        with pytest.raises(ModelError, match="field 901 of a Tensor is not known"):
            check(model_with(field(INITIALIZER, varint(901 << 3 | EIGHT) + bytes(8))))

    def test_file_of_countless_fields(self):
        began = time.process_time()
        with pytest.raises(ModelError, match="more than 1000000 fields"):
            facts_of(b"\x08\x08" * 5_000_000)
        assert time.process_time() - began < 10

    @pytest.mark.parametrize("tensor", [field(1, b"\x01" * 5000), b"\x08\x01" * 5000], ids=["packed", "single"])
    def test_shape_of_countless_axes(self, tensor):
        with pytest.raises(ModelError, match="a shape of 5000 bytes|stands 65 times"):
            facts_of(model_with(field(INITIALIZER, tensor)))

    @given(st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8), st.floats(0.2, 1))
    @settings(max_examples=200, deadline=None)
    def test_whatever_the_bytes_are_they_pass_or_are_refused(self, changes, share):
        model = bytearray(SMALL)
        for place, byte in changes:
            model[int(place * len(model))] = byte
        with suppress(ModelError):
            check(bytes(model[: int(share * len(model))]))

    @pytest.mark.parametrize("dims", [[2, 3, 3, 3], [2, 2, 3, 3, 4], [1 << 40, 2], [-1]])
    def test_values_that_are_not_as_many_as_the_shape_says(self, dims):
        """ONNX Runtime does not outlive a kernel that has lost an axis: found by tests/fuzz."""
        model = make_network(width=2, instance_norm=True)
        kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "kernel1")
        kernel.dims[:] = dims
        with pytest.raises(ModelError, match="bytes of values for a tensor of shape"):
            facts_of(model.SerializeToString())
        kernel.ClearField("raw_data")
        if dims[0] not in (2,):
            with pytest.raises(ModelError, match="more values than the file can hold"):
                facts_of(model.SerializeToString())

    def test_shape_of_more_axes_than_operators_take(self):
        with pytest.raises(ModelError, match="a tensor of 20 axes"):
            facts_of(model_with(field(INITIALIZER, field(1, b"\x01" * 20))))

    def test_nested_too_deeply(self):
        graph = field(NODE, field(4, b"Conv"))
        for _ in range(40):
            graph = field(NODE, field(4, b"If") + field(5, field(6, graph)))
        with pytest.raises(ModelError, match="nested too deeply"):
            facts_of(field(GRAPH, graph))

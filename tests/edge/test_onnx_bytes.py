"""A model that asks for a file is refused before a runtime sees it, wherever it hides the wish."""

from __future__ import annotations

import pytest

from fcr_edge.demo import demo_folder
from fcr_edge.errors import BundleError
from fcr_edge.onnx_bytes import DATA_LOCATION, EXTERNAL_DATA, HOLDS, refuse_outside_weights

onnx = pytest.importorskip("onnx")
helper = onnx.helper


def tensor(outside: bool = True):
    made = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [2.0])
    if outside:
        made.ClearField("float_data")
        made.data_location = onnx.TensorProto.EXTERNAL
        made.external_data.add(key="location", value="weights.bin")
    return made


def model(nodes=(), initializers=(), sparse=(), functions=()):
    graph = helper.make_graph(nodes, "g", [], [], initializers, sparse_initializer=sparse)
    return helper.make_model(graph, functions=functions)


def constant(inner):
    return helper.make_node("Constant", [], ["c"], value=inner)


def branch(inner):
    graph = helper.make_graph([constant(inner)], "then", [], [])
    return helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)


PLACES = {
    "initializer": lambda inner: model(initializers=[inner]),
    "constant": lambda inner: model([constant(inner)]),
    "branch": lambda inner: model([branch(inner)]),
    "branch within a branch": lambda inner: model(
        [
            helper.make_node(
                "If", ["c"], ["y"], then_branch=helper.make_graph([branch(inner)], "g", [], [])
            )
        ]
    ),
    "sparse": lambda inner: model(
        sparse=[helper.make_sparse_tensor(inner, helper.make_tensor("i", 7, [1], [0]), [3])]
    ),
    "function": lambda inner: model(
        functions=[helper.make_function("d", "f", [], [], [constant(inner)], [])]
    ),
    "list of tensors": lambda inner: model([helper.make_node("X", [], ["y"], many=[inner])]),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_file_named_anywhere_is_found(place):
    refuse_outside_weights(PLACES[place](tensor(outside=False)).SerializeToString())

    with pytest.raises(BundleError, match="weights from another file"):
        refuse_outside_weights(PLACES[place](tensor()).SerializeToString())


@pytest.mark.parametrize("field", ["data_location", "external_data"])
def test_either_field_is_enough(field):
    weights = tensor()
    weights.ClearField(field)

    with pytest.raises(BundleError, match="weights from another file"):
        refuse_outside_weights(model(initializers=[weights]).SerializeToString())


def test_the_numbers_are_those_of_onnx():
    numbered = {
        kind: {
            field.number: field.message_type.name
            for field in getattr(onnx, kind).DESCRIPTOR.fields
            if field.message_type is not None and field.message_type.name in HOLDS
        }
        for kind in HOLDS
    }

    assert numbered == HOLDS
    fields = onnx.TensorProto.DESCRIPTOR.fields_by_name
    assert fields["external_data"].number == EXTERNAL_DATA
    assert fields["data_location"].number == DATA_LOCATION


def test_the_packaged_models_pass():
    for path in sorted((demo_folder() / "bundle").glob("*.onnx")):
        refuse_outside_weights(path.read_bytes())


@pytest.mark.parametrize("data", [b"\xff" * 20, b"\x0b", b"\x3a\x7f\x01", b"\x08", b"\x80" * 12])
def test_bytes_that_are_no_model_are_refused_with_a_sentence(data):
    with pytest.raises(BundleError, match="damaged or no ONNX file"):
        refuse_outside_weights(data)


def test_a_graph_that_lies_in_itself_without_end_is_refused():
    # Model > graph > node > attribute > graph > ..., each around the one before.
    inner = b""
    for _ in range(60):
        for tag in (0x32, 0x2A, 0x0A):
            inner = bytes([tag]) + _length(inner) + inner

    with pytest.raises(BundleError, match="too deep"):
        refuse_outside_weights(b"\x3a" + _length(inner) + inner)


def _length(data: bytes) -> bytes:
    rest, length = len(data), bytearray()
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*length, rest])

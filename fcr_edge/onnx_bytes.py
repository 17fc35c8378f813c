"""ONNX models as bytes: whether one asks for weights from a file beside it.

A bundle's models carry their weights. One that names another file could read whatever lies on the
device, and not every runtime can be told to refuse that; so the bytes are looked at before any
runtime is. A message is a row of fields, each a number, a kind and a value (protobuf, "Encoding");
the numbers are those of onnx.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_edge.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLDS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
"""Message -> field -> the message in it: every way that leads to a tensor."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""The fields of a tensor that name a file, and say that its weights are there."""

_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_DEEPEST = 64
"""Messages lie in one another no deeper than this."""


def refuse_outside_weights(model: bytes) -> None:
    """Raise BundleError for a model that names another file, and for bytes that are no model."""
    try:
        named = _names_file(memoryview(model), "ModelProto", _DEEPEST)
    except (IndexError, ValueError) as error:
        raise BundleError(
            f"the model is damaged or no ONNX file ({error}): copy or export the bundle again"
        ) from error
    if named:
        raise BundleError(
            "the model asks for weights from another file, which a bundle's may not: export the"
            " bundle again"
        )


def _names_file(message: memoryview, kind: str, deepest: int) -> bool:
    if not deepest:
        raise ValueError("its messages lie too deep in one another")
    for number, value in _fields(message):
        if kind == "TensorProto" and number == DATA_LOCATION and value == 1:
            return True
        if kind == "TensorProto" and number == EXTERNAL_DATA:
            return True
        inner = HOLDS[kind].get(number)
        if inner and isinstance(value, memoryview) and _names_file(value, inner, deepest - 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field; a value of fixed size as 0, for none is asked for."""
    place = 0
    while place < len(message):
        tag, place = _read_number(message, place)
        kind = tag & 7
        value: int | memoryview = 0
        if kind == _NUMBER:
            value, place = _read_number(message, place)
        elif kind == _BYTES:
            length, place = _read_number(message, place)
            value, place = message[place : place + length], place + length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            place += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if place > len(message):
            raise ValueError("it ends within a field")
        yield tag >> 3, value


def _read_number(message: memoryview, place: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte, the lowest first; return it and where it ends."""
    number = shift = 0
    while True:
        byte = message[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")

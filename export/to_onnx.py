"""A network becomes one ONNX file under the bundle's contract, checked before anyone may keep it.

The contract: opset 18 and IR version 10, which every ONNX Runtime and TensorRT that FCR supports
reads; one file without external data; float32 in and out under the names of the specifications;
a batch axis named "batch", height and width fixed.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper, shape_inference
from torch.fx.experimental.optimization import fuse

from fcr_edge.errors import BundleError
from fcr_edge.manifest import EmbeddingSpec, TensorSpec, VectorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from onnx import ModelProto, ValueInfoProto
    from torch import nn

Weights = Literal["single", "half"]
Shape = tuple[str | int, ...]
Target = TensorSpec | EmbeddingSpec | VectorSpec

OPSET = 18
IR_VERSION = 10
MAX_BATCH = 8
"""The largest batch that the exported graph is declared for."""

HALF_FROM = 1024
"""Numbers in a tensor from which on "half" stores it in 16 bits; smaller ones are not worth it."""


def to_onnx(
    network: nn.Module,
    source: TensorSpec,
    target: Target,
    weights: Weights = "single",
) -> bytes:
    """Export a network on the CPU in evaluation mode; equal weights give equal bytes.

    Args:
        network: Takes one float32 batch, gives one.
        source: The picture it takes.
        target: The picture, embedding or numbers it gives.
        weights: "single" keeps weights as they are. "half" stores large ones rounded to 16 bits,
            in half the space, each behind a Cast that the runtime folds once at load: arithmetic
            stays in 32 bits, and the outputs are those of the rounded weights.

    Raises:
        BundleError: The graph breaks the contract, or a weight does not fit into 16 bits.
    """
    # A batch of 2: older exporters took a batch of 1 for a constant.
    example = torch.linspace(source.low, source.high, 2 * _count(source)).reshape(
        2, source.channels, source.height, source.width
    )
    with _quiet_exporter():
        program = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[source.name],
            output_names=[target.name],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise BundleError("the PyTorch exporter gave no graph: update torch and onnxscript")
    model = program.model_proto
    _strip(model)
    if weights == "half":
        _halve(model)
    data: bytes = model.SerializeToString(deterministic=True)
    check_graph(data, source, target)
    return data


def check_graph(data: bytes, source: TensorSpec, target: Target) -> None:
    """Check an ONNX file against the contract and the specifications.

    Raises BundleError.
    """
    model = onnx.load_from_string(data)
    _check_versions(model)
    try:
        onnx.checker.check_model(model, full_check=True)
        shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise BundleError(f"the exported graph is not valid ONNX: {error}") from error
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise BundleError(f"{tensor.name} lies outside the exported file: one file is allowed")
    _check_values("input", model.graph.input, source.name, _picture_shape(source))
    _check_values("output", model.graph.output, target.name, _target_shape(target))


def round_weights(network: nn.Module) -> nn.Module:
    """Return a copy whose weights are rounded as "half" stores them, in float32.

    The reference for a file of half weights: what remains to differ is the runtime alone. Batch
    normalisation is folded into the convolution before it first, as the exporter does.
    """
    rounded: nn.Module = fuse(network.eval())
    for parameter in rounded.parameters():
        if _is_large(tuple(parameter.shape)):
            parameter.data = parameter.data.half().float()
    return rounded


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep back the hundreds of notes, one a node, that the exporter's optimiser logs."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _strip(model: ModelProto) -> None:
    """Drop the exporter's notes: they hold the maker's folders and vary with his torch build."""
    model.producer_version = ""
    del model.metadata_props[:]
    graph = model.graph
    for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    graph.doc_string = ""
    del graph.metadata_props[:]


def _halve(model: ModelProto) -> None:
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or not _is_large(tuple(tensor.dims)):
            continue
        name, stored = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(numpy_helper.from_array(_to_half(tensor), stored))
        casts.append(
            helper.make_node("Cast", [stored], [name], f"widen.{name}", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _to_half(tensor: TensorProto) -> np.ndarray:
    with np.errstate(over="ignore"):  # said below, with the name
        half = numpy_helper.to_array(tensor).astype(np.float16)
    if not np.isfinite(half).all():
        raise BundleError(
            f"{tensor.name} has values beyond 65504, the most that 16 bits hold: "
            "export with single weights"
        )
    return half


def _is_large(shape: tuple[int, ...]) -> bool:
    # One-dimensional tensors are biases and statistics, to which a network is more sensitive.
    return len(shape) >= 2 and int(np.prod(shape)) >= HALF_FROM


def _check_versions(model: ModelProto) -> None:
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets != {"": OPSET} or model.ir_version != IR_VERSION or model.functions:
        raise BundleError(
            f"the exporter wrote IR {model.ir_version}, opsets {opsets}, {len(model.functions)} "
            f"functions, not IR {IR_VERSION}, opset {OPSET} and none: install the versions in "
            "constraints.txt"
        )


def _check_values(
    role: str, values: Sequence[ValueInfoProto], name: str, shape: tuple[str | int, ...]
) -> None:
    found = [
        (value.name, _shape(value), value.type.tensor_type.elem_type == TensorProto.FLOAT)
        for value in values
    ]
    if found != [(name, shape, True)]:
        raise BundleError(
            f"the exported graph has the {role} {found}, not {name} of float32 {shape}: "
            "the network does not fit its specification"
        )


def _shape(value: ValueInfoProto) -> Shape:
    return tuple(side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim)


def _picture_shape(spec: TensorSpec) -> Shape:
    return ("batch", spec.channels, spec.height, spec.width)


def _target_shape(spec: Target) -> Shape:
    if isinstance(spec, VectorSpec):
        return ("batch", len(spec.values))
    return ("batch", spec.dimension) if isinstance(spec, EmbeddingSpec) else _picture_shape(spec)


def _count(spec: TensorSpec) -> int:
    return spec.channels * spec.height * spec.width

"""What leaves the workshop is one ONNX file under the contract that the field relies on."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper, shape_inference
from torch import nn

from export.to_onnx import (
    HALF_FROM,
    IR_VERSION,
    OPSET,
    check_graph,
    round_weights,
    to_onnx,
)
from fcr_edge.errors import BundleError
from fcr_edge.manifest import EmbeddingSpec, TensorSpec
from fcr_edge.sessions import open_session
from fcr_train.embedders import FaceEmbedder, load_embedder
from fcr_train.networks import ResnetGenerator

SKULL = TensorSpec("skull", channels=1, height=64, width=64, low=-1, high=1)
FACE = TensorSpec("face", channels=3, height=64, width=64, low=-1, high=1)

ROUNDING = 1e-5
"""Float32 in another order of additions, on faces in [-1, 1] and unit vectors."""


class Small(nn.Module):
    """A network that exports in a second, with one tensor large enough for half weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.wide = nn.Conv2d(1, 128, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.narrow = nn.Conv2d(128, 3, 1)

    def forward(self, skull: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.narrow(self.drop(self.wide(skull))))


@pytest.fixture(scope="module")
def generator() -> ResnetGenerator:
    torch.manual_seed(1)
    return ResnetGenerator(ngf=8, blocks=2).eval()


@pytest.fixture(scope="module")
def exported(generator) -> bytes:
    return to_onnx(generator, SKULL, FACE)


@pytest.fixture(scope="module")
def small() -> bytes:
    return to_onnx(Small(), SKULL, FACE)


@pytest.fixture(scope="module")
def small_half() -> bytes:
    return to_onnx(Small(), SKULL, FACE, "half")


@pytest.fixture(params=["generator", "half translator", "half embedder"])
def model(request) -> onnx.ModelProto:
    if request.param == "generator":
        return onnx.load_from_string(request.getfixturevalue("exported"))
    bundle = request.getfixturevalue("bundle")
    return onnx.load_from_string(bundle.model_bytes(request.param.removeprefix("half ")))


def batch_of(size: int, spec: TensorSpec = SKULL) -> np.ndarray:
    values = np.random.default_rng(1).random((8, spec.channels, spec.height, spec.width))
    return (spec.low + values[:size] * (spec.high - spec.low)).astype(np.float32)


def run_torch(network: nn.Module, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(batch)).numpy()


def run_onnx(model: bytes, batch: np.ndarray) -> np.ndarray:
    with open_session(model, "cpu") as session:
        return session.run(batch)


def test_the_graph_is_valid_and_its_shapes_follow(model):
    onnx.checker.check_model(model, full_check=True)
    shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def test_the_graph_has_opset_18_and_ir_version_10_and_plain_operators(model):
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == 10
    assert (OPSET, IR_VERSION) == (18, 10)
    assert {node.domain for node in model.graph.node} == {""}
    assert len(model.functions) == 0


def test_the_graph_takes_and_gives_float32_with_a_named_batch(model):
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        first, *rest = tensor.shape.dim

        assert tensor.elem_type == TensorProto.FLOAT
        assert first.dim_param == "batch"
        assert all(side.dim_value > 0 for side in rest)


def test_the_graph_carries_all_its_weights(model):
    assert all(tensor.data_location != TensorProto.EXTERNAL for tensor in model.graph.initializer)


def test_normalisation_stays_one_operator_with_one_type(model):
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "InstanceNormalization":
            assert {types[name] for name in node.input[1:]} == {TensorProto.FLOAT}


def test_instance_normalisation_is_kept_and_not_spelled_out(exported):
    found = Counter(node.op_type for node in onnx.load_from_string(exported).graph.node)

    # Five layers of the generator, and two in each of its two residual blocks.
    assert found["InstanceNormalization"] == 5 + 2 * 2
    assert not found.keys() & {"Shape", "Tile", "Expand", "BatchNormalization"}


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_generator_gives_the_same_faces_in_any_batch(generator, exported, size):
    batch = batch_of(size)

    difference = np.abs(run_onnx(exported, batch) - run_torch(generator, batch)).max()

    assert difference < ROUNDING


@pytest.mark.parametrize("size", [1, 3])
def test_an_embedder_gives_the_same_embeddings_in_any_batch(bundle, checkpoints, size):
    network = round_weights(load_embedder(checkpoints[1])[0])
    batch = batch_of(size, bundle.manifest.embedder.input)

    one, other = run_onnx(bundle.model_bytes("embedder"), batch), run_torch(network, batch)

    assert (one * other).sum(axis=1) == pytest.approx(np.ones(size), abs=ROUNDING)


def test_a_network_in_training_mode_is_exported_without_its_dropout():
    network = Small().train()

    model = to_onnx(network, SKULL, FACE)

    assert np.abs(run_onnx(model, batch_of(1)) - run_torch(Small().eval(), batch_of(1))).max() < (
        ROUNDING
    )


def test_equal_weights_give_equal_bytes(small):
    assert to_onnx(Small(), SKULL, FACE) == small


def test_the_file_tells_nothing_of_the_machine_it_was_made_on(exported):
    graph = onnx.load_from_string(exported).graph
    noted = [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]

    assert all(not item.metadata_props and not item.doc_string for item in noted)
    for trace in (str(Path.cwd()), "site-packages", ".py", torch.__version__):
        assert trace.encode() not in exported


def test_no_file_is_left_behind_and_nothing_is_said(tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)

    to_onnx(Small(), SKULL, FACE)

    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [record.name for record in caplog.records if "onnx" in record.name] == []


def test_half_weights_take_half_the_space(small, small_half, bundle):
    assert len(small) - len(small_half) == pytest.approx(2 * 128 * 9, abs=200)
    embedder = bundle.manifest.embedder
    # 16 bits a parameter; statistics and names of 121 normalisations come on top.
    assert embedder.fp32.size < 2 * embedder.parameters + 600_000


def test_half_weights_give_what_rounded_weights_give_bit_for_bit(small, small_half):
    rounded = onnx.load_from_string(small)
    for tensor in rounded.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.size >= HALF_FROM:
            values = values.astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    expected = run_onnx(rounded.SerializeToString(), batch_of(3))

    assert (run_onnx(small_half, batch_of(3)) == expected).all()
    assert (run_onnx(small, batch_of(3)) != expected).any()


def test_half_weights_are_widened_when_loaded_and_not_at_every_run(small_half, tmp_path):
    assert "Cast" in {node.op_type for node in onnx.load_from_string(small_half).graph.node}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")

    onnxruntime.InferenceSession(small_half, options, providers=["CPUExecutionProvider"])

    optimised = onnx.load(tmp_path / "optimised.onnx")
    assert "Cast" not in {node.op_type for node in optimised.graph.node}


def test_biases_and_small_tensors_stay_single(small_half):
    types = {
        tensor.name: tensor.data_type
        for tensor in onnx.load_from_string(small_half).graph.initializer
    }

    assert types == {
        "wide.weight.half": TensorProto.FLOAT16,
        "wide.bias": TensorProto.FLOAT,
        "narrow.weight": TensorProto.FLOAT,
        "narrow.bias": TensorProto.FLOAT,
    }


def test_rounding_in_pytorch_is_rounding_in_the_file(small_half):
    network = round_weights(Small())

    assert np.abs(run_onnx(small_half, batch_of(3)) - run_torch(network, batch_of(3))).max() < (
        ROUNDING
    )


def test_rounding_comes_after_batch_normalisation_is_folded():
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(64)
    norm.running_var.uniform_(0.01, 4)
    narrow = nn.Conv2d(64, 3, 1)
    network = nn.Sequential(nn.Conv2d(1, 64, 5, padding=2, bias=False), norm, narrow).eval()

    exported = to_onnx(network, SKULL, FACE, "half")

    expected = run_torch(round_weights(network), batch_of(3))
    assert np.abs(run_onnx(exported, batch_of(3)) - expected).max() < ROUNDING


def test_a_weight_too_large_for_16_bits_is_refused():
    network = Small()
    with torch.no_grad():
        network.wide.weight[0, 0, 0, 0] = 1e5

    with pytest.raises(BundleError, match=r"wide\.weight has values beyond 65504.*single weights"):
        to_onnx(network, SKULL, FACE, "half")


def edited(model: bytes, change) -> bytes:
    graph = onnx.load_from_string(model)
    change(graph)
    return graph.SerializeToString()


def put_outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda m: setattr(m.opset_import[0], "version", 20), "opsets {'': 20}", id="opset"
        ),
        pytest.param(lambda m: setattr(m, "ir_version", 11), "IR 11", id="IR version"),
        pytest.param(
            lambda m: setattr(m.graph.node[0], "op_type", "Convolve"),
            "not valid ONNX",
            id="operator",
        ),
        pytest.param(put_outside, "valid ONNX|outside the exported file", id="external data"),
        pytest.param(
            lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.DOUBLE),
            "not valid ONNX",
            id="output type",
        ),
        pytest.param(
            lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2),
            r"input \[\('skull', \(2, 1, 64, 64\)",
            id="fixed batch",
        ),
    ],
)
def test_a_graph_against_the_contract_is_refused(small, change, message):
    check_graph(small, SKULL, FACE)

    with pytest.raises(BundleError, match=message):
        check_graph(edited(small, change), SKULL, FACE)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(TensorSpec("xray", 1, 64, 64, -1, 1), FACE, id="name"),
        pytest.param(SKULL, TensorSpec("face", 3, 32, 32, -1, 1), id="size"),
        pytest.param(SKULL, EmbeddingSpec("face", 64), id="an embedding"),
    ],
)
def test_a_graph_unlike_its_specification_is_refused(small, source, target):
    with pytest.raises(BundleError, match="does not fit its specification"):
        check_graph(small, source, target)


def test_a_residual_backbone_embeds_as_in_torch():
    torch.manual_seed(0)
    embedder = FaceEmbedder("resnet18", 16)
    face, embedding = TensorSpec("face", 3, 64, 64, 0, 1), EmbeddingSpec("embedding", 16)

    model = to_onnx(embedder, face, embedding)

    batch = batch_of(3, face)
    assert np.abs(run_onnx(model, batch) - run_torch(embedder, batch)).max() < ROUNDING

"""Networks of 16 bits: where they compute in which, how near they stay, what a bundle says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, shape_inference
from torch import nn

from export.build import Form, build_bundle
from export.parity import compare_half
from export.to_fp16 import emulate, to_half
from export.to_onnx import to_onnx
from fcr_edge.agreement import MIN_HALF_PSNR
from fcr_edge.bundle import Bundle
from fcr_edge.errors import BundleError, DeviceError
from fcr_edge.manifest import EmbeddingSpec, TensorSpec
from fcr_train.translators import load_generator

SKULL = TensorSpec("skull", channels=1, height=64, width=64, low=-1, high=1)
FACE = replace(SKULL, name="face", channels=3)


@pytest.fixture(scope="module")
def generator(checkpoints: tuple[Path, Path]) -> nn.Module:
    return load_generator(checkpoints[0])[0]


@pytest.fixture(scope="module")
def single(generator: nn.Module) -> bytes:
    return to_onnx(generator, SKULL, FACE)


@pytest.fixture(scope="module")
def half(generator: nn.Module) -> bytes:
    return to_onnx(to_half(generator), SKULL, FACE)


def list_types(model: bytes) -> dict[str, int]:
    """The element type of every tensor of a graph, by strict inference."""
    graph = shape_inference.infer_shapes(
        onnx.load_from_string(model), check_type=True, strict_mode=True, data_prop=True
    ).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_convolutions_compute_in_16_bits_and_normalisation_in_32(half: bytes) -> None:
    types = list_types(half)
    nodes = onnx.load_from_string(half).graph.node

    for node in nodes:
        if any(item.name == "group" and item.i > 1 for item in node.attribute):
            continue  # a blur, which has no weights
        wanted = {"Conv": TensorProto.FLOAT16, "InstanceNormalization": TensorProto.FLOAT}
        if node.op_type in wanted:
            assert {types[name] for name in node.input} == {wanted[node.op_type]}
    assert {"Conv", "InstanceNormalization"} <= {node.op_type for node in nodes}


def test_a_file_of_16_bits_takes_and_gives_32_and_is_half_as_large(
    half: bytes, single: bytes
) -> None:
    graph = onnx.load_from_string(half).graph

    sides = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert sides == [TensorProto.FLOAT, TensorProto.FLOAT]
    assert len(half) < 0.7 * len(single)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_any_batch_stays_near(generator: nn.Module, half: bytes, single: bytes, size: int) -> None:
    batch = np.random.default_rng(1).uniform(-1, 1, (size, 1, 64, 64)).astype(np.float32)

    graph, layers = compare_half(single, half, to_half(generator), batch, FACE).rows

    for row in (graph, layers):
        assert row.measure == "min_psnr"
        assert row.passed
    assert MIN_HALF_PSNR < layers.value < graph.value < 120, "the CPU rounds weights alone"


def test_emulated_arithmetic_is_that_of_16_bits(generator: nn.Module) -> None:
    """PyTorch's own, which sums up in other orders, lies as far from it as roundings do."""
    half = to_half(generator)
    batch = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1

    with torch.inference_mode():
        single, own, emulated = (net(batch) for net in (generator, half, emulate(half)))

    apart, away = ((other - own).square().mean() for other in (emulated, single))
    assert 0 < away < 1e-5
    assert apart < 2 * away


def test_a_network_that_16_bits_cannot_hold_fails() -> None:
    class Loud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 3, 1, bias=False)
            self.back = nn.Conv2d(3, 3, 1, bias=False)
            nn.init.constant_(self.layer.weight, 4e4)
            nn.init.constant_(self.back.weight, 1e-5)

        def forward(self, skull: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.back(self.layer(skull * 4)))  # beyond 65504 in between

    batch = np.random.default_rng(1).uniform(0.5, 1, (2, 1, 64, 64)).astype(np.float32)
    loud = Loud()
    half = to_half(loud)
    models = [to_onnx(network, SKULL, FACE) for network in (loud, half)]

    graph, layers = compare_half(*models, half, batch, FACE).rows

    assert graph.passed, "the CPU computes the graph in 32 bits, and sees nothing"
    assert not layers.passed


def test_a_long_vector_keeps_its_length() -> None:
    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 8)
            nn.init.constant_(self.head.weight, 300.0)  # squares beyond 65504

        def forward(self, face: torch.Tensor) -> torch.Tensor:
            vector = self.head(face.mean(dim=(2, 3)))
            return vector * (vector * vector).sum(1, keepdim=True).rsqrt()

    face = TensorSpec("face", channels=3, height=8, width=8, low=0, high=1)
    long = Long()
    half = to_half(long)
    models = [to_onnx(net, face, EmbeddingSpec("e", 8)) for net in (long, half)]
    ones = np.ones((2, 3, 8, 8), np.float32)

    for row in compare_half(*models, half, ones, EmbeddingSpec("e", 8)).rows:
        assert row.passed
        assert row.value > 0.99999


def test_a_bundle_carries_both_precisions(
    checkpoints: tuple[Path, Path],
    save_embedder: Callable[..., Path],
    films: list[Path],
    tmp_path: Path,
) -> None:
    embedder = save_embedder(tmp_path / "e.safetensors", "resnet18")
    out = tmp_path / "bundle"

    build_bundle(checkpoints[0], embedder, films, out, form=Form(fp16=True))

    bundle = Bundle.load(out, allow_unsigned=True)
    for role, entry in bundle.manifest.models.items():
        assert entry.fp16 is not None
        assert entry.fp16.path == f"{role}.fp16.onnx"
        assert entry.fp16.size < 0.7 * entry.fp32.size
        rows = ["weights", "fp16", "fp16"] + ["fp16"] * (role == "embedder")
        assert [row.candidate.split()[-1] for row in entry.parity] == rows
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "computes in fp16" in card
    assert "min psnr" in card
    ranks = bundle.manifest.embedder.parity[-1]
    assert (ranks.measure, ranks.limit, ranks.pictures) == ("shared_of_50", None, len(films))
    assert 25 < ranks.value <= 50, "lots would share 21 of 120 pictures"
    assert "shared of 50" in card


def test_a_bundle_without_16_bits_has_none(bundle: Bundle) -> None:
    assert [entry.fp16 for entry in bundle.manifest.models.values()] == [None, None]


def test_half_that_strays_is_not_written(
    checkpoints: tuple[Path, Path],
    films: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fcr_edge.agreement.MIN_HALF_PSNR", 300.0)

    with pytest.raises(BundleError, match=r"translator\.fp16\.onnx does not compute"):
        build_bundle(*checkpoints, films, tmp_path / "bundle", form=Form(fp16=True))

    assert not (tmp_path / "bundle").exists()


def test_a_bundle_says_what_openvino_makes_of_it(
    checkpoints: tuple[Path, Path], films: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "bundle"

    build_bundle(*checkpoints, films, out, form=Form(openvino=True))

    for entry in Bundle.load(out, allow_unsigned=True).manifest.models.values():
        single, *coarse = [row for row in entry.parity if row.candidate.startswith("openvino")]
        assert single.candidate.endswith("CPU f32")
        assert single.limit is not None
        assert single.passed
        for row in coarse:  # where the CPU computes in bfloat16
            assert row.candidate.endswith("CPU bf16")
            assert row.limit is None
            assert row.value < single.value
    assert "openvino" in (out / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_comparison_with_openvino_needs_it(
    checkpoints: tuple[Path, Path],
    films: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(DeviceError, match="OpenVINO cannot be imported"):
        build_bundle(*checkpoints, films, tmp_path / "bundle", form=Form(openvino=True))

    assert not (tmp_path / "bundle").exists()

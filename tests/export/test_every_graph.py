"""Every graph of the packaged bundle, and a student's in 32 and 16 bits, in either runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import shape_inference

from export.to_fp16 import to_half
from export.to_onnx import to_onnx
from fcr_edge import agreement
from fcr_edge.bundle import Bundle
from fcr_edge.engines.opening import draw_probes
from fcr_edge.identify import demo_folder
from fcr_edge.manifest import TensorSpec
from fcr_edge.sessions import open_session
from fcr_train.config import Generator
from fcr_train.networks import build_generator

SKULL = TensorSpec("skull", 1, 64, 64, -1, 1)
FACE = TensorSpec("face", 3, 64, 64, -1, 1)
ROLES = ("translator", "embedder", "film", "suppressor")
SAME = 1e-4
"""Float32 in another order of additions, by another runtime."""
ROUNDED = 5e-3
"""The same of 16 bits: OpenVINO may compute in 32 what a graph asks for in 16."""


@pytest.fixture(scope="module")
def graphs() -> dict[str, tuple[bytes, TensorSpec, object]]:
    """Each graph with its input and output."""
    bundle = Bundle.load(demo_folder() / "bundle")
    found: dict[str, tuple[bytes, TensorSpec, object]] = {}
    for role in ROLES:
        entry = bundle.manifest.models[role]
        found[role] = (bundle.model_bytes(role), entry.input, entry.output)
    torch.manual_seed(1)
    student = build_generator(Generator(24, "shuffle", blocks=2), 1).eval()
    found["student"] = (to_onnx(student, SKULL, FACE), SKULL, FACE)
    found["student, 16 bits"] = (to_onnx(to_half(student), SKULL, FACE), SKULL, FACE)
    return found


@pytest.fixture(params=[*ROLES, "student", "student, 16 bits"])
def name(request) -> str:
    return request.param


@pytest.fixture
def graph(graphs, name):
    return graphs[name]


def test_it_is_valid_and_its_shapes_follow(graph) -> None:
    model = onnx.load_from_string(graph[0])

    onnx.checker.check_model(model, full_check=True)
    shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == 10


@pytest.mark.parametrize("number", [1, 3, 8])
def test_both_runtimes_take_any_batch_and_agree(graph, name, number) -> None:
    model, source, _ = graph
    tolerance = ROUNDED if "16 bits" in name else SAME
    probes = draw_probes(source)
    batch = np.resize(probes, (number, *probes.shape[1:]))

    with open_session(model, "cpu") as one, open_session(model, "openvino") as other:
        ours, theirs = one.run(batch), other.run(batch)
        alone = np.concatenate([one.run(picture[None]) for picture in batch])

    assert len(ours) == len(theirs) == number
    scale = max(1.0, float(np.abs(ours).max()))
    assert np.abs(ours - alone).max() < SAME * scale, "each picture by itself"
    assert np.abs(ours - theirs).max() < tolerance * scale


def test_a_student_in_16_bits_is_near_the_one_in_32(graphs) -> None:
    (single, source, target), (half, _, _) = graphs["student"], graphs["student, 16 bits"]
    probes = draw_probes(source)

    with open_session(single, "cpu") as one, open_session(half, "cpu") as other:
        found = agreement.compare_half(one.run(probes), other.run(probes), target)

    assert found, str(found)

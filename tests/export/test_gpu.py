"""On an NVIDIA GPU: engines are built, agree with the CPU, are found again, and are timed.

python -m pytest -m gpu tests/export/test_gpu.py
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from export.build import Form, build_bundle
from fcr_edge import agreement
from fcr_edge.bundle import Bundle
from fcr_edge.cli import app
from fcr_edge.engines.cache import EngineCache, Sidecar, cache_folder
from fcr_edge.engines.kit import describe_kit
from fcr_edge.engines.opening import draw_probes
from fcr_edge.errors import DeviceError
from fcr_edge.identify import Identifier
from fcr_edge.sessions import open_network

pytestmark = pytest.mark.gpu

ROLES = ("translator", "embedder")


@pytest.fixture(scope="module", autouse=True)
def kit() -> None:
    """Skip everything where there is no GPU with TensorRT."""
    try:
        describe_kit()
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def engines(checkpoints, films, tmp_path_factory) -> Bundle:
    """A bundle with 16 bits, its engines built into a cache of their own."""
    root = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        build_bundle(*checkpoints, films, root / "bundle", name="gpu", form=Form(fp16=True))
        done = CliRunner().invoke(
            app, ["warmup", "--bundle", str(root / "bundle"), "--allow-unsigned"]
        )
        assert done.exit_code == 0, done.output
        yield Bundle.load(root / "bundle", allow_unsigned=True)


def list_sidecars() -> dict[str, Sidecar]:
    found = EngineCache(cache_folder()).list()
    assert all(isinstance(one, Sidecar) for one in found), found
    return {one.recipe.role: one for one in found if isinstance(one, Sidecar)}


def test_engines_compute_in_16_bits_and_say_how_fast(engines) -> None:
    for role, sidecar in list_sidecars().items():
        assert role in ROLES
        assert sidecar.recipe.precision == "fp16", sidecar.fallback
        assert sidecar.half_share > 0.25
        assert 0 < sidecar.median_ms < 1000


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("number", [1, 3, 8, 11])
def test_batches_agree_with_the_cpu(engines, role, number) -> None:
    entry = engines.manifest.models[role]
    probes = np.resize(draw_probes(entry.input), (number, *draw_probes(entry.input).shape[1:]))
    with (
        open_network(engines, role, "trt") as gpu,
        open_network(engines, role, "cpu") as cpu,
    ):
        assert agreement.compare_half(cpu.run(probes), gpu.run(probes), entry.output)


def test_the_next_start_finds_the_engines(engines) -> None:
    before = list_sidecars()

    with Identifier(engines, "trt") as identifier:
        assert identifier.device.device == "trt"

    assert list_sidecars() == before


def test_an_engine_that_was_touched_is_built_again(engines, caplog) -> None:
    plan = next(cache_folder().glob("embedder*.plan"))
    plan.write_bytes(plan.read_bytes()[:-1])

    open_network(engines, "embedder", "trt").close()

    assert "its plan was changed or damaged" in caplog.text


@pytest.mark.parametrize("role", ROLES)
def test_cuda_agrees_with_the_cpu(engines, role) -> None:
    entry = engines.manifest.models[role]
    probes = draw_probes(entry.input)
    try:
        cuda = open_network(engines, role, "cuda")
    except DeviceError as error:
        pytest.skip(str(error))
    with cuda, open_network(engines, role, "cpu") as cpu:
        assert agreement.compare_half(cpu.run(probes), cuda.run(probes), entry.output)


def test_the_doctor_names_the_gpu(engines) -> None:
    done = CliRunner().invoke(
        app, ["doctor", "--bundle", str(engines.folder), "--allow-unsigned", "--json"]
    )

    checks = [check["what"] for check in json.loads(done.stdout)["checks"]]
    assert any(check.startswith("GPU: ") and "TensorRT" in check for check in checks)

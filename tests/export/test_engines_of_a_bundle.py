"""Engines of a real bundle by fake TensorRT: warmup, a search on them, export, the cache."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fake_tensorrt import VERSIONS, Faults, Told, make_cuda, make_tensorrt
from typer.testing import CliRunner

from export.build import Form, build_bundle
from fcr_edge.bundle import Bundle
from fcr_edge.cli import app as field
from fcr_edge.errors import DeviceError
from fcr_edge.identify import Identifier
from fcr_train.cli import app as workshop

ROLES = ("translator", "embedder")


@pytest.fixture(scope="module")
def networks(checkpoints, save_embedder, tmp_path_factory) -> tuple[Path, Path]:
    """The smallest ones: each is exported several times."""
    return checkpoints[0], save_embedder(
        tmp_path_factory.mktemp("e") / "e.safetensors", "resnet18"
    )


@pytest.fixture(scope="module")
def half_bundle(networks, films, tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("half") / "bundle"
    build_bundle(*networks, films, folder, name="half", form=Form(fp16=True))
    return Bundle.load(folder, allow_unsigned=True)


@pytest.fixture(params=[10, 11])
def generation(request) -> int:
    return request.param


@pytest.fixture
def told(generation, monkeypatch, tmp_path) -> Told:
    """A GPU of either generation, and an empty cache."""
    told, faults = Told(), Faults()
    cuda = make_cuda(faults, told)
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(generation, faults, told))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setattr("cuda.bindings.runtime", cuda, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("fcr_edge.engines.opening.WARM_UPS", 0)
    monkeypatch.setattr("fcr_edge.engines.opening.TIMED", 1)
    return told


def run(*arguments: object):
    return CliRunner().invoke(field, [*map(str, arguments)])


def test_warmup_builds_once_and_then_finds(told, half_bundle):
    for _ in range(2):
        done = run("warmup", "--bundle", half_bundle.folder, "--allow-unsigned")

        assert done.exit_code == 0, done.output
        assert [line.split(":")[0] for line in done.stdout.splitlines()] == list(ROLES)
        assert all("trt (Fake RTX 4090, fp16" in line for line in done.stdout.splitlines())

    assert told.builds == 2


def test_a_face_on_the_gpu_is_that_of_the_cpu(told, half_bundle, films):
    pictures, vectors = [], []
    for device in ("trt", "cpu"):
        with Identifier(half_bundle, device) as identifier:
            made = identifier.reconstruct(films[0])
            pictures.append(made.face.astype(float))
            vectors.append(identifier.embed([made.face])[0])

    assert abs(pictures[0] - pictures[1]).max() <= 1
    assert float(vectors[0] @ vectors[1]) > 0.9999


def test_auto_takes_the_gpu(told, half_bundle):
    with Identifier(half_bundle) as identifier:
        assert identifier.device.device == "trt"
        assert identifier.refusals == ()


def test_a_bundle_without_16_bits_says_what_to_do(told, bundle):
    with pytest.raises(DeviceError, match=r"no translator in 16 bits.*export it with --fp16"):
        Identifier(bundle, "trt")

    assert told.builds == 0


def test_the_cache_is_listed_and_cleared(told, half_bundle, tmp_path):
    run("warmup", "--bundle", half_bundle.folder, "--allow-unsigned")

    listed = json.loads(run("cache", "list", "--json").stdout)
    shown = run("cache", "list")
    cleared = run("cache", "clear", "--yes")

    assert listed["schema"] == "fcr-engines/1"
    assert {engine["recipe"]["role"] for engine in listed["engines"]} == {*ROLES}
    assert all(engine["half_share"] > 0.25 for engine in listed["engines"])
    assert [line.split(":")[0] for line in shown.stdout.splitlines()] == sorted(ROLES)
    assert "Fake RTX 4090" in shown.stdout
    assert "MB freed" in cleared.stdout
    assert json.loads(run("cache", "list", "--json").stdout)["engines"] == []
    assert "no engines yet" in run("cache", "list").stderr


def test_a_stale_engine_is_listed_with_its_reason(told, half_bundle, tmp_path):
    run("warmup", "--bundle", half_bundle.folder, "--allow-unsigned")
    side = next((tmp_path / "cache" / "fcr" / "engines").glob("embedder*.json"))
    side.write_text(side.read_text().replace('"layers"', '"layer"'))

    shown = run("cache", "list")

    assert f"will be built again: {side.name}: its sidecar was not sealed" in shown.stdout


def test_the_doctor_knows_the_gpu_and_what_is_built(told, half_bundle, generation):
    def look() -> dict[str, str]:
        done = run("doctor", "--bundle", half_bundle.folder, "--allow-unsigned", "--json")
        checks = json.loads(done.stdout)["checks"]
        return {
            check["what"].split(":")[0]: f"{check['state']} {check['what']}" for check in checks
        }

    before = look()
    run("warmup", "--bundle", half_bundle.folder, "--allow-unsigned")
    after = look()

    version = VERSIONS[generation]
    assert "Fake RTX 4090, compute capability 8.9, its driver takes CUDA 13.1" in before["GPU"]
    assert f"CUDA 13.0, TensorRT {version}" in before["GPU"]
    assert before["device trt"].startswith("note")
    assert "to be built at the first use: translator, embedder" in before["device trt"]
    assert after["device trt"] == "ok device trt: engines built of translator, embedder"
    assert "2 in" in after["engines"]
    assert told.builds == 2, "the doctor builds nothing"


def export_engines(networks, films, out: Path):
    named = ["--translator", networks[0], "--embedder", networks[1]]
    command = ["export", "--engine", "trt", *named, "--data", films[0].parent, "--out", out]
    return CliRunner().invoke(workshop, [*map(str, command)])


@pytest.mark.parametrize("generation", [11])
def test_export_builds_checks_and_times_engines(told, networks, films, tmp_path):
    done = export_engines(networks, films, tmp_path / "bundle")

    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "bundle")
    assert done.stderr.count("trt (Fake RTX 4090, fp16") == 2
    engines = json.loads(run("cache", "list", "--json").stdout)["engines"]
    assert {engine["measure"] for engine in engines} == {"min_psnr", "min_cosine"}
    assert all(engine["median_ms"] > 0 for engine in engines)


def test_export_without_tensorrt_exports_the_rest_and_says_how_to_get_it(
    networks, films, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    out = tmp_path / "bundle"

    done = export_engines(networks, films, out)

    assert done.exit_code == 3
    assert f"{out} is complete, with its networks in 16 bits, but engines were not" in done.stderr
    for advice in ("fcr[gpu,trt]", "Jetson", "fcr-edge warmup --bundle bundle"):
        assert advice in done.stderr
    assert all(
        entry.fp16 for entry in Bundle.load(out, allow_unsigned=True).manifest.models.values()
    )

"""Engines by fake TensorRT of two generations: built as wanted, checked, kept, never trusted."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcr_edge.engines.build import read_kind
from fcr_edge.engines.cache import KEY_FILE, EngineCache, Recipe, Sidecar, StaleEngineError
from fcr_edge.engines.kit import Kit
from fcr_edge.engines.opening import PROFILE, Wanted, draw_probes, open_engine
from fcr_edge.errors import BundleError, DeviceError
from fcr_edge.manifest import EmbeddingSpec, TensorSpec
from fcr_edge.sessions import open_session

onnx = pytest.importorskip("onnx")
from fake_tensorrt import VERSIONS, Faults, Told, make_cuda, make_tensorrt  # noqa: E402

SKULL = TensorSpec("skull", 1, 32, 32, -1, 1)
FACE = TensorSpec("face", 3, 32, 32, -1, 1)
BATCH = np.random.default_rng(1).uniform(-1, 1, (3, 1, 32, 32)).astype(np.float32)
KIT = Kit("10.3.0.26", 13000, 13010, "Fake RTX 4090", "8.9", "Linux x86_64")


def make_model(half: bool) -> bytes:
    """Three channels of tanh of the skull, in 16 bits or in 32."""
    helper, floats = onnx.helper, onnx.TensorProto
    nodes, here = [], "skull"
    if half:
        nodes.append(helper.make_node("Cast", [here], ["narrow"], to=floats.FLOAT16))
        here = "narrow"
    nodes.append(helper.make_node("Tanh", [here], ["tanh"]))
    nodes.append(helper.make_node("Concat", ["tanh"] * 3, ["three" if half else "face"], axis=1))
    if half:
        nodes.append(helper.make_node("Cast", ["three"], ["face"], to=floats.FLOAT))
    ends = [
        helper.make_tensor_value_info(name, floats.FLOAT, ["batch", channels, 32, 32])
        for name, channels in (("skull", 1), ("face", 3))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 18)]
    made: bytes = helper.make_model(graph, ir_version=10, opset_imports=opset).SerializeToString()
    return made


WANTED = Wanted("translator", make_model(half=False), make_model(half=True), SKULL, FACE)


@pytest.fixture(params=[10, 11])
def generation(request) -> int:
    return request.param


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def told(generation, faults, monkeypatch) -> Told:
    """TensorRT of a generation on a fake GPU, and what was asked of it."""
    told = Told()
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(generation, faults, told))
    cuda = make_cuda(faults, told)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setattr("cuda.bindings.runtime", cuda, raising=False)
    return told


@pytest.fixture
def cache(tmp_path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def test_an_engine_gives_what_onnx_runtime_gives_in_any_batch(told, cache):
    with (
        open_engine(WANTED, cache=cache) as engine,
        open_session(WANTED.single, "cpu") as other,
    ):
        for number in (1, 2, PROFILE[2], PROFILE[2] + 3):
            batch = np.resize(BATCH, (number, 1, 32, 32)) * np.float32(0.9)
            assert engine.run(batch).shape == (number, 3, 32, 32)
            assert np.abs(engine.run(batch) - other.run(batch)).max() < 1e-3


def test_an_engine_says_what_ran(told, cache, generation):
    with open_engine(WANTED, cache=cache) as engine:
        info = engine.describe()

    assert info.device == "trt"
    assert info.provider == "Fake RTX 4090, fp16"
    assert info.runtime == f"tensorrt {VERSIONS[generation]}"
    assert info.model_sha256 == hashlib.sha256(WANTED.half).hexdigest()


def test_precision_is_the_graphs_and_everything_else_is_said_explicitly(told, cache):
    open_engine(WANTED, cache=cache).close()

    trt = sys.modules["tensorrt"]
    (config,) = told.configs
    assert told.networks == [1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)]
    assert config.set_flags == set()
    assert config.cleared == {trt.BuilderFlag.TF32}
    assert config.limits == {trt.MemoryPoolType.WORKSPACE: 1024**3}
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert config.shapes == {"skull": [(n, 1, 32, 32) for n in PROFILE]}
    assert told.host_code == [False], "no code inside a plan may run"


def test_the_second_start_builds_nothing(told, cache):
    open_engine(WANTED, cache=cache).close()
    with open_engine(WANTED, cache=cache) as engine:
        assert engine.run(BATCH).shape == (3, 3, 32, 32)

    assert told.builds == 1
    assert told.loads == 2


def test_the_sidecar_tells_all_that_an_engine_is_bound_to(told, cache, generation):
    open_engine(WANTED, cache=cache).close()

    (path,) = cache.folder.glob("*.json")
    sidecar = json.loads(path.read_text())
    plan = path.with_suffix(".plan").read_bytes()
    version = VERSIONS[generation]
    sha256 = hashlib.sha256(WANTED.half).hexdigest()
    assert path.name == f"translator-{sha256[:12]}-trt{version}-sm89.fp16.json"
    assert sidecar["schema"] == "fcr-engine/1"
    assert sidecar["plan_sha256"] == hashlib.sha256(plan).hexdigest()
    assert sidecar["recipe"]["onnx_sha256"] == sha256
    assert sidecar["recipe"]["kit"]["tensorrt"] == version
    assert sidecar["recipe"]["tf32"] is False
    assert sidecar["recipe"]["profile"] == list(PROFILE)
    assert sidecar["half_share"] == pytest.approx(2 / 3, abs=1e-4)
    assert (sidecar["measure"], sidecar["limit"]) == ("min_psnr", 60.0)
    assert sidecar["value"] > 60
    assert sidecar["median_ms"] > 0
    assert len(sidecar["mac"]) == 64


def test_what_was_measured_serves_the_next_build(told, cache):
    open_engine(WANTED, cache=cache).close()
    other = replace(WANTED, role="suppressor")
    open_engine(other, cache=cache).close()

    assert told.configs[1].timings.serialize() == b"timings"


def test_progress_is_told_while_an_engine_is_built(told, cache):
    steps = []
    open_engine(WANTED, lambda *step: steps.append(step), cache).close()

    assert steps[0] == ("Building the engine", 0, 3)
    assert steps[-1] == ("Building the engine", 3, 3)


def test_ctrl_c_stops_a_build_and_leaves_nothing(told, cache):
    def tell(phase: str, step: int, steps: int) -> None:
        if step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_engine(WANTED, tell, cache)

    assert not [*cache.folder.glob("*.plan"), *cache.folder.glob("*.json")]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"parser_errors": ("no Foo", "no Bar")}, "does not take the translator.*no Foo; no Bar"),
        ({"build_returns_none": True}, "could not build the translator: .*out of memory"),
        ({"deserialise_returns_none": True}, "cannot load the engine"),
        ({"context_returns_none": True}, "no memory left for the engine"),
        ({"forgets_half": True}, "0 of 3 layers in 16 bits, although its graph asks"),
        ({"names_only": True}, "cannot be checked that 16 bits happened"),
        ({"devices": 0}, "no NVIDIA GPU"),
        ({"cuda_fails": "cudaGetDeviceCount"}, "looking for an NVIDIA GPU failed"),
        ({"cuda_fails": "cudaHostAlloc"}, "pinning .* bytes failed: cudaErrorMemoryAllocation"),
        ({"cuda_fails": "cudaMalloc"}, "allocating .* bytes on the GPU failed"),
        ({"cuda_fails": "cudaMemcpyAsync"}, "copying to or from the GPU failed"),
        ({"cuda_fails": "cudaStreamSynchronize"}, "waiting for the GPU failed"),
        ({"cuda_fails": "cudaGraphLaunch"}, "launching what was recorded failed"),
        ({"failing_call": "set_input_shape"}, "failed at setting the batch"),
        ({"failing_call": "set_tensor_address"}, "failed at binding the input"),
        ({"failing_call": "infer_shapes"}, r"working out the shapes \(input\)"),
        ({"failing_call": "execute_async_v3"}, "failed at running the engine"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_every_failure_is_one_sentence_and_frees_what_it_took(told, faults, cache, fault, message):
    for name, value in fault.items():
        setattr(faults, name, value)

    with pytest.raises(DeviceError, match=message):
        open_engine(WANTED, cache=cache)

    assert told.live == {}, "memory and streams are given back"
    assert not [*cache.folder.glob("*.plan"), *cache.folder.glob("*.json")]


def test_a_batch_is_recorded_when_it_comes_again(told, cache):
    """First launched layer by layer, as TensorRT demands; from then on as a whole."""
    open_engine(WANTED, cache=cache).close()
    with open_engine(WANTED, cache=cache) as engine:
        told.submissions = told.launches = 0
        given = [BATCH * np.float32(scale) for scale in (0.1, 0.2, 0.3)]
        found = [engine.run(batch) for batch in given]

        assert (told.submissions, told.launches) == (1, 2)
        for batch, faces in zip(given, found, strict=True):
            assert np.abs(faces[:, 0] - np.tanh(batch[:, 0])).max() < 1e-3


def test_a_batch_of_another_size_is_recorded_anew(told, cache):
    with open_engine(WANTED, cache=cache) as engine:
        kept = len(told.live)
        for number in (3, 3, 1, 1, 3, 3, 2):
            told.submissions = told.launches = 0
            faces = engine.run(BATCH[:number])

            assert faces.shape == (number, 3, 32, 32)
            assert np.abs(faces[:, 0] - np.tanh(BATCH[:number, 0])).max() < 1e-3
            assert told.submissions + told.launches == 1
        assert len(told.live) <= kept, "what was recorded of another size is let go"
    assert told.live == {}


@pytest.mark.parametrize(
    "fault",
    [
        {"unrecordable": True},
        {"cuda_fails": "cudaStreamBeginCapture"},
        {"cuda_fails": "cudaStreamEndCapture"},
        {"cuda_fails": "cudaGraphInstantiate"},
    ],
    ids=lambda value: next(iter(value.values())),
)
def test_what_cannot_be_recorded_runs_all_the_same(told, faults, cache, caplog, fault):
    for name, value in fault.items():
        setattr(faults, name, value)
    caplog.set_level(logging.INFO)

    with open_engine(WANTED, cache=cache) as engine:
        for _ in range(3):
            assert np.abs(engine.run(BATCH)[:, 0] - np.tanh(BATCH[:, 0])).max() < 1e-3

    assert told.launches == 0
    assert "without a CUDA graph" in caplog.text


def test_closing_gives_memory_back_and_ends_it(told, cache):
    engine = open_engine(WANTED, cache=cache)
    assert told.live
    engine.close()
    engine.close()

    assert told.live == {}
    with pytest.raises(DeviceError, match="closed"):
        engine.run(BATCH)


def test_too_far_off_in_16_bits_is_built_in_32_and_said_each_time(told, faults, cache, caplog):
    faults.error_of_half = 0.01

    for _ in range(2):
        caplog.clear()
        with open_engine(WANTED, cache=cache) as engine:
            assert engine.describe().provider == "Fake RTX 4090, fp32"
        assert "computes in 32 bits, slower, because in 16 it is too far" in caplog.text

    assert told.builds == 2, "once in 16 bits, once in 32, and then kept"
    (kept,) = cache.list()
    assert isinstance(kept, Sidecar)
    assert kept.fallback
    assert kept.recipe.precision == "fp32"


def test_too_far_off_in_32_bits_too_is_an_error(told, faults, cache):
    faults.error = 0.5

    with pytest.raises(DeviceError, match="too far from ONNX Runtime even in 32 bits"):
        open_engine(WANTED, cache=cache)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"driver": 12080}, "driver was 13010, is 12080"),
        ({"cuda_runtime": 12060}, "cuda_runtime was 13000"),
        ({"gpu": "Another GPU"}, "gpu was Fake RTX 4090, is Another GPU"),
        ({"system": "Linux aarch64"}, "system was"),
    ],
)
def test_an_engine_of_another_machine_is_built_again_aloud(
    told, cache, monkeypatch, caplog, change, reason
):
    open_engine(WANTED, cache=cache).close()
    from fcr_edge.engines import opening

    kit = replace(opening.describe_kit(), **change)
    monkeypatch.setattr(opening, "describe_kit", lambda: kit)

    open_engine(WANTED, cache=cache).close()

    assert told.builds == 2
    assert "the cached engine of the translator is built again" in caplog.text
    assert reason in caplog.text


def a_sidecar(**changes: object) -> Sidecar:
    recipe = Recipe("embedder", "a" * 64, "fp16", KIT, (1, 1, 8), False, 3, 1024)
    plan = hashlib.sha256(b"plan").hexdigest()
    made = Sidecar(recipe, plan, 4, 0.5, 9, "min_cosine", 1.0, 0.9999, 2.5, 1.0, "now")
    return replace(made, **changes)


FIELDS = {
    **{field.name: field.type for field in dataclasses.fields(Recipe)},
    **{field.name: field.type for field in dataclasses.fields(Kit)},
}


@pytest.mark.parametrize("field", sorted({*FIELDS} - {"kit"}))
def test_every_field_of_a_recipe_counts(cache, field):
    sidecar = a_sidecar()
    cache.save(b"plan", sidecar)
    recipe = sidecar.recipe
    owner = recipe.kit if field in {one.name for one in dataclasses.fields(Kit)} else recipe
    old = getattr(owner, field)
    new = {str: "other", int: 77, bool: not old, tuple: (1, 2, 3)}[type(old)]
    changed = (
        replace(recipe, kit=replace(recipe.kit, **{field: new}))
        if owner is recipe.kit
        else replace(recipe, **{field: new})
    )

    assert recipe.differences(recipe) == []
    assert changed.differences(recipe) == [f"{field} was {old}, is {new}"]
    if changed.name == recipe.name:
        with pytest.raises(StaleEngineError, match=f"{field} was"):
            cache.load(changed)
    else:
        assert cache.load(changed) is None


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda plan, side: plan.write_bytes(b"plaN"), "plan was changed or damaged"),
        (lambda plan, side: plan.unlink(), "plan cannot be read"),
        (lambda plan, side: side.write_text(side.read_text().replace("0.5", "0.9")), "not sealed"),
        (lambda plan, side: side.write_text("{"), "sidecar cannot be read"),
        (lambda plan, side: side.write_text("[]"), "sidecar cannot be read"),
        (lambda plan, side: side.write_text("{}"), "sidecar cannot be read"),
        (lambda plan, side: side.write_text(" " * 70000), "it has 70000 bytes"),
        (lambda plan, side: (side.parent / KEY_FILE).write_bytes(b"k" * 32), "not sealed on this"),
    ],
    ids=["plan", "no plan", "field", "cut", "list", "empty", "huge", "another device"],
)
def test_a_plan_that_was_touched_is_not_loaded(cache, harm, reason):
    sidecar = a_sidecar()
    cache.save(b"plan", sidecar)
    side = cache.folder / f"{sidecar.recipe.name}.json"

    harm(side.with_suffix(".plan"), side)

    with pytest.raises(StaleEngineError, match=reason):
        cache.load(sidecar.recipe)


def test_what_is_saved_is_what_is_loaded(cache):
    sidecar = a_sidecar(fallback="computes in 32 bits")
    cache.save(b"plan", sidecar)

    assert cache.load(sidecar.recipe) == (b"plan", sidecar)
    assert cache.list() == [sidecar]
    assert cache.load(replace(sidecar.recipe, role="film")) is None


def test_a_plan_is_never_loaded_from_a_sidecar_of_another(told, cache):
    """Two engines swapped: both files are whole, and neither is what its name says."""
    open_engine(WANTED, cache=cache).close()
    open_engine(replace(WANTED, role="suppressor"), cache=cache).close()
    one, other = sorted(cache.folder.glob("*.plan"))
    one.write_bytes(other.read_bytes() + b" ")

    open_engine(WANTED, cache=cache).close()
    open_engine(replace(WANTED, role="suppressor"), cache=cache).close()

    assert told.builds == 3


def test_clearing_leaves_only_key_and_lock(told, cache):
    open_engine(WANTED, cache=cache).close()
    sizes = sum(path.stat().st_size for path in cache.folder.iterdir() if path.suffix)
    key = (cache.folder / KEY_FILE).stat().st_size

    assert cache.clear() == sizes - key
    assert {path.name for path in cache.folder.iterdir()} <= {KEY_FILE, "lock"}


def test_the_key_is_the_users_alone_and_stays(cache):
    cache.save(b"plan", a_sidecar())
    key = (cache.folder / KEY_FILE).read_bytes()
    cache.save(b"plan", a_sidecar())

    assert (cache.folder / KEY_FILE).read_bytes() == key
    assert len(key) == 32
    if os.name == "posix":
        assert (cache.folder / KEY_FILE).stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(DeviceError, match=r"engines cannot be kept in .*set XDG_CACHE_HOME"):
        EngineCache(tmp_path / "file" / "engines")


def test_a_full_disk_is_an_error_and_leaves_no_half_plan(cache, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    cache.save(b"plan", a_sidecar())
    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(DeviceError, match="No space left on device"):
        cache.save(b"a longer plan", a_sidecar())

    assert cache.load(a_sidecar().recipe) == (b"plan", a_sidecar())
    assert not [*cache.folder.glob(".*.new")]


def test_a_disk_that_fills_up_while_building_frees_the_gpu(told, cache, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (cache.folder / KEY_FILE).write_bytes(b"k" * 32)
    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(DeviceError, match="No space left on device"):
        open_engine(WANTED, cache=cache)

    assert told.live == {}


def test_two_that_start_at_once_build_once(told, cache):
    sessions = []
    threads = [
        threading.Thread(target=lambda: sessions.append(open_engine(WANTED, cache=cache)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert told.builds == 1
    assert len(sessions) == 2
    for session in sessions:
        session.close()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_while_writing_leaves_the_old_engine_or_none(tmp_path):
    """A process saves without end and is killed; what is left is whole or is not loaded."""
    program = (
        "import itertools, sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from dataclasses import replace\n"
        "import hashlib\n"
        "from fcr_edge.engines.cache import EngineCache, Recipe, Sidecar\n"
        "from fcr_edge.engines.kit import Kit\n"
        "kit = Kit('10.3.0.26', 13000, 13010, 'Fake RTX 4090', '8.9', 'Linux x86_64')\n"
        "recipe = Recipe('embedder', 'a' * 64, 'fp16', kit, (1, 1, 8), False, 3, 1024)\n"
        "cache = EngineCache(Path(sys.argv[1]))\n"
        "for number in itertools.count():\n"
        "    plan = bytes([number % 256]) * 200000\n"
        "    digest = hashlib.sha256(plan).hexdigest()\n"
        "    side = Sidecar(recipe, digest, 4, .5, 9, 'min_cosine', 1, 1, 1, 1, 'now')\n"
        "    cache.save(plan, side)\n"
        "    print(number, flush=True)\n"
    )
    whole = 0
    for pause in np.linspace(0, 0.03, 6):
        root = str(Path(__file__).parents[2])
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), root], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with contextlib.suppress(StaleEngineError):  # killed between plan and sidecar
            found = EngineCache(tmp_path).load(a_sidecar().recipe)
            assert found is not None
            assert len({*found[0]}) == 1
            whole += 1
    assert whole, "most kills hit between two saves"


def test_a_lock_that_is_not_given_back_is_an_error(cache, monkeypatch):
    import filelock

    monkeypatch.setattr("fcr_edge.engines.cache._LOCK_SECONDS", 0.1)
    with (
        filelock.FileLock(cache.folder / "lock"),
        pytest.raises(DeviceError, match="another process has been building"),
        cache.lock(),
    ):
        pass


def test_tensorrt_that_is_absent_says_how_to_get_it(monkeypatch, cache):
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    with pytest.raises(DeviceError, match=r"cannot be imported.*fcr\[gpu,trt\].*Jetson"):
        open_engine(WANTED, cache=cache)


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "12.0.1"])
def test_a_tensorrt_of_unknown_age_is_refused(told, cache, version):
    sys.modules["tensorrt"].__version__ = version

    with pytest.raises(DeviceError, match=f"TensorRT {version} is not between 10.3 and 12"):
        open_engine(WANTED, cache=cache)


def test_a_library_that_the_host_lacks_is_told(monkeypatch, cache):
    import builtins

    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name == "tensorrt":
            raise OSError("libnvdla_compiler.so: cannot open shared object file")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)

    with pytest.raises(DeviceError, match="libnvdla_compiler"):
        open_engine(WANTED, cache=cache)


def test_a_name_without_its_package_is_told(monkeypatch, cache):
    from types import ModuleType

    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))  # as type stubs leave it

    with pytest.raises(DeviceError, match="only its name is taken"):
        open_engine(WANTED, cache=cache)


def test_a_model_that_asks_for_a_file_is_no_engine(told, cache):
    model = onnx.load_from_string(WANTED.half)
    weights = model.graph.initializer.add(name="w", data_type=1, dims=[1])
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")

    with pytest.raises(BundleError, match="weights from another file"):
        open_engine(replace(WANTED, half=model.SerializeToString()), cache=cache)

    assert told.builds == 0


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ({"Format/Datatype": "Row major linear FP16 format"}, "half"),
        ({"Format/Datatype": "Half"}, "half"),
        ({"Format": "Linear", "DataType": "Half"}, "half"),
        ({"Format": "Linear", "DataType": "Float"}, "float"),
        ({"Format/Datatype": "Row major linear FP32"}, "float"),
        ({"Format/Datatype": "Row major Int8"}, ""),
        ({"Format": "half a format"}, ""),
    ],
)
def test_what_layers_compute_in_is_read_of_either_generation(output, kind):
    assert read_kind(output) == kind


@pytest.mark.parametrize(
    "source", [SKULL, TensorSpec("skull", 7, 64, 64, -1, 1), TensorSpec("face", 3, 48, 48, 0, 1)]
)
def test_probes_are_pictures_of_the_networks_kind(source):
    probes = draw_probes(source)

    assert probes.shape == (3, source.channels, source.height, source.width)
    assert probes.dtype == np.float32
    planes = probes if source.channels == 3 else probes[:, :1]
    assert planes.min() >= source.low
    assert planes.max() <= source.high
    assert planes.std() > 0.1 * (source.high - source.low), "not blank"
    if source.channels == 7:
        assert not probes[:, 1:].any(), "nothing is known"


def test_embeddings_are_held_to_their_cosine(told, cache):
    model = make_embedder()
    wanted = Wanted("embedder", model, model, FACE, EmbeddingSpec("embedding", 3))

    with pytest.raises(DeviceError, match="0 of 3 layers in 16 bits"):
        open_engine(wanted, cache=cache)  # a graph in 32 bits that poses as one in 16


def make_embedder() -> bytes:
    helper, floats = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("ReduceMean", ["face"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("LpNormalization", ["mean"], ["embedding"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("face", floats.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("embedding", floats.FLOAT, ["batch", 3])],
    )
    opset = [helper.make_opsetid("", 17)]
    made: bytes = helper.make_model(graph, ir_version=8, opset_imports=opset).SerializeToString()
    return made


def test_building_is_announced(told, cache, caplog):
    caplog.set_level(logging.WARNING)
    open_engine(WANTED, cache=cache).close()

    assert "building the translator for Fake RTX 4090 in fp16: the first time" in caplog.text

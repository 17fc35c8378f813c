"""A session runs on the device that was asked for, or says why it does not."""

from __future__ import annotations

import base64
import builtins
import hashlib
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fcr_edge import sessions
from fcr_edge.errors import BundleError, DeviceError
from fcr_edge.sessions import find_runtime_conflict, open_session

# Graphs of a node or two on float32 "batch" x 1 x 2 x 2, opset 18, IR 10, as the ONNX package
# wrote them: helper.make_model(helper.make_graph([helper.make_node("Sqrt", ["x"], ["y"])], ...),
# ir_version=10, opset_imports=[helper.make_opsetid("", 18)]). Kept as text so that these tests
# need only what a field kit has.
SQUARE_ROOT = base64.b64decode(
    "CAo6VQoMCgF4EgF5IgRTcXJ0EgFnWiAKAXgSGwoZCAESFQoHEgViYXRjaAoCCAEKAggCCgIIAmIgCgF5EhsKGQgBEhUK"
    "BxIFYmF0Y2gKAggBCgIIAgoCCAJCBAoAEBI="
)
TWO_OUTPUTS = base64.b64decode(
    "CAo6hAEKDAoBeBIBeSIEU3FydAoLCgF4EgF6IgNOZWcSAWdaIAoBeBIbChkIARIVCgcSBWJhdGNoCgIIAQoCCAIKAggC"
    "YiAKAXkSGwoZCAESFQoHEgViYXRjaAoCCAEKAggCCgIIAmIgCgF6EhsKGQgBEhUKBxIFYmF0Y2gKAggBCgIIAgoCCAJC"
    "BAoAEBI="
)
DOUBLE = base64.b64decode(
    "CAo6VAoLCgF4EgF5IgNBYnMSAWdaIAoBeBIbChkICxIVCgcSBWJhdGNoCgIIAQoCCAIKAggCYiAKAXkSGwoZCAsSFQoH"
    "EgViYXRjaAoCCAEKAggCCgIIAkIECgAQEg=="
)
WEIGHTS_IN_A_FILE = base64.b64decode(  # one float, in weights.bin
    "CAo6ewoOCgF4CgF3EgF5IgNNdWwSAWcqIggBEAFCAXdqFwoIbG9jYXRpb24SC3dlaWdodHMuYmlucAFaIAoBeBIbChkI"
    "ARIVCgcSBWJhdGNoCgIIAQoCCAIKAggCYiAKAXkSGwoZCAESFQoHEgViYXRjaAoCCAEKAggCCgIIAkIECgAQEg=="
)
ON_CPU = ("cpu", "openvino")
BATCH = np.full((3, 1, 2, 2), 9, dtype=np.float32)


class FakeRuntime:
    """ONNX Runtime built with CUDA, whose sessions claim to run on the given providers."""

    __version__ = "1.31.1"

    def __init__(self, claimed: list[str], error: Exception | None = None) -> None:
        self.claimed, self.error, self.created = claimed, error, []

    def get_available_providers(self):
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self):
        sys.stdout.write("Failed to load libcublas.so.13\n")  # as the real one does

    def SessionOptions(self):
        return SimpleNamespace(add_session_config_entry=lambda key, value: None)

    def InferenceSession(self, model, options, providers, enable_fallback):
        self.created.append((providers, enable_fallback))
        if self.error:
            raise self.error
        node = SimpleNamespace(name="x", shape=["batch", 1, 2, 2], type="tensor(float)")
        return SimpleNamespace(
            get_providers=lambda: self.claimed,
            get_inputs=lambda: [node],
            get_outputs=lambda: [node],
            run=lambda names, feed: [feed["x"]],
        )


@pytest.fixture
def no_runtime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


@pytest.mark.parametrize("device", ON_CPU)
def test_the_cpu_runs_batches_of_one_and_three(device):
    with open_session(SQUARE_ROOT, device) as session:
        for batch in (BATCH[:1], BATCH):
            output = session.run(batch)

            assert output.dtype == np.float32
            assert output.shape == batch.shape
            assert (output == 3).all()


def test_a_session_says_what_ran():
    import onnxruntime

    with open_session(SQUARE_ROOT, "cpu") as session:
        info = session.describe()

        assert info.device == "cpu"
        assert info.provider == "CPUExecutionProvider"
        assert info.runtime == f"onnxruntime {onnxruntime.__version__}"
        assert info.model_sha256 == hashlib.sha256(SQUARE_ROOT).hexdigest()
        assert str(info) == f"cpu (CPUExecutionProvider, onnxruntime {onnxruntime.__version__})"
        assert session.refusals == ()


def test_an_unknown_device_lists_the_known_ones():
    with pytest.raises(
        DeviceError, match=r"'tpu' is unknown: use one of auto, trt, cuda, cpu, openv"
    ):
        open_session(SQUARE_ROOT, "tpu")


def test_tensorrt_is_refused_with_the_reason():
    with pytest.raises(DeviceError, match="alone is no engine: open it out of its bundle"):
        open_session(SQUARE_ROOT, "trt")


def test_cuda_without_a_build_for_it_is_an_error_and_never_the_cpu(monkeypatch):
    runtime = FakeRuntime(["CPUExecutionProvider"])
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)

    with pytest.raises(DeviceError, match=r"1\.31\.1 is a build without CUDA: .*fcr\[gpu\]"):
        open_session(SQUARE_ROOT, "cuda")
    assert runtime.created == []


def test_a_provider_list_that_lies_is_caught(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeRuntime(["CPUExecutionProvider"]))

    with pytest.raises(DeviceError, match="fell back to CPUExecutionProvider instead of CUDA"):
        open_session(SQUARE_ROOT, "cuda")


def test_cuda_that_fails_to_start_is_an_error(monkeypatch):
    broken = FakeRuntime([], error=RuntimeError("CUDA failure 35: driver is too old\nmore"))
    monkeypatch.setitem(sys.modules, "onnxruntime", broken)

    with pytest.raises(DeviceError, match=r"CUDA failure 35: driver is too old: check nvidia-smi"):
        open_session(SQUARE_ROOT, "cuda")


def test_cuda_runs_without_the_runtimes_own_fallback_and_in_full_precision(monkeypatch, capsys):
    runtime = FakeRuntime(["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)

    with open_session(SQUARE_ROOT, "cuda") as session:
        assert session.describe().device == "cuda"
        assert session.run(BATCH).shape == BATCH.shape

    ((((provider, options),), fallback),) = runtime.created
    assert provider == "CUDAExecutionProvider"
    assert options["use_tf32"] == "0"
    assert fallback == 0
    assert capsys.readouterr().out == ""


def test_auto_records_why_it_took_the_cpu(monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with open_session(SQUARE_ROOT) as session:
        assert session.describe().device == "cpu"
        trt, cuda = session.refusals
        assert trt.startswith("trt: an ONNX file alone is no engine")
        assert cuda.startswith("cuda: the installed onnxruntime")


def test_auto_takes_cuda_where_it_works(monkeypatch):
    runtime = FakeRuntime(["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)

    with open_session(SQUARE_ROOT) as session:
        assert session.describe().device == "cuda"
        assert len(session.refusals) == 1


@pytest.mark.parametrize("device", ["auto", "cuda", "cpu"])
@pytest.mark.usefixtures("no_runtime")
def test_a_bare_install_names_the_extras(device):
    with pytest.raises(DeviceError, match=r"pip install 'fcr\[cpu\]', or 'fcr\[gpu\]'"):
        open_session(SQUARE_ROOT, device)


def test_a_runtime_whose_libraries_are_missing_is_a_device_error(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name == "onnxruntime":
            raise OSError("libstdc++.so.6: version not found")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)

    with pytest.raises(DeviceError, match=r"libstdc\+\+\.so\.6: version not found"):
        open_session(SQUARE_ROOT, "cpu")


def test_two_runtimes_in_one_folder_are_reported_with_the_remedy(monkeypatch, caplog):
    monkeypatch.setattr(sessions, "_installed", lambda distribution: True)
    sessions._warn_of_conflict.cache_clear()

    for _ in range(2):
        open_session(SQUARE_ROOT, "cpu").close()
    sessions._warn_of_conflict.cache_clear()

    assert "pip uninstall -y onnxruntime onnxruntime-gpu, then" in find_runtime_conflict()
    assert [record.message for record in caplog.records] == [find_runtime_conflict()]


def test_one_runtime_is_no_conflict(monkeypatch):
    monkeypatch.setattr(sessions, "_installed", lambda distribution: distribution == "onnxruntime")

    assert find_runtime_conflict() is None


@pytest.mark.parametrize(
    ("batch", "got"),
    [
        pytest.param(BATCH[:, 0], "float32 3 x 2 x 2", id="rank"),
        pytest.param(BATCH[..., :1], "float32 3 x 1 x 2 x 1", id="side"),
        pytest.param(np.repeat(BATCH, 3, axis=1), "float32 3 x 3 x 2 x 2", id="channels"),
        pytest.param(BATCH.astype(np.float64), "float64 3 x 1 x 2 x 2", id="precision"),
        pytest.param(BATCH.astype(np.uint8), "uint8 3 x 1 x 2 x 2", id="picture"),
        pytest.param(BATCH[:0], "float32 0 x 1 x 2 x 2", id="empty"),
    ],
)
@pytest.mark.parametrize("device", ON_CPU)
def test_a_batch_the_network_does_not_take_is_refused(device, batch, got):
    with (
        open_session(SQUARE_ROOT, device) as session,
        pytest.raises(BundleError, match=f"x takes float32 batch x 1 x 2 x 2, the batch is {got}"),
    ):
        session.run(batch)


@pytest.mark.parametrize("device", ON_CPU)
def test_a_strided_batch_gives_what_its_copy_gives(device):
    batch = np.arange(24, dtype=np.float32).reshape(6, 1, 2, 2)

    with open_session(SQUARE_ROOT, device) as session:
        assert (session.run(batch[::2]) == session.run(batch[::2].copy())).all()


@pytest.mark.parametrize("device", ON_CPU)
def test_values_that_are_not_numbers_are_an_error_and_no_result(device):
    with (
        open_session(SQUARE_ROOT, device) as session,
        pytest.raises(DeviceError, match="not numbers: run on --device cpu"),
    ):
        session.run(-BATCH)


@pytest.mark.parametrize("device", ON_CPU)
def test_a_closed_session_does_not_run(device):
    session = open_session(SQUARE_ROOT, device)
    session.close()
    session.close()

    with pytest.raises(DeviceError, match="closed: open a new one"):
        session.run(BATCH)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(
            b"not a model", "damaged or no ONNX file.* export the bundle again", id="bytes"
        ),
        pytest.param(b"", "refuses the model: .* export the bundle again", id="nothing"),
        pytest.param(TWO_OUTPUTS, "1 inputs and 2 outputs", id="two outputs"),
        pytest.param(DOUBLE, "of .*(double|f64).*, not one of each in float32", id="precision"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "auto", "openvino"])
def test_a_model_that_is_none_of_ours_is_a_bundle_error(model, message, device):
    with pytest.raises(BundleError, match=message):
        open_session(model, device)


@pytest.mark.parametrize("device", ON_CPU)
def test_weights_from_a_file_outside_the_bundle_are_refused(device, tmp_path, monkeypatch):
    (tmp_path / "weights.bin").write_bytes(np.float32(2).tobytes())
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleError, match="weights from another file"):
        open_session(WEIGHTS_IN_A_FILE, device)


@pytest.mark.parametrize("device", ON_CPU)
def test_the_same_batch_gives_the_same_bits(device):
    with open_session(SQUARE_ROOT, device) as one, open_session(SQUARE_ROOT, device) as other:
        batch = np.random.default_rng(1).random((3, 1, 2, 2), dtype=np.float32)

        assert one.run(batch).tobytes() == other.run(batch).tobytes()


def test_openvino_says_in_which_precision_it_ran():
    with open_session(SQUARE_ROOT, "openvino") as session:
        info = session.describe()

    assert (info.device, info.provider) == ("openvino", "CPU f32")
    assert info.runtime.startswith("openvino 20")
    assert info.model_sha256 == hashlib.sha256(SQUARE_ROOT).hexdigest()


def test_auto_never_takes_openvino():
    with open_session(SQUARE_ROOT) as session:
        assert session.describe().device == "cpu"
        assert not any("openvino" in refusal for refusal in session.refusals)


def test_bfloat16_on_a_cpu_without_it_is_an_error_and_never_32_bits(monkeypatch):
    core = SimpleNamespace(get_property=lambda device, name: ["FP32", "INT8"])
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=lambda: core))

    with pytest.raises(DeviceError, match=r"not compute in bfloat16 .*FP32, INT8.*openvino"):
        open_session(SQUARE_ROOT, "openvino-bf16")


def test_openvino_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(DeviceError, match=r"pip install 'fcr\[openvino\]', or use --device cpu"):
        open_session(SQUARE_ROOT, "openvino")


def test_openvino_is_imported_without_what_reports_to_its_makers():
    program = (
        "import base64, sys\n"
        "from fcr_edge.sessions import open_session\n"
        f"open_session({SQUARE_ROOT!r}, 'openvino').close()\n"
        "assert 'openvino' in sys.modules\n"
        "assert not [name for name in sys.modules if 'telemetry' in name or 'ovc' in name]\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)

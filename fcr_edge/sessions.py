"""Sessions: what runs a network, and on which device; open_session() never falls back in silence.

    with open_network(bundle, "embedder", "auto") as session:
        embeddings = session.run(batch)
        print(session.describe(), session.refusals)

A device asked for by name is the device that runs, or DeviceError. "auto" tries trt, cuda and cpu
in that order and keeps one line for each device it could not have, in the session's `refusals`.
OpenVINO, which is the CPU by another runtime, runs only where it is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np

from fcr_edge.errors import BundleError, DeviceError
from fcr_edge.onnx_bytes import refuse_outside_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from jaxtyping import Float32

    from fcr_edge.bundle import Bundle
    from fcr_edge.manifest import Role

    Tell = Callable[[str, int, int], None]

logger = logging.getLogger(__name__)

Processor = Literal["trt", "cuda", "cpu", "openvino", "openvino-bf16"]
Device = Literal["auto", "trt", "cuda", "cpu", "openvino", "openvino-bf16"]

PREFERRED: tuple[Processor, ...] = ("trt", "cuda", "cpu")
"""What "auto" tries, in this order."""

INSTALL = "pip install 'fcr[cpu]', or 'fcr[gpu]' where an NVIDIA GPU with CUDA 13 is; not both"

_S = TypeVar("_S", bound="Session")


@dataclass(frozen=True)
class SessionInfo:
    """What ran a network."""

    device: Processor
    provider: str
    """The runtime's own name of what it runs on, e.g. "CPUExecutionProvider"."""
    runtime: str
    """The runtime with its version, e.g. "onnxruntime 1.31.1"."""
    model_sha256: str
    """SHA-256 of the model's bytes, 64 hexadecimal digits."""

    def __str__(self) -> str:
        return f"{self.device} ({self.provider}, {self.runtime})"


class Session(ABC):
    """A network on a device. A context manager; close() ends it too."""

    refusals: tuple[str, ...] = ()
    """Why "auto" could not have the devices it would have preferred, a sentence for each."""

    def __init__(self, info: SessionInfo, name: str, shape: Sequence[int | str | None]) -> None:
        self._info, self._name, self._shape = info, name, tuple(shape)
        self._open = True

    def run(self, batch: Float32[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n ..."]:
        """Run the network on a batch of one or more; the shape is the manifest's input.

        Raises BundleError for a batch the network does not take, DeviceError if the device fails
        or gives values that are not numbers.
        """
        if not self._open:
            raise DeviceError("the session is closed: open a new one")
        _check_batch(batch, self._name, self._shape)
        try:
            output = self._compute(batch)
        except DeviceError:
            raise
        except Exception as error:  # the exceptions of a runtime have no common class
            raise DeviceError(
                f"{self._info} failed on a batch of {len(batch)}: {_first_line(error)}: "
                "free memory, or run on --device cpu"
            ) from error
        if not np.isfinite(output).all():
            raise DeviceError(
                f"{self._info} gave values that are not numbers: run on --device cpu; "
                "if they stay, export the bundle again"
            )
        return np.asarray(output, dtype=np.float32)

    def describe(self) -> SessionInfo:
        """Say what runs the network."""
        return self._info

    def close(self) -> None:
        """Free the device; closing twice is harmless."""
        if self._open:
            self._open = False
            self._free()

    @abstractmethod
    def _compute(self, batch: Float32[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n ..."]:
        """Run the network on a batch that fits."""

    @abstractmethod
    def _free(self) -> None:
        """Let go of what the session holds."""

    def __enter__(self: _S) -> _S:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_network(
    bundle: Bundle, role: Role, device: Device = "auto", tell: Tell | None = None
) -> Session:
    """Open a session of a bundle's network; TensorRT takes its 16-bit form, all others 32 bits.

    `tell` is called with (phase, steps done, steps) while an engine is built. Raises DeviceError
    and BundleError as `open_session`, BundleError also where the bundle has no such network.
    """

    def open_engine() -> Session:
        from fcr_edge.engines import opening

        return opening.open_engine(opening.want(bundle, role), tell)

    return open_session(bundle.model_bytes(role), device, open_engine)


def open_session(
    model: bytes, device: Device = "auto", open_engine: Callable[[], Session] | None = None
) -> Session:
    """Open a session on the device, or for "auto" on the first of trt, cuda and cpu to be had.

    Args:
        model: An ONNX model with one float32 input and one float32 output, from a verified bundle.
        device: What shall run it.
        open_engine: Opens a TensorRT engine of the same network; left out, there is none.

    Raises:
        DeviceError: The device is unknown, or cannot be had; for "auto", none of them.
        BundleError: The model is damaged, or asks for weights from another file.
    """
    if device not in get_args(Device):
        raise DeviceError(
            f"device {device!r} is unknown: use one of {', '.join(get_args(Device))}"
        )
    _warn_of_conflict()
    refuse_outside_weights(model)
    if device != "auto":
        return _open(model, device, open_engine)
    _import_runtime()  # without it every device would be refused for the one reason
    refusals: tuple[str, ...] = ()
    for processor in PREFERRED:
        try:
            session = _open(model, processor, open_engine)
        except DeviceError as error:
            refusals += (f"{processor}: {error}",)
        else:
            session.refusals = refusals
            return session
    raise DeviceError(f"no device can run the model: {'; '.join(refusals)}")


def find_runtime_conflict() -> str | None:
    """Say how to mend two ONNX Runtimes in one folder, or None where there is at most one.

    onnxruntime and onnxruntime-gpu write the same folder: the last one installed wins, often the
    one without CUDA, and pip does not object.
    """
    if not (_installed("onnxruntime") and _installed("onnxruntime-gpu")):
        return None
    return (
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
        "pip uninstall -y onnxruntime onnxruntime-gpu, then " + INSTALL
    )


class OnnxRuntimeSession(Session):
    """A network in ONNX Runtime, on the CPU or through CUDA."""

    def __init__(self, model: bytes, device: Literal["cuda", "cpu"]) -> None:
        runtime = _import_runtime()
        provider = _PROVIDERS[device][0]
        if device == "cuda":
            _prepare_cuda(runtime)
        self._session: Any = _create(runtime, model, device)
        _check_provider(self._session, provider)
        source, target = _check_graph(self._session)
        super().__init__(
            SessionInfo(
                device=device,
                provider=provider,
                runtime=f"onnxruntime {runtime.__version__}",
                model_sha256=hashlib.sha256(model).hexdigest(),
            ),
            source.name,
            source.shape,
        )
        self._target = target.name

    def _compute(self, batch: Float32[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n ..."]:
        (output,) = self._session.run([self._target], {self._name: batch})
        return np.asarray(output)

    def _free(self) -> None:
        self._session = None


class OpenVinoSession(Session):
    """A network in OpenVINO on the CPU, in 32 bits, or in bfloat16 where the CPU computes in it.

    bfloat16 keeps 8 bits of 24: faces and embeddings differ a little from those in 32 bits, so
    that a gallery should be enrolled and searched with one of the two.
    """

    def __init__(self, model: bytes, device: Literal["openvino", "openvino-bf16"]) -> None:
        openvino = _import_openvino()
        core = openvino.Core()
        precision = "bf16" if device == "openvino-bf16" else "f32"
        if precision == "bf16":
            _check_bfloat16(core)
        self._network = _compile(openvino, core, model, precision)
        source, target = self._network.inputs, self._network.outputs
        types = [end.element_type.get_type_name() for end in (*source, *target)]
        _check_ends(len(source), len(target), types, "f32")
        shape = [side.get_length() if side.is_static else None for side in source[0].partial_shape]
        super().__init__(
            SessionInfo(
                device=device,
                provider=f"CPU {precision}",
                runtime=f"openvino {_version(openvino)}",
                model_sha256=hashlib.sha256(model).hexdigest(),
            ),
            source[0].any_name,
            ["batch" if side is None else side for side in shape],
        )

    def _compute(self, batch: Float32[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n ..."]:
        # Contiguous: OpenVINO would read a strided batch as if it were.
        found = self._network(np.ascontiguousarray(batch))
        return np.array(found[0])

    def _free(self) -> None:
        self._network = None


_PROVIDERS: dict[Literal["cuda", "cpu"], tuple[str, dict[str, str]]] = {
    "cuda": (
        "CUDAExecutionProvider",
        {
            # A kit runs few pictures per start: measuring every algorithm first would cost more.
            "cudnn_conv_algo_search": "HEURISTIC",
            # Growing by powers of two can take twice the memory of an 8 GB device.
            "arena_extend_strategy": "kSameAsRequested",
            # TF32 keeps 10 bits of 23: a session that says fp32 shall compute in fp32.
            "use_tf32": "0",
        },
    ),
    "cpu": ("CPUExecutionProvider", {}),
}


def _open(model: bytes, device: Processor, open_engine: Callable[[], Session] | None) -> Session:
    if device == "trt":
        if open_engine is None:
            raise DeviceError("an ONNX file alone is no engine: open it out of its bundle")
        return open_engine()
    if device == "cuda" or device == "cpu":
        return OnnxRuntimeSession(model, device)
    return OpenVinoSession(model, device)


def _import_runtime() -> Any:
    try:
        import onnxruntime
    except (ImportError, OSError) as error:  # OSError: a system library that it needs is missing
        raise DeviceError(f"ONNX Runtime cannot be imported ({error}): {INSTALL}") from error
    return onnxruntime


def _prepare_cuda(runtime: Any) -> None:
    """Load the CUDA libraries of the extra `gpu`, or say why there is nothing to load them for."""
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise DeviceError(
            f"the installed onnxruntime {runtime.__version__} is a build without CUDA: "
            + (
                find_runtime_conflict()
                or "where an NVIDIA GPU with CUDA 13 is, "
                "pip uninstall -y onnxruntime, then pip install 'fcr[gpu]'"
            )
        )
    if hasattr(runtime, "preload_dlls"):  # since 1.21
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):  # stdout is for results
            runtime.preload_dlls()
        logger.debug("onnxruntime.preload_dlls: %s", printed.getvalue().strip() or "all loaded")


def _create(runtime: Any, model: bytes, device: Literal["cuda", "cpu"]) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings there are for graph authors
    options.use_deterministic_compute = True
    # Threads that wait without sleeping take the processor from the bundle's other networks, whose
    # threads wait as well: on two cores a film takes half as long again, and a battery drains.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(
            model, options, providers=[_PROVIDERS[device]], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        if device == "cpu":
            raise BundleError(
                f"ONNX Runtime {runtime.__version__} refuses the model: {_first_line(error)}: "
                "update onnxruntime, or export the bundle again"
            ) from error
        raise DeviceError(
            f"ONNX Runtime cannot use CUDA: {_first_line(error)}: "
            "check nvidia-smi, or use --device cpu"
        ) from error


def _import_openvino() -> Any:
    # Its converter sends a note to its makers over the network when it is imported; nothing here
    # needs it.
    with _hidden("openvino.tools.ovc"):
        try:
            import openvino
        except (ImportError, OSError) as error:  # OSError: a system library is missing
            raise DeviceError(
                f"OpenVINO cannot be imported ({error}): pip install 'fcr[openvino]', or use"
                " --device cpu"
            ) from error
    return openvino


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make importing a module fail, as if it were not installed."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def _check_bfloat16(core: Any) -> None:
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in able:
        raise DeviceError(
            f"this CPU does not compute in bfloat16 (OpenVINO names {', '.join(able)}): use"
            " --device openvino"
        )


def _compile(openvino: Any, core: Any, model: bytes, precision: str) -> Any:
    try:
        return core.compile_model(
            core.read_model(model),
            "CPU",
            {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision},
        )
    except RuntimeError as error:
        raise BundleError(
            f"OpenVINO {_version(openvino)} refuses the model: {_last_line(error)}: "
            "update openvino, use --device cpu, or export the bundle again"
        ) from error


def _check_provider(session: Any, wanted: str) -> None:
    # ONNX Runtime does not raise when a provider cannot start: it takes the CPU and goes on.
    got = session.get_providers()[0]
    if got != wanted:
        raise DeviceError(
            f"ONNX Runtime fell back to {got} instead of {wanted}: its CUDA libraries or the "
            "driver cannot be loaded; check nvidia-smi, then pip install 'fcr[gpu]' again, "
            "or use --device cpu"
        )


def _check_graph(session: Any) -> tuple[Any, Any]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    types = [node.type for node in (*inputs, *outputs)]
    _check_ends(len(inputs), len(outputs), types, "tensor(float)")
    return inputs[0], outputs[0]


def _check_ends(inputs: int, outputs: int, types: list[str], wanted: str) -> None:
    if inputs != 1 or outputs != 1 or {*types} != {wanted}:
        raise BundleError(
            f"the model has {inputs} inputs and {outputs} outputs of {types}, "
            "not one of each in float32: export the bundle again"
        )


def _check_batch(batch: np.ndarray, name: str, shape: Sequence[int | str | None]) -> None:
    fits = len(shape) == batch.ndim and all(
        not isinstance(side, int) or side == got
        for side, got in zip(shape, batch.shape, strict=True)
    )
    if not fits or batch.dtype != np.float32 or batch.size == 0:
        wanted = " x ".join(str(side) for side in shape)
        raise BundleError(
            f"{name} takes float32 {wanted}, the batch is {batch.dtype} "
            f"{' x '.join(map(str, batch.shape))}: make it with imaging.to_tensor "
            "and the manifest's input"
        )


@functools.cache
def _warn_of_conflict() -> None:
    conflict = find_runtime_conflict()
    if conflict is not None:
        logger.warning(conflict)


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _version(openvino: Any) -> str:
    number: str = openvino.__version__.split("-")[0]  # a build's hash and branch follow
    return number


def _last_line(error: Exception) -> str:
    """Skip the places in its own source that OpenVINO names first."""
    return str(error).strip().splitlines()[-1].rstrip(".")[:300]

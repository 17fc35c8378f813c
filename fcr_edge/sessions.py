"""Sessions: what runs a network, and on which device; open_session() never falls back in silence.

    with open_session(bundle.model_bytes("embedder"), "auto") as session:
        embeddings = session.run(batch)
        print(session.describe(), session.refusals)

A device asked for by name is the device that runs, or DeviceError. "auto" tries trt, cuda and cpu
in that order and keeps one line for each device it could not have, in the session's `refusals`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import os
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args

import numpy as np

from fcr_edge.errors import BundleError, DeviceError

if TYPE_CHECKING:
    from types import TracebackType

    from jaxtyping import Float32

logger = logging.getLogger(__name__)

Processor = Literal["trt", "cuda", "cpu"]
Device = Literal["auto", "trt", "cuda", "cpu"]

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


class Session(Protocol):
    """A network on a device. A context manager; close() ends it too."""

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why "auto" could not have the devices it would have preferred, a sentence for each."""

    def run(self, batch: Float32[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n ..."]:
        """Run the network on a batch of one or more; the shape is the manifest's input.

        Raises BundleError for a batch the network does not take, DeviceError if the device fails.
        """

    def describe(self) -> SessionInfo:
        """Say what runs the network."""

    def close(self) -> None:
        """Free the device; closing twice is harmless."""

    def __enter__(self: _S) -> _S: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_session(model: bytes, device: Device = "auto") -> Session:
    """Open a session on the device, or for "auto" on the first of trt, cuda and cpu to be had.

    Args:
        model: An ONNX model with one float32 input and one float32 output, from a verified bundle.
        device: What shall run it.

    Raises:
        DeviceError: The device is unknown, or cannot be had; for "auto", none of them.
        BundleError: ONNX Runtime cannot read the model.
    """
    if device not in get_args(Device):
        raise DeviceError(
            f"device {device!r} is unknown: use one of {', '.join(get_args(Device))}"
        )
    _warn_of_conflict()
    if device != "auto":
        return _open(model, device, ())
    _import_runtime()  # without it every device would be refused for the one reason
    refusals: tuple[str, ...] = ()
    for processor in get_args(Processor):
        try:
            return _open(model, processor, refusals)
        except DeviceError as error:
            refusals += (f"{processor}: {error}",)
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


class OnnxRuntimeSession:
    """A network in ONNX Runtime, on the CPU or through CUDA; see Session."""

    def __init__(
        self, model: bytes, device: Literal["cuda", "cpu"], refusals: tuple[str, ...] = ()
    ) -> None:
        runtime = _import_runtime()
        provider = _PROVIDERS[device][0]
        if device == "cuda":
            _prepare_cuda(runtime)
        self._session: Any = _create(runtime, model, device)
        _check_provider(self._session, provider)
        self._input, self._output = _check_graph(self._session)
        self._info = SessionInfo(
            device=device,
            provider=provider,
            runtime=f"onnxruntime {runtime.__version__}",
            model_sha256=hashlib.sha256(model).hexdigest(),
        )
        self._refusals = refusals

    @property
    def refusals(self) -> tuple[str, ...]:
        """See Session."""
        return self._refusals

    def run(self, batch: Float32[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n ..."]:
        """See Session."""
        if self._session is None:
            raise DeviceError("the session is closed: open a new one")
        _check_batch(batch, self._input.name, self._input.shape)
        try:
            (output,) = self._session.run([self._output.name], {self._input.name: batch})
        except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
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
        """See Session."""
        return self._info

    def close(self) -> None:
        """See Session."""
        self._session = None

    def __enter__(self) -> OnnxRuntimeSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


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


def _open(model: bytes, device: Processor, refusals: tuple[str, ...]) -> Session:
    if device == "trt":
        raise DeviceError(
            "this version of FCR does not build TensorRT engines yet: use --device cuda or cpu"
        )
    return OnnxRuntimeSession(model, device, refusals)


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
    # A bundle's models carry their weights. One that asks for weights from a file beside the
    # working folder is refused, since no file lies under the null device.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.devnull
    )
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
    if len(inputs) != 1 or len(outputs) != 1 or set(types) != {"tensor(float)"}:
        raise BundleError(
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs of {types}, "
            "not one of each in float32: export the bundle again"
        )
    return inputs[0], outputs[0]


def _check_batch(batch: np.ndarray, name: str, shape: list[int | str | None]) -> None:
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

"""Running an engine: pinned buffers, a stream of its own, and no result that was not checked."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from fcr_edge.engines.kit import check_cuda, import_cuda, import_tensorrt
from fcr_edge.errors import DeviceError
from fcr_edge.sessions import Session, SessionInfo

if TYPE_CHECKING:
    import tensorrt as trt
    from jaxtyping import Float32

FLOAT_BYTES = 4


class EngineSession(Session):
    """An engine on the GPU, with buffers for the largest batch of its profile.

    One context, so one batch at a time: threads wait for one another. A larger batch is run in
    parts. Raises DeviceError where the plan is not to be had or memory runs out.
    """

    def __init__(self, plan: bytes, info: SessionInfo) -> None:
        import_tensorrt()
        import tensorrt as trt

        cuda = import_cuda()
        self._cuda, self._one_at_a_time = cuda, threading.Lock()
        # Kept, because what they made needs them.
        self._log = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._log)
        self._runtime.engine_host_code_allowed = False
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise DeviceError(f"TensorRT {trt.__version__} cannot load the engine")
        self._context = self.engine.create_execution_context()
        if self._context is None:
            raise DeviceError(
                "the GPU has no memory left for the engine: close what else uses it, or use"
                " --device cpu"
            )
        source, self._target = _find_ends(self.engine)
        sides = tuple(self.engine.get_tensor_shape(source))[1:]
        self._most = int(self.engine.get_tensor_profile_shape(source, 0)[2][0])
        super().__init__(info, source, ["batch", *map(int, sides)])
        self._buffers = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self._stream = _open_stream(cuda, stack)
            self._in = _Buffer(cuda, stack, (self._most, *sides))
            shape = tuple(self.engine.get_tensor_shape(self._target))[1:]
            self._out = _Buffer(cuda, stack, (self._most, *shape))
            self._buffers = stack.pop_all()

    def _compute(self, batch: Float32[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n ..."]:
        with self._one_at_a_time:
            parts = range(0, len(batch), self._most)
            return np.concatenate([self._run(batch[at : at + self._most]) for at in parts])

    def _run(self, batch: Float32[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n ..."]:
        cuda, context, number = self._cuda, self._context, len(batch)
        self._in.host[:number] = batch
        _insist(context.set_input_shape(self._name, tuple(batch.shape)), "setting the batch")
        _insist(context.set_tensor_address(self._name, self._in.device), "binding the input")
        _insist(context.set_tensor_address(self._target, self._out.device), "binding the output")
        lacking = context.infer_shapes()
        _insist(not lacking, f"working out the shapes ({', '.join(lacking)})")
        kinds = cuda.cudaMemcpyKind
        self._in.copy(number, kinds.cudaMemcpyHostToDevice, self._stream)
        _insist(context.execute_async_v3(int(self._stream)), "running the engine")
        self._out.copy(number, kinds.cudaMemcpyDeviceToHost, self._stream)
        check_cuda(cuda.cudaStreamSynchronize(self._stream), "waiting for the GPU")
        return self._out.host[:number].copy()

    def _free(self) -> None:
        self._buffers.close()
        self._context = self.engine = self._runtime = None


class _Buffer:
    """A batch in pinned memory of the host, and in the GPU's."""

    def __init__(self, cuda: Any, stack: contextlib.ExitStack, shape: tuple[int, ...]) -> None:
        self._cuda, self._row = cuda, int(np.prod(shape[1:])) * FLOAT_BYTES
        size = self._row * shape[0]
        pointer = check_cuda(cuda.cudaHostAlloc(size, 0), f"pinning {size} bytes")
        stack.callback(cuda.cudaFreeHost, pointer)
        self._pinned = pointer
        numbers = (ctypes.c_float * (size // FLOAT_BYTES)).from_address(int(pointer))
        self.host: Float32[np.ndarray, "n ..."] = np.ctypeslib.as_array(numbers).reshape(shape)
        on_gpu = check_cuda(cuda.cudaMalloc(size), f"allocating {size} bytes on the GPU")
        stack.callback(cuda.cudaFree, on_gpu)
        self.device = int(on_gpu)

    def copy(self, number: int, kind: Any, stream: Any) -> None:
        """Copy the first pictures between host and GPU, on the stream."""
        to_gpu = kind == self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        ends = (self.device, int(self._pinned)) if to_gpu else (int(self._pinned), self.device)
        result = self._cuda.cudaMemcpyAsync(*ends, number * self._row, kind, stream)
        check_cuda(result, "copying to or from the GPU")


def _open_stream(cuda: Any, stack: contextlib.ExitStack) -> Any:
    made = cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking)
    stream = check_cuda(made, "opening a stream")
    stack.callback(cuda.cudaStreamDestroy, stream)
    return stream


def _find_ends(engine: trt.ICudaEngine) -> tuple[str, str]:
    """Name the engine's one input and one output, both of 32-bit floats."""
    import tensorrt as trt

    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]
    kinds = {engine.get_tensor_dtype(name) for name in names}
    if len(inputs) != 1 or len(outputs) != 1 or kinds != {trt.DataType.FLOAT}:
        raise DeviceError(
            f"the engine has the inputs {inputs} and outputs {outputs} of {kinds}, not one of each"
            " in 32 bits: export the bundle again"
        )
    return inputs[0], outputs[0]


def _insist(done: bool, what: str) -> None:
    if not done:
        raise DeviceError(
            f"TensorRT failed at {what}: free the GPU's memory, clear the engines with `fcr-edge"
            " cache clear`, or use --device cpu"
        )

"""Running an engine: pinned buffers, a stream of its own, and no result that was not checked.

The second batch of a size is recorded as a CUDA graph, and it and all that follow are launched by
one call: a network of many small layers waits for its launches otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from fcr_edge.engines.kit import check_cuda, import_cuda, import_tensorrt
from fcr_edge.errors import DeviceError
from fcr_edge.sessions import Session, SessionInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    import tensorrt as trt
    from jaxtyping import Float32

logger = logging.getLogger(__name__)

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
        self._bound = 0
        """Pictures in the batch that the context is set to; 0 before the first."""
        self._recorded: _Recording | None = None
        self._recordable = True
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
        number = len(batch)
        self._in.host[:number] = batch
        if number == self._bound:
            self._repeat()
        else:
            self._bind(batch.shape)
            self._submit()
        check_cuda(self._cuda.cudaStreamSynchronize(self._stream), "waiting for the GPU")
        return self._out.host[:number].copy()

    def _bind(self, shape: tuple[int, ...]) -> None:
        """Set the context to a batch of this shape; what was recorded of another is let go."""
        self._forget()
        self._bound = 0  # should one of these fail
        context = self._context
        _insist(context.set_input_shape(self._name, shape), "setting the batch")
        _insist(context.set_tensor_address(self._name, self._in.device), "binding the input")
        _insist(context.set_tensor_address(self._target, self._out.device), "binding the output")
        lacking = context.infer_shapes()
        _insist(not lacking, f"working out the shapes ({', '.join(lacking)})")
        self._bound = shape[0]

    def _submit(self) -> None:
        """Put copies and network on the stream."""
        kinds = self._cuda.cudaMemcpyKind
        self._in.copy(self._bound, kinds.cudaMemcpyHostToDevice, self._stream)
        _insist(self._context.execute_async_v3(int(self._stream)), "running the engine")
        self._out.copy(self._bound, kinds.cudaMemcpyDeviceToHost, self._stream)

    def _repeat(self) -> None:
        """Do once more what the stream did last, recorded where that is possible."""
        if self._recorded is None and self._recordable:
            try:
                self._recorded = _Recording(self._cuda, self._stream, self._submit)
            except DeviceError as error:
                self._recordable = False
                logger.info("the engine runs without a CUDA graph, a little slower: %s", error)
        if self._recorded is None:
            self._submit()
        else:
            self._recorded.launch()

    def _forget(self) -> None:
        if self._recorded is not None:
            self._recorded.close()
            self._recorded = None

    def _free(self) -> None:
        self._forget()
        self._buffers.close()
        self._context = self.engine = self._runtime = None


class _Recording:
    """What was put on a stream, to be launched again and again: a CUDA graph.

    TensorRT has to have run the batch once before, outside any recording. Raises DeviceError where
    something in it cannot be recorded.
    """

    def __init__(self, cuda: Any, stream: Any, submit: Callable[[], None]) -> None:
        self._cuda, self._stream = cuda, stream
        # Of this thread alone: others may allocate meanwhile.
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check_cuda(cuda.cudaStreamBeginCapture(stream, mode), "starting to record")
        try:
            submit()
        finally:
            ended = cuda.cudaStreamEndCapture(stream)
        graph = check_cuda(ended, "recording")
        made = cuda.cudaGraphInstantiate(graph, 0)
        cuda.cudaGraphDestroy(graph)
        self._graph = check_cuda(made, "preparing what was recorded")

    def launch(self) -> None:
        """Put all of it on the stream."""
        launched = self._cuda.cudaGraphLaunch(self._graph, self._stream)
        check_cuda(launched, "launching what was recorded")

    def close(self) -> None:
        """Let go of it."""
        self._cuda.cudaGraphExecDestroy(self._graph)


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

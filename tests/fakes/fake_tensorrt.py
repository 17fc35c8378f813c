"""TensorRT and CUDA without a GPU: two generations of the Python API, and memory that holds.

A fake engine runs its ONNX graph by ONNX Runtime, on the addresses that it was bound to, so what
goes through buffers, copies and profiles is real. Names that 10.3 lacks are absent from both;
names that 11 removed are present in generation 10 and raise AttributeError in generation 11.
"""

from __future__ import annotations

import ctypes
import enum
import json
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

VERSIONS = {10: "10.3.0.26", 11: "11.4.1.12"}
FLOAT_BYTES = 4


@dataclass
class Faults:
    """What goes wrong; nothing by default."""

    parser_errors: tuple[str, ...] = ()
    build_returns_none: bool = False
    deserialise_returns_none: bool = False
    context_returns_none: bool = False
    forgets_half: bool = False
    """The engine computes in 32 bits whatever the graph says, and says so if asked."""
    names_only: bool = False
    """The inspector tells names of layers alone."""
    error_of_half: float = 0.0
    """Added to what an engine of a graph in 16 bits gives."""
    error: float = 0.0
    """Added to what any engine gives."""
    failing_call: str = ""
    """A call of the context that returns False."""
    unrecordable: bool = False
    """The engine cannot be put into a CUDA graph."""
    cuda_fails: str = ""
    """A call of CUDA that returns an error."""
    devices: int = 1


@dataclass
class Told:
    """What the code under test did."""

    networks: list[int] = field(default_factory=list)
    """Creation flags."""
    configs: list[Any] = field(default_factory=list)
    builds: int = 0
    loads: int = 0
    host_code: list[bool] = field(default_factory=list)
    live: dict[int, Any] = field(default_factory=dict)
    """Allocated memory, streams and graphs, by address."""
    recording: list[Any] | None = None
    """What was put on the stream while it records; None while it does not."""
    launches: int = 0
    """Of graphs."""
    submissions: int = 0
    """Of networks, outside graphs."""


def make_tensorrt(generation: int, faults: Faults, told: Told) -> ModuleType:
    """Build the module `tensorrt` of a generation."""
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = VERSIONS[generation]
    trt.__spec__ = ModuleSpec("tensorrt", None)  # PyTorch asks for it

    class Severity(enum.IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    class ILogger:
        pass

    ILogger.Severity = Severity

    class Logger(ILogger):
        ERROR = Severity.ERROR

        def __init__(self, least: Any = Severity.ERROR) -> None:
            pass

    class IProgressMonitor:
        pass

    flags = {"TF32": 0, "REFIT": 1, "STRIP_PLAN": 2, "VERSION_COMPATIBLE": 3}
    if generation == 10:
        flags |= {"FP16": 10, "INT8": 11, "OBEY_PRECISION_CONSTRAINTS": 12}
    creation = {"STRONGLY_TYPED": 1} | ({"EXPLICIT_BATCH": 0} if generation == 10 else {})
    trt.BuilderFlag = enum.IntEnum("BuilderFlag", flags)
    trt.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", creation)
    trt.MemoryPoolType = enum.IntEnum("MemoryPoolType", {"WORKSPACE": 0})
    trt.ProfilingVerbosity = enum.IntEnum(
        "ProfilingVerbosity", {"LAYER_NAMES_ONLY": 0, "DETAILED": 1, "NONE": 2}
    )
    trt.LayerInformationFormat = enum.IntEnum("LayerInformationFormat", {"ONELINE": 0, "JSON": 1})
    trt.TensorIOMode = enum.IntEnum("TensorIOMode", {"NONE": 0, "INPUT": 1, "OUTPUT": 2})
    trt.DataType = enum.IntEnum("DataType", {"FLOAT": 0, "HALF": 1})
    trt.ILogger, trt.Logger, trt.IProgressMonitor = ILogger, Logger, IProgressMonitor

    class Network:
        def get_input(self, number: int) -> Any:
            node = run_onnx(self.model).get_inputs()[number]
            sides = [-1 if not isinstance(side, int) else side for side in node.shape]
            return SimpleNamespace(name=node.name, shape=sides)

    class OnnxParser:
        def __init__(self, network: Network, log: Any) -> None:
            self.network, self.num_errors = network, 0

        def parse(self, model: bytes) -> bool:
            self.num_errors = len(faults.parser_errors)
            self.network.model = bytes(model)
            return not self.num_errors

        def get_error(self, number: int) -> str:
            return faults.parser_errors[number]

    class Config:
        def __init__(self) -> None:
            self.set_flags, self.cleared, self.limits = set(), set(), {}
            self.shapes: dict[str, Any] = {}
            self.timings = b""

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            self.limits[pool] = size

        def set_flag(self, flag: Any) -> None:
            self.set_flags.add(flag)

        def clear_flag(self, flag: Any) -> None:
            self.cleared.add(flag)

        def add_optimization_profile(self, profile: Any) -> int:
            self.shapes |= profile.shapes
            return 0

        def create_timing_cache(self, data: bytes) -> Any:
            return SimpleNamespace(serialize=lambda: bytes(data) or b"timings")

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            assert ignore_mismatch is False
            self.timings = cache
            return True

        def get_timing_cache(self) -> Any:
            return self.timings

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, Any] = {}

        def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
            self.shapes[name] = [least, best, most]

    class Builder:
        def __init__(self, log: Any) -> None:
            self.log = log

        def create_network(self, flags: int) -> Network:
            told.networks.append(flags)
            return Network()

        def create_builder_config(self) -> Config:
            told.configs.append(Config())
            return told.configs[-1]

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            told.builds += 1
            monitor = config.progress_monitor
            monitor.phase_start("Building the engine", None, 3)
            for step in range(3):
                if not monitor.step_complete("Building the engine", step):
                    return None
            monitor.phase_finish("Building the engine")
            if faults.build_returns_none:
                self.log.log(Severity.ERROR, "[E] Error Code 2: out of memory")
                return None
            head = {"shapes": {k: [list(v) for v in s] for k, s in config.shapes.items()}}
            return json.dumps(head).encode() + b"\n" + network.model

    if generation == 10:
        Builder.platform_has_fast_fp16 = True

    class Inspector:
        def __init__(self, model: bytes) -> None:
            self.model = model

        def get_engine_information(self, form: Any) -> str:
            assert form == trt.LayerInformationFormat.JSON
            if faults.names_only:
                return json.dumps({"Layers": ["conv1", "conv2"]})
            half = is_half(self.model) and not faults.forgets_half
            key, words = {
                10: ("Format/Datatype", ("Row major linear FP16 format", "Row major linear FP32")),
                11: ("DataType", ("Half", "Float")),
            }[generation]
            kinds = [words[0]] * 2 + [words[1]] if half else [words[1]] * 3
            kinds.append({10: "Row major Int32", 11: "Int32"}[generation])
            layers = [{"Name": "l", "Outputs": [{"Name": "o", key: kind}]} for kind in kinds]
            return json.dumps({"Layers": layers})

    class Engine:
        def __init__(self, plan: bytes) -> None:
            head, self.model = plan.split(b"\n", 1)
            self.shapes = json.loads(head)["shapes"]
            self.session, self.half = run_onnx(self.model), is_half(self.model)
            self.ends = [*self.session.get_inputs(), *self.session.get_outputs()]
            self.num_io_tensors = len(self.ends)

        def get_tensor_name(self, number: int) -> str:
            return self.ends[number].name

        def get_tensor_mode(self, name: str) -> Any:
            source = name == self.ends[0].name
            return trt.TensorIOMode.INPUT if source else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType.FLOAT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            (end,) = [end for end in self.ends if end.name == name]
            return tuple(side if isinstance(side, int) else -1 for side in end.shape)

        def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
            return [tuple(shape) for shape in self.shapes[name]]

        def create_engine_inspector(self) -> Inspector:
            return Inspector(self.model)

        def create_execution_context(self) -> Any:
            return None if faults.context_returns_none else Context(self)

    class Context:
        def __init__(self, engine: Engine) -> None:
            self.engine, self.addresses, self.shape = engine, {}, None

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            least, _, most = self.engine.shapes[name]
            self.shape = shape
            fits = least[0] <= shape[0] <= most[0] and list(shape[1:]) == most[1:]
            return fits and faults.failing_call != "set_input_shape"

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.addresses[name] = address
            return faults.failing_call != "set_tensor_address"

        def infer_shapes(self) -> list[str]:
            return ["input"] if faults.failing_call == "infer_shapes" else []

        def execute_async_v3(self, stream: int) -> bool:
            assert stream in told.live, "a stream of one's own, not yet destroyed"
            if faults.failing_call == "execute_async_v3":
                return False
            told.submissions += told.recording is None
            addresses, shape = dict(self.addresses), self.shape
            put(told, lambda: self.compute(addresses, shape))
            return not (faults.unrecordable and told.recording is not None)

        def compute(self, addresses: dict[str, int], shape: Any) -> None:
            source, target = self.engine.ends
            batch = view(addresses[source.name], shape)
            (made,) = self.engine.session.run([target.name], {source.name: batch.copy()})
            made = made + np.float32(faults.error)
            if self.engine.half:
                made = made + np.float32(faults.error_of_half)
            view(addresses[target.name], made.shape)[:] = made

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.engine_host_code_allowed = True

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            told.loads += 1
            told.host_code.append(self.engine_host_code_allowed)
            return None if faults.deserialise_returns_none else Engine(plan)

    trt.Builder, trt.OnnxParser, trt.Runtime = Builder, OnnxParser, Runtime
    return trt


def make_cuda(faults: Faults, told: Told) -> ModuleType:
    """Build the module `cuda.bindings.runtime`; its memory is the process's own."""
    cuda: Any = ModuleType("cuda.bindings.runtime")
    status = enum.IntEnum("cudaError_t", {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2})
    cuda.cudaStreamNonBlocking = 1
    cuda.cudaMemcpyKind = enum.IntEnum(
        "cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2}
    )

    def answer(name: str, *values: Any) -> tuple[Any, ...]:
        if faults.cuda_fails == name:
            return (status.cudaErrorMemoryAllocation, *values)
        return (status.cudaSuccess, *values)

    def allocate(name: str, size: int) -> tuple[Any, ...]:
        buffer = ctypes.create_string_buffer(max(size, 1))
        result = answer(name, ctypes.addressof(buffer))
        if result[0] == status.cudaSuccess:
            told.live[result[1]] = buffer
        return result

    def release(address: Any) -> tuple[Any, ...]:
        del told.live[int(address)]
        return (status.cudaSuccess,)

    def copy(to: int, source: int, size: int, kind: Any, stream: Any) -> tuple[Any, ...]:
        put(told, lambda: ctypes.memmove(to, source, size))
        return answer("cudaMemcpyAsync")

    def begin(stream: int, mode: Any) -> tuple[Any, ...]:
        assert stream in told.live
        assert told.recording is None
        result = answer("cudaStreamBeginCapture")
        told.recording = [] if result[0] == status.cudaSuccess else None
        return result

    def end(stream: int) -> tuple[Any, ...]:
        graph, told.recording = told.recording, None
        return keep("cudaStreamEndCapture", graph)

    def keep(name: str, graph: Any) -> tuple[Any, ...]:
        result = answer(name, id(graph))
        if result[0] == status.cudaSuccess:
            told.live[id(graph)] = graph
        return result

    def launch(graph: int, stream: int) -> tuple[Any, ...]:
        assert stream in told.live
        told.launches += 1
        for work in told.live[graph]:
            work()
        return answer("cudaGraphLaunch")

    gpu = SimpleNamespace(name=b"Fake RTX 4090\0", major=8, minor=9)
    cuda.cudaGetDeviceCount = lambda: answer("cudaGetDeviceCount", faults.devices)
    cuda.cudaGetDeviceProperties = lambda number: answer("cudaGetDeviceProperties", gpu)
    cuda.cudaRuntimeGetVersion = lambda: answer("cudaRuntimeGetVersion", 13000)
    cuda.cudaDriverGetVersion = lambda: answer("cudaDriverGetVersion", 13010)
    cuda.cudaHostAlloc = lambda size, flags: allocate("cudaHostAlloc", size)
    cuda.cudaMalloc = lambda size: allocate("cudaMalloc", size)
    cuda.cudaFreeHost = cuda.cudaFree = cuda.cudaStreamDestroy = release
    cuda.cudaStreamCreateWithFlags = lambda flags: allocate("cudaStreamCreateWithFlags", 1)
    cuda.cudaMemcpyAsync = copy
    cuda.cudaStreamCaptureMode = enum.IntEnum(
        "cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1}
    )
    cuda.cudaStreamBeginCapture, cuda.cudaStreamEndCapture = begin, end
    cuda.cudaGraphInstantiate = lambda graph, flags: keep(
        "cudaGraphInstantiate", tuple(told.live[graph])
    )
    cuda.cudaGraphDestroy = cuda.cudaGraphExecDestroy = release
    cuda.cudaGraphLaunch = launch
    cuda.cudaStreamSynchronize = lambda stream: answer("cudaStreamSynchronize")
    return cuda


def put(told: Told, work: Any) -> None:
    """Do what is put on a stream at once, or keep it while the stream records."""
    if told.recording is None:
        work()
    else:
        told.recording.append(work)


def is_half(model: bytes) -> bool:
    """Tell whether a graph computes in 16 bits: it then casts to them."""
    import onnx

    graph = onnx.load_from_string(model).graph
    return any(
        attribute.i == onnx.TensorProto.FLOAT16
        for node in graph.node
        if node.op_type == "Cast"
        for attribute in node.attribute
    )


def run_onnx(model: bytes) -> Any:
    """Open the graph in ONNX Runtime."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def view(address: int, shape: tuple[int, ...]) -> np.ndarray:
    """See memory as 32-bit floats."""
    numbers = (ctypes.c_float * int(np.prod(shape))).from_address(int(address))
    return np.ctypeslib.as_array(numbers).reshape(shape)

"""Building an engine: ONNX bytes in, a plan out, with the precision that the graph is written in.

TensorRT 11 has no builder flag for 16 bits, and 10 heeds one only in weakly typed networks; an
engine built with the flag alone may compute in 32 bits and say nothing. So the network is strongly
typed, the graph carries the precision, and the engine's own layers are counted afterwards. No name
is used here that 10.3 lacks or 11 has removed.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fcr_edge.engines.kit import import_tensorrt
from fcr_edge.errors import DeviceError

if TYPE_CHECKING:
    import tensorrt as trt

    from fcr_edge.engines.cache import Recipe
    from fcr_edge.sessions import Tell

logger = logging.getLogger(__name__)

_WARNINGS_LOGGED = 2
"""TensorRT's severities up to this one are logged: internal error, error and warning."""


@dataclass(frozen=True)
class Built:
    """What came of a build."""

    plan: bytes
    timings: bytes
    """What was measured of the kernels, for the next build; empty where TensorRT gives none."""


def build_plan(
    model: bytes, recipe: Recipe, timings: bytes = b"", tell: Tell | None = None
) -> Built:
    """Build the plan of an ONNX model by a recipe.

    Args:
        model: The ONNX file; its precision is the engine's.
        recipe: Profile, optimisation level, workspace and the rest; all are set explicitly.
        timings: What an earlier build on this GPU measured.
        tell: Called with (phase, steps done, steps) from TensorRT's threads.

    Raises DeviceError where TensorRT refuses the model or cannot build it, and KeyboardInterrupt
    where the user stopped it.
    """
    import_tensorrt()
    import tensorrt as trt

    log = _make_logger()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        errors = [str(parser.get_error(number)) for number in range(parser.num_errors)]
        raise DeviceError(
            f"TensorRT {trt.__version__} does not take the {recipe.role} in {recipe.precision}:"
            f" {'; '.join(errors)[:600]}: use --device cuda, and report these lines"
        )
    config = _configure(builder, network, recipe)
    cache = config.create_timing_cache(timings)
    config.set_timing_cache(cache, False)
    monitor = _make_monitor(tell)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped:
        raise KeyboardInterrupt
    if plan is None:
        raise DeviceError(
            f"TensorRT {trt.__version__} could not build the {recipe.role}: {log.last_error}: free"
            " the GPU's memory and try again, or use --device cuda"
        )
    return Built(bytes(plan), _serialise(config.get_timing_cache()))


def count_half(engine: trt.ICudaEngine) -> tuple[int, int]:
    """Count the layers of an engine that give 16-bit numbers, and all that give floats.

    TensorRT 10 writes a layer's outputs with "Format/Datatype", 11 with "DataType".
    """
    import tensorrt as trt

    inspector = engine.create_engine_inspector()
    told = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    half = layers = 0
    for layer in told.get("Layers", []):
        kinds = [read_kind(output) for output in _outputs(layer)]
        layers += any(kinds)
        half += "half" in kinds
    return half, layers


def _outputs(layer: Any) -> list[dict[str, Any]]:
    if not isinstance(layer, dict):
        raise DeviceError(
            "TensorRT tells only the names of the engine's layers, not what they compute in: it"
            " cannot be checked that 16 bits happened; use --device cuda"
        )
    return [output for output in layer.get("Outputs", []) if isinstance(output, dict)]


def read_kind(output: dict[str, Any]) -> str:
    """Tell "half" or "float" of a layer's output; empty for integers and the like."""
    for key, value in output.items():
        if "datatype" in key.lower().replace(" ", ""):
            text = str(value).lower()
            if "half" in text or "fp16" in text or "float16" in text:
                return "half"
            return "float" if "float" in text or "fp32" in text else ""
    return ""


def _configure(
    builder: trt.Builder, network: trt.INetworkDefinition, recipe: Recipe
) -> trt.IBuilderConfig:
    import tensorrt as trt

    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_bytes)
    config.builder_optimization_level = recipe.optimisation_level
    # Or the layers of an engine tell no more than their names.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if recipe.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    source = network.get_input(0)
    sides = tuple(source.shape)[1:]
    profile = builder.create_optimization_profile()
    least, best, most = ((batch, *sides) for batch in recipe.profile)
    profile.set_shape(source.name, least, best, most)
    if config.add_optimization_profile(profile) < 0:
        raise DeviceError(
            f"TensorRT refuses the batches {recipe.profile} of the {recipe.role}, whose input is"
            f" {tuple(source.shape)}: export the bundle again"
        )
    return config


def _serialise(cache: trt.ITimingCache | None) -> bytes:
    return b"" if cache is None else bytes(cache.serialize())


def _make_logger() -> Any:
    """Log what TensorRT warns of, and remember the last error: a failed build raises nothing."""
    import tensorrt as trt

    class Logger(trt.ILogger):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.last_error = "it gave no reason"

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last_error = msg
            if int(severity) <= _WARNINGS_LOGGED:
                logger.info("TensorRT: %s", msg)

    return Logger()


def _make_monitor(tell: Tell | None) -> Any:
    """Tell of the build's phases; Ctrl-C ends it at the next step, cleanly."""
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}
            self.stopped = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self.steps.get(phase_name, 0))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return not self.stopped

        def _tell(self, phase: str, step: int) -> None:
            try:
                if tell is not None:
                    tell(phase, step, self.steps.get(phase, 0))
            except KeyboardInterrupt:
                self.stopped = True

    return Monitor()

"""No name that TensorRT 11 removed, or that 10.3 lacks, is used anywhere, not even as a string.

Type checkers know one version of TensorRT, and no machine of ours has a GPU: this is what finds
such a name before a field kit does. The lists are NVIDIA's, from the migration guide of the Python
API, 10.x to 11.x.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("fcr_edge", "fcr_train", "export")
REMOVED = {
    *("CalibrationAlgoType", "IAlgorithm", "IAlgorithmContext", "IAlgorithmIOInfo"),
    *("IAlgorithmSelector", "IAlgorithmVariant", "IInt8Calibrator", "IInt8EntropyCalibrator"),
    *("IInt8EntropyCalibrator2", "IInt8LegacyCalibrator", "IInt8MinMaxCalibrator"),
    *("IStreamReader", "QuantizationFlag", "SubGraphCollection", "platform_has_fast_fp16"),
    *("platform_has_fast_int8", "platform_has_tf32", "OBEY_PRECISION_CONSTRAINTS"),
    *("PREFER_PRECISION_CONSTRAINTS", "REJECT_EMPTY_ALGORITHMS", "WEIGHTLESS"),
    *("int8_calibrator", "algorithm_selector", "get_calibration_profile"),
    *("set_calibration_profile", "quantization_flags", "get_quantization_flag"),
    *("set_quantization_flag", "clear_quantization_flag", "EXPLICIT_BATCH", "precision_is_set"),
    *("reset_precision", "set_output_type", "output_type_is_set", "reset_output_type"),
    *("compute_precision", "dynamic_range", "set_dynamic_range", "reset_dynamic_range"),
    *("device_memory_size", "get_device_memory_size_for_profile"),
    *("create_execution_context_without_device_memory", "has_implicit_batch_dimension"),
    *("weight_streaming_budget", "minimum_weight_streaming_budget"),
    *("all_shape_inputs_specified", "get_dynamic_range", "get_tensors_with_dynamic_range"),
    *("supports_model", "parse_with_weight_descriptors", "get_plugin_creator"),
    *("plugin_creator_list", "PROFILE_SHARING_0806", "CUBLAS", "CUBLAS_LT"),
}
LATE = {
    *("STRICT_NANS", "MONITOR_MEMORY", "IStreamReaderV2", "EDITABLE_TIMING_CACHE"),
    *("tiling_optimization_level", "l2_limit_for_tiling", "SAME_COMPUTE_CAPABILITY"),
    *("create_runtime_config", "DISTRIBUTIVE_INDEPENDENCE", "build_serialized_network_to_stream"),
    *("get_engine_stat", "build_route"),
}
AFTER = {
    "BuilderFlag": {"FP16", "BF16", "FP8", "FP4", "INT8", "INT4"},
    "TacticSource": {"CUDNN"},
}
"""Words that are denied only as attributes of these: elsewhere they mean something else."""


def find_denied(source: str) -> list[str]:
    """List denied names with their lines: attributes, whole strings, and getattr by string."""
    found = []
    for node in ast.walk(ast.parse(source)):
        name = None
        if isinstance(node, ast.Attribute):
            name = node.attr
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else ""
            if name in AFTER.get(owner, ()):
                found.append(f"{node.lineno}: {owner}.{name}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            owners = [
                inner.attr for inner in ast.walk(node.value) if isinstance(inner, ast.Attribute)
            ]
            word = str(node.slice.value)
            if any(word in AFTER.get(owner, ()) for owner in owners):
                found.append(f"{node.lineno}: {word} of {owners}")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            words = [arg.value for arg in node.args[1:] if isinstance(arg, ast.Constant)]
            owner = getattr(node.args[0], "attr", "")
            if any(word in AFTER.get(owner, ()) for word in words):
                found.append(f"{node.lineno}: {words} of {owner}")
        if name in REMOVED | LATE:
            found.append(f"{node.lineno}: {name}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_denied_name_is_used(package):
    found = {
        str(path.relative_to(ROOT)): find_denied(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / package).rglob("*.py"))
    }

    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "builder.platform_has_fast_fp16",
        "config.set_flag(trt.BuilderFlag.FP16)",
        "trt.BuilderFlag.__members__['FP16']",
        "getattr(trt.BuilderFlag, 'INT8')",
        "getattr(engine, 'device_memory_size')",
        "trt.TacticSource.CUDNN",
        "flags = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)",
        "config.create_runtime_config()",
    ],
)
def test_a_denied_name_would_be_found(line):
    assert find_denied(line)


@pytest.mark.parametrize(
    "line",
    [
        "trt.DataType.INT8",
        "engine.device_memory_size_v2",
        "trt.BuilderFlag.TF32",
        "precision = 'FP16'",
        "config.tf32",
        "parser.supports_model_v2(model)",
    ],
)
def test_what_is_still_there_is_not_denied(line):
    assert find_denied(line) == []

"""The field kit stays light: what a fresh process loads, module by module."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import fcr_edge

MODULES = [
    "fcr_edge",
    *(module.name for module in pkgutil.walk_packages(fcr_edge.__path__, "fcr_edge.")),
]
NEVER = ("torch", "torchvision", "onnx", "onnxscript", "fcr_train", "export")
LATE = ("onnxruntime", "hnswlib", "pydicom", "tensorrt", "cryptography")
USES_PIXELS = {
    f"fcr_edge.{name}"
    for name in (
        "agreement",
        "engines.opening",
        "imaging",
        "film",
        "dicom",
        "reading",
        "classical",
        "deidentify",
        "soft_tissue",
        "photo",
        "looks",
        "quality",
        "understanding",
        "enroll",
        "reembed",
        "identify",
        "report",
        "demo",
    )
} | {"fcr_edge.doctor"}


def load_in_fresh_process(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", MODULES)
def test_import_loads_no_training_and_no_runtime(module: str) -> None:
    loaded = load_in_fresh_process(f"import {module}")

    assert not loaded & {*NEVER, *LATE}
    assert ("cv2" in loaded) == (module in USES_PIXELS)


def test_help_loads_neither_numpy_nor_opencv() -> None:
    loaded = load_in_fresh_process(
        "from typer.testing import CliRunner; from fcr_edge.cli import app;"
        " assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )

    assert not loaded & {*NEVER, *LATE, "cv2", "numpy"}


def test_public_names_are_complete_and_sorted() -> None:
    assert fcr_edge.__all__ == sorted(fcr_edge.__all__)
    assert all(hasattr(fcr_edge, name) for name in fcr_edge.__all__)
    with pytest.raises(AttributeError, match="Galery"):
        _ = fcr_edge.Galery

"""The kit that engines are built on and for: TensorRT, CUDA, the GPU, and how to get them."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

from fcr_edge.errors import DeviceError

OLDEST, UNKNOWN = (10, 3), (12,)
"""TensorRT from the first version on and before the second; see docs/engines.md."""
INSTALL = (
    "on a desktop or laptop with an NVIDIA GPU pip install 'fcr[gpu,trt]'; on a Jetson use"
    " JetPack's own TensorRT: python3 -m venv --system-site-packages, then pip install fcr"
    " cuda-python"
)


@dataclass(frozen=True)
class Kit:
    """What an engine is bound to: it runs on no other combination of these."""

    tensorrt: str
    """Full version, e.g. "10.13.0.35"."""
    cuda_runtime: int
    """1000 major + 10 minor."""
    driver: int
    """The newest CUDA that the driver takes, likewise."""
    gpu: str
    compute_capability: str
    """E.g. "8.6"."""
    system: str
    """Operating system and processor, e.g. "Linux x86_64"."""
    rtx: bool = False
    """Whether TensorRT for RTX built it; this version of FCR never does."""

    @property
    def name(self) -> str:
        """Name it in files, e.g. "trt10.13.0.35-sm86"."""
        return f"trt{self.tensorrt}-sm{self.compute_capability.replace('.', '')}"


def import_tensorrt() -> Any:
    """Import TensorRT of a version that is known. Raises DeviceError."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:  # OSError: a library of the system is missing
        raise DeviceError(f"TensorRT cannot be imported ({error}): {INSTALL}") from error
    version = getattr(tensorrt, "__version__", None)
    if version is None:
        raise DeviceError(f"TensorRT is not installed, only its name is taken: {INSTALL}")
    if not OLDEST <= parse_version(version) < UNKNOWN:
        raise DeviceError(
            f"TensorRT {version} is not between {'.'.join(map(str, OLDEST))} and"
            f" {UNKNOWN[0]}: install another one, or use --device cuda"
        )
    return tensorrt


def import_cuda() -> Any:
    """Import the bindings of the CUDA runtime. Raises DeviceError."""
    try:
        from cuda.bindings import runtime
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"the CUDA bindings cannot be imported ({error}): pip install cuda-python of the"
            " version of your CUDA"
        ) from error
    return runtime


def check_cuda(result: tuple[Any, ...], what: str) -> Any:
    """Return what a CUDA call returned beside its status. Raises DeviceError where it failed."""
    status, *values = result
    if int(status) != 0:
        raise DeviceError(
            f"{what} failed: {getattr(status, 'name', status)}: check nvidia-smi, free the GPU's"
            " memory, or use --device cpu"
        )
    return values[0] if len(values) == 1 else tuple(values)


def describe_kit() -> Kit:
    """Look at the first GPU and what drives it. Raises DeviceError where there is none."""
    trt, cuda = import_tensorrt(), import_cuda()
    number = check_cuda(cuda.cudaGetDeviceCount(), "looking for an NVIDIA GPU")
    if number < 1:
        raise DeviceError("there is no NVIDIA GPU: use --device cpu")
    found = check_cuda(cuda.cudaGetDeviceProperties(0), "asking the GPU")
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    return Kit(
        tensorrt=trt.__version__,
        cuda_runtime=int(check_cuda(cuda.cudaRuntimeGetVersion(), "asking CUDA")),
        driver=int(check_cuda(cuda.cudaDriverGetVersion(), "asking the driver")),
        gpu=name.rstrip("\0"),
        compute_capability=f"{found.major}.{found.minor}",
        system=f"{platform.system()} {platform.machine()}",
    )


def parse_version(version: str) -> tuple[int, ...]:
    """Read the leading numbers of a version.

    >>> parse_version("10.16.2.10")
    (10, 16, 2, 10)
    >>> parse_version("11.4.1rc1")
    (11, 4)
    """
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)

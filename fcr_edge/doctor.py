"""What FCR needs on this machine, checked one by one, each fault with its fix."""

from __future__ import annotations

import contextlib
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from fcr_edge import __version__, dicom, sandbox
from fcr_edge.bundle import Bundle
from fcr_edge.errors import DeviceError, FcrError
from fcr_edge.identify import demo_folder, user_bundles
from fcr_edge.sessions import INSTALL, Processor, find_runtime_conflict, open_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from fcr_edge.gallery import Gallery

LEAST_FREE_GB = 1.0
"""Less is worth a word: a gallery and four engines take some hundred MB."""
PACKAGES = ("numpy", "opencv-python-headless", "hnswlib", "cryptography")


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report."""

    state: Literal["ok", "note", "bad"]
    """"note" is what works without but would work better with."""
    what: str


def examine(folder: Path | None, allow_unsigned: bool = False) -> list[Check]:
    """Check versions, runtimes, devices and a bundle; the packaged one where none is named."""
    checks = [
        Check(
            "ok", f"fcr {__version__}, Python {platform.python_version()}, {platform.platform()}"
        ),
        Check("ok", ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)),
        _count_bundles(),
        _list_codecs(),
        _describe_sandbox(),
        _list_runtimes(),
        _describe_gpu(),
        _examine_cache(),
        _measure_disk(),
    ]
    conflict = find_runtime_conflict()
    if conflict:
        checks.append(Check("bad", conflict))
    try:
        bundle = Bundle.load(folder or demo_folder() / "bundle", allow_unsigned)
    except FcrError as err:
        return [*checks, Check("bad", str(err))]
    manifest = bundle.manifest
    checks.append(
        Check(
            "ok" if bundle.standing.is_trusted else "note",
            f"bundle {manifest.name}, {bundle.folder}: whole, made {manifest.created},"
            f" {bundle.standing}",
        )
    )
    return [*checks, *(_examine_device(bundle, device) for device in get_args(Processor))]


def examine_gallery(open_gallery: Callable[[], Gallery]) -> Check:
    """Open a gallery, which checks the whole file, and count who is in it."""
    try:
        with open_gallery() as gallery:
            people, kind = gallery.people(), "encrypted" if gallery.encrypted else "in clear"
            return Check("ok", f"gallery {gallery.path}: whole, {len(people)} people, {kind}")
    except FcrError as err:
        return Check("bad", str(err))


def _examine_device(bundle: Bundle, device: Processor) -> Check:
    """Open the embedder on the device. Only the CPU is a must; no engine is built for this."""
    if device == "trt":
        return _examine_engines(bundle)
    try:
        with open_network(bundle, "embedder", device) as session:
            return Check("ok", f"device {session.describe()}")
    except DeviceError as err:
        return Check("bad" if device == "cpu" else "note", f"device {device}: {err}")


def _examine_engines(bundle: Bundle) -> Check:
    """Tell whether engines could be built, and how many of the bundle's are."""
    from fcr_edge.engines import opening

    try:
        built = [role for role in bundle.manifest.models if opening.is_built(bundle, role)]
    except DeviceError as err:
        return Check("note", f"device trt: {err}")
    lacking = [role for role in bundle.manifest.models if role not in built]
    if lacking:
        return Check(
            "note",
            f"device trt: can be had; to be built at the first use: {', '.join(lacking)};"
            " fcr-edge warmup builds them now",
        )
    return Check("ok", f"device trt: engines built of {', '.join(built)}")


def _list_runtimes() -> Check:
    """Name the runtimes that are installed, and what ONNX Runtime was built for."""
    names = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "cuda-python")
    found = []
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    try:
        import onnxruntime

        providers = [
            each.removesuffix("ExecutionProvider")
            for each in onnxruntime.get_available_providers()
        ]
    except (ImportError, OSError) as err:
        return Check("bad", f"ONNX Runtime cannot be imported ({err}): {INSTALL}")
    return Check(
        "ok", f"runtimes: {', '.join(found)}; ONNX Runtime is built for {', '.join(providers)}"
    )


def _describe_gpu() -> Check:
    """Name GPU, driver, CUDA and TensorRT, or say what is missing."""
    from fcr_edge.engines.kit import describe_kit

    try:
        kit = describe_kit()
    except DeviceError as err:
        return Check("note", f"GPU: {err}")
    driver, runtime = (f"{v // 1000}.{v % 1000 // 10}" for v in (kit.driver, kit.cuda_runtime))
    return Check(
        "ok",
        f"GPU: {kit.gpu}, compute capability {kit.compute_capability}, its driver takes CUDA"
        f" {driver}, CUDA {runtime}, TensorRT {kit.tensorrt}",
    )


def _examine_cache() -> Check:
    """Look through the engines that were kept; the folder is not made for this."""
    from fcr_edge.engines.cache import EngineCache, StaleEngineError, cache_folder

    folder = cache_folder()
    if not folder.exists():
        return Check("ok", f"engines: none yet in {folder}")
    try:
        found = EngineCache(folder).list()
    except DeviceError as err:
        return Check("bad", str(err))
    stale = [str(engine) for engine in found if isinstance(engine, StaleEngineError)]
    if stale:
        return Check("note", f"engines that will be built again: {'; '.join(stale)}")
    return Check("ok", f"engines: {len(found)} in {folder}")


def _measure_disk() -> Check:
    """Measure what is free where engines and bundles of this user are kept."""
    home = Path.home()
    free = shutil.disk_usage(home).free / 1e9
    state: Literal["ok", "note"] = "ok" if free > LEAST_FREE_GB else "note"
    return Check(state, f"disk: {free:.1f} GB free at {home}")


def _list_codecs() -> Check:
    """Tell which DICOM films can be read here."""
    if not dicom.is_installed():
        return Check("note", "DICOM films cannot be read: pip install 'fcr[dicom]'")
    codecs = dicom.CODECS.values()
    absent = sorted({codec.package for codec in codecs if not dicom.has_codec(codec)})
    read = ", ".join(codec.name for codec in codecs if dicom.has_codec(codec))
    if absent:
        return Check(
            "note", f"DICOM films read: {read}; for the rest pip install {' '.join(absent)}"
        )
    return Check("ok", f"DICOM films read: {read}")


def _describe_sandbox() -> Check:
    """Tell how files from outside are kept from doing harm on this system."""
    if sandbox.FORKS:
        limits = (
            f"{sandbox.MAX_MEMORY // 1024**2} MiB, {sandbox.MAX_CPU_SECONDS} s of processor time,"
            f" {sandbox.MAX_SECONDS:.0f} s, no new files or sockets"
        )
        return Check("ok", f"each film is decoded in a process of its own: {limits}")
    return Check(
        "note",
        f"films are decoded in another process, stopped after {sandbox.MAX_SECONDS:.0f} s; limits"
        " on memory, files and network need Linux",
    )


def _count_bundles() -> Check:
    folder = user_bundles()
    count = len([path for path in folder.iterdir() if path.is_dir()]) if folder.is_dir() else 0
    return Check("ok", f"bundles of this user: {count} in {folder}")

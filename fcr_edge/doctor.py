"""What FCR needs on this machine, checked one by one, each fault with its fix."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from fcr_edge import __version__, dicom, sandbox
from fcr_edge.bundle import Bundle
from fcr_edge.errors import DeviceError, FcrError
from fcr_edge.identify import demo_folder, user_bundles
from fcr_edge.sessions import find_runtime_conflict, open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fcr_edge.gallery import Gallery
    from fcr_edge.sessions import Processor

PACKAGES = ("numpy", "opencv-python-headless", "hnswlib", "cryptography")


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report."""

    state: Literal["ok", "note", "bad"]
    """"note" is what works without but would work better with."""
    what: str


def examine(folder: Path | None) -> list[Check]:
    """Check versions, runtimes, devices and a bundle; the packaged one where none is named."""
    checks = [
        Check(
            "ok", f"fcr {__version__}, Python {platform.python_version()}, {platform.platform()}"
        ),
        Check("ok", ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)),
        _count_bundles(),
        _list_codecs(),
        _describe_sandbox(),
    ]
    conflict = find_runtime_conflict()
    if conflict:
        checks.append(Check("bad", conflict))
    try:
        bundle = Bundle.load(folder or demo_folder() / "bundle")
    except FcrError as err:
        return [*checks, Check("bad", str(err))]
    manifest = bundle.manifest
    checks.append(
        Check("ok", f"bundle {manifest.name}, {bundle.folder}: whole, made {manifest.created}")
    )
    devices: tuple[Processor, ...] = ("trt", "cuda", "cpu")
    return [*checks, *(_examine_device(bundle, device) for device in devices)]


def examine_gallery(open_gallery: Callable[[], Gallery]) -> Check:
    """Open a gallery, which checks the whole file, and count who is in it."""
    try:
        with open_gallery() as gallery:
            people, kind = gallery.people(), "encrypted" if gallery.encrypted else "in clear"
            return Check("ok", f"gallery {gallery.path}: whole, {len(people)} people, {kind}")
    except FcrError as err:
        return Check("bad", str(err))


def _examine_device(bundle: Bundle, device: Processor) -> Check:
    """Open the embedder on the device. Only the CPU is a must."""
    try:
        with open_session(bundle.model_bytes("embedder"), device) as session:
            return Check("ok", f"device {session.describe()}")
    except DeviceError as err:
        return Check("bad" if device == "cpu" else "note", f"device {device}: {err}")


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

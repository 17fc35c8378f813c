"""The folder of engines: a plan beside a sidecar that says what it is, sealed with a device's key.

    ~/.cache/fcr/engines/
        embedder-3f2a9c01d4e7-trt10.13.0.35-sm86.fp16.plan   what TensorRT built, nothing else
        embedder-3f2a9c01d4e7-trt10.13.0.35-sm86.fp16.json   the sidecar, schema "fcr-engine/1"
        timing-trt10.13.0.35-sm86.cache                      how fast its kernels are here
        device.key, lock

To deserialise a plan is to run its code. So a plan is loaded only from here, only if its SHA-256
is the sidecar's, and only if the sidecar's MAC was made with this folder's key: that shuts out
files that were copied, swapped or damaged, not somebody who may read the user's files anyway.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from fcr_edge import __version__
from fcr_edge.engines.kit import Kit
from fcr_edge.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = "fcr-engine/1"
KEY_FILE, LOCK_FILE = "device.key", "lock"
_KEY_BYTES = 32
_MAX_SIDECAR_BYTES = 64 * 1024
_LOCK_SECONDS = 3600.0
"""How long to wait for another process that builds; a build on a Jetson can take half an hour."""

Precision = Literal["fp16", "fp32"]


class StaleEngineError(Exception):
    """A cached engine that may not be used, and why; it is built again."""


@dataclass(frozen=True)
class Recipe:
    """All that decides what an engine is: one built by another recipe is never run."""

    role: str
    onnx_sha256: str
    """Of the ONNX file it was built from."""
    precision: Precision
    kit: Kit
    profile: tuple[int, int, int]
    """Batch sizes: least, the one it is made for, most."""
    tf32: bool
    optimisation_level: int
    """TensorRT's, 0 to 5."""
    workspace_bytes: int
    version_compatible: bool = False
    hardware_compatible: bool = False
    fcr: str = __version__

    @property
    def name(self) -> str:
        """Name its files."""
        return f"{self.role}-{self.onnx_sha256[:12]}-{self.kit.name}.{self.precision}"

    def differences(self, other: Recipe) -> list[str]:
        """Name each field in which another recipe differs, with both values."""
        mine, theirs = _flatten(self), _flatten(other)
        return [
            f"{key} was {theirs[key]}, is {mine[key]}" for key in mine if mine[key] != theirs[key]
        ]


@dataclass(frozen=True)
class Sidecar:
    """What is known of a plan: its recipe, and what was found when it was built."""

    recipe: Recipe
    plan_sha256: str
    plan_bytes: int
    half_share: float
    """Share of its layers that give 16-bit numbers."""
    layers: int
    measure: str
    """How it was held against ONNX Runtime in 32 bits on the CPU: min_psnr [dB], min_cosine or
    max_abs_difference."""
    value: float
    limit: float
    build_seconds: float
    median_ms: float
    """Of a picture from the host's memory and back, on this device when it was built."""
    created: str
    fallback: str | None = None
    """Why it computes in 32 bits where 16 were wanted."""


def cache_folder() -> Path:
    """Name this user's folder of engines; `XDG_CACHE_HOME` moves it on Linux."""
    import platformdirs

    return platformdirs.user_cache_path("fcr") / "engines"


@dataclass(frozen=True)
class EngineCache:
    """The folder of engines. Raises DeviceError where it cannot be written to."""

    folder: Path

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = self.folder / f".{secrets.token_hex(4)}.probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise DeviceError(
                f"engines cannot be kept in {self.folder} ({error.strerror or error}), and would"
                " be built again at every start: make it writable, or set XDG_CACHE_HOME"
            ) from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from building meanwhile; wait for one that does."""
        import filelock

        try:
            with filelock.FileLock(self.folder / LOCK_FILE, timeout=_LOCK_SECONDS):
                yield
        except filelock.Timeout as error:
            raise DeviceError(
                f"another process has been building engines for {_LOCK_SECONDS / 60:.0f} minutes"
                f" ({error.lock_file}): wait for it, or end it and try again"
            ) from error

    def load(self, recipe: Recipe) -> tuple[bytes, Sidecar] | None:
        """Read the plan of a recipe, whole and sealed; None where there is none.

        Raises StaleEngineError where there is one that may not be used.
        """
        path = self.folder / f"{recipe.name}.json"
        if not path.exists():
            return None
        sidecar = self._read_sidecar(path)
        differences = recipe.differences(sidecar.recipe)
        if differences:
            raise StaleEngineError("; ".join(differences))
        try:
            plan = path.with_suffix(".plan").read_bytes()
        except OSError as error:
            raise StaleEngineError(f"its plan cannot be read: {error.strerror}") from error
        if hashlib.sha256(plan).hexdigest() != sidecar.plan_sha256:
            raise StaleEngineError("its plan was changed or damaged")
        return plan, sidecar

    def save(self, plan: bytes, sidecar: Sidecar) -> None:
        """Write plan and sidecar, whole or not at all; the sidecar last, for it vouches."""
        path = self.folder / f"{sidecar.recipe.name}.json"
        told = {"schema": SCHEMA, **asdict(sidecar)}
        sealed = {**told, "mac": self._seal(told)}
        self._write(path.with_suffix(".plan"), plan)
        self._write(path, (json.dumps(sealed, indent=1) + "\n").encode())

    def load_timings(self, kit: Kit) -> bytes:
        """Read what TensorRT measured of its kernels; empty where it has not yet."""
        try:
            return self._timings(kit).read_bytes()
        except OSError:
            return b""

    def save_timings(self, kit: Kit, timings: bytes) -> None:
        """Keep what TensorRT measured."""
        self._write(self._timings(kit), timings)

    def list(self) -> list[Sidecar | StaleEngineError]:
        """Read every sidecar; of one that may not be used, why."""
        found: list[Sidecar | StaleEngineError] = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(self._read_sidecar(path))
            except StaleEngineError as error:
                found.append(StaleEngineError(f"{path.name}: {error}"))
        return found

    def clear(self) -> int:
        """Remove every engine and what was measured; return how many bytes that frees."""
        freed = 0
        for pattern in ("*.json", "*.plan", "*.cache", ".*.new"):
            for path in self.folder.glob(pattern):
                freed += path.stat().st_size
                path.unlink()
        return freed

    def _timings(self, kit: Kit) -> Path:
        return self.folder / f"timing-{kit.name}.cache"

    def _read_sidecar(self, path: Path) -> Sidecar:
        try:
            data = path.read_bytes()
            if len(data) > _MAX_SIDECAR_BYTES:
                raise ValueError(f"it has {len(data)} bytes")
            told = json.loads(data)
            mac = str(told.pop("mac"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StaleEngineError(f"its sidecar cannot be read: {error}") from error
        if not hmac.compare_digest(mac, self._seal(told)):
            raise StaleEngineError("its sidecar was not sealed on this device, or was changed")
        if told.pop("schema", None) != SCHEMA:
            raise StaleEngineError("its sidecar is of another version of FCR")
        return _parse(told)

    def _seal(self, told: dict[str, Any]) -> str:
        canonical = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
        return hmac.new(self._key(), canonical, hashlib.sha256).hexdigest()

    def _key(self) -> bytes:
        """Read the folder's key, or make it."""
        path = self.folder / KEY_FILE
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_bytes()
        else:
            key = secrets.token_bytes(_KEY_BYTES)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
        if len(key) != _KEY_BYTES:
            raise DeviceError(f"{path} is damaged: remove it; the engines are then built again")
        return key

    def _write(self, path: Path, data: bytes) -> None:
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        try:
            with fresh.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise DeviceError(
                f"{path} cannot be written: {error.strerror or error}: free space on the disk"
            ) from error


def _flatten(recipe: Recipe) -> dict[str, Any]:
    plain = asdict(recipe)
    return {**plain.pop("kit"), **plain}


def _parse(told: dict[str, Any]) -> Sidecar:
    """Rebuild a sidecar; its seal has been checked, so it is one that FCR wrote."""
    recipe = told.pop("recipe")
    kit = Kit(**recipe.pop("kit"))
    recipe["profile"] = tuple(recipe["profile"])
    return Sidecar(recipe=Recipe(kit=kit, **recipe), **told)

"""Opening an engine: one that was kept, or a new one, held against 32 bits before it is used."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from fcr_edge import agreement, film, imaging
from fcr_edge.engines.build import build_plan, count_half
from fcr_edge.engines.cache import (
    EngineCache,
    Precision,
    Recipe,
    Sidecar,
    StaleEngineError,
    cache_folder,
)
from fcr_edge.engines.kit import Kit, describe_kit
from fcr_edge.engines.runner import EngineSession
from fcr_edge.errors import DeviceError
from fcr_edge.identify import demo_folder
from fcr_edge.onnx_bytes import refuse_outside_weights
from fcr_edge.sessions import SessionInfo, open_session

if TYPE_CHECKING:
    from jaxtyping import Float32

    from fcr_edge.bundle import Bundle
    from fcr_edge.manifest import EmbeddingSpec, Role, TensorSpec, VectorSpec
    from fcr_edge.sessions import Session, Tell

    Pictures = Float32[np.ndarray, "n c h w"]

PROFILE = (1, 1, 8)
OPTIMISATION_LEVEL = 3
"""TensorRT's default: higher ones build for minutes more."""
WORKSPACE_BYTES = 1024**3
LEAST_HALF_SHARE = 0.25
"""Share of an engine's layers that compute in 16 bits, at least, of a graph that says so: the
islands of 32 bits, and the casts around them, are layers, too."""
PROBES = 3
"""Pictures that a new engine is held against ONNX Runtime with."""

WARM_UPS, TIMED = 5, 20
"""Runs of a new engine before it is timed, and timed."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A network that an engine is wanted of, as the bundle holds it."""

    role: Role
    single: bytes
    """Its ONNX file in 32 bits."""
    half: bytes
    """The same in 16."""
    source: TensorSpec
    target: TensorSpec | EmbeddingSpec | VectorSpec

    def model(self, precision: Precision) -> bytes:
        """Return the file of a precision."""
        return self.half if precision == "fp16" else self.single


def want(bundle: Bundle, role: Role) -> Wanted:
    """Take what an engine is built from out of a bundle. Raises DeviceError where it lacks it."""
    entry = bundle.manifest.models[role]
    half = bundle.half_bytes(role)
    if half is None:
        raise DeviceError(
            f"bundle {bundle.manifest.name} has no {role} in 16 bits, which TensorRT needs: use"
            " --device cuda or cpu, or export it with --fp16"
        )
    return Wanted(role, bundle.model_bytes(role), half, entry.input, entry.output)


def open_engine(
    wanted: Wanted, tell: Tell | None = None, cache: EngineCache | None = None
) -> Session:
    """Open the engine of a network, built first where none fits.

    Args:
        wanted: The network.
        tell: Called with (phase, steps done, steps) while an engine is built.
        cache: Where engines are kept; this user's folder.

    Raises DeviceError where TensorRT or the GPU cannot be had, or the engine cannot be trusted.
    """
    kit = describe_kit()
    cache = cache or EngineCache(cache_folder())
    with cache.lock():
        for precision in ("fp16", "fp32"):
            session = _load(cache, _recipe(wanted, precision, kit))
            if session is not None:
                return session
        return _build(wanted, cache, kit, tell)


def is_built(bundle: Bundle, role: Role) -> bool:
    """Tell whether an engine of the network is kept that may be used; nothing is made or loaded.

    Raises DeviceError where none could be had at all.
    """
    kit, wanted, folder = describe_kit(), want(bundle, role), cache_folder()
    if not folder.exists():
        return False
    cache = EngineCache(folder)
    try:
        return any(cache.load(_recipe(wanted, each, kit)) for each in ("fp16", "fp32"))
    except StaleEngineError:
        return False


def _load(cache: EngineCache, recipe: Recipe) -> Session | None:
    """Open a cached engine; None where there is none that may be used, said aloud."""
    try:
        found = cache.load(recipe)
        if found is None:
            return None
        plan, sidecar = found
        return _open(plan, sidecar)
    except (StaleEngineError, DeviceError) as error:
        logger.warning("the cached engine of the %s is built again: %s", recipe.role, error)
        return None


def _open(plan: bytes, sidecar: Sidecar) -> EngineSession:
    if sidecar.fallback:
        logger.warning("the engine of the %s %s", sidecar.recipe.role, sidecar.fallback)
    return EngineSession(plan, _describe(sidecar.recipe))


def _build(wanted: Wanted, cache: EngineCache, kit: Kit, tell: Tell | None) -> Session:
    """Build in 16 bits; where that cannot be trusted, in 32, and say so now and ever after."""
    try:
        return _try(wanted, cache, _recipe(wanted, "fp16", kit), None, tell)
    except _UnlikeError as error:
        fallback = f"computes in 32 bits, slower, because in 16 {error}"
    return _try(wanted, cache, _recipe(wanted, "fp32", kit), fallback, tell)


def _try(
    wanted: Wanted, cache: EngineCache, recipe: Recipe, fallback: str | None, tell: Tell | None
) -> Session:
    """Build one engine, hold it against ONNX Runtime, keep it."""
    logger.warning(
        "building the %s for %s in %s: the first time this can take minutes",
        recipe.role,
        recipe.kit.gpu,
        recipe.precision,
    )
    model, start = wanted.model(recipe.precision), time.monotonic()
    refuse_outside_weights(model)
    built = build_plan(model, recipe, cache.load_timings(recipe.kit), tell)
    seconds = time.monotonic() - start
    session = EngineSession(built.plan, _describe(recipe))
    try:
        found = _examine(session, wanted, recipe)
        sidecar = Sidecar(
            recipe=recipe,
            plan_sha256=hashlib.sha256(built.plan).hexdigest(),
            plan_bytes=len(built.plan),
            build_seconds=round(seconds, 1),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            fallback=fallback,
            **found,
        )
        cache.save(built.plan, sidecar)
        if built.timings:
            cache.save_timings(recipe.kit, built.timings)
    except BaseException:
        session.close()
        raise
    if fallback:
        logger.warning("the engine of the %s %s", recipe.role, fallback)
    return session


def _examine(session: EngineSession, wanted: Wanted, recipe: Recipe) -> dict[str, Any]:
    """Count its layers in 16 bits, hold it against ONNX Runtime, time it: for the sidecar.

    Raises DeviceError and _UnlikeError for an engine that is not to be used.
    """
    half, layers = count_half(session.engine)
    share = half / max(layers, 1)
    if recipe.precision == "fp16" and share < LEAST_HALF_SHARE:
        raise DeviceError(
            f"TensorRT {recipe.kit.tensorrt} built the {recipe.role} with {half} of {layers}"
            " layers in 16 bits, although its graph asks for them: use --device cuda, and"
            " report this"
        )
    probes = draw_probes(wanted.source)
    found = _hold_against(session, wanted, probes)
    return {
        "half_share": round(share, 4),
        "layers": layers,
        "measure": found.measure,
        "value": found.value,
        "limit": found.limit,
        "median_ms": round(_time(session, probes[:1]), 3),
    }


class _UnlikeError(Exception):
    """An engine in 16 bits does not compute what the network does in 32."""


def _hold_against(session: EngineSession, wanted: Wanted, probes: Pictures) -> agreement.Agreement:
    """Compare an engine with the network in 32 bits by ONNX Runtime on the CPU.

    Raises _UnlikeError, and for an engine in 32 bits DeviceError.
    """
    with open_session(wanted.single, "cpu") as reference:
        found = agreement.compare_half(reference.run(probes), session.run(probes), wanted.target)
    logger.info("the engine of the %s against ONNX Runtime in 32 bits: %s", wanted.role, found)
    if not found:
        if "fp16" in session.describe().provider:
            raise _UnlikeError(f"it is too far from ONNX Runtime ({found})")
        raise DeviceError(
            f"the engine of the {wanted.role} is too far from ONNX Runtime even in 32 bits"
            f" ({found}): use --device cuda or cpu, and report this"
        )
    return found


def _time(session: EngineSession, probe: Pictures) -> float:
    """Return the median time of a picture [ms], caches warm."""
    runs = []
    for _ in range(WARM_UPS + TIMED):
        start = time.perf_counter()
        session.run(probe)
        runs.append(1000 * (time.perf_counter() - start))
    return float(np.median(runs[WARM_UPS:]))


def draw_probes(source: TensorSpec) -> Pictures:
    """Take packaged films, or for a network of faces portraits, as a network's input.

    Condition planes stay 0: nothing is known. Pictures of noise or of one grey would not do: a
    normalisation divides the second by almost nothing.
    """
    kind, pattern = ("photos", "*_frontal.jpg") if source.channels == 3 else ("xrays", "*.png")
    channels = 3 if source.channels == 3 else 1
    spec = replace(source, channels=channels)
    pictures = []
    for path in sorted((demo_folder() / kind).glob(pattern))[:PROBES]:
        picture = imaging.read_picture(path)
        made = picture if channels == 3 else film.standardise(picture)
        pictures.append(imaging.to_tensor(made, spec))
    probes = np.concatenate(pictures)
    planes = np.zeros((len(probes), source.channels - channels, *probes.shape[2:]), np.float32)
    return np.concatenate([probes, planes], axis=1)


def _recipe(wanted: Wanted, precision: Precision, kit: Kit) -> Recipe:
    return Recipe(
        role=wanted.role,
        onnx_sha256=hashlib.sha256(wanted.model(precision)).hexdigest(),
        precision=precision,
        kit=kit,
        profile=PROFILE,
        tf32=False,
        optimisation_level=OPTIMISATION_LEVEL,
        workspace_bytes=WORKSPACE_BYTES,
    )


def _describe(recipe: Recipe) -> SessionInfo:
    return SessionInfo(
        device="trt",
        provider=f"{recipe.kit.gpu}, {recipe.precision}",
        runtime=f"tensorrt {recipe.kit.tensorrt}",
        model_sha256=recipe.onnx_sha256,
    )

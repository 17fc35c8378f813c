"""The commands for a GPU's engines: warmup, cache list, cache clear."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fcr_edge.cli.console import build_progress, note, print_json
from fcr_edge.cli.opening import choose_first_bundle
from fcr_edge.cli.options import (
    BundleOption,
    DeviceChoice,
    DeviceOption,
    JsonOption,
    UnsignedOption,
)

if TYPE_CHECKING:
    from fcr_edge.engines.cache import Sidecar


def warmup(
    bundle: BundleOption = None,
    allow_unsigned: UnsignedOption = False,
    device: DeviceOption = DeviceChoice.trt,
) -> None:
    """Build and check the engines of a bundle now, so that no search has to wait for them."""
    from fcr_edge.sessions import open_network

    chosen = choose_first_bundle(bundle, allow_unsigned)
    for role in chosen.manifest.models:
        with (
            build_progress() as tell,
            open_network(chosen, role, device.value, tell) as session,
        ):
            for refusal in session.refusals:
                note(f"device refused, {refusal}")
            typer.echo(f"{role}: {session.describe()}")


def list_engines(as_json: JsonOption = False) -> None:
    """List the engines that were built on this device."""
    from fcr_edge.engines.cache import EngineCache, StaleEngineError, cache_folder

    cache = EngineCache(cache_folder())
    found = cache.list()
    sound = [engine for engine in found if not isinstance(engine, StaleEngineError)]
    stale = [str(engine) for engine in found if isinstance(engine, StaleEngineError)]
    if as_json:
        rows = [asdict(engine) for engine in sound]
        folder = str(cache.folder)
        print_json({"schema": "fcr-engines/1", "folder": folder, "engines": rows, "stale": stale})
        return
    for engine in sound:
        typer.echo(_describe(engine))
    for reason in stale:
        typer.echo(f"will be built again: {reason}")
    if not found:
        note("no engines yet: fcr-edge warmup builds them")
    note(f"folder: {cache.folder}")


def clear_engines(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove every engine; they are built again when they are needed."""
    from fcr_edge.engines.cache import EngineCache, cache_folder

    cache = EngineCache(cache_folder())
    if not yes:
        typer.confirm(f"Remove {len(cache.list())} engines from {cache.folder}?", abort=True)
    typer.echo(f"{cache.clear() / 1e6:.1f} MB freed")


def _describe(engine: Sidecar) -> str:
    recipe = engine.recipe
    return (
        f"{recipe.role}: {recipe.precision} on {recipe.kit.gpu}, TensorRT {recipe.kit.tensorrt},"
        f" {engine.plan_bytes / 1e6:.1f} MB, {engine.half_share:.0%} of {engine.layers} layers in"
        f" 16 bits, {engine.measure} {engine.value:.5g}, {engine.median_ms:.2f} ms, built in"
        f" {engine.build_seconds:.0f} s"
    )

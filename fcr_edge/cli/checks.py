"""The commands that look at this machine and show what FCR does: bench, doctor, demo."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcr_edge.cli.console import EXIT_ERROR, print_json, progress
from fcr_edge.cli.opening import (
    choose_bundle,
    choose_first_bundle,
    make_ready,
    open_gallery,
)
from fcr_edge.cli.options import (
    BundleOption,
    DeviceChoice,
    DeviceOption,
    JsonOption,
    KeyFileOption,
    PassphraseOption,
    UnsignedOption,
)

if TYPE_CHECKING:
    import contextlib

    from fcr_edge.demo import DemoOutcome
    from fcr_edge.latency import Latency


def bench(
    xray: Annotated[Path | None, typer.Argument(help="A film (a packaged one).")] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", "-g", help="Gallery (the packaged people).")
    ] = None,
    bundle: BundleOption = None,
    allow_unsigned: UnsignedOption = False,
    repeats: Annotated[int, typer.Option(min=1, help="Counted runs.")] = 30,
    device: DeviceOption = DeviceChoice.auto,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how long each stage of an identification takes on this machine."""
    import tempfile

    from fcr_edge import demo, latency

    chosen_xray = xray or demo.list_films()[0].xray
    with contextlib.ExitStack() as stack:
        if gallery is not None:
            people = stack.enter_context(open_gallery(gallery, key_file, passphrase))
            ready = stack.enter_context(
                make_ready(choose_bundle(bundle, people, allow_unsigned), device)
            )
        else:
            ready = stack.enter_context(
                make_ready(choose_first_bundle(bundle, allow_unsigned), device)
            )
            place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "db.bin"
            people = stack.enter_context(demo.make_gallery(place, ready))
        tick = stack.enter_context(progress("measuring", repeats))
        stages = latency.measure(
            lambda: ready.identify([chosen_xray], people, log=False).timings_ms,
            repeats,
            progress=tick,
        )
        machine = {
            **latency.describe_machine(),
            "device": str(ready.device),
            "bundle": ready.bundle.manifest.name,
            "people": len(people.people()),
        }
    if as_json:
        rows = {stage: asdict(row) for stage, row in stages.items()}
        print_json({"schema": "fcr-bench/1", "machine": machine, "stages": rows})
    else:
        _print_latency(stages, machine)


def doctor(
    bundle: BundleOption = None,
    allow_unsigned: UnsignedOption = False,
    gallery: Annotated[Path | None, typer.Option("--gallery", "-g", help="Check it too.")] = None,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check what FCR needs on this machine; each red line says how to mend it."""
    from fcr_edge import doctor as checks

    found = checks.examine(bundle, allow_unsigned)
    if gallery is not None:
        found.append(checks.examine_gallery(lambda: open_gallery(gallery, key_file, passphrase)))
    if as_json:
        print_json({"schema": "fcr-doctor/1", "checks": [asdict(check) for check in found]})
    for check in [] if as_json else found:
        mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[check.state]
        typer.secho(f"{mark} {check.what}", fg={"bad": "red", "note": "yellow"}.get(check.state))
    if any(check.state == "bad" for check in found):
        raise typer.Exit(EXIT_ERROR)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the gallery and the pictures.")] = Path(
        "demo-out"
    ),
    device: DeviceOption = DeviceChoice.auto,
) -> None:
    """Enrol simulated people, identify seven X-rays, show what was found."""
    from fcr_edge import demo as demonstration

    films = demonstration.list_films()
    outcomes = []
    with progress("enrolling simulated people, identifying X-rays", len(films)) as tick:
        for outcome in demonstration.run(out, device.value):
            outcomes.append(outcome)
            tick()
    _print_demo(outcomes, demonstration.describe_outcomes(outcomes), out)


def _print_latency(stages: dict[str, Latency], machine: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from fcr_edge.latency import PERCENTILES

    table = Table("stage", "min ms", *(f"p{p} ms" for p in PERCENTILES), "runs")
    for stage, row in stages.items():
        values = (row.minimum_ms, *(row.percentiles_ms[p] for p in PERCENTILES))
        table.add_row(stage, *(f"{value:.1f}" for value in values), str(row.runs))
    console = Console()
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()))


def _print_demo(outcomes: list[DemoOutcome], summary: str, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from fcr_edge.report import LEAD

    people = outcomes[0].result.search.people
    table = Table("X-ray", "person on it", f"rank of {people}", "similarity of the first", "ms")
    for outcome in outcomes:
        first = outcome.result.search.candidates[0]
        table.add_row(
            outcome.film.xray.name,
            outcome.film.mate or "not enrolled",
            str(outcome.mate_rank or "-"),
            f"{first.similarity:.4f} ({first.person.id})",
            f"{sum(outcome.result.timings_ms.values()):.0f}",
        )
    console = Console()
    console.print(table)
    console.print(summary)
    console.print(LEAD, style="bold", soft_wrap=True)
    console.print(f"Pictures: {out}/*/result.png, gallery: {out}/db.bin", soft_wrap=True)

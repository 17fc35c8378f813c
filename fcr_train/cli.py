"""The command line of the workshop: simulate, train, export."""

from __future__ import annotations

import contextlib
import logging
import sys
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fcr_edge import __version__
from fcr_edge.cli import FcrGroup
from fcr_edge.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fcr_train.config import EmbedderConfig, TranslatorConfig
    from fcr_train.tasks import EmbedderTask, TranslatorTask
    from fcr_train.trainer import Progress

app = typer.Typer(
    cls=FcrGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Simulate people, train on them, and export what was trained for the field.",
)

Data = Annotated[Path, typer.Option("--data", help="Folder of the dataset.")]
Preset = Annotated[str, typer.Option(help="paper, small or tiny.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file to use instead of a preset.")
]
Out = Annotated[Path | None, typer.Option(help="Run folder [runs/<model>-<preset>].")]
Epochs = Annotated[int | None, typer.Option(help="Epochs in all, instead of the preset's.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of weights, order and augmentation.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on after the last complete epoch.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


class Engine(str, Enum):
    """What a bundle is made for."""

    onnx = "onnx"
    trt = "trt"


class Weights(str, Enum):
    """How an exported network stores its large weights."""

    single = "single"
    half = "half"


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder of the new dataset.")],
    people: Annotated[int, typer.Option(min=0, help="How many people.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 1,
    kinds: Annotated[
        str, typer.Option(help="Any of xray, bone, skull, face, field, lines; with commas.")
    ] = "xray,bone,skull,face",
    views: Annotated[str, typer.Option(help="frontal, lateral or both.")] = "frontal,lateral",
    portraits: Annotated[
        int,
        typer.Option(min=1, help="Portraits a view: the first of the film's day, others later."),
    ] = 2,
    size: Annotated[int, typer.Option(help="Side of the pictures: 64, 128, 256 or 512.")] = 256,
    bits: Annotated[int, typer.Option(help="Grey levels of films: 8 or 16 bits.")] = 8,
    first: Annotated[int, typer.Option(min=1, help="Number of the first person.")] = 1,
    depths: Annotated[
        Path | None, typer.Option(help="Table of tissue depths instead of the packaged one.")
    ] = None,
    ct: Annotated[
        Path | None,
        typer.Option(
            help="Head CT (DICOM folder, NIfTI, or sidecar of raw files): its films and face, and"
            " its skull for all people."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes [all cores].")] = None,
) -> None:
    """Make a dataset of simulated people: skull films, bone, portraits.

    Kinds: xray, the film; bone, bone alone; skull, the film without soft tissue around the bone,
    as cut by hand; face, portraits; field, the film as it may arrive, turned, inverted, with
    fittings; lines, line integrals.
    """
    from fcr_train.simulate import Plan
    from fcr_train.simulate import simulate as simulate_people

    plan = Plan(
        people,
        seed,
        first,
        kinds=_split(kinds),
        views=_split(views),
        portraits=portraits,
        size=size,
        bits=bits,
        depths=depths,
        ct=ct,
    )
    with _counter("people") as count:
        simulate_people(out, plan, workers, count)
    typer.echo(out)


@app.command()
def translator(
    data: Data,
    model: Annotated[str, typer.Option(help="cut or fastcut.")] = "fastcut",
    preset: Preset = "small",
    config: ConfigFile = None,
    epochs: Epochs = None,
    seed: Seed = 1,
    device: Device = "auto",
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Train a network that translates a skull into a face, without pairs."""
    from fcr_train.config import TranslatorConfig
    from fcr_train.data import read_dataset
    from fcr_train.tasks import Plan, TranslatorTask
    from fcr_train.trainer import pick_device

    settings, preset = _read_settings(TranslatorConfig, model, preset, config, epochs)
    plan = Plan(model, preset, settings, read_dataset(data), seed, pick_device(device))
    with _counter("pictures") as count:
        task = TranslatorTask(plan, count)
    _train(task, out, resume)


@app.command()
def embedder(
    data: Data,
    backbone: Annotated[str, typer.Option(help="densenet121.")] = "densenet121",
    preset: Preset = "small",
    config: ConfigFile = None,
    translator: Annotated[
        Path | None,
        typer.Option(help="Checkpoint; the faces it generates become further pictures."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="File of torchvision weights to start from.")
    ] = None,
    epochs: Epochs = None,
    seed: Seed = 1,
    device: Device = "auto",
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Train a network that embeds a face, so that pictures of one person lie together."""
    from fcr_train.config import EmbedderConfig
    from fcr_train.data import read_dataset
    from fcr_train.embedders import load_weights
    from fcr_train.tasks import EmbedderTask, Plan
    from fcr_train.trainer import pick_device
    from fcr_train.translators import load_generator

    settings, preset = _read_settings(EmbedderConfig, backbone, preset, config, epochs)
    plan = Plan(backbone, preset, settings, read_dataset(data), seed, pick_device(device))
    trained = load_generator(translator) if translator is not None else None
    with _counter("pictures") as count:
        task = EmbedderTask(plan, trained, count)
    if weights is not None:
        load_weights(task.networks, weights)
    _train(task, out, resume)


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    engine: Annotated[Engine, typer.Option(help="onnx, or trt on a machine with a GPU.")] = (
        Engine.onnx
    ),
    translator: Annotated[Path | None, typer.Option(help="Checkpoint of a translator.")] = None,
    embedder: Annotated[Path | None, typer.Option(help="Checkpoint of an embedder.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Dataset or folder of X-rays, to compare the export with PyTorch."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle [the folder's].")] = None,
    weights: Annotated[
        Weights, typer.Option(help="How large weights are stored; half is half the size.")
    ] = Weights.single,
    licence: Annotated[
        str, typer.Option(help="SPDX identifier of the licence of the weights.")
    ] = "NOASSERTION",
) -> None:
    """Convert a translator and an embedder into a bundle for the field."""
    if engine is Engine.trt:
        raise DeviceError(
            "--engine trt needs TensorRT and an NVIDIA GPU, and is not available in this version:"
            " an engine fits the one device it was built on. Export with --engine onnx"
        )
    if translator is None or embedder is None or data is None:
        raise ConfigError(
            "an export takes two networks and some X-rays: pass --translator CHECKPOINT,"
            " --embedder CHECKPOINT (`fcr-train translator` and `fcr-train embedder` print theirs)"
            " and --data FOLDER (a dataset, or pictures of X-rays)"
        )
    from export.build import build_bundle, choose_films

    films = choose_films(data)
    with _counter("steps") as count:
        build_bundle(
            translator,
            embedder,
            films,
            out,
            name or out.resolve().name,
            weights=weights.value,
            licence=licence,
            progress=count,
        )
    typer.echo(out)


def _split(names: str) -> tuple[Any, ...]:
    """Split a list at its commas; what takes the names checks them."""
    return tuple(name.strip() for name in names.split(","))


Settings = TypeVar("Settings", "TranslatorConfig", "EmbedderConfig")


def _read_settings(
    kind: type[Settings], model: str, preset: str, path: Path | None, epochs: int | None
) -> tuple[Settings, str]:
    """Return the configuration and its name: the preset's, or the file's."""
    from fcr_train.config import load_file, load_preset

    settings = load_preset(model, preset) if path is None else load_file(model, path)
    if not isinstance(settings, kind):
        raise ConfigError(f"{model!r} is a model of another command: see `fcr-train --help`")
    if epochs is not None:
        settings = replace(settings, schedule=settings.schedule.stretched(epochs))
    return settings, preset if path is None else path.stem


def _train(task: TranslatorTask | EmbedderTask, out: Path | None, resume: bool) -> None:
    from fcr_train.trainer import train

    plan = task.plan
    folder = out or Path("runs") / f"{plan.model}-{plan.preset}"
    with _watcher() as watch:
        checkpoint = train(task, folder, plan.seed, plan.identity, resume, watch)
    typer.echo(checkpoint)


@contextlib.contextmanager
def _counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the time left, fed by (done, total)."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        shown = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(shown, completed=done, total=total)


@contextlib.contextmanager
def _watcher() -> Iterator[Callable[[Progress], None]]:
    """Show a bar with losses and the time left, and a line for each epoch that ended."""
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TextColumn

    console = Console(stderr=True)
    columns = (*Bar.get_default_columns(), TextColumn("{task.fields[figures]}"))
    with Bar(*columns, console=console) as bar:
        shown = bar.add_task("training", total=None, figures="")

        def watch(progress: Progress) -> None:
            figures = "  ".join(f"{name} {value:.4g}" for name, value in progress.figures.items())
            bar.update(shown, completed=progress.step, total=progress.steps, figures=figures)
            if progress.epoch_ended:
                console.print(f"epoch {progress.epoch}  {figures}", highlight=False)

        yield watch


def main() -> None:
    """Run fcr-train."""
    app()


if __name__ == "__main__":
    main()

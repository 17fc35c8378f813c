"""The command that makes a bundle for the field: export."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fcr_edge.errors import ConfigError, DeviceError
from fcr_train.cli.progress import counter


class Engine(str, Enum):
    """What a bundle is made for."""

    onnx = "onnx"
    trt = "trt"


class Weights(str, Enum):
    """How an exported network stores its large weights."""

    single = "single"
    half = "half"


def export(
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    engine: Annotated[Engine, typer.Option(help="onnx, or trt on a machine with a GPU.")] = (
        Engine.onnx
    ),
    translator: Annotated[
        Path | None, typer.Option(help="Checkpoint (the best run of the last `compare`).")
    ] = None,
    embedder: Annotated[Path | None, typer.Option(help="Checkpoint, likewise.")] = None,
    film: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of `film`, so that the bundle puts films right by itself."),
    ] = None,
    best: Annotated[
        Path | None, typer.Option(help="best.json of a study, instead of the last one's.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Dataset or folder of X-rays, to compare the export with PyTorch."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle (the folder's).")] = None,
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
    if data is None:
        raise ConfigError(
            "an export is compared with PyTorch on some X-rays: pass --data FOLDER (a dataset, or"
            " pictures of X-rays)"
        )
    translator, embedder = _choose_run(translator, embedder, best)
    from export.build import build_bundle, choose_films

    films = choose_films(data)
    with counter("steps") as count:
        build_bundle(
            translator,
            embedder,
            films,
            out,
            name or out.resolve().name,
            film=film,
            weights=weights.value,
            licence=licence,
            progress=count,
        )
    typer.echo(out)


def _choose_run(
    translator: Path | None, embedder: Path | None, best: Path | None
) -> tuple[Path, Path]:
    """Return the checkpoints named, or those of the run that a study marked best, and say so."""
    from fcr_train.evaluate.study import find_best, read_best

    if translator is not None and embedder is not None and best is None:
        return translator, embedder
    if translator is not None or embedder is not None:
        raise ConfigError(
            "an export takes both networks of one run: pass --translator CHECKPOINT and --embedder"
            " CHECKPOINT, or neither of them and perhaps --best FILE"
        )
    path = best or find_best(Path("runs"))
    run = read_best(path)
    typer.echo(f"best run of {path}: {run.translator} with {run.embedder}, {run.why}", err=True)
    for part, checkpoint in run.checkpoints.items():
        typer.echo(f"{part}: {checkpoint}", err=True)
    return Path(run.checkpoints["translator"]), Path(run.checkpoints["embedder"])

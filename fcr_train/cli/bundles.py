"""The commands that make a bundle for the field and vouch for it: export, keygen, sign."""

from __future__ import annotations

from dataclasses import dataclass
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
    engine: Annotated[
        Engine, typer.Option(help="onnx; trt builds this device's engines, too.")
    ] = (Engine.onnx),
    translator: Annotated[
        Path | None, typer.Option(help="Checkpoint (the best run of the last `compare`).")
    ] = None,
    embedder: Annotated[Path | None, typer.Option(help="Checkpoint, likewise.")] = None,
    suppressor: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of a soft-tissue remover; makes the recipe learned-1."),
    ] = None,
    film: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of `film`, so that the bundle puts films right by itself."),
    ] = None,
    best: Annotated[
        Path | None, typer.Option(help="best.json of a study, instead of the last one's.")
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            help="Evaluation of the networks named, for its rule to put two films together."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Dataset or folder of X-rays, to compare the export with PyTorch."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle (the folder's).")] = None,
    weights: Annotated[
        Weights, typer.Option(help="How large weights are stored; half is half the size.")
    ] = Weights.single,
    fp16: Annotated[
        bool,
        typer.Option(
            "--fp16", help="Each network a second time, computing in 16 bits, for TensorRT."
        ),
    ] = False,
    openvino: Annotated[
        bool,
        typer.Option("--openvino", help="Compare each network with itself in OpenVINO as well."),
    ] = False,
    licence: Annotated[
        str, typer.Option(help="SPDX identifier of the licence of the weights.")
    ] = "NOASSERTION",
) -> None:
    """Convert a translator and an embedder into a bundle, perhaps with a soft-tissue remover."""
    if data is None:
        raise ConfigError(
            "an export is compared with PyTorch on some X-rays: pass --data FOLDER (a dataset, or"
            " pictures of X-rays)"
        )
    run = _choose_run(translator, embedder, evaluation, best)
    from export.build import Form, build_bundle, choose_films

    films = choose_films(data)
    with counter("steps") as count:
        build_bundle(
            run.translator,
            run.embedder,
            films,
            out,
            name or out.resolve().name,
            evaluation=run.evaluation,
            suppressor=suppressor,
            film=film,
            form=Form(weights.value, fp16 or engine is Engine.trt, openvino, licence),
            progress=count,
        )
    typer.echo(out)
    if engine is Engine.trt:
        _build_engines(out)


def _build_engines(folder: Path) -> None:
    """Build, check and time this device's engines; the bundle is complete without them."""
    from fcr_edge.bundle import Bundle
    from fcr_edge.cli.console import build_progress
    from fcr_edge.engines.cache import cache_folder
    from fcr_edge.sessions import open_network

    bundle = Bundle.load(folder, allow_unsigned=True)  # it was made just now
    try:
        for role in bundle.manifest.models:
            with build_progress() as tell, open_network(bundle, role, "trt", tell) as session:
                typer.echo(f"{role}: {session.describe()}", err=True)
    except DeviceError as error:
        raise DeviceError(
            f"{folder} is complete, with its networks in 16 bits, but engines were not built:"
            f" {error}. An engine fits only the device that it is built on: on the field kit run"
            f" fcr-edge warmup --bundle {folder.name}"
        ) from error
    typer.echo(f"engines: {cache_folder()}", err=True)


@dataclass(frozen=True)
class _Run:
    """The files that a bundle is made from."""

    translator: Path
    embedder: Path
    evaluation: Path | None


def _choose_run(
    translator: Path | None, embedder: Path | None, evaluation: Path | None, best: Path | None
) -> _Run:
    """Return the files named, or those of the run that a study marked best, and say so."""
    from fcr_train.evaluate.study import find_best, read_best

    if translator is not None and embedder is not None and best is None:
        return _Run(translator, embedder, evaluation)
    if translator is not None or embedder is not None or evaluation is not None:
        raise ConfigError(
            "an export takes both networks of one run: pass --translator CHECKPOINT and --embedder"
            " CHECKPOINT and perhaps --evaluation FILE, or none of them and perhaps --best FILE"
        )
    path = best or find_best(Path("runs"))
    run = read_best(path)
    typer.echo(f"best run of {path}: {run.translator} with {run.embedder}, {run.why}", err=True)
    for part, file in {**run.checkpoints, "evaluation": run.evaluation}.items():
        typer.echo(f"{part}: {file}", err=True)
    return _Run(
        Path(run.checkpoints["translator"]),
        Path(run.checkpoints["embedder"]),
        Path(run.evaluation),
    )


def keygen(
    out: Annotated[Path, typer.Option(help="The private key to write; .pub is put after it.")],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase that locks it.")
    ] = False,
) -> None:
    """Make a pair of keys: the private one signs bundles, the public one is for field kits."""
    from export.signing import make_keys

    secret = None
    if passphrase:
        secret = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    public, digits = make_keys(out, secret)
    typer.echo(public)
    typer.echo(f"{digits}: tell these digits to whoever adds the key", err=True)
    if secret is None:
        typer.echo(f"warning: {out} is not locked by a passphrase: keep it offline", err=True)


def sign(
    bundle: Annotated[Path, typer.Argument(help="Folder of models.")],
    key: Annotated[Path, typer.Option(help="Private key, made by keygen.")],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for the passphrase that locks the key.")
    ] = False,
) -> None:
    """Vouch for a bundle: field kits that trust the key take it, and no older one after it."""
    from export.signing import sign_bundle

    secret = typer.prompt("Passphrase", hide_input=True, err=True) if passphrase else None
    standing = sign_bundle(bundle, key, secret)
    typer.echo(f"{bundle}: signed on {standing.version} by {standing.key}")

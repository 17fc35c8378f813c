"""The commands that train a network: translator, distill, embedder, matcher, suppressor, film."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from fcr_edge.errors import ConfigError
from fcr_train.cli.options import Data, Device, FoldNumber, Preset, Seed, SplitFile, read_fold
from fcr_train.cli.progress import counter, make_console, watcher

if TYPE_CHECKING:
    from fcr_train.config import (
        EmbedderConfig,
        FilmConfig,
        MatcherConfig,
        StudentConfig,
        SuppressorConfig,
        TranslatorConfig,
    )
    from fcr_train.tasks import (
        DistillTask,
        EmbedderTask,
        FilmTask,
        MatcherTask,
        SuppressorTask,
        TranslatorTask,
    )

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file to use instead of a preset.")
]
Epochs = Annotated[int | None, typer.Option(help="Epochs in all, instead of the preset's.")]
Out = Annotated[Path | None, typer.Option(help="Run folder (runs/<model>-<preset>).")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on after the last complete epoch.")]
Settings = TypeVar(
    "Settings",
    "TranslatorConfig",
    "StudentConfig",
    "EmbedderConfig",
    "MatcherConfig",
    "SuppressorConfig",
    "FilmConfig",
)


def translator(
    data: Data,
    model: Annotated[
        str, typer.Option(help="pix2pix, which learns from pairs; cyclegan, cut or fastcut.")
    ] = "pix2pix",
    preset: Preset = "small",
    config: ConfigFile = None,
    identity: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of an embedder, for a lambda_embedding above 0."),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of a translator whose encoder to start from."),
    ] = None,
    epochs: Epochs = None,
    seed: Seed = 1,
    device: Device = "auto",
    split: SplitFile = None,
    fold: FoldNumber = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Train a network that translates a skull into a face."""
    from fcr_train.config import TranslatorConfig
    from fcr_train.dataset import read_dataset
    from fcr_train.embedders import load_embedder
    from fcr_train.tasks import Plan, TranslatorTask
    from fcr_train.trainer import pick_device

    settings, preset = _read_settings(TranslatorConfig, model, preset, config, epochs)
    dataset = read_dataset(data)
    held_out = read_fold(split, fold, dataset)
    sources = _hash_sources(identity=identity, encoder=encoder)
    plan = Plan(model, preset, settings, dataset, seed, pick_device(device), held_out, sources)
    judge = load_embedder(identity) if identity is not None else None
    with counter("pictures") as count:
        task = TranslatorTask(plan, count, judge, encoder)
    _train(task, out, resume)


def distill(
    data: Data,
    teacher: Annotated[
        Path, typer.Option(help="Checkpoint of a translator, or the run folder that holds it.")
    ],
    student: Annotated[
        str, typer.Option(help="small-a, small-b, small-c or small-d, from wide to narrow.")
    ] = "small-b",
    config: ConfigFile = None,
    identity: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of an embedder, for a lambda_embedding above 0."),
    ] = None,
    epochs: Epochs = None,
    seed: Seed = 1,
    device: Device = "auto",
    split: SplitFile = None,
    fold: FoldNumber = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Train a light translator to draw the faces that a trained one draws.

    The films are to be those that the teacher was trained on.
    """
    from fcr_train.config import load_student
    from fcr_train.dataset import read_dataset
    from fcr_train.embedders import load_embedder
    from fcr_train.tasks import DistillTask, Plan
    from fcr_train.trainer import CHECKPOINT_FILE, pick_device
    from fcr_train.translators import STUDENT, load_generator, translator_config

    if teacher.is_dir():
        teacher = teacher / CHECKPOINT_FILE
    taught = load_generator(teacher)
    settings = load_student(student, config, translator_config(taught[1]))
    settings, name = _adapt(settings, student, config, epochs)
    dataset = read_dataset(data)
    held_out = read_fold(split, fold, dataset)
    sources = _hash_sources(teacher=teacher, identity=identity)
    plan = Plan(STUDENT, name, settings, dataset, seed, pick_device(device), held_out, sources)
    judge = load_embedder(identity) if identity is not None else None
    with counter("pictures") as count:
        task = DistillTask(plan, taught, count, judge)
    _train(task, out, resume)


def embedder(
    data: Data,
    backbone: Annotated[
        str, typer.Option(help="vgg16, resnet18, resnet101 or densenet121.")
    ] = "densenet121",
    preset: Preset = "small",
    config: ConfigFile = None,
    translator: Annotated[
        Path | None,
        typer.Option(help="Checkpoint; the faces it generates become further pictures."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="File of torchvision weights to start from.")
    ] = None,
    weights_sha256: Annotated[
        str | None, typer.Option(help="Hash of a file that torchvision does not publish.")
    ] = None,
    download: Annotated[
        Path | None, typer.Option(help="Folder to fetch torchvision's ImageNet weights into.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Epochs in all; 0 trains nothing (the seed paper).")
    ] = None,
    seed: Seed = 1,
    device: Device = "auto",
    split: SplitFile = None,
    fold: FoldNumber = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Train a network that embeds a face, so that pictures of one person lie together."""
    from fcr_train.checkpoint import save_checkpoint
    from fcr_train.config import EmbedderConfig
    from fcr_train.dataset import read_dataset
    from fcr_train.embedders import describe_untrained
    from fcr_train.tasks import EmbedderTask, Plan
    from fcr_train.trainer import CHECKPOINT_FILE, pick_device
    from fcr_train.translators import load_generator
    from fcr_train.weights import download_weights, read_weights

    settings, preset = _read_settings(EmbedderConfig, backbone, preset, config, epochs or None)
    if download is not None:
        weights = download_weights(backbone, download)
    initial = None if weights is None else read_weights(weights, backbone, weights_sha256)
    if epochs == 0:
        folder = out or Path("runs") / f"{backbone}-untrained"
        checkpoint = describe_untrained(backbone, preset, settings, initial, seed)
        save_checkpoint(folder / CHECKPOINT_FILE, checkpoint)
        make_console().print(f"not trained; initial weights: {checkpoint.data['initial_weights']}")
        typer.echo(folder / CHECKPOINT_FILE)
        return
    dataset = read_dataset(data)
    held_out = read_fold(split, fold, dataset)
    sources = _hash_sources(translator=translator, weights=weights)
    plan = Plan(backbone, preset, settings, dataset, seed, pick_device(device), held_out, sources)
    trained = load_generator(translator) if translator is not None else None
    with counter("pictures") as count:
        task = EmbedderTask(plan, trained, count, initial)
    _train(task, out, resume)


def matcher(
    data: Data,
    preset: Preset = "small",
    config: ConfigFile = None,
    epochs: Epochs = None,
    seed: Seed = 1,
    device: Device = "auto",
    split: SplitFile = None,
    fold: FoldNumber = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Train the direct matcher, which compares films with photographs without a face between."""
    from fcr_train.config import MatcherConfig
    from fcr_train.dataset import read_dataset
    from fcr_train.tasks import MatcherTask, Plan
    from fcr_train.trainer import pick_device

    settings, preset = _read_settings(MatcherConfig, "two_tower", preset, config, epochs)
    dataset = read_dataset(data)
    held_out = read_fold(split, fold, dataset)
    plan = Plan("two_tower", preset, settings, dataset, seed, pick_device(device), held_out)
    with counter("pictures") as count:
        task = MatcherTask(plan, count)
    _train(task, out, resume)


def suppressor(
    data: Data,
    preset: Preset = "small",
    config: ConfigFile = None,
    epochs: Epochs = None,
    seed: Seed = 1,
    device: Device = "auto",
    split: SplitFile = None,
    fold: FoldNumber = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Train a network that takes the soft tissue off a film, on simulated people.

    The dataset needs the kinds xray, skull and bone.
    """
    from fcr_train.config import SuppressorConfig
    from fcr_train.dataset import read_dataset
    from fcr_train.tasks import Plan, SuppressorTask
    from fcr_train.trainer import pick_device

    settings, preset = _read_settings(SuppressorConfig, "suppressor", preset, config, epochs)
    dataset = read_dataset(data)
    held_out = read_fold(split, fold, dataset)
    plan = Plan("suppressor", preset, settings, dataset, seed, pick_device(device), held_out)
    with counter("films") as count:
        task = SuppressorTask(plan, count)
    _train(task, out, resume)


def film(
    data: Data,
    faces: Annotated[
        Path | None,
        typer.Option(help="Another dataset, whose portraits it learns to tell from films."),
    ] = None,
    preset: Preset = "small",
    config: ConfigFile = None,
    epochs: Epochs = None,
    seed: Seed = 1,
    device: Device = "auto",
    split: SplitFile = None,
    fold: FoldNumber = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Train the network that tells what a film shows: its view, how it lies, landmarks."""
    from fcr_train.config import FilmConfig
    from fcr_train.dataset import read_dataset
    from fcr_train.landmarks import read_landmarks
    from fcr_train.tasks import FilmTask, Plan
    from fcr_train.trainer import pick_device

    settings, preset = _read_settings(FilmConfig, "film", preset, config, epochs)
    dataset, landmarks = read_dataset(data), read_landmarks(data)
    portraits = (
        [row for row in read_dataset(faces).pictures if row.kind == "face"] if faces else []
    )
    held_out = read_fold(split, fold, dataset)
    plan = Plan("film", preset, settings, dataset, seed, pick_device(device), held_out)
    with counter("pictures") as count:
        task = FilmTask(plan, landmarks, portraits, count)
    _train(task, out, resume)


def _read_settings(
    kind: type[Settings], model: str, preset: str, path: Path | None, epochs: int | None
) -> tuple[Settings, str]:
    """Return the configuration and its name: the preset's, or the file's."""
    from fcr_train.config import load_file, load_preset

    settings = load_preset(model, preset) if path is None else load_file(model, path)
    if not isinstance(settings, kind):
        raise ConfigError(f"{model!r} is a model of another command: see `fcr-train --help`")
    return _adapt(settings, preset, path, epochs)


def _adapt(
    settings: Settings, preset: str, path: Path | None, epochs: int | None
) -> tuple[Settings, str]:
    """Stretch the schedule where asked; return the configuration's name, too."""
    if epochs is not None:
        settings = replace(settings, schedule=settings.schedule.stretched(epochs))
    return settings, preset if path is None else path.stem


def _hash_sources(**files: Path | None) -> dict[str, str]:
    """Hash the networks that take part in a training, by their part."""
    from fcr_train.checkpoint import digest

    return {part: digest(path) for part, path in files.items() if path is not None}


def _train(
    task: TranslatorTask | DistillTask | EmbedderTask | MatcherTask | SuppressorTask | FilmTask,
    out: Path | None,
    resume: bool,
) -> None:
    from fcr_train.processes import is_first, joined
    from fcr_train.trainer import train

    plan = task.plan
    folder = out or Path("runs") / f"{plan.model}-{plan.preset}"
    with joined(plan.device.type), watcher() as watch:
        checkpoint = train(task, folder, plan.seed, plan.identity, resume, watch)
        if is_first():
            typer.echo(checkpoint)

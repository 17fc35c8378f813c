"""The command line of the workshop: simulate or prepare, split, train, export."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import sys
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from fcr_edge import __version__
from fcr_edge.cli import FcrGroup
from fcr_edge.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from fcr_train.config import EmbedderConfig, MatcherConfig, TranslatorConfig
    from fcr_train.dataset import Dataset
    from fcr_train.evaluate.images import Networks
    from fcr_train.evaluate.record import Evaluation
    from fcr_train.splits import Fold, Split
    from fcr_train.survey import Survey
    from fcr_train.tasks import EmbedderTask, MatcherTask, TranslatorTask
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
Out = Annotated[Path | None, typer.Option(help="Run folder (runs/<model>-<preset>).")]
Epochs = Annotated[int | None, typer.Option(help="Epochs in all, instead of the preset's.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of weights, order and augmentation.")]
SplitFile = Annotated[
    Path | None,
    typer.Option("--split", help="File of `fcr-train split`, instead of the preset's split."),
]
FoldNumber = Annotated[
    int | None, typer.Option("--fold", min=0, help="Fold of the file that is held out.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on after the last complete epoch.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


class Engine(str, Enum):
    """What a bundle is made for."""

    onnx = "onnx"
    trt = "trt"


class Layout(str, Enum):
    """How a folder of films and photographs says what each file shows."""

    s2f = "s2f"
    folders = "folders"
    csv = "csv"


class Splits(str, Enum):
    """Whom a study holds out."""

    person = "person"
    both = "both"


Distractors = Annotated[
    Path | None,
    typer.Option(help="Dataset of other people, whose photographs are enrolled as well."),
]
Inception = Annotated[
    str | None,
    typer.Option(help="File of Inception-v3's FID weights for FID, KID and IS, or: download."),
]
Lpips = Annotated[
    Path | None, typer.Option(help="File of torchvision's AlexNet weights, for LPIPS.")
]


class By(str, Enum):
    """What a split deals out."""

    person = "person"
    pair = "pair"


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
    beam: Annotated[str, typer.Option(help="divergent, from 1.6 m, or parallel.")] = "divergent",
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
    workers: Annotated[int | None, typer.Option(min=1, help="Processes (one a core).")] = None,
) -> None:
    """Make a dataset of simulated people: skull films, bone, portraits.

    xray is the film, bone the bone alone, skull the film with the soft tissue cut away as by hand.

    face are portraits, field is the film as it may arrive (turned, inverted), lines integrals.
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
        beam=cast("Any", beam),
        depths=depths,
        ct=ct,
    )
    with _counter("people") as count:
        simulate_people(out, plan, workers, count)
    typer.echo(out)


@app.command()
def prepare(
    folder: Annotated[Path, typer.Argument(help="Folder with films and photographs.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the new dataset.")] = None,
    layout: Annotated[
        Layout, typer.Option(help="How files say what they show; see docs/data.md.")
    ] = Layout.s2f,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV of files (layout csv), or of people: sex, age, bmi."),
    ] = None,
    augment: Annotated[
        int, typer.Option(min=0, max=4, help="How many of the paper's four augmentations.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the augmentations.")] = 1,
    size: Annotated[
        int, typer.Option(min=32, help="Side that training will ask for; smaller is reported.")
    ] = 256,
    check_only: Annotated[bool, typer.Option("--check-only", help="Write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check a folder of film and photograph pairs, and make a dataset of it."""
    from fcr_train.prepare import write_dataset
    from fcr_train.survey import refuse_errors, survey

    if out is None and not check_only:
        raise ConfigError("there is nowhere to write: pass --out FOLDER, or --check-only")
    with _counter("checking") as count:
        surveyed = survey(folder, layout.value, table, size, count)
    if as_json:
        typer.echo(json.dumps(surveyed.report(), indent=1, ensure_ascii=False))
    else:
        _print_survey(surveyed)
    for problem in surveyed.problems:
        if problem.level == "warning":
            typer.secho(f"warning: {problem.message}", fg="yellow", err=True)
    refuse_errors(surveyed)
    if out is not None and not check_only:
        with _counter("views") as count:
            write_dataset(surveyed, out, augment, seed, count)
        typer.echo(out, err=as_json)


@app.command()
def split(
    data: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The split file, JSON.")],
    by: Annotated[
        By, typer.Option(help="person: folds of people. pair: the paper's draws, which leak.")
    ] = By.person,
    folds: Annotated[int, typer.Option(min=1, help="Folds of people, or draws of pairs.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same split.")] = 1,
) -> None:
    """Decide who is held out in each fold, and check that nobody is on two sides."""
    from fcr_train.dataset import read_dataset
    from fcr_train.splits import check_leaks, split_by_pair, split_by_person, write_split

    dataset = read_dataset(data)
    make = split_by_person if by is By.person else split_by_pair
    made = make(dataset, folds, seed)
    with _counter("checking") as count:
        check_leaks(dataset, made, count)
    write_split(made, out)
    _print_split(dataset, made)
    typer.echo(out)


@app.command("gallery-sheet")
def gallery_sheet(
    data: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG file to write.")],
    people: Annotated[int, typer.Option(min=1, help="Rows, of people drawn at random.")] = 16,
    kinds: Annotated[str, typer.Option(help="Columns, in order.")] = "xray,skull,bone,face",
    views: Annotated[str, typer.Option(help="Groups of columns, in order.")] = "frontal,lateral",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 1,
) -> None:
    """Draw a contact sheet of a dataset: a row a person, a column a view and kind."""
    from fcr_train.dataset import read_dataset
    from fcr_train.sheet import write_sheet

    write_sheet(read_dataset(data), out, people, kinds.split(","), views.split(","), seed)
    typer.echo(out)


@app.command()
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
    held_out = _read_fold(split, fold, dataset)
    sources = _hash_sources(identity=identity, encoder=encoder)
    plan = Plan(model, preset, settings, dataset, seed, pick_device(device), held_out, sources)
    judge = load_embedder(identity) if identity is not None else None
    with _counter("pictures") as count:
        task = TranslatorTask(plan, count, judge, encoder)
    _train(task, out, resume)


@app.command()
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
        _console().print(f"not trained; initial weights: {checkpoint.data['initial_weights']}")
        typer.echo(folder / CHECKPOINT_FILE)
        return
    dataset = read_dataset(data)
    held_out = _read_fold(split, fold, dataset)
    sources = _hash_sources(translator=translator, weights=weights)
    plan = Plan(backbone, preset, settings, dataset, seed, pick_device(device), held_out, sources)
    trained = load_generator(translator) if translator is not None else None
    with _counter("pictures") as count:
        task = EmbedderTask(plan, trained, count, initial)
    _train(task, out, resume)


@app.command()
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
    held_out = _read_fold(split, fold, dataset)
    plan = Plan("two_tower", preset, settings, dataset, seed, pick_device(device), held_out)
    with _counter("pictures") as count:
        task = MatcherTask(plan, count)
    _train(task, out, resume)


@app.command()
def evaluate(
    data: Data,
    translator: Annotated[Path, typer.Option(help="Checkpoint of a translator.")],
    embedder: Annotated[Path, typer.Option(help="Checkpoint of an embedder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The record to write, JSON.")],
    matcher: Annotated[
        Path | None, typer.Option(help="Checkpoint of a direct matcher, to stand beside.")
    ] = None,
    split: SplitFile = None,
    fold: FoldNumber = None,
    distractors: Distractors = None,
    inception: Inception = None,
    lpips: Lpips = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Measure a translator and an embedder on people whom neither has seen."""
    from fcr_train.config import EmbedderConfig, parse
    from fcr_train.dataset import read_dataset
    from fcr_train.embedders import load_embedder
    from fcr_train.evaluate.benches import Systems, read_trained
    from fcr_train.evaluate.examine import Examiner, Ground
    from fcr_train.files import write_whole
    from fcr_train.matcher import load_matcher
    from fcr_train.tasks import Plan
    from fcr_train.trainer import pick_device
    from fcr_train.translators import load_generator

    dataset = read_dataset(data)
    systems = Systems(
        read_trained(translator, load_generator),
        read_trained(embedder, load_embedder),
        read_trained(matcher, load_matcher) if matcher else None,
        pick_device(device),
    )
    made = systems.embedder.checkpoint
    plan = Plan(
        made.model,
        made.preset,
        parse(EmbedderConfig, made.config),
        dataset,
        int(made.data["seed"]),
        systems.device,
        _read_fold(split, fold, dataset),
    )
    networks = _read_networks(inception, lpips)
    with _counter("searches") as count:
        others = _read_distractors(distractors, dataset)
        ground = Ground(plan, str(systems.translator.checkpoint.config["soft_tissue"]), others)
        evaluation = Examiner(ground, systems, networks).examine(count)
    write_whole(out, evaluation.to_json())
    if as_json:
        typer.echo(evaluation.to_json())
    else:
        _print_evaluation(evaluation)
    typer.echo(out, err=as_json)


@app.command()
def compare(
    data: Data,
    preset: Preset = "small",
    out: Annotated[Path | None, typer.Option(help="Folder (runs/compare-<preset>).")] = None,
    by: Annotated[
        Splits,
        typer.Option(help="person, or both: the paper's split by pair, which leaks, beside it."),
    ] = Splits.person,
    folds: Annotated[
        int, typer.Option(min=2, help="One part in so many of the people is held out.")
    ] = 5,
    seed: Seed = 1,
    translators: Annotated[
        str, typer.Option(help="Those to train, with commas.")
    ] = "cyclegan,pix2pix,cut,fastcut",
    embedders: Annotated[
        str, typer.Option(help="Those to train, with commas.")
    ] = "vgg16,resnet18,resnet101,densenet121",
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="torchvision's ImageNet weights, to measure them untrained as well."),
    ] = None,
    distractors: Distractors = None,
    inception: Inception = None,
    lpips: Lpips = None,
    device: Device = "auto",
) -> None:
    """Train and measure every translator and embedder, and write a report of it all.

    Call it again after an interruption: what is finished is kept.
    """
    from fcr_train.compare import Comparison, Course, find_backbones
    from fcr_train.dataset import read_dataset
    from fcr_train.trainer import pick_device

    folder = out or Path("runs") / f"compare-{preset}"
    dataset = read_dataset(data)
    course = Course(
        dataset,
        preset,
        _make_folds(dataset, by, folds, seed),
        folder,
        pick_device(device),
        shlex.join(["fcr-train", *sys.argv[1:]]),
        seed,
        _split(translators),
        _split(embedders),
        _read_networks(inception, lpips),
        _read_distractors(distractors, dataset),
        find_backbones(weights or []),
    )
    console = _console()

    def say(what: str) -> None:
        console.print(what, highlight=False)

    typer.echo(Comparison(course, say, _watcher, _counter).run())


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    engine: Annotated[Engine, typer.Option(help="onnx, or trt on a machine with a GPU.")] = (
        Engine.onnx
    ),
    translator: Annotated[
        Path | None, typer.Option(help="Checkpoint (the best run of the last `compare`).")
    ] = None,
    embedder: Annotated[Path | None, typer.Option(help="Checkpoint, likewise.")] = None,
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


def _make_folds(dataset: Dataset, by: Splits, folds: int, seed: int) -> list[Fold]:
    """Hold out the first part by person, the first draw by pair, or both; check for leaks."""
    from fcr_train.splits import check_leaks, split_by_pair, split_by_person

    splits = [split_by_person(dataset, folds, seed)]
    if by is Splits.both:
        splits.append(split_by_pair(dataset, 1, seed))
    for made in splits:
        with _counter("checking") as count:
            check_leaks(dataset, made, count)
    return [made.fold(0) for made in splits]


def _read_distractors(folder: Path | None, dataset: Dataset) -> Dataset | None:
    from fcr_train.dataset import read_dataset, take_distractors

    return None if folder is None else take_distractors(dataset, read_dataset(folder))


def _read_networks(inception: str | None, lpips: Path | None) -> Networks:
    """Load what measures pictures; only the word `download` reaches for the network."""
    from fcr_train.evaluate.images import Networks, load_inception, load_lpips

    asked = Path(inception) if inception not in (None, "download") else inception
    return Networks(load_inception(cast("Any", asked)), load_lpips(lpips))


def _print_evaluation(evaluation: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    people = evaluation.people
    table = Table(
        *("probe", "views", "jitter", "gallery", "rank 1", "rank 10", "rank 50", "95 %"),
        title=f"{people.test} people searched for, {people.train} trained on,"
        f" split by {evaluation.split.by}",
    )
    for row in evaluation.retrieval:
        first, tenth, last = (row.cmc[k] for k in ("1", "10", "50"))
        interval = "" if last.low is None else f"{last.low:.2f}-{last.high:.2f}"
        shares = (f"{share.value:.2f}" for share in (first, tenth, last))
        jitter = "yes" if row.jitter else "no"
        table.add_row(row.probe, row.views, jitter, str(row.gallery), *shares, interval)
    console = Console()
    console.print(table)
    claims = evaluation.claims
    console.print(f"earned: {'; '.join(claims.passed) or 'nothing'}; failed: {claims.failed}")
    console.print(evaluation.notice)


def _split(names: str) -> tuple[Any, ...]:
    """Split a list at its commas; what takes the names checks them."""
    return tuple(name.strip() for name in names.split(","))


Settings = TypeVar("Settings", "TranslatorConfig", "EmbedderConfig", "MatcherConfig")


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


def _read_fold(path: Path | None, number: int | None, dataset: Dataset) -> Fold | None:
    """Read a fold of a split file, and check it again: the pictures may have changed since."""
    from fcr_train.splits import check_leaks, read_split

    if path is None and number is None:
        return None
    if path is None or number is None:
        raise ConfigError("--split and --fold belong together: pass both, or neither")
    split = read_split(path, dataset)
    fold = split.fold(number)
    with _counter("checking") as count:
        check_leaks(dataset, split, count)
    return fold


def _hash_sources(**files: Path | None) -> dict[str, str]:
    """Hash the networks that take part in a training, by their part."""
    from fcr_train.checkpoint import digest

    return {part: digest(path) for part, path in files.items() if path is not None}


def _print_survey(surveyed: Survey) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    counts = surveyed.count()
    views = sorted({view for row in counts.values() for view in row})
    pictures = Table("kind", *views, title=f"{len(surveyed.people)} people")
    for kind, row in counts.items():
        pictures.add_row(kind, *(str(row.get(view, 0)) for view in views))
    console = Console()
    console.print(pictures)
    if surveyed.problems:
        table = Table("level", "check", "files", "what", title="found")
        for problem in surveyed.problems:
            files = str(len(problem.files) or "")
            table.add_row(problem.level, problem.check, files, escape(problem.message))
        console.print(table)


def _print_split(dataset: Dataset, split: Split) -> None:
    from rich.console import Console
    from rich.table import Table

    from fcr_train.splits import count_seen, expect_seen

    pairs = dataset.pairs()
    by_person = split.by == "person"
    last = ("women", "men", "not known", "ages") if by_person else ("pairs whose person trains",)
    table = Table("fold", "pairs train", "held out", "people held out", *last)
    for number, fold in enumerate(split.folds):
        names = {person for person, _ in fold}
        people = [person for person in dataset.people if person.name in names]
        ages = [person.age for person in people if person.age is not None]
        sexes = [
            str(sum(person.sex == sex for person in people)) for sex in ("female", "male", "")
        ]
        spread = f"{min(ages):.0f}-{max(ages):.0f}" if ages else "not known"
        rest = (*sexes, spread) if by_person else (str(count_seen(pairs, fold)),)
        sizes = (len(pairs) - len(fold), len(fold), len(people))
        table.add_row(str(number), *map(str, sizes), *rest)
    console = Console()
    console.print(table)
    if not by_person:
        drawn = [count_seen(pairs, fold) / len(fold) for fold in split.folds]
        expected = expect_seen(pairs, len(split.folds[0]))
        console.print(
            f"share of test pairs whose person also trains: {sum(drawn) / len(drawn):.2f} drawn,"
            f" {expected:.2f} expected"
        )


def _train(
    task: TranslatorTask | EmbedderTask | MatcherTask, out: Path | None, resume: bool
) -> None:
    from fcr_train.processes import is_first, joined
    from fcr_train.trainer import train

    plan = task.plan
    folder = out or Path("runs") / f"{plan.model}-{plan.preset}"
    with joined(plan.device.type), _watcher() as watch:
        checkpoint = train(task, folder, plan.seed, plan.identity, resume, watch)
        if is_first():
            typer.echo(checkpoint)


def _console() -> Console:
    """Speak on stderr; of several processes that torchrun started, only the first one does."""
    from rich.console import Console

    return Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")


@contextlib.contextmanager
def _counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the time left, fed by (done, total)."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console()) as bar:
        shown = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(shown, completed=done, total=total)


@contextlib.contextmanager
def _watcher() -> Iterator[Callable[[Progress], None]]:
    """Show a bar with losses and the time left, and a line for each epoch that ended."""
    from rich.progress import Progress as Bar
    from rich.progress import TextColumn

    console = _console()
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

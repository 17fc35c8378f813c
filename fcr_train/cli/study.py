"""The commands that measure what was trained: evaluate, compare."""

from __future__ import annotations

import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fcr_train.cli.options import (
    Data,
    Device,
    FoldNumber,
    Preset,
    Seed,
    SplitFile,
    read_fold,
    read_names,
)
from fcr_train.cli.progress import counter, make_console, watcher

if TYPE_CHECKING:
    from fcr_train.dataset import Dataset
    from fcr_train.evaluate.images import Networks
    from fcr_train.evaluate.record import Evaluation
    from fcr_train.splits import Fold

Methods = Annotated[str, typer.Option(help="Those to train, with commas.")]
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


class Splits(str, Enum):
    """Whom a study holds out."""

    person = "person"
    both = "both"


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
    from fcr_train.evaluate.examine import examine
    from fcr_train.evaluate.findings import Examiner, Ground
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
        read_fold(split, fold, dataset),
    )
    networks = _read_networks(inception, lpips)
    with counter("searches") as count:
        others = _read_distractors(distractors, dataset)
        ground = Ground(plan, str(systems.translator.checkpoint.config["soft_tissue"]), others)
        evaluation = examine([Examiner(ground, systems)], networks, count)
    write_whole(out, evaluation.to_json())
    if as_json:
        typer.echo(evaluation.to_json())
    else:
        _print_evaluation(evaluation)
    typer.echo(out, err=as_json)


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
    all_folds: Annotated[
        bool,
        typer.Option(
            "--all-folds",
            help="Hold out every part in turn, so that everybody is tested: for few people.",
        ),
    ] = False,
    seed: Seed = 1,
    trainings: Annotated[
        int, typer.Option(min=1, help="Train the best run so often, with seeds from --seed on.")
    ] = 1,
    translators: Methods = "cyclegan,pix2pix,cut,fastcut",
    embedders: Methods = "vgg16,resnet18,resnet101,densenet121",
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
        _make_folds(dataset, by, folds, seed, all_folds),
        folder,
        pick_device(device),
        shlex.join(["fcr-train", *sys.argv[1:]]),
        seed,
        read_names(translators),
        read_names(embedders),
        _read_networks(inception, lpips),
        _read_distractors(distractors, dataset),
        find_backbones(weights or []),
        trainings,
    )
    console = make_console()

    def say(what: str) -> None:
        console.print(what, highlight=False)

    typer.echo(Comparison(course, say, watcher, counter).run())


def _make_folds(
    dataset: Dataset, by: Splits, folds: int, seed: int, all_folds: bool
) -> list[list[Fold]]:
    """Hold out the first part by person or every one, and the first draw by pair; check leaks."""
    from fcr_train.splits import check_leaks, split_by_pair, split_by_person

    splits = [split_by_person(dataset, folds, seed)]
    if by is Splits.both:
        splits.append(split_by_pair(dataset, 1, seed))
    for made in splits:
        with counter("checking") as count:
            check_leaks(dataset, made, count)
    return [
        [made.fold(number) for number in range(len(made.folds) if all_folds else 1)]
        for made in splits
    ]


def _read_distractors(folder: Path | None, dataset: Dataset) -> Dataset | None:
    from fcr_train.dataset import read_dataset, take_distractors

    return None if folder is None else take_distractors(dataset, read_dataset(folder))


def _read_networks(inception: str | None, lpips: Path | None) -> Networks:
    """Load what measures pictures; only the word `download` reaches for the network."""
    from fcr_train.evaluate.images import Networks, load_inception, load_lpips

    asked = Path(inception) if inception not in (None, "download") else inception
    return Networks(load_inception(cast("Any", asked)), load_lpips(lpips))

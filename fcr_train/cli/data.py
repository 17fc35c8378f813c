"""The commands that make and look at data: simulate, prepare, split, gallery-sheet."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fcr_edge.errors import ConfigError
from fcr_train.cli.options import read_names
from fcr_train.cli.progress import counter

if TYPE_CHECKING:
    from fcr_train.dataset import Dataset
    from fcr_train.splits import Split
    from fcr_train.survey import Survey

DataArgument = Annotated[Path, typer.Argument(help="Folder of the dataset.")]


class Layout(str, Enum):
    """How a folder of films and photographs says what each file shows."""

    s2f = "s2f"
    folders = "folders"
    csv = "csv"


class By(str, Enum):
    """What a split deals out."""

    person = "person"
    pair = "pair"


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
        kinds=read_names(kinds),
        views=read_names(views),
        portraits=portraits,
        size=size,
        bits=bits,
        beam=cast("Any", beam),
        depths=depths,
        ct=ct,
    )
    with counter("people") as count:
        simulate_people(out, plan, workers, count)
    typer.echo(out)


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
    with counter("checking") as count:
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
        with counter("views") as count:
            write_dataset(surveyed, out, augment, seed, count)
        typer.echo(out, err=as_json)


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


def split(
    data: DataArgument,
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
    with counter("checking") as count:
        check_leaks(dataset, made, count)
    write_split(made, out)
    _print_split(dataset, made)
    typer.echo(out)


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


def gallery_sheet(
    data: DataArgument,
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

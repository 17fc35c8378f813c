"""fcr-edge: parse, call, print."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from fcr_edge import __version__
from fcr_edge.errors import FcrError, GalleryError

if TYPE_CHECKING:
    from fcr_edge.bundle import Bundle
    from fcr_edge.conditions import Conditions
    from fcr_edge.demo import DemoOutcome
    from fcr_edge.enroll import Enrolment, EnrolReport
    from fcr_edge.gallery import Gallery, Person, View
    from fcr_edge.gallery.records import Mode
    from fcr_edge.identify import Identifier, IdentifyResult
    from fcr_edge.latency import Latency
    from fcr_edge.soft_tissue import Suppressor
    from fcr_edge.understanding import FilmModel

EXIT_ERROR = 3
EXIT_INTERRUPTED = 130


class FcrGroup(TyperGroup):
    """Commands whose FcrError becomes one line on stderr and exit status 3."""

    def invoke(self, ctx: Any) -> Any:  # noqa: D102 - click's Context, which newer Typer vendors
        try:
            return super().invoke(ctx)
        except FcrError as err:
            typer.echo(f"error: {err}", err=True)
            raise typer.Exit(EXIT_ERROR) from err


app = typer.Typer(
    cls=FcrGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Turn an X-ray of a skull into a face and rank the people of a gallery by similarity: "
    "an investigative lead for a qualified examiner, never an identification.",
)
gallery_app = typer.Typer(no_args_is_help=True, help="List, show and remove enrolled people.")
app.add_typer(gallery_app, name="gallery")


class DeviceChoice(str, Enum):
    """What shall run the networks."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    trt = "trt"


class ViewChoice(str, Enum):
    """What a film shows."""

    frontal = "frontal"
    lateral = "lateral"


class SexChoice(str, Enum):
    """What an examiner may say of a skull's sex."""

    female = "female"
    male = "male"


XrayArgument = Annotated[Path, typer.Argument(help="Film of a skull, from the front or the side.")]
GalleryOption = Annotated[Path, typer.Option("--gallery", "-g", help="The gallery, e.g. db.bin.")]
BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", "-b", help="Folder of models (the one that fits)."),
]
DeviceOption = Annotated[DeviceChoice, typer.Option(help="What runs the networks.")]
SexOption = Annotated[
    SexChoice | None,
    typer.Option("--sex", help="Sex by examination, for a bundle that takes it; may mislead."),
]
AgeOption = Annotated[
    float | None, typer.Option("--age", help="Age by examination in years, likewise.")
]
BmiOption = Annotated[
    float | None, typer.Option("--bmi", help="Body mass index by examination in kg/m2, likewise.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Take a film that is refused, with a warning.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
KeyFileOption = Annotated[
    Path | None, typer.Option("--key-file", help="File of 32 bytes that locks the gallery.")
]
PassphraseOption = Annotated[
    bool,
    typer.Option("--passphrase", help="Ask for the passphrase that locks the gallery."),
]


def main() -> None:
    """Run fcr-edge."""
    app()


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.addLevelName(logging.WARNING, "warning")
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def identify(
    xrays: Annotated[
        list[Path],
        typer.Argument(
            metavar="XRAY...",
            help="One film of a skull, or two: bright bone on black, facing front or right.",
        ),
    ],
    gallery: GalleryOption,
    view: Annotated[
        list[ViewChoice] | None,
        typer.Option(help="What each film shows, in their order; needed with two films."),
    ] = None,
    bundle: BundleOption = None,
    sex: SexOption = None,
    age: AgeOption = None,
    bmi: BmiOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Candidates to list.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Folder for pictures and result.json.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every face.")] = False,
    force: ForceOption = False,
    device: DeviceOption = DeviceChoice.auto,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rank the people of a gallery by similarity to the face made from an X-ray, or from two."""
    from fcr_edge import report

    views = cast("list[View]", [choice.value for choice in view]) if view else None
    conditions = _read_conditions(sex, age, bmi)
    if out is not None:
        report.make_folder(out)
    with contextlib.ExitStack() as stack:
        people = stack.enter_context(_open_gallery(gallery, key_file, passphrase))
        identifier = stack.enter_context(_make_ready(_choose_bundle(bundle, people), device))
        mode: Mode = "exact" if exact else "auto"
        result = identifier.identify(xrays, people, k, mode, conditions, views, force)
        if out is not None:
            report.write_report(result, people, out)
    for warning in result.warnings:
        _warn(warning)
    if as_json:
        _print_json({**report.make_record(result), "timings_ms": result.timings_ms})
    else:
        _print_candidates(result)
    if out is not None:
        _note(f"written: {', '.join(report.list_files(result, out))}")


@app.command()
def enroll(
    source: Annotated[
        Path, typer.Argument(help="A folder with a folder or a picture a person, or a CSV file.")
    ],
    gallery: GalleryOption,
    bundle: BundleOption = None,
    device: DeviceOption = DeviceChoice.auto,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
) -> None:
    """Add people with their photographs to a gallery, made if it does not exist."""
    from fcr_edge.enroll import list_people

    people, skipped = list_people(source)
    for path in skipped:
        _warn(f"{path} is not taken for a photograph: skipped")
    with contextlib.ExitStack() as stack:
        if gallery.exists():
            opened = stack.enter_context(_open_gallery(gallery, key_file, passphrase))
            identifier = stack.enter_context(_make_ready(_choose_bundle(bundle, opened), device))
        else:
            identifier = stack.enter_context(_make_ready(_choose_first_bundle(bundle), device))
            created = _create_gallery(gallery, identifier.bundle, key_file, passphrase)
            opened = stack.enter_context(created)
        report = _enroll_with_progress(people, opened, identifier)
        _tell_enrolment(report, opened)


@app.command()
def reconstruct(
    xray: XrayArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="The face to write, a PNG file.")],
    bundle: BundleOption = None,
    sex: SexOption = None,
    age: AgeOption = None,
    bmi: BmiOption = None,
    force: ForceOption = False,
    device: DeviceOption = DeviceChoice.auto,
) -> None:
    """Make a face from an X-ray, without searching."""
    from fcr_edge import report
    from fcr_edge.conditions import describe_told

    conditions = _read_conditions(sex, age, bmi)
    with _make_ready(_choose_first_bundle(bundle), device) as identifier:
        made = identifier.reconstruct(xray, conditions, force=force)
    report.write_face(out, made)
    for warning in made.warnings:
        _warn(warning)
    if conditions.known:
        _warn(describe_told(conditions))
    _note(f"written: {out}, a generated face and not a photograph")


@app.command()
def preprocess(
    xray: XrayArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="The skull to write, a PNG file.")],
    bundle: BundleOption = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Soft-tissue recipe: learned-1, classical-1 or none (the bundle's)."),
    ] = None,
    keep_steps: Annotated[
        bool, typer.Option("--keep-steps", help="Write a sheet of every step beside the skull.")
    ] = False,
    device: DeviceOption = DeviceChoice.auto,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the standard skull from an X-ray: put right, framed, soft tissue suppressed."""
    from fcr_edge import film, imaging, reading, report, soft_tissue

    with contextlib.ExitStack() as stack:
        chosen, suppressor, film_model = _open_preparation(bundle, recipe, device, stack)
        read = reading.read_film(xray)
        understood = film_model.understand(read, force) if film_model else None
        standard = understood.film if understood else film.standardise_xray(read)
        made = soft_tissue.separate(standard, chosen, suppressor)
    imaging.write_png(out, made.skull, {"SoftTissue": chosen})
    written = [str(out)]
    if keep_steps:
        steps = out.with_name(f"{out.stem}-steps.png")
        sheet = report.draw_steps(read, understood, standard, made)
        imaging.write_png(steps, sheet, {"SoftTissue": chosen})
        written.append(str(steps))
    told = understood.warnings if understood else ()
    for warning in (*read.record.warnings, *told, *made.warnings):
        _warn(warning)
    if as_json:
        _print_json(report.make_skull_record(read, understood, made))
    else:
        typer.echo("; ".join((*read.record.steps, *(understood.steps if understood else ()))))
    sure = "" if made.mean_confidence is None else f", mean confidence {made.mean_confidence:.2f}"
    _note(f"written: {', '.join(written)}; recipe {chosen}{sure}")


@app.command()
def deidentify(
    source: Annotated[Path, typer.Argument(help="A film: DICOM, PNG, JPEG or TIFF.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The copy to write; not yet there.")],
    as_json: JsonOption = False,
) -> None:
    """Write a copy of a film without the patient's data; its pixels are not changed."""
    from fcr_edge.deidentify import deidentify as write_copy

    told = write_copy(source, out)
    for warning in told.warnings:
        _warn(warning)
    if as_json:
        _print_json({"schema": "fcr-deidentified/1", "file": str(out), **asdict(told)})
    else:
        typer.echo(f"{told.container}: {told.removed} entries removed, {len(told.kept)} kept")
    _note(f"written: {out}; {source} is unchanged")


@app.command()
def bench(
    xray: Annotated[Path | None, typer.Argument(help="A film (a packaged one).")] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", "-g", help="Gallery (the packaged people).")
    ] = None,
    bundle: BundleOption = None,
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
            people = stack.enter_context(_open_gallery(gallery, key_file, passphrase))
            ready = stack.enter_context(_make_ready(_choose_bundle(bundle, people), device))
        else:
            ready = stack.enter_context(_make_ready(_choose_first_bundle(bundle), device))
            place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "db.bin"
            people = stack.enter_context(demo.make_gallery(place, ready))
        tick = stack.enter_context(_progress("measuring", repeats))
        stages = latency.measure(
            lambda: ready.identify([chosen_xray], people).timings_ms, repeats, progress=tick
        )
        machine = {
            **latency.describe_machine(),
            "device": str(ready.device),
            "bundle": ready.bundle.manifest.name,
            "people": len(people.people()),
        }
    if as_json:
        rows = {stage: asdict(row) for stage, row in stages.items()}
        _print_json({"schema": "fcr-bench/1", "machine": machine, "stages": rows})
    else:
        _print_latency(stages, machine)


@app.command()
def doctor(
    bundle: BundleOption = None,
    gallery: Annotated[Path | None, typer.Option("--gallery", "-g", help="Check it too.")] = None,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
) -> None:
    """Check what FCR needs on this machine; each red line says how to mend it."""
    from fcr_edge import doctor as checks

    found = checks.examine(bundle)
    if gallery is not None:
        found.append(checks.examine_gallery(lambda: _open_gallery(gallery, key_file, passphrase)))
    for check in found:
        mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[check.state]
        typer.secho(f"{mark} {check.what}", fg={"bad": "red", "note": "yellow"}.get(check.state))
    if any(check.state == "bad" for check in found):
        raise typer.Exit(EXIT_ERROR)


@app.command()
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
    with _progress("enrolling simulated people, identifying X-rays", len(films)) as tick:
        for outcome in demonstration.run(out, device.value):
            outcomes.append(outcome)
            tick()
    _print_demo(outcomes, demonstration.describe_outcomes(outcomes), out)


@gallery_app.command("list")
def list_gallery(
    gallery: GalleryOption,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    as_json: JsonOption = False,
) -> None:
    """List everyone enrolled."""
    with _open_gallery(gallery, key_file, passphrase) as opened:
        people = opened.people()
    if as_json:
        _print_json({"schema": "fcr-people/1", "people": [asdict(person) for person in people]})
        return
    for person in people:
        typer.echo(_describe(person))
    _note(f"{len(people)} people in {gallery}")


@gallery_app.command("show")
def show_person(
    person: Annotated[str, typer.Argument(help="The person's id.")],
    gallery: GalleryOption,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is known of one person."""
    with _open_gallery(gallery, key_file, passphrase) as opened:
        found, photos = opened.person(person), opened.photos(person)
    rows = [{"file": p.file_name, "view": p.view, "sha256": p.sha256} for p in photos]
    if as_json:
        _print_json({"schema": "fcr-person/1", "person": asdict(found), "photos": rows})
        return
    for field, value in asdict(found).items():
        typer.echo(f"{field:12} {'' if value is None else value}")
    for row in rows:
        typer.echo(f"{'photo':12} {row['file']}  {row['view'] or 'view unknown'}  {row['sha256']}")


@gallery_app.command("remove")
def remove_person(
    person: Annotated[str, typer.Argument(help="The person's id.")],
    gallery: GalleryOption,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a person, with all photographs and embeddings, for good."""
    with _open_gallery(gallery, key_file, passphrase) as opened:
        found = opened.person(person)
        if not yes:
            typer.confirm(f"Remove {_describe(found)} for good?", abort=True, err=True)
        opened.remove(person)
    _note(f"removed: {person}; copies of the file elsewhere still hold them")


def _open_preparation(
    folder: Path | None, recipe: str | None, device: DeviceChoice, stack: contextlib.ExitStack
) -> tuple[str, Suppressor | None, FilmModel | None]:
    """Open the bundle's networks up to the skull; take the recipe asked for, else the bundle's."""
    from fcr_edge.bundle import Bundle
    from fcr_edge.identify import demo_folder
    from fcr_edge.manifest import LEARNED_RECIPE
    from fcr_edge.soft_tissue import open_suppressor
    from fcr_edge.understanding import open_film_model

    bundle = Bundle.load(folder or demo_folder() / "bundle")
    _note(f"bundle: {bundle.manifest.name}, {bundle.folder}")
    chosen = recipe or bundle.manifest.soft_tissue
    if chosen == LEARNED_RECIPE:
        bundle.model_bytes("suppressor")  # says where there is none
    suppressor = open_suppressor(bundle, device.value, stack)
    return chosen, suppressor, open_film_model(bundle, device.value, stack)


def _read_conditions(sex: SexChoice | None, age: float | None, bmi: float | None) -> Conditions:
    from fcr_edge.conditions import Conditions

    return Conditions(sex.value if sex else None, age, bmi)


def _read_key(
    key_file: Path | None, passphrase: bool, confirm: bool = False
) -> str | bytes | None:
    if key_file is not None and passphrase:
        raise GalleryError("--key-file and --passphrase were both given: use one")
    if key_file is not None:
        from fcr_edge.gallery.keys import read_key_file

        return read_key_file(key_file)
    if not passphrase:
        return None
    if sys.stdin.isatty():
        text: str = typer.prompt(
            "Passphrase", hide_input=True, confirmation_prompt=confirm, err=True
        )
        return text
    return sys.stdin.readline().rstrip("\r\n")


def _open_gallery(path: Path, key_file: Path | None, passphrase: bool) -> Gallery:
    from fcr_edge.gallery import Gallery

    return Gallery.open(path, _read_key(key_file, passphrase))


def _create_gallery(
    path: Path, bundle: Bundle, key_file: Path | None, passphrase: bool
) -> Gallery:
    from fcr_edge.gallery import Gallery

    key = _read_key(key_file, passphrase, confirm=True)
    if key is None:
        _warn(
            f"{path} will not be encrypted: its faces and names can be read by anyone;"
            " pass --passphrase or --key-file for a case"
        )
    dimension = bundle.manifest.embedder.output.dimension
    return Gallery.create(path, bundle.fingerprint, dimension, key)


def _choose_bundle(folder: Path | None, gallery: Gallery) -> Bundle:
    """Load the bundle named, or find the one that the gallery was enrolled with and say so."""
    from fcr_edge.bundle import Bundle
    from fcr_edge.identify import find_bundle

    if folder is not None:
        return Bundle.load(folder)
    bundle = find_bundle(gallery.fingerprint, gallery.path)
    _note(f"bundle: {bundle.manifest.name}, {bundle.folder}")
    return bundle


def _choose_first_bundle(folder: Path | None) -> Bundle:
    """Load the bundle named, or the packaged demo bundle with a warning."""
    from fcr_edge.bundle import Bundle
    from fcr_edge.identify import demo_folder

    if folder is not None:
        return Bundle.load(folder)
    bundle = Bundle.load(demo_folder() / "bundle")
    _warn(f"no --bundle given: taking the packaged {bundle.manifest.name} bundle, {DEMO_LIMIT}")
    return bundle


DEMO_LIMIT = "which was trained on simulated people only"


def _make_ready(bundle: Bundle, device: DeviceChoice) -> Identifier:
    from fcr_edge.identify import Identifier

    identifier = Identifier(bundle, device.value)
    for refusal in identifier.refusals:
        _note(f"device refused, {refusal}")
    _note(f"device: {identifier.device}")
    return identifier


def _enroll_with_progress(
    people: list[Enrolment], gallery: Gallery, identifier: Identifier
) -> EnrolReport:
    from fcr_edge.enroll import enroll as enroll_people

    try:
        with _progress("enrolling", len(people)) as tick:
            return enroll_people(people, gallery, identifier, tick)
    except KeyboardInterrupt:
        done = len(gallery.people())
        _warn(f"stopped: {done} people are in {gallery.path}; run the same command to go on")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _tell_enrolment(report: EnrolReport, gallery: Gallery) -> None:
    for refusal in report.refused:
        _warn(f"not enrolled: {refusal}")
    typer.echo(
        f"{report.people} people with {report.photos} photographs enrolled;"
        f" {len(gallery.people())} people in {gallery.path}"
    )
    if report.refused:
        raise typer.Exit(EXIT_ERROR)


def _print_candidates(result: IdentifyResult) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fcr_edge.report import LEAD

    found = result.search
    views = [made.view or "" for made in result.reconstructions] if result.fusion else []
    table = Table("rank", "person", "similarity", *views, "name")
    for candidate in found.candidates:
        person, similarity = candidate.person, f"{candidate.similarity:.4f}"
        cosines = [f"{match.similarity:.4f}" if match else "-" for match in candidate.matches]
        table.add_row(
            str(candidate.rank),
            escape(person.id),
            similarity,
            *(cosines if views else ()),
            escape(person.name),
        )
    console = Console()
    console.print(table)
    console.print(
        f"{found.mode} search of {found.people} people, recall {found.recall:.3f}"
        + (f", ef {found.ef_search}" if found.ef_search else "")
        + ("" if result.fusion else "; similarity is a cosine, not a probability")
        + f"; {sum(result.timings_ms.values()):.0f} ms",
        soft_wrap=True,
    )
    if result.fusion:
        console.print(f"{result.fusion}; it is not a probability", soft_wrap=True)
    console.print(LEAD, style="bold", soft_wrap=True)


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


def _describe(person: Person) -> str:
    details = (person.name, person.sex, person.birth_year, person.place, person.date)
    return "  ".join([person.id, *(str(detail) for detail in details if detail)])


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _warn(text: str) -> None:
    typer.secho(f"warning: {text}", fg="yellow", err=True)


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar with the time left on stderr; yields what to call after each step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)

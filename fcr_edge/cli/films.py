"""The commands that take a film: identify, reconstruct, preprocess, deidentify."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fcr_edge.cli.console import note, print_json, warn
from fcr_edge.cli.opening import (
    choose_bundle,
    choose_first_bundle,
    load_bundle,
    make_ready,
    open_gallery,
)
from fcr_edge.cli.options import (
    AgeOption,
    BmiOption,
    BundleOption,
    DeviceChoice,
    DeviceOption,
    ForceOption,
    GalleryOption,
    JsonOption,
    KeyFileOption,
    OnlyAgeOption,
    OnlyHeightOption,
    OnlySexOption,
    PassphraseOption,
    SexOption,
    SinceOption,
    UnsignedOption,
    UntilOption,
    ViewChoice,
    XrayArgument,
    read_among,
    read_conditions,
)

if TYPE_CHECKING:
    from fcr_edge.gallery import View
    from fcr_edge.gallery.records import Mode
    from fcr_edge.identify import IdentifyResult
    from fcr_edge.soft_tissue import Suppressor
    from fcr_edge.understanding import FilmModel


def identify(
    xrays: Annotated[
        list[Path],
        typer.Argument(
            metavar="XRAY...", help="One film of a skull, or two of one, from front and side."
        ),
    ],
    gallery: GalleryOption,
    view: Annotated[
        list[ViewChoice] | None,
        typer.Option(
            help="What each film shows, in their order; needed with two where the bundle has no"
            " film model."
        ),
    ] = None,
    bundle: BundleOption = None,
    allow_unsigned: UnsignedOption = False,
    sex: SexOption = None,
    age: AgeOption = None,
    bmi: BmiOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Candidates to list.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Folder for pictures and result.json.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every face.")] = False,
    only_sex: OnlySexOption = None,
    only_age: OnlyAgeOption = None,
    only_height: OnlyHeightOption = None,
    missing_since: SinceOption = "",
    missing_until: UntilOption = "",
    force: ForceOption = False,
    device: DeviceOption = DeviceChoice.auto,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rank the people of a gallery by similarity to the face made from an X-ray, or from two."""
    from fcr_edge import report

    views = cast("list[View]", [choice.value for choice in view]) if view else None
    conditions = read_conditions(sex, age, bmi)
    among = read_among(only_sex, only_age, only_height, missing_since, missing_until)
    if out is not None:
        report.make_folder(out)
    with contextlib.ExitStack() as stack:
        people = stack.enter_context(open_gallery(gallery, key_file, passphrase))
        identifier = stack.enter_context(
            make_ready(choose_bundle(bundle, people, allow_unsigned), device)
        )
        mode: Mode = "exact" if exact else "auto"
        result = identifier.identify(xrays, people, k, mode, conditions, views, force, among)
        if out is not None:
            report.write_report(result, people, out)
    for warning in result.warnings:
        warn(warning)
    if as_json:
        print_json({**report.make_record(result), "timings_ms": result.timings_ms})
    else:
        _print_candidates(result)
    if out is not None:
        note(f"written: {', '.join(report.list_files(result, out))}")


def reconstruct(
    xray: XrayArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="The face to write, a PNG file.")],
    bundle: BundleOption = None,
    allow_unsigned: UnsignedOption = False,
    sex: SexOption = None,
    age: AgeOption = None,
    bmi: BmiOption = None,
    force: ForceOption = False,
    device: DeviceOption = DeviceChoice.auto,
) -> None:
    """Make a face from an X-ray, without searching."""
    from fcr_edge import report
    from fcr_edge.conditions import describe_told

    conditions = read_conditions(sex, age, bmi)
    with make_ready(choose_first_bundle(bundle, allow_unsigned), device) as identifier:
        made = identifier.reconstruct(xray, conditions, force=force)
    report.write_face(out, made)
    for warning in made.warnings:
        warn(warning)
    if conditions.known:
        warn(describe_told(conditions))
    note(f"written: {out}, a generated face and not a photograph")


def preprocess(
    xray: XrayArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="The skull to write, a PNG file.")],
    bundle: BundleOption = None,
    allow_unsigned: UnsignedOption = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Soft-tissue recipe: learned-1, classical-2, classical-1 or none (the bundle's)."
        ),
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
        chosen, suppressor, film_model = _open_preparation(
            bundle, allow_unsigned, recipe, device, stack
        )
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
        warn(warning)
    if as_json:
        print_json(report.make_skull_record(read, understood, made))
    else:
        typer.echo("; ".join((*read.record.steps, *(understood.steps if understood else ()))))
    sure = "" if made.mean_confidence is None else f", mean confidence {made.mean_confidence:.2f}"
    note(f"written: {', '.join(written)}; recipe {chosen}{sure}")


def deidentify(
    source: Annotated[Path, typer.Argument(help="A film: DICOM, PNG, JPEG or TIFF.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The copy to write; not yet there.")],
    as_json: JsonOption = False,
) -> None:
    """Write a copy of a film without the patient's data; its pixels are not changed."""
    from fcr_edge.deidentify import deidentify as write_copy

    told = write_copy(source, out)
    for warning in told.warnings:
        warn(warning)
    if as_json:
        print_json({"schema": "fcr-deidentified/1", "file": str(out), **asdict(told)})
    else:
        typer.echo(f"{told.container}: {told.removed} entries removed, {len(told.kept)} kept")
    note(f"written: {out}; {source} is unchanged")


def _open_preparation(
    folder: Path | None,
    allow_unsigned: bool,
    recipe: str | None,
    device: DeviceChoice,
    stack: contextlib.ExitStack,
) -> tuple[str, Suppressor | None, FilmModel | None]:
    """Open the bundle's networks up to the skull; take the recipe asked for, else the bundle's."""
    from fcr_edge.identify import demo_folder
    from fcr_edge.manifest import LEARNED_RECIPE
    from fcr_edge.soft_tissue import open_suppressor
    from fcr_edge.understanding import open_film_model

    bundle = load_bundle(folder or demo_folder() / "bundle", allow_unsigned)
    note(f"bundle: {bundle.manifest.name}, {bundle.folder}")
    chosen = recipe or bundle.manifest.soft_tissue
    if chosen == LEARNED_RECIPE:
        bundle.model_bytes("suppressor")  # says where there is none
    suppressor = open_suppressor(bundle, device.value, stack)
    return chosen, suppressor, open_film_model(bundle, device.value, stack)


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
        + (f"; {found.excluded} not among those asked for" if found.excluded else "")
        + ("" if result.fusion else "; similarity is a cosine, not a probability")
        + f"; {sum(result.timings_ms.values()):.0f} ms",
        soft_wrap=True,
    )
    if result.fusion:
        console.print(f"{result.fusion}; it is not a probability", soft_wrap=True)
    console.print(LEAD, style="bold", soft_wrap=True)

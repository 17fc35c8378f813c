"""The commands that look after a gallery: enroll, list, show, remove."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcr_edge.cli.console import EXIT_ERROR, EXIT_INTERRUPTED, note, print_json, progress, warn
from fcr_edge.cli.opening import (
    choose_bundle,
    choose_first_bundle,
    create_gallery,
    make_ready,
    open_gallery,
)
from fcr_edge.cli.options import (
    BundleOption,
    DeviceChoice,
    DeviceOption,
    GalleryOption,
    JsonOption,
    KeyFileOption,
    OnlyAgeOption,
    OnlyHeightOption,
    OnlySexOption,
    PassphraseOption,
    PlainOption,
    SinceOption,
    UnsignedOption,
    UntilOption,
    read_among,
    read_new_key,
)
from fcr_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fcr_edge.enroll import Enrolment, EnrolReport
    from fcr_edge.gallery import Gallery, Person
    from fcr_edge.identify import Identifier


def enroll(
    source: Annotated[
        Path, typer.Argument(help="A folder with a folder or a picture a person, or a CSV file.")
    ],
    gallery: GalleryOption,
    bundle: BundleOption = None,
    allow_unsigned: UnsignedOption = False,
    device: DeviceOption = DeviceChoice.auto,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    plain: PlainOption = False,
    column: Annotated[
        list[str] | None,
        typer.Option(help="What the CSV file calls a column, e.g. name=Surname; repeat it."),
    ] = None,
    keep_originals: Annotated[
        bool,
        typer.Option("--keep-originals", help="Store the files, too, for embedders to come."),
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Let details replace those enrolled before.")
    ] = False,
) -> None:
    """Add people with their photographs to a gallery, made if it does not exist."""
    from fcr_edge.enroll import enroll as enroll_people
    from fcr_edge.enroll import list_people

    people, skipped = list_people(source, _read_columns(column or []))
    for path in skipped:
        warn(f"{path} is not taken for a photograph: skipped")
    with contextlib.ExitStack() as stack:
        if gallery.exists():
            opened = stack.enter_context(open_gallery(gallery, key_file, passphrase))
            identifier = stack.enter_context(
                make_ready(choose_bundle(bundle, opened, allow_unsigned), device)
            )
        else:
            key = read_new_key(key_file, passphrase, plain)
            identifier = stack.enter_context(
                make_ready(choose_first_bundle(bundle, allow_unsigned), device)
            )
            opened = stack.enter_context(create_gallery(gallery, identifier.bundle, key))
        enrol = functools.partial(enroll_people, update=update, keep_originals=keep_originals)
        report = _enroll_with_progress(people, opened, identifier, enrol)
        tell_enrolment(report, opened)


def list_gallery(
    gallery: GalleryOption,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    only_sex: OnlySexOption = None,
    only_age: OnlyAgeOption = None,
    only_height: OnlyHeightOption = None,
    missing_since: SinceOption = "",
    missing_until: UntilOption = "",
    as_json: JsonOption = False,
) -> None:
    """List everyone enrolled, or everyone who may be meant."""
    among = read_among(only_sex, only_age, only_height, missing_since, missing_until)
    with open_gallery(gallery, key_file, passphrase) as opened:
        people = [person for person in opened.people() if among.admits(person)]
    if as_json:
        print_json({"schema": "fcr-people/1", "people": [asdict(person) for person in people]})
        return
    for person in people:
        typer.echo(_describe(person))
    note(f"{len(people)} people in {gallery}")


def show_person(
    person: Annotated[str, typer.Argument(help="The person's id.")],
    gallery: GalleryOption,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is known of one person."""
    with open_gallery(gallery, key_file, passphrase) as opened:
        found, photos = opened.person(person), opened.photos(person)
    rows = [{"file": p.file_name, "view": p.view, "sha256": p.sha256} for p in photos]
    if as_json:
        print_json({"schema": "fcr-person/1", "person": asdict(found), "photos": rows})
        return
    for field, value in asdict(found).items():
        typer.echo(f"{field:12} {'' if value is None else value}")
    for row in rows:
        typer.echo(f"{'photo':12} {row['file']}  {row['view'] or 'view unknown'}  {row['sha256']}")


def remove_person(
    person: Annotated[str, typer.Argument(help="The person's id.")],
    gallery: GalleryOption,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a person, with all photographs and embeddings, for good."""
    with open_gallery(gallery, key_file, passphrase) as opened:
        found = opened.person(person)
        if not yes:
            typer.confirm(f"Remove {_describe(found)} for good?", abort=True, err=True)
        opened.remove(person)
        opened.pack()
    note(f"removed: {person}; copies of the file elsewhere still hold them")


def _read_columns(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise DataError(f"--column is {pair!r}: write ours=theirs, as name=Surname")
    return {ours.strip(): theirs for ours, theirs in (pair.split("=", 1) for pair in pairs)}


def _enroll_with_progress(
    people: list[Enrolment],
    gallery: Gallery,
    identifier: Identifier,
    enrol: Callable[..., EnrolReport],
) -> EnrolReport:
    try:
        with progress("enrolling", len(people)) as tick:
            return enrol(people, gallery, identifier, tick)
    except KeyboardInterrupt:
        done = len(gallery.people())
        warn(f"stopped: {done} people are in {gallery.path}; run the same command to go on")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def tell_enrolment(report: EnrolReport, gallery: Gallery) -> None:
    """Say what became of an enrolment; ends with status 3 where something was refused."""
    for refusal in report.refused:
        warn(f"not enrolled: {refusal}")
    for sentence in report.shared:
        warn(sentence)
    typer.echo(
        f"{report.people} people with {report.photos} photographs enrolled, {report.added} of them"
        f" new; {len(gallery.people())} people in {gallery.path}"
    )
    if report.refused:
        raise typer.Exit(EXIT_ERROR)


def _describe(person: Person) -> str:
    born = f"{person.birth_year}-{person.birth_year_to}" if person.birth_year_to else ""
    height = f"{person.height_cm} cm" if person.height_cm else ""
    years = born or person.birth_year
    details = (person.name, person.sex, years, height, person.place, person.date)
    return "  ".join([person.id, *(str(detail) for detail in details if detail)])

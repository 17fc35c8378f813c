"""A folder or a table of photographs becomes people in a gallery."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fcr_edge import imaging, photo
from fcr_edge.errors import DataError, FcrError, ImageError
from fcr_edge.gallery import Person, Photo

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from fcr_edge.gallery import Gallery
    from fcr_edge.gallery.records import View
    from fcr_edge.identify import Identifier

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff")
"""Endings of the files in a folder that are taken for photographs."""
REQUIRED_COLUMNS = {"person", "file"}
PERSON_COLUMNS = ("name", "sex", "birth_year", "place", "date", "notes")
COLUMNS = {*REQUIRED_COLUMNS, *PERSON_COLUMNS, "view"}

Choice = TypeVar("Choice", bound=str)


@dataclass(frozen=True)
class Enrolment:
    """One person to enrol, with the files of their photographs."""

    person: Person
    photos: tuple[tuple[Path, View | None], ...]


@dataclass(frozen=True)
class EnrolReport:
    """What became of an enrolment."""

    people: int
    """People now in the gallery who were asked for, whether enrolled now or before."""
    photos: int
    """Their photographs that were read."""
    refused: tuple[str, ...]
    """A sentence for every photograph that could not be read."""


def list_people(source: Path) -> tuple[list[Enrolment], list[Path]]:
    """List whom a folder or a table asks to enrol, and the files that are no photographs.

    A folder holds a folder a person, or a picture a person, named by the person's id. A table is a
    CSV file with the columns person and file (relative to the table), one row a photograph, and
    optionally name, sex (female or male), birth_year, place, date, notes and view (frontal or
    lateral).

    Raises DataError where a row is wrong or nobody is to be enrolled.
    """
    if source.is_dir():
        people, skipped = _list_folder(source)
    elif source.is_file():
        people, skipped = _list_table(source), []
    else:
        raise DataError(f"{source} does not exist: give a folder of photographs or a CSV file")
    if not people:
        raise DataError(
            f"{source} holds no photograph: give a folder with a folder or a picture a person,"
            f" ending in {', '.join(SUFFIXES)}, or a CSV file with the columns person and file"
        )
    return people, skipped


def enroll(
    people: Iterable[Enrolment],
    gallery: Gallery,
    identifier: Identifier,
    progress: Callable[[], None] = lambda: None,
) -> EnrolReport:
    """Embed and store the people one by one, each whole or not at all.

    A photograph that cannot be read is left out and reported; a person of whom none can be read is
    left out. Whoever is in the gallery with the same photographs already stays as they are, so an
    interrupted enrolment is finished by running it again. `progress` is called after each person.

    Raises GalleryError and DeviceError; the people enrolled until then stay.
    """
    gallery.require(identifier.bundle.fingerprint)
    enrolled = read = 0
    refused: list[str] = []
    for item in people:
        sources = _read_photos(item, refused)
        if sources and not _is_enrolled(item.person, sources, gallery):
            gallery.enroll(item.person, [_embed(source, identifier) for source in sources])
        enrolled, read = enrolled + bool(sources), read + len(sources)
        progress()
    return EnrolReport(enrolled, read, tuple(refused))


@dataclass(frozen=True)
class _Source:
    """A photograph that was read, and the hash of its file."""

    file_name: str
    view: View | None
    sha256: str
    face: UInt8[np.ndarray, "s s 3"]


def _read_photos(item: Enrolment, refused: list[str]) -> list[_Source]:
    sources = []
    for path, view in item.photos:
        try:
            data = imaging.read_file(path)
            face = photo.standardise(imaging.decode_picture(data, str(path)))
        except ImageError as err:
            refused.append(str(err))
        else:
            sources.append(_Source(path.name, view, hashlib.sha256(data).hexdigest(), face))
    return sources


def _is_enrolled(person: Person, sources: Sequence[_Source], gallery: Gallery) -> bool:
    known = {*gallery.photo_hashes(person.id)}
    everything_known = all(source.sha256 in known for source in sources)
    return everything_known and gallery.person(person.id) == person


def _embed(source: _Source, identifier: Identifier) -> Photo:
    return Photo(
        sha256=source.sha256,
        file_name=source.file_name,
        view=source.view,
        thumbnail=photo.encode_thumbnail(source.face),
        embedding=identifier.embed([source.face])[0],
    )


def _list_folder(folder: Path) -> tuple[list[Enrolment], list[Path]]:
    people: dict[str, list[Path]] = {}
    skipped = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        inside = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or len(inside.parts) > 2:
            skipped.append(path)
            continue
        people.setdefault(inside.parts[0] if len(inside.parts) == 2 else path.stem, []).append(
            path
        )
    listed = [
        Enrolment(Person(id=name), tuple((path, None) for path in paths))
        for name, paths in people.items()
    ]
    return listed, skipped


def _list_table(table: Path) -> list[Enrolment]:
    people: dict[str, Enrolment] = {}
    for line, row in enumerate(_read_rows(table), start=2):
        try:
            person, view = _parse_row(row)
        except (FcrError, ValueError) as err:
            raise DataError(f"{table}, line {line}: {err}") from err
        known = people.get(person.id, Enrolment(person, ()))
        if known.person != person:
            raise DataError(
                f"{table}, line {line}: person {person.id!r} is described otherwise than above:"
                " repeat the same name, sex, birth_year, place, date and notes"
            )
        entry = (table.parent / row["file"], view)
        people[person.id] = Enrolment(person, (*known.photos, entry))
    return list(people.values())


def _read_rows(table: Path) -> Sequence[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            _check_columns(table, reader.fieldnames or ())
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise DataError(f"{table} cannot be read as a CSV file in UTF-8: {err}") from err


def _check_columns(table: Path, columns: Sequence[str]) -> None:
    missing, unknown = REQUIRED_COLUMNS - {*columns}, {*columns} - COLUMNS
    if missing:
        raise DataError(
            f"{table} lacks the column {', '.join(sorted(missing))}:"
            " name the columns person and file in its first line"
        )
    if unknown:
        raise DataError(
            f"{table} has the unknown column {', '.join(sorted(unknown))}:"
            f" it may have {', '.join(sorted(COLUMNS))}"
        )


def _parse_row(row: dict[str, str]) -> tuple[Person, View | None]:
    if not row["file"]:
        raise DataError("the file is missing: name a photograph")
    values = {column: row.get(column, "").strip() for column in (*PERSON_COLUMNS, "view")}
    person = Person(
        id=row["person"].strip(),
        name=values["name"],
        sex=_parse_choice(values["sex"], ("female", "male")),
        birth_year=int(values["birth_year"]) if values["birth_year"] else None,
        place=values["place"],
        date=values["date"],
        notes=values["notes"],
    )
    return person, _parse_choice(values["view"], ("frontal", "lateral"))


def _parse_choice(text: str, choices: tuple[Choice, ...]) -> Choice | None:
    for choice in choices:
        if text.lower() == choice:
            return choice
    if text:
        raise DataError(
            f"{text!r} is not one of {', '.join(choices)}: correct it or leave it empty"
        )
    return None

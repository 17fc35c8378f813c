"""A folder or a table of photographs becomes people in a gallery."""

from __future__ import annotations

import csv
import functools
import hashlib
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from fcr_edge import imaging, photo
from fcr_edge.errors import DataError, FcrError, ImageError
from fcr_edge.gallery import Person, Photo
from fcr_edge.gallery.records import explain_difference

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from fcr_edge.gallery import Gallery
    from fcr_edge.gallery.records import View
    from fcr_edge.identify import Identifier

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff")
"""Endings of the files in a folder that are taken for photographs."""
REQUIRED_COLUMNS = {"person", "file"}
PERSON_COLUMNS = (
    *("name", "sex", "birth_year", "height_cm", "place", "date", "notes", "retain_until"),
)
COLUMNS = {*REQUIRED_COLUMNS, *PERSON_COLUMNS, "view"}

BATCH = 16
"""Photographs that are written together: a durable commit takes about as long as embedding one."""

Choice = TypeVar("Choice", bound=str)
_Read = TypeVar("_Read")


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
    """Their photographs that are in the gallery."""
    added: int
    """How many of these were not in it before."""
    refused: tuple[str, ...]
    """A sentence for every photograph, and for every person, that could not be enrolled."""
    shared: tuple[str, ...]
    """A sentence for every photograph that is enrolled for more than one person."""


def list_people(
    source: Path, columns: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[Enrolment], list[Path]]:
    """List whom a folder or a table asks to enrol, and the files that are no photographs.

    A folder holds a folder a person, or a picture a person, named by the person's id. A table is a
    CSV file with the columns person and file (relative to the table), one row a photograph, and
    optionally name, sex (female or male), birth_year ("1985" or "1985-1990"), height_cm, place,
    date, notes, retain_until and view (frontal or lateral). Where the table calls a column
    otherwise, `columns` says how; further columns are passed over then.

    Raises DataError where a row is wrong or nobody is to be enrolled.
    """
    if source.is_dir():
        people, skipped = _list_folder(source)
    elif source.is_file():
        people, skipped = _list_table(source, columns), []
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
    *,
    update: bool = False,
    keep_originals: bool = False,
) -> EnrolReport:
    """Embed and store people, some at a time, each whole or not at all.

    A photograph that is enrolled for the person already is not read again, so an interrupted
    enrolment is finished by running it again. One that cannot be read, or shows too little, is
    left out and reported; a person of whom none is left, too. Details other than those enrolled
    are reported and nothing of the person is changed, but with `update` they take their place.
    `keep_originals` stores the files, too, from which another embedder can start again one day.
    `progress` is called after each person.

    Raises GalleryError and DeviceError; the people stored until then stay.
    """
    gallery.require(identifier.bundle.fingerprint)
    clerk = Clerk(gallery, identifier, update=update)
    read = functools.partial(clerk.read, keep_originals=keep_originals)
    for person, photographs in _read_ahead(read, people):
        clerk.take(person, photographs)
        progress()
    return clerk.finish()


@dataclass(frozen=True)
class Photograph:
    """A photograph's file: known, refused or read."""

    file_name: str
    view: View | None
    sha256: str = ""
    face: UInt8[np.ndarray, "s s 3"] | None = None
    """None where it is known or refused."""
    quality: float = 0.0
    refusal: str = ""
    data: bytes = field(default=b"", repr=False)
    """The file, where it shall be kept."""


def read_photograph(
    data: bytes, file_name: str, view: View | None, where: str, *, keep: bool
) -> Photograph:
    """Decode a photograph's file and look whether it can tell anything.

    `where` stands for it in the sentence of a refusal; `keep` says whether the file is stored.
    """
    try:
        pixels = imaging.decode_picture(data, where)
        quality = photo.assess(pixels, where)
    except ImageError as err:
        return Photograph(file_name, view, refusal=str(err))
    sha256 = hashlib.sha256(data).hexdigest()
    face = photo.standardise(pixels)
    kept = data if keep else b""
    return Photograph(file_name, view, sha256, face, quality, data=kept)


class Clerk:
    """Takes people to enrol, and writes them some at a time."""

    def __init__(self, gallery: Gallery, identifier: Identifier, *, update: bool = False) -> None:
        self._gallery, self._identifier, self._update = gallery, identifier, update
        self._enrolled = {person.id: person for person in gallery.people()}
        self._owners = gallery.photo_owners()
        self._change = str(uuid.uuid4())
        self._waiting: list[tuple[Person, list[Photo]]] = []
        self._people = self._photos = self._added = 0
        self._refused: list[str] = []
        self._shared: list[str] = []

    def read(self, item: Enrolment, *, keep_originals: bool) -> tuple[Person, list[Photograph]]:
        """Read a person's photographs that are not known yet; in another thread than take."""
        return item.person, [
            self._read(item.person, *photo, keep_originals) for photo in item.photos
        ]

    def knows(self, person: Person, sha256: str) -> bool:
        """Tell whether a person is enrolled with this photograph already."""
        return person.id in self._owners.get(sha256, ())

    def take(self, person: Person, photographs: list[Photograph]) -> None:
        """Embed a person's photographs that were read, and write them when enough have come."""
        self._refused += [one.refusal for one in photographs if one.refusal]
        sound = [one for one in photographs if not one.refusal]
        before = self._enrolled.get(person.id)
        if before not in (None, person) and not self._update:
            self._refused.append(explain_difference(before, person))
            return
        fresh = {one.sha256: self._embed(one) for one in sound if one.face is not None}
        if before is None and not fresh:
            return
        self._people, self._photos = self._people + 1, self._photos + len(sound)
        if fresh or before != person:
            self._enrolled[person.id] = person
            self._waiting.append((person, list(fresh.values())))
        for sha256, made in fresh.items():
            self._note_owner(sha256, person, made.file_name)
        if sum(len(photos) for _, photos in self._waiting) >= BATCH:
            self._write()

    def finish(self) -> EnrolReport:
        """Write what waits, and say what became of everybody."""
        self._write()
        self._gallery.pack()
        return EnrolReport(
            self._people, self._photos, self._added, tuple(self._refused), tuple(self._shared)
        )

    def _read(self, person: Person, path: Path, view: View | None, keep: bool) -> Photograph:
        try:
            data = imaging.read_file(path)
        except ImageError as err:
            return Photograph(path.name, view, refusal=str(err))
        sha256 = hashlib.sha256(data).hexdigest()
        if self.knows(person, sha256):
            return Photograph(path.name, view, sha256)
        return read_photograph(data, path.name, view, str(path), keep=keep)

    def _embed(self, one: Photograph) -> Photo:
        assert one.face is not None
        return Photo(
            sha256=one.sha256,
            file_name=one.file_name,
            view=one.view,
            thumbnail=photo.encode_thumbnail(one.face),
            embedding=self._identifier.embed([one.face])[0],
            quality=one.quality,
            original=one.data,
        )

    def _note_owner(self, sha256: str, person: Person, file_name: str) -> None:
        owners = self._owners.setdefault(sha256, [])
        if owners:
            self._shared.append(
                f"{file_name} of {person.id} is also enrolled for {', '.join(owners)}: one of"
                " them is not in it, or they are one person"
            )
        owners.append(person.id)

    def _write(self) -> None:
        if self._waiting:
            self._added += self._gallery.enroll_all(
                self._waiting, update=self._update, change=self._change
            )
            self._waiting = []


def _read_ahead(read: Callable[[Enrolment], _Read], items: Iterable[Enrolment]) -> Iterator[_Read]:
    """Give what is read of each, the next one being read while the last is worked on."""
    with ThreadPoolExecutor(1) as reader:
        ahead: deque[Future[_Read]] = deque()
        for item in items:
            ahead.append(reader.submit(read, item))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


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


def _list_table(table: Path, columns: Mapping[str, str]) -> list[Enrolment]:
    people: dict[str, Enrolment] = {}
    for line, row in enumerate(_read_rows(table, columns), start=2):
        try:
            person, view = _parse_row(row)
        except (FcrError, ValueError) as err:
            raise DataError(f"{table}, line {line}: {err}") from err
        known = people.get(person.id, Enrolment(person, ()))
        if known.person != person:
            raise DataError(
                f"{table}, line {line}: person {person.id!r} is described otherwise than above:"
                f" repeat the same {', '.join(PERSON_COLUMNS)}"
            )
        entry = (table.parent / row["file"], view)
        people[person.id] = Enrolment(person, (*known.photos, entry))
    return list(people.values())


def _read_rows(table: Path, columns: Mapping[str, str]) -> Sequence[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            found = list(reader.fieldnames or ())
            if columns:
                names = _map_columns(table, found, columns)
                return [{name: row[names[name]] for name in names} for row in reader]
            _check_columns(table, found)
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise DataError(f"{table} cannot be read as a CSV file in UTF-8: {err}") from err


def _map_columns(table: Path, found: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Give our name of each column that is used, and the table's."""
    unknown, absent = {*columns} - COLUMNS, {*columns.values()} - {*found}
    if unknown:
        raise DataError(
            f"there is no column {', '.join(sorted(unknown))} to fill:"
            f" it may be {', '.join(sorted(COLUMNS))}"
        )
    if absent:
        raise DataError(
            f"{table} has no column {', '.join(sorted(absent))}: it has {', '.join(found)}"
        )
    names = {name: name for name in COLUMNS if name in found} | dict(columns)
    _check_columns(table, [*names])
    return names


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
    earliest, latest = _parse_years(values["birth_year"])
    person = Person(
        id=row["person"].strip(),
        name=values["name"],
        sex=_parse_choice(values["sex"], ("female", "male")),
        birth_year=earliest,
        birth_year_to=latest if latest != earliest else None,
        height_cm=_parse_number(values["height_cm"], "height_cm"),
        place=values["place"],
        date=values["date"],
        notes=values["notes"],
        retain_until=values["retain_until"],
    )
    return person, _parse_choice(values["view"], ("frontal", "lateral"))


def _parse_years(text: str) -> tuple[int | None, int | None]:
    """Read "1985" or "1985-1990"."""
    first, _, last = text.partition("-")
    earliest = _parse_number(first, "birth_year")
    return earliest, _parse_number(last, "birth_year") if last else earliest


def _parse_number(text: str, column: str) -> int | None:
    if not text.strip():
        return None
    if not text.strip().isdecimal():
        raise DataError(f"{column} is {text!r}: write a whole number or leave it empty")
    return int(text)


def _parse_choice(text: str, choices: tuple[Choice, ...]) -> Choice | None:
    for choice in choices:
        if text.lower() == choice:
            return choice
    if text:
        raise DataError(
            f"{text!r} is not one of {', '.join(choices)}: correct it or leave it empty"
        )
    return None

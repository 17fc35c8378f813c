"""The rows of a gallery, written and read as what they mean, every cell sealed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import numpy as np

from fcr_edge.errors import GalleryError
from fcr_edge.gallery.database import RESTORE
from fcr_edge.gallery.keys import ClearCells, DamagedCellError, Place
from fcr_edge.gallery.records import UNIT_TOLERANCE, Event, Person, Photo, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from jaxtyping import Float32

    from fcr_edge.gallery.database import Database
    from fcr_edge.gallery.keys import Cells
    from fcr_edge.gallery.records import Action

    Tell = Callable[[int, int], None]
    Step = tuple[int, dict[str, Any] | None, Sequence[Sequence[Any]] | None]
    """A person's row, and the details and photos before; None for somebody who was not there."""

_HEADER = Place("meta", 0, "header")
_STATE = Place("meta", 0, "state")
_PHOTO_CELLS = (
    Place("photo", 0, "details"),
    Place("photo", 0, "thumbnail"),
    Place("embedding", 0, "vector"),
    Place("original", 0, "data"),
)
_ROSTER_MODULUS = 1 << 256


@dataclass(frozen=True)
class Header:
    """What is set when a gallery is made; readable without the key."""

    uuid: str
    fingerprint: str
    dimension: int
    locks: list[dict[str, Any]] = field(default_factory=list)
    """The gallery's key, wrapped (see locks.py); empty in a gallery in clear."""

    @property
    def bound(self) -> bytes:
        """What a lock is bound to: it does not open beside another gallery's data."""
        return to_json([self.uuid, self.fingerprint, self.dimension])


@dataclass
class State:
    """What every change changes, and what the rows must agree with."""

    generation: int = 0
    """Changes so far."""
    next_row: int = 1
    """Next row number; none is used twice, or an old cell would open in a new row."""
    people: int = 0
    photos: int = 0
    roster: int = 0
    """Sum of a hash of every person's row: a row taken away, added or put back shows."""
    log_head: str = ""
    """Hash of the last log entry, hexadecimal."""
    events: int = 0
    """Entries of the log."""

    def take_row(self) -> int:
        """Give a row number that was never used."""
        self.next_row += 1
        return self.next_row - 1


@dataclass(frozen=True)
class Searched:
    """What a search is logged with."""

    films: tuple[str, ...]
    """SHA-256 of each film."""
    bundle: str
    """SHA-256 of the bundle's manifest."""
    candidates: tuple[str, ...]
    """Ids of people, the most similar first."""


class PhotoRef(NamedTuple):
    """What a person's row says of a photo, and the photo's rows must agree with."""

    row: int
    sha256: str
    """Of the source file."""
    content: str
    """Of details, thumbnail and embedding."""


@dataclass(frozen=True)
class Entry:
    """A person's row."""

    row: int
    details: dict[str, Any]
    """What makes a Person: of a large gallery only the candidates are ever looked at."""
    photos: tuple[PhotoRef, ...] = ()
    """In the order of enrolment."""

    @property
    def id(self) -> str:
        """The person's own."""
        found: str = self.details["id"]
        return found

    @functools.cached_property
    def person(self) -> Person:
        """Who it is."""
        return Person(**self.details)


def to_json(value: object) -> bytes:
    """Give the one JSON text of a value: sorted keys, ASCII, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def write_header(database: Database, header: Header) -> None:
    """Write the header, of a new gallery or anew."""
    # In clear, as it must be read before there is a key; damage shows, and forging it
    # keeps an encrypted gallery shut, for its lock is bound to it.
    sealed = ClearCells("").seal(to_json(dataclasses.asdict(header)), _HEADER)
    database.execute("INSERT OR REPLACE INTO meta VALUES ('header', ?)", sealed)


def read_header(database: Database) -> Header:
    """Read the header. Raises GalleryError if it is damaged."""
    rows = database.execute("SELECT value FROM meta WHERE key = 'header'")
    with expecting("the header", database.path):
        return Header(**json.loads(ClearCells("").unseal(rows[0][0], _HEADER)))


@contextlib.contextmanager
def expecting(what: str, path: Path) -> Iterator[None]:
    """Turn what a damaged or forged cell does to its reader into GalleryError."""
    try:
        yield
    except (DamagedCellError, LookupError, TypeError, ValueError) as err:
        raise GalleryError(f"{what} of gallery {path} is damaged: {RESTORE}") from err


def digest_photo(photo: Photo) -> str:
    """Hash all of a photo's content with SHA-256."""
    parts = [_describe(photo), photo.thumbnail, _vector_bytes(photo)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


class Tables:
    """Reads and writes rows inside the caller's transaction."""

    def __init__(self, database: Database, cells: Cells, dimension: int, operator: str) -> None:
        self._database = database
        self._cells = cells
        self._dimension = dimension
        self._operator = operator

    def read_state(self) -> State:
        """Read the state. Raises GalleryError if it is damaged."""
        rows = self._database.execute("SELECT value FROM meta WHERE key = 'state'")
        with self._expecting("the state"):
            found = json.loads(self._cells.unseal(rows[0][0], _STATE))
            # In schema 1 each change was one entry of the log, and nothing else was.
            return State(**{"events": found["generation"], **found})

    def write_state(self, state: State) -> None:
        """Write the state."""
        sealed = self._cells.seal(to_json(dataclasses.asdict(state)), _STATE)
        self._database.execute("INSERT OR REPLACE INTO meta VALUES ('state', ?)", sealed)

    def read_entries(self, state: State) -> list[Entry]:
        """Read everyone, in order of id. Raises GalleryError unless all are there and sound."""
        entries, roster = [], 0
        with self._expecting("a person"):
            for row, lookup, record in self._database.rows(
                "SELECT id, lookup, record FROM person"
            ):
                entries.append(self._to_entry(cast("int", row), lookup, record))
                roster += self._mark(cast("int", row), cast("bytes", record))
        if len(entries) != state.people or roster % _ROSTER_MODULUS != state.roster:
            raise GalleryError(
                f"gallery {self._database.path} is damaged, people are missing: {RESTORE}"
            )
        return sorted(entries, key=lambda entry: entry.id)

    def take_back(self, state: State, step: Step) -> tuple[Entry, int]:
        """Bring a person back to how things were; gives who it was and photos taken back."""
        row, details, photos = step
        sql = "SELECT lookup, record FROM person WHERE id = ?"
        with self._expecting("a person"):
            [(lookup, record)] = self._database.execute(sql, row)
            now = self._to_entry(row, lookup, record)
        if details is None:
            self.delete_entry(state, now)
            return now, len(now.photos)
        was = Entry(row, details, tuple(PhotoRef(*photo) for photo in photos or ()))
        added = [photo for photo in now.photos if photo not in was.photos]
        self._delete_photos(state, added)
        self.write_entry(state, was)
        return was, len(added)

    def find(self, person_id: str) -> Entry | None:
        """Read one person's row; None if there is none."""
        lookup = self._lookup(person_id)
        rows = self._database.execute("SELECT id, record FROM person WHERE lookup = ?", lookup)
        with self._expecting("a person"):
            return self._to_entry(cast("int", rows[0][0]), lookup, rows[0][1]) if rows else None

    def write_entry(self, state: State, entry: Entry) -> None:
        """Write a person's row, new or changed, and count it."""
        self._strike(state, entry.row)
        photos = entry.photos
        record = self._cells.seal(to_json([entry.details, photos]), _record_of(entry.row))
        self._database.execute(
            "INSERT INTO person VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET record = excluded.record",
            entry.row,
            self._lookup(entry.id),
            record,
        )
        state.people += 1
        state.roster = (state.roster + self._mark(entry.row, record)) % _ROSTER_MODULUS

    def delete_entry(self, state: State, entry: Entry) -> None:
        """Delete a person's row and the rows of all photos."""
        self._delete_photos(state, entry.photos)
        self._strike(state, entry.row)
        self._database.execute("DELETE FROM person WHERE id = ?", entry.row)

    def _delete_photos(self, state: State, photos: Sequence[PhotoRef]) -> None:
        for photo in photos:
            self._database.execute("DELETE FROM embedding WHERE photo = ?", photo.row)
            self._database.execute("DELETE FROM original WHERE photo = ?", photo.row)
            self._database.execute("DELETE FROM photo WHERE id = ?", photo.row)
        state.photos -= len(photos)

    def write_photo(self, state: State, row: int, photo: Photo) -> None:
        """Write the rows of a new photo."""
        seal = self._cells.seal
        details = seal(_describe(photo), Place("photo", row, "details"))
        thumbnail = seal(photo.thumbnail, Place("photo", row, "thumbnail"))
        vector = seal(_vector_bytes(photo), _vector_of(row))
        self._database.execute("INSERT INTO photo VALUES (?, ?, ?)", row, details, thumbnail)
        self._database.execute("INSERT INTO embedding VALUES (?, ?)", row, vector)
        if photo.original:
            data = seal(photo.original, _original_of(row))
            self._database.execute("INSERT INTO original VALUES (?, ?)", row, data)
        state.photos += 1

    def read_photo(self, ref: PhotoRef) -> Photo:
        """Read a photo. Raises GalleryError if it is missing or damaged."""
        rows = self._database.execute(
            "SELECT details, thumbnail, vector FROM photo JOIN embedding ON photo = id "
            "WHERE id = ?",
            ref.row,
        )
        with self._expecting("a photo"):
            details, thumbnail, vector = rows[0]
            return Photo(
                **json.loads(self._cells.unseal(details, Place("photo", ref.row, "details"))),
                thumbnail=self._cells.unseal(thumbnail, Place("photo", ref.row, "thumbnail")),
                embedding=self._to_vector(ref.row, vector),
            )

    def read_original(self, ref: PhotoRef) -> bytes | None:
        """Read a photo's source file; None where it was not kept.

        Raises GalleryError if it is damaged.
        """
        if not self._database.has("original"):
            return None
        sql = "SELECT data FROM original WHERE photo = ?"
        rows = self._database.execute(sql, ref.row)
        if not rows:
            return None
        with self._expecting("the original of a photo"):
            data = self._cells.unseal(rows[0][0], _original_of(ref.row))
            if hashlib.sha256(data).hexdigest() != ref.sha256:
                raise DamagedCellError
        return data

    def read_vectors(self, refs: list[PhotoRef]) -> Float32[np.ndarray, "n d"]:
        """Read the embeddings of all photos, in the order given.

        Raises GalleryError unless the file holds exactly these, undamaged.
        """
        slots = {ref.row: slot for slot, ref in enumerate(refs)}
        matrix = np.empty((len(refs), self._dimension), dtype="<f4")
        rows = matrix.view(np.uint8)
        with self._expecting("an embedding"):
            for row, vector in self._database.rows("SELECT photo, vector FROM embedding"):
                number = cast("int", row)
                plain = self._cells.unseal(vector, _vector_of(number))
                if len(plain) != rows.shape[1]:
                    raise DamagedCellError
                rows[slots.pop(number)] = np.frombuffer(plain, np.uint8)
            squares = np.einsum("nd,nd->n", matrix, matrix)
            # Twice what enrolment allows, as these are summed in float32. NaN fails too.
            if slots or not (np.abs(np.sqrt(squares) - 1) <= 2 * UNIT_TOLERANCE).all():
                raise DamagedCellError
        return matrix.astype(np.float32, copy=False)

    def read_views(self, refs: list[PhotoRef]) -> list[View | None]:
        """Read which view each photo shows, in the order given; None where it is not known.

        Raises GalleryError unless the file holds exactly these, undamaged.
        """
        slots = {ref.row: slot for slot, ref in enumerate(refs)}
        views: list[View | None] = [None] * len(refs)
        with self._expecting("a photo"):
            for row, details in self._database.rows("SELECT id, details FROM photo"):
                number = cast("int", row)
                plain = self._cells.unseal(details, Place("photo", number, "details"))
                views[slots.pop(number)] = json.loads(plain)["view"]
            if slots or not {*views} <= {None, *get_args(View)}:
                raise DamagedCellError
        return views

    def append_event(
        self,
        state: State,
        action: Action,
        person_id: str = "",
        photos: int = 0,
        searched: Searched | None = None,
    ) -> None:
        """Log a change, and count it, or a search: each entry hashes the one before."""
        state.generation += searched is None
        event = Event(
            number=state.events + 1,
            generation=state.generation,
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            action=action,
            operator=self._operator,
            person=self.hash_id(person_id) if person_id else "",
            photos=photos,
            films=searched.films if searched else (),
            bundle=searched.bundle if searched else "",
            candidates=tuple(map(self.hash_id, searched.candidates)) if searched else (),
        )
        self._write_event(state, event)

    def hash_id(self, person_id: str) -> str:
        """Give the hash by which the log names a person."""
        return self._lookup(person_id).hex()

    def rekey(self, cells: Cells, state: State, tell: Tell) -> Tables:
        """Seal every cell anew, and give the tables that read them.

        `tell` is called with (photos done, all). Raises GalleryError unless everything is there
        and sound.
        """
        fresh = Tables(self._database, cells, self._dimension, self._operator)
        events, entries = self.read_events(state), self.read_entries(state)
        photos = [photo.row for entry in entries for photo in entry.photos]
        self._database.execute("DELETE FROM person")
        self._database.execute("DELETE FROM log")
        state.people, state.roster, state.log_head, state.events = 0, 0, "", 0
        for entry in entries:
            fresh.write_entry(state, entry)
        people = [entry.id for entry in entries]
        renamed = {self.hash_id(one): fresh.hash_id(one) for one in people}
        for event in events:
            who = renamed.get(event.person, event.person)
            found = tuple(renamed.get(one, one) for one in event.candidates)
            fresh._write_event(state, dataclasses.replace(event, person=who, candidates=found))
        for done, row in enumerate(photos):
            tell(done, len(photos))
            for place in _PHOTO_CELLS:
                self._reseal(cells, place._replace(row=row))
        return fresh

    def _reseal(self, cells: Cells, place: Place) -> None:
        """Seal one cell of a photo anew."""
        key = "id" if place.table == "photo" else "photo"
        where = f"{place.table} WHERE {key} = ?"  # names of our own, see _PHOTO_CELLS
        with self._expecting("a photo"):
            rows = self._database.execute(f"SELECT {place.column} FROM {where}", place.row)
            if not rows and place.table == "original":
                return  # it was not kept
            plain = self._cells.unseal(rows[0][0], place)
        self._database.execute(
            f"UPDATE {place.table} SET {place.column} = ? WHERE {key} = ?",
            cells.seal(plain, place),
            place.row,
        )

    def _write_event(self, state: State, event: Event) -> None:
        content = {name: value for name, value in vars(event).items() if name != "hash"}
        sealed = self._cells.seal(to_json(content), _event_of(event.number))
        link = _link(bytes.fromhex(state.log_head), sealed)
        state.log_head, state.events = link.hex(), event.number
        self._database.execute("INSERT INTO log VALUES (?, ?, ?)", event.number, sealed, link)

    def read_events(self, state: State) -> list[Event]:
        """Read the log, oldest first. Raises GalleryError if one was changed or is missing."""
        events, link = [], b""
        with self._expecting("the log"):
            for row, sealed, hashed in self._database.rows("SELECT * FROM log ORDER BY id"):
                plain = self._cells.unseal(sealed, _event_of(cast("int", row)))
                link = _link(link, cast("bytes", sealed))
                if link != hashed:
                    raise DamagedCellError
                events.append(_to_event({**json.loads(plain), "hash": link.hex()}))
            if link.hex() != state.log_head or len(events) != state.events:
                raise DamagedCellError
        return events

    def _expecting(self, what: str) -> contextlib.AbstractContextManager[None]:
        return expecting(what, self._database.path)

    def _lookup(self, person_id: str) -> bytes:
        return self._cells.fingerprint(b"person id " + person_id.encode("utf-8", "surrogatepass"))

    def _mark(self, row: int, record: bytes) -> int:
        return int.from_bytes(self._cells.fingerprint(b"roster %d " % row + record), "big")

    def _strike(self, state: State, row: int) -> None:
        """Take a person's row, if there is one, off the roster."""
        for (record,) in self._database.execute("SELECT record FROM person WHERE id = ?", row):
            state.people -= 1
            state.roster = (
                state.roster - self._mark(row, cast("bytes", record))
            ) % _ROSTER_MODULUS

    def _to_entry(self, row: int, lookup: object, record: object) -> Entry:
        """Read a person's row; what raises is for _expecting to explain."""
        person, photos = json.loads(self._cells.unseal(record, _record_of(row)).decode())
        entry = Entry(row, person, tuple(PhotoRef(*photo) for photo in photos))
        if lookup != self._lookup(entry.id):
            raise DamagedCellError
        return entry

    def _to_vector(self, row: int, sealed: object) -> Float32[np.ndarray, " d"]:
        plain = self._cells.unseal(sealed, _vector_of(row))
        vector = np.frombuffer(plain, dtype="<f4").astype(np.float32)
        if len(vector) != self._dimension:
            raise DamagedCellError
        return vector


def _record_of(row: int) -> Place:
    return Place("person", row, "record")


def _vector_of(row: int) -> Place:
    return Place("embedding", row, "vector")


def _original_of(row: int) -> Place:
    return Place("original", row, "data")


def _event_of(row: int) -> Place:
    return Place("log", row, "event")


def _to_event(found: dict[str, Any]) -> Event:
    lists = {name: tuple(found.get(name, ())) for name in ("films", "candidates")}
    return Event(**{"number": found["generation"], **found, **lists})  # schema 1 had no number


def _describe(photo: Photo) -> bytes:
    names = ("sha256", "file_name", "view", "quality")
    return to_json({name: getattr(photo, name) for name in names})


def _vector_bytes(photo: Photo) -> bytes:
    return photo.embedding.astype("<f4").tobytes()


def _link(previous: bytes, sealed: bytes) -> bytes:
    return hashlib.sha256(previous + sealed).digest()

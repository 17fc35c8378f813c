"""The gallery of missing people in one file, db.bin: enroll, list, remove, search."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import getpass
import hashlib
import platform
import uuid
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.errors import GalleryError
from fcr_edge.gallery.among import EVERYBODY, Among
from fcr_edge.gallery.caches import Caches
from fcr_edge.gallery.database import RESTORE, Database
from fcr_edge.gallery.keys import ClearCells, SealedCells
from fcr_edge.gallery.locks import (
    name_kind,
    new_gallery_key,
    unwrap_key,
    wrap_for_headquarters,
    wrap_key,
)
from fcr_edge.gallery.records import (
    Health,
    Removal,
    SearchResult,
    Undone,
    check_unit,
    explain_difference,
)
from fcr_edge.gallery.search import ExactSearcher, Faces, Index, rank, rank_together, to_unit
from fcr_edge.gallery.snapshot import Snapshot
from fcr_edge.gallery.tables import (
    Entry,
    Header,
    PhotoRef,
    Searched,
    State,
    Tables,
    digest_photo,
    expecting,
    read_header,
    to_json,
    write_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from jaxtyping import Bool, Float32

    from fcr_edge.gallery.keys import Cells
    from fcr_edge.gallery.locks import Key
    from fcr_edge.gallery.records import Event, Mode, Person, Photo, Probe
    from fcr_edge.gallery.tables import Step, Tell

    Ask = Callable[[list[str]], Key | None]

MAX_DIMENSION = 65_536
PACKED_FROM = 1_000
"""People from which on a gallery is worth packing: these take 30 ms to read one by one."""


class Gallery:
    """People and the embeddings of their photos, in one crash-safe file.

    Use it as a context manager, in one thread. Every change is one transaction: it is in the file
    when the call returns, and nothing of it is if the process dies before.

        with Gallery.open(Path("db.bin")) as gallery:
            gallery.require(bundle.fingerprint)
            result = gallery.search(probe, k=10)
    """

    def __init__(
        self, database: Database, header: Header, cells: Cells, operator: str | None
    ) -> None:
        """Use create or open."""
        self._who = name_operator() if operator is None else operator
        self._database = database
        self._header = header
        self._cells = cells
        self._tables = Tables(database, cells, header.dimension, self._who)
        self._caches = Caches(database, cells)
        self._snapshot = Snapshot(generation=-1)

    @classmethod
    def create(
        cls,
        path: Path,
        fingerprint: str,
        dimension: int,
        key: str | bytes | None = None,
        headquarters: bytes | None = None,
        operator: str | None = None,
    ) -> Gallery:
        """Make a new, empty gallery.

        Args:
            path: The file; it must not exist.
            fingerprint: Of the embedder (see Bundle.fingerprint); no other is accepted later.
            dimension: Length of an embedding, 1 to 65,536.
            key: A passphrase, or the 32 bytes of read_key_file; None leaves all in clear.
            headquarters: A public key whose owner can open the gallery, too (see
                read_headquarters_public_key).
            operator: Whom the log names; None for the account and the machine.

        Raises:
            GalleryError: The file exists or cannot be written, or an argument cannot be used.
        """
        if not fingerprint or not 1 <= dimension <= MAX_DIMENSION:
            raise GalleryError(
                f"embedder {fingerprint!r} of dimension {dimension} cannot be enrolled with: a "
                f"fingerprint and a dimension of 1 to {MAX_DIMENSION} are needed"
            )
        header, cells = _lock(Header(str(uuid.uuid4()), fingerprint, dimension), key, headquarters)
        database = Database.create(path)
        gallery = cls(database, header, cells, operator)
        try:
            with database.transaction(write=True):
                database.write_schema()
                write_header(database, header)
                gallery._tables.write_state(State())
        except BaseException:
            database.close()
            path.unlink(missing_ok=True)  # made above, and nothing is in it
            raise
        return gallery

    @classmethod
    def open(
        cls,
        path: Path,
        key: Key | None = None,
        ask: Ask = lambda kinds: None,
        operator: str | None = None,
    ) -> Gallery:
        """Open a gallery, after checking the whole file.

        Args:
            path: The file.
            key: What the gallery was locked with, or headquarters' key; None for one in clear.
            ask: Called where no key was given and one is needed, with the kinds of lock it has
                ("passphrase", "key-file", "headquarters").
            operator: Whom the log names; None for the account and the machine.

        Raises:
            GalleryError: The file is missing, damaged, of another kind or newer than this
                program, or the key is missing, wrong or not needed.
        """
        database = Database.open(path)
        try:
            header = read_header(database)
            gallery = cls(database, header, _unlock(header, key, ask, path), operator)
            gallery._read_state()
        except BaseException:
            database.close()
            raise
        return gallery

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let go of what was read from it."""
        self._snapshot = Snapshot(generation=-1)
        self._database.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    @property
    def encrypted(self) -> bool:
        """Whether people, photos and embeddings are unreadable without the key."""
        return self._cells.encrypted

    @property
    def fingerprint(self) -> str:
        """The embedder that all photos were enrolled with."""
        return self._header.fingerprint

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._header.dimension

    @property
    def generation(self) -> int:
        """How many changes were made: an older copy of the file has a lower number."""
        return self._read_state().generation

    @property
    def digest(self) -> str:
        """SHA-256 of the content: embedder, people and photos, in hexadecimal.

        Two galleries with the same people and photos have the same digest, in whatever order and
        whenever they were enrolled, encrypted or not.
        """
        content = hashlib.sha256(to_json(["fcr-gallery/1", self.fingerprint, self.dimension]))
        content.update(self._read().digest)
        return content.hexdigest()

    def require(self, fingerprint: str) -> None:
        """Raise GalleryError unless the gallery was enrolled with this embedder."""
        if fingerprint != self.fingerprint:
            raise GalleryError(
                f"gallery {self.path} was enrolled with embedder {self.fingerprint[:12]}, this "
                f"bundle has {fingerprint[:12]}: enroll again or pass the matching bundle"
            )

    def enroll(self, person: Person, photos: Sequence[Photo], *, update: bool = False) -> int:
        """Add a person with photos, or photos to a person, and give the number of photos added.

        A photo is known by its SHA-256: one that the person has already is left as it is, so an
        enrolment that was cut short is simply run again. The details of a person already enrolled
        change only with `update`.

        Raises:
            GalleryError: A new person without photos, an embedding that is not a unit vector of
                this gallery's length, other details than those enrolled, or a file that cannot
                be written.
        """
        return self.enroll_all([(person, photos)], update=update)

    def enroll_all(
        self,
        people: Sequence[tuple[Person, Sequence[Photo]]],
        *,
        update: bool = False,
        change: str | None = None,
    ) -> int:
        """Enroll several people in one transaction, as enroll does: all of them or nobody.

        A durable commit takes about as long as embedding a face, so many people at once cost less.
        Transactions with the same `change`, one after the other, are taken back together (undo).
        """
        for _, photos in people:
            for photo in photos:
                check_unit(photo.embedding, self.dimension, f"embedding of {photo.file_name!r}")
        with self._changing(undoable=True) as state:
            before = state.generation
            steps: list[Step] = []
            added = sum(self._enroll(state, *item, steps, update=update) for item in people)
            if steps:
                name = change or str(uuid.uuid4())
                self._caches.write_undo(name, before, state.generation, steps)
            return added

    def undo(self) -> Undone:
        """Take back the last change, if it was an enrolment, an update or a merge.

        Raises GalleryError where it was anything else: nothing of a person who was removed stays
        in the file, so that only a copy of it brings them back.
        """
        with self._changing() as state:
            steps = self._caches.read_undo(state)
            if not steps:
                raise GalleryError(
                    f"the last change of gallery {self.path} was no enrolment, and cannot be taken"
                    " back: restore a copy (fcr-edge gallery restore)"
                )
            done = [(step, *self._tables.take_back(state, step)) for step in reversed(steps)]
            photos = sum(count for _, _, count in done)
            self._tables.append_event(state, "undo", photos=photos)
        gone = {entry.id for (_, details, _), entry, _ in done if details is None}
        kept = {entry.id for _, entry, _ in done} - gone
        return Undone(tuple(sorted(gone)), tuple(sorted(kept)), photos)

    def people(self) -> list[Person]:
        """Give everyone enrolled, in order of id."""
        return [entry.person for entry in self._read().entries]

    def person(self, person_id: str) -> Person:
        """Give one person. Raises GalleryError, naming similar ids, if there is none."""
        return self._get(person_id).person

    def photos(self, person_id: str) -> list[Photo]:
        """Give a person's photos in the order of enrolment. Raises GalleryError as person does."""
        with self._database.transaction(write=False):
            return [self._tables.read_photo(photo) for photo in self._get(person_id).photos]

    def original(self, person_id: str, sha256: str) -> bytes | None:
        """Give the source file of a person's photo; None where it was not kept.

        Raises GalleryError as person does, and where the person has no such photo.
        """
        with self._database.transaction(write=False):
            for ref in self._get(person_id).photos:
                if ref.sha256 == sha256:
                    return self._tables.read_original(ref)
        raise GalleryError(f"person {person_id!r} has no photo {sha256}: see gallery show")

    def photo_owners(self) -> dict[str, list[str]]:
        """Give the ids of the people that each photo, by its SHA-256, is enrolled for."""
        owners: dict[str, list[str]] = {}
        for entry in self._read().entries:
            for photo in entry.photos:
                owners.setdefault(photo.sha256, []).append(entry.id)
        return owners

    def remove(self, person_id: str) -> Person:
        """Delete a person with all photos and embeddings, for good, and say who it was.

        Nothing of them stays in the file. Copies of the file, and what a disk keeps of blocks it
        has overwritten, are beyond reach. Raises GalleryError as person does.
        """
        person = self.person(person_id)
        self.remove_all([person_id])
        return person

    def remove_all(
        self, person_ids: Sequence[str], attest: Callable[[Removal], None] = lambda done: None
    ) -> None:
        """Delete several people in one transaction, as remove does: all of them or nobody.

        `attest` is called when they are deleted and nothing is committed yet; should it raise,
        everybody stays. Raises GalleryError as person does.
        """
        with self._changing() as state:
            gone = []
            for entry in [self._get(person_id) for person_id in person_ids]:
                self._tables.delete_entry(state, entry)
                self._tables.append_event(state, "remove", entry.id, len(entry.photos))
                gone.append((self._tables.hash_id(entry.id), len(entry.photos)))
            attest(
                Removal(self._header.uuid, tuple(gone), state.events, state.log_head, self._who)
            )

    def rekey(
        self,
        key: str | bytes | None,
        headquarters: bytes | None = None,
        tell: Tell = lambda done, total: None,
    ) -> None:
        """Draw a new key for the gallery, seal every cell anew with it, and change its locks.

        All in one transaction: a process that dies leaves the gallery as it was. Older copies of
        the file still open with what opened them.

        Args:
            key: The passphrase or key file from now on; None leaves all in clear.
            headquarters: A public key whose owner can open the gallery, too.
            tell: Called with (photos done, all).

        Raises GalleryError as create, and where the gallery is damaged.
        """
        header, cells = _lock(dataclasses.replace(self._header, locks=[]), key, headquarters)
        with self._database.transaction(write=True):
            state = self._read_state()
            self._caches.drop_pack()
            self._caches.drop_undo()
            tables = self._tables.rekey(cells, state, tell)
            tables.append_event(state, "rekey", "", state.photos)
            tables.write_state(state)
            write_header(self._database, header)
        self._header, self._cells, self._tables = header, cells, tables
        self._caches = Caches(self._database, cells)
        self._snapshot = Snapshot(generation=-1)

    def verify(self, tell: Tell = lambda done, total: None) -> Health:
        """Read everything there is, and compare it with what it was when it was written.

        `tell` is called with (photos done, all). Raises GalleryError, naming the photo or the
        person, where something is missing, changed, or too much.
        """
        with self._database.transaction(write=False):
            state = self._read_state()
            entries = self._tables.read_entries(state)
            self._tables.read_events(state)
            photos = [(entry, ref) for entry in entries for ref in entry.photos]
            for done, (entry, ref) in enumerate(photos):
                tell(done, len(photos))
                self._tables.read_original(ref)
                if digest_photo(self._tables.read_photo(ref)) != ref.content:
                    raise GalleryError(
                        f"gallery {self.path} is damaged: a photo of {entry.id} is not what"
                        f" was enrolled: {RESTORE}"
                    )
            refs = [ref for _, ref in photos]
            self._tables.read_vectors(refs)
            self._tables.read_views(refs)
            packed = self._caches.read_pack(state)
            if packed is not None and packed != (entries, Snapshot(0, entries).digest):
                raise GalleryError(
                    f"gallery {self.path} is damaged: its people are not those that were packed:"
                    f" {RESTORE}"
                )
        return Health(
            people=len(entries),
            photos=len(photos),
            generation=state.generation,
            digest=self.digest,
            locks=tuple(str(lock["kind"]) for lock in self._header.locks),
        )

    def compact(self) -> int:
        """Give back the room that removed people left; gives how many bytes."""
        before = self.path.stat().st_size
        self._database.compact()
        return before - self.path.stat().st_size

    def log_search(self, films: Sequence[str], bundle: str, candidates: Sequence[str]) -> None:
        """Enter a search into the log.

        Args:
            films: SHA-256 of each film.
            bundle: SHA-256 of the manifest of the bundle.
            candidates: Ids of the people found, the most similar first.

        Raises GalleryError where the file cannot be written.
        """
        with self._changing() as state:
            searched = Searched(tuple(films), bundle, tuple(candidates))
            self._tables.append_event(state, "search", searched=searched)

    def name_hashes(self) -> dict[str, str]:
        """Give the ids of everybody enrolled by the hashes that stand for them in the log."""
        return {self._tables.hash_id(entry.id): entry.id for entry in self._read().entries}

    def pack(self) -> None:
        """Write down everyone together, after which a large gallery opens in less time.

        The next change drops it. Small galleries need none.
        """
        snapshot = self._read()
        if len(snapshot.entries) < PACKED_FROM:
            return
        with self._database.transaction(write=True):
            state = self._read_state()
            if state.generation == snapshot.generation:  # nobody came in between
                self._caches.write_pack(state, snapshot.entries, snapshot.digest)

    def history(self) -> list[Event]:
        """Give every change and search, oldest first.

        Raises GalleryError if the log was tampered with.
        """
        with self._database.transaction(write=False):
            return self._tables.read_events(self._read_state())

    def search(
        self,
        embedding: Float32[np.ndarray, " d"],
        k: int = 10,
        mode: Mode = "auto",
        among: Among = EVERYBODY,
    ) -> SearchResult:
        """Find the people whose photos are most similar to a probe.

        Args:
            embedding: The probe, a unit vector made by this gallery's embedder.
            k: How many candidates, 1 or more; fewer come back where fewer are enrolled.
            mode: "exact" compares every face; "hnsw" asks a graph, built at the first such search,
                and orders exactly what it proposes; "auto" is exact up to a million
                faces. Confined to some people every search is exact.
            among: Whom the search is confined to.

        Raises:
            GalleryError: The gallery is empty or damaged, nobody in it is among those asked for,
                or an argument cannot be used.
        """
        if k < 1 or mode not in ("auto", "exact", "hnsw"):
            raise GalleryError(f"k={k}, mode={mode!r}: k is 1 or more, mode auto, exact or hnsw")
        check_unit(embedding, self.dimension, "embedding of the probe")
        snapshot = self._read(faces=True)
        if snapshot.index is None:
            raise GalleryError(f"gallery {self.path} is empty: enroll people first")
        probe, faces = to_unit(embedding), snapshot.index.faces
        admitted = self._admit(snapshot, among)
        if admitted is not None:
            ranking = rank(faces, ExactSearcher(faces).propose(probe, k, admitted), probe, k)
            people = int(admitted.sum())
            excluded = len(snapshot.entries) - people
            return SearchResult(
                snapshot.to_candidates(ranking), "exact", None, 1.0, people, excluded=excluded
            )
        searcher = snapshot.index.searcher(mode)
        ranking = rank(faces, searcher.propose(probe, k), probe, k)
        return SearchResult(
            candidates=snapshot.to_candidates(ranking),
            mode=searcher.mode,
            ef_search=searcher.ef_search(k),
            recall=searcher.recall(k),
            people=len(snapshot.entries),
        )

    def search_together(
        self, probes: Sequence[Probe], k: int = 10, among: Among = EVERYBODY
    ) -> SearchResult:
        """Find the people most similar to several films of one skull; every face is compared.

        Args:
            probes: The face of each film, with its view and scale; embeddings as in search.
            k: How many candidates, 1 or more; fewer come back where fewer can be compared.
            among: Whom the search is confined to.

        Raises:
            GalleryError: The gallery is empty, damaged or without a photo of these views, or an
                argument cannot be used.
        """
        if k < 1 or not probes:
            raise GalleryError(f"k={k}, {len(probes)} probes: both are 1 or more")
        for probe in probes:
            check_unit(probe.embedding, self.dimension, f"embedding of the {probe.view} probe")
        snapshot = self._read(faces=True, views=True)
        if snapshot.index is None or snapshot.views is None:
            raise GalleryError(f"gallery {self.path} is empty: enroll people first")
        admitted = self._admit(snapshot, among)
        ranking = rank_together(snapshot.index.faces, snapshot.views, probes, k, admitted)
        if not ranking.people:
            shown = " or ".join(sorted({probe.view for probe in probes}))
            raise GalleryError(
                f"gallery {self.path} has no {shown} photo: search with a film of another view, or"
                " enroll photos of this one"
            )
        excluded = 0 if admitted is None else int((~admitted).sum())
        return SearchResult(
            candidates=snapshot.to_joint_candidates(ranking),
            mode="exact",
            ef_search=None,
            recall=1.0,
            people=ranking.people,
            passed_over=len(snapshot.entries) - excluded - ranking.people,
            excluded=excluded,
        )

    def _admit(self, snapshot: Snapshot, among: Among) -> Bool[np.ndarray, " p"] | None:
        """Say of everybody whether they are asked for; None if everybody is."""
        if among.everybody:
            return None
        admitted = np.array([among.admits(entry.person) for entry in snapshot.entries])
        if not admitted.any():
            raise GalleryError(
                f"none of the {len(admitted)} people in gallery {self.path} is among those asked"
                " for: ask for a wider span, or for everybody"
            )
        return admitted

    def _read_state(self) -> State:
        try:
            return self._tables.read_state()
        except GalleryError:
            if read_header(self._database) != self._header:
                raise GalleryError(
                    f"gallery {self.path} has got another key since it was opened: open it again"
                ) from None
            raise

    @contextlib.contextmanager
    def _changing(self, *, undoable: bool = False) -> Iterator[State]:
        """Run a block as one change of the gallery: all of it, or nothing."""
        with self._database.transaction(write=True):
            state = self._read_state()
            events, generation = state.events, state.generation
            yield state
            if state.generation != generation:
                self._caches.drop_pack()
                if not undoable:
                    self._caches.drop_undo()
            if state.events != events:
                self._tables.write_state(state)

    def _enroll(
        self,
        state: State,
        person: Person,
        photos: Sequence[Photo],
        steps: list[Step],
        *,
        update: bool,
    ) -> int:
        """Add a person's new photos, and change the details, if need be; note how it was."""
        entry = self._tables.find(person.id)
        if entry is None and not photos:
            raise GalleryError(f"person {person.id!r} has no photo: enroll at least one")
        if entry is not None and entry.person != person and not update:
            raise GalleryError(explain_difference(entry.person, person))
        known = {photo.sha256 for photo in entry.photos} if entry else set()
        fresh = {photo.sha256: photo for photo in photos if photo.sha256 not in known}
        if entry is None or entry.person != person or fresh:
            row = self._add(state, person, entry, list(fresh.values()))
            steps.append((row, *((entry.details, entry.photos) if entry else (None, None))))
        return len(fresh)

    def _add(self, state: State, person: Person, known: Entry | None, fresh: list[Photo]) -> int:
        """Write a person with photos to add, and log it; gives the row."""
        row = known.row if known else state.take_row()
        new = [PhotoRef(state.take_row(), photo.sha256, digest_photo(photo)) for photo in fresh]
        entry = Entry(row, person.to_dict(), (*(known.photos if known else ()), *new))
        self._tables.write_entry(state, entry)
        for ref, photo in zip(new, fresh, strict=True):
            self._tables.write_photo(state, ref.row, photo)
        self._tables.append_event(state, "enroll", person.id, len(fresh))
        return row

    def _get(self, person_id: str) -> Entry:
        entry = self._tables.find(person_id)
        if entry is None:
            raise GalleryError(self._explain_unknown(person_id))
        return entry

    def _explain_unknown(self, person_id: str) -> str:
        entries = self._tables.read_entries(self._read_state())
        similar = difflib.get_close_matches(person_id, [entry.id for entry in entries])
        hint = f"did you mean {' or '.join(similar)}? " if similar else ""
        return (
            f"there is no person {person_id!r} in gallery {self.path}: {hint}"
            "fcr-edge gallery list shows everyone"
        )

    def _read(self, *, faces: bool = False, views: bool = False) -> Snapshot:
        """Give the content as of now, reading it again only if it was changed since."""
        with self._database.transaction(write=False):
            state = self._read_state()
            if self._snapshot.generation != state.generation:
                packed = self._caches.read_pack(state)
                entries, digest = packed or (self._tables.read_entries(state), None)
                self._snapshot = Snapshot(state.generation, entries, known_digest=digest)
            if faces and self._snapshot.entries and self._snapshot.index is None:
                self._snapshot.index = self._load_index(self._snapshot.entries)
            if views and self._snapshot.views is None:
                self._snapshot.views = self._tables.read_views(self._snapshot.photos)
        return self._snapshot

    def _load_index(self, entries: list[Entry]) -> Index:
        owners = np.repeat(np.arange(len(entries)), [len(entry.photos) for entry in entries])
        return Index(Faces(to_unit(self._tables.read_vectors(self._snapshot.photos)), owners))


def name_operator() -> str:
    """Name the account and the machine, as the log does."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        account = "unknown"
    return f"{account}@{platform.node()}"


def _lock(
    header: Header, key: str | bytes | None, headquarters: bytes | None
) -> tuple[Header, Cells]:
    """Lock a gallery with a new key, if there are keys to lock it with, and give its cells."""
    if key is None:
        if headquarters is not None:
            raise GalleryError(
                "headquarters' key is a second one: give a passphrase or a key file"
            )
        return header, ClearCells(header.uuid)
    gallery_key = new_gallery_key()
    locks = [wrap_key(gallery_key, key, header.bound)]
    if headquarters is not None:
        locks.append(wrap_for_headquarters(gallery_key, headquarters, header.bound))
    return dataclasses.replace(header, locks=locks), SealedCells(header.uuid, gallery_key)


def _unlock(header: Header, key: Key | None, ask: Ask, path: Path) -> Cells:
    """Give the cells of a gallery. Raises GalleryError unless the key is the one it needs."""
    if not header.locks:
        if key is not None:
            raise GalleryError(f"gallery {path} is not encrypted: open it without a key")
        return ClearCells(header.uuid)
    with expecting("the lock", path):
        kinds = [str(lock["kind"]) for lock in header.locks]
    key = ask(kinds) if key is None else key
    if key is None:
        raise GalleryError(f"gallery {path} is encrypted: give --passphrase or --key-file")
    with expecting("the lock", path):
        for lock in header.locks:
            gallery_key = unwrap_key(lock, key, header.bound)
            if gallery_key is not None:
                return SealedCells(header.uuid, gallery_key)
    given = name_kind(key)
    if given not in kinds:
        raise GalleryError(f"gallery {path} is not locked with a {given}: give --{kinds[0]}")
    others = [kind for kind in kinds if kind != given]
    way = f"open it with the {' or '.join(others)}" if others else "there is no other way in"
    raise GalleryError(
        f"wrong {given.replace('-', ' ')} for gallery {path}: check it and try again, {way}"
    )

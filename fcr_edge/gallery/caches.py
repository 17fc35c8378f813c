"""What is kept beside a gallery's rows for a while: people packed together, steps to undo."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any, cast

from fcr_edge.gallery.keys import DamagedCellError, Place
from fcr_edge.gallery.tables import Entry, PhotoRef, expecting, to_json

if TYPE_CHECKING:
    from fcr_edge.gallery.database import Database
    from fcr_edge.gallery.keys import Cells
    from fcr_edge.gallery.tables import State, Step

_PACK, _UNDO = "people", "undo"
"""The names of the two."""
CHUNK_BYTES = 16 * 1024 * 1024
"""For one cell: SQLite and ciphers have limits, and memory does."""

logger = logging.getLogger(__name__)


class Caches:
    """Reads and writes caches inside the caller's transaction."""

    def __init__(self, database: Database, cells: Cells) -> None:
        self._database = database
        self._cells = cells

    def write_pack(self, state: State, entries: list[Entry], digest: bytes) -> None:
        """Write everyone together, as of this state, so that reading them takes less."""
        people = [[entry.row, entry.details, entry.photos] for entry in entries]
        content = _with_hash(to_json([_sum_up(state), digest.hex(), people]))
        self.drop_pack()
        for number, start in enumerate(range(0, len(content), CHUNK_BYTES)):
            self._write(_PACK, number, content[start : start + CHUNK_BYTES])

    def read_pack(self, state: State) -> tuple[list[Entry], bytes] | None:
        """Read everyone, in order of id, and the content's digest; None if none is of this state.

        A pack that is damaged is passed over, with a warning: the rows are what counts.
        """
        if not self._database.has("cache"):
            return None
        try:
            content = b"".join(self._read(_PACK))
            if not content:
                return None
            made_of, digest, people = json.loads(_without_hash(content).decode())
            if made_of != _sum_up(state):
                return None
            entries = [
                Entry(row, details, tuple(PhotoRef(*photo) for photo in photos))
                for row, details, photos in people
            ]
            return entries, bytes.fromhex(digest)
        except (DamagedCellError, LookupError, TypeError, ValueError):
            logger.warning(
                "a copy inside gallery %s that makes it open faster is damaged: its people are"
                " read one by one; `fcr-edge gallery compact` mends that",
                self._database.path,
            )
            return None

    def drop_pack(self) -> None:
        """Forget the people packed together: whoever was removed is among them."""
        self._database.execute("DELETE FROM cache WHERE name = ?", _PACK)

    def write_undo(self, change: str, before: int, after: int, steps: list[Step]) -> None:
        """Note how things were before an enrolment, after what is noted of the same change.

        Args:
            change: Names the change: an enrolment may take many transactions.
            before: The generation before this one.
            after: And after it.
            steps: Of each person touched.
        """
        sql = "SELECT max(number) FROM cache WHERE name = ?"
        [(last,)] = self._database.execute(sql, _UNDO)
        number = 0 if last is None else cast("int", last) + 1
        if number and self._read_steps(number - 1)[0][:3:2] != [change, before]:
            self.drop_undo()
            number = 0
        self._write(_UNDO, number, to_json([change, before, after, steps]))

    def read_undo(self, state: State) -> list[Step]:
        """Give the steps of the last change, oldest first; none if it was no enrolment."""
        noted = self._read_steps(0)
        if not noted or noted[-1][2] != state.generation:
            return []
        return [(row, *was) for _, _, _, steps in noted for row, *was in steps]

    def drop_undo(self) -> None:
        """Forget what an enrolment would be taken back with."""
        self._database.execute("DELETE FROM cache WHERE name = ?", _UNDO)

    def _read_steps(self, start: int) -> list[list[Any]]:
        what = "what the last enrolment would be taken back with"
        with expecting(what, self._database.path):
            return [json.loads(content) for content in self._read(_UNDO, start)]

    def _write(self, name: str, number: int, content: bytes) -> None:
        sealed = self._cells.seal(content, Place("cache", number, name))
        self._database.execute("INSERT INTO cache VALUES (?, ?, ?)", name, number, sealed)

    def _read(self, name: str, start: int = 0) -> list[bytes]:
        sql = "SELECT number, chunk FROM cache WHERE name = ? AND number >= ? ORDER BY number"
        found = []
        for expected, row in enumerate(self._database.rows(sql, name, start), start):
            number, chunk = row
            if number != expected:
                raise DamagedCellError
            found.append(self._cells.unseal(chunk, Place("cache", expected, name)))
        return found


def _sum_up(state: State) -> list[object]:
    """Give what of a state changes whenever people do."""
    return [state.generation, state.people, state.photos, state.roster]


def _with_hash(content: bytes) -> bytes:
    """Put its hash before it: a piece that is missing leaves what may still look whole."""
    return hashlib.sha256(content).digest() + content


def _without_hash(content: bytes) -> bytes:
    size = hashlib.sha256().digest_size
    if hashlib.sha256(content[size:]).digest() != content[:size]:
        raise DamagedCellError
    return content[size:]

"""The file db.bin as SQLite: its settings, its schema, its checks, its transactions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from typing import TYPE_CHECKING, cast

from fcr_edge.errors import GalleryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Tell = Callable[[int, int], None]

APPLICATION_ID = int.from_bytes(b"FCRg", "big")
SCHEMA_VERSION = 2
"""Schema 2 added the tables of SINCE_2, and details of people (birth_year_to,
height_cm, retain_until)."""
BUSY_TIMEOUT_MS = 5_000
PAGES_A_STEP = 4_096
"""Pages that are copied at a time, in which no other program can write: 16 MiB."""

# All but row numbers lies in cells (see keys.py), so that a plain and an encrypted gallery differ
# in their cells only. Which photos are whose stands in the person's record, where no damage to a
# number can give a photo to someone else.
SCHEMA = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "person": (
        "CREATE TABLE person (id INTEGER PRIMARY KEY, "
        "lookup BLOB NOT NULL UNIQUE, record BLOB NOT NULL)"
    ),
    "photo": (
        "CREATE TABLE photo (id INTEGER PRIMARY KEY, "
        "details BLOB NOT NULL, thumbnail BLOB NOT NULL)"
    ),
    "embedding": (
        "CREATE TABLE embedding (photo INTEGER PRIMARY KEY REFERENCES photo (id), "
        "vector BLOB NOT NULL)"
    ),
    "log": "CREATE TABLE log (id INTEGER PRIMARY KEY, event BLOB NOT NULL, hash BLOB NOT NULL)",
    "original": (
        "CREATE TABLE original (photo INTEGER PRIMARY KEY REFERENCES photo (id), "
        "data BLOB NOT NULL)"
    ),
    "cache": (
        "CREATE TABLE cache (name TEXT NOT NULL, number INTEGER NOT NULL, "
        "chunk BLOB NOT NULL, PRIMARY KEY (name, number)) WITHOUT ROWID"
    ),
}

SINCE_2 = ("original", "cache")

# For evidence on a disk that may lose power, and for a file that may come from a stranger
# (sqlite.org: "Defense Against The Dark Arts", "How To Corrupt An SQLite Database File").
SETTINGS = {
    "trusted_schema": "OFF",
    "cell_size_check": "ON",
    "mmap_size": "0",
    "foreign_keys": "ON",
    # Also syncs the folder once the journal is gone.
    "synchronous": "EXTRA",
    # Anything less leaves deleted embeddings legible in the file.
    "secure_delete": "ON",
}

UNFINISHED = "is empty, its making was cut short: delete it and enroll again"
RESTORE = "restore it from a copy, or enroll again into a new file"

_HEADER = struct.Struct(">16s2x2B40xI4xI28x")
_MAGIC = b"SQLite format 3\0"
_ROLLBACK_JOURNAL = (1, 1)


class Database:
    """One open db.bin. Every SQLite error leaves it as a GalleryError that says what to do."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def create(cls, path: Path) -> Database:
        """Make an empty file. Raises GalleryError if it exists, or cannot be made."""
        try:
            # Only the owner may read it; an existing file is never touched.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError as err:
            raise GalleryError(
                f"{path} exists already: open it, or choose another file name"
            ) from err
        except OSError as err:
            raise GalleryError(
                f"gallery {path} cannot be made ({err.strerror}): choose a folder that exists and "
                "that you may write to"
            ) from err
        try:
            database = cls(path, _connect(path))
            database.execute("PRAGMA page_size = 4096")  # 8192 would leave half of each page empty
            # One file at rest, so that a copy of db.bin is a copy of the gallery. The header says
            # so from then on, and is checked: asking again would take a lock without waiting.
            database.execute("PRAGMA journal_mode = DELETE")
            database._configure()
        except BaseException:
            path.unlink()
            raise
        return database

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open and check a file. Raises GalleryError unless it is a sound gallery."""
        _check_header(path)
        database = cls(path, _connect(path))
        try:
            database._configure()
            database._check()
        except BaseException:
            database.close()
            raise
        return database

    def write_schema(self) -> None:
        """Create the tables and sign the file as a gallery, inside the caller's transaction."""
        self.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for statement in SCHEMA.values():
            self.execute(statement)

    @contextlib.contextmanager
    def transaction(self, *, write: bool) -> Iterator[None]:
        """Run a block wholly or not at all; readers inside one see one state throughout."""
        try:
            self.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            if write:
                self._migrate()
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                # SQLite rolls back by itself at the next opening, should this fail too.
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def rows(self, sql: str, *values: object) -> Iterator[tuple[object, ...]]:
        """Run one statement and give its rows one by one."""
        try:
            yield from self._connection.execute(sql, values)
        except sqlite3.ProgrammingError:  # a closed gallery, or a second thread: our bug
            raise
        except sqlite3.DatabaseError as err:
            raise GalleryError(_explain(self.path, err)) from err
        except UnicodeDecodeError as err:  # the message itself quotes bytes of a damaged file
            raise GalleryError(f"gallery {self.path} is damaged: {RESTORE}") from err

    def execute(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Run one statement and give all its rows."""
        return list(self.rows(sql, *values))

    def has(self, table: str) -> bool:
        """Tell whether a file of this schema has a table of ours."""
        [(version,)] = self.execute("PRAGMA user_version")
        return version != 1 or table not in SINCE_2

    def copy_to(self, target: Path, tell: Tell) -> None:
        """Copy the file as it is between two changes, page by page; writers may go on.

        The copy appears whole or not at all. `tell` is called with (pages done, all). Raises
        GalleryError if the target exists or cannot be written.
        """
        fresh = target.with_name(f".{target.name}.new")
        if target.exists():
            raise GalleryError(f"{target} exists already: choose another file name")
        try:
            os.close(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600))
            with contextlib.closing(sqlite3.connect(fresh)) as copy:
                self._connection.backup(
                    copy,
                    pages=PAGES_A_STEP,
                    progress=lambda _, left, pages: tell(pages - left, pages),
                )
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            fresh.replace(target)
            sync_folder(target.parent)
        except (OSError, sqlite3.DatabaseError) as err:
            raise GalleryError(f"{target} cannot be written: {err}: choose another disk") from err
        finally:
            fresh.unlink(missing_ok=True)

    def compact(self) -> None:
        """Write the file anew without the room that removed rows left."""
        self.execute("VACUUM")

    def close(self) -> None:
        """Close the file; what was committed is in it."""
        self._connection.close()

    def _migrate(self) -> None:
        """Bring an older file to this schema, inside the first change that is made to it."""
        if not self.has("cache"):
            for table in SINCE_2:
                self.execute(SCHEMA[table])
            self.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _configure(self) -> None:
        self.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        for name, value in SETTINGS.items():
            self.execute(f"PRAGMA {name} = {value}")

    def _check(self) -> None:
        # quick_check would not compare the look-up index with its table.
        problems = self.execute("PRAGMA integrity_check(1)")
        if problems != [("ok",)] or self._is_cut_short():
            raise GalleryError(f"gallery {self.path} is damaged: {RESTORE}")
        found = self.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        if not found:
            raise GalleryError(f"gallery {self.path} {UNFINISHED}")
        expected = [("table", *item) for item in SCHEMA.items() if self.has(item[0])]
        if sorted(map(str, found)) != sorted(map(str, expected)):
            raise GalleryError(f"{self.path} has tables that no gallery has: {RESTORE}")

    def _is_cut_short(self) -> bool:
        """Say whether the end is missing: SQLite reads a page that is cut as if zeros followed."""
        with self.transaction(write=False):  # nobody else changes the size meanwhile
            [(pages, page_size)] = self.execute(
                "SELECT page_count, page_size FROM pragma_page_count, pragma_page_size"
            )
            return self.path.stat().st_size < cast("int", pages) * cast("int", page_size)


def sync_folder(folder: Path) -> None:
    """Make the disk remember the names in a folder, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        # mode=rw never makes a file, and reads a write-protected one.
        uri = f"{path.resolve().as_uri()}?mode=rw"
        return sqlite3.connect(uri, uri=True, isolation_level=None)
    except sqlite3.DatabaseError as err:
        raise GalleryError(_explain(path, err)) from err


def _check_header(path: Path) -> None:
    """Raise GalleryError unless the file starts as a gallery does, before SQLite sees it."""
    start = _read_start(path)
    if not start:
        raise GalleryError(f"gallery {path} {UNFINISHED}")
    if len(start) < _HEADER.size or not start.startswith(_MAGIC):
        raise GalleryError(
            f"{path} is not a gallery, or its start is damaged: pass the file that "
            f"fcr-edge enroll wrote; if this is that file, {RESTORE}"
        )
    _, write_format, read_format, version, application_id = _HEADER.unpack(start)
    if application_id != APPLICATION_ID:
        raise GalleryError(f"{path} is an SQLite file of another program, not a gallery")
    if version > SCHEMA_VERSION:
        raise GalleryError(
            f"gallery {path} has schema {version}, this program knows up to {SCHEMA_VERSION}: "
            "update FCR"
        )
    if version < 1 or (write_format, read_format) != _ROLLBACK_JOURNAL:
        raise GalleryError(f"gallery {path} is damaged at its start: {RESTORE}")


def _read_start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEADER.size)
    except FileNotFoundError as err:
        raise GalleryError(
            f"there is no gallery {path}: check the name, or make one with fcr-edge enroll"
        ) from err
    except OSError as err:
        raise GalleryError(f"gallery {path} cannot be read: {err.strerror}") from err


def _explain(path: Path, error: sqlite3.DatabaseError) -> str:
    """Say what an SQLite error means to the user; SQLite's own words are the exception's cause."""
    text = str(error)
    if "locked" in text:
        return f"gallery {path} is in use by another program: wait until it ends, then try again"
    if "readonly" in text or "unable to open" in text:
        return (
            f"gallery {path} cannot be written: copy it to a folder you may write to, "
            "or change the permissions of file and folder"
        )
    if "full" in text:
        return (
            f"the disk is full, gallery {path} is as it was before: free some space, "
            "then run the same command again"
        )
    if "I/O" in text:
        return (
            f"the disk that holds gallery {path} fails: stop using it, and restore the gallery "
            "from a copy to another disk"
        )
    return f"gallery {path} is damaged: {RESTORE}"

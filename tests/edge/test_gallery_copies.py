"""Copies are the gallery of one moment; a way back never costs what is there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from some_galleries import ANA, BEN, KEY, make_gallery, make_photo, read_all

from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Gallery, Key, back_up, restore
from fcr_edge.gallery.keys import Place

both_kinds = pytest.mark.parametrize(
    "key", [pytest.param(None, id="clear"), pytest.param(KEY, id="encrypted")]
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.bin"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy.bin"


def corrupt(path: Path, table: str = "embedding", column: str = "vector") -> None:
    """Change one byte of one cell."""
    with sqlite3.connect(path) as database:
        row, cell = database.execute(f"SELECT rowid, {column} FROM {table}").fetchone()
        changed = cell[:20] + bytes([cell[20] ^ 1]) + cell[21:]
        database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed, row))


def answers(path: Path, key: Key | None) -> list[str]:
    return [repr(one) for one in read_all(path, key)]


@both_kinds
def test_a_copy_answers_as_the_gallery(path: Path, copy: Path, key: Key | None) -> None:
    make_gallery(path, key, people=5).close()

    back_up(path, copy)

    assert answers(copy, key) == answers(path, key)
    if os.name == "posix":
        assert copy.stat().st_mode & 0o077 == 0
    assert {file.name for file in path.parent.iterdir()} == {"db.bin", "copy.bin"}


def test_a_copy_made_while_others_write_is_of_one_moment(path: Path, copy: Path) -> None:
    make_gallery(path, KEY, people=30).close()
    stop = threading.Event()

    def write() -> None:
        with Gallery.open(path, KEY) as gallery:
            while not stop.is_set():
                gallery.enroll(ANA, [make_photo(1)])
                gallery.remove(ANA.id)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            back_up(path, copy.with_name(f"copy-{number}.bin"))
    finally:
        stop.set()
        writer.join()

    for number in range(5):
        with Gallery.open(copy.with_name(f"copy-{number}.bin"), KEY) as gallery:
            assert gallery.verify().people in (30, 31)


def test_no_copy_overwrites_anything(path: Path, copy: Path) -> None:
    make_gallery(path, KEY).close()
    copy.write_text("precious")

    with pytest.raises(GalleryError, match=r"copy\.bin exists already"):
        back_up(path, copy)

    assert copy.read_text() == "precious"


def test_a_copy_that_cannot_be_written_leaves_nothing(path: Path, tmp_path: Path) -> None:
    make_gallery(path, KEY).close()

    with pytest.raises(GalleryError, match="cannot be written"):
        back_up(path, tmp_path / "absent" / "copy.bin")


@both_kinds
@pytest.mark.parametrize(
    ("table", "column"),
    [("embedding", "vector"), ("photo", "thumbnail"), ("photo", "details"), ("log", "event")],
)
def test_verify_finds_one_changed_byte(
    path: Path, key: Key | None, table: str, column: str
) -> None:
    with make_gallery(path, key, people=3) as gallery:
        found = gallery.verify()
        assert (found.people, found.photos, found.generation) == (3, 6, 3)
        assert found.digest == gallery.digest
    corrupt(path, table, column)

    with Gallery.open(path, key) as gallery, pytest.raises(GalleryError, match="damaged"):
        gallery.verify()


def test_verify_names_whose_photo_was_exchanged(path: Path) -> None:
    """A forger can make cells in clear that look sound; the person's record tells."""
    with make_gallery(path, None, people=2) as gallery:
        cells = gallery._cells
    with sqlite3.connect(path) as database:
        row, cell = database.execute("SELECT id, thumbnail FROM photo").fetchone()
        place = Place("photo", row, "thumbnail")
        forged = cells.seal(cells.unseal(cell, place)[:-1] + b"?", place)
        database.execute("UPDATE photo SET thumbnail = ? WHERE id = ?", (forged, row))

    with (
        Gallery.open(path) as gallery,
        pytest.raises(GalleryError, match="a photo of q00000 is not what was enrolled"),
    ):
        gallery.verify()


@both_kinds
def test_compacting_gives_room_back_and_changes_nothing(path: Path, key: Key | None) -> None:
    with make_gallery(path, key, people=30) as gallery:
        for number in range(25):
            gallery.remove(f"q{number:05d}")
        before, size = gallery.digest, path.stat().st_size

        saved = gallery.compact()

        assert saved == size - path.stat().st_size
        assert saved > size / 2
        assert gallery.digest == before
        assert gallery.verify().people == 5


def test_a_damaged_gallery_is_kept_beside_its_restored_copy(path: Path, copy: Path) -> None:
    make_gallery(path, KEY, people=3).close()
    before = answers(path, KEY)
    back_up(path, copy)
    corrupt(path)
    damaged = path.read_bytes()

    old = restore(copy, path, KEY)

    assert old is not None
    assert old.read_bytes() == damaged
    assert answers(path, KEY) == before
    assert copy.exists()


def test_what_is_torn_to_pieces_is_restored_as_well(path: Path, copy: Path) -> None:
    make_gallery(path, KEY, people=3).close()
    back_up(path, copy)
    path.write_bytes(b"nothing that SQLite knows")
    path.with_name("db.bin-journal").write_bytes(b"a journal")

    old = restore(copy, path, KEY)

    assert old is not None
    assert old.with_name(f"{old.name}-journal").read_bytes() == b"a journal"
    with Gallery.open(path, KEY) as gallery:
        assert gallery.verify().people == 3


def test_a_sound_gallery_is_replaced_on_purpose_only(path: Path, copy: Path) -> None:
    make_gallery(path, KEY, people=3).close()
    back_up(path, copy)
    with Gallery.open(path, KEY) as gallery:
        gallery.enroll(BEN, [make_photo(5)])

    with pytest.raises(GalleryError, match=r"with 4 changes where .* has 3: pass --force"):
        restore(copy, path, KEY)
    with Gallery.open(path, KEY) as gallery:
        assert gallery.verify().people == 4

    old = restore(copy, path, KEY, force=True)
    assert old is not None
    with Gallery.open(path, KEY) as now, Gallery.open(old, KEY) as before:
        assert (now.verify().people, before.verify().people) == (3, 4)


def test_somebody_elses_gallery_is_not_replaced(path: Path, copy: Path) -> None:
    make_gallery(path, KEY[::-1], people=1).close()
    make_gallery(copy, KEY, people=3).close()

    with pytest.raises(GalleryError, match="wrong key file"):
        restore(copy, path, KEY)

    with Gallery.open(path, KEY[::-1]) as gallery:
        assert gallery.verify().people == 1


def test_a_damaged_copy_is_not_put_anywhere(path: Path, copy: Path) -> None:
    make_gallery(copy, KEY, people=3).close()
    corrupt(copy)

    with pytest.raises(GalleryError, match="damaged"):
        restore(copy, path, KEY)

    assert not path.exists()


def test_restoring_where_nothing_is(path: Path, copy: Path) -> None:
    make_gallery(path, KEY, people=3).close()
    shutil.move(path, copy)

    assert restore(copy, path, KEY) is None
    assert answers(path, KEY) == answers(copy, KEY)

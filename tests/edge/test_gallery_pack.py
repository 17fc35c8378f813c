"""People packed together are the people of the rows, or they are not used."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from some_galleries import ANA, KEY, make_gallery, make_photo, make_vector, read_all

from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Gallery, Key, caches, store
from fcr_edge.gallery.tables import Tables

both_kinds = pytest.mark.parametrize(
    "key", [pytest.param(None, id="clear"), pytest.param(KEY, id="encrypted")]
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PACKED_FROM", 3)
    monkeypatch.setattr(caches, "CHUNK_BYTES", 700)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.bin"


def count_chunks(path: Path) -> int:
    with sqlite3.connect(path) as database:
        (count,) = database.execute("SELECT count(*) FROM cache WHERE name = 'people'").fetchone()
    return int(count)


def pack(path: Path, key: Key | None) -> None:
    with Gallery.open(path, key) as gallery:
        gallery.pack()


@both_kinds
def test_packed_it_answers_as_before(
    path: Path, key: Key | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gallery(path, key, people=9).close()
    before = [repr(one) for one in read_all(path, key)]

    pack(path, key)
    assert count_chunks(path) > 2
    monkeypatch.setattr(Tables, "read_entries", None)  # rows of people are not read any more

    assert [repr(one) for one in read_all(path, key)] == before


@both_kinds
def test_a_change_drops_it(path: Path, key: Key | None) -> None:
    make_gallery(path, key, people=9).close()
    pack(path, key)
    with Gallery.open(path, key) as gallery:
        gallery.log_search([], "", [])
        assert count_chunks(path) > 0, "a search changes nobody"
        gallery.remove("q00004")
        assert count_chunks(path) == 0
        assert "q00004" not in [person.id for person in gallery.people()]
        gallery.enroll(ANA, [make_photo(1)])
        gallery.pack()
        gallery.rekey(KEY[::-1])
        assert count_chunks(path) == 0


def test_nothing_of_a_removed_person_stays_in_it(path: Path) -> None:
    make_gallery(path, None, people=9).close()
    pack(path, None)
    assert b"q00004" in path.read_bytes()

    with Gallery.open(path) as gallery:
        gallery.remove("q00004")
        gallery.pack()

    assert b"q00004" not in path.read_bytes()


def test_an_older_one_put_back_is_not_used(path: Path) -> None:
    make_gallery(path, KEY, people=9).close()
    pack(path, KEY)
    with sqlite3.connect(path) as database:
        old = database.execute("SELECT * FROM cache").fetchall()
    with Gallery.open(path, KEY) as gallery:
        gallery.remove("q00004")
    with sqlite3.connect(path) as database:
        database.executemany("INSERT INTO cache VALUES (?, ?, ?)", old)

    with Gallery.open(path, KEY) as gallery:
        assert len(gallery.people()) == 8
        assert gallery.verify().people == 8


@both_kinds
@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE cache SET chunk = zeroblob(40) WHERE number = 1 AND name = 'people'",
        "DELETE FROM cache WHERE number = 1 AND name = 'people'",
        "DELETE FROM cache WHERE number = (SELECT max(number) FROM cache)",
        "UPDATE cache SET number = number + 1 WHERE number = (SELECT max(number) FROM cache)",
        "UPDATE cache SET chunk = 'text' WHERE number = 0 AND name = 'people'",
    ],
)
def test_a_damaged_one_is_passed_over_aloud(
    path: Path, key: Key | None, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_gallery(path, key, people=9).close()
    before = [repr(one) for one in read_all(path, key)]
    pack(path, key)
    with sqlite3.connect(path) as database:
        database.execute(harm)

    assert [repr(one) for one in read_all(path, key)] == before
    assert "read one by one" in caplog.text


def test_rows_lost_behind_it_are_found_by_verify(path: Path) -> None:
    make_gallery(path, KEY, people=9).close()
    pack(path, KEY)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM person WHERE id = 1")

    with Gallery.open(path, KEY) as gallery:
        assert len(gallery.search(make_vector(1), k=100).candidates) == 9, "rightly so"
        with pytest.raises(GalleryError, match="people are missing"):
            gallery.verify()


def test_a_small_gallery_is_not_packed(path: Path) -> None:
    with make_gallery(path, KEY, people=2) as gallery:
        gallery.pack()

    assert count_chunks(path) == 0

"""The gallery keeps what was enrolled, forgets what was removed, refuses what is damaged."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from some_galleries import (
    ANA,
    BEN,
    DIMENSION,
    FINGERPRINT,
    KEY,
    make_gallery,
    make_photo,
    make_vector,
    read_all,
)

from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Candidate, Gallery, Match, Person, Probe
from fcr_edge.gallery import database as database_module
from fcr_edge.gallery.database import SCHEMA_VERSION
from fcr_edge.gallery.keys import Place

if TYPE_CHECKING:
    from pathlib import Path

    from fcr_edge.gallery import Key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.bin"


both_kinds = pytest.mark.parametrize(
    "key", [pytest.param(None, id="clear"), pytest.param(KEY, id="encrypted")]
)


@both_kinds
def test_what_was_enrolled_comes_back(path: Path, key: Key | None) -> None:
    photos = [make_photo(1), make_photo(2, view=None, quality=None, thumbnail=b"")]
    with make_gallery(path, key) as gallery:
        gallery.enroll(ANA, photos)

    with Gallery.open(path, key) as gallery:
        back = gallery.photos(ANA.id)

        assert gallery.people() == [ANA]
        assert gallery.person(ANA.id) == ANA
        assert gallery.encrypted == (key is not None)
        assert (gallery.fingerprint, gallery.dimension) == (FINGERPRINT, DIMENSION)
        assert gallery.photo_owners() == {photo.sha256: [ANA.id] for photo in photos}
    for photo, given in zip(back, photos, strict=True):
        np.testing.assert_array_equal(photo.embedding, given.embedding)
        assert dataclasses.replace(photo, embedding=given.embedding).__dict__ == given.__dict__


@both_kinds
def test_similarity_is_one_for_the_enrolled_photo(path: Path, key: Key | None) -> None:
    with make_gallery(path, key, people=3) as gallery:
        gallery.enroll(ANA, [make_photo(1), make_photo(2)])

        result = gallery.search(make_vector(2), k=1)

    assert result.candidates == [Candidate(1, ANA, 1.0, (Match(make_photo(2).sha256, 1.0),))]
    assert (result.mode, result.ef_search, result.recall, result.people) == ("exact", None, 1, 4)


@both_kinds
def test_two_films_are_searched_with_in_their_own_views(path: Path, key: Key | None) -> None:
    frontal, lateral = (
        Probe(make_vector(seed), view, mean=0.0, sd=0.5)
        for seed, view in ((1, "frontal"), (2, "lateral"))
    )
    with make_gallery(path, key) as gallery:
        # Ana's photos are the probes themselves; Ben's too, with the views exchanged.
        gallery.enroll(ANA, [make_photo(1), make_photo(2, view="lateral")])
        gallery.enroll(BEN, [make_photo(2), make_photo(1, view="lateral")])
        gallery.enroll(Person("q3"), [make_photo(3)])
        gallery.enroll(Person("q4"), [make_photo(4, view="lateral")])

    with Gallery.open(path, key) as gallery:
        result = gallery.search_together([frontal, lateral], k=9)
        alone = gallery.search_together([lateral], k=9)

    ana, *others = result.candidates
    assert ana.person == ANA
    assert ana.similarity == pytest.approx(4 / 2**0.5)  # 1 / .5 twice, over the root of two
    assert ana.matches == (
        Match(make_photo(1).sha256, 1.0),
        Match(make_photo(2).sha256, 1.0),
    )
    assert {candidate.person.id for candidate in others} == {BEN.id, "q3", "q4"}
    assert [c.matches[1] for c in others if c.person.id == "q3"] == [None]
    assert (result.mode, result.people, result.passed_over) == ("exact", 4, 0)
    assert {c.person.id for c in alone.candidates} == {ANA.id, BEN.id, "q4"}
    assert (alone.people, alone.passed_over) == (3, 1)


def test_films_of_a_view_that_nobody_shows_are_refused(path: Path) -> None:
    probe = Probe(make_vector(1), "lateral", 0.0, 1.0)
    with make_gallery(path) as gallery:
        with pytest.raises(GalleryError, match="empty: enroll people first"):
            gallery.search_together([probe])
        gallery.enroll(ANA, [make_photo(1)])
        with pytest.raises(GalleryError, match="has no lateral photo: search with a film of"):
            gallery.search_together([probe])
        with pytest.raises(GalleryError, match="k=0, 1 probes: both are 1 or more"):
            gallery.search_together([probe], k=0)
    with pytest.raises(GalleryError, match="standard deviation 0: finite"):
        Probe(make_vector(1), "lateral", 0.0, 0)


def test_equal_similarities_are_ordered_by_person_id(path: Path) -> None:
    with make_gallery(path) as gallery:
        for number in (3, 1, 2):
            photo = make_photo(number, embedding=make_vector(5))
            gallery.enroll(Person(f"p{number}"), [photo])

        found = gallery.search(make_vector(6)).candidates

    assert [candidate.person.id for candidate in found] == ["p1", "p2", "p3"]
    assert [candidate.rank for candidate in found] == [1, 2, 3]
    assert len({candidate.similarity for candidate in found}) == 1


def test_a_change_is_seen_by_the_next_search_of_another_reader(path: Path) -> None:
    with make_gallery(path, people=2) as writer, Gallery.open(path) as reader:
        before = reader.search(make_vector(1), k=1).candidates[0]
        writer.enroll(ANA, [make_photo(1)])
        after = reader.search(make_vector(1), k=1).candidates[0]

    assert before.person != ANA
    assert after.person == ANA


def test_an_empty_gallery_asks_for_people(path: Path) -> None:
    with make_gallery(path) as gallery:
        assert gallery.people() == []
        with pytest.raises(GalleryError, match="empty: enroll people first"):
            gallery.search(make_vector(1))


def test_enrolling_again_changes_nothing(path: Path) -> None:
    with make_gallery(path) as gallery:
        assert gallery.enroll(ANA, [make_photo(1), make_photo(1)]) == 1
        generation, content = gallery.generation, path.read_bytes()

        assert gallery.enroll(ANA, [make_photo(1)]) == 0

        assert (gallery.generation, path.read_bytes()) == (generation, content)


def test_enrolling_again_adds_the_photos_that_are_new(path: Path) -> None:
    with make_gallery(path) as gallery:
        gallery.enroll(ANA, [make_photo(1)])

        assert gallery.enroll(ANA, [make_photo(1), make_photo(2)]) == 1

        assert [photo.file_name for photo in gallery.photos(ANA.id)] == [
            "portrait-1.png",
            "portrait-2.png",
        ]


def test_details_change_only_on_purpose(path: Path) -> None:
    older = dataclasses.replace(ANA, birth_year=1991)
    with make_gallery(path) as gallery:
        gallery.enroll(ANA, [make_photo(1)])

        with pytest.raises(GalleryError, match="birth_year is 1990, now given 1991"):
            gallery.enroll(older, [make_photo(1)])
        assert gallery.people() == [ANA]
        assert gallery.enroll(older, [make_photo(1)], update=True) == 0
        assert gallery.people() == [older]
        assert gallery.photo_owners() == {make_photo(1).sha256: [ANA.id]}


@pytest.mark.parametrize(
    ("embedding", "complaint"),
    [
        pytest.param(make_vector(1)[:-1], r"shape \(47,\)", id="shorter"),
        pytest.param(np.append(make_vector(1), np.float32(0)), r"shape \(49,\)", id="longer"),
        pytest.param(make_vector(1)[None], r"shape \(1, 48\)", id="a batch"),
        pytest.param(make_vector(1).astype(np.float64), "float64", id="float64"),
        pytest.param(np.full(DIMENSION, np.nan, np.float32), "NaN", id="NaN"),
        pytest.param(make_vector(1) * np.float32(1.002), "norm 1.002", id="not a unit"),
        pytest.param(np.zeros(DIMENSION, np.float32), "norm 0", id="zero"),
    ],
)
def test_only_unit_vectors_of_the_right_length_are_taken(
    path: Path, embedding: np.ndarray, complaint: str
) -> None:
    with make_gallery(path, people=1) as gallery:
        with pytest.raises(GalleryError, match=complaint):
            gallery.enroll(ANA, [make_photo(1), make_photo(2, embedding=embedding)])
        with pytest.raises(GalleryError, match=complaint):
            gallery.search(embedding)
        assert [ANA.id] not in gallery.photo_owners().values()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"id": ""}, id="no id"),
        pytest.param({"id": " p1"}, id="blank at the start"),
        pytest.param({"id": "p\n1"}, id="line break in the id"),
        pytest.param({"sex": "f"}, id="sex"),
        pytest.param({"birth_year": 85}, id="birth year"),
        pytest.param({"date": "3 May 2019"}, id="date"),
        pytest.param({"date": "2019-13"}, id="month"),
        pytest.param({"notes": "x" * 10_001}, id="notes"),
    ],
)
def test_details_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(GalleryError, match="person"):
        dataclasses.replace(ANA, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"sha256": "abc"}, id="hash"),
        pytest.param({"view": "oblique"}, id="view"),
        pytest.param({"thumbnail": b"GIF89a"}, id="not a JPEG"),
        pytest.param({"thumbnail": b"\xff\xd8\xff" + bytes(20 * 1024)}, id="large thumbnail"),
        pytest.param({"quality": float("nan")}, id="quality"),
    ],
)
def test_photos_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(GalleryError, match="portrait-1"):
        make_photo(1, **changes)


def test_a_person_needs_a_photo(path: Path) -> None:
    with make_gallery(path) as gallery, pytest.raises(GalleryError, match="no photo"):
        gallery.enroll(ANA, [])


def test_another_embedder_is_refused_by_both_names(path: Path) -> None:
    with make_gallery(path) as gallery:
        gallery.require(FINGERPRINT)
        with pytest.raises(GalleryError, match=r"9f3c9f3c.*41aa41aa.*pass the matching bundle"):
            gallery.require("41aa" * 16)


def test_the_digest_depends_on_content_alone(tmp_path: Path) -> None:
    with make_gallery(tmp_path / "a.bin") as first, make_gallery(tmp_path / "b.bin", KEY) as other:
        empty = first.digest
        first.enroll(ANA, [make_photo(1), make_photo(2)])
        first.enroll(BEN, [make_photo(3)])
        other.enroll(BEN, [make_photo(3)])
        other.enroll(ANA, [make_photo(2)])
        assert first.digest != other.digest
        other.enroll(ANA, [make_photo(1)])
        assert first.digest == other.digest
        before = first.digest
        first.enroll(dataclasses.replace(BEN, place="Kyoto"), [make_photo(3)], update=True)
        assert first.digest != before
        first.remove(ANA.id)
        first.remove(BEN.id)
        assert first.digest == empty


@both_kinds
def test_nothing_of_a_removed_person_stays_in_the_file(path: Path, key: Key | None) -> None:
    photos = [make_photo(1), make_photo(2)]
    with make_gallery(path, key, people=5) as gallery:
        gallery.enroll(ANA, photos)
        cells = read_cells(path, "SELECT vector FROM embedding", "SELECT thumbnail FROM photo")
        record = read_cells(path, "SELECT record FROM person ORDER BY id DESC LIMIT 1")
        cells = [*cells[-2:], *record]
        assert all(piece in path.read_bytes() for piece in map(cut, cells))

        assert gallery.remove(ANA.id) == ANA

        assert len(gallery.people()) == 5
        assert [ANA.id] not in gallery.photo_owners().values()
    left = path.read_bytes()
    assert not any(piece in left for piece in map(cut, cells))
    for trace in (ANA.name.encode(), b"p00001", photos[0].embedding.tobytes()[:32]):
        assert trace not in left


def read_cells(path: Path, *queries: str) -> list[bytes]:
    connection = sqlite3.connect(path)
    cells = [cell for query in queries for (cell,) in connection.execute(query)]
    connection.close()
    return cells


def cut(cell: bytes) -> bytes:
    """A piece short enough to lie on one page."""
    return cell[:24]


def test_an_unknown_person_is_answered_with_similar_ids(path: Path) -> None:
    with make_gallery(path, people=2) as gallery:
        with pytest.raises(GalleryError, match=r"no person 'q0001'.*did you mean q00001"):
            gallery.remove("q0001")
        with pytest.raises(GalleryError, match="gallery list shows everyone"):
            gallery.person("zzz")
        assert len(gallery.people()) == 2


@both_kinds
def test_the_log_names_every_change_and_no_person(path: Path, key: Key | None) -> None:
    with make_gallery(path, key) as gallery:
        gallery.enroll(ANA, [make_photo(1), make_photo(2)])
        gallery.enroll(ANA, [make_photo(1)])
        gallery.remove(ANA.id)

        events = gallery.history()

    assert [(e.generation, e.action, e.photos) for e in events] == [
        (1, "enroll", 2),
        (2, "remove", 2),
    ]
    assert events[0].person == events[1].person != ANA.id


@both_kinds
def test_a_search_is_logged_and_changes_nothing_else(path: Path, key: Key | None) -> None:
    with make_gallery(path, key, people=3) as gallery:
        before, generation = gallery.digest, gallery.generation
        snapshot = gallery._read(faces=True)

        gallery.log_search(["f" * 64], "b" * 64, ["q00002", "q00000"])

        assert (gallery.digest, gallery.generation) == (before, generation)
        assert gallery._read() is snapshot, "nothing is read again for a search that was logged"
        gallery.remove("q00000")
        search, removal = gallery.history()[-2:]
        names = gallery.name_hashes()
        assert gallery.verify().people == 2

    assert (search.number, search.generation, removal.number, removal.generation) == (4, 3, 5, 4)
    assert (search.films, search.bundle) == (("f" * 64,), "b" * 64)
    assert [names.get(one) for one in search.candidates] == ["q00002", None]
    assert removal.person == search.candidates[1]
    if key is not None:
        assert b"q00002" not in path.read_bytes()


def test_the_log_names_the_operator(path: Path) -> None:
    make_gallery(path).close()
    with Gallery.open(path, operator="D. Examiner") as gallery:
        gallery.enroll(ANA, [make_photo(1)])
    with Gallery.open(path) as gallery:
        gallery.enroll(BEN, [make_photo(2)])
        first, second = gallery.history()

    assert first.operator == "D. Examiner"
    assert second.operator.endswith(f"@{platform.node()}")


@pytest.mark.parametrize(
    "forgery",
    [
        pytest.param("DELETE FROM log WHERE id = 2", id="last one gone"),
        pytest.param("DELETE FROM log WHERE id = 1", id="first one gone"),
        pytest.param("UPDATE log SET id = 7 WHERE id = 2", id="renumbered"),
        pytest.param("UPDATE log SET event = x'00' WHERE id = 1", id="rewritten"),
        pytest.param("UPDATE log SET hash = x'00' WHERE id = 1", id="other hash"),
    ],
)
def test_a_forged_log_is_noticed(path: Path, forgery: str) -> None:
    make_gallery(path, KEY, people=2).close()
    run_sql(path, forgery)

    with Gallery.open(path, KEY) as gallery, pytest.raises(GalleryError, match="the log"):
        gallery.history()


@pytest.mark.parametrize(
    "forgery",
    [
        pytest.param("DELETE FROM person WHERE id = 1", id="a person taken away"),
        pytest.param("DELETE FROM embedding WHERE photo = 2", id="an embedding taken away"),
        pytest.param(
            "UPDATE embedding SET vector = (SELECT vector FROM embedding WHERE photo = 3) "
            "WHERE photo = 2",
            id="an embedding copied to another photo",
        ),
        pytest.param(
            "UPDATE embedding SET photo = 99 WHERE photo = 2; "
            "UPDATE embedding SET photo = 2 WHERE photo = 3; "
            "UPDATE embedding SET photo = 3 WHERE photo = 99",
            id="two embeddings exchanged",
        ),
        pytest.param("UPDATE person SET lookup = x'01' WHERE id = 1", id="another look-up"),
        pytest.param("UPDATE person SET record = zeroblob(99) WHERE id = 1", id="record wiped"),
        pytest.param("INSERT INTO embedding VALUES (99, zeroblob(220))", id="one too many"),
        pytest.param("DELETE FROM meta WHERE key = 'state'", id="no state"),
    ],
)
@both_kinds
def test_rows_changed_behind_its_back_are_noticed(
    path: Path, key: Key | None, forgery: str
) -> None:
    make_gallery(path, key, people=3).close()
    run_sql(path, forgery)

    with pytest.raises(GalleryError, match="damaged"):
        read_all(path, key)


def test_a_row_put_back_after_its_removal_is_noticed(path: Path) -> None:
    with make_gallery(path, KEY, people=2) as gallery:
        record = read_cells(path, "SELECT record FROM person WHERE id = 1")[0]
        lookup = read_cells(path, "SELECT lookup FROM person WHERE id = 1")[0]
        gallery.remove("q00000")
    run_sql(path, f"INSERT INTO person VALUES (1, x'{lookup.hex()}', x'{record.hex()}')")

    with Gallery.open(path, KEY) as gallery, pytest.raises(GalleryError, match="damaged"):
        gallery.people()


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(np.full(DIMENSION, np.nan, "<f4"), id="NaN"),
        pytest.param(np.ones(DIMENSION, "<f4"), id="not a unit"),
        pytest.param(make_vector(1)[:-1], id="short"),
        pytest.param(np.append(make_vector(1), np.float32(0)), id="long"),
    ],
)
def test_an_embedding_that_enrolment_would_refuse_is_noticed(
    path: Path, vector: np.ndarray
) -> None:
    with make_gallery(path, KEY, people=2) as gallery:
        sealed = gallery._cells.seal(vector.tobytes(), Place("embedding", 2, "vector"))
    run_sql(path, f"UPDATE embedding SET vector = x'{sealed.hex()}' WHERE photo = 2")

    with Gallery.open(path, KEY) as gallery, pytest.raises(GalleryError, match="an embedding"):
        gallery.search(make_vector(1))


def run_sql(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def test_names_and_vectors_are_not_in_an_encrypted_file(path: Path) -> None:
    photo = make_photo(1)
    with make_gallery(path, KEY) as gallery:
        gallery.enroll(ANA, [photo])
    data = path.read_bytes()

    readable = [ANA.id, ANA.name, "Ana", ANA.place, ANA.notes, photo.file_name, photo.sha256]
    secrets = [text.encode() for text in readable]
    secrets += [photo.thumbnail[:12], photo.embedding.tobytes()[:8], b"enroll", b"frontal"]
    assert [secret for secret in secrets if secret in data] == []
    assert hashlib.sha256(ANA.id.encode()).digest() not in data


def test_the_settings_that_protect_the_file_are_in_force(path: Path) -> None:
    make_gallery(path).close()

    with Gallery.open(path) as gallery:
        execute = gallery._database.execute
        found = {
            name: execute(f"PRAGMA {name}")[0][0]
            for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
        }
        pages = execute("PRAGMA page_size")[0][0]

    assert found == {
        "journal_mode": "delete",
        "synchronous": 3,
        "secure_delete": 1,
        "foreign_keys": 1,
    }
    assert pages == 4096
    assert [entry.name for entry in path.parent.iterdir()] == ["db.bin"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


def test_an_existing_file_is_never_overwritten(path: Path) -> None:
    path.write_text("my thesis")

    with pytest.raises(GalleryError, match="exists already"):
        make_gallery(path)

    assert path.read_text() == "my thesis"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(None, "there is no gallery", id="missing"),
        pytest.param(b"", "making was cut short", id="empty"),
        pytest.param(b"a text file", "not a gallery", id="short text"),
        pytest.param(b"person,name\n" * 100, "not a gallery", id="long text"),
        pytest.param(b"\x80\x02}q\x00.", "not a gallery", id="pickle"),
    ],
)
def test_a_file_of_another_kind_is_refused_untouched(
    path: Path, content: bytes | None, complaint: str
) -> None:
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(GalleryError, match=complaint):
        Gallery.open(path)

    assert (path.read_bytes() if path.exists() else None) == content


def test_another_program_s_database_is_refused(path: Path) -> None:
    run_sql(path, "CREATE TABLE notes (text)")

    with pytest.raises(GalleryError, match="of another program"):
        Gallery.open(path)


def test_a_newer_schema_is_refused(path: Path) -> None:
    make_gallery(path).close()
    run_sql(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")

    with pytest.raises(
        GalleryError,
        match=f"schema {SCHEMA_VERSION + 1}, this program knows up to {SCHEMA_VERSION}: update",
    ):
        Gallery.open(path)


@pytest.mark.parametrize(
    "forgery",
    [
        "CREATE VIEW spy AS SELECT 1",
        "CREATE TRIGGER spy AFTER INSERT ON person BEGIN DELETE FROM log; END",
        "ALTER TABLE person ADD COLUMN spy",
        "DROP TABLE log",
    ],
)
def test_a_foreign_schema_is_refused(path: Path, forgery: str) -> None:
    make_gallery(path).close()
    run_sql(path, forgery)

    with pytest.raises(GalleryError, match="tables that no gallery has"):
        Gallery.open(path)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_truncated_file_is_refused_untouched(path: Path, key: Key | None) -> None:
    make_gallery(path, key, people=4).close()
    whole = path.read_bytes()

    for size in (1, 50, 99, 100, 4_095, 4_096, 10_000, len(whole) - 4_096, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(GalleryError, match=r"restore it from a copy|not a gallery"):
            read_all(path, key)
        assert path.read_bytes() == whole[:size]
        assert [entry.name for entry in path.parent.iterdir()] == ["db.bin"]


@both_kinds
def test_a_file_that_lost_only_zeros_is_refused(path: Path, key: Key | None) -> None:
    with make_gallery(path, key, people=4) as gallery:
        gallery.remove("q00003")  # the rows written last are overwritten with zeros
    whole = path.read_bytes()
    assert whole[-1] == 0

    path.write_bytes(whole[:-1])

    with pytest.raises(GalleryError, match="restore it from a copy"):
        Gallery.open(path, key)


def test_an_interrupted_enrolment_leaves_nothing_half_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_gallery(path, people=1) as gallery:
        before = gallery.digest

        with monkeypatch.context() as patch:
            patch.setattr(gallery._tables, "append_event", interrupt)
            with pytest.raises(KeyboardInterrupt):
                gallery.enroll(ANA, [make_photo(1)])

        assert gallery.digest == before
        assert gallery.enroll(ANA, [make_photo(1)]) == 1


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_full_disk_leaves_the_gallery_as_it_was(path: Path) -> None:
    with make_gallery(path, people=1) as gallery:
        before = gallery.digest
        pages = gallery._database.execute("PRAGMA page_count")[0][0]
        gallery._database.execute(f"PRAGMA max_page_count = {pages}")

        with pytest.raises(GalleryError, match="disk is full"):
            gallery.enroll(ANA, [make_photo(1), make_photo(2), make_photo(3)])

        assert gallery.digest == before
    with Gallery.open(path) as gallery:
        assert gallery.digest == before


def test_a_second_writer_is_told_to_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 50)
    make_gallery(path).close()
    with Gallery.open(path) as first, Gallery.open(path) as second:
        with first._changing(), pytest.raises(GalleryError, match="in use by another program"):
            second.enroll(ANA, [make_photo(1)])
        assert second.enroll(ANA, [make_photo(1)]) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for place in (tmp_path / "missing" / "db.bin", tmp_path / "file" / "db.bin"):
        with pytest.raises(GalleryError, match="choose a folder that exists"):
            make_gallery(place)


def test_a_write_protected_gallery_can_be_searched_only(path: Path) -> None:
    make_gallery(path, people=2).close()
    with Gallery.open(path) as gallery:
        # Root may write anywhere, so the file system is not asked.
        gallery._database.execute("PRAGMA query_only = ON")

        assert len(gallery.search(make_vector(1)).candidates) == 2
        with pytest.raises(GalleryError, match="cannot be written"):
            gallery.enroll(ANA, [make_photo(1)])


def test_importing_the_gallery_is_light() -> None:
    code = "import sys, fcr_edge.gallery; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert {"hnswlib", "cv2", "cryptography", "torch", "onnxruntime"}.isdisjoint(loaded)

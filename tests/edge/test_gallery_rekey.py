"""A gallery under a new key is the same gallery, and the old key opens nothing of it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from some_galleries import ANA, BEN, KEY, make_gallery, make_photo, read_all

from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Gallery, Key

OTHER = KEY[::-1]
GALLERIES = Path(__file__).parent / "galleries"
OLD_DIGEST = "b04f2285f8cc0f56f8c4d9a157a352f8626880727b55d43bd16dc645f18f18c3"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.bin"


def fill(path: Path, key: Key | None) -> None:
    with make_gallery(path, key, people=3) as gallery:
        gallery.enroll(ANA, [make_photo(1)])
        gallery.enroll(BEN, [make_photo(2), make_photo(3)])
        gallery.remove(BEN.id)


def list_cells(path: Path) -> list[bytes]:
    """Every cell of people, photos and log."""
    with sqlite3.connect(path) as database:
        return [
            cell
            for table, columns in (
                ("person", "lookup, record"),
                ("photo", "details, thumbnail"),
                ("embedding", "vector, vector"),
                ("log", "event, hash"),
            )
            for row in database.execute(f"SELECT {columns} FROM {table}")
            for cell in row
        ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(KEY, OTHER, id="another"),
        pytest.param(KEY, "gray owl", id="passphrase"),
        pytest.param(None, KEY, id="locked"),
        pytest.param(KEY, None, id="in clear"),
    ],
)
def test_it_answers_as_before(path: Path, old: Key | None, new: Key | None) -> None:
    fill(path, old)
    *before, history = read_all(path, old)
    cells = list_cells(path)

    with Gallery.open(path, old) as gallery:
        gallery.rekey(new)
        assert gallery.encrypted == (new is not None)
        gallery.enroll(BEN, [make_photo(4)])
        gallery.remove(BEN.id)

    *after, longer = read_all(path, new)
    assert [str(one) for one in after] == [str(one) for one in before]
    assert [event.action for event in longer] == [
        *(event.action for event in history),
        "rekey",
        "enroll",
        "remove",
    ]
    assert [event.time for event in longer[: len(history)]] == [event.time for event in history]
    with pytest.raises(GalleryError):
        Gallery.open(path, old)
    if old is not None:  # in clear a cell is what it was, but for its end
        content = path.read_bytes()
        assert not [cell for cell in cells if cell in content]
    if new is not None:
        assert ANA.name.encode() not in path.read_bytes()


def test_the_log_names_who_is_still_there(path: Path) -> None:
    fill(path, KEY)
    with Gallery.open(path, KEY) as gallery:
        gallery.log_search(["f" * 64], "b" * 64, [ANA.id])
        gallery.rekey(OTHER)
        gallery.remove(ANA.id)
        events = gallery.history()

    enrolled, removed = (
        {event.person for event in events if event.action == action}
        for action in ("enroll", "remove")
    )
    assert events[-1].person in enrolled, "under the new key the same hash as at enrolment"
    assert len(removed & enrolled) == 2
    assert events[-3].candidates == (events[-1].person,)


def test_whoever_had_it_open_is_told(path: Path) -> None:
    fill(path, KEY)
    with Gallery.open(path, KEY) as reader, Gallery.open(path, KEY) as writer:
        writer.rekey(OTHER)

        with pytest.raises(GalleryError, match="another key since it was opened: open it again"):
            reader.people()
        with pytest.raises(GalleryError, match="another key since it was opened"):
            reader.enroll(BEN, [make_photo(9)])
        assert len(writer.people()) == 4


def test_a_damaged_gallery_keeps_its_key(path: Path) -> None:
    fill(path, KEY)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM embedding WHERE photo = (SELECT min(photo) FROM embedding)")
    before = path.read_bytes()

    with Gallery.open(path, KEY) as gallery, pytest.raises(GalleryError, match="damaged"):
        gallery.rekey(OTHER)

    assert path.read_bytes() == before


def test_progress_is_told(path: Path) -> None:
    fill(path, KEY)
    told: list[tuple[int, int]] = []
    with Gallery.open(path, KEY) as gallery:
        gallery.rekey(OTHER, tell=lambda done, total: told.append((done, total)))

    assert told == [(done, 7) for done in range(7)]


CHILD = """
import sys
from pathlib import Path
from fcr_edge.gallery import Gallery

key = bytes(range(32))
with Gallery.open(Path(sys.argv[1]), key) as gallery:
    print("open", flush=True)
    while True:
        key = key[::-1]
        gallery.rekey(key)
        print(key.hex(), flush=True)
"""


def test_kill_leaves_it_under_one_key(path: Path) -> None:
    make_gallery(path, KEY, people=40).close()
    *before, _ = read_all(path, KEY)
    for trial in range(8):
        command = [sys.executable, "-c", CHILD, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            time.sleep(0.01 + 0.007 * trial)
            child.kill()
            said = [bytes.fromhex(line) for line in child.stdout.read().split()]
        acknowledged = said[-1] if said else KEY
        # One more may have been committed and killed before it could say so.
        key = acknowledged if opens(path, acknowledged) else acknowledged[::-1]

        *after, _ = read_all(path, key)

        assert [str(one) for one in after] == [str(one) for one in before]
        if key != KEY:
            with Gallery.open(path, key) as gallery:
                gallery.rekey(KEY)


def opens(path: Path, key: Key) -> bool:
    try:
        Gallery.open(path, key).close()
    except GalleryError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "key"),
    [("plain", None), ("passphrase", "correct horse battery staple"), ("key-file", KEY)],
)
def test_a_gallery_of_an_earlier_version_opens(path: Path, kind: str, key: Key | None) -> None:
    """Written once by the program of their time: three people, one more removed."""
    path.write_bytes((GALLERIES / f"schema-1-{kind}.bin").read_bytes())

    with Gallery.open(path, key) as gallery:
        assert gallery.digest == OLD_DIGEST
        assert gallery.people()[0].name == "Ada Example"
        assert [event.action for event in gallery.history()] == ["enroll"] * 4 + ["remove"]

"""A gallery opens with its own key only, and a sealed cell in its own place only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fcr_edge.errors import ConfigError, GalleryError
from fcr_edge.gallery import (
    Gallery,
    HeadquartersKey,
    make_headquarters_keys,
    read_headquarters_public_key,
    read_key_file,
)
from fcr_edge.gallery.keys import ClearCells, DamagedCellError, Place, SealedCells
from fcr_edge.gallery.locks import Argon2, unwrap_key, wrap_for_headquarters, wrap_key
from fcr_edge.key_files import write_pair

if TYPE_CHECKING:
    from pathlib import Path

    from fcr_edge.gallery import Key
    from fcr_edge.gallery.keys import Cells

KEY = bytes(range(32))
PLACE = Place("person", 3, "record")
CELLS = [ClearCells("gallery-1"), SealedCells("gallery-1", KEY)]

both_kinds = pytest.mark.parametrize("cells", CELLS, ids=["clear", "sealed"])


def make_gallery(path: Path, key: Key | None) -> None:
    Gallery.create(path, "9f3c" * 16, 8, key).close()


@both_kinds
@given(plain=st.binary(max_size=100))
def test_a_cell_opens_in_its_place(cells: Cells, plain: bytes) -> None:
    assert cells.unseal(cells.seal(plain, PLACE), PLACE) == plain


@both_kinds
@given(plain=st.binary(max_size=60), data=st.data())
def test_a_changed_cell_does_not_open(cells: Cells, plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(cells.seal(plain, PLACE))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(DamagedCellError):
        cells.unseal(bytes(sealed), PLACE)


@both_kinds
@pytest.mark.parametrize("sealed", [None, 7, "text", b"", b"short", bytes(200)])
def test_what_was_never_sealed_does_not_open(cells: Cells, sealed: object) -> None:
    with pytest.raises(DamagedCellError):
        cells.unseal(sealed, PLACE)


@both_kinds
@pytest.mark.parametrize(
    "place", [Place("photo", 3, "record"), Place("person", 4, "record"), Place("person", 3, "x")]
)
def test_a_cell_does_not_open_elsewhere(cells: Cells, place: Place) -> None:
    sealed = cells.seal(b"Ana", PLACE)

    with pytest.raises(DamagedCellError):
        cells.unseal(sealed, place)


@pytest.mark.parametrize("other", [ClearCells("gallery-2"), SealedCells("gallery-2", KEY)])
def test_a_cell_of_another_gallery_does_not_open(other: Cells) -> None:
    mine = CELLS[other.encrypted]

    with pytest.raises(DamagedCellError):
        other.unseal(mine.seal(b"Ana", PLACE), PLACE)


def test_the_same_text_is_never_sealed_to_the_same_bytes() -> None:
    cells = SealedCells("gallery-1", KEY)

    assert len({cells.seal(b"Ana", PLACE)[:12] for _ in range(1000)}) == 1000


def test_a_hash_under_another_key_is_another_hash() -> None:
    assert SealedCells("g", KEY).fingerprint(b"a") != SealedCells("g", KEY[::-1]).fingerprint(b"a")


def test_a_lock_opens_beside_its_own_gallery_only() -> None:
    lock = wrap_key(bytes(32), KEY, b"gallery-1")

    assert unwrap_key(lock, KEY, b"gallery-1") == bytes(32)
    assert unwrap_key(lock, KEY, b"gallery-2") is None
    assert unwrap_key(lock, KEY[::-1], b"gallery-1") is None


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"salt": bytes(15)}, id="short salt"),
        pytest.param({"passes": 11}, id="passes"),
        pytest.param({"passes": 0}, id="no pass"),
        pytest.param({"memory_kib": 1024 * 1024 + 1}, id="too much memory"),
        pytest.param({"memory_kib": 64}, id="too little memory"),
        pytest.param({"lanes": 17}, id="lanes"),
    ],
)
def test_argon2_settings_are_bounded_before_they_are_run(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        Argon2(**{"salt": bytes(16), **settings})


def test_a_forged_lock_is_refused_before_it_costs_memory() -> None:
    lock = wrap_key(bytes(32), "correct horse", b"gallery-1")
    forged = json.loads(json.dumps(lock).replace("65536", "1000000000"))

    with pytest.raises(ValueError, match="out of bounds"):
        unwrap_key(forged, "correct horse", b"gallery-1")


@pytest.mark.parametrize(
    ("made_with", "opened_with", "complaint"),
    [
        pytest.param("gray owl", "grey owl", "wrong passphrase", id="wrong passphrase"),
        pytest.param("gray owl", KEY, "not locked with a key-file: give --passphrase", id="kind"),
        pytest.param(KEY, KEY[::-1], "wrong key file", id="wrong key file"),
        pytest.param(KEY, "gray owl", "not locked with a passphrase: give --key-file", id="other"),
        pytest.param(KEY, None, "encrypted: give --passphrase or --key-file", id="no key"),
        pytest.param(None, KEY, "not encrypted: open it without a key", id="needless key"),
    ],
)
def test_a_gallery_opens_with_its_own_key_only(
    tmp_path: Path, made_with: Key | None, opened_with: Key | None, complaint: str
) -> None:
    make_gallery(tmp_path / "db.bin", made_with)

    with pytest.raises(GalleryError, match=complaint):
        Gallery.open(tmp_path / "db.bin", opened_with)


def test_a_passphrase_may_be_typed_on_another_keyboard(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9 au lait", "cafe\u0301 au lait"
    make_gallery(tmp_path / "db.bin", composed)

    with Gallery.open(tmp_path / "db.bin", decomposed) as gallery:
        assert gallery.encrypted


@pytest.mark.parametrize("key", [pytest.param("", id="passphrase"), pytest.param(b"k", id="file")])
def test_no_gallery_is_made_with_a_useless_key(tmp_path: Path, key: Key) -> None:
    with pytest.raises(GalleryError, match=r"passphrase is empty|key has 1 bytes"):
        make_gallery(tmp_path / "db.bin", key)

    assert not (tmp_path / "db.bin").exists()


def test_a_key_file_holds_exactly_32_bytes(tmp_path: Path) -> None:
    file = tmp_path / "gallery.key"
    with pytest.raises(GalleryError, match="cannot be read"):
        read_key_file(file)
    for size in (0, 31, 33):
        file.write_bytes(bytes(size))
        with pytest.raises(GalleryError, match="exactly 32 bytes"):
            read_key_file(file)

    file.write_bytes(KEY)

    assert read_key_file(file) == KEY


@pytest.fixture
def headquarters(tmp_path: Path) -> tuple[bytes, HeadquartersKey]:
    """The public and the private key."""
    public = make_headquarters_keys(tmp_path / "hq.pem", None)
    private = read_key_file(tmp_path / "hq.pem")
    assert isinstance(private, HeadquartersKey)
    return read_headquarters_public_key(public), private


def test_headquarters_opens_what_was_locked_for_it(
    tmp_path: Path, headquarters: tuple[bytes, HeadquartersKey]
) -> None:
    public, private = headquarters
    Gallery.create(tmp_path / "db.bin", "9f3c" * 16, 8, "gray owl", public).close()

    for key in ("gray owl", private):
        with Gallery.open(tmp_path / "db.bin", key) as gallery:
            assert gallery.encrypted
    with pytest.raises(GalleryError, match=r"wrong headquarters .* open it with the passphrase"):
        Gallery.open(tmp_path / "db.bin", HeadquartersKey(KEY))
    with pytest.raises(GalleryError, match=r"wrong passphrase .* open it with the headquarters"):
        Gallery.open(tmp_path / "db.bin", "grey owl")


def test_headquarters_lock_opens_beside_its_own_gallery_only(
    headquarters: tuple[bytes, HeadquartersKey],
) -> None:
    public, private = headquarters
    lock = wrap_for_headquarters(KEY, public, b"gallery-1")

    assert unwrap_key(lock, private, b"gallery-1") == KEY
    assert unwrap_key(lock, private, b"gallery-2") is None
    assert unwrap_key(lock, KEY, b"gallery-1") is None


def test_headquarters_alone_locks_nothing(
    tmp_path: Path, headquarters: tuple[bytes, HeadquartersKey]
) -> None:
    with pytest.raises(GalleryError, match="give a passphrase or a key file"):
        Gallery.create(tmp_path / "db.bin", "9f3c" * 16, 8, None, headquarters[0])

    assert not (tmp_path / "db.bin").exists()


def test_a_private_key_may_be_locked(tmp_path: Path) -> None:
    make_headquarters_keys(tmp_path / "hq.pem", "gray owl")

    assert isinstance(read_key_file(tmp_path / "hq.pem", lambda: "gray owl"), HeadquartersKey)
    with pytest.raises(GalleryError, match=r"hq\.pem cannot be read"):
        read_key_file(tmp_path / "hq.pem", lambda: "grey owl")
    with pytest.raises(GalleryError, match=r"hq\.pem cannot be read"):
        read_key_file(tmp_path / "hq.pem")


def test_a_key_of_signing_is_no_key_of_galleries(tmp_path: Path) -> None:
    public = write_pair(tmp_path / "sign.pem", Ed25519PrivateKey.generate(), None)

    with pytest.raises(GalleryError, match="another kind: name one that fcr-edge gallery keygen"):
        read_key_file(tmp_path / "sign.pem")
    with pytest.raises(ConfigError, match="another kind: name one that fcr-edge gallery keygen"):
        read_headquarters_public_key(public)


def test_the_private_key_is_not_shown() -> None:
    assert KEY.hex() not in repr(HeadquartersKey(KEY))
    assert repr(KEY) not in repr(HeadquartersKey(KEY))

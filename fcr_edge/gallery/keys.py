"""Who may read a gallery: keys, and cells that they seal or that only carry a checksum.

An encrypted gallery has one random key of its own, wrapped by the user's passphrase or key file.
From it HKDF derives a key for each table and one for hashes. Each cell is sealed with AES-256-GCM
under a random 96-bit nonce and bound to its place, so a cell that was changed, moved to another
row or brought from another gallery does not open.

What stays visible: the embedder's fingerprint, the number of people, photos and changes, and the
length of each cell. Python cannot wipe a key from memory: whoever can read this process can read
the gallery.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fcr_edge.errors import GalleryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Key = str | bytes
"""A passphrase (str), or the 32 bytes of a key file (bytes, see read_key_file)."""

KEY_BYTES = 32
NONCE_BYTES = 12  # 96 bits: the one length GCM takes as it is (NIST SP 800-38D, 5.2.1.1)
CHECKSUM_BYTES = 16


class Place(NamedTuple):
    """Where a cell stands in the gallery."""

    table: str
    row: int
    column: str


class Cells(Protocol):
    """Turns the content of cells into what the file holds, and back."""

    encrypted: bool

    def seal(self, plain: bytes, place: Place) -> bytes:
        """Bind the content to its place."""

    def unseal(self, sealed: object, place: Place) -> bytes:
        """Give the content back; raise DamagedCellError unless it is what was sealed there."""

    def fingerprint(self, data: bytes) -> bytes:
        """Hash data to 32 bytes, under the gallery's key where it has one."""


class DamagedCellError(Exception):
    """A cell is not what was written in its place."""


class ClearCells:
    """Cells in clear, each with a checksum: shows damage, hides nothing, stops no forger."""

    encrypted = False

    def __init__(self, gallery: str) -> None:
        self._gallery = gallery

    def seal(self, plain: bytes, place: Place) -> bytes:
        """Append the checksum of content and place."""
        return plain + self._checksum(plain, place)

    def unseal(self, sealed: object, place: Place) -> bytes:
        """Check and cut off the checksum."""
        if not isinstance(sealed, bytes):
            raise DamagedCellError
        plain, checksum = sealed[:-CHECKSUM_BYTES], sealed[-CHECKSUM_BYTES:]
        if checksum != self._checksum(plain, place):
            raise DamagedCellError
        return plain

    def fingerprint(self, data: bytes) -> bytes:
        """Hash data with SHA-256."""
        return hashlib.sha256(data).digest()

    def _checksum(self, plain: bytes, place: Place) -> bytes:
        return hashlib.sha256(_bind(self._gallery, place) + plain).digest()[:CHECKSUM_BYTES]


class SealedCells:
    """Cells sealed with AES-256-GCM under keys derived from the gallery's key."""

    encrypted = True

    def __init__(self, gallery: str, gallery_key: bytes) -> None:
        self._gallery = gallery
        self._gallery_key = gallery_key
        self._table_keys: dict[str, bytes] = {}
        self._hash_key = _derive(gallery_key, "fingerprint")

    def seal(self, plain: bytes, place: Place) -> bytes:
        """Encrypt, bound to the place, as nonce, ciphertext and tag."""
        return _encrypt(self._table_key(place.table), plain, _bind(self._gallery, place))

    def unseal(self, sealed: object, place: Place) -> bytes:
        """Decrypt what was sealed in this place."""
        return _decrypt(self._table_key(place.table), sealed, _bind(self._gallery, place))

    def fingerprint(self, data: bytes) -> bytes:
        """Hash data with HMAC-SHA-256: without the key a guessed name cannot be tried."""
        return hmac.digest(self._hash_key, data, "sha256")

    def _table_key(self, table: str) -> bytes:
        if table not in self._table_keys:
            self._table_keys[table] = _derive(self._gallery_key, f"table {table}")
        return self._table_keys[table]


@dataclass(frozen=True)
class Argon2:
    """Settings of Argon2id (RFC 9106), stored in the gallery and bounded before they are run.

    Raises ValueError outside the bounds: a forged file must not exhaust the machine's memory.
    """

    salt: bytes
    passes: int = 3
    """1 to 10; 3 is RFC 9106's second recommended option, as are the next two."""
    memory_kib: int = 64 * 1024
    """8 MiB to 1 GiB, in KiB."""
    lanes: int = 4
    """1 to 16."""

    def __post_init__(self) -> None:
        bounded = (
            16 <= len(self.salt) <= 64
            and 1 <= self.passes <= 10
            and 8 * 1024 <= self.memory_kib <= 1024 * 1024
            and 1 <= self.lanes <= 16
        )
        if not bounded:
            raise ValueError("Argon2id settings out of bounds")

    def derive(self, passphrase: str) -> bytes:
        """Stretch a passphrase to 32 bytes (0.1 to 0.5 s)."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        # Two keyboards may write the same accented letter as different code points.
        text = unicodedata.normalize("NFKC", passphrase).encode("utf-8", "surrogateescape")
        try:
            stretch = Argon2id(
                salt=self.salt,
                length=KEY_BYTES,
                iterations=self.passes,
                lanes=self.lanes,
                memory_cost=self.memory_kib,
            )
        except UnsupportedAlgorithm as err:
            raise GalleryError(
                "this build of 'cryptography' has no Argon2id: "
                "pip install --force-reinstall cryptography, or lock the gallery with a key file"
            ) from err
        return stretch.derive(text)


def read_key_file(path: Path) -> bytes:
    """Read a key file of exactly 32 bytes.

    Raises GalleryError if it is missing or of another size.
    """
    try:
        with path.open("rb") as file:
            key = file.read(KEY_BYTES + 1)
    except OSError as err:
        raise GalleryError(f"key file {path} cannot be read: {err.strerror}") from err
    if len(key) != KEY_BYTES:
        raise GalleryError(
            f"key file {path} does not hold exactly {KEY_BYTES} bytes: pass the file the gallery "
            f"was made with, or make a new one with: openssl rand -out FILE {KEY_BYTES}"
        )
    return key


def new_gallery_key() -> bytes:
    """Draw the random 32-byte key of a new gallery."""
    return secrets.token_bytes(KEY_BYTES)


def wrap_key(gallery_key: bytes, key: Key, bound: bytes) -> dict[str, Any]:
    """Lock the gallery's key with the user's, as a JSON object that unwrap_key opens.

    The lock opens only beside the same `bound` bytes. Raises GalleryError for an empty passphrase
    or a key that is not 32 bytes long.
    """
    if isinstance(key, str):
        if not key:
            raise GalleryError("the passphrase is empty: give one of several words")
        argon2 = Argon2(salt=secrets.token_bytes(16))
        wrapped = _encrypt(argon2.derive(key), gallery_key, bound)
        settings = {
            "salt": argon2.salt.hex(),
            "passes": argon2.passes,
            "memory_kib": argon2.memory_kib,
            "lanes": argon2.lanes,
        }
        return {"kind": "passphrase", "argon2id": settings, "wrapped": wrapped.hex()}
    if len(key) != KEY_BYTES:
        raise GalleryError(f"the key has {len(key)} bytes: {KEY_BYTES} are needed")
    return {
        "kind": "key-file",
        "wrapped": _encrypt(_derive(key, "wrap"), gallery_key, bound).hex(),
    }


def unwrap_key(lock: Mapping[str, Any], key: Key, bound: bytes) -> bytes | None:
    """Open a lock made by wrap_key; None if this key does not fit.

    GCM's own tag is the check value: nothing else in the file tells a right passphrase from a
    wrong one. Raises KeyError, TypeError or ValueError for a lock that is not well formed.
    """
    wrapped = bytes.fromhex(lock["wrapped"])
    if lock["kind"] == "passphrase" and isinstance(key, str):
        settings = dict(lock["argon2id"])
        wrapping_key = Argon2(salt=bytes.fromhex(settings.pop("salt")), **settings).derive(key)
    elif lock["kind"] == "key-file" and isinstance(key, bytes):
        wrapping_key = _derive(key, "wrap")
    else:
        return None
    try:
        return _decrypt(wrapping_key, wrapped, bound)
    except DamagedCellError:
        return None


def _bind(gallery: str, place: Place) -> bytes:
    return f"{gallery}/{place.table}/{place.row}/{place.column}/".encode()


def _derive(key: bytes, purpose: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = f"fcr-gallery/1 {purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def _encrypt(key: bytes, plain: bytes, bound: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def _decrypt(key: bytes, sealed: object, bound: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not isinstance(sealed, bytes) or len(sealed) < NONCE_BYTES:
        raise DamagedCellError
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
    except InvalidTag as err:
        raise DamagedCellError from err

"""The cells of a gallery: sealed under its key, or in clear with a checksum.

An encrypted gallery has one random key of its own (see locks.py for who holds it). From it HKDF
derives a key for each table and one for hashes. Each cell is sealed with AES-256-GCM under a
random 96-bit nonce and bound to its place, so a cell that was changed, moved to another row or
brought from another gallery does not open.

What stays visible: the embedder's fingerprint, the number of people, photos and changes, and the
length of each cell. Python cannot wipe a key from memory: whoever can read this process can read
the gallery.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import NamedTuple, Protocol

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
        self._ciphers: dict[str, Cipher] = {}
        self._hash_key = derive(gallery_key, "fingerprint")

    def seal(self, plain: bytes, place: Place) -> bytes:
        """Encrypt, bound to the place, as nonce, ciphertext and tag."""
        return self._cipher(place.table).encrypt(plain, _bind(self._gallery, place))

    def unseal(self, sealed: object, place: Place) -> bytes:
        """Decrypt what was sealed in this place."""
        return self._cipher(place.table).decrypt(sealed, _bind(self._gallery, place))

    def fingerprint(self, data: bytes) -> bytes:
        """Hash data with HMAC-SHA-256: without the key a guessed name cannot be tried."""
        return hmac.digest(self._hash_key, data, "sha256")

    def _cipher(self, table: str) -> Cipher:
        if table not in self._ciphers:
            self._ciphers[table] = Cipher(derive(self._gallery_key, f"table {table}"))
        return self._ciphers[table]


def _bind(gallery: str, place: Place) -> bytes:
    return f"{gallery}/{place.table}/{place.row}/{place.column}/".encode()


def derive(key: bytes, purpose: str) -> bytes:
    """Derive another 32-byte key by HKDF-SHA-256 (RFC 5869)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = f"fcr-gallery/1 {purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


class Cipher:
    """AES-256-GCM under one key: made once, for making it takes longer than a cell."""

    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher, self._not_it = AESGCM(key), InvalidTag

    def encrypt(self, plain: bytes, bound: bytes) -> bytes:
        """Encrypt under a random nonce, as nonce, ciphertext and tag."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, bound)

    def decrypt(self, sealed: object, bound: bytes) -> bytes:
        """Decrypt what encrypt gave; raise DamagedCellError unless key and bound bytes fit."""
        if not isinstance(sealed, bytes) or len(sealed) < NONCE_BYTES:
            raise DamagedCellError
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
        except self._not_it as err:
            raise DamagedCellError from err

"""Who may open a gallery: its key, wrapped for a passphrase, a key file, headquarters.

Each lock holds the same random key. A passphrase is stretched by Argon2id (RFC 9106).
Headquarters has a pair of X25519 keys: the public one wraps the gallery's key by HPKE (RFC 9180,
base mode), the private one stays there, offline, for the day that a passphrase is forgotten.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fcr_edge import key_files
from fcr_edge.errors import ConfigError, GalleryError
from fcr_edge.gallery.keys import KEY_BYTES, Cipher, DamagedCellError, derive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.hpke import Suite

KEY_MAKER = "fcr-edge gallery keygen"
"""The command that makes headquarters' pair of keys."""
MAX_KEY_FILE = 4096
"""Bytes of a key file in PEM, at most."""


@dataclass(frozen=True)
class HeadquartersKey:
    """Headquarters' private key, for the lock that its public key made."""

    private: bytes = field(repr=False)
    """X25519, 32 bytes."""


Key = str | bytes | HeadquartersKey
"""A passphrase, the 32 bytes of a key file, or headquarters' private key (see read_key_file)."""


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


def read_key_file(path: Path, ask: Callable[[], str] | None = None) -> bytes | HeadquartersKey:
    """Read a key file of exactly 32 bytes, or headquarters' private key in PEM.

    `ask` gives the passphrase that locks the latter, if one does. Raises GalleryError if the file
    is missing, of another size, or locked.
    """
    try:
        with path.open("rb") as file:
            key = file.read(MAX_KEY_FILE)
    except OSError as err:
        raise GalleryError(f"key file {path} cannot be read: {err.strerror}") from err
    if key.startswith(key_files.PEM_START):
        return _read_headquarters_key(path, ask if b"ENCRYPTED" in key else None)
    if len(key) != KEY_BYTES:
        raise GalleryError(
            f"key file {path} does not hold exactly {KEY_BYTES} bytes: pass the file the gallery "
            f"was made with, or make a new one with: openssl rand -out FILE {KEY_BYTES}"
        )
    return key


def make_headquarters_keys(path: Path, passphrase: str | None) -> Path:
    """Write headquarters' pair of keys; gives the public one's file. Raises ConfigError."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return key_files.write_pair(path, X25519PrivateKey.generate(), passphrase)


def read_headquarters_public_key(path: Path) -> bytes:
    """Read headquarters' public key, 32 bytes. Raises ConfigError."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    public = key_files.read_public(path, X25519PublicKey, KEY_MAKER)
    return public.public_bytes_raw()


def new_gallery_key() -> bytes:
    """Draw the random 32-byte key of a new gallery."""
    return secrets.token_bytes(KEY_BYTES)


def wrap_key(gallery_key: bytes, key: str | bytes, bound: bytes) -> dict[str, Any]:
    """Lock the gallery's key with the user's, as a JSON object that unwrap_key opens.

    The lock opens only beside the same `bound` bytes. Raises GalleryError for an empty passphrase
    or a key that is not 32 bytes long.
    """
    if isinstance(key, str):
        if not key:
            raise GalleryError("the passphrase is empty: give one of several words")
        argon2 = Argon2(salt=secrets.token_bytes(16))
        wrapped = Cipher(argon2.derive(key)).encrypt(gallery_key, bound)
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
        "wrapped": Cipher(derive(key, "wrap")).encrypt(gallery_key, bound).hex(),
    }


def wrap_for_headquarters(gallery_key: bytes, public: bytes, bound: bytes) -> dict[str, Any]:
    """Lock the gallery's key with headquarters' public key of 32 bytes, likewise."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    recipient = X25519PublicKey.from_public_bytes(public)
    wrapped = _suite().encrypt(gallery_key, recipient, info=bound)
    return {"kind": "headquarters", "public": public.hex(), "wrapped": wrapped.hex()}


def unwrap_key(lock: Mapping[str, Any], key: Key, bound: bytes) -> bytes | None:
    """Open a lock; None if this key does not fit.

    The ciphers' own tags are the check value: nothing else in the file tells a right passphrase
    from a wrong one. Raises KeyError, TypeError or ValueError for a lock that is not well formed.
    """
    wrapped = bytes.fromhex(lock["wrapped"])
    kind = lock["kind"]
    if kind == "headquarters" and isinstance(key, HeadquartersKey):
        return _unwrap_at_headquarters(wrapped, key, bound)
    if kind == "passphrase" and isinstance(key, str):
        settings = dict(lock["argon2id"])
        wrapping_key = Argon2(salt=bytes.fromhex(settings.pop("salt")), **settings).derive(key)
    elif kind == "key-file" and isinstance(key, bytes):
        wrapping_key = derive(key, "wrap")
    else:
        return None
    try:
        return Cipher(wrapping_key).decrypt(wrapped, bound)
    except DamagedCellError:
        return None


def name_kind(key: Key) -> str:
    """Give the kind of lock that a key is for."""
    kinds = {str: "passphrase", bytes: "key-file", HeadquartersKey: "headquarters"}
    return kinds[type(key)]


def _unwrap_at_headquarters(wrapped: bytes, key: HeadquartersKey, bound: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    private = X25519PrivateKey.from_private_bytes(key.private)
    try:
        return _suite().decrypt(wrapped, private, info=bound)
    except InvalidTag:
        return None


def _suite() -> Suite:
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _read_headquarters_key(path: Path, ask: Callable[[], str] | None) -> HeadquartersKey:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    try:
        secret = ask() if ask else None
        key = key_files.read_private(path, X25519PrivateKey, secret, KEY_MAKER)
    except ConfigError as err:
        raise GalleryError(str(err)) from err
    return HeadquartersKey(key.private_bytes_raw())

"""Pairs of keys in files: the private one in PEM (PKCS #8), the public one beside it as .pub."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from fcr_edge.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    Private = Ed25519PrivateKey | X25519PrivateKey

K = TypeVar("K")

SIGNING_KEY_MAKER = "fcr-edge gallery keygen --purpose receipts, or fcr-train keygen"
"""The commands that make pairs of Ed25519 keys."""
PEM_START = b"-----BEGIN"


def write_pair(path: Path, key: Private, passphrase: str | None) -> Path:
    """Write a private key, locked by the passphrase if there is one, and its public key.

    Returns the public key's file, `path`.pub. Raises ConfigError where either file is there
    already, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization as form

    locked: serialization.KeySerializationEncryption = form.NoEncryption()
    if passphrase:
        locked = form.BestAvailableEncryption(passphrase.encode())
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked)
    public = key.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    beside = path.with_name(f"{path.name}.pub")
    if beside.exists():
        raise ConfigError(f"{beside} is there already: name another file, no key is overwritten")
    _write_new(path, private, 0o600)
    _write_new(beside, public, 0o644)
    return beside


def read_private(path: Path, kind: type[K], passphrase: str | None, maker: str) -> K:
    """Read a private key of a kind, made by the command `maker`. Raises ConfigError."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    secret = passphrase.encode() if passphrase else None
    try:
        key = load_pem_private_key(path.read_bytes(), secret)
    except OSError as error:
        raise ConfigError(
            f"the private key {path} cannot be read ({error.strerror}): name the file of {maker}"
        ) from error
    except (ValueError, TypeError) as error:  # TypeError: a passphrase lacks or is extra
        raise ConfigError(
            f"the private key {path} cannot be read ({error}): name the file of {maker}, with"
            " --passphrase if it is locked by one"
        ) from error
    if not isinstance(key, kind):
        raise ConfigError(f"{path} is a key of another kind: name one that {maker} made")
    return key


def read_public(path: Path, kind: type[K], maker: str) -> K:
    """Read a public key of a kind, made by the command `maker`. Raises ConfigError."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} is not a public key in PEM ({error}): name the .pub file of {maker}"
        ) from error
    if not isinstance(key, kind):
        raise ConfigError(f"{path} is a key of another kind: name one that {maker} made")
    return key


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(data)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}): name a new file; no key is overwritten"
        ) from error

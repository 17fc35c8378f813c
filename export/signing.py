"""Vouching for bundles: a pair of Ed25519 keys, and the signature beside a manifest."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fcr_edge import trust
from fcr_edge.bundle import Bundle, write_signature
from fcr_edge.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def make_keys(path: Path, passphrase: str | None) -> tuple[Path, str]:
    """Write a private key in PEM (PKCS #8), and its public key as `path`.pub.

    Returns the public key's file and its 64 hexadecimal digits. Raises ConfigError where either
    file is there already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        locked = serialization.BestAvailableEncryption(passphrase.encode())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    beside = path.with_name(f"{path.name}.pub")
    if beside.exists():
        raise ConfigError(f"{beside} is there already: name another file, no key is overwritten")
    _write_new(path, private, 0o600)
    _write_new(beside, public, 0o644)
    return beside, key.public_key().public_bytes_raw().hex()


def sign_bundle(folder: Path, key_file: Path, passphrase: str | None) -> trust.Signature:
    """Sign a whole bundle as of now; a signature that it has is replaced.

    Raises BundleError where it is not whole, ConfigError where the key cannot be read.
    """
    bundle = Bundle.load(folder, allow_unsigned=True)
    version = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    signature = trust.sign(bundle.sha256, _read_private_key(key_file, passphrase), version)
    write_signature(bundle, signature)
    return signature


def _read_private_key(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    secret = passphrase.encode() if passphrase else None
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), secret)
    except (OSError, ValueError, TypeError) as error:  # TypeError: a passphrase lacks or is extra
        raise ConfigError(
            f"the private key {path} cannot be read ({error}): name the file of fcr-train keygen,"
            " with --passphrase if it is locked by one"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is a key of another kind: fcr-train keygen makes Ed25519 keys")
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

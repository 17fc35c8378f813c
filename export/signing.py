"""Vouching for bundles: a pair of Ed25519 keys, and the signature beside a manifest."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fcr_edge import key_files, trust
from fcr_edge.bundle import Bundle, write_signature

if TYPE_CHECKING:
    from pathlib import Path


def make_keys(path: Path, passphrase: str | None) -> tuple[Path, str]:
    """Write a private key in PEM (PKCS #8), and its public key as `path`.pub.

    Returns the public key's file and its 64 hexadecimal digits. Raises ConfigError where either
    file is there already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    public = key_files.write_pair(path, key, passphrase)
    return public, key.public_key().public_bytes_raw().hex()


def sign_bundle(folder: Path, key_file: Path, passphrase: str | None) -> trust.Signature:
    """Sign a whole bundle as of now; a signature that it has is replaced.

    Raises BundleError where it is not whole, ConfigError where the key cannot be read.
    """
    bundle = Bundle.load(folder, allow_unsigned=True)
    version = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    key = key_files.read_private(key_file, Ed25519PrivateKey, passphrase, trust.KEY_MAKER)
    signature = trust.sign(bundle.sha256, key, version)
    write_signature(bundle, signature)
    return signature

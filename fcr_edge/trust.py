"""Who made a bundle: signatures, the keys that a user trusts, and versions that only go forward.

A bundle's hashes find damage; whoever can replace a model can replace its hash as well. So whoever
makes bundles signs the manifest, which pins every other byte, by Ed25519 (RFC 8032), and whoever
uses them names the keys to be trusted:

    manifest.sig    schema "fcr-signature/1": key, version and signature, as JSON

The version is the time of signing. A bundle that is older than the one of the same name and key
that was installed is refused, for old bundles have the faults that new ones mend.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fcr_edge.errors import BundleError, ConfigError
from fcr_edge.key_files import read_public

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SCHEMA = "fcr-signature/1"
KEY_MAKER = "fcr-train keygen"
"""The command that makes pairs of keys for signing."""
TRUSTED_SCHEMA = "fcr-trusted-keys/1"
MAX_SIGNATURE_BYTES = 4096
PACKAGED_SHA256 = "b774aa042d0d283dca8cc103700cdd109b99c849d7bd681c92a570f31bb6ae6c"
"""Of the manifest of the bundle that comes with the package, which needs no signature."""

_VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Signature:
    """Who vouches for a manifest, and since when."""

    key: str
    """The public key, 64 hexadecimal digits."""
    version: str
    """When it was signed, UTC, e.g. "2026-11-22T19:20:00Z": later ones sort after it."""
    signature: str
    """128 hexadecimal digits."""

    def __post_init__(self) -> None:
        fits = (
            len(self.key) == 64
            and len(self.signature) == 128
            and _HEX.fullmatch(self.key + self.signature)
            and _VERSION.fullmatch(self.version)
        )
        if not fits:
            raise BundleError("its signature is not of the form that FCR writes: sign it again")

    @classmethod
    def from_json(cls, data: bytes) -> Signature:
        """Read manifest.sig. Raises BundleError."""
        try:
            told = json.loads(data)
            if told.pop("schema") != SCHEMA:
                raise ValueError("unknown schema")
            return cls(**{name: str(value) for name, value in told.items()})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                f"its signature cannot be read ({error}): copy the bundle again"
            ) from error

    def to_json(self) -> bytes:
        """Write manifest.sig."""
        return (json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n").encode()

    def check(self, manifest_sha256: str) -> None:
        """Raise BundleError unless the key has signed this manifest and version."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
        try:
            key.verify(bytes.fromhex(self.signature), _payload(manifest_sha256, self.version))
        except InvalidSignature as error:
            raise BundleError(
                f"the key {self.key[:16]}... never signed it, or it was changed since: copy it"
                " again from where it came"
            ) from error


def sign(manifest_sha256: str, key: Ed25519PrivateKey, version: str) -> Signature:
    """Sign a manifest's hash with a private key."""
    made = key.sign(_payload(manifest_sha256, version))
    public = key.public_key().public_bytes_raw()
    return Signature(public.hex(), version, made.hex())


def _payload(manifest_sha256: str, version: str) -> bytes:
    """What is signed; the schema in front keeps it apart from anything else a key may sign."""
    return f"{SCHEMA}\n{manifest_sha256}\n{version}\n".encode()


@dataclass(frozen=True)
class Standing:
    """What vouches for a bundle."""

    state: Literal["packaged", "signed", "unknown key", "unsigned"]
    owner: str = ""
    """What the user calls the key."""
    signature: Signature | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether the package or a trusted key vouches for it."""
        return self.state in ("packaged", "signed")

    @property
    def version(self) -> str:
        """When it was signed; empty where it is not."""
        return self.signature.version if self.signature else ""

    def __str__(self) -> str:
        if self.signature is None:
            return "came with the package" if self.state == "packaged" else "not signed"
        by = f"by {self.owner}" if self.state == "signed" else "by a key that is not trusted"
        return f"signed {by}, {self.signature.key[:16]}..., on {self.version}"


def judge(manifest_sha256: str, signature: Signature | None) -> Standing:
    """Tell what vouches for a manifest.

    Raises BundleError for a signature that does not hold, ConfigError where the list of trusted
    keys is damaged.
    """
    if signature is None:
        packaged = manifest_sha256 == PACKAGED_SHA256
        return Standing("packaged" if packaged else "unsigned")
    signature.check(manifest_sha256)
    owner = read_trusted().get(signature.key)
    if owner is None:
        return Standing("unknown key", signature=signature)
    return Standing("signed", owner, signature)


def trusted_file() -> Path:
    """Name the user's list of trusted keys."""
    import platformdirs

    return platformdirs.user_config_path("fcr") / "trusted_keys.json"


def read_trusted() -> dict[str, str]:
    """Read the keys that the user trusts, and what they are called; none where there is no list.

    Raises ConfigError where it is damaged: no key is then taken for trusted.
    """
    path = trusted_file()
    try:
        told = json.loads(path.read_bytes())
        keys = {str(key): str(owner) for key, owner in told["keys"].items()}
        if told["schema"] != TRUSTED_SCHEMA:
            raise ValueError(f"its schema is {told['schema']!r}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"the list of trusted keys {path} cannot be read ({error}): mend it, or remove it and"
            " add the keys again"
        ) from error
    return keys


def write_trusted(keys: Mapping[str, str]) -> None:
    """Write the list of trusted keys, whole or not at all. Raises ConfigError."""
    path = trusted_file()
    data = json.dumps({"schema": TRUSTED_SCHEMA, "keys": dict(keys)}, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(data, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def read_public_key(path: Path) -> str:
    """Read a public key in PEM as 64 hexadecimal digits. Raises ConfigError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return read_public(path, Ed25519PublicKey, KEY_MAKER).public_bytes_raw().hex()

"""A bundle: a folder of ONNX models and the manifest that describes, and pins, every byte of them.

    manifest.json      manifest.Manifest as JSON, schema "fcr-bundle/1"
    translator.onnx    skull -> face
    embedder.onnx      face -> unit vector
    film.onnx          film -> what it shows, and where; may be absent
    suppressor.onnx    film -> skull, bone and confidence; may be absent
    MODEL_CARD.md      the manifest in words, for people
    manifest.sig       who vouches for the manifest, see trust.py; may be absent

Bundle.load checks the signature and the manifest, then each file's kind, size and SHA-256, before
any parser of models sees a byte; model_bytes returns the very bytes that were hashed. A hash finds
damage and careless editing; who made a bundle, only its signature tells.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from fcr_edge import trust
from fcr_edge.errors import BundleError
from fcr_edge.manifest import (
    CARD_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    BundleFile,
    Description,
    Manifest,
    ModelEntry,
    ModelFile,
    Precision,
    Role,
    require,
)

SIGNATURE_NAME = "manifest.sig"


class Bundle:
    """A verified bundle, its models held in memory as the bytes that were hashed.

    Raises BundleError wherever a folder is not exactly what its manifest says.

        bundle = Bundle.load(Path("bundle"))
        session = open_network(bundle, "embedder")
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        digest: str,
        models: Mapping[str, bytes],
        standing: trust.Standing,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.sha256 = digest
        """SHA-256 of manifest.json, which pins every other byte: names the bundle in a result."""
        self.standing = standing
        """What vouches for it."""
        self._models = MappingProxyType(dict(models))

    @classmethod
    def load(cls, folder: Path, allow_unsigned: bool = False) -> Bundle:
        """Verify every file in the folder, then hold the models.

        Refused with BundleError: an unknown schema or key, a missing, extra, resized or changed
        file, a subfolder, a symbolic link and anything else that is not a regular file; a
        signature that does not hold; and, unless `allow_unsigned`, a bundle for which neither the
        package nor a trusted key vouches. Raises ConfigError where the list of trusted keys is
        damaged.
        """
        data = _read_regular(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        try:
            standing = trust.judge(digest, read_signature(folder))
            _insist(standing, allow_unsigned)
            manifest = Manifest.from_json(data)
            named = {MANIFEST_NAME, *(file.path for file in manifest.files)}
            _check_listing(folder, named, {SIGNATURE_NAME})
            contents = {file.path: _read_verified(folder, file) for file in manifest.files}
        except BundleError as error:
            raise BundleError(f"bundle {folder}: {error}") from error
        models = {
            file.path: contents[file.path] for file in manifest.files if file != manifest.card
        }
        return cls(folder, manifest, digest, models, standing)

    @property
    def fingerprint(self) -> str:
        """What defines an embedding of a photo; a gallery records it and refuses any other."""
        return self.manifest.fingerprint

    def model_bytes(self, role: Role) -> bytes:
        """Return the 32-bit ONNX model of a role: the very bytes whose hash was checked.

        Raises BundleError where the bundle has no such model.
        """
        return self._models[self._entry(role).fp32.path]

    def half_bytes(self, role: Role) -> bytes | None:
        """Return the 16-bit ONNX model of a role; None where the bundle has it in 32 alone.

        Raises BundleError where the bundle has no such model at all.
        """
        file = self._entry(role).fp16
        return None if file is None else self._models[file.path]

    def _entry(self, role: Role) -> ModelEntry:
        require(
            role in self.manifest.models,
            f"bundle {self.manifest.name} has no {role}: export one that has",
        )
        return self.manifest.models[role]


def read_manifest(folder: Path) -> Manifest:
    """Read what a bundle says of itself; no file of it is verified. Raises BundleError."""
    return Manifest.from_json(_read_regular(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES))


def read_signature(folder: Path) -> trust.Signature | None:
    """Read a bundle's signature, not yet checked; None where it has none. Raises BundleError."""
    path = folder / SIGNATURE_NAME
    if not os.path.lexists(path):
        return None
    return trust.Signature.from_json(_read_regular(path, trust.MAX_SIGNATURE_BYTES))


def write_signature(bundle: Bundle, signature: trust.Signature) -> None:
    """Put a signature beside the manifest that it was made for. Raises BundleError."""
    signature.check(bundle.sha256)
    path = bundle.folder / SIGNATURE_NAME
    fresh = path.with_name(f".{SIGNATURE_NAME}.{secrets.token_hex(4)}.new")
    try:
        _write_synced(fresh, signature.to_json())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise BundleError(
            f"{path} cannot be written: {error.strerror or error}: choose a bundle in a folder"
            " that you may write to"
        ) from error


def install_bundle(
    source: Path, folder: Path, allow_unsigned: bool = False, force: bool = False
) -> Bundle:
    """Copy a bundle into a folder of bundles, under its own name, whole or not at all.

    Raises BundleError where it is not whole or nobody trusted vouches for it, where what lies
    there is signed later or by another key (unless `force`), and where it cannot be written.
    """
    new = Bundle.load(source, allow_unsigned)
    place = folder / new.manifest.name
    if not force:
        _refuse_older(new, place)
    check_replaceable(place)
    contents = {path.name: path.read_bytes() for path in sorted(new.folder.iterdir())}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_folder(place, contents)
    except OSError as error:
        raise BundleError(
            f"{place} cannot be written: {error.strerror or error}: free space, or install it as"
            " another user"
        ) from error
    return Bundle.load(place, allow_unsigned)


def _refuse_older(new: Bundle, place: Path) -> None:
    """Raise BundleError where what is installed is newer, or of another maker."""
    if not place.exists():
        return
    held = Bundle.load(place, allow_unsigned=True).standing
    if held.signature is None:
        return
    if new.standing.signature is None or new.standing.signature.key != held.signature.key:
        raise BundleError(
            f"the installed {new.manifest.name} is {held}, the new one {new.standing}: ask its"
            " maker, or pass --force"
        )
    if new.standing.version < held.version:
        raise BundleError(
            f"the installed {new.manifest.name} was signed on {held.version}, later than the new"
            f" one, {new.standing.version}: take the later one, or pass --force to go back"
        )


def _insist(standing: trust.Standing, allow_unsigned: bool) -> None:
    if standing.is_trusted or allow_unsigned:
        return
    if standing.signature is None:
        raise BundleError(
            "nobody has signed it, so nothing says who made it: have it signed (fcr-train sign),"
            " or pass --allow-unsigned to use it all the same"
        )
    raise BundleError(
        f"it is signed by the key {standing.signature.key[:16]}..., which you do not trust: ask"
        " its maker for the public key and add it (fcr-edge trust add), or pass --allow-unsigned"
    )


def describe_file(path: str, data: bytes) -> BundleFile:
    """Describe a file by the bytes it will have."""
    return BundleFile(path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def describe_model(
    path: str,
    data: bytes,
    weights: Literal["single", "half"] = "single",
    precision: Precision = "fp32",
) -> ModelFile:
    """Describe a model file by the bytes it will have."""
    file = describe_file(path, data)
    return ModelFile(**asdict(file), precision=precision, weights=weights)


def write_bundle(
    folder: Path, description: Description, card: str, models: Mapping[str, bytes]
) -> Manifest:
    """Write a bundle whole or not at all: into a new folder beside the wanted one, then renamed.

    An existing folder is replaced only if it is a whole bundle, so that every file lost is known;
    anything else there is refused with BundleError and left alone. Models whose bytes differ from
    the description are refused too.

    Args:
        folder: Where the bundle shall be; its parents are made.
        description: What the bundle is; names and hashes the models.
        card: The text of MODEL_CARD.md.
        models: Path in the bundle -> bytes, exactly the files that the description names.
    """
    contents = {**models, CARD_NAME: card.encode()}
    manifest = _seal(description, describe_file(CARD_NAME, contents[CARD_NAME]))
    _check_contents(manifest, contents)
    check_replaceable(folder)
    contents[MANIFEST_NAME] = manifest.to_json()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _write_folder(folder, contents)
    except OSError as error:
        raise BundleError(
            f"bundle {folder} cannot be written: {error.strerror or error}: "
            "choose a folder that you may write to"
        ) from error
    return manifest


def check_replaceable(folder: Path) -> None:
    """Check that write_bundle may write there: nothing, an empty folder or a whole bundle.

    Raises BundleError.
    """
    if not os.path.lexists(folder) or _is_empty_folder(folder):
        return
    try:
        Bundle.load(folder, allow_unsigned=True)
    except BundleError as error:
        raise BundleError(
            f"{folder} exists and is not a whole bundle, so it was left alone ({error}): "
            "remove it yourself, or choose another folder"
        ) from error


def _seal(description: Description, card: BundleFile) -> Manifest:
    # Field by field, not asdict: asdict would turn the nested records into dictionaries.
    parts = {field.name: getattr(description, field.name) for field in fields(Description)}
    manifest = Manifest(**parts, schema="fcr-bundle/1", card=card)
    size = len(manifest.to_json())
    require(
        size <= MAX_MANIFEST_BYTES,
        f"the manifest has {size} bytes, more than {MAX_MANIFEST_BYTES}",
    )
    return manifest


def _check_contents(manifest: Manifest, contents: Mapping[str, bytes]) -> None:
    named = {file.path for file in manifest.files}
    require(
        named == set(contents),
        f"the manifest names {sorted(named)}, the files are {sorted(contents)}",
    )
    for file in manifest.files:
        _check_bytes(file, contents[file.path])


def _is_empty_folder(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


def _write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    fresh = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.new")
    old = fresh.with_suffix(".old")
    fresh.mkdir()
    try:
        for name, data in contents.items():
            _write_synced(fresh / name, data)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _check_listing(folder: Path, expected: Iterable[str], optional: Iterable[str]) -> None:
    try:
        found = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise BundleError(
            f"the folder cannot be listed: {error.strerror or error}: make it readable"
        ) from error
    missing, extra = sorted(set(expected) - found), sorted(found - {*expected, *optional})
    require(
        not missing,
        f"{', '.join(missing)} is missing: copy the whole folder again, or export it again",
    )
    require(
        not extra,
        f"{', '.join(extra[:5])} does not belong to it: move it elsewhere, "
        "a bundle holds only what its manifest names",
    )


def _read_verified(folder: Path, file: BundleFile) -> bytes:
    data = _read_regular(folder / file.path, file.size)
    _check_bytes(file, data)
    return data


def _check_bytes(file: BundleFile, data: bytes) -> None:
    require(
        len(data) == file.size,
        f"{file.path} has {len(data)} bytes, its manifest says {file.size}: "
        "copy or export the bundle again",
    )
    digest = hashlib.sha256(data).hexdigest()
    require(
        digest == file.sha256,
        f"{file.path} has SHA-256 {digest[:16]}..., its manifest says {file.sha256[:16]}...: "
        "it was changed or damaged; copy or export the bundle again",
    )


def _read_regular(path: Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes, opened once, never through a symbolic link."""
    # O_NONBLOCK: opening a named pipe would otherwise wait for a writer. Windows lacks both flags.
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        require(not path.is_symlink(), f"{path} is a symbolic link: replace it by the file itself")
        descriptor = os.open(path, flags)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            status = os.fstat(descriptor)
            require(
                stat.S_ISREG(status.st_mode), f"{path} is not a regular file: replace it by one"
            )
            require(
                status.st_size <= most,
                f"{path} has {status.st_size} bytes, more than the {most} allowed: "
                "copy or export the bundle again",
            )
            return file.read(most + 1)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read: {error.strerror or error}: "
            "name a folder that fcr-train export has made"
        ) from error

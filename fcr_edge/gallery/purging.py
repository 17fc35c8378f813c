"""People whose time in a gallery is over: removed, with a signed receipt of it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fcr_edge.errors import GalleryError
from fcr_edge.gallery.among import last_day
from fcr_edge.gallery.tables import to_json

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from fcr_edge.gallery.records import Person, Removal
    from fcr_edge.gallery.store import Gallery

SCHEMA = "fcr-purge-receipt/1"
MAX_RECEIPT_BYTES = 64 * 1024 * 1024


def find_expired(gallery: Gallery, day: str) -> list[Person]:
    """Give everybody whom `retain_until` allowed to keep until a day before this one.

    `day` is "2026-11-22". Raises GalleryError where it is no such date.
    """
    try:
        datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError as err:
        raise GalleryError(f"the day {day!r} is none: write it as 2026-11-22") from err
    people = gallery.people()
    return [one for one in people if one.retain_until and last_day(one.retain_until) < day]


def purge(
    gallery: Gallery, people: list[Person], day: str, receipt: Path, key: Ed25519PrivateKey
) -> None:
    """Remove people for good, all or nobody, once the receipt of it is safely written.

    Args:
        gallery: Where they are.
        people: Who; see find_expired.
        day: As of which day their time was over.
        receipt: The file to write, which must not exist. It names people by keyed hashes.
        key: Signs the receipt.

    Raises GalleryError where the receipt or the gallery cannot be written: all is as before then.
    """
    if receipt.exists():
        raise GalleryError(f"{receipt} exists already: name another file for the receipt")

    written: list[Path] = []

    def attest(done: Removal) -> None:
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        content = {"schema": SCHEMA, "time": now, "as_of": day, **asdict(done)}
        signed = {
            "receipt": content,
            "key": key.public_key().public_bytes_raw().hex(),
            "signature": key.sign(to_json(content)).hex(),
        }
        _write_new(receipt, json.dumps(signed, indent=1).encode() + b"\n")
        written.append(receipt)

    try:
        gallery.remove_all([person.id for person in people], attest)
    except BaseException:
        for file in written:
            file.unlink(missing_ok=True)  # it attests what did not happen
        raise


def check_receipt(path: Path, key: Ed25519PublicKey) -> dict[str, Any]:
    """Read a receipt and check who signed it. Raises GalleryError unless that key did."""
    from cryptography.exceptions import InvalidSignature

    try:
        if path.stat().st_size > MAX_RECEIPT_BYTES:
            raise GalleryError(
                f"{path} is too large for a receipt: name the file of gallery purge"
            )
        signed = json.loads(path.read_bytes())
        content: dict[str, Any] = signed["receipt"]
        key.verify(bytes.fromhex(signed["signature"]), to_json(content))
    except InvalidSignature as err:
        raise GalleryError(
            f"{path} was not signed by this key, or was changed since: do not rely on it"
        ) from err
    except (OSError, LookupError, TypeError, ValueError) as err:
        raise GalleryError(
            f"{path} is no receipt ({err}): name the file of gallery purge"
        ) from err
    if content.get("schema") != SCHEMA:
        raise GalleryError(
            f"{path} has the schema {content.get('schema')}, not {SCHEMA}: update FCR"
        )
    return content


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that did not exist, whole and to the disk, or leave none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink()
            raise
    except OSError as err:
        raise GalleryError(
            f"{path} cannot be written ({err.strerror}), and nobody was removed: name another file"
        ) from err

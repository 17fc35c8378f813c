"""Galleries and bundles opened as the options say, with a word on what was taken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fcr_edge.cli.console import build_progress, note, warn
from fcr_edge.cli.options import DeviceChoice, ask_passphrase, read_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from fcr_edge.bundle import Bundle
    from fcr_edge.gallery import Gallery
    from fcr_edge.identify import Identifier


def open_gallery(path: Path, key_file: Path | None, passphrase: bool) -> Gallery:
    """Open a gallery with the key asked for; at a terminal, ask for the passphrase it needs.

    Raises GalleryError.
    """
    from fcr_edge.gallery import Gallery

    return Gallery.open(path, read_key(key_file, passphrase), ask_for(path))


def ask_for(path: Path) -> Callable[[list[str]], str | None]:
    """Give what asks for a gallery's passphrase, if it has one, at a terminal alone, and once."""
    told: list[str] = []

    def ask(kinds: list[str]) -> str | None:
        if "passphrase" not in kinds or not sys.stdin.isatty():
            return None
        if not told:
            told.append(ask_passphrase(f"Passphrase of {path}"))
        return told[0]

    return ask


def create_gallery(
    path: Path, bundle: Bundle, key: str | bytes | None, headquarters: Path | None = None
) -> Gallery:
    """Make a gallery for a bundle, with a warning where it is not encrypted."""
    from fcr_edge.gallery import Gallery, read_headquarters_public_key

    public = None if headquarters is None else read_headquarters_public_key(headquarters)
    dimension = bundle.manifest.embedder.output.dimension
    gallery = Gallery.create(path, bundle.fingerprint, dimension, key, public)
    warn_of_plain(gallery)
    return gallery


def warn_of_plain(gallery: Gallery) -> None:
    """Warn where anyone can read a gallery."""
    if not gallery.encrypted:
        warn(f"{gallery.path} is not encrypted: its faces and names can be read by anyone")


def choose_bundle(folder: Path | None, gallery: Gallery, allow_unsigned: bool) -> Bundle:
    """Load the bundle named, or find the one that the gallery was enrolled with and say so."""
    from fcr_edge.identify import find_bundle

    if folder is not None:
        return load_bundle(folder, allow_unsigned)
    bundle = find_bundle(gallery.fingerprint, gallery.path, allow_unsigned)
    _warn_of_standing(bundle)
    note(f"bundle: {bundle.manifest.name}, {bundle.folder}")
    return bundle


def load_bundle(folder: Path, allow_unsigned: bool) -> Bundle:
    """Load a bundle, with a warning where nobody trusted vouches for it."""
    from fcr_edge.bundle import Bundle

    bundle = Bundle.load(folder, allow_unsigned)
    _warn_of_standing(bundle)
    return bundle


def _warn_of_standing(bundle: Bundle) -> None:
    if not bundle.standing.is_trusted:
        warn(f"bundle {bundle.manifest.name}, {bundle.folder}: {bundle.standing}")


def choose_first_bundle(folder: Path | None, allow_unsigned: bool) -> Bundle:
    """Load the bundle named, or the packaged demo bundle with a warning."""
    from fcr_edge.bundle import Bundle
    from fcr_edge.identify import demo_folder

    if folder is not None:
        return load_bundle(folder, allow_unsigned)
    bundle = Bundle.load(demo_folder() / "bundle")
    warn(
        f"no --bundle given: taking the packaged {bundle.manifest.name} bundle, which was trained"
        " on simulated people only"
    )
    return bundle


def make_ready(bundle: Bundle, device: DeviceChoice) -> Identifier:
    """Make a bundle ready, and say what device it runs on."""
    from fcr_edge.identify import Identifier

    with build_progress() as tell:
        identifier = Identifier(bundle, device.value, tell)
    for refusal in identifier.refusals:
        note(f"device refused, {refusal}")
    note(f"device: {identifier.device}")
    return identifier

"""A gallery for another embedder: the same people, their photographs embedded anew."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from fcr_edge import imaging
from fcr_edge.enroll import SUFFIXES, Clerk, Photograph, read_photograph
from fcr_edge.errors import GalleryError, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fcr_edge.enroll import EnrolReport
    from fcr_edge.gallery import Gallery, Person, Photo
    from fcr_edge.identify import Identifier

NAMED = 5
"""Missing photographs that an error names."""


def re_embed(
    old: Gallery,
    new: Gallery,
    identifier: Identifier,
    folder: Path | None = None,
    *,
    without_missing: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> EnrolReport:
    """Enrol everybody of a gallery into another one, made for another embedder.

    Photographs come from the originals that the old gallery kept, or else from the folder, where
    they are found by their SHA-256, whatever their names. The old gallery stays as it is; an
    interrupted run is finished by running it again. `progress` is called after each person.

    Raises GalleryError, naming photographs, where some are at hand in neither place and
    `without_missing` does not allow to leave them out; nothing is written then.
    """
    new.require(identifier.bundle.fingerprint)
    people = [(person, old.photos(person.id)) for person in old.people()]
    files = _find_files(folder) if folder is not None else {}
    missing = [
        f"{photo.file_name} of {person.id}"
        for person, photos in people
        for photo in photos
        if photo.sha256 not in files and old.original(person.id, photo.sha256) is None
    ]
    if missing and not without_missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise GalleryError(
            f"{len(missing)} photographs are not at hand: {', '.join(missing[:NAMED])}{more}: name"
            " a folder that has them (--photos), or leave them out (--without-missing)"
        )
    clerk = Clerk(new, identifier)
    for person, photos in people:
        at_hand = (_read(clerk, old, person, photo, files) for photo in photos)
        clerk.take(person, [one for one in at_hand if one is not None])
        progress()
    return clerk.finish()


def _read(
    clerk: Clerk, old: Gallery, person: Person, photo: Photo, files: Mapping[str, Path]
) -> Photograph | None:
    """Read a photograph again, from where it is; None where it is nowhere."""
    if clerk.knows(person, photo.sha256):
        return Photograph(photo.file_name, photo.view, photo.sha256)
    kept = old.original(person.id, photo.sha256)
    if kept is None and photo.sha256 not in files:
        return None
    data = kept or imaging.read_file(files[photo.sha256])
    where = f"{photo.file_name} of {person.id}"
    return read_photograph(data, photo.file_name, photo.view, where, keep=kept is not None)


def _find_files(folder: Path) -> dict[str, Path]:
    """Give the photographs in a folder and below it by their SHA-256."""
    if not folder.is_dir():
        raise GalleryError(f"{folder} is no folder: name the one that has the photographs")
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            with contextlib.suppress(ImageError):  # whatever it is, it was not enrolled
                found[hashlib.sha256(imaging.read_file(path)).hexdigest()] = path
    return found

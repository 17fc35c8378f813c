"""Copies of a gallery, and the way back from one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fcr_edge.errors import GalleryError
from fcr_edge.gallery.database import Database, sync_folder
from fcr_edge.gallery.store import Gallery

if TYPE_CHECKING:
    from pathlib import Path

    from fcr_edge.gallery.database import Tell
    from fcr_edge.gallery.locks import Key
    from fcr_edge.gallery.store import Ask


def back_up(path: Path, copy: Path, tell: Tell = lambda done, total: None) -> None:
    """Copy a gallery as it is between two changes, without opening its locks.

    `tell` is called with (pages done, all). Raises GalleryError where the gallery is damaged, or
    the copy exists or cannot be written.
    """
    with contextlib.closing(Database.open(path)) as database:
        database.copy_to(copy, tell)
    Database.open(copy).close()


def restore(
    copy: Path,
    path: Path,
    key: Key | None = None,
    ask: Ask = lambda kinds: None,
    *,
    force: bool = False,
    tell: Tell = lambda done, total: None,
) -> Path | None:
    """Put a copy in a gallery's place, after checking everything in it.

    Args:
        copy: The copy, which stays.
        path: The gallery. If there is one, it is kept beside it under another name, which is
            returned.
        key: What both are locked with, as for Gallery.open.
        ask: As for Gallery.open.
        force: Replace a gallery that is sound and has other changes than the copy.
        tell: Called with (photos checked, all).

    Raises GalleryError where the copy is damaged, or a sound gallery would be replaced.
    """
    with Gallery.open(copy, key, ask) as good:
        health = good.verify(tell)
    if path.exists() and not force:
        newer = _count_changes(path, key, ask)
        if newer is not None:
            raise GalleryError(
                f"gallery {path} is sound, with {newer} changes where {copy} has"
                f" {health.generation}: pass --force to put the copy in its place all the same"
            )
    fresh = path.with_name(f".{path.name}.restored")
    fresh.unlink(missing_ok=True)
    back_up(copy, fresh)
    old = _move_aside(path) if path.exists() else None
    fresh.replace(path)
    sync_folder(path.parent)
    return old


def _count_changes(path: Path, key: Key | None, ask: Ask) -> int | None:
    """Give a gallery's generation; None where it is not sound.

    Raises GalleryError where the key does not open it: it may be sound, and somebody else's.
    """
    try:
        Database.open(path).close()
    except GalleryError:
        return None
    with Gallery.open(path, key, ask) as gallery:
        try:
            return gallery.verify().generation
        except GalleryError:
            return None


def _move_aside(path: Path) -> Path:
    """Rename a gallery, and the journal that belongs to it, to a name that is free."""
    number = 1
    while (aside := path.with_name(f"{path.name}.replaced-{number}")).exists():
        number += 1
    journal = path.with_name(f"{path.name}-journal")
    if journal.exists():  # without it the gallery could not be repaired, with it the copy might be
        journal.rename(aside.with_name(f"{aside.name}-journal"))
    path.rename(aside)
    return aside

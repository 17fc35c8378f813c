"""People of one gallery brought into another, of the same embedder."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fcr_edge.gallery.among import EVERYBODY
from fcr_edge.gallery.records import explain_difference

if TYPE_CHECKING:
    from collections.abc import Callable

    from fcr_edge.gallery.among import Among
    from fcr_edge.gallery.records import Person, Photo
    from fcr_edge.gallery.store import Gallery

    Details = Literal["same", "ours", "theirs"]

BATCH = 64
"""People that are written together."""


@dataclass(frozen=True)
class MergeReport:
    """What became of a merge."""

    people: int
    """People of the other gallery who were brought in or were there already."""
    added: int
    """Photos that were not there before."""
    conflicts: tuple[str, ...]
    """A sentence for everybody who is in both with other details."""
    shared: tuple[str, ...]
    """A sentence for every photo that is now enrolled for more than one person."""


def merge(
    gallery: Gallery,
    other: Gallery,
    details: Details = "same",
    among: Among = EVERYBODY,
    progress: Callable[[], None] = lambda: None,
) -> MergeReport:
    """Bring the people of another gallery into this one; the other one stays as it is.

    A person is known by the id, a photo by its SHA-256. Where details differ, `details` says which
    stay; "same" lists the differences and writes nothing. All of it is one change, which undo
    takes back; an interrupted merge is finished by running it again. `progress` is called after
    each person.

    Raises GalleryError where the other gallery is of another embedder, or one cannot be written.
    """
    other.require(gallery.fingerprint)
    ours = {person.id: person for person in gallery.people()}
    theirs = [person for person in other.people() if among.admits(person)]
    conflicts = tuple(
        explain_difference(ours[person.id], person)
        for person in theirs
        if ours.get(person.id, person) != person
    )
    if conflicts and details == "same":
        return MergeReport(0, 0, conflicts, ())
    change, added = str(uuid.uuid4()), 0
    for start in range(0, len(theirs), BATCH):
        batch = [
            (ours.get(person.id, person) if details == "ours" else person, _photos(other, person))
            for person in theirs[start : start + BATCH]
        ]
        added += gallery.enroll_all(batch, update=details == "theirs", change=change)
        for _ in batch:
            progress()
    gallery.pack()
    return MergeReport(len(theirs), added, conflicts, _find_shared(gallery, theirs))


def _photos(gallery: Gallery, person: Person) -> list[Photo]:
    """Read a person's photos, with the originals that were kept."""
    return [
        dataclasses.replace(photo, original=gallery.original(person.id, photo.sha256) or b"")
        for photo in gallery.photos(person.id)
    ]


def _find_shared(gallery: Gallery, people: list[Person]) -> tuple[str, ...]:
    concerned = {person.id for person in people}
    return tuple(
        f"a photo, SHA-256 {sha256}, is enrolled for {' and '.join(sorted(owners))}: one of them"
        " is not in it, or they are one person"
        for sha256, owners in gallery.photo_owners().items()
        if len(owners) > 1 and concerned & {*owners}
    )

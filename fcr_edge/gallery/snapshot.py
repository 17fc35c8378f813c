"""A gallery's content in memory, as of one moment."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fcr_edge.gallery.records import Candidate, Match
from fcr_edge.gallery.tables import to_json

if TYPE_CHECKING:
    from fcr_edge.gallery.records import View
    from fcr_edge.gallery.search import Index, JointRanking, Ranking
    from fcr_edge.gallery.tables import Entry, PhotoRef


@dataclass(eq=False)
class Snapshot:
    """A gallery's content in memory."""

    generation: int
    entries: list[Entry] = field(default_factory=list)
    """By person id."""
    index: Index | None = None
    """None until the first search, and in an empty gallery."""
    views: list[View | None] | None = None
    """Of each face of the index; None until the first search with several probes."""
    known_digest: bytes | None = None
    """The digest, where it was read."""

    @property
    def photos(self) -> list[PhotoRef]:
        """All photos, by person id, then hash: the order of the index."""
        return [photo for entry in self.entries for photo in by_hash(entry)]

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 over everyone, in order of id."""
        if self.known_digest is not None:
            return self.known_digest
        content = hashlib.sha256()
        for entry in self.entries:
            photos = [[photo.sha256, photo.content] for photo in by_hash(entry)]
            content.update(to_json([entry.details, photos]) + b"\n")
        return content.digest()

    def to_candidates(self, ranking: Ranking) -> list[Candidate]:
        """Say who and which photo the ranked faces are."""
        places = zip(ranking.owners, ranking.nth, ranking.similarities, strict=True)
        candidates = []
        for number, (owner, nth, similarity) in enumerate(places, start=1):
            entry = self.entries[owner]
            photo = by_hash(entry)[nth]
            match = Match(photo.sha256, similarity)
            candidates.append(Candidate(number, entry.person, similarity, (match,)))
        return candidates

    def to_joint_candidates(self, ranking: JointRanking) -> list[Candidate]:
        """Say who the ranked people are, and which photos matched."""
        places = zip(
            ranking.owners, ranking.scores, ranking.nth, ranking.similarities, strict=True
        )
        candidates = []
        for number, (owner, score, nth, similarities) in enumerate(places, start=1):
            entry = self.entries[owner]
            photos = by_hash(entry)
            matches = tuple(
                Match(photos[which].sha256, similarity) if which >= 0 else None
                for which, similarity in zip(nth, similarities, strict=True)
            )
            candidates.append(Candidate(number, entry.person, score, matches))
        return candidates


def by_hash(entry: Entry) -> list[PhotoRef]:
    """Give a person's photos in an order that does not depend on when they were enrolled."""
    return sorted(entry.photos, key=lambda photo: photo.sha256)

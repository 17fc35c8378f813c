"""What a gallery holds and answers: people, photos, candidates."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from fcr_edge.errors import GalleryError

if TYPE_CHECKING:
    from jaxtyping import Float32

Sex = Literal["female", "male"]
View = Literal["frontal", "lateral"]
Mode = Literal["auto", "exact", "hnsw"]
Action = Literal["enroll", "remove", "rekey", "search", "undo"]

MAX_ID_LENGTH = 64
MAX_TEXT_LENGTH = 10_000
MAX_THUMBNAIL_BYTES = 20 * 1024
MAX_ORIGINAL_BYTES = 64 * 1024 * 1024
BIRTH_YEARS = range(1850, 2101)
UNIT_TOLERANCE = 1e-3

HEIGHTS = range(50, 251)
DATE = re.compile(r"(\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Person:
    """A missing person, as the user names and describes them.

    Raises GalleryError for a value out of range, naming it.
    """

    id: str
    """The user's own identifier, such as "p00001": 1 to 64 printable characters."""
    name: str = ""
    sex: Sex | None = None
    """"female", "male" or None where unknown."""
    birth_year: int | None = None
    """1850 to 2100, or None where unknown; the earliest where `birth_year_to` is given."""
    place: str = ""
    """Where the person was last seen."""
    date: str = ""
    """When the person was last seen: "2019-05-03", "2019-05", "2019" or nothing."""
    notes: str = ""
    birth_year_to: int | None = None
    """The latest year of birth, where only a span is known."""
    height_cm: int | None = None
    """50 to 250, or None where unknown."""
    retain_until: str = ""
    """The last day that the person may be kept: "2030-12-31", a month, a year, or no limit."""

    def __post_init__(self) -> None:
        _check_id(self.id)
        who = f"person {self.id!r}"
        if self.sex is not None and self.sex not in get_args(Sex):
            raise GalleryError(f"{who}: sex is {self.sex!r}: write female, male or leave it empty")
        if self.birth_year is not None and self.birth_year not in BIRTH_YEARS:
            span = f"{BIRTH_YEARS[0]} to {BIRTH_YEARS[-1]}"
            raise GalleryError(
                f"{who}: birth year is {self.birth_year!r}: write a year from {span}"
            )
        if self.birth_year_to is not None and not (
            self.birth_year is not None and self.birth_year_to in range(self.birth_year, 2101)
        ):
            raise GalleryError(
                f"{who}: born from {self.birth_year} to {self.birth_year_to}: write the earlier"
                " year first"
            )
        if self.height_cm is not None and self.height_cm not in HEIGHTS:
            raise GalleryError(
                f"{who}: height is {self.height_cm!r}: write {HEIGHTS[0]} to {HEIGHTS[-1]} cm"
            )
        for what, date in (("date", self.date), ("retain_until", self.retain_until)):
            if not DATE.fullmatch(date):
                raise GalleryError(f"{who}: {what} is {date!r}: write it as 2019-05-03 or 2019")
        for text in ("name", "place", "notes"):
            if len(getattr(self, text)) > MAX_TEXT_LENGTH:
                raise GalleryError(f"{who}: {text} is longer than {MAX_TEXT_LENGTH} characters")

    def to_dict(self) -> dict[str, object]:
        """Give what is known; what schema 1 did not have is left out where it is unknown."""
        later = ("birth_year_to", "height_cm", "retain_until")
        return {
            name: value
            for name, value in vars(self).items()
            if name not in later or value not in (None, "")
        }


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph of a person: where it came from, a thumbnail and its embedding.

    Raises GalleryError for a value out of range. The embedding is checked when it is enrolled,
    because its length is the gallery's.
    """

    sha256: str
    """SHA-256 of the source file, 64 lower-case hexadecimal digits: what tells photos apart."""
    file_name: str
    view: View | None
    """"frontal", "lateral" or None where unknown."""
    thumbnail: bytes
    """JPEG of at most 20 kB; empty for none."""
    embedding: Float32[np.ndarray, " d"]
    """Unit vector of the gallery's embedder."""
    quality: float | None = None
    """0 (useless) to 1, or None where it was not assessed."""
    original: bytes = field(default=b"", repr=False)
    """The source file, to be kept; empty where it is not, and in a photo that was read (see
    Gallery.original)."""

    def __post_init__(self) -> None:
        what = f"photo {self.file_name!r}"
        if self.original and hashlib.sha256(self.original).hexdigest() != self.sha256:
            raise GalleryError(f"{what}: the original is not the file of that SHA-256")
        if len(self.original) > MAX_ORIGINAL_BYTES:
            raise GalleryError(
                f"{what}: the original has {len(self.original)} bytes, more than"
                f" {MAX_ORIGINAL_BYTES}: keep it elsewhere"
            )
        if not _SHA256.fullmatch(self.sha256):
            raise GalleryError(f"{what}: SHA-256 is {self.sha256!r}: 64 hexadecimal digits needed")
        if self.view is not None and self.view not in get_args(View):
            raise GalleryError(f"{what}: view is {self.view!r}: frontal, lateral or None")
        if self.thumbnail and not self.thumbnail.startswith(b"\xff\xd8\xff"):
            raise GalleryError(f"{what}: the thumbnail is not a JPEG: encode it as one")
        if len(self.thumbnail) > MAX_THUMBNAIL_BYTES:
            size = f"{len(self.thumbnail)} bytes, more than {MAX_THUMBNAIL_BYTES}"
            raise GalleryError(f"{what}: the thumbnail has {size}: make it smaller")
        if self.quality is not None and not 0 <= self.quality <= 1:
            raise GalleryError(f"{what}: quality is {self.quality!r}: from 0 to 1, or None")


@dataclass(frozen=True, eq=False)
class Probe:
    """The face of one film among several of one skull, for Gallery.search_together.

    `mean` and `sd` are those of its view's similarities between people who have nothing to do
    with each other: they bring the films to one scale. Raises GalleryError unless sd is above 0.
    """

    embedding: Float32[np.ndarray, " d"]
    view: View
    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.sd < math.inf):
            raise GalleryError(
                f"a probe has the mean {self.mean} and standard deviation {self.sd}: finite"
                " numbers are needed, the second above 0"
            )


@dataclass(frozen=True)
class Match:
    """The photo of a person that is most similar to one probe."""

    photo_sha256: str
    similarity: float
    """Cosine, -1 to 1, rounded to 6 decimals."""


@dataclass(frozen=True)
class Candidate:
    """A person found by a search: an investigative lead, not an identification."""

    rank: int
    """1 for the most similar."""
    person: Person
    similarity: float
    """Of one probe that of its match. Of several: each match's, less its probe's mean and divided
    by its sd, summed and divided by the square root of how many there are (Stouffer et al. 1949),
    so that whoever lacks a photo of one view competes on equal terms; rounded to 6 decimals."""
    matches: tuple[Match | None, ...]
    """One a probe, in their order; None where no photo of the person can be of its view."""


@dataclass(frozen=True)
class SearchResult:
    """The candidates of one search, and how they were searched for."""

    candidates: list[Candidate]
    """By similarity, highest first; equal similarities by person id."""
    mode: Literal["exact", "hnsw"]
    ef_search: int | None
    """Breadth of the HNSW search; None for an exact one."""
    recall: float
    """Share of the true first k that this kind of search finds: 1 when exact, else measured."""
    people: int
    """How many people were searched."""
    passed_over: int = 0
    """How many more are enrolled without a photo that could be of a probe's view."""
    excluded: int = 0
    """How many more are enrolled and were not asked for (see Among)."""


@dataclass(frozen=True)
class Event:
    """One entry of a gallery's log: a change of it, or a search in it."""

    number: int
    """Counted from 1."""
    generation: int
    """The state of the gallery that a change made, or that was searched."""
    time: str
    """UTC, ISO 8601, to the second."""
    action: Action
    operator: str = ""
    """Who did it: the name of the account and of the machine, unless the program said another."""
    person: str = ""
    """Hash of the person's id, keyed where the gallery is encrypted: a removed name is gone.
    Empty where nobody in particular is meant. After a change of keys the hashes of people removed
    before are those of the old key."""
    photos: int = 0
    """Photos added, removed or taken back, or sealed anew."""
    films: tuple[str, ...] = ()
    """SHA-256 of each film searched with."""
    bundle: str = ""
    """SHA-256 of the manifest of the bundle searched with."""
    candidates: tuple[str, ...] = ()
    """The hash of each candidate's id, the most similar first."""
    hash: str = ""
    """Of this entry and all before it, hexadecimal; known when it was read."""


@dataclass(frozen=True)
class Removal:
    """What a removal of people did, for whoever has to attest it."""

    gallery: str
    """The gallery's own id."""
    people: tuple[tuple[str, int], ...]
    """Of each person the hash of the id, as in the log, and how many photos they had."""
    last_entry: int
    """Number of the log's last entry."""
    log_head: str
    """Its hash, which covers the whole log."""
    operator: str


@dataclass(frozen=True)
class Undone:
    """What taking back the last enrolment did."""

    removed: tuple[str, ...]
    """Ids of people who are not enrolled any more."""
    restored: tuple[str, ...]
    """Ids of people who have the details and photos again that they had before."""
    photos: int
    """Photos taken back."""


@dataclass(frozen=True)
class Health:
    """What a check of a whole gallery found: everything is there and sound."""

    people: int
    photos: int
    generation: int
    """How many changes were made: an older copy of the file has a lower number."""
    digest: str
    """See Gallery.digest."""
    locks: tuple[str, ...]
    """What opens it: "passphrase", "key-file", "headquarters"; nothing for one in clear."""


def check_unit(vector: Float32[np.ndarray, " d"], dimension: int, what: str) -> None:
    """Raise GalleryError unless the vector has this length, is float32, finite and of norm 1."""
    if not isinstance(vector, np.ndarray) or vector.dtype != np.float32:
        kind = getattr(vector, "dtype", type(vector).__name__)
        raise GalleryError(f"{what} is {kind}: a float32 array is needed")
    if vector.shape != (dimension,):
        raise GalleryError(
            f"{what} has shape {vector.shape}, the gallery holds ({dimension},): "
            "use the embedder the gallery was made with"
        )
    if not np.isfinite(vector).all():
        raise GalleryError(f"{what} holds NaN or infinity: the embedder failed on this picture")
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if abs(norm - 1) > UNIT_TOLERANCE:
        raise GalleryError(f"{what} has norm {norm:.6g}, not 1: divide it by its norm")


def explain_difference(enrolled: Person, given: Person) -> str:
    """Say in what the details of a person differ from those enrolled, and what to do."""
    before, after = vars(enrolled), vars(given)
    changes = ", ".join(
        f"{name} is {before[name]!r}, now given {after[name]!r}"
        for name in before
        if before[name] != after[name]
    )
    return (
        f"person {given.id!r} is enrolled with other details ({changes}): give the enrolled ones, "
        "another id, or replace them on purpose (--update)"
    )


def _check_id(person_id: str) -> None:
    tidy = person_id.isprintable() and person_id == person_id.strip()
    if not tidy or not 1 <= len(person_id) <= MAX_ID_LENGTH:
        raise GalleryError(
            f"person id {person_id!r} cannot be used: 1 to {MAX_ID_LENGTH} printable characters, "
            "no space at either end"
        )

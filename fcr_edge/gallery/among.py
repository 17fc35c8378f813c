"""Whom a search is confined to, by what is known of the missing and of the skull."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, get_args

from fcr_edge.errors import GalleryError
from fcr_edge.gallery.records import DATE, Sex

if TYPE_CHECKING:
    from fcr_edge.gallery.records import Person

Span = tuple[int, int]
"""From, to; both included."""


@dataclass(frozen=True)
class Among:
    """What people have to fit to be searched; without anything everybody does.

    Whoever may fit stays in: a person of unknown sex is among the women and among the men. Raises
    GalleryError for a value out of range, naming it.
    """

    sex: Sex | None = None
    age: Span | None = None
    """At death [years]. Somebody last seen at 17 may have died at 17 or at any age since: people
    are left out who were older already when last seen, and who are younger to this day."""
    height: Span | None = None
    """[cm]."""
    since: str = ""
    """Last seen then or later: "2019", "2019-05" or "2019-05-03"."""
    until: str = ""
    """Last seen then or earlier, likewise."""
    year: int = field(default_factory=lambda: datetime.now(timezone.utc).year)
    """The year of the search, until which somebody may have lived."""

    def __post_init__(self) -> None:
        if self.sex is not None and self.sex not in get_args(Sex):
            raise GalleryError(f"the sex searched for is {self.sex!r}: write female or male")
        for name, span in (("age", self.age), ("height", self.height)):
            if span is not None and not 0 <= span[0] <= span[1]:
                raise GalleryError(
                    f"the {name} searched for is {span[0]} to {span[1]}: write the smaller first"
                )
        for date in (self.since, self.until):
            if not DATE.fullmatch(date):
                raise GalleryError(f"the date {date!r} is none: write it as 2019-05-03 or 2019")

    @property
    def everybody(self) -> bool:
        """Whether nothing is asked for."""
        return self == Among(year=self.year)

    def __str__(self) -> str:
        """Say what is asked for, e.g. "female, aged 20 to 35 at death, last seen since 2019"."""
        parts = [
            self.sex or "",
            f"aged {self.age[0]} to {self.age[1]} at death" if self.age else "",
            f"{self.height[0]} to {self.height[1]} cm" if self.height else "",
            f"last seen since {self.since}" if self.since else "",
            f"last seen until {self.until}" if self.until else "",
        ]
        return ", ".join(part for part in parts if part) or "everybody"

    def admits(self, person: Person) -> bool:
        """Tell whether a person may be meant."""
        return (
            (None in (self.sex, person.sex) or self.sex == person.sex)
            and self._fits_age(person)
            and self._fits_height(person)
            and self._fits_date(person)
        )

    def _fits_age(self, person: Person) -> bool:
        if self.age is None or person.birth_year is None:
            return True
        latest = person.birth_year_to or person.birth_year
        last_seen = int(person.date[:4]) if person.date else latest
        youngest = last_seen - latest - 1  # the birthday may have been still to come
        oldest = self.year - person.birth_year
        return youngest <= self.age[1] and self.age[0] <= oldest

    def _fits_height(self, person: Person) -> bool:
        if self.height is None or person.height_cm is None:
            return True
        return self.height[0] <= person.height_cm <= self.height[1]

    def _fits_date(self, person: Person) -> bool:
        if not person.date:
            return True
        return (not self.since or last_day(person.date) >= _first_day(self.since)) and (
            not self.until or _first_day(person.date) <= last_day(self.until)
        )


def _first_day(date: str) -> str:
    return {4: f"{date}-01-01", 7: f"{date}-01"}.get(len(date), date)


def last_day(date: str) -> str:
    """Give a day that no day of that year or month is after; it need not exist."""
    return {4: f"{date}-12-31", 7: f"{date}-31"}.get(len(date), date)


EVERYBODY = Among()
"""Leaves nobody out."""

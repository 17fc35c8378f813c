"""The packaged demonstration: a small bundle, simulated people to enrol and X-rays to identify.

    bundle/       trained on other simulated people
    people.csv    who is enrolled, in the form that `fcr-edge enroll` takes
    photos/       their portraits
    xrays.csv     file, person (empty: not enrolled)
    xrays/        the films

Nobody in it exists. What it finds says how the method works, not how well it would do on a case.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fcr_edge import report
from fcr_edge.bundle import Bundle
from fcr_edge.enroll import enroll, list_people
from fcr_edge.gallery import Gallery
from fcr_edge.identify import Identifier, demo_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fcr_edge.identify import IdentifyResult
    from fcr_edge.sessions import Device


@dataclass(frozen=True)
class DemoFilm:
    """A packaged X-ray and who is on it."""

    xray: Path
    mate: str | None
    """The person's id, or None for somebody who is not enrolled."""


@dataclass(frozen=True)
class DemoOutcome:
    """What was found for one packaged X-ray."""

    film: DemoFilm
    result: IdentifyResult
    """All people of the gallery, ranked."""

    @property
    def mate_rank(self) -> int | None:
        """1 + the number of people ranked above the mate; None for somebody not enrolled."""
        ranks = {c.person.id: c.rank for c in self.result.search.candidates}
        return ranks[self.film.mate] if self.film.mate else None


def list_films() -> list[DemoFilm]:
    """List the packaged X-rays."""
    folder = demo_folder()
    with folder.joinpath("xrays.csv").open(newline="", encoding="utf-8") as file:
        return [
            DemoFilm(folder / row["file"], row["person"] or None) for row in csv.DictReader(file)
        ]


def make_gallery(path: Path, identifier: Identifier) -> Gallery:
    """Enrol the packaged people in a new gallery."""
    manifest = identifier.bundle.manifest
    gallery = Gallery.create(path, manifest.fingerprint, manifest.embedder.output.dimension)
    people, _ = list_people(demo_folder() / "people.csv")
    enroll(people, gallery, identifier)
    return gallery


def run(out: Path, device: Device) -> Iterator[DemoOutcome]:
    """Enrol, identify every X-ray, and write a folder of results for each, one by one.

    The gallery of an earlier demonstration in the same folder is replaced.
    """
    report.make_folder(out)
    gallery_path = out / "db.bin"
    gallery_path.unlink(missing_ok=True)
    with (
        Identifier(Bundle.load(demo_folder() / "bundle"), device) as identifier,
        make_gallery(gallery_path, identifier) as gallery,
    ):
        for film in list_films():
            result = identifier.identify([film.xray], gallery, k=len(gallery.people()))
            report.write_report(result, gallery, out / film.xray.stem, film.mate)
            yield DemoOutcome(film, result)


def describe_outcomes(outcomes: list[DemoOutcome]) -> str:
    """Say in one paragraph what was seen, with chance beside it."""
    people = outcomes[0].result.search.people
    ranks = sorted(rank for outcome in outcomes if (rank := outcome.mate_rank) is not None)
    top = max(1, people // 6)
    inside = sum(rank <= top for rank in ranks)
    unknown = len(outcomes) - len(ranks)
    return (
        f"Of {len(ranks)} films of enrolled people, {inside} had the right person among the first"
        f" {top} of {people}; drawing lots would put {len(ranks) * top / people:.1f} there. The"
        f" ranks were {', '.join(map(str, ranks))}; lots would give {(people + 1) / 2:.1f} on"
        f" average. {unknown} film shows somebody who is not enrolled, and still gets a ranked"
        " list: a list says who is most similar, not that anyone is right. All these people are"
        f" simulated, and {len(ranks)} films are few: the figures show that the method runs and"
        " what it looks like, not how well it would do on a case."
    )

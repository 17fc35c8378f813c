"""Rank of the mate for every X-ray of a simulated dataset, by view, with chance beside it.

    python benchmarks/retrieval.py data/demo --bundle bundle [--json out.json]

The people must be others than those the bundle was trained on. They are simulated: the figures
measure the method, not forensic accuracy.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fcr_edge import Bundle, Gallery, Identifier, photo
from fcr_edge.enroll import Enrolment, enroll
from fcr_edge.gallery import Person, SearchResult, View
from fcr_edge.latency import describe_machine

RANKS = (1, 5, 10, 20)
VIEWS: tuple[View, ...] = ("frontal", "lateral")
BOOTSTRAP_DRAWS = 2000
SEED = 1


def enrol_people(data: Path, people: list[str], gallery: Gallery, identifier: Identifier) -> None:
    """Enrol the first portrait of each view."""
    items = []
    for person in people:
        folder = data / "images" / person
        photos = tuple((folder / f"{view}_face_1.png", view) for view in VIEWS)
        items.append(Enrolment(Person(id=person), photos))
    report = enroll(items, gallery, identifier)
    if report.refused:
        raise SystemExit("\n".join(report.refused))


def rank_films(
    identifier: Identifier, gallery: Gallery, data: Path, people: list[str], view: str
) -> dict[str, Any]:
    """Identify everybody's film of one view in the whole gallery."""
    ranks = []
    for person in track(people, f"{view} films", console=Console(stderr=True)):
        xray = data / "images" / person / f"{view}_xray.png"
        found = identifier.identify([xray], gallery, k=len(people)).search
        ranks.append(find_rank(found, person))
    return summarise(np.array(ranks), len(people))


def rank_portraits(
    identifier: Identifier, gallery: Gallery, data: Path, people: list[str]
) -> dict[str, Any]:
    """Search with a second frontal portrait of everybody: the embedder's own ceiling."""
    ranks = []
    for person in track(people, "portraits", console=Console(stderr=True)):
        face = photo.read_face(data / "images" / person / "frontal_face_2.png")
        found = gallery.search(identifier.embed([face])[0], k=len(people))
        ranks.append(find_rank(found, person))
    return summarise(np.array(ranks), len(people))


def find_rank(found: SearchResult, mate: str) -> int:
    """Find the mate's place in a search of the whole gallery."""
    return next(c.rank for c in found.candidates if c.person.id == mate)


def summarise(ranks: np.ndarray, people: int) -> dict[str, Any]:
    """Share of mates at or above each rank, with a 95 % bootstrap interval by person."""
    rng = np.random.default_rng(SEED)
    draws = ranks[rng.integers(0, len(ranks), (BOOTSTRAP_DRAWS, len(ranks)))]
    shares = {}
    for k in RANKS:
        low, high = np.percentile((draws <= k).mean(axis=1), [2.5, 97.5])
        shares[k] = {
            "share": float((ranks <= k).mean()),
            "interval95": [float(low), float(high)],
            "chance": min(1, k / people),
        }
    return {"films": len(ranks), "median_rank": float(np.median(ranks)), "top": shares}


def main(
    data: Annotated[Path, typer.Argument(help="A dataset made by fcr-train simulate.")],
    bundle: Annotated[Path, typer.Option(help="The bundle to measure.")],
    limit: Annotated[int, typer.Option(help="People, at most.")] = 1000,
    out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Measure."""
    people = sorted(path.name for path in (data / "images").iterdir())[:limit]
    with (
        tempfile.TemporaryDirectory() as folder,
        Identifier(Bundle.load(bundle, allow_unsigned=True), "cpu") as identifier,
        Gallery.create(
            Path(folder) / "db.bin",
            identifier.bundle.fingerprint,
            identifier.bundle.manifest.embedder.output.dimension,
        ) as gallery,
    ):
        enrol_people(data, people, gallery, identifier)
        record = {
            "schema": "fcr-retrieval/1",
            "notice": "simulated people: this measures the method, not forensic accuracy",
            "dataset": json.loads((data / "dataset.json").read_text()),
            "bundle": identifier.bundle.sha256,
            "gallery_people": len(people),
            "views": {view: rank_films(identifier, gallery, data, people, view) for view in VIEWS},
            "other_portrait": rank_portraits(identifier, gallery, data, people),
            "machine": describe_machine(),
        }
    show(record)
    if out is not None:
        out.write_text(json.dumps(record, indent=2) + "\n")


def show(record: dict[str, Any]) -> None:
    """Print the shares beside chance."""
    rows = {f"face from the {view} film": row for view, row in record["views"].items()}
    rows["another frontal portrait"] = record["other_portrait"]
    table = Table("probe", "in the first", "share", "95 %", "chance")
    for name, row in rows.items():
        for k, top in row["top"].items():
            low, high = top["interval95"]
            table.add_row(
                name,
                str(k),
                f"{top['share']:.2f}",
                f"{low:.2f}-{high:.2f}",
                f"{top['chance']:.2f}",
            )
        table.add_row(f"{name}: median rank {row['median_rank']:.0f}", end_section=True)
    console = Console()
    console.print(table)
    console.print(f"{record['gallery_people']} people enrolled; {record['notice']}.")


if __name__ == "__main__":
    typer.run(main)

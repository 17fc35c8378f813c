"""How long a gallery takes: to open, to be searched, to be filled; each in processes of its own.

    python benchmarks/gallery.py open [--people 10000 --people 100000] [--json out.json]
    python benchmarks/gallery.py enroll --photos FOLDER [--json out.json]

`open` fills encrypted galleries with people of one synthetic embedding each (unit vectors, 1024
numbers, a thumbnail of 3 kB) and times a fresh process: opening, the first search, further ones.
`enroll` enrols the photographs of a folder and compares with the embedder alone. Nothing here
depends on who looks like whom.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fcr_edge import imaging, photo
from fcr_edge.bundle import Bundle
from fcr_edge.enroll import enroll as enroll_people
from fcr_edge.enroll import list_people
from fcr_edge.gallery import Gallery, Person, Photo
from fcr_edge.identify import Identifier, demo_folder
from fcr_edge.latency import describe_machine

app = typer.Typer()

DIMENSION, THUMBNAIL_BYTES, BATCH = 1024, 3000, 500
KEY = bytes(range(32))
PROCESSES = 5
"""Fresh processes that open each gallery."""
SEARCHES = 100
READER = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from fcr_edge.gallery import Gallery

rng = np.random.default_rng(7)
probes = rng.standard_normal((int(sys.argv[2]), 1024)).astype(np.float32)
probes /= np.linalg.norm(probes, axis=1, keepdims=True)
start = time.perf_counter()
gallery = Gallery.open(Path(sys.argv[1]), bytes(range(32)))
opened = time.perf_counter()
gallery.search(probes[0], k=50)
first = time.perf_counter()
times = []
for probe in probes[1:]:
    before = time.perf_counter()
    gallery.search(probe, k=50)
    times.append(1000 * (time.perf_counter() - before))
gallery.digest
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"open": opened - start, "first": first - opened, "ms": times, "peak_mb": peak}))
"""

JsonFile = Annotated[Path | None, typer.Option("--json", help="File for the figures.")]


@app.command("open")
def open_galleries(
    people: Annotated[list[int] | None, typer.Option(min=1, help="Sizes.")] = None,
    out: JsonFile = None,
) -> None:
    """Time opening and searching encrypted galleries, packed and not, in fresh processes."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in people or [10_000, 50_000, 100_000]:
            path = Path(folder) / "db.bin"
            path.unlink(missing_ok=True)
            fill(path, count)
            rows.append({"people": count, "packed": False, **read(path)})
            with Gallery.open(path, KEY) as gallery:
                start = time.perf_counter()
                gallery.pack()
                packing = time.perf_counter() - start
            row = {"people": count, "packed": True, "packing_s": packing, **read(path)}
            rows.append({**row, "bytes": path.stat().st_size})
    table = Table(
        "people", "packed", "open s", "first search s", "search p50 ms", "p95", "peak MB"
    )
    for row in rows:
        figures = (row["open_s"], row["first_s"], row["p50_ms"], row["p95_ms"], row["peak_mb"])
        table.add_row(
            str(row["people"]), str(row["packed"]), *(f"{figure:.3g}" for figure in figures)
        )
    Console().print(table)
    write(out, {"schema": "fcr-gallery-open/1", "dimension": DIMENSION, "galleries": rows})


@app.command()
def enroll(
    photos: Annotated[Path, typer.Option(help="A folder with a folder a person.")],
    out: JsonFile = None,
) -> None:
    """Compare photographs enrolled a second with photographs embedded a second."""
    people, _ = list_people(photos)
    files = [file for item in people for file, _ in item.photos]
    with (
        Identifier(Bundle.load(demo_folder() / "bundle"), "cpu") as identifier,
        tempfile.TemporaryDirectory() as folder,
    ):
        faces = [photo.standardise(imaging.read_picture(file)) for file in files]
        identifier.embed(faces[:3])
        manifest = identifier.bundle.manifest
        rates: dict[str, list[float]] = {"embedder": [], "enrolment": []}
        for turn in range(PROCESSES):
            start = time.perf_counter()
            identifier.embed(faces)
            rates["embedder"].append(len(files) / (time.perf_counter() - start))
            dimension = manifest.embedder.output.dimension
            path = Path(folder) / f"{turn}.bin"
            with Gallery.create(path, identifier.bundle.fingerprint, dimension, KEY) as gallery:
                start = time.perf_counter()
                enroll_people(people, gallery, identifier)
                rates["enrolment"].append(len(files) / (time.perf_counter() - start))
    share = [one / other for one, other in zip(rates["enrolment"], rates["embedder"], strict=True)]
    record = {
        "photographs": len(files),
        "per_second": {name: float(np.median(values)) for name, values in rates.items()},
        "share": float(np.median(share)),
        "shares": share,
    }
    Console().print(record)
    write(out, {"schema": "fcr-gallery-enroll/1", **record})


def fill(path: Path, count: int) -> None:
    """Write an encrypted gallery of so many people."""
    rng = np.random.default_rng(1)
    with Gallery.create(path, "f" * 64, DIMENSION, KEY) as gallery:
        for start in track(
            range(0, count, BATCH), f"{count} people", console=Console(stderr=True)
        ):
            vectors = rng.standard_normal((BATCH, DIMENSION)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            numbers = range(start, min(start + BATCH, count))
            gallery.enroll_all(
                [
                    (make_person(number), [make_photo(number, vectors[number - start])])
                    for number in numbers
                ]
            )


def make_person(number: int) -> Person:
    """Make somebody with details of usual length."""
    return Person(f"p{number:07d}", f"Surname, Name {number}", "female", 1980, "Some Town", "2019")


def make_photo(number: int, vector: np.ndarray) -> Photo:
    """Make a photograph with a thumbnail of usual length."""
    sha256 = hashlib.sha256(b"%d" % number).hexdigest()
    thumbnail = b"\xff\xd8\xff" + os.urandom(THUMBNAIL_BYTES)
    return Photo(sha256, f"{number}.jpg", "frontal", thumbnail, vector, 0.9)


def read(path: Path) -> dict[str, float]:
    """Open and search in fresh processes; medians, and percentiles over all searches."""
    command = [sys.executable, "-c", READER, str(path), str(SEARCHES + 1)]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(PROCESSES)
    ]
    times = [milliseconds for one in found for milliseconds in one["ms"]]
    return {
        "open_s": float(np.median([one["open"] for one in found])),
        "first_s": float(np.median([one["first"] for one in found])),
        "p50_ms": float(np.percentile(times, 50)),
        "p95_ms": float(np.percentile(times, 95)),
        "peak_mb": float(np.median([one["peak_mb"] for one in found])),
    }


def write(out: Path | None, record: dict[str, Any]) -> None:
    """Keep the figures, with the machine."""
    if out is not None:
        record = {**record, "machine": describe_machine()}
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()

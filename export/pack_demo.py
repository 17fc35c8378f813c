"""Simulated people and a bundle become the packaged demonstration.

    fcr-train simulate --people 61 --seed 2 --out data/demo
    python -m export.pack_demo data/demo bundle fcr_edge/demo

The people must be others than those the bundle was trained on: take another seed. The hash that it
prints belongs into `fcr_edge.trust.PACKAGED_SHA256`, which vouches for the packaged bundle.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fcr_edge import imaging
from fcr_edge.bundle import Bundle
from fcr_edge.errors import DataError

FILMS_EACH_VIEW = 3
"""X-rays of enrolled people a view; one more shows the last person, who is not enrolled."""
FILM_SEED = 7
"""Draws whose films are packed, before anybody has seen how they rank."""
JPEG_QUALITY = 88
VIEWS = ("frontal", "lateral")

Row = dict[str, str]


def pack_demo(data: Path, bundle: Path, demo: Path) -> None:
    """Write photos/, people.csv, xrays/, xrays.csv and bundle/ into the folder `demo`.

    Every person of the dataset but the last is enrolled, with the first portrait of each view.
    Raises DataError for a dataset that is not one, and BundleError.
    """
    Bundle.load(bundle, allow_unsigned=True)
    people, images = _read_table(data / "people.csv"), _read_table(data / "images.csv")
    *enrolled, stranger = people
    demo.mkdir(exist_ok=True)
    for name in ("bundle", "photos", "xrays"):
        shutil.rmtree(demo / name, ignore_errors=True)
    shutil.copytree(bundle, demo / "bundle")
    _write_table(demo / "people.csv", _pack_photos(enrolled, images, data, demo))
    mates = _draw_mates([row["person"] for row in enrolled])
    _write_table(
        demo / "xrays.csv", _pack_films([*mates, (stranger["person"], "frontal")], data, demo)
    )


def _pack_photos(enrolled: list[Row], images: list[Row], data: Path, demo: Path) -> list[Row]:
    (demo / "photos").mkdir()
    rows = []
    for person in enrolled:
        for view in VIEWS:
            source = data / _first_portrait(images, person["person"], view)
            file = f"photos/{person['person']}_{view}.jpg"
            picture = imaging.read_picture(source)
            demo.joinpath(file).write_bytes(imaging.encode_jpeg(picture, JPEG_QUALITY))
            rows.append(
                {
                    "person": person["person"],
                    "file": file,
                    "sex": person["sex"],
                    "view": view,
                    "notes": "simulated, not a real person",
                }
            )
    return rows


def _first_portrait(images: list[Row], person: str, view: str) -> str:
    wanted = {"person": person, "view": view, "kind": "face"}
    for row in images:
        if wanted.items() <= row.items():
            return row["file"]
    raise DataError(f"{person} has no {view} portrait: simulate faces of both views")


def _draw_mates(people: list[str]) -> list[tuple[str, str]]:
    drawn = np.random.default_rng(FILM_SEED).choice(people, FILMS_EACH_VIEW * len(VIEWS), False)
    return [(str(person), VIEWS[i % len(VIEWS)]) for i, person in enumerate(drawn)]


def _pack_films(films: list[tuple[str, str]], data: Path, demo: Path) -> list[Row]:
    """Copy the films under names that do not tell who is on them; the stranger has no person."""
    (demo / "xrays").mkdir()
    rows = []
    for number, (person, view) in enumerate(films, start=1):
        file = f"xrays/xray{number}_{view}.png"
        shutil.copyfile(data / "images" / person / f"{view}_xray.png", demo / file)
        rows.append({"file": file, "person": "" if number == len(films) else person})
    return rows


def _read_table(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as err:
        raise DataError(f"cannot read {path}: {err.strerror}: make it with simulate") from err


def _write_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _main(
    data: Annotated[Path, typer.Argument(help="Simulated people, the last one a stranger.")],
    bundle: Annotated[Path, typer.Argument(help="The bundle to pack.")],
    demo: Annotated[Path, typer.Argument(help="Where the demonstration lies.")],
) -> None:
    pack_demo(data, bundle, demo)
    packed = Bundle.load(demo / "bundle", allow_unsigned=True)
    typer.echo(f"PACKAGED_SHA256 = {packed.sha256}")


if __name__ == "__main__":
    typer.run(_main)

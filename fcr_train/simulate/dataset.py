"""The dataset on disk: each person written once, tables at the end, nothing made twice."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fcr_edge.errors import ConfigError, DataError, ImageError
from fcr_edge.imaging import encode_png, write_png
from fcr_train.files import write_whole
from fcr_train.simulate.ct import MARK as CT_MARK
from fcr_train.simulate.ct import ScannedHead, read_scan
from fcr_train.simulate.depths import DEPTH_FILE, read_depths
from fcr_train.simulate.exposure import BONE_FULL
from fcr_train.simulate.head import HEAD_SHA256
from fcr_train.simulate.person import (
    FILM_SCALE,
    FILM_SHIFT_MM,
    FILM_TILT_DEGREES,
    shared_simulator,
)
from fcr_train.simulate.pictures import TABLES, make_pictures
from fcr_train.simulate.skull import write_template
from fcr_train.simulate.traits import SkullTraits
from fcr_train.simulate.workers import run_in_workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fcr_train.simulate.ct import Scan
    from fcr_train.simulate.pictures import Picture
    from fcr_train.simulate.plan import Plan

    Rows = list[dict[str, str]]

logger = logging.getLogger(__name__)

SCHEMA = "fcr-dataset/1"
GENERATOR = "fcr-simulate"
GENERATOR_VERSION = "3"
"""Raise it whenever the same seed gives other pictures."""
MARK = {"Synthetic": "simulated person, not a real one"}


def make_dataset(
    out: Path,
    plan: Plan,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Make the dataset, or what is missing of it; see `fcr_train.simulate.simulate`."""
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}: give 1 or more")
    scan = read_scan(plan.ct) if plan.ct else None
    claim_folder(out, describe(plan, scan))
    template = add_scan(out, plan, scan) if scan else None
    missing = [n for n in plan.numbers() if read_record(out, n, plan) is None]
    done = plan.people - len(missing)
    logger.info("%d of %d people are there already", done, plan.people)
    if progress is not None:
        progress(done, plan.people)
    task = partial(make_person, out, plan, template)
    for finished in run_in_workers(task, missing, workers or os.cpu_count() or 1):
        if progress is not None:
            progress(done + finished, plan.people)
    if plan.people:
        write_tables(out, plan)


def describe(plan: Plan, scan: Scan | None) -> dict[str, Any]:
    """Describe a dataset as dataset.json does: everything that decides its bytes."""
    depths = plan.depths or DEPTH_FILE
    return {
        "schema": SCHEMA,
        "generator": GENERATOR,
        "generator_version": GENERATOR_VERSION,
        "seed": plan.seed,
        "people": plan.people,
        "size": plan.size,
        "views": list(plan.views),
        "kinds": list(plan.kinds),
        "portraits": plan.portraits,
        "parameters": {
            "first": plan.first,
            "bits": plan.bits,
            "beam": plan.beam,
            "skulls": "of one CT" if scan else "each person's own",
            "ct_sha256": scan.sha256 if scan else None,
            "head_sha256": HEAD_SHA256,
            "film_tilt_degrees": FILM_TILT_DEGREES,
            "film_scale": FILM_SCALE,
            "film_shift_mm": FILM_SHIFT_MM,
            "bone_full": BONE_FULL,
            "depths": depths.name,
            "depths_status": read_depths(depths).status,
            "depths_sha256": digest(depths),
        },
    }


def person_name(number: int) -> str:
    """Name a person.

    >>> person_name(7)
    'p00007'
    """
    return f"p{number:05d}"


def claim_folder(out: Path, contents: dict[str, Any]) -> None:
    """Create the folder and say what it holds; DataError when it holds something else."""
    description = json.dumps(contents, indent=2) + "\n"
    target = out / "dataset.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            if any(out.iterdir()):
                raise DataError(f"{out} holds files but no dataset: choose an empty folder")
            write_whole(target, description)
        elif target.read_bytes() != description.encode():
            raise DataError(
                f"{out} holds a dataset of other parameters: choose another folder, or repeat "
                f"the command that is recorded in {target}"
            )
    except OSError as err:
        raise DataError(
            f"{out} cannot be written ({err.strerror}): choose another folder"
        ) from err


def record_path(out: Path, number: int) -> Path:
    """Give the path of the record that says a person is complete."""
    return out / "records" / f"{person_name(number)}.json"


def read_record(out: Path, number: int, plan: Plan) -> dict[str, Any] | None:
    """Read the record of a complete person; None when pictures are missing or changed."""
    try:
        record = json.loads(record_path(out, number).read_text(encoding="utf-8"))
        intact = all(digest(out / row["file"]) == row["sha256"] for row in record["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    a_view = len(plan.kinds) + ("face" in plan.kinds) * (plan.portraits - 1)
    return record if intact and len(record["images"]) == a_view * len(plan.views) else None


def digest(path: Path) -> str:
    """Give the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def add_scan(out: Path, plan: Plan, scan: Scan) -> Path:
    """Add the pictures of the person scanned, then the skull; give the file of the skull."""
    target = out / "ct" / "template.npz"
    if target.exists():
        return target
    logger.info("finding the head in the CT and its skull, which takes up to a minute")
    simulator = shared_simulator(plan.depths)
    head = ScannedHead(scan, simulator.anatomy)
    template = head.template(simulator.skull_of(SkullTraits())[0])
    try:
        target.parent.mkdir(exist_ok=True)
        for picture in head.pictures(plan.size, plan.views, plan.beam):
            write_png(target.with_name(picture.name), picture.pixels, CT_MARK)
        write_template(target, template)
    except OSError as err:
        raise DataError(f"{target} cannot be written ({err}): free the disk, then repeat") from err
    return target


def make_person(out: Path, plan: Plan, template: Path | None, number: int) -> None:
    """Make and write all pictures of a person, then the record that says so."""
    name = person_name(number)
    folder = out / "images" / name
    made = make_pictures(shared_simulator(plan.depths, template), plan, number)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        images = [write_picture(out, name, picture) for picture in made.pictures]
        tables = {kind: [{"person": name} | row for row in made.tables[kind]] for kind in TABLES}
        row = {"person": name} | made.row
        record: dict[str, Any] = {"person": row, "images": images} | tables
        record_path(out, number).parent.mkdir(exist_ok=True)
        write_whole(record_path(out, number), json.dumps(record, indent=1) + "\n")
    except (OSError, ImageError) as err:
        raise DataError(f"{folder} cannot be written ({err}): free the disk, then repeat") from err


def write_picture(out: Path, name: str, picture: Picture) -> dict[str, str]:
    """Write one picture of a person; give its row of images.csv."""
    path = out / "images" / name / picture.name
    data = encode_picture(picture)
    path.write_bytes(data)
    return {
        "person": name,
        "view": picture.view,
        "kind": picture.kind,
        "portrait": str(picture.number or ""),
        "file": path.relative_to(out).as_posix(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def encode_picture(picture: Picture) -> bytes:
    """Encode a picture as PNG, line integrals as NumPy's own format."""
    if picture.kind != "lines":
        return encode_png(picture.pixels, MARK)
    buffer = io.BytesIO()
    np.save(buffer, picture.pixels, allow_pickle=False)
    return buffer.getvalue()


def write_tables(out: Path, plan: Plan) -> None:
    """Write the tables from the records, in order."""
    records = [read_record(out, number, plan) for number in plan.numbers()]
    complete = [record for record in records if record is not None]
    if len(complete) < plan.people:
        missing = plan.people - len(complete)
        raise DataError(f"{out} lacks {missing} people after making them: repeat the command")
    for kind in TABLES:
        if rows := [row for record in complete for row in record[kind]]:
            write_whole(out / f"{kind}.csv", table(rows))
    write_whole(out / "people.csv", table([record["person"] for record in complete]))
    images = [row for record in complete for row in record["images"]]
    write_whole(out / "images.csv", table(images))


def table(rows: Rows) -> str:
    """Lay rows out as CSV with a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()

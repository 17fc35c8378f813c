"""A folder of films and photographs that was found sound becomes a dataset."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING

from fcr_edge import imaging
from fcr_edge.errors import ConfigError, DataError
from fcr_train.augment import AUGMENTATIONS, apply_change, draw_change
from fcr_train.files import write_whole
from fcr_train.layouts import Attributes
from fcr_train.simulate.dataset import SCHEMA, table
from fcr_train.survey import MAX_SIDE, read_source, refuse_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fcr_edge.imaging import RawPicture
    from fcr_train.survey import Examined, Survey

GENERATOR = "fcr-prepare"
GENERATOR_VERSION = "2"
"""Raise it whenever the same folder gives other pictures or tables."""


def write_dataset(
    surveyed: Survey,
    out: Path,
    augment: int = 0,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the dataset: every picture as PNG, then the tables, images.csv at the very end.

    Pixels are kept as they are, 8 or 16 bits, grey or colour, turned as EXIF says and reduced to
    1024 a side where they are larger; nothing else of a file is kept. An interrupted call leaves a
    folder without images.csv, which no reader takes, and the same call finishes it.

    `augment` (0 to 4) of the paper's augmentations are written for every pair, with the same
    geometry on film and face. They are written for everybody, since each person trains in most
    folds; `fcr_train.dataset.divide` keeps them out of whatever is held out. Raises DataError.
    """
    if not 0 <= augment <= len(AUGMENTATIONS):
        raise ConfigError(f"augment is {augment}: give 0 to {len(AUGMENTATIONS)}")
    refuse_errors(surveyed)
    _claim(out, surveyed, _describe(surveyed, augment, seed))
    images = []
    for done, (person, view, group) in enumerate(_group(surveyed), start=1):
        changes = [draw_change(name, seed, person, view) for name in AUGMENTATIONS[:augment]]
        for stem, one in _number(group):
            pixels = _read_again(one)
            images.append(_write(out, one, stem, pixels))
            for change in changes:
                changed = apply_change(pixels, change, one.source.kind == "face")
                images.append(_write(out, one, f"{stem}_{change.name}", changed, change.name))
        if progress is not None:
            progress(done, len({one.label for one in surveyed.pictures}))
    people = [_person_row(name, surveyed.attributes) for name in surveyed.people]
    write_whole(out / "people.csv", table(people))
    report = json.dumps(surveyed.report(), indent=1, ensure_ascii=False)
    write_whole(out / "report.json", report + "\n")
    write_whole(out / "images.csv", table(sorted(images, key=_place)))


def _describe(surveyed: Survey, augment: int, seed: int) -> str:
    """Describe the dataset; another folder or other options give another description."""
    counts = surveyed.count()
    contents = sorted((one.source.name, one.sha256) for one in surveyed.pictures)
    document = {
        "schema": SCHEMA,
        "generator": GENERATOR,
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "people": len(surveyed.people),
        "views": sorted({one.source.view for one in surveyed.pictures}),
        "kinds": list(counts),
        "parameters": {
            "layout": surveyed.layout,
            "augmentations": list(AUGMENTATIONS[:augment]),
            "max_side": MAX_SIDE,
            "sources_sha256": hashlib.sha256(json.dumps(contents).encode()).hexdigest(),
        },
    }
    return json.dumps(document, indent=2) + "\n"


def _claim(out: Path, surveyed: Survey, description: str) -> None:
    """Take an empty folder, or one where the same call was interrupted."""
    target = out / "dataset.json"
    if out.resolve().is_relative_to(surveyed.folder.resolve()):
        raise DataError(f"{out} lies inside {surveyed.folder}: choose a folder outside it")
    if (out / "images.csv").exists():
        raise DataError(f"{out} holds a dataset already: choose an empty folder")
    try:
        begun = target.read_text(encoding="utf-8") if target.exists() else None
        if begun != description and out.exists() and any(out.iterdir()):
            raise DataError(
                f"{out} holds other files, or a dataset begun from something else: choose an empty"
                " folder"
            )
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"{out} cannot be written ({err.strerror}): choose another") from err
    write_whole(target, description)


def _group(surveyed: Survey) -> Iterator[tuple[str, str, list[Examined]]]:
    """Yield each person and view with its pictures, in order."""
    groups = defaultdict(list)
    for one in surveyed.pictures:
        groups[one.source.person, one.source.view].append(one)
    for person, view in sorted(groups):
        yield person, view, groups[person, view]


def _number(group: Sequence[Examined]) -> Iterator[tuple[str, Examined]]:
    """Name each picture by its view and kind, several of a kind by numbers."""
    totals = Counter(one.source.kind for one in group)
    seen: Counter[str] = Counter()
    for one in group:
        kind = one.source.kind
        seen[kind] += 1
        number = f"_{seen[kind]}" if totals[kind] > 1 else ""
        yield f"{one.source.view}_{kind}{number}", one


def _read_again(one: Examined) -> RawPicture:
    """Read a picture once more, reduced to what is stored."""
    digest, pixels = read_source(one.source)
    if digest != one.sha256:
        raise DataError(f"{one.source.path} has changed since it was checked: repeat the command")
    share = min(1, MAX_SIDE / max(pixels.shape[:2]))
    height, width = (max(1, round(side * share)) for side in pixels.shape[:2])
    return imaging.resize(pixels, (height, width))


def _write(
    out: Path, one: Examined, stem: str, pixels: RawPicture, augmentation: str = ""
) -> dict[str, str]:
    """Write a picture and return its row of images.csv."""
    content = imaging.encode_png(pixels)
    path = out / "images" / one.source.person / f"{stem}.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as err:
        raise DataError(f"{path} cannot be written ({err.strerror}): free the disk") from err
    return {
        "person": one.source.person,
        "view": one.source.view,
        "kind": one.source.kind,
        "file": path.relative_to(out).as_posix(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "augmentation": augmentation,
    }


def _place(row: dict[str, str]) -> tuple[bool, str]:
    """Originals come first, so that the table begins as it would without augmentation."""
    return bool(row["augmentation"]), row["file"]


def _person_row(name: str, attributes: dict[str, Attributes]) -> dict[str, str]:
    return {"person": name, **asdict(attributes.get(name, Attributes()))}

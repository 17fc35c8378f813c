"""A folder of films and photographs becomes a dataset, once it has been checked."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fcr_edge import dicom, film, imaging
from fcr_edge.errors import ConfigError, DataError, FcrError, ImageError
from fcr_train.augment import AUGMENTATIONS, apply_change, draw_change
from fcr_train.copies import find_copies, fingerprint
from fcr_train.layouts import Attributes, Unused, list_sources, read_attributes, read_table
from fcr_train.simulate.dataset import SCHEMA, table, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fcr_edge.imaging import RawPicture
    from fcr_train.copies import Fingerprint
    from fcr_train.layouts import Layout, Source

REPORT_SCHEMA = "fcr-prepare-report/1"
GENERATOR = "fcr-prepare"
GENERATOR_VERSION = "1"
"""Raise it whenever the same folder gives other pictures or tables."""
MAX_SIDE = 1024
"""Longer side of a stored picture, at most [pixels]: four times what any preset trains on."""
FILM_KINDS = ("xray", "skull", "bone")

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Problem:
    """Something found in the folder; an error stops, a warning does not."""

    level: Level
    check: str
    message: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examined:
    """A picture that could be read, and what the checks need of it."""

    source: Source
    sha256: str
    """Of the file in the folder."""
    height: int
    width: int
    is_inverted: bool
    fingerprint: Fingerprint

    @property
    def label(self) -> str:
        """Name its person and view."""
        return f"{self.source.person} {self.source.view}"


@dataclass(frozen=True)
class Survey:
    """What a folder holds, and what is wrong with it."""

    folder: Path
    layout: Layout
    pictures: tuple[Examined, ...]
    unused: tuple[Unused, ...]
    attributes: dict[str, Attributes]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> list[Problem]:
        """List what stops."""
        return [problem for problem in self.problems if problem.level == "error"]

    @property
    def people(self) -> list[str]:
        """List the people, in order of their names."""
        return sorted({picture.source.person for picture in self.pictures})

    def count(self) -> dict[str, dict[str, int]]:
        """Count the pictures by kind and view."""
        counts: dict[str, dict[str, int]] = defaultdict(dict)
        shown = Counter((one.source.kind, one.source.view) for one in self.pictures)
        for (kind, view), number in sorted(shown.items()):
            counts[kind][view] = number
        return dict(counts)

    def report(self) -> dict[str, Any]:
        """Describe the folder for a program; every file of it is either used or unused."""
        return {
            "schema": REPORT_SCHEMA,
            "layout": self.layout,
            "people": len(self.people),
            "pictures": self.count(),
            "problems": [asdict(problem) for problem in self.problems],
            "used": [
                {
                    "source": one.source.name,
                    "person": one.source.person,
                    "view": one.source.view,
                    "kind": one.source.kind,
                    "width": one.width,
                    "height": one.height,
                    "sha256": one.sha256,
                }
                for one in self.pictures
            ],
            "unused": [{"source": one.name, "reason": one.reason} for one in self.unused],
        }


def survey(
    folder: Path,
    layout: Layout,
    table_file: Path | None = None,
    size: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Read every picture of a folder and check them; nothing is written.

    `size` is the side that training will ask for: smaller pictures are reported. Raises DataError
    where there is nothing to check; what is wrong with single files stands in the problems.
    """
    rows = read_table(table_file) if table_file is not None else None
    sources, unused = list_sources(folder, layout, rows)
    attributes = read_attributes(rows or [], layout)
    if not sources and not any(one.is_error for one in unused):
        raise DataError(f"{folder} holds no picture: give a folder with films and photographs")
    pictures, problems = [], []
    for done, source in enumerate(sources, start=1):
        try:
            pictures.append(_examine(source))
        except FcrError as err:
            problems.append(Problem("error", "unreadable", str(err), (source.name,)))
        if progress is not None:
            progress(done, len(sources))
    refused = {file for problem in problems for file in problem.files}
    problems += [
        *_check_unused(unused),
        *_check_people(pictures, attributes),
        *_check_mates(pictures),
        *_check_copies(pictures),
        *_check_sizes(pictures, size),
        *_check_polarity(pictures),
    ]
    order = ("error", "warning", "note")
    return Survey(
        folder,
        layout,
        tuple(pictures),
        (*unused, *(_refused(source, problems) for source in sources if source.name in refused)),
        attributes,
        tuple(sorted(problems, key=lambda problem: order.index(problem.level))),
    )


def _refused(source: Source, problems: Sequence[Problem]) -> Unused:
    reason = next(problem.message for problem in problems if source.name in problem.files)
    return Unused(source.name, reason, True)


def _examine(source: Source) -> Examined:
    """Read a picture and what the checks need of it. Raises ImageError and FilmError."""
    content, pixels = _read(source)
    height, width = pixels.shape[:2]
    if source.kind in FILM_KINDS:
        film.standardise(pixels)  # refuses what shows nothing
    return Examined(
        source,
        hashlib.sha256(content).hexdigest(),
        height,
        width,
        source.kind in FILM_KINDS and looks_inverted(pixels),
        fingerprint(pixels),
    )


def _read(source: Source) -> tuple[bytes, RawPicture]:
    content = imaging.read_file(source.path)
    if not dicom.is_dicom(content):
        return content, imaging.decode_picture(content, source.name)
    if source.kind not in FILM_KINDS:
        raise ImageError(f"{source.name} is a DICOM file: give a photograph as PNG or JPEG")
    return content, dicom.decode(content, source.name)


def looks_inverted(pixels: RawPicture) -> bool:
    """Tell whether a film is bright around a darker head: dark bone on a bright background.

    Compares the median of a ring 6 to 16 % inside the edge, where a scanner's white frame has
    ended, with that of the middle half. On 24 real lateral films and 160 simulated ones the ring
    is darker by at least 0.16 of the range.
    """
    small = imaging.resize(imaging.to_grey(pixels), (64, 64)).astype(np.float32)
    ring = small[4:60, 4:60].copy()
    ring[6:50, 6:50] = np.nan
    return bool(np.nanmedian(ring) > np.median(small[16:48, 16:48]))


def _check_unused(unused: Sequence[Unused]) -> Iterator[Problem]:
    for one in unused:
        if one.is_error:
            yield Problem("error", "name", f"{one.name}: {one.reason}", (one.name,))
    reasons = defaultdict(list)
    for one in unused:
        if not one.is_error:
            reasons[one.reason].append(one.name)
    for reason, names in reasons.items():
        level: Level = "warning" if reason == "not in the table" else "note"
        yield Problem(level, "left out", f"{len(names)} files left out: {reason}", tuple(names))


def _check_people(
    pictures: Sequence[Examined], attributes: dict[str, Attributes]
) -> Iterator[Problem]:
    people = sorted({one.source.person for one in pictures})
    if len(people) < 2:
        yield Problem("error", "people", f"{len(people)} people: training needs at least 2")
    folded = defaultdict(list)
    for person in people:
        folded[person.casefold()].append(person)
    for names in folded.values():
        if len(names) > 1:
            yield Problem("error", "people", f"{' and '.join(names)} differ in case only: rename")
    unknown = [one for one in people if not (attributes.get(one, Attributes()).sex)]
    if unknown:
        yield Problem("note", "people", f"the sex of {len(unknown)} people is not known")
    unknown = [one for one in people if not (attributes.get(one, Attributes()).age)]
    if unknown:
        yield Problem("note", "people", f"the age of {len(unknown)} people is not known")
    absent = sorted({*attributes} - {*people})
    if absent:
        yield Problem(
            "warning",
            "people",
            f"the table names {len(absent)} people without a picture, {absent[0]} the first",
        )


def _check_mates(pictures: Sequence[Examined]) -> Iterator[Problem]:
    films = {one.label for one in pictures if one.source.kind in ("xray", "skull")}
    faces = {one.label for one in pictures if one.source.kind == "face"}
    for lonely, has, lacks in ((films - faces, "film", "face"), (faces - films, "face", "film")):
        if lonely:
            files = tuple(one.source.name for one in pictures if one.label in lonely)
            yield Problem(
                "warning",
                "mates",
                f"{len(lonely)} views have a {has} but no {lacks}: {', '.join(sorted(lonely))}",
                files,
            )


def _check_copies(pictures: Sequence[Examined]) -> Iterator[Problem]:
    """Report files that are equal, of any kind, and pictures that are copies within a kind."""
    by_hash = defaultdict(list)
    for one in pictures:
        by_hash[one.sha256].append(one)
    equal = set()
    for group in by_hash.values():
        for other in group[1:]:
            equal.add((group[0].source.name, other.source.name))
            yield _tell_copy(group[0], other, "are the same file")
    for kind in sorted({one.source.kind for one in pictures}):
        rows = [one for one in pictures if one.source.kind == kind]
        for first, second in find_copies([one.fingerprint for one in rows], range(len(rows))):
            if rows[first].sha256 != rows[second].sha256:
                yield _tell_copy(rows[first], rows[second], "look like copies of one picture")


def _tell_copy(first: Examined, second: Examined, fault: str) -> Problem:
    files = (first.source.name, second.source.name)
    people = sorted({first.source.person, second.source.person})
    if len(people) == 1:
        return Problem("warning", "duplicate", f"{files[0]} and {files[1]} {fault}", files)
    return Problem(
        "error",
        "two names",
        f"{files[0]} and {files[1]} {fault}, but stand under {people[0]} and {people[1]}: give"
        " one person one name, or remove the wrong picture",
        files,
    )


def _check_sizes(pictures: Sequence[Examined], size: int) -> Iterator[Problem]:
    small = tuple(one.source.name for one in pictures if min(one.height, one.width) < size)
    if small:
        message = f"{len(small)} pictures have a side below {size} pixels, which training asks for"
        yield Problem("warning", "size", message, small)
    large = tuple(one.source.name for one in pictures if max(one.height, one.width) > MAX_SIDE)
    if large:
        message = f"{len(large)} pictures are stored reduced to {MAX_SIDE} pixels a side"
        yield Problem("note", "size", message, large)
    for kind in sorted({one.source.kind for one in pictures}):
        sizes = Counter((one.width, one.height) for one in pictures if one.source.kind == kind)
        if len(sizes) > 1:
            listed = ", ".join(f"{w} x {h} ({n})" for (w, h), n in sizes.most_common(3))
            message = f"pictures of kind {kind} have {len(sizes)} sizes: {listed}"
            yield Problem("warning", "size", message)


def _check_polarity(pictures: Sequence[Examined]) -> Iterator[Problem]:
    inverted = tuple(one.source.name for one in pictures if one.is_inverted)
    if inverted:
        yield Problem(
            "warning",
            "polarity",
            f"{len(inverted)} films look inverted (bright around a darker head), {inverted[0]} the"
            " first: bone has to be bright, so invert them",
            inverted,
        )


def refuse_errors(surveyed: Survey) -> None:
    """Raise DataError if something was found that stops."""
    if surveyed.errors:
        raise DataError(
            f"{len(surveyed.errors)} errors in {surveyed.folder}, nothing is written: mend them"
            f" and repeat; the first: {surveyed.errors[0].message}"
        )


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
    folds; `fcr_train.data.divide` keeps them out of whatever is held out. Raises DataError.
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
    _write_text(out / "people.csv", table(people))
    report = json.dumps(surveyed.report(), indent=1, ensure_ascii=False)
    _write_text(out / "report.json", report + "\n")
    _write_text(out / "images.csv", table(sorted(images, key=_place)))


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
    _write_text(target, description)


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
    content, pixels = _read(one.source)
    if hashlib.sha256(content).hexdigest() != one.sha256:
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


def _write_text(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as err:
        raise DataError(f"{path} cannot be written ({err.strerror}): free the disk") from err

"""Datasets of films and portraits: read, split by person, and served in batches."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fcr_edge import film, imaging, photo, soft_tissue
from fcr_edge.bundle import TensorSpec
from fcr_edge.errors import DataError, FcrError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import torch
    from jaxtyping import Float32, Int64, UInt8
    from torch import Tensor

    from fcr_train.config import Jitter, Split

SCHEMA = "fcr-dataset/1"

Kind = Literal["xray", "skull", "bone", "face"]
"""A film; a film whose soft tissue was removed by hand; a simulated film of bone alone; a face."""

Pair = tuple[str, str]
"""A person and a view: what belongs together as one film and its face."""


@dataclass(frozen=True)
class Person:
    """One row of people.csv; the columns that only describe the population are left out."""

    name: str
    sex: str
    """`female`, `male`, or empty where it is not known."""
    age: float | None
    """[years], None where it is not known."""


@dataclass(frozen=True)
class Picture:
    """One row of images.csv."""

    person: str
    view: str
    kind: str
    path: Path
    augmentation: str = ""
    """How it was made from another picture of the same person and view; empty for an original."""

    @property
    def pair(self) -> Pair:
        """The person and view that it shows."""
        return self.person, self.view


@dataclass(frozen=True)
class Dataset:
    """People and their pictures, as the tables of a dataset's folder list them."""

    people: tuple[Person, ...]
    pictures: tuple[Picture, ...]
    """The pictures that may be used for anything: originals, and in a training part all."""
    generator: str
    """What made it, such as "fcr-simulate" or "fcr-prepare"."""
    sha256: str
    """Of images.csv, which holds the hash of every picture: it names the whole dataset."""
    augmented: tuple[Picture, ...] = ()
    """Made from originals, kept apart from them: only `divide` hands them out, for training."""

    @property
    def names(self) -> list[str]:
        """Give the names of the people, in the table's order."""
        return [person.name for person in self.people]

    @property
    def is_simulated(self) -> bool:
        """Tell whether the people do not exist."""
        return self.generator == "fcr-simulate"

    @property
    def film_kind(self) -> Kind:
        """Tell which kind the films are: skulls made by hand where there is no film as taken."""
        kinds = {row.kind for row in self.pictures}
        return "skull" if "skull" in kinds and "xray" not in kinds else "xray"

    def pairs(self, people: Collection[str] | None = None) -> list[Pair]:
        """List the persons and views that have pictures, of these people or of all."""
        wanted = {*(self.names if people is None else people)}
        return list(dict.fromkeys(row.pair for row in self.pictures if row.person in wanted))

    def select(self, kind: Kind, people: Collection[str]) -> list[Picture]:
        """Return these people's pictures of a kind, in the table's order.

        Raises DataError if one of them has none.
        """
        wanted = set(people)
        chosen = [row for row in self.pictures if row.kind == kind and row.person in wanted]
        lacking = sorted(wanted - {row.person for row in chosen})
        if lacking:
            kinds = ", ".join(sorted({row.kind for row in self.pictures})) or "none"
            raise DataError(
                f"{len(lacking)} people have no picture of kind {kind!r}, {lacking[0]} the first"
                f" (kinds here: {kinds}): complete images.csv, or take them out of people.csv"
            )
        return chosen


def divide(dataset: Dataset, held_out: Collection[Pair]) -> tuple[Dataset, Dataset]:
    """Divide a dataset into the part that trains and the part held out.

    Augmented pictures follow the pair they were made from into training, and are left out where
    it is held out: a result is measured on pictures that somebody took.
    """
    pairs = frozenset(held_out)
    training = [row for row in (*dataset.pictures, *dataset.augmented) if row.pair not in pairs]
    testing = [row for row in dataset.pictures if row.pair in pairs]
    return _part(dataset, training), _part(dataset, testing)


def _part(dataset: Dataset, pictures: Sequence[Picture]) -> Dataset:
    shown = {row.person for row in pictures}
    people = tuple(person for person in dataset.people if person.name in shown)
    return Dataset(people, tuple(pictures), dataset.generator, dataset.sha256)


@dataclass(frozen=True)
class Album:
    """Pictures of one size in memory, each with its person and view."""

    pixels: UInt8[np.ndarray, "n h w c"]
    people: tuple[str, ...]
    views: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.people)


def read_dataset(folder: Path) -> Dataset:
    """Read a dataset's tables. Raises DataError if it is incomplete or of another schema.

    Columns that are not known are ignored.
    """
    generator = _read_generator(folder / "dataset.json")
    people = tuple(
        Person(row["person"], row["sex"], _read_age(row["age"], folder / "people.csv"))
        for row in _read_table(folder / "people.csv", ("person", "sex", "age"))
    )
    if len(people) < 2:
        raise DataError(f"{folder} has {len(people)} people: training needs at least 2")
    table = folder / "images.csv"
    pictures = tuple(
        Picture(
            row["person"],
            row["view"],
            row["kind"],
            folder / row["file"],
            row.get("augmentation") or "",
        )
        for row in _read_table(table, ("person", "view", "kind", "file"))
    )
    _check_people(folder, people, pictures)
    _check_files(folder, pictures)
    return Dataset(
        people,
        tuple(row for row in pictures if not row.augmentation),
        generator,
        hashlib.sha256(table.read_bytes()).hexdigest(),
        tuple(row for row in pictures if row.augmentation),
    )


def _check_people(folder: Path, people: Sequence[Person], pictures: Sequence[Picture]) -> None:
    names = {person.name for person in people}
    if len(names) < len(people) or "" in names:
        raise DataError(f"{folder}/people.csv has a name twice, or an empty one: name each once")
    strangers = sorted({row.person for row in pictures} - names)
    if strangers:
        raise DataError(
            f"{folder}/images.csv shows {len(strangers)} people who are not in people.csv,"
            f" {strangers[0]} the first: add them there"
        )
    without = sorted(names - {row.person for row in pictures})
    if without:
        raise DataError(
            f"{folder}/people.csv has {len(without)} people without a picture, {without[0]} the"
            " first: add pictures to images.csv, or take them out"
        )


def _check_files(folder: Path, pictures: Sequence[Picture]) -> None:
    missing = [row.path for row in pictures if not row.path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} pictures of {folder} are missing, {missing[0]} the first:"
            " copy the folder again, or make the dataset again"
        )


def split_people(people: Sequence[Person], split: Split) -> tuple[list[str], list[str]]:
    """Divide people into names for training and names held out, both in the table's order.

    Every sex and decade of age gives its share: people are lined up by both, in random order
    within, and every so-manieth is held out.
    """
    line = line_up(people, split.seed)
    number = min(max(1, round(split.validation_share * len(people))), len(people) - 1)
    places = (np.arange(number) + 0.5) * len(people) / number
    held_out = {line[int(place)] for place in places}
    return (
        [person.name for i, person in enumerate(people) if i not in held_out],
        [person.name for i, person in enumerate(people) if i in held_out],
    )


def line_up(people: Sequence[Person], seed: int) -> list[int]:
    """Order people's places by sex and decade of age, at random within; unknown comes first."""
    lot = np.random.default_rng(seed).permutation(len(people))
    return sorted(range(len(people)), key=lambda i: (people[i].sex, _decade(people[i]), lot[i]))


def _decade(person: Person) -> float:
    return -1 if person.age is None else person.age // 10


def load_skulls(
    rows: Sequence[Picture], size: int, recipe: str, progress: Callable[[int, int], None] | None
) -> Album:
    """Read films as the field does: standard film, soft tissue removed, resized.

    A picture of kind "skull" has lost its soft tissue by hand, so nothing is removed from it.
    Raises DataError for a film that cannot be used.
    """

    def read(row: Picture) -> UInt8[np.ndarray, "h w 1"]:
        standard = film.standardise(imaging.read_picture(row.path))
        return soft_tissue.remove(standard, "none" if row.kind == "skull" else recipe)

    return _load(rows, size, read, progress)


def load_faces(
    rows: Sequence[Picture], size: int, progress: Callable[[int, int], None] | None
) -> Album:
    """Read portraits as the field does: standard face, resized. Raises DataError."""
    return _load(rows, size, lambda row: photo.read_face(row.path), progress)


def to_batch(
    pixels: UInt8[np.ndarray, "n h w c"], low: float, high: float
) -> Float32[Tensor, "n c h w"]:
    """Stack pictures into one tensor that maps 0..255 onto low..high."""
    import torch

    height, width, channels = pixels.shape[1:]
    spec = TensorSpec("picture", channels, height, width, low, high)
    tensors = [imaging.to_tensor(picture, spec) for picture in pixels]
    return torch.from_numpy(np.concatenate(tensors))


def to_pixels(
    batch: Float32[Tensor, "n c h w"], low: float, high: float
) -> UInt8[np.ndarray, "n h w c"]:
    """Undo `to_batch`, clipped and rounded."""
    channels, height, width = batch.shape[1:]
    spec = TensorSpec("picture", channels, height, width, low, high)
    return np.stack([imaging.to_picture(tensor.cpu().numpy(), spec) for tensor in batch])


def unpaired_batches(
    skulls: Album, faces: Album, batch_size: int, steps: int, rng: np.random.Generator
) -> Iterator[tuple[Float32[Tensor, "n 1 h w"], Float32[Tensor, "n 3 h w"]]]:
    """Yield skulls in random order, each with a random face *of the same view*, in [-1, 1].

    The face is almost always another person's: no pairs are needed. The view is known in a
    dataset, and a discriminator that saw profiles where the skull is frontal would ask for them.
    """
    faces_by_view = _group(faces.views)
    unmatched = sorted({*skulls.views} - {*faces_by_view})
    if unmatched:
        raise DataError(f"there is no face of view {unmatched[0]!r}: add some, or drop its films")
    order = _order(len(skulls), batch_size * steps, rng).reshape(steps, batch_size)
    for chosen in order:
        matched = [rng.choice(faces_by_view[skulls.views[i]]) for i in chosen]
        yield to_batch(skulls.pixels[chosen], -1, 1), to_batch(faces.pixels[matched], -1, 1)


def identity_batches(
    albums: Sequence[Album],
    people_per_batch: int,
    pictures_per_person: int,
    steps: int,
    rng: np.random.Generator,
) -> Iterator[tuple[Float32[Tensor, "n 3 h w"], Int64[Tensor, " n"]]]:
    """Yield faces in [0, 1] of a few people, several pictures of each, and the people's numbers.

    An album holds one domain, such as portraits or generated faces. A person's pictures are drawn
    in turn from every domain and view, so that a small batch shows a person from all sides.
    """
    import torch

    stacks = _stacks_by_person(albums)
    names = sorted(stacks)
    order = _order(len(names), people_per_batch * steps, rng).reshape(steps, people_per_batch)
    for chosen in order:
        drawn = [
            albums[album].pixels[place]
            for i in chosen
            for album, place in _draw(stacks[names[i]], pictures_per_person, rng)
        ]
        labels = torch.from_numpy(np.repeat(chosen, pictures_per_person))
        yield to_batch(np.stack(drawn), 0, 1), labels


def jitter(
    faces: Float32[Tensor, "n 3 h w"], amount: Jitter, rng: torch.Generator
) -> Float32[Tensor, "n 3 h w"]:
    """Turn, shift, scale and recolour each face at random; values stay in [0, 1].

    Faces are not mirrored: a portrait tells left from right, and so does a film.
    """
    import torch
    from torch.nn import functional

    number = len(faces)
    draws = torch.rand(7, number, generator=rng).to(faces.device) * 2 - 1
    angle = draws[0] * amount.degrees * torch.pi / 180
    scale = 1 + draws[1] * amount.scale
    cos, sin = scale * angle.cos(), scale * angle.sin()
    # affine_grid counts from -1 to 1, so a share of the side is twice as much.
    shift_x, shift_y = 2 * amount.shift * draws[2], 2 * amount.shift * draws[3]
    rows = [torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), list(faces.shape), align_corners=False)
    moved = functional.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    brightness, contrast, saturation = (1 + amount.colour * draws[4:]).view(3, number, 1, 1, 1)
    grey = moved.mean(dim=1, keepdim=True)
    level = moved.mean(dim=(1, 2, 3), keepdim=True)
    coloured = grey + saturation * (moved - grey)
    recoloured: Tensor = brightness * (level + contrast * (coloured - level))
    return recoloured.clamp(0, 1)


def _load(
    rows: Sequence[Picture],
    size: int,
    read: Callable[[Picture], UInt8[np.ndarray, "h w c"]],
    progress: Callable[[int, int], None] | None,
) -> Album:
    pixels = []
    for done, row in enumerate(rows, start=1):
        try:
            pixels.append(imaging.resize(read(row), (size, size)))
        except FcrError as err:
            raise DataError(f"{row.path} cannot be used: {err}") from err
        if progress is not None:
            progress(done, len(rows))
    people = tuple(row.person for row in rows)
    return Album(np.stack(pixels), people, tuple(row.view for row in rows))


def _order(number: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw numbers below `number`, each once before any comes again."""
    rounds = -(-draws // number)
    return np.concatenate([rng.permutation(number) for _ in range(rounds)])[:draws]


def _stacks_by_person(albums: Sequence[Album]) -> dict[str, list[list[tuple[int, int]]]]:
    """Return each person's pictures, as (album, place), in one stack an album and view."""
    stacks: dict[str, dict[tuple[int, str], list[tuple[int, int]]]] = defaultdict(dict)
    for number, album in enumerate(albums):
        for place, (person, view) in enumerate(zip(album.people, album.views, strict=True)):
            stacks[person].setdefault((number, view), []).append((number, place))
    return {person: list(by_kind.values()) for person, by_kind in stacks.items()}


def _draw(
    stacks: list[list[tuple[int, int]]], number: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Take one picture from each stack in turn, stacks and pictures in random order."""
    shuffled = [
        [stacks[i][j] for j in rng.permutation(len(stacks[i]))]
        for i in rng.permutation(len(stacks))
    ]
    rounds = zip(*(itertools.cycle(stack) for stack in shuffled), strict=True)
    return list(itertools.islice(itertools.chain.from_iterable(rounds), number))


def _group(labels: Sequence[str]) -> dict[str, list[int]]:
    places = defaultdict(list)
    for place, label in enumerate(labels):
        places[label].append(place)
    return places


def _read_generator(path: Path) -> str:
    """Read what made the dataset from its description, once the schema is known."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema, generator = document.get("schema"), str(document.get("generator", "unknown"))
    except OSError as err:
        raise DataError(
            f"there is no complete dataset in {path.parent} ({err.strerror}: {path.name}):"
            " make one with `fcr-train simulate` or `fcr-train prepare`"
        ) from err
    except (ValueError, AttributeError) as err:
        raise DataError(f"{path} is damaged ({err}): make the dataset again") from err
    if schema != SCHEMA:
        raise DataError(f"{path} has schema {schema!r}: this version reads {SCHEMA!r}")
    return generator


def _read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as err:
        raise DataError(f"cannot read {path}: {err}") from err
    lacking = [column for column in columns if not rows or rows[0].get(column) is None]
    if lacking:
        raise DataError(f"{path} has no column {', '.join(lacking)}, or no row: add it")
    return rows


def _read_age(value: str | None, path: Path) -> float | None:
    if not value:
        return None
    try:
        age = float(value)
    except ValueError:
        age = math.nan
    if not 0 <= age < math.inf:
        raise DataError(f"{path} has an age of {value!r}: give years, or leave it empty")
    return age

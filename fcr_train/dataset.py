"""The tables of a dataset: people and their pictures, read, checked and divided."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from fcr_edge.conditions import Conditions
from fcr_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from fcr_train.config import Split

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
    bmi: float | None = None
    """[kg/m2], None where it is not known."""

    @property
    def conditions(self) -> Conditions:
        """What a conditioned translator may be told."""
        return Conditions(self.sex or None, self.age, self.bmi)


@dataclass(frozen=True)
class Picture:
    """One row of images.csv."""

    person: str
    view: str
    kind: str
    path: Path
    augmentation: str = ""
    """How it was made from another picture of the same person and view; empty for an original."""
    portrait: int = 1
    """Number of a face within its view: 1 is the one that belongs to the film."""
    sha256: str = ""
    """Of the file, as the table states it; empty where it does not."""

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
    def told(self) -> dict[str, Conditions]:
        """Return what is known of each person, by name."""
        return {person.name: person.conditions for person in self.people}

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

    def mates(self) -> dict[tuple[Pair, str], Picture]:
        """Return the face that belongs to a film: of its person, view and augmentation.

        Of several portraits it is the first, which is of the film's day.
        """
        faces = sorted(
            (row for row in self.pictures if row.kind == "face"), key=lambda row: -row.portrait
        )
        return {(row.pair, row.augmentation): row for row in faces}

    def gallery(self) -> list[Picture]:
        """List the faces to enrol: of other days than the film where there are any, else all."""
        faces = [row for row in self.pictures if row.kind == "face"]
        later = {row.pair for row in faces if row.portrait > 1}
        return [row for row in faces if row.portrait > 1 or row.pair not in later]


def take_distractors(dataset: Dataset, others: Dataset) -> Dataset:
    """Return people to enrol beside a dataset's, a + before each name: nobody has another's.

    Raises DataError if a photograph of theirs is also in the dataset.
    """
    known = {row.sha256 for row in (*dataset.pictures, *dataset.augmented)} - {""}
    shared = [row for row in others.pictures if row.sha256 in known]
    if shared:
        raise DataError(
            f"{len(shared)} pictures of the distractors are in the dataset, too, {shared[0].path}"
            " the first: take people who are in no part of it (for simulated ones, another seed)"
        )
    people = tuple(replace(person, name=f"+{person.name}") for person in others.people)
    pictures = tuple(replace(row, person=f"+{row.person}") for row in others.pictures)
    return replace(others, people=people, pictures=pictures, augmented=())


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


def read_dataset(folder: Path) -> Dataset:
    """Read a dataset's tables. Raises DataError if it is incomplete or of another schema.

    Columns that are not known are ignored.
    """
    generator = _read_generator(folder / "dataset.json")
    people = tuple(
        _read_person(row, folder / "people.csv")
        for row in _read_table(folder / "people.csv", ("person", "sex", "age"))
    )
    if len(people) < 2:
        raise DataError(f"{folder} has {len(people)} people: training needs at least 2")
    table = folder / "images.csv"
    pictures = _read_pictures(folder, table)
    _check_people(folder, people, pictures)
    _check_files(folder, pictures)
    return Dataset(
        people,
        tuple(row for row in pictures if not row.augmentation),
        generator,
        hashlib.sha256(table.read_bytes()).hexdigest(),
        tuple(row for row in pictures if row.augmentation),
    )


def _read_pictures(folder: Path, table: Path) -> tuple[Picture, ...]:
    """Read images.csv; faces without a number are counted in the table's order."""
    counts: Counter[tuple[str, ...]] = Counter()
    pictures = []
    for row in _read_table(table, ("person", "view", "kind", "file")):
        person, view, kind = row["person"], row["view"], row["kind"]
        augmentation = row.get("augmentation") or ""
        counts[person, view, kind, augmentation] += 1
        number = row.get("portrait") or str(counts[person, view, kind, augmentation])
        portrait = _read_portrait(number, table)
        path = folder / row["file"]
        sha256 = row.get("sha256") or ""
        pictures.append(Picture(person, view, kind, path, augmentation, portrait, sha256))
    return tuple(pictures)


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


def _read_person(row: dict[str, str], path: Path) -> Person:
    if row["sex"] not in ("", "female", "male"):
        raise DataError(f"{path} has the sex {row['sex']!r}: give female, male or leave it empty")
    age = _read_number(row["age"], path, "age", "years", 130)
    return Person(row["person"], row["sex"], age, _read_bmi(row.get("bmi"), path))


def _read_bmi(value: str | None, path: Path) -> float | None:
    bmi = _read_number(value, path, "bmi", "kg/m2", 100)
    if bmi is not None and bmi < 5:
        raise DataError(f"{path} has a bmi of {value!r}: give kg/m2 from 5, or leave it empty")
    return bmi


def _read_number(
    value: str | None, path: Path, column: str, unit: str, most: float
) -> float | None:
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise DataError(
            f"{path} has the {column} {value!r}: give {unit} up to {most:g}, or leave it empty"
        )
    return number


def _read_portrait(value: str, path: Path) -> int:
    if not value.isdecimal() or value == "0":
        raise DataError(f"{path} has the portrait {value!r}: count from 1, or leave it empty")
    return int(value)

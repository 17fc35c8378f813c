"""Splits: folds of people, or the paper's draws of pairs, kept in a file and checked for leaks."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from fcr_edge import imaging
from fcr_edge.errors import ConfigError, DataError, ImageError
from fcr_train.copies import find_copies, fingerprint
from fcr_train.dataset import line_up

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Sequence
    from pathlib import Path

    from fcr_train.copies import Fingerprint
    from fcr_train.dataset import Dataset, Pair, Picture

logger = logging.getLogger(__name__)

SCHEMA = "fcr-split/1"
PAPER_SHARE = 20 / 102
"""Share of the pairs that the paper draws for test: 20 of 102 (Prasad & Singh 2025)."""

By = Literal["person", "pair"]


@dataclass(frozen=True)
class Split:
    """Who is held out in each fold; all the others train.

    By person, the folds are disjoint and hold everybody once. By pair they are repeated draws, and
    the other view of a pair held out is mostly in training.
    """

    by: By
    seed: int
    dataset: str
    """SHA-256 of the dataset's images.csv."""
    folds: tuple[tuple[Pair, ...], ...]
    """Persons and views held out."""

    def fold(self, number: int) -> Fold:
        """Return a fold, counted from 0. Raises ConfigError if there is none of this number."""
        if not 0 <= number < len(self.folds):
            raise ConfigError(f"fold is {number}: give 0 to {len(self.folds) - 1}")
        return Fold(self, number)

    def to_json(self) -> str:
        """Write the split as a document; `read_split` reads it back."""
        document = {
            "schema": SCHEMA,
            "kind": self.by,
            "seed": self.seed,
            "dataset_sha256": self.dataset,
            "parts": [_names(fold) if self.by == "person" else fold for fold in self.folds],
        }
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Fold:
    """One fold of a split."""

    split: Split
    number: int

    @property
    def held_out(self) -> tuple[Pair, ...]:
        """The persons and views that do not train."""
        return self.split.folds[self.number]

    @property
    def is_by_pair(self) -> bool:
        """Tell whether views, not people, are held out, so that people are on both sides."""
        return self.split.by == "pair"

    @property
    def record(self) -> str:
        """Name the split and fold for a checkpoint: equal where the same are held out."""
        digest = hashlib.sha256(self.split.to_json().encode()).hexdigest()
        return f"{self.split.by} split {digest}, fold {self.number}"


def split_by_person(dataset: Dataset, folds: int = 5, seed: int = 1) -> Split:
    """Deal the people into folds, every person into one, with both views and all pictures.

    People are lined up by sex and decade of age, at random within, and dealt like cards: each sex
    and decade differs by at most one between folds, and so do the folds. Raises ConfigError.
    """
    if not 2 <= folds <= len(dataset.people):
        raise ConfigError(f"folds is {folds}: give 2 to {len(dataset.people)}, a person a fold")
    line = line_up(dataset.people, seed)
    names = dataset.names
    parts = [dataset.pairs({names[place] for place in line[fold::folds]}) for fold in range(folds)]
    return Split("person", seed, dataset.sha256, tuple(map(tuple, parts)))


def split_by_pair(dataset: Dataset, repeats: int = 5, seed: int = 1) -> Split:
    """Draw the paper's share of the pairs at random, several times: 20 of 102.

    It leaks persons by design, and only serves to show by how much. Raises ConfigError.
    """
    if repeats < 1:
        raise ConfigError(f"folds is {repeats}: give 1 or more")
    pairs = dataset.pairs()
    number = min(max(1, round(PAPER_SHARE * len(pairs))), len(pairs) - 1)
    draws = [
        sorted(np.random.default_rng([seed, repeat]).permutation(len(pairs))[:number])
        for repeat in range(repeats)
    ]
    folds = tuple(tuple(pairs[place] for place in draw) for draw in draws)
    return Split("pair", seed, dataset.sha256, folds)


def count_seen(pairs: Sequence[Pair], held_out: Collection[Pair]) -> int:
    """Count the pairs held out that show a person who also trains.

    >>> count_seen([("a", "frontal"), ("a", "lateral"), ("b", "frontal")], [("a", "lateral")])
    1
    """
    training = {person for person, view in {*pairs} - {*held_out}}
    return sum(person in training for person, _ in held_out)


def expect_seen(pairs: Sequence[Pair], number: int) -> float:
    """Return the share of `number` random pairs held out whose person is expected to train too.

    >>> pairs = [(str(person), view) for person in range(51) for view in ("frontal", "lateral")]
    >>> round(expect_seen(pairs, 20), 3) == round(82 / 101, 3)
    True
    """
    names = [person for person, _ in pairs]
    others = [names.count(person) - 1 for person in names]
    hidden = [math.comb(number - 1, k) / math.comb(len(pairs) - 1, k) for k in others]
    return 1 - sum(hidden) / len(pairs)


def write_split(split: Split, path: Path) -> None:
    """Write a split file. Raises DataError where that is impossible."""
    try:
        path.write_text(split.to_json(), encoding="utf-8")
    except OSError as err:
        raise DataError(f"cannot write {path}: {err.strerror}: choose another file") from err


def read_split(path: Path, dataset: Dataset) -> Split:
    """Read the split of a dataset. Raises DataError if it is damaged or does not fit."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise DataError(
            f"cannot read {path}: {err.strerror}: make it with `fcr-train split`"
        ) from (err)
    except ValueError as err:
        raise DataError(
            f"{path} is damaged ({err}): make it again with `fcr-train split`"
        ) from err
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise DataError(f"{path} has schema {schema!r}: this version reads {SCHEMA!r}")
    try:
        return _check(document, dataset)
    except (KeyError, TypeError, ValueError) as err:
        raise DataError(f"{path} is damaged ({err!r}): make it again") from err
    except DataError as err:
        raise DataError(f"{path} {err}: make it again with `fcr-train split`") from err


def _check(document: dict[str, Any], dataset: Dataset) -> Split:
    by, sha256 = document["kind"], document["dataset_sha256"]
    if by not in get_args(By):
        raise DataError(f"is a split by {by!r}, not by person or pair")
    if sha256 != dataset.sha256:
        raise DataError(f"was made for dataset {sha256[:12]}, this one is {dataset.sha256[:12]}")
    expand = _expand_people if by == "person" else _expand_pairs
    folds = expand(document["parts"], dataset)
    if not folds or not all(folds):
        raise DataError("has no parts, or an empty one")
    return Split(by, int(document["seed"]), sha256, folds)


def _expand_people(parts: list[list[str]], dataset: Dataset) -> tuple[tuple[Pair, ...], ...]:
    names = [name for part in parts for name in part]
    twice = sorted({name for name in names if names.count(name) > 1})
    extra, lacking = sorted({*names} - {*dataset.names}), sorted({*dataset.names} - {*names})
    for people, fault in ((twice, "twice"), (extra, "who are not in it"), (lacking, "too few")):
        if people:
            raise DataError(f"names {len(people)} people {fault}, {people[0]} the first")
    return tuple(tuple(dataset.pairs(part)) for part in parts)


def _expand_pairs(parts: list[list[list[str]]], dataset: Dataset) -> tuple[tuple[Pair, ...], ...]:
    known = {*dataset.pairs()}
    folds = tuple(tuple((person, view) for person, view in part) for part in parts)
    for fold in folds:
        extra = sorted({*fold} - known)
        if extra or len({*fold}) < len(fold):
            raise DataError(f"names pairs twice or not in the dataset, {(extra or fold)[0]}")
        if len(fold) == len(known):
            raise DataError("leaves nobody to train on")
    return folds


def check_leaks(
    dataset: Dataset, split: Split, progress: Callable[[int, int], None] | None = None
) -> None:
    """Raise DataError naming the files, if a picture or a copy of it stands on two sides.

    By person, each fold is a side; by pair, each pair, since a draw may part any two. Files are
    equal by content, whatever their kind; copies are sought within a kind, see
    `fcr_train.copies.find_copies` for the rule. A hash distance of 4 of 64 bits, the usual rule,
    is not enough: between 200 different simulated people it occurs in 2.4 % (lateral portraits),
    4.2 % (lateral films) and 8.4 % (lateral bone) of the pairs, and between real lateral films in
    1 of 276, while it misses half of the copies cropped by 2 % a side.

    Simulated people are each drawn from random streams of their own, so one cannot stand under two
    names: there only equal files are sought, since the comparison of thousands of people who look
    alike would take hours. Augmented pictures are not compared: they stay with the pair they were
    made from. A split by
    pair has persons on both sides by its nature, and a warning says so each time.
    """
    if split.by == "pair":
        logger.warning(
            "warning: a split by pair has the same persons in training and test; it only shows"
            " how much that leak adds: use --by person for any claim"
        )
    sides = _sides(dataset, split)
    rows = [row for row in dataset.pictures if row.pair in sides]
    if dataset.is_simulated:
        _refuse_equal(rows, [_hash(row) for row in rows], sides)
        return
    digests, prints = _read_all(rows, progress)
    _refuse_equal(rows, digests, sides)
    # A film of bone goes with its film, which is compared.
    for kind in sorted({row.kind for row in rows} - {"bone"}):
        places = [place for place, row in enumerate(rows) if row.kind == kind]
        copies = find_copies(
            [prints[place] for place in places],
            [sides[rows[place].pair] for place in places],
            progress,
        )
        for first, second in copies:
            _refuse(rows[places[first]], rows[places[second]], "hold nearly the same picture")


def _sides(dataset: Dataset, split: Split) -> dict[Pair, Hashable]:
    if split.by == "pair":
        return {pair: pair for pair in dataset.pairs()}
    return {pair: number for number, fold in enumerate(split.folds) for pair in fold}


def _read_all(
    rows: Sequence[Picture], progress: Callable[[int, int], None] | None
) -> tuple[list[str], list[Fingerprint]]:
    digests, prints = [], []
    for done, row in enumerate(rows, start=1):
        try:
            content = imaging.read_file(row.path)
            prints.append(fingerprint(imaging.decode_picture(content, str(row.path))))
        except ImageError as err:
            raise DataError(f"{row.path} cannot be used: {err}") from err
        digests.append(hashlib.sha256(content).hexdigest())
        if progress is not None:
            progress(done, len(rows))
    return digests, prints


def _hash(row: Picture) -> str:
    try:
        return hashlib.sha256(imaging.read_file(row.path)).hexdigest()
    except ImageError as err:
        raise DataError(f"{row.path} cannot be used: {err}") from err


def _refuse_equal(
    rows: Sequence[Picture], digests: Sequence[str], sides: dict[Pair, Hashable]
) -> None:
    first: dict[str, Picture] = {}
    for row, digest in zip(rows, digests, strict=True):
        other = first.setdefault(digest, row)
        if sides[other.pair] != sides[row.pair]:
            _refuse(other, row, "hold the same picture")


def _refuse(first: Picture, second: Picture, fault: str) -> None:
    raise DataError(
        f"{first.path} and {second.path} {fault} on two sides of the split: if {first.person} and"
        f" {second.person} are one person give them one name, else remove the wrong picture"
    )


def _names(fold: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys(person for person, _ in fold))

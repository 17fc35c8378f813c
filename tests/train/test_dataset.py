from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fcr_edge.errors import DataError
from fcr_train.config import Split
from fcr_train.dataset import Dataset, Person, divide, read_dataset, split_people


@pytest.fixture
def dataset(dataset_folder: Path) -> Dataset:
    return read_dataset(dataset_folder)


@pytest.fixture
def copy(dataset_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(dataset_folder, tmp_path / "copy")


def make_people(number: int) -> list[Person]:
    rng = np.random.default_rng(0)
    return [
        Person(f"p{i}", ("female", "male")[i % 2], float(rng.integers(20, 60)))
        for i in range(number)
    ]


def test_tables_are_read(dataset: Dataset) -> None:
    assert len(dataset.people) == 8
    assert dataset.people[0] == Person("p00001", "male", 21.0, 24.0)
    assert Counter(row.kind for row in dataset.pictures) == {"xray": 16, "face": 32}
    assert len(dataset.sha256) == 64


def test_select_keeps_people_and_kind(dataset: Dataset) -> None:
    rows = dataset.select("face", ["p00002", "p00005"])

    assert {row.person for row in rows} == {"p00002", "p00005"}
    assert {row.kind for row in rows} == {"face"}
    assert len(rows) == 8


def test_split_is_disjoint_complete_and_seeded() -> None:
    people = make_people(40)

    train, held_out = split_people(people, Split(0.15, seed=3))

    assert len(held_out) == 6
    assert sorted(train + held_out) == sorted(person.name for person in people)
    assert split_people(people, Split(0.15, seed=3)) == (train, held_out)
    assert split_people(people, Split(0.15, seed=4)) != (train, held_out)


def test_split_takes_its_share_of_each_sex_and_age() -> None:
    people = make_people(400)

    _, held_out = split_people(people, Split(0.25))

    strata = Counter((person.sex, person.age // 10) for person in people)
    taken = Counter((p.sex, p.age // 10) for p in people if p.name in set(held_out))
    for stratum, number in strata.items():
        assert abs(taken[stratum] - number / 4) <= 1


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_split_leaves_somebody_on_both_sides(share: float) -> None:
    train, held_out = split_people(make_people(2), Split(share))

    assert len(train) == len(held_out) == 1


def test_an_incomplete_dataset_is_refused(copy: Path) -> None:
    next((copy / "images").iterdir()).unlink()

    with pytest.raises(DataError, match=r"1 pictures of .* are missing"):
        read_dataset(copy)


def test_a_missing_kind_is_refused(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="8 people have no picture of kind 'bone'"):
        dataset.select("bone", [person.name for person in dataset.people])  # type: ignore[arg-type]


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fcr-train simulate"):
        read_dataset(tmp_path)


def test_a_kind_that_is_nowhere_says_which_there_are(dataset: Dataset) -> None:
    with pytest.raises(DataError, match=r"'bone'.*\(kinds here: face, xray\)"):
        dataset.select("bone", ["p00001"])


def test_films_are_taken_where_both_are_there(copy: Path) -> None:
    table = copy / "images.csv"
    table.write_text(table.read_text() + "p00001,frontal,skull,images/p00001_frontal_xray.png,0\n")

    assert read_dataset(copy).film_kind == "xray"


def test_columns_and_kinds_that_are_new_are_passed_over(copy: Path) -> None:
    table = copy / "images.csv"
    header, *rows = table.read_text().splitlines()
    new = [header + ",portrait", *(row + ",2" for row in rows)]
    table.write_text("\n".join([*new, new[1].replace("xray", "hologram", 1)]))

    dataset = read_dataset(copy)

    assert len(dataset.pictures) == 49
    assert len(dataset.select("xray", dataset.names)) == 16


def test_sex_and_age_may_be_unknown(copy: Path) -> None:
    table = copy / "people.csv"
    rows = table.read_text().splitlines()
    blank = [",".join([row.split(",")[0], "", "", "24"]) for row in rows[1:5]]
    table.write_text("\n".join([rows[0], *blank, *rows[5:]]))
    dataset = read_dataset(copy)

    train, held_out = split_people(dataset.people, Split(0.25))

    assert dataset.people[0] == Person("p00001", "", None, 24.0)
    assert (len(train), len(held_out)) == (6, 2)
    unknown = {person.name for person in dataset.people if person.age is None}
    assert len(unknown & {*held_out}) == 1


def test_parts_keep_the_tables_order(dataset: Dataset) -> None:
    held_out = [("p00002", "lateral"), ("p00001", "frontal"), ("p00001", "lateral")]

    training, testing = divide(dataset, held_out)

    assert testing.names == ["p00001", "p00002"]
    assert training.names == [f"p{number:05d}" for number in range(2, 9)]
    assert testing.pairs() == sorted(held_out)
    assert [row for row in dataset.pictures if row in testing.pictures] == [*testing.pictures]


def test_another_schema_is_refused(copy: Path) -> None:
    (copy / "dataset.json").write_text(json.dumps({"schema": "fcr-dataset/9"}))

    with pytest.raises(DataError, match="fcr-dataset/9"):
        read_dataset(copy)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        pytest.param("person,sex,age\np00001,male,30\n", "1 people", id="one person"),
        pytest.param("person,sex\np00001,male\n", "no column age", id="column"),
        pytest.param("person,sex,age\np1,male,old\np2,male,3\n", "'old'", id="age"),
        pytest.param("person,sex,age\np1,male,-1\np2,male,3\n", "'-1'", id="negative age"),
        pytest.param("person,sex,age\np1,male,1\np1,male,3\n", "name twice", id="twice"),
        pytest.param("person,sex,age\np1,,\np2,,\n", "8 people who are not in", id="strangers"),
        pytest.param(
            "person,sex,age\n" + "".join(f"p{n:05d},,\n" for n in range(1, 10)),
            "1 people without a picture, p00009",
            id="without a picture",
        ),
        pytest.param("", "no row", id="empty"),
    ],
)
def test_a_wrong_table_of_people_is_refused(copy: Path, table: str, words: str) -> None:
    (copy / "people.csv").write_text(table)

    with pytest.raises(DataError, match=words):
        read_dataset(copy)

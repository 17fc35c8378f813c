from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from fcr_edge import film, imaging, soft_tissue
from fcr_edge.bundle import TensorSpec
from fcr_edge.errors import DataError
from fcr_train import data
from fcr_train.config import Jitter, Split

SIZE = 32


@pytest.fixture
def dataset(dataset_folder: Path) -> data.Dataset:
    return data.read_dataset(dataset_folder)


@pytest.fixture
def copy(dataset_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(dataset_folder, tmp_path / "copy")


def make_people(number: int) -> list[data.Person]:
    rng = np.random.default_rng(0)
    return [
        data.Person(f"p{i}", ("female", "male")[i % 2], float(rng.integers(20, 60)))
        for i in range(number)
    ]


def make_album(people: str, views: str, colour: int = 0) -> data.Album:
    pixels = np.full((len(people), SIZE, SIZE, 3), colour, np.uint8)
    pixels[:, 0, 0, 0] = np.arange(len(people))  # tells the pictures apart
    return data.Album(pixels, tuple(people), tuple(views))


def test_tables_are_read(dataset: data.Dataset) -> None:
    assert len(dataset.people) == 8
    assert dataset.people[0] == data.Person("p00001", "male", 21.0)
    assert Counter(row.kind for row in dataset.pictures) == {"xray": 16, "face": 32}
    assert len(dataset.sha256) == 64


def test_select_keeps_people_and_kind(dataset: data.Dataset) -> None:
    rows = dataset.select("face", ["p00002", "p00005"])

    assert {row.person for row in rows} == {"p00002", "p00005"}
    assert {row.kind for row in rows} == {"face"}
    assert len(rows) == 8


def test_split_is_disjoint_complete_and_seeded() -> None:
    people = make_people(40)

    train, held_out = data.split_people(people, Split(0.15, seed=3))

    assert len(held_out) == 6
    assert sorted(train + held_out) == sorted(person.name for person in people)
    assert data.split_people(people, Split(0.15, seed=3)) == (train, held_out)
    assert data.split_people(people, Split(0.15, seed=4)) != (train, held_out)


def test_split_takes_its_share_of_each_sex_and_age() -> None:
    people = make_people(400)

    _, held_out = data.split_people(people, Split(0.25))

    strata = Counter((person.sex, person.age // 10) for person in people)
    taken = Counter((p.sex, p.age // 10) for p in people if p.name in set(held_out))
    for stratum, number in strata.items():
        assert abs(taken[stratum] - number / 4) <= 1


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_split_leaves_somebody_on_both_sides(share: float) -> None:
    train, held_out = data.split_people(make_people(2), Split(share))

    assert len(train) == len(held_out) == 1


def test_skulls_are_what_the_field_makes_of_a_film(dataset: data.Dataset) -> None:
    rows = dataset.select("xray", ["p00003"])
    spec = TensorSpec("skull", 1, SIZE, SIZE, -1.0, 1.0)

    album = data.load_skulls(rows, SIZE, "classical-1", None)

    standard = film.standardise(imaging.read_picture(rows[0].path))
    in_field = imaging.to_tensor(soft_tissue.remove(standard, "classical-1"), spec)
    assert np.array_equal(data.to_batch(album.pixels[:1], -1, 1).numpy(), in_field)
    assert album.views == ("frontal", "lateral")


def test_loading_reports_progress(dataset: data.Dataset) -> None:
    reports: list[tuple[int, int]] = []

    data.load_faces(
        dataset.select("face", ["p00001"]), SIZE, lambda done, total: reports.append((done, total))
    )

    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_batches_return_to_pictures_unchanged() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)

    assert np.array_equal(data.to_pixels(data.to_batch(pixels, -1, 1), -1, 1), pixels)


def test_unpaired_faces_share_the_view_and_skulls_come_once_an_epoch() -> None:
    skulls, faces = make_album("abcdef", "fflffl"), make_album("xyz", "flf")
    marks = []

    for skull, face in data.unpaired_batches(skulls, faces, 2, 3, np.random.default_rng(0)):
        for number, partner in zip(_numbers(skull), _numbers(face), strict=True):
            assert skulls.views[number] == faces.views[partner]
            marks.append(number)

    assert sorted(marks) == list(range(6))


def _numbers(batch: torch.Tensor) -> list[int]:
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_a_view_without_faces_is_refused() -> None:
    batches = data.unpaired_batches(
        make_album("ab", "fl"), make_album("a", "f"), 1, 1, np.random.default_rng(0)
    )

    with pytest.raises(DataError, match="no face of view 'l'"):
        next(batches)


def test_identity_batches_show_each_person_from_every_domain_and_view() -> None:
    portraits = make_album("aaaabbbb", "ffllffll", colour=10)
    generated = make_album("aabb", "flfl", colour=200)
    rng = np.random.default_rng(0)

    faces, people = next(data.identity_batches([portraits, generated], 2, 4, 1, rng))

    assert people.tolist() in ([0, 0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0])
    domains = (faces[:, 1, 5, 5] > 0.5).view(2, 4).sum(dim=1)
    assert domains.tolist() == [2, 2]
    for number, person in zip((faces[:, 0, 0, 0] * 255).round().int(), people, strict=True):
        assert number % 8 // 4 == person or number % 4 // 2 == person


def test_jitter_of_nothing_changes_nothing() -> None:
    faces = torch.rand(2, 3, SIZE, SIZE)

    same = data.jitter(faces, Jitter(0, 0, 0, 0), torch.Generator().manual_seed(0))

    torch.testing.assert_close(same, faces, atol=1e-5, rtol=0)


def test_jitter_stays_in_range_and_is_seeded() -> None:
    faces = torch.rand(4, 3, SIZE, SIZE)
    amount = Jitter(degrees=10, shift=0.1, scale=0.1, colour=0.5)

    first, again = (data.jitter(faces, amount, torch.Generator().manual_seed(1)) for _ in range(2))

    assert torch.equal(first, again)
    assert not torch.equal(first[0], faces[0])
    assert first.min() >= 0
    assert first.max() <= 1


def test_jitter_shifts_by_its_share_of_the_side() -> None:
    faces = torch.zeros(64, 3, SIZE, SIZE)
    faces[:, :, 16, 16] = 1.0

    moved = data.jitter(faces, Jitter(0, 0.25, 0, 0), torch.Generator().manual_seed(0))

    places = moved[:, 0].flatten(1).argmax(dim=1)
    extent = (places % SIZE - 16).abs().max()
    assert 6 <= extent <= 8


def test_an_incomplete_dataset_is_refused(copy: Path) -> None:
    next((copy / "images").iterdir()).unlink()

    with pytest.raises(DataError, match=r"1 pictures of .* are missing"):
        data.read_dataset(copy)


def test_a_missing_kind_is_refused(dataset: data.Dataset) -> None:
    with pytest.raises(DataError, match="8 people have no picture of kind 'bone'"):
        dataset.select("bone", [person.name for person in dataset.people])  # type: ignore[arg-type]


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fcr-train simulate"):
        data.read_dataset(tmp_path)


def test_a_kind_that_is_nowhere_says_which_there_are(dataset: data.Dataset) -> None:
    with pytest.raises(DataError, match=r"'bone'.*\(kinds here: face, xray\)"):
        dataset.select("bone", ["p00001"])


def test_skulls_made_by_hand_are_taken_where_there_is_no_film(copy: Path) -> None:
    table = copy / "images.csv"
    assert data.read_dataset(copy).film_kind == "xray"
    table.write_text(table.read_text().replace(",xray,", ",skull,"))
    dataset = data.read_dataset(copy)
    assert dataset.film_kind == "skull"
    rows = dataset.select("skull", ["p00003"])

    album = data.load_skulls(rows, film.STANDARD_SIZE, "classical-1", None)

    standard = film.standardise(imaging.read_picture(rows[0].path))
    assert np.array_equal(album.pixels[0], standard)


def test_films_are_taken_where_both_are_there(copy: Path) -> None:
    table = copy / "images.csv"
    table.write_text(table.read_text() + "p00001,frontal,skull,images/p00001_frontal_xray.png,0\n")

    assert data.read_dataset(copy).film_kind == "xray"


def test_columns_and_kinds_that_are_new_are_passed_over(copy: Path) -> None:
    table = copy / "images.csv"
    header, *rows = table.read_text().splitlines()
    new = [header + ",portrait", *(row + ",2" for row in rows)]
    table.write_text("\n".join([*new, new[1].replace("xray", "hologram", 1)]))

    dataset = data.read_dataset(copy)

    assert len(dataset.pictures) == 49
    assert len(dataset.select("xray", dataset.names)) == 16


def test_sex_and_age_may_be_unknown(copy: Path) -> None:
    table = copy / "people.csv"
    rows = table.read_text().splitlines()
    blank = [",".join([row.split(",")[0], "", "", "24"]) for row in rows[1:5]]
    table.write_text("\n".join([rows[0], *blank, *rows[5:]]))
    dataset = data.read_dataset(copy)

    train, held_out = data.split_people(dataset.people, Split(0.25))

    assert dataset.people[0] == data.Person("p00001", "", None)
    assert (len(train), len(held_out)) == (6, 2)
    unknown = {person.name for person in dataset.people if person.age is None}
    assert len(unknown & {*held_out}) == 1


def test_parts_keep_the_tables_order(dataset: data.Dataset) -> None:
    held_out = [("p00002", "lateral"), ("p00001", "frontal"), ("p00001", "lateral")]

    training, testing = data.divide(dataset, held_out)

    assert testing.names == ["p00001", "p00002"]
    assert training.names == [f"p{number:05d}" for number in range(2, 9)]
    assert testing.pairs() == sorted(held_out)
    assert [row for row in dataset.pictures if row in testing.pictures] == [*testing.pictures]


def test_another_schema_is_refused(copy: Path) -> None:
    (copy / "dataset.json").write_text(json.dumps({"schema": "fcr-dataset/9"}))

    with pytest.raises(DataError, match="fcr-dataset/9"):
        data.read_dataset(copy)


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
        data.read_dataset(copy)


def test_a_damaged_picture_is_named(copy: Path) -> None:
    dataset = data.read_dataset(copy)
    row = dataset.select("xray", ["p00001"])[0]
    row.path.write_bytes(row.path.read_bytes()[:100])

    with pytest.raises(DataError, match=f"{row.path.name} cannot be used"):
        data.load_skulls([row], SIZE, "classical-1", None)

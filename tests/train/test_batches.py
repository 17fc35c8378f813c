from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fcr_edge import film, imaging, soft_tissue
from fcr_edge.conditions import Conditions
from fcr_edge.errors import DataError
from fcr_edge.manifest import TensorSpec
from fcr_train.batches import (
    Album,
    Translations,
    identity_batches,
    jitter,
    load_faces,
    load_skulls,
    tell,
    to_batch,
    to_pixels,
    translation_batches,
)
from fcr_train.config import (
    Discriminator,
    Generator,
    Jitter,
    Pix2PixConfig,
    Schedule,
    TranslatorConfig,
)
from fcr_train.dataset import Dataset, read_dataset
from fcr_train.trainer import Streams

SIZE = 32


@pytest.fixture
def dataset(dataset_folder: Path) -> Dataset:
    return read_dataset(dataset_folder)


@pytest.fixture
def copy(dataset_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(dataset_folder, tmp_path / "copy")


def make_album(people: str, views: str, colour: int = 0) -> Album:
    pixels = np.full((len(people), SIZE, SIZE, 3), colour, np.uint8)
    pixels[:, 0, 0, 0] = np.arange(len(people))  # tells the pictures apart
    return Album(pixels, tuple(people), tuple(views))


def test_skulls_are_what_the_field_makes_of_a_film(dataset: Dataset) -> None:
    rows = dataset.select("xray", ["p00003"])
    spec = TensorSpec("skull", 1, SIZE, SIZE, -1.0, 1.0)

    album = load_skulls(rows, SIZE, "classical-2", None)

    standard = film.standardise(imaging.read_picture(rows[0].path))
    in_field = imaging.to_tensor(soft_tissue.remove(standard, "classical-2"), spec)
    assert np.array_equal(to_batch(album.pixels[:1], -1, 1).numpy(), in_field)
    assert album.views == ("frontal", "lateral")


def test_loading_reports_progress(dataset: Dataset) -> None:
    reports: list[tuple[int, int]] = []

    load_faces(
        dataset.select("face", ["p00001"]), SIZE, lambda done, total: reports.append((done, total))
    )

    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_batches_return_to_pictures_unchanged() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)

    assert np.array_equal(to_pixels(to_batch(pixels, -1, 1), -1, 1), pixels)


def make_config(**changes: object) -> TranslatorConfig:
    schedule = Schedule(epochs=1, decay_epochs=0, batch_size=2, learning_rate=1.0)
    plain = Pix2PixConfig(
        size=SIZE, generator=Generator(8), discriminator=Discriminator(8), schedule=schedule
    )
    return replace(plain, **changes)


def make_translations(skulls: Album, faces: Album, mates: tuple[int | None, ...]) -> Translations:
    people = (*skulls.people, *faces.people)
    told = {person: Conditions("female", 45.0, 27.0) for person in people}
    return Translations(replace(skulls, pixels=skulls.pixels[..., :1]), faces, mates, told)


def numbers_of(batch: torch.Tensor) -> list[int]:
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_unpaired_faces_share_the_view_and_skulls_come_once_an_epoch() -> None:
    skulls, faces = make_album("abcdef", "fflffl"), make_album("xyz", "flf")
    data = make_translations(skulls, faces, (None,) * 6)
    marks = []

    for batch in translation_batches(data, make_config(), 3, Streams.of(1, 0), paired=False):
        assert batch.keys() == {"skull", "face", "face_planes"}
        assert batch["face_planes"].shape == (2, 0, SIZE, SIZE)
        numbers = numbers_of(batch["skull"]), numbers_of(batch["face"])
        for number, partner in zip(*numbers, strict=True):
            assert skulls.views[number] == faces.views[partner]
            marks.append(number)

    assert sorted(marks) == list(range(6))


def test_paired_faces_belong_to_their_skulls() -> None:
    mates = (2, 0, 3, 1)
    data = make_translations(make_album("aabb", "flfl"), make_album("abab", "lflf"), mates)

    for batch in translation_batches(data, make_config(), 2, Streams.of(1, 0), paired=True):
        skulls, faces = numbers_of(batch["skull"]), numbers_of(batch["face"])
        assert [mates[number] for number in skulls] == faces


def test_mates_come_along_where_embeddings_are_weighed() -> None:
    mates = (2, 0, 3, 1)
    data = make_translations(make_album("aabb", "flfl"), make_album("abab", "lflf"), mates)
    config = make_config(lambda_embedding=1.0)

    batch = next(translation_batches(data, config, 2, Streams.of(1, 0), paired=False))

    assert [mates[number] for number in numbers_of(batch["skull"])] == numbers_of(batch["mate"])


def test_a_pair_is_moved_together_and_only_the_skull_is_exposed_anew() -> None:
    skulls, faces = make_album("ab", "ff"), make_album("ab", "ff")
    for album in (skulls, faces):
        album.pixels[:, 12:20, 12:20] = 200
    data = make_translations(skulls, faces, (0, 1))
    config = make_config(jitter=Jitter(shift=0.2, scale=0.2, colour=0.5))

    batch = next(translation_batches(data, config, 1, Streams.of(1, 0), paired=True))

    squares = [
        picture[:, 0] > picture[:, 0].amin(dim=(1, 2), keepdim=True) + 0.3
        for picture in batch.values()
    ]
    assert torch.equal(*squares)
    assert not torch.equal(squares[0][0], torch.from_numpy(skulls.pixels[0, :, :, 0] == 200))
    assert batch["face"].amax().item() == pytest.approx(200 / 127.5 - 1, abs=1e-4)
    assert batch["skull"].amax().item() != pytest.approx(200 / 127.5 - 1, abs=1e-2)


def test_conditions_follow_the_skull_and_are_forgotten_at_times() -> None:
    data = make_translations(make_album("ab" * 32, "ff" * 32), make_album("a", "f"), (None,) * 64)
    data.told["b"] = Conditions()
    config = make_config(conditions=("sex", "bmi"), condition_dropout=0.25)
    batches = translation_batches(data, config, 32, Streams.of(1, 0), paired=False)

    skulls = torch.cat([batch["skull"] for batch in batches])

    assert skulls.shape == (64, 5, SIZE, SIZE)
    told = {  # sex, known, bmi, known
        (0.0, 0.0, 0.0, 0.0),
        (-1.0, 1.0, 0.0, 1.0),
        (0.0, 0.0, 0.0, 1.0),
        (-1.0, 1.0, 0.0, 0.0),
    }
    rows = [tuple(planes[1:, 3, 3].tolist()) for planes in skulls]
    assert set(rows) == told
    known = [row for row, number in zip(rows, numbers_of(skulls), strict=True) if number % 2 == 0]
    assert 0.1 < sum(row[1] == 0 for row in known) / len(known) < 0.45


def test_an_unpaired_face_comes_with_the_planes_of_its_own_person() -> None:
    data = make_translations(make_album("aaaa", "ffff"), make_album("bc", "ff"), (None,) * 4)
    data.told["b"], data.told["c"] = Conditions("female"), Conditions("male")
    config = make_config(conditions=("sex",), condition_dropout=0.0)

    for batch in translation_batches(data, config, 2, Streams.of(1, 0), paired=False):
        sexes = batch["face_planes"][:, :, 3, 3].tolist()

        expected = [[-1.0, 1.0], [1.0, 1.0]]  # female, male, both known
        assert sexes == [expected[number] for number in numbers_of(batch["face"])]


def test_an_unconditioned_skull_stays_as_it_is() -> None:
    skull = torch.rand(2, 1, 4, 4)

    assert tell(skull, [Conditions("male"), Conditions()], ()) is skull


def test_a_view_without_faces_is_refused() -> None:
    data = make_translations(make_album("ab", "fl"), make_album("a", "f"), (0, None))

    with pytest.raises(DataError, match="no face of view 'l'"):
        next(translation_batches(data, make_config(), 1, Streams.of(1, 0), paired=False))
    assert data.lacking_mates() == [("b", "l")]


def test_identity_batches_show_each_person_in_one_view_from_every_domain() -> None:
    portraits = make_album("aaaabbbb", "ffllffll", colour=10)
    generated = make_album("aabb", "flfl", colour=200)
    rng = np.random.default_rng(0)

    frontal, lateral = identity_batches([portraits, generated], 2, 3, 2, rng)

    for batch, own in ((frontal, "f"), (lateral, "l")):
        faces, people = batch["face"], batch["person"]
        assert people.tolist() in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
        assert (faces[:, 1, 5, 5] > 0.5).tolist() == [False, True, False] * 2
        places = (faces[:, 0, 0, 0] * 255).round().int().view(2, 3)
        assert all(len({*row[::2].tolist()}) == 2 for row in places), (
            "two portraits, not one twice"
        )
        for place, person, is_generated in zip(
            places.flatten().tolist(), people.tolist(), [False, True, False] * 2, strict=True
        ):
            album = generated if is_generated else portraits
            assert (album.people[place], album.views[place]) == ("ab"[person], own)


def test_a_batch_shows_nobody_twice() -> None:
    portraits = make_album("aabbccddee", "f" * 10)

    batches = identity_batches([portraits], 3, 2, 50, np.random.default_rng(0))

    counts = np.zeros(5, int)
    for batch in batches:
        people = batch["person"].view(3, 2)[:, 0].tolist()
        assert len({*people}) == 3
        counts[people] += 1
    assert counts.min() > 20, "everybody comes"


def test_jitter_of_nothing_changes_nothing() -> None:
    faces = torch.rand(2, 3, SIZE, SIZE)

    same = jitter(faces, Jitter(0, 0, 0, 0), torch.Generator().manual_seed(0))

    torch.testing.assert_close(same, faces, atol=1e-5, rtol=0)


def test_jitter_stays_in_range_and_is_seeded() -> None:
    faces = torch.rand(4, 3, SIZE, SIZE)
    amount = Jitter(degrees=10, shift=0.1, scale=0.1, colour=0.5)

    first, again = (jitter(faces, amount, torch.Generator().manual_seed(1)) for _ in range(2))

    assert torch.equal(first, again)
    assert not torch.equal(first[0], faces[0])
    assert first.min() >= 0
    assert first.max() <= 1


def test_jitter_shifts_by_its_share_of_the_side() -> None:
    faces = torch.zeros(64, 3, SIZE, SIZE)
    faces[:, :, 16, 16] = 1.0

    moved = jitter(faces, Jitter(0, 0.25, 0, 0), torch.Generator().manual_seed(0))

    places = moved[:, 0].flatten(1).argmax(dim=1)
    extent = (places % SIZE - 16).abs().max()
    assert 6 <= extent <= 8


def test_skulls_made_by_hand_are_taken_where_there_is_no_film(copy: Path) -> None:
    table = copy / "images.csv"
    assert read_dataset(copy).film_kind == "xray"
    table.write_text(table.read_text().replace(",xray,", ",skull,"))
    dataset = read_dataset(copy)
    assert dataset.film_kind == "skull"
    rows = dataset.select("skull", ["p00003"])

    album = load_skulls(rows, film.STANDARD_SIZE, "classical-2", None)

    standard = film.standardise(imaging.read_picture(rows[0].path))
    assert np.array_equal(album.pixels[0], standard)


def test_a_damaged_picture_is_named(copy: Path) -> None:
    dataset = read_dataset(copy)
    row = dataset.select("xray", ["p00001"])[0]
    row.path.write_bytes(row.path.read_bytes()[:100])

    with pytest.raises(DataError, match=f"{row.path.name} cannot be used"):
        load_skulls([row], SIZE, "classical-2", None)

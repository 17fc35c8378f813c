from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fcr_edge import imaging
from fcr_edge.errors import ConfigError, DataError
from fcr_train import prepare, splits
from fcr_train.checkpoint import load_checkpoint
from fcr_train.cli import app
from fcr_train.config import load_preset
from fcr_train.dataset import Dataset, Person, Picture, _decade, read_dataset
from fcr_train.survey import survey
from fcr_train.tasks import EmbedderTask, Plan, TranslatorTask

runner = CliRunner()
VIEWS = ("frontal", "lateral")


def make_dataset(people: list[Person], views: tuple[str, ...] = VIEWS) -> Dataset:
    pictures = tuple(
        Picture(person.name, view, kind, Path("nowhere"))
        for person in people
        for view in views
        for kind in ("xray", "face")
    )
    return Dataset(tuple(people), pictures, "test", "a" * 64)


def make_people(number: int) -> list[Person]:
    return [Person(f"p{i:03d}", ("female", "male")[i % 2], 20.0 + i % 30) for i in range(number)]


@pytest.fixture(scope="module")
def folder(write_pairs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people; the split is trained on, so each has two portraits a view."""
    root = tmp_path_factory.mktemp("splits")
    write_pairs(root / "pairs", 8)
    for path in sorted((root / "pairs").glob("*_face.png")):
        level = imaging.read_picture(path)
        imaging.write_png(root / "pairs" / f"other-{path.name}", (level * 0.9).astype(np.uint8))
    prepare.write_dataset(survey(root / "pairs", "s2f"), root / "data", augment=1)
    return root / "data"


@pytest.fixture
def dataset(folder: Path) -> Dataset:
    return read_dataset(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the dataset whose pictures may be changed."""
    for path in folder.rglob("*"):
        target = tmp_path / "copy" / path.relative_to(folder)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path / "copy"


people_lists = st.lists(
    st.tuples(st.sampled_from(["female", "male", ""]), st.none() | st.floats(0, 99)),
    min_size=2,
    max_size=60,
)


@given(rows=people_lists, folds=st.integers(2, 7), seed=st.integers(0, 9))
def test_folds_hold_everybody_once_and_are_alike(
    rows: list[tuple[str, float | None]], folds: int, seed: int
) -> None:
    people = [Person(f"p{i}", sex, age) for i, (sex, age) in enumerate(rows)]
    folds = min(folds, len(people))

    made = splits.split_by_person(make_dataset(people), folds, seed)

    names = [splits._names(fold) for fold in made.folds]
    assert sorted(itertools.chain.from_iterable(names)) == sorted(person.name for person in people)
    assert max(map(len, names)) - min(map(len, names)) <= 1
    strata = {person.name: (person.sex, _decade(person)) for person in people}
    for stratum in {*strata.values()}:
        counts = [sum(strata[name] == stratum for name in fold) for fold in names]
        assert max(counts) - min(counts) <= 1
    assert made == splits.split_by_person(make_dataset(people), folds, seed)


def test_another_seed_gives_other_folds() -> None:
    dataset = make_dataset(make_people(40))

    assert (
        splits.split_by_person(dataset, 5, 1).folds != splits.split_by_person(dataset, 5, 2).folds
    )
    assert splits.split_by_pair(dataset, 5, 1).folds != splits.split_by_pair(dataset, 5, 2).folds


def test_the_papers_split_is_20_of_102_and_leaks_as_expected() -> None:
    dataset = make_dataset(make_people(51))

    made = splits.split_by_pair(dataset, repeats=200)

    assert {len(fold) for fold in made.folds} == {20}
    assert len({*made.folds}) == 200
    seen = [splits.count_seen(dataset.pairs(), fold) for fold in made.folds]
    assert np.mean(seen) / 20 == pytest.approx(82 / 101, abs=0.02)
    assert splits.expect_seen(dataset.pairs(), 20) == pytest.approx(82 / 101)


def test_people_of_one_view_cannot_leak() -> None:
    dataset = make_dataset(make_people(10), views=("frontal",))

    assert splits.expect_seen(dataset.pairs(), 3) == 0
    assert splits.count_seen(dataset.pairs(), splits.split_by_pair(dataset).folds[0]) == 0


@pytest.mark.parametrize("folds", [1, 41])
def test_an_impossible_number_of_folds_is_refused(folds: int) -> None:
    with pytest.raises(ConfigError, match="give 2 to 40"):
        splits.split_by_person(make_dataset(make_people(40)), folds)


@pytest.mark.parametrize("make", [splits.split_by_person, splits.split_by_pair])
def test_a_split_is_read_as_it_was_written(
    make: Callable[[Dataset], splits.Split], tmp_path: Path
) -> None:
    dataset = make_dataset(make_people(12))

    splits.write_split(make(dataset), tmp_path / "splits.json")

    assert splits.read_split(tmp_path / "splits.json", dataset) == make(dataset)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"schema": "fcr-split/9"}, "has schema 'fcr-split/9'", id="schema"),
        pytest.param({"dataset_sha256": "b" * 64}, "made for dataset bbbb", id="dataset"),
        pytest.param({"kind": "tooth"}, "split by 'tooth'", id="kind"),
        pytest.param({"parts": []}, "names 4 people too few", id="nothing"),
        pytest.param({"parts": [["p000", "p001"], ["p002"]]}, "1 people too few, p003", id="less"),
        pytest.param(
            {"parts": [["p000", "p001"], ["p002", "p003", "p9"]]}, "not in it, p9", id="more"
        ),
        pytest.param(
            {"parts": [["p000", "p001"], ["p001", "p002", "p003"]]}, "twice, p001", id="twice"
        ),
        pytest.param(
            {"parts": [["p000", "p001", "p002", "p003"], []]}, "an empty one", id="empty"
        ),
        pytest.param({"kind": "pair", "parts": [[["p000", "up"]]]}, "not in the", id="pair"),
        pytest.param({"kind": "pair", "parts": [["p000"]]}, "is damaged", id="shape"),
        pytest.param({"parts": 3}, "is damaged", id="number"),
        pytest.param({"seed": None}, "is damaged", id="seed"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(
    change: dict[str, object], words: str, tmp_path: Path
) -> None:
    dataset, path = make_dataset(make_people(4)), tmp_path / "splits.json"
    document = json.loads(splits.split_by_person(dataset, 2).to_json())
    path.write_text(json.dumps(document | change))

    with pytest.raises(DataError, match=words) as caught:
        splits.read_split(path, dataset)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_split_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text(text)

    with pytest.raises(DataError, match=r"splits\.json (is damaged|has schema)"):
        splits.read_split(tmp_path / "splits.json", make_dataset(make_people(4)))


def test_a_missing_split_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fcr-train split"):
        splits.read_split(tmp_path / "gone.json", make_dataset(make_people(4)))


def test_a_fold_that_does_not_exist_is_refused() -> None:
    split = splits.split_by_person(make_dataset(make_people(10)), 5)

    with pytest.raises(ConfigError, match="give 0 to 4"):
        split.fold(5)


def test_people_who_differ_have_no_leak(dataset: Dataset) -> None:
    reports: list[tuple[int, int]] = []
    split = splits.split_by_person(dataset, 4)

    splits.check_leaks(dataset, split, lambda done, total: reports.append((done, total)))

    assert (48, 48) in reports  # pictures read; pairs compared come after


@pytest.mark.parametrize("change", ["equal", "smaller", "cropped"])
@pytest.mark.parametrize("kind", ["xray", "face_1"])
def test_a_copy_in_another_fold_stops(copy: Path, change: str, kind: str) -> None:
    dataset = read_dataset(copy)
    split = splits.split_by_person(dataset, 2)
    first, second = (splits._names(fold)[0] for fold in split.folds)
    source = copy / "images" / first / f"frontal_{kind}.png"
    target = copy / "images" / second / f"frontal_{kind}.png"
    picture = imaging.read_picture(source)
    changed = {
        "equal": picture,
        "smaller": imaging.resize(picture, (48, 48)),
        "cropped": picture[2:-1, 1:-2],
    }
    imaging.write_png(target, changed[change])

    with pytest.raises(DataError) as caught:
        splits.check_leaks(dataset, split)
    assert str(source) in str(caught.value)
    assert str(target) in str(caught.value)


def test_the_same_file_as_film_and_face_stops(copy: Path) -> None:
    dataset = read_dataset(copy)
    split = splits.split_by_person(dataset, 2)
    first, second = (splits._names(fold)[0] for fold in split.folds)
    source = copy / "images" / first / "frontal_face_1.png"
    (copy / "images" / second / "lateral_xray.png").write_bytes(source.read_bytes())

    with pytest.raises(DataError, match="hold the same picture"):
        splits.check_leaks(dataset, split)


def test_between_simulated_people_only_equal_files_are_a_leak(copy: Path) -> None:
    dataset = replace(read_dataset(copy), generator="fcr-simulate")
    split = splits.split_by_person(dataset, 2)
    first, second = (splits._names(fold)[0] for fold in split.folds)
    source = copy / "images" / first / "frontal_xray.png"
    target = copy / "images" / second / "frontal_xray.png"

    imaging.write_png(target, imaging.read_picture(source)[2:-1, 1:-2])
    splits.check_leaks(dataset, split)

    target.write_bytes(source.read_bytes())
    with pytest.raises(DataError, match="hold the same picture"):
        splits.check_leaks(dataset, split)


def test_a_copy_within_a_fold_is_no_leak(copy: Path) -> None:
    dataset = read_dataset(copy)
    split = splits.split_by_person(dataset, 2)
    first, second = splits._names(split.folds[0])[:2]
    source = copy / "images" / first / "frontal_xray.png"
    (copy / "images" / second / "frontal_xray.png").write_bytes(source.read_bytes())

    splits.check_leaks(dataset, split)


def test_a_split_by_pair_warns_each_time_and_still_finds_copies(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = read_dataset(copy)
    split = splits.split_by_pair(dataset)
    with caplog.at_level(logging.WARNING):
        splits.check_leaks(dataset, split)
        splits.check_leaks(dataset, split)
    assert caplog.text.count("same persons in training and test") == 2
    source = copy / "images/p00001/frontal_face_1.png"
    (copy / "images/p00001/lateral_face_1.png").write_bytes(source.read_bytes())

    with pytest.raises(DataError, match="hold the same picture"):
        splits.check_leaks(dataset, split)


def test_a_damaged_picture_is_named(copy: Path) -> None:
    path = copy / "images/p00001/frontal_xray.png"
    path.write_bytes(path.read_bytes()[:99])
    dataset = read_dataset(copy)

    with pytest.raises(DataError, match=r"frontal_xray\.png cannot be used"):
        splits.check_leaks(dataset, splits.split_by_person(dataset, 2))


def test_the_command_writes_folds_and_prints_them(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "splits.json"

    result = runner.invoke(app, ["split", str(folder), "--folds", "4", "-o", str(out)])

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(out)
    document = json.loads(out.read_text())
    assert (document["schema"], document["kind"], document["seed"]) == ("fcr-split/1", "person", 1)
    assert Counter(map(len, document["parts"])) == {2: 4}


def test_the_command_prints_what_a_split_by_pair_leaks(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "splits.json"

    result = runner.invoke(app, ["split", str(folder), "--by", "pair", "-o", str(out)])

    assert result.exit_code == 0, result.output
    assert "0.87 expected" in result.stdout  # 13 of the 15 other pairs train
    assert len(json.loads(out.read_text())["parts"]) == 5


@pytest.fixture(scope="module")
def split_file(folder: Path) -> Path:
    dataset = read_dataset(folder)
    path = folder.parent / "splits.json"
    splits.write_split(splits.split_by_person(dataset, 2), path)
    splits.write_split(splits.split_by_pair(dataset), path.with_name("pairs.json"))
    return path


def train(folder: Path, out: Path, *options: str) -> tuple[int, str]:
    common = ["--preset", "tiny", "--epochs", "1", "--data", str(folder), "--out", str(out)]
    result = runner.invoke(app, ["translator", *common, *options])
    return result.exit_code, result.output


def plan(model: str, dataset: Dataset, fold: splits.Fold | None) -> Plan[Any]:
    return Plan(model, "tiny", load_preset(model, "tiny"), dataset, 1, torch.device("cpu"), fold)


def test_training_holds_out_whom_the_file_names(
    folder: Path, split_file: Path, tmp_path: Path
) -> None:
    split = splits.read_split(split_file, read_dataset(folder))

    code, output = train(folder, tmp_path, "--split", str(split_file), "--fold", "1")

    assert code == 0, output
    checkpoint = load_checkpoint(tmp_path / "checkpoint.safetensors")
    held_out, test = {*checkpoint.data["held_out"]}, {*splits._names(split.folds[1])}
    assert test < held_out, "and those set aside for validation"
    assert len(held_out - test) == 1
    assert checkpoint.data["split"] == split.fold(1).record
    assert checkpoint.step == 3 * 2 * 2  # three people, two views, original and flipped


@pytest.mark.parametrize("by", ["person", "pair"])
def test_an_embedder_takes_a_translator_of_the_same_fold_only(
    dataset: Dataset, split_file: Path, by: str
) -> None:
    path = split_file if by == "person" else split_file.with_name("pairs.json")
    split = splits.read_split(path, dataset)
    task = TranslatorTask(plan("fastcut", dataset, split.fold(1)))
    translator = task.exported, task.checkpoint(0, task.exported)

    embedder = EmbedderTask(plan("densenet121", dataset, split.fold(1)), translator)

    held_out = {*split.folds[1]}
    watched = {*zip(embedder.probes.people, embedder.probes.views, strict=True)}
    assert watched == held_out if by == "pair" else not watched & held_out
    for album in (task.data.skulls, task.data.faces, *embedder.albums):
        seen = {*zip(album.people, album.views, strict=True)}
        assert not seen & (held_out | watched)
        if by == "person":
            assert not {*album.people} & {*translator[1].data["held_out"]}
    for other in (split.fold(0), None) if by == "pair" else (split.fold(0),):
        with pytest.raises(DataError, match="--split and"):
            EmbedderTask(plan("densenet121", dataset, other), translator)


def test_augmented_pictures_train_and_are_never_held_out(dataset: Dataset) -> None:
    split = splits.split_by_pair(dataset)

    task = TranslatorTask(plan("fastcut", dataset, split.fold(0)))

    assert (len(split.folds[0]), len(task.data.skulls), len(task.data.faces)) == (
        3,
        13 * 2,
        13 * 2 * 2,
    )
    assert len(task.sample_skulls) == 3


def test_pictures_changed_since_the_split_are_found_in_training(
    copy: Path, split_file: Path, tmp_path: Path
) -> None:
    split = splits.read_split(split_file, read_dataset(copy))
    first, second = (splits._names(fold)[0] for fold in split.folds)
    source = copy / "images" / first / "frontal_xray.png"
    (copy / "images" / second / "frontal_xray.png").write_bytes(source.read_bytes())

    code, output = train(copy, tmp_path, "--split", str(split_file), "--fold", "0")

    assert code == 3
    assert "hold the same picture" in output


@pytest.mark.parametrize(
    "options", [("--split", "s.json"), ("--fold", "0"), ("--split", "s.json", "--fold", "0")]
)
def test_half_a_choice_of_split_is_refused(
    folder: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    code, output = train(folder, tmp_path / "run", *options)

    assert code == 3
    assert "pass both" in output or "cannot read s.json" in output


def test_a_resumed_training_keeps_its_split(dataset: Dataset) -> None:
    split = splits.split_by_person(dataset, 2)

    identities = [plan("fastcut", dataset, fold).identity for fold in (None, split.fold(0))]

    assert [identity["split"] for identity in identities] == [None, split.fold(0).record]


def test_the_record_tells_folds_and_splits_apart() -> None:
    split = splits.split_by_person(make_dataset(make_people(10)), 5)

    records = {
        split.fold(0).record,
        split.fold(1).record,
        replace(split, folds=split.folds[::-1]).fold(0).record,
    }

    assert len(records) == 3

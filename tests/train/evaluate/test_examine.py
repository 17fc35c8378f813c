from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fcr_edge import imaging
from fcr_edge.errors import DataError
from fcr_train.checkpoint import Checkpoint
from fcr_train.config import EmbedderConfig, load_preset, to_table
from fcr_train.dataset import Dataset, read_dataset, take_distractors
from fcr_train.embedders import unit
from fcr_train.evaluate.benches import Systems, Trained
from fcr_train.evaluate.examine import examine
from fcr_train.evaluate.findings import Examiner, Ground
from fcr_train.evaluate.record import Evaluation, Retrieval
from fcr_train.splits import split_by_pair, split_by_person
from fcr_train.tasks import Plan
from fcr_train.tasks.plan import list_unseen

PEOPLE = 40
SIDE = 64
CPU = torch.device("cpu")


class Copier(nn.Module):
    """A translator for a world in which a film is the face in grey."""

    def forward(self, skull: torch.Tensor) -> torch.Tensor:
        return skull[:, :1].expand(-1, 3, -1, -1)


class Pixels(nn.Module):
    """An embedder whose embedding is the picture itself, coarsely."""

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        small = nn.functional.adaptive_avg_pool2d(face.mean(dim=1, keepdim=True), 16).flatten(1)
        return unit(small - small.mean(dim=1, keepdim=True))


class Squeezed(nn.Module):
    """An embedder that finds the same people, all its cosines near 1."""

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        return unit(torch.cat([Pixels()(face), torch.full((len(face), 1), 5.0)], dim=1))


class Constant(nn.Module):
    """An embedder that has collapsed but for rounding."""

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        return unit(torch.ones(len(face), 8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, draw: Callable[..., np.ndarray]) -> Path:
    """Write people whose films are their faces in grey, with two more photographs a view."""
    folder = tmp_path_factory.mktemp("examined")
    write_people(folder, draw, range(PEOPLE))
    return folder


def write_people(folder: Path, draw: Callable[..., np.ndarray], numbers: range) -> Dataset:
    (folder / "images").mkdir()
    people, images = [], []
    for number in numbers:
        person = f"p{number:03d}"
        people.append((person, "female" if number % 2 else "male", 20 + number, 18 + number / 3))
        for view in ("frontal", "lateral"):
            picture = draw(person, view)
            for kind, portrait in (("skull", ""), ("face", 1), ("face", 2), ("face", 3)):
                rng = np.random.default_rng([number, portrait or 0])
                noise = rng.normal(0, 6 if portrait else 0, picture.shape)
                noisy = (picture + noise).clip(0, 255).astype(np.uint8)
                file = f"images/{person}_{view}_{kind}{portrait}.png"
                pixels = noisy if kind == "skull" else noisy[..., None].repeat(3, 2)
                imaging.write_png(folder / file, pixels)
                sha256 = hashlib.sha256((folder / file).read_bytes()).hexdigest()
                images.append((person, view, kind, portrait, file, sha256))
    _write(folder / "people.csv", ("person", "sex", "age", "bmi"), people)
    _write(folder / "images.csv", ("person", "view", "kind", "portrait", "file", "sha256"), images)
    description = {"schema": "fcr-dataset/1", "generator": "fcr-simulate"}
    (folder / "dataset.json").write_text(json.dumps(description))
    return read_dataset(folder)


def _write(path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def make_systems(dataset_sha256: str, held_out: list[str], embedder: nn.Module) -> Systems:
    def describe(kind: str, model: str) -> Checkpoint:
        config = to_table(load_preset(model, "tiny"))
        data = {"sha256": dataset_sha256, "held_out": held_out, "seed": 1}
        config |= {"size": SIDE}
        return Checkpoint(kind, model, "tiny", config, 1, {}, data)  # type: ignore[arg-type]

    return Systems(
        Trained(Copier(), describe("translator", "pix2pix"), "0" * 64),
        Trained(embedder, describe("embedder", "resnet18"), "1" * 64),
        None,
        CPU,
    )


def make_examiner(
    folder: Path,
    embedder: nn.Module,
    by: str = "person",
    seen: tuple[str, ...] = (),
    fold: int = 0,
) -> Examiner:
    dataset = read_dataset(folder)
    split = split_by_person(dataset, 2, 1) if by == "person" else split_by_pair(dataset, 1, 1)
    config = load_preset("resnet18", "tiny")
    assert isinstance(config, EmbedderConfig)
    plan = Plan("resnet18", "tiny", replace(config, size=SIDE), dataset, 1, CPU, split.fold(fold))
    held_out = [name for name in dataset.names if name not in seen]
    systems = make_systems(dataset.sha256, held_out, embedder)
    return Examiner(Ground(plan, "none"), systems)


@pytest.fixture(scope="module")
def perfect(folder: Path) -> Evaluation:
    return examine([make_examiner(folder, Pixels())])


def find(evaluation: Evaluation, probe: str, views: str, jitter: bool = False) -> Retrieval:
    rows = [
        row
        for row in evaluation.retrieval
        if (row.probe, row.views, row.jitter) == (probe, views, jitter)
    ]
    return max(rows, key=lambda row: row.gallery)


@pytest.mark.parametrize("views", ["frontal", "lateral", "both"])
def test_a_face_that_is_the_persons_own_finds_everybody(perfect: Evaluation, views: str) -> None:
    row = find(perfect, "generated", views)

    assert (row.gallery, row.probes) == (20, 20)
    assert row.cmc["1"].value == 1
    assert row.median_rank.value == 1
    assert find(perfect, "photograph", views).cmc["1"].value == 1
    assert find(perfect, "film (linear)", views).cmc["10"].value > 0.5
    assert find(perfect, "fusion", views).cmc["1"].value == 1


def test_distractors_are_enrolled_and_not_searched_for(
    folder: Path, tmp_path: Path, draw: Callable[..., np.ndarray]
) -> None:
    others = write_people(tmp_path, draw, range(PEOPLE, PEOPLE + 15))
    dataset = read_dataset(folder)
    ground = make_examiner(folder, Pixels()).ground
    distractors = take_distractors(dataset, others)
    systems = make_systems(dataset.sha256, dataset.names, Pixels())

    larger = examine([Examiner(Ground(ground.plan, "none", distractors), systems)])

    row = find(larger, "generated", "both")
    assert (row.gallery, row.probes) == (35, 20)
    assert row.cmc["1"].value == 1
    assert row.origin == "all test people and 15 distractors"
    assert find(larger, "sex and age", "both").gallery == 35
    assert find(larger, "photograph", "both").probes == 20
    assert {each.people for each in larger.calibration} == {20}
    with pytest.raises(DataError, match="are in the dataset, too"):
        take_distractors(dataset, dataset)


def test_baselines_that_know_nothing_of_the_person_stay_at_their_level(
    perfect: Evaluation,
) -> None:
    assert find(perfect, "chance", "both").cmc["10"].value == pytest.approx(0.5)
    assert find(perfect, "mean face", "both").cmc["1"].value <= 0.2
    estimated = find(perfect, "estimated sex and age", "both")
    assert estimated.cmc["1"].value < find(perfect, "generated", "both").cmc["1"].value
    filtered = find(perfect, "sex and age", "both")
    assert filtered.cmc["1"].value > 1 / 20, "fewer people are left than all"
    assert filtered.cmc["1"].value < 1


class Believer(nn.Module):
    """A translator that draws the film for a woman, its negative for a man, else a ramp."""

    def forward(self, skull: torch.Tensor) -> torch.Tensor:
        ramp = 0.01 * torch.linspace(-1, 1, skull.shape[3])
        return (skull[:, :1] * -skull[:, 1:2] + ramp).expand(-1, 3, -1, -1)


def test_a_wrong_sex_told_costs_what_the_translator_makes_of_it(
    folder: Path, perfect: Evaluation
) -> None:
    plain = make_examiner(folder, Pixels())
    believer = plain.systems.translator.checkpoint
    believer.config["conditions"] = ["sex"]
    systems = replace(plain.systems, translator=Trained(Believer(), believer, "2" * 64))

    evaluation = examine([Examiner(plain.ground, systems)])

    # Only women's own photographs are drawn: they are found with the truth, the men with the lie.
    women = sum(person.sex == "female" for person in plain.ground.test.people) / 20
    right = find(evaluation, "generated", "frontal").cmc["1"].value
    wrong = find(evaluation, "generated, told the other sex", "frontal").cmc["1"].value
    assert right == pytest.approx(women, abs=0.11)
    assert wrong == pytest.approx(1 - women, abs=0.11)
    assert find(evaluation, "generated, told nothing", "frontal").cmc["1"].value < 0.3
    assert "generated, told nothing" not in {row.probe for row in perfect.retrieval}


def test_a_collapsed_embedder_stands_at_chance(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collapsed = examine([make_examiner(folder, Constant())])

    chance = find(collapsed, "chance", "both").cmc["10"]
    assert chance.low is not None
    assert chance.high is not None
    assert chance.low <= find(collapsed, "generated", "both").cmc["10"].value <= chance.high
    assert collapsed.calibration == ()
    assert "everybody looks alike" in caplog.text


def test_test_people_are_neither_trained_on_nor_fitted_on(folder: Path) -> None:
    ground = make_examiner(folder, Pixels()).ground

    tested = {*ground.test.names}
    assert not tested & {*ground.training.names}
    assert not tested & {*ground.fitting.names}
    assert not {*ground.training.names} & {*ground.fitting.names}
    assert len(tested) + len(ground.training.names) + len(ground.fitting.names) == PEOPLE


def test_a_network_that_has_seen_a_test_person_is_refused(folder: Path) -> None:
    person = make_examiner(folder, Pixels()).ground.test.names[0]

    with pytest.raises(DataError, match=f"trained on 1 people who are held out here, {person}"):
        make_examiner(folder, Pixels(), seen=(person,))


def test_the_record_is_complete_and_survives_json(perfect: Evaluation) -> None:
    again = Evaluation.from_json(perfect.to_json())

    assert again == perfect
    assert (again.level, again.split.by, again.split.fold) == ("S", "person", 0)
    assert (again.people.test, again.people.train) == (20, 17)
    assert {row.views for row in again.open_set} == {"frontal", "lateral", "both"}
    assert {row.views for row in again.images} == {"frontal", "lateral"}
    assert all(row.ssim.value > row.ssim_other_person.value for row in again.images)
    assert all(row.fid.value is None and "Inception" in row.fid.reason for row in again.images)
    assert {group.by for group in again.groups} == {"sex", "age", "bmi"}
    assert all(row.people == 20 for row in again.calibration)
    assert again.claims.passed[:1] == ("better than chance",)


@pytest.fixture(scope="module")
def pooled(folder: Path) -> Evaluation:
    return examine([make_examiner(folder, Pixels(), fold=fold) for fold in (0, 1)])


def test_folds_put_together_test_everybody_once_among_those_of_the_own_fold(
    folder: Path, pooled: Evaluation, perfect: Evaluation
) -> None:
    other = examine([make_examiner(folder, Pixels(), fold=1)])

    assert pooled.split.fold is None
    assert (pooled.people.test, pooled.people.train) == (PEOPLE, 17)
    for probe in ("generated", "mean face", "sex and age", "film (linear)", "fusion"):
        row = find(pooled, probe, "both", jitter=True)
        assert (row.probes, row.gallery) == (PEOPLE, PEOPLE // 2)
        for rank in ("1", "5", "10"):
            parts = [find(one, probe, "both", jitter=True) for one in (perfect, other)]
            mean = np.mean([part.cmc[rank].value for part in parts])
            assert row.cmc[rank].value == pytest.approx(mean)
    assert find(pooled, "chance", "both").cmc["1"].value == pytest.approx(1 / 20)
    assert find(pooled, "generated", "both").origin == "all test people of one's fold"
    assert sum(group.people for group in pooled.groups if group.by == "sex") == PEOPLE
    assert [row.n for row in pooled.images] == [PEOPLE, PEOPLE]
    assert Evaluation.from_json(pooled.to_json()) == pooled


def test_folds_are_put_on_one_scale_before_a_threshold_parts_them(
    folder: Path, pooled: Evaluation
) -> None:
    second = make_examiner(folder, Squeezed(), fold=1)

    mixed = examine([make_examiner(folder, Pixels()), second])

    for ours, theirs in zip(mixed.open_set, pooled.open_set, strict=True):
        assert ours.searches_without_mate == PEOPLE
        assert ours.fnir[0].value is not None
        assert theirs.fnir[0].value is not None
        assert ours.fnir[0].value.value == pytest.approx(theirs.fnir[0].value.value, abs=0.051)
    for calibrated, whole in zip(mixed.calibration, pooled.calibration, strict=True):
        assert calibrated.people == PEOPLE
        assert calibrated.fit is None, "no map fits the networks of one fold"
        assert calibrated.cap_log10 == pytest.approx(np.log10(20))
        assert calibrated.cllr.value == pytest.approx(whole.cllr.value, abs=0.05)
    assert mixed.embedder.checkpoint_sha256 == pooled.embedder.checkpoint_sha256


def test_a_person_in_two_folds_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="searched for in two folds"):
        examine([make_examiner(folder, Pixels()), make_examiner(folder, Pixels())])


def test_progress_counts_to_the_end(folder: Path) -> None:
    seen: list[tuple[int, int]] = []

    examine(
        [make_examiner(folder, Pixels())],
        progress=lambda done, total: seen.append((done, total)),
    )

    assert seen == [(done + 1, seen[-1][1]) for done in range(seen[-1][1])]


def test_a_split_by_pair_claims_nothing(folder: Path) -> None:
    dataset = read_dataset(folder)
    split = split_by_pair(dataset, 1, 1)
    config = load_preset("resnet18", "tiny")
    assert isinstance(config, EmbedderConfig)
    plan = Plan("resnet18", "tiny", replace(config, size=SIDE), dataset, 1, CPU, split.fold(0))
    systems = make_systems(dataset.sha256, [], Pixels())
    record = split.fold(0).record
    for trained in (systems.translator, systems.embedder):
        trained.checkpoint.data["split"] = record
        trained.checkpoint.data["held_out"] = list_unseen(plan.divide())

    evaluation = examine([Examiner(Ground(plan, "none"), systems)])

    assert evaluation.split.by == "pair"
    assert evaluation.claims.failed is not None
    assert "by pair" in evaluation.claims.failed

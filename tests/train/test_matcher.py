from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fcr_edge.errors import ConfigError, DataError
from fcr_train.batches import Album, Matches, matching_batches
from fcr_train.checkpoint import Checkpoint, load_checkpoint
from fcr_train.config import Jitter, MatcherConfig, Schedule, load_preset, parse, to_table
from fcr_train.dataset import read_dataset
from fcr_train.matcher import TwoTower, load_matcher
from fcr_train.tasks import MatcherTask, Plan
from fcr_train.tasks.plan import refuse_leak
from fcr_train.trainer import Streams, train

CPU = torch.device("cpu")


def tiny(**changes: object) -> MatcherConfig:
    config = load_preset("two_tower", "tiny")
    assert isinstance(config, MatcherConfig)
    return replace(config, **changes)


def plan_matcher(folder: Path, config: MatcherConfig | None = None) -> Plan[MatcherConfig]:
    return Plan("two_tower", "tiny", config or tiny(), read_dataset(folder), 1, CPU)


def run(task: MatcherTask, out: Path, **options: object) -> Checkpoint:
    return load_checkpoint(train(task, out, task.plan.seed, task.plan.identity, **options))


def test_both_towers_end_on_one_unit_sphere() -> None:
    matcher = TwoTower(tiny()).eval()

    skulls = matcher.embed_skulls(2 * torch.rand(2, 1, 32, 32) - 1)
    faces = matcher.embed_faces(torch.rand(3, 3, 32, 32))

    assert (skulls.shape, faces.shape) == ((2, 16), (3, 16))
    for embeddings in (skulls, faces):
        norm = embeddings.norm(dim=1)
        torch.testing.assert_close(norm, torch.ones_like(norm), atol=1e-5, rtol=0)


def test_similarity_is_the_cosine_of_each_skull_and_face() -> None:
    matcher = TwoTower(tiny()).eval()
    skull, face = torch.rand(2, 1, 32, 32), torch.rand(3, 3, 32, 32)

    similarity = matcher(skull, face)

    expected = torch.nn.functional.cosine_similarity(
        matcher.skull(skull)[:, None], matcher.face(2 * face - 1)[None], dim=2
    )
    torch.testing.assert_close(similarity, expected, atol=1e-6, rtol=0)


def test_the_skull_tower_takes_the_planes_of_its_conditions() -> None:
    matcher = TwoTower(tiny(conditions=("sex", "bmi"))).eval()

    assert matcher.embed_skulls(torch.rand(2, 5, 32, 32)).shape == (2, 16)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"size": 36}, "size is 36: give a multiple of 8", id="size"),
        pytest.param({"width": 0}, "width", id="width"),
        pytest.param({"temperature": 0.0}, "temperature", id="temperature"),
        pytest.param({"conditions": ("height",)}, "conditions are", id="conditions"),
        pytest.param(
            {"schedule": Schedule(1, 0, 4, 1e-3, accumulate=2)}, "compares", id="accumulate"
        ),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        tiny(**changes)


@pytest.mark.parametrize("preset", ["paper", "small", "tiny"])
def test_presets_survive_a_checkpoint(preset: str) -> None:
    config = load_preset("two_tower", preset)

    assert parse(MatcherConfig, to_table(config)) == config


def test_the_loss_is_cross_entropy_both_ways(dataset_folder: Path) -> None:
    task = MatcherTask(plan_matcher(dataset_folder))
    batch = next(task.batches(Streams.of(1, 0)))
    task.networks.eval()

    turn = next(task.turns(batch, torch.Generator()))

    logits = task.networks(batch["skull"], batch["face"]) / task.plan.config.temperature
    own = torch.arange(len(logits))
    entropy = torch.nn.functional.cross_entropy
    expected = (entropy(logits, own) + entropy(logits.T, own)) / 2
    torch.testing.assert_close(turn.objective, expected)
    assert turn.losses["contrastive"] == turn.objective


def album(people: list[str], views: list[str], channels: int) -> Album:
    """Number the pictures in their grey levels."""
    levels = np.arange(len(people), dtype=np.uint8)
    pixels = np.broadcast_to(levels[:, None, None, None], (len(people), 32, 32, channels))
    return Album(np.ascontiguousarray(pixels), tuple(people), tuple(views))


def test_a_batch_shows_each_person_once_by_film_and_own_portrait_of_one_view() -> None:
    skulls = album(["a", "b", "c"] * 2, ["frontal"] * 3 + ["lateral"] * 3, 1)
    faces = album(["a", "a", "b", "c"] * 2, ["frontal"] * 4 + ["lateral"] * 4, 3)
    portraits = ((0, 1), (2,), (3,), (4, 5), (6,), (7,))
    told = read_nothing(skulls)
    schedule = Schedule(1, 0, batch_size=2, learning_rate=1.0)
    config = tiny(schedule=schedule, jitter=replace(tiny().jitter, colour=0.0))

    batches = matching_batches(
        Matches(skulls, faces, portraits, told), config, 40, Streams.of(1, 0)
    )

    seen: set[tuple[int, int]] = set()
    for batch in batches:
        films = ((batch["skull"].mean(dim=(1, 2, 3)) + 1) * 127.5).round().int().tolist()
        shown = (batch["face"].mean(dim=(1, 2, 3)) * 255).round().int().tolist()
        assert len({skulls.views[film] for film in films}) == 1
        assert len({*batch["person"].tolist()}) == len(films) == 2
        for film, face in zip(films, shown, strict=True):
            assert face in portraits[film]
            seen.add((film, face))
    assert len(seen) == 8, "every portrait comes"


def read_nothing(skulls: Album) -> dict[str, object]:
    from fcr_edge.conditions import Conditions

    return {person: Conditions() for person in skulls.people}


def test_a_matcher_learns_four_people_by_heart(dataset_folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(dataset_folder)
    four = replace(dataset, people=dataset.people[:5])  # one of them is held out
    names = {person.name for person in four.people}
    four = replace(four, pictures=tuple(row for row in dataset.pictures if row.person in names))
    config = tiny(schedule=Schedule(1, 0, 4, 3e-3, steps_per_epoch=80), jitter=Jitter())
    task = MatcherTask(replace(plan_matcher(dataset_folder, config), dataset=four))

    run(task, tmp_path)

    batch = next(task.batches(Streams.of(2, 0)))
    task.networks.eval()
    similarity = task.networks(batch["skull"], batch["face"])
    assert similarity.argmax(dim=1).tolist() == [0, 1, 2, 3]
    guessing = math.log(4)
    assert next(task.turns(batch, torch.Generator())).objective < guessing / 2


def test_an_interrupted_matcher_ends_bit_equal(dataset_folder: Path, tmp_path: Path) -> None:
    class Interrupt(Exception):
        pass

    def interrupt(progress: object) -> None:
        if progress.epoch == 2:
            raise Interrupt

    config = tiny(schedule=Schedule(1, 1, 4, 1e-3, steps_per_epoch=2))
    unbroken = run(MatcherTask(plan_matcher(dataset_folder, config)), tmp_path / "unbroken")
    with pytest.raises(Interrupt):
        run(
            MatcherTask(plan_matcher(dataset_folder, config)),
            tmp_path / "broken",
            observe=interrupt,
        )

    resumed = run(
        MatcherTask(plan_matcher(dataset_folder, config)), tmp_path / "broken", resume=True
    )

    for name, tensor in unbroken.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name


def test_nobody_held_out_is_trained_on_and_all_are_recorded(
    dataset_folder: Path, tmp_path: Path
) -> None:
    task = MatcherTask(plan_matcher(dataset_folder))

    checkpoint = run(task, tmp_path)

    assert task.held_out
    assert not {*task.data.skulls.people} & {*task.held_out}
    assert not {*task.data.faces.people} & {*task.held_out}
    assert {*task.probes.people} == {*task.gallery.people} == {*task.held_out}
    assert (checkpoint.kind, checkpoint.data["held_out"]) == ("matcher", task.held_out)


def test_a_loaded_matcher_matches_as_the_trained_one(dataset_folder: Path, tmp_path: Path) -> None:
    task = MatcherTask(plan_matcher(dataset_folder))
    run(task, tmp_path)
    skull, face = torch.rand(2, 1, 32, 32), torch.rand(2, 3, 32, 32)

    loaded, _ = load_matcher(tmp_path / "checkpoint.safetensors")

    assert torch.equal(loaded(skull, face), task.networks.eval()(skull, face))


def test_a_checkpoint_of_another_kind_is_refused(dataset_folder: Path, tmp_path: Path) -> None:
    from fcr_train.checkpoint import save_checkpoint

    checkpoint = run(MatcherTask(plan_matcher(dataset_folder)), tmp_path)
    save_checkpoint(tmp_path / "x.safetensors", replace(checkpoint, kind="embedder"))

    with pytest.raises(DataError, match="embedder 'two_tower': pass a matcher, one of two_tower"):
        load_matcher(tmp_path / "x.safetensors")


def test_a_batch_of_more_people_than_there_are_shows_them_all(dataset_folder: Path) -> None:
    config = tiny(schedule=Schedule(1, 0, 8, 1e-3))

    batch = next(MatcherTask(plan_matcher(dataset_folder, config)).batches(Streams.of(1, 0)))

    assert len(set(batch["person"].tolist())) == 7


def test_films_without_a_portrait_of_their_view_are_left_out(dataset_folder: Path) -> None:
    plan = plan_matcher(dataset_folder)
    kept = tuple(
        row for row in plan.dataset.pictures if (row.kind, row.view) != ("face", "lateral")
    )

    task = MatcherTask(replace(plan, dataset=replace(plan.dataset, pictures=kept)))

    assert {*task.data.skulls.views} == {"frontal"}


def test_a_matcher_that_has_seen_those_held_out_is_refused(
    dataset_folder: Path, tmp_path: Path
) -> None:
    plan = plan_matcher(dataset_folder)
    task = MatcherTask(plan)
    checkpoint = run(task, tmp_path)
    leaky = replace(checkpoint, data=checkpoint.data | {"held_out": []})

    refuse_leak(checkpoint, plan, task.held_out)

    with pytest.raises(DataError, match="the matcher was trained on 1 people who are held out"):
        refuse_leak(leaky, plan, task.held_out)

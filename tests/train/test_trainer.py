from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fcr_edge import imaging
from fcr_edge.errors import ConfigError, DataError, DeviceError
from fcr_train.checkpoint import Checkpoint, load_checkpoint, read_tensors
from fcr_train.config import EmbedderConfig, Schedule, TranslatorConfig, load_preset
from fcr_train.dataset import read_dataset
from fcr_train.embedders import load_embedder
from fcr_train.tasks import EmbedderTask, Plan, TranslatorTask, rank_mates
from fcr_train.trainer import Progress, Streams, Turn, pick_device, train
from fcr_train.translators import load_generator

CPU = torch.device("cpu")


def plan_translator(folder: Path, model: str = "fastcut", seed: int = 1) -> Plan[TranslatorConfig]:
    config = load_preset(model, "tiny")
    assert isinstance(config, TranslatorConfig)
    config = replace(config, schedule=replace(config.schedule, steps_per_epoch=2))
    return Plan(model, "tiny", config, read_dataset(folder), seed, CPU)


def plan_embedder(folder: Path) -> Plan[EmbedderConfig]:
    config = load_preset("densenet121", "tiny")
    assert isinstance(config, EmbedderConfig)
    config = replace(config, schedule=replace(config.schedule, steps_per_epoch=2))
    return Plan("densenet121", "tiny", config, read_dataset(folder), 1, CPU)


class Interrupt(Exception):
    pass


def interrupt_in_epoch_2(progress: Progress) -> None:
    if progress.epoch == 2:
        raise Interrupt


def run(task: TranslatorTask | EmbedderTask, out: Path, **options: object) -> Checkpoint:
    return load_checkpoint(train(task, out, task.plan.seed, task.plan.identity, **options))


@pytest.fixture(scope="module")
def trained(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "fastcut"
    run(TranslatorTask(plan_translator(dataset_folder)), out)
    return out


def assert_equal_weights(first: Checkpoint, second: Checkpoint) -> None:
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name


def test_an_interrupted_translator_ends_bit_equal(
    dataset_folder: Path, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(Interrupt):
        run(
            TranslatorTask(plan_translator(dataset_folder)),
            tmp_path,
            observe=interrupt_in_epoch_2,
        )
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").step == 2

    resumed = run(TranslatorTask(plan_translator(dataset_folder)), tmp_path, resume=True)

    assert resumed.step == 4
    assert_equal_weights(resumed, load_checkpoint(trained / "checkpoint.safetensors"))
    assert (tmp_path / "losses.csv").read_text() == (trained / "losses.csv").read_text()


def test_an_interrupted_embedder_ends_bit_equal(dataset_folder: Path, tmp_path: Path) -> None:
    unbroken = run(EmbedderTask(plan_embedder(dataset_folder)), tmp_path / "unbroken")
    with pytest.raises(Interrupt):
        run(
            EmbedderTask(plan_embedder(dataset_folder)),
            tmp_path / "broken",
            observe=interrupt_in_epoch_2,
        )

    resumed = run(EmbedderTask(plan_embedder(dataset_folder)), tmp_path / "broken", resume=True)

    assert_equal_weights(resumed, unbroken)


def test_a_run_leaves_checkpoint_losses_and_samples(trained: Path) -> None:
    generator, checkpoint = load_generator(trained / "checkpoint.safetensors")

    assert (checkpoint.kind, checkpoint.model, checkpoint.step) == ("translator", "fastcut", 4)
    assert generator(torch.zeros(1, 1, 64, 64)).shape == (1, 3, 64, 64)
    with (trained / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["learning_rate"]) == pytest.approx(1e-4)
    assert {"gan", "nce", "discriminator"} <= rows[0].keys()


def test_the_sample_grid_shows_skull_generated_face_and_true_face(
    dataset_folder: Path, trained: Path
) -> None:
    task = TranslatorTask(plan_translator(dataset_folder))

    grid = imaging.read_picture(trained / "samples" / "epoch_0002.png")

    assert grid.shape == (3 * 64, 2 * 64, 3)  # one person held out, two views
    assert np.array_equal(grid[:64, :64, 0], task.sample_skulls.pixels[0, :, :, 0])
    assert np.array_equal(grid[128:, 64:], task.sample_faces.pixels[1])
    assert task.sample_faces.views == task.sample_skulls.views == ("frontal", "lateral")
    assert task.sample_faces.people == task.sample_skulls.people


def test_the_seed_decides_the_weights(dataset_folder: Path) -> None:
    first, same, other = (
        TranslatorTask(plan_translator(dataset_folder, seed=seed)).networks.state_dict()
        for seed in (1, 1, 2)
    )

    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["generator.layers.1.weight"], other["generator.layers.1.weight"])


def test_nobody_held_out_is_trained_on(dataset_folder: Path, trained: Path) -> None:
    translator, embedder = plan_translator(dataset_folder), plan_embedder(dataset_folder)

    for task in (TranslatorTask(translator), EmbedderTask(embedder)):
        albums = (
            task.albums if isinstance(task, EmbedderTask) else [task.data.skulls, task.data.faces]
        )
        for album in albums:
            assert not {*album.people} & {*task.held_out}
            assert len({*album.people} | {*task.held_out}) == 8
    checkpoint = load_checkpoint(trained / "checkpoint.safetensors")
    assert checkpoint.data["held_out"] == task.held_out


def test_generated_faces_join_their_person(dataset_folder: Path, trained: Path) -> None:
    translator = load_generator(trained / "checkpoint.safetensors")

    task = EmbedderTask(plan_embedder(dataset_folder), translator)

    portraits, generated = task.albums
    assert (len(portraits), len(generated)) == (28, 14)
    assert {*generated.people} == {*portraits.people}
    assert {*task.probes.people} == {*task.gallery.people} == {*task.held_out}
    assert len(task.gallery) == 2, "the second portrait of each view: the first is the film's"


def test_one_portrait_a_view_needs_a_translator(dataset_folder: Path) -> None:
    plan = plan_embedder(dataset_folder)
    first = tuple(row for row in plan.dataset.pictures if not row.path.stem.endswith("_2"))

    with pytest.raises(DataError, match="pass --translator"):
        EmbedderTask(replace(plan, dataset=replace(plan.dataset, pictures=first)))


def test_a_translator_that_has_seen_those_held_out_is_refused(
    dataset_folder: Path, trained: Path
) -> None:
    generator, checkpoint = load_generator(trained / "checkpoint.safetensors")
    leaky = replace(checkpoint, data=checkpoint.data | {"held_out": []})

    with pytest.raises(DataError, match="held out here"):
        EmbedderTask(plan_embedder(dataset_folder), (generator, leaky))


def test_a_batch_larger_than_the_people_shows_them_all(dataset_folder: Path) -> None:
    plan = plan_embedder(dataset_folder)
    schedule = replace(plan.config.schedule, batch_size=8)
    task = EmbedderTask(replace(plan, config=replace(plan.config, schedule=schedule)))

    batch = next(task.batches(Streams.of(1, 0)))

    assert len(set(batch["person"].tolist())) == 7


def test_a_finished_run_is_not_overwritten(dataset_folder: Path, trained: Path) -> None:
    with pytest.raises(DataError, match="already holds a training"):
        run(TranslatorTask(plan_translator(dataset_folder)), trained)


def test_a_run_is_not_resumed_with_other_settings(dataset_folder: Path, trained: Path) -> None:
    with pytest.raises(ConfigError, match=r"seed = 1, not 2"):
        run(TranslatorTask(plan_translator(dataset_folder, seed=2)), trained, resume=True)
    with pytest.raises(ConfigError, match=r"model = fastcut, not cut"):
        run(TranslatorTask(plan_translator(dataset_folder, model="cut")), trained, resume=True)


def test_nothing_to_resume_is_an_error(dataset_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no"):
        run(TranslatorTask(plan_translator(dataset_folder)), tmp_path, resume=True)


class Toy:
    """Fit a line by least squares; `spoil` makes the loss no number in the second epoch."""

    steps_per_epoch = 2
    device = CPU
    ema = 0.0

    def __init__(self, spoil: bool = False, **schedule: Any) -> None:
        settings = {"epochs": 3, "decay_epochs": 0, "batch_size": 4, "learning_rate": 0.1}
        self.schedule = Schedule(**settings | schedule)
        torch.manual_seed(0)
        self.networks = self.exported = nn.Linear(3, 1)
        parameters = self.networks.parameters()
        self.optimisers = {"only": torch.optim.SGD(parameters, self.schedule.learning_rate)}
        self.spoil, self.epochs = spoil, 0

    def batches(self, streams: Streams) -> Iterator[dict[str, torch.Tensor]]:
        self.epochs += 1
        for step in range(self.steps_per_epoch):
            given = torch.from_numpy(streams.numpy.normal(size=(4, 3)).astype(np.float32))
            wanted = given.sum(dim=1, keepdim=True)
            if self.spoil and self.epochs == 2 and step == 1:
                wanted = wanted * torch.nan
            yield {"given": given, "wanted": wanted}

    def turns(self, batch: dict[str, torch.Tensor], rng: torch.Generator) -> Iterator[Turn]:
        loss = (self.networks(batch["given"]) - batch["wanted"]).square().mean()
        yield Turn("only", {"loss": loss}, loss)

    def finish_epoch(self, epoch: int, out: Path, network: nn.Module) -> dict[str, float]:
        return {"measure": 0.5}

    def checkpoint(self, step: int, network: nn.Module) -> Checkpoint:
        return Checkpoint("translator", "cut", "tiny", {}, step, network.state_dict())


def test_a_loss_that_is_no_number_stops_keeps_the_last_epoch_and_the_batch(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'loss' became nan in step 4 \(epoch 2\)"):
        train(Toy(spoil=True), tmp_path, 1, {})

    assert load_checkpoint(tmp_path / "checkpoint.safetensors").step == 2
    batch, described = read_tensors(tmp_path / "diverged.safetensors", "fcr-diverged/1")
    assert batch["given"].shape == (4, 3)
    assert batch["wanted"].isnan().all()
    assert described["step"] == 4


def test_the_observer_hears_each_step_and_epoch(tmp_path: Path) -> None:
    heard: list[Progress] = []

    train(Toy(), tmp_path, 1, {}, observe=heard.append)

    first, second, end = heard[:3]
    assert (first.step, first.steps, first.epoch_ended) == (1, 6, False)
    assert second.figures["loss"] != first.figures["loss"], "the mean so far"
    assert end.epoch_ended
    assert end.figures == {"learning_rate": 0.1, "loss": second.figures["loss"], "measure": 0.5}


def test_parts_of_a_batch_teach_what_the_whole_teaches(tmp_path: Path) -> None:
    whole = train(Toy(), tmp_path / "whole", 1, {})
    parts = train(Toy(accumulate=2), tmp_path / "parts", 1, {})

    for name, tensor in load_checkpoint(whole).tensors.items():
        torch.testing.assert_close(tensor, load_checkpoint(parts).tensors[name])


def test_the_running_mean_is_kept_and_resumed(tmp_path: Path) -> None:
    class Averaged(Toy):
        ema = 0.5

    plain = load_checkpoint(train(Toy(epochs=1), tmp_path / "plain", 1, {}))
    mean = load_checkpoint(train(Averaged(epochs=1), tmp_path / "mean", 1, {}))
    with pytest.raises(Interrupt):
        train(Averaged(), tmp_path / "broken", 1, {}, observe=interrupt_in_epoch_2)
    resumed = load_checkpoint(train(Averaged(), tmp_path / "broken", 1, {}, resume=True))
    unbroken = load_checkpoint(train(Averaged(), tmp_path / "unbroken", 1, {}))

    steps = []  # the weights after each of the two steps, by hand
    toy = Toy(epochs=1)
    for batch in toy.batches(Streams.of(1, 0)):
        next(toy.turns(batch, torch.Generator())).objective.backward()
        toy.optimisers["only"].step()
        toy.optimisers["only"].zero_grad()
        steps.append(toy.networks.weight.detach().clone())
    torch.testing.assert_close(plain.tensors["weight"], steps[1])
    torch.testing.assert_close(mean.tensors["weight"], (steps[0] + steps[1]) / 2)
    assert_equal_weights(resumed, unbroken)


def test_memory_that_runs_out_names_the_settings_to_lower(tmp_path: Path) -> None:
    class Hungry(Toy):
        def turns(self, batch: dict[str, torch.Tensor], rng: torch.Generator) -> Iterator[Turn]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(DeviceError, match=r"batch_size 4 .* raise schedule.accumulate"):
        train(Hungry(), tmp_path, 1, {})


def test_a_batch_that_the_parts_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"accumulate is 3, which does not divide .* 4"):
        Toy(accumulate=3)


def test_the_log_is_kept_for_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(Toy(), tmp_path, 1, {})

    log = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in log.Scalars("loss")] == [2, 4, 6]


@pytest.mark.parametrize("precision", ["bfloat16"])
def test_lower_precision_computes_the_step_and_keeps_weights_in_single(
    tmp_path: Path, precision: str
) -> None:
    class Watching(Toy):
        def turns(self, batch: dict[str, torch.Tensor], rng: torch.Generator) -> Iterator[Turn]:
            assert self.networks(batch["given"]).dtype == torch.bfloat16
            yield from super().turns(batch, rng)

    checkpoint = load_checkpoint(train(Watching(precision=precision), tmp_path, 1, {}))

    assert checkpoint.tensors["weight"].dtype == torch.float32


def test_streams_differ_by_seed_and_epoch_only() -> None:
    draws = {
        (seed, epoch): (
            Streams.of(seed, epoch).numpy.integers(1 << 30),
            torch.rand(1, generator=Streams.of(seed, epoch).torch).item(),
        )
        for seed in (1, 2)
        for epoch in (0, 1)
    }

    assert len(set(draws.values())) == 4
    assert draws[1, 0][0] == Streams.of(1, 0).numpy.integers(1 << 30)


def slow_ranks(
    probes: np.ndarray, names: list[str], gallery: np.ndarray, people: list[str]
) -> list[int]:
    ranks = []
    for probe, name in zip(probes, names, strict=True):
        best: dict[str, float] = {}
        for vector, person in zip(gallery, people, strict=True):
            best[person] = max(best.get(person, -2.0), float(probe @ vector))
        ranks.append(1 + sum(best[person] >= best[name] for person in best if person != name))
    return ranks


def test_ranks_equal_the_slow_version_by_best_picture() -> None:
    rng = np.random.default_rng(0)
    probes = rng.normal(size=(9, 4)).astype(np.float32)
    gallery = rng.normal(size=(12, 4)).astype(np.float32)
    names, people = list("abcdefabc"), list("aabbccddeeff")

    ranks = rank_mates(torch.from_numpy(probes), names, torch.from_numpy(gallery), people)

    assert ranks.tolist() == slow_ranks(probes, names, gallery, people)


def test_a_collapsed_embedder_finds_nobody() -> None:
    same = torch.ones(4, 2)

    assert rank_mates(same, list("abcd"), same, list("abcd")).tolist() == [4, 4, 4, 4]


def test_an_unknown_or_missing_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert pick_device("auto") == CPU
    with pytest.raises(DeviceError, match="no CUDA"):
        pick_device("cuda")
    with pytest.raises(DeviceError, match="auto, cpu, cuda"):
        pick_device("tpu")


@pytest.fixture(scope="module")
def embedded(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "embedder"
    run(EmbedderTask(plan_embedder(dataset_folder)), out)
    return out / "checkpoint.safetensors"


def test_an_embedder_may_judge_whether_a_face_is_the_persons_own(
    dataset_folder: Path, embedded: Path, tmp_path: Path
) -> None:
    plan = plan_translator(dataset_folder)
    plan = replace(plan, config=replace(plan.config, lambda_embedding=1.0))

    run(TranslatorTask(plan, identity=load_embedder(embedded)), tmp_path / "judged")

    with (tmp_path / "judged" / "losses.csv").open(newline="") as file:
        assert 0 < float(next(csv.DictReader(file))["embedding"]) <= 2
    assert not [
        name
        for name in load_checkpoint(tmp_path / "judged" / "checkpoint.safetensors").tensors
        if "embedder" in name
    ], "only the generator is kept"
    with pytest.raises(ConfigError, match="no embedder to measure"):
        TranslatorTask(plan)


def test_a_judge_that_has_seen_those_held_out_is_refused(
    dataset_folder: Path, embedded: Path
) -> None:
    embedder, checkpoint = load_embedder(embedded)
    leaky = replace(checkpoint, data=checkpoint.data | {"held_out": []})
    plan = plan_translator(dataset_folder)
    plan = replace(plan, config=replace(plan.config, lambda_embedding=1.0))

    with pytest.raises(DataError, match="the embedder was trained on"):
        TranslatorTask(plan, identity=(embedder, leaky))


def test_an_encoder_may_start_where_another_training_ended(
    dataset_folder: Path, trained: Path
) -> None:
    source = load_checkpoint(trained / "checkpoint.safetensors").tensors

    task = TranslatorTask(
        plan_translator(dataset_folder, "cut"), encoder=trained / "checkpoint.safetensors"
    )

    started = task.exported.state_dict()
    equal = [name for name in source if torch.equal(source[name], started[name])]
    assert "layers.1.weight" in equal
    assert any(name not in equal for name in source), "the decoder starts anew"


def test_a_run_is_not_resumed_with_another_network_beside_it(
    dataset_folder: Path, tmp_path: Path
) -> None:
    plan = replace(plan_embedder(dataset_folder), sources={"translator": "0" * 64})
    with pytest.raises(Interrupt):
        run(EmbedderTask(plan), tmp_path, observe=interrupt_in_epoch_2)

    with pytest.raises(ConfigError, match="sources"):
        run(EmbedderTask(replace(plan, sources={})), tmp_path, resume=True)

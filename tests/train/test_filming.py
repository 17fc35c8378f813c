from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fcr_edge import pose
from fcr_edge.errors import ConfigError, DataError
from fcr_edge.looks import VALUES, read_answer
from fcr_edge.pose import LANDMARKS, STANDARD
from fcr_edge.understanding import LIMITS
from fcr_train.checkpoint import load_checkpoint
from fcr_train.cli import app
from fcr_train.config import FilmConfig, load_preset
from fcr_train.dataset import read_dataset
from fcr_train.film_network import FilmNetwork, load_film_network
from fcr_train.film_pictures import (
    ASKED,
    OTHER_SIDE,
    Film,
    draw_film,
    draw_two_heads,
    stretch,
)
from fcr_train.film_strangers import STRANGERS, draw_stranger
from fcr_train.landmarks import read_landmarks
from fcr_train.tasks import FilmTask, Plan, filming
from fcr_train.trainer import train

CPU = torch.device("cpu")
SIZE = 64


def tiny(**changes: object) -> FilmConfig:
    config = load_preset("film", "tiny")
    assert isinstance(config, FilmConfig)
    return replace(config, **changes)


@pytest.fixture(scope="module")
def data(
    write_people: Callable[[Path, int], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Drawn people with films and a table of landmarks where the standard head has them."""
    folder = write_people(tmp_path_factory.mktemp("films"), 8)
    lines = ["person,view,landmark,side,bone_column,bone_row"]
    rows = read_dataset(folder).pictures
    for person, view in {row.pair for row in rows if row.kind == "skull"}:
        for name, place in zip(LANDMARKS, STANDARD["frontal"] * 96 / 256 - 0.5, strict=True):
            landmark, _, side = (
                name.rpartition(" ") if name[-4:] in ("left", "ight") else (name,) * 3
            )
            side = side if side in ("left", "right") else "midline"
            lines.append(f"{person},{view},{landmark},{side},{place[0]:.2f},{place[1]:.2f}")
    folder.joinpath("landmarks.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(autouse=True)
def few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filming, "CHECKS", 40)


def plan_film(folder: Path, config: FilmConfig | None = None) -> Plan[FilmConfig]:
    return Plan("film", "tiny", config or tiny(), read_dataset(folder), 1, CPU)


def make_task(folder: Path, config: FilmConfig | None = None) -> FilmTask:
    return FilmTask(plan_film(folder, config), read_landmarks(folder))


def spot_film(view: pose.View) -> Film:
    """A film that is bright only around one landmark of the left side."""
    pixels = np.full((256, 256), 20, np.uint8)
    column, row = STANDARD[view][LANDMARKS.index("zygion left")].astype(int)
    pixels[row - 12 : row + 12, column - 12 : column + 12] = 255
    return Film(pixels, STANDARD[view], view)


def test_landmarks_are_read_from_the_corner_of_the_film(data: Path) -> None:
    places = read_landmarks(data)

    frontal = next(found for pair, found in places.items() if pair[1] == "frontal")

    np.testing.assert_allclose(frontal, STANDARD["frontal"] * 96 / 256, atol=0.01)


def test_landmarks_of_a_lateral_film_are_the_middle_of_both_sides(data: Path) -> None:
    lateral = next(found for pair, found in read_landmarks(data).items() if pair[1] == "lateral")

    left, right = (LANDMARKS.index(f"gonion {side}") for side in ("left", "right"))
    np.testing.assert_array_equal(lateral[left], lateral[right])


def test_missing_landmarks_are_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fcr-train simulate"):
        read_landmarks(tmp_path)


def test_each_landmark_and_its_counterpart_change_sides() -> None:
    for number, other in enumerate(OTHER_SIDE):
        assert OTHER_SIDE[other] == number
        assert ("left" in LANDMARKS[number]) == ("right" in LANDMARKS[other])


@pytest.mark.parametrize("view", pose.VIEWS)
def test_the_places_of_an_example_lie_on_its_picture(view: pose.View) -> None:
    rng, hits = np.random.default_rng(3), []
    for _ in range(60):
        made = draw_film(spot_film(view), SIZE, rng)
        if made.places is None or made.findings.get("cropped") != 0:
            continue
        spots = [LANDMARKS.index(f"zygion {side}") for side in ("left", "right")]
        columns, rows = (made.places[spots] * SIZE).astype(int).clip(0, SIZE - 1).T
        brightest = np.percentile(made.picture, 95)
        # A mirrored frontal film has its bright spot on the other side.
        hits.append(made.picture[rows, columns].max() >= 0.9 * brightest)
    assert len(hits) > 10
    assert np.mean(hits) > 0.8  # a collimator may cover the spot


def test_a_stretched_film_takes_its_landmarks_along() -> None:
    pixels = np.zeros((200, 150), np.uint8)
    pixels[80:86, 100:106] = 255
    places = np.full((len(LANDMARKS), 2), np.nan)
    places[0] = (103, 83)
    moves = []

    for seed in range(20):
        made = stretch(Film(pixels, places, "lateral"), np.random.default_rng(seed))
        spot = np.argwhere(made.pixels > 128).mean(axis=0) + 0.5
        assert made.places[0] == pytest.approx(spot[::-1], abs=1)
        assert np.isnan(made.places[1:]).all()
        moves.append(made.places[0] - places[0])

    assert np.std(moves, axis=0).min() > 3


def test_what_an_example_asks_is_what_was_done_to_it() -> None:
    rng = np.random.default_rng(1)
    made = [draw_film(spot_film("lateral"), SIZE, rng) for _ in range(80)]

    assert {one.turn for one in made} == {0, 1, 2, 3}
    assert all(one.findings["lateral"] == 1 for one in made)
    for one in made:
        lies = one.turn or one.findings["mirrored"] or one.findings["inverted"]
        assert (one.places is None) == bool(lies)


def test_of_a_frontal_film_mirroring_is_not_asked() -> None:
    rng = np.random.default_rng(1)

    made = [draw_film(spot_film("frontal"), SIZE, rng) for _ in range(20)]

    assert all("mirrored" not in one.findings for one in made)


def test_two_heads_are_two_heads() -> None:
    made = draw_two_heads(
        spot_film("lateral"), spot_film("lateral"), SIZE, np.random.default_rng(1)
    )

    assert made.findings["two heads"] == 1
    assert made.places is None


@pytest.mark.parametrize("draw", dict.fromkeys(STRANGERS), ids=lambda draw: draw.__name__)
def test_every_stranger_shows_something(draw: Callable[..., np.ndarray]) -> None:
    levels = draw(SIZE, np.random.default_rng(2))

    assert levels.shape == (SIZE, SIZE)
    assert levels.dtype == np.float32
    assert np.isfinite(levels).all()
    assert np.ptp(levels) > 0.05


def test_strangers_lie_between_black_and_white() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        levels = draw_stranger(SIZE, rng)
        assert (levels.min(), levels.max()) == (0, 1)


def test_the_network_answers_everything_it_is_asked() -> None:
    network = FilmNetwork(tiny()).eval()

    answers = network(torch.zeros(2, 1, 32, 32))

    assert answers.shape == (2, len(VALUES))
    answer = read_answer(answers[0].detach().numpy(), VALUES)
    assert sum(answer.probability[turn] for turn in VALUES[:4]) == pytest.approx(1)
    assert (answer.errors > 0).all()


def test_votes_that_agree_on_a_place_outside_give_that_place() -> None:
    network = FilmNetwork(tiny(size=64)).eval()
    cells = network.grid.shape[1]
    votes = torch.zeros(1, len(LANDMARKS), 4, cells)
    votes[:, :, 0] = 1.25 - network.grid[0]
    votes[:, :, 1] = -0.1 - network.grid[1]
    side = math.isqrt(cells)

    counted = network._count(votes.reshape(1, -1, side, side)).reshape(len(LANDMARKS), 3)

    torch.testing.assert_close(counted[:, 0], torch.full((len(LANDMARKS),), 1.25))
    torch.testing.assert_close(counted[:, 1], torch.full((len(LANDMARKS),), -0.1))


def test_findings_that_are_not_asked_cost_nothing() -> None:
    logits = torch.randn(4, len(ASKED), requires_grad=True)
    wanted = torch.full((4, len(ASKED)), torch.nan)
    wanted[0, 0] = 1

    filming.compare_findings(logits, wanted).backward()

    assert logits.grad is not None
    assert logits.grad[0, 0] < 0
    assert logits.grad.abs().sum() == logits.grad[0, 0].abs()


def test_the_error_that_costs_least_is_the_distance() -> None:
    """The Laplace likelihood of a distance d is largest where the width is d."""
    distance = 0.05
    wanted = torch.zeros(1, 1, 2)

    def cost(error: float) -> float:
        answers = torch.tensor([[distance, 0.0, math.log(error)]])
        return float(filming.compare_places(answers, wanted))

    costs = {error: cost(error) for error in (0.02, 0.04, 0.05, 0.06, 0.1)}
    assert min(costs, key=costs.__getitem__) == distance


def test_training_writes_a_checkpoint_with_limits(data: Path, tmp_path: Path) -> None:
    task = make_task(data)

    path = train(task, tmp_path, task.plan.seed, task.plan.identity)

    checkpoint = load_checkpoint(path)
    assert checkpoint.data["limits"].keys() == LIMITS.keys()
    network, _ = load_film_network(path)
    assert isinstance(network, FilmNetwork)


def test_a_resumed_training_ends_as_an_unbroken_one(data: Path, tmp_path: Path) -> None:
    config = tiny(schedule=tiny().schedule.stretched(2), ema=0.5)
    whole = make_task(data, config)
    train(whole, tmp_path / "whole", 1, whole.plan.identity)

    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        if getattr(progress, "epoch_ended", False):
            raise Stop

    first = make_task(data, config)
    with pytest.raises(Stop):
        train(first, tmp_path / "parts", 1, first.plan.identity, observe=stop)
    second = make_task(data, config)
    train(second, tmp_path / "parts", 1, second.plan.identity, resume=True)

    one, other = (
        load_checkpoint(tmp_path / name / "checkpoint.safetensors").tensors
        for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_training_lowers_the_loss(data: Path) -> None:
    task = make_task(data, tiny(size=32, width=8))
    batch = filming.stack([task._draw(task.films, np.random.default_rng(1)) for _ in range(16)])
    rng, objectives = torch.Generator(), []
    for _ in range(25):
        turn = next(task.turns(batch, rng))
        turn.objective.backward()
        task.optimisers["film"].step()
        task.optimisers["film"].zero_grad()
        objectives.append(float(turn.objective.detach()))

    assert objectives[-1] < objectives[0] - 0.5


def test_people_held_out_are_named(data: Path) -> None:
    task = make_task(data)

    assert task.held_out
    assert {*task.held_out} < {*task.plan.dataset.names}


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 16"):
        tiny(size=40)


def test_the_command_trains_with_portraits_of_another_dataset(
    data: Path, write_people: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    write_people(faces, 3)
    options = ["--preset", "tiny", "--faces", str(faces), "--out", str(tmp_path / "run")]

    done = CliRunner().invoke(app, ["film", "--data", str(data), *options])

    assert done.exit_code == 0, done.output
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").kind == "film"

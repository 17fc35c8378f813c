"""The soft-tissue remover learns on films with their skull and bone, and says how sure it is."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from typer.testing import CliRunner

from fcr_edge import film, imaging
from fcr_edge.errors import ConfigError, DataError
from fcr_train.checkpoint import load_checkpoint
from fcr_train.cli import app
from fcr_train.config import MatcherConfig, SuppressorConfig, load_preset, parse, to_table
from fcr_train.dataset import read_dataset
from fcr_train.layers import layer_batches, load_layers, spoil, window
from fcr_train.losses import laplace, ms_ssim
from fcr_train.suppressor import HALF_CONFIDENCE, SuppressorUnet, load_suppressor
from fcr_train.tasks import Plan, SuppressorTask
from fcr_train.tasks.suppression import find_floor, measure
from fcr_train.trainer import CHECKPOINT_FILE, STATE_FILE, Streams, train

SIDE = 96
PEOPLE = 6
SAME = 1e-5
"""A grey level is 4e-3; sums of some hundred floats differ by less than this."""


@pytest.fixture(scope="module")
def layers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn people: a ring of bone in a ball of soft tissue, its film, skull and bone."""
    folder = tmp_path_factory.mktemp("layers")
    (folder / "images").mkdir()
    people, images = [], []
    for number in range(PEOPLE):
        people.append((f"p{number}", "female", 30, 24))
        for view in ("frontal", "lateral"):
            for kind, picture in draw_layers(number).items():
                file = f"images/p{number}_{view}_{kind}.png"
                imaging.write_png(folder / file, picture)
                images.append((f"p{number}", view, kind, file, "0" * 64))
    for name, columns, rows in (
        ("people", ("person", "sex", "age", "bmi"), people),
        ("images", ("person", "view", "kind", "file", "sha256"), images),
    ):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    described = {"schema": "fcr-dataset/1", "generator": "fcr-simulate"}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def draw_layers(number: int) -> dict[str, np.ndarray]:
    """The film's first columns are collimated, its skull and bone are not."""
    y, x = (np.mgrid[:SIDE, :SIDE] - SIDE / 2) / (SIDE / 2)
    radius = np.hypot(x / (0.7 + 0.02 * number), y / 0.8)
    bone = np.exp(-(((radius - 0.8) / 0.08) ** 2))
    soft = 0.3 * (radius < 1.05)
    film_level = (0.05 + bone + soft).clip(0, 1) * (np.arange(SIDE) >= 6)
    levels = {"xray": film_level, "skull": bone * (radius < 1), "bone": 0.6 * bone}
    return {kind: np.rint(255 * level).astype(np.uint8) for kind, level in levels.items()}


@pytest.fixture(scope="module")
def config() -> SuppressorConfig:
    config = load_preset("suppressor", "tiny")
    assert isinstance(config, SuppressorConfig)
    return config


def make_plan(folder: Path, config: SuppressorConfig) -> Plan[SuppressorConfig]:
    dataset = read_dataset(folder)
    return Plan("suppressor", "tiny", config, dataset, 1, torch.device("cpu"))


def test_what_collimation_hides_is_black_in_skull_and_bone(layers_folder: Path) -> None:
    dataset = read_dataset(layers_folder)

    album = load_layers(dataset, SIDE)

    assert album.pixels.shape == (2 * PEOPLE, SIDE, SIDE, 3)
    assert not album.pixels[:, :, :6].any()
    assert np.array_equal(album.pixels[0, :, 6:, 2], draw_layers(0)["bone"][:, 6:])


def test_a_film_without_its_bone_is_refused(layers_folder: Path) -> None:
    dataset = read_dataset(layers_folder)
    pictures = [row for row in dataset.pictures if row.kind != "bone" or row.view == "frontal"]
    object.__setattr__(dataset, "pictures", tuple(pictures))

    with pytest.raises(DataError, match="no picture of kind 'bone' beside it"):
        load_layers(dataset, SIDE)


def test_film_and_layers_are_moved_alike(
    layers_folder: Path, config: SuppressorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcr_train.layers.UNSPOILED", 1.0)
    album = load_layers(read_dataset(layers_folder), SIDE)
    same = np.repeat(album.pixels[..., :1], 3, axis=3)  # skull and bone are the film itself
    object.__setattr__(album, "pixels", same)

    for batch in layer_batches(album, config, 3, Streams.of(1, 0)):
        moved = window(batch["layers"][:, :1])
        assert torch.allclose(batch["film"], moved, atol=SAME)


def test_the_same_streams_give_the_same_batches(
    layers_folder: Path, config: SuppressorConfig
) -> None:
    album = load_layers(read_dataset(layers_folder), SIDE)

    one, other = (
        [batch["film"] for batch in layer_batches(album, config, 2, Streams.of(5, 1))]
        for _ in range(2)
    )

    assert torch.equal(torch.cat(one), torch.cat(other))


@pytest.mark.parametrize("seed", range(6))
def test_a_spoiled_film_stays_a_film_and_says_what_it_shows(seed: int) -> None:
    level = draw_layers(1)["xray"] / 255

    spoiled, shown = spoil(level, 0.3, np.random.default_rng(seed))

    assert spoiled.shape == shown.shape == level.shape
    assert 0 <= spoiled.min() < spoiled.max() <= 1
    assert {*np.unique(shown)} <= {0.0, 1.0}
    assert not spoiled[shown == 0].any()
    assert shown.mean() > 0.5


def test_films_are_windowed_as_in_the_field() -> None:
    pixels = draw_layers(2)["xray"]

    windowed = window(torch.from_numpy(pixels)[None, None] / 255)

    assert np.abs(255 * windowed[0, 0].numpy() - film.spread_levels(pixels)).max() < 1


def test_ms_ssim_is_that_of_its_formula() -> None:
    rng = np.random.default_rng(1)
    first = ndimage.gaussian_filter(rng.random((192, 200)), 1)
    second = (first + 0.1 * rng.standard_normal(first.shape)).clip(0, 1)

    value = ms_ssim(*(torch.from_numpy(one)[None, None] for one in (first, second)))

    assert value.item() == pytest.approx(slow_ms_ssim(first, second), abs=1e-4)
    assert ms_ssim(value.new_ones(1, 1, 176, 176), value.new_ones(1, 1, 176, 176)).item() == 1


def slow_ms_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2003 with SciPy's filters, in 64 bits, scale by scale."""
    product = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):

        def mean(values: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(values, 1.5, truncate=3.4)[5:-5, 5:-5]

        mean_1, mean_2 = mean(first), mean(second)
        variances = mean(first**2) - mean_1**2 + mean(second**2) - mean_2**2
        covariance = mean(first * second) - mean_1 * mean_2
        likeness = (2 * covariance + 0.03**2) / (variances + 0.03**2)
        if scale == 4:
            means = mean_1**2 + mean_2**2
            likeness *= (2 * mean_1 * mean_2 + 0.01**2) / (means + 0.01**2)
        product *= likeness.mean() ** weight
        rows, columns = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
        first, second = (
            one[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))
            for one in (first, second)
        )
    return product


def test_the_likelihood_is_best_where_the_scale_is_the_error() -> None:
    error = torch.full((4,), 0.1)
    scales = torch.linspace(0.02, 0.3, 57)

    losses = torch.stack([laplace(error, scale.expand(4)) for scale in scales])

    assert scales[losses.argmin()].item() == pytest.approx(0.1, abs=0.006)


def test_confidence_is_one_half_where_eight_levels_are_expected_and_falls_with_doubt(
    config: SuppressorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SuppressorUnet(config).eval()
    doubt = torch.tensor([0.0, 1.0, 4.0]).view(1, 1, 1, 3) * HALF_CONFIDENCE
    monkeypatch.setattr(network, "separate", lambda film: (torch.full((1, 2, 1, 3), 2.0), doubt))

    layers = network(torch.zeros(1, 1, 1, 3))

    assert layers[0, 2, 0].tolist() == pytest.approx([1, 0.5, 0.2])
    assert layers[:, :2].max() == 1


def test_doubt_teaches_the_pictures_nothing(config: SuppressorConfig) -> None:
    network = SuppressorUnet(config)
    pictures, doubt = network.separate(torch.rand(2, 1, 32, 32))

    laplace(pictures.mean(dim=1, keepdim=True), doubt).backward()

    taught = {
        name.split(".")[0] for name, one in network.named_parameters() if one.grad is not None
    }
    assert taught == {"doubt"}


def test_any_film_fits_whose_sides_can_be_halved(config: SuppressorConfig) -> None:
    network = SuppressorUnet(config).eval()

    layers = network(torch.rand(1, 1, 20, 36))

    assert layers.shape == (1, 3, 20, 36)
    assert 0 <= layers.min() <= layers.max() <= 1


def test_figures_of_a_perfect_and_of_a_wrong_picture() -> None:
    target = torch.rand(2, 2, 176, 176) * 0.5
    layers = torch.cat([target, torch.rand(2, 1, 176, 176)], dim=1)
    layers[:, 1] += 0.1  # the bone is off by a tenth everywhere

    figures = measure(layers, target)

    assert figures["skull_mae"] == 0
    assert figures["bone_mae"] == pytest.approx(0.1)
    assert figures["bone_psnr"] == pytest.approx(20)
    assert figures["skull_ms_ssim"] == pytest.approx(1)


def test_the_floor_is_where_black_stops_being_nearer() -> None:
    truth = torch.zeros(1, 16, 16)
    truth[:, 8:] = 0.5
    drawn = truth.clone()
    drawn[:, :8] = torch.linspace(0, 10, 128).reshape(8, 16) / 255  # residue of up to 10 levels
    drawn[:, 8] = 12 / 255  # structure drawn too faint: black would be worse

    assert find_floor(drawn, truth) == 11
    assert find_floor(truth, truth) == 0


def test_training_learns_resumes_and_keeps_the_limit(
    layers_folder: Path, config: SuppressorConfig, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    plan = make_plan(layers_folder, config)
    train(SuppressorTask(plan), whole, 1, plan.identity)

    def stop(progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SuppressorTask(plan), broken, 1, plan.identity, observe=stop)
    train(SuppressorTask(plan), broken, 1, plan.identity, resume=True)

    one, other = (load_checkpoint(folder / CHECKPOINT_FILE) for folder in (whole, broken))
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    assert one.data["least_confidence"] == other.data["least_confidence"]
    assert 0 < one.data["least_confidence"] < 1
    assert one.data["skull_floor"] == other.data["skull_floor"]
    assert 0 <= one.data["bone_floor"] <= 255
    assert one.data["films"] == "xray"
    assert (whole / STATE_FILE).exists()
    assert imaging.read_picture(whole / "samples" / "epoch_0002.png").shape == (6 * 176, 2 * 176)


def test_command_trains_and_the_checkpoint_rebuilds(layers_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["suppressor", "--data", str(layers_folder), "--preset", "tiny", "--epochs", "1"]

    result = CliRunner().invoke(app, [*command, "--out", str(out)], catch_exceptions=False)

    assert result.exit_code == 0
    network, checkpoint = load_suppressor(out / CHECKPOINT_FILE)
    assert checkpoint.kind == "suppressor"
    assert checkpoint.step == 2
    assert not network.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"size": 128}, "size is 128", id="too small for MS-SSIM"),
        pytest.param({"size": 177}, "multiple of 4", id="cannot be halved"),
        pytest.param({"widths": [8]}, "two or more", id="no U"),
        pytest.param({"ms_ssim_share": 1.5}, "ms_ssim_share", id="share above one"),
    ],
)
def test_settings_out_of_range_are_refused(
    config: SuppressorConfig, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(SuppressorConfig, to_table(config) | change)


def test_no_training_takes_skulls_from_a_network() -> None:
    table = to_table(load_preset("two_tower", "tiny"))

    with pytest.raises(ConfigError, match="skulls cut out by hand"):
        parse(MatcherConfig, table | {"soft_tissue": "learned-1"})

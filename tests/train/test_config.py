from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from fcr_edge.errors import ConfigError
from fcr_train.config import (
    CONFIGS,
    PRESETS,
    CutConfig,
    Schedule,
    load_file,
    load_preset,
    parse,
    to_table,
    tomllib,
)

FASTCUT_DIFFERS_IN = {
    "lambda_nce",
    "lambda_identity",
    "flip_equivariance",
    "schedule.epochs",
    "schedule.decay_epochs",
}


def read_flat(preset: str, model: str) -> dict[str, Any]:
    file = resources.files("fcr_train") / "configs" / preset / f"{model}.toml"
    table = tomllib.loads(file.read_text())
    flat = {key: value for key, value in table.items() if not isinstance(value, dict)}
    for section, values in table.items():
        if isinstance(values, dict):
            flat |= {f"{section}.{key}": value for key, value in values.items()}
    return flat


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("model", CONFIGS)
def test_presets_load_and_survive_a_checkpoint(model: str, preset: str) -> None:
    config = load_preset(model, preset)

    assert parse(type(config), to_table(config)) == config


@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_fastcut_differs_from_cut_in_its_own_numbers_only(preset: str) -> None:
    cut, fastcut = read_flat(preset, "cut"), read_flat(preset, "fastcut")

    assert cut.keys() == fastcut.keys()
    differing = {key for key in cut if cut[key] != fastcut[key]}
    assert differing <= FASTCUT_DIFFERS_IN
    assert differing >= {"lambda_nce", "lambda_identity", "flip_equivariance"}


def test_paper_presets_state_the_published_numbers() -> None:
    cut, fastcut = load_preset("cut", "paper"), load_preset("fastcut", "paper")

    assert isinstance(cut, CutConfig)
    assert isinstance(fastcut, CutConfig)
    assert (cut.lambda_nce, cut.lambda_identity, cut.schedule.total) == (1, 1, 400)
    assert (fastcut.lambda_nce, fastcut.lambda_identity, fastcut.schedule.total) == (10, 0, 200)
    for config in (cut, fastcut):
        assert (config.size, config.generator.ngf, config.generator.blocks) == (256, 64, 9)
        assert (config.patch_nce.num_patches, config.patch_nce.temperature) == (256, 0.07)
        assert config.patch_nce.layers == (0, 4, 8, 12, 16)
        assert (config.schedule.learning_rate, config.schedule.beta1) == (2e-4, 0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"lambda_ncee": 1.0}, ["lambda_ncee", "lambda_nce"], id="unknown key"),
        pytest.param({"size": 65}, ["size", "65", "4"], id="size"),
        pytest.param({"size": "64"}, ["size", "'64'", "int"], id="type"),
        pytest.param({"lambda_nce": -1.0}, ["lambda_nce", "-1", "at least 0"], id="range"),
        pytest.param({"lambda_nce": float("nan")}, ["lambda_nce", "nan"], id="not a number"),
        pytest.param({"flip_equivariance": 1}, ["flip_equivariance", "bool"], id="flag"),
        pytest.param({"soft_tissue": "magic"}, ["magic", "none", "classical-1"], id="recipe"),
        pytest.param({"generator": {"blocks": 8}}, ["generator.ngf", "missing"], id="missing"),
        pytest.param(
            {"generator": {"ngf": 8, "architecture": "vit"}},
            ["'vit'", "resnet, unet"],
            id="choice",
        ),
        pytest.param({"conditions": ["sex", "height"]}, ["height", "sex, age, bmi"], id="told"),
        pytest.param({"ema": 1.0}, ["ema", "below 1"], id="mean"),
        pytest.param(
            {"generator": {"ngf": 8, "blocks": 4}}, ["layer 16", "15"], id="layer past the encoder"
        ),
        pytest.param({"patch_nce": {"layers": [8, 4]}}, ["[8, 4]", "ascending"], id="layers"),
        pytest.param(
            {"schedule": {"epochs": 0, "decay_epochs": 0, "batch_size": 1, "learning_rate": 1}},
            ["schedule.epochs", "at least 1"],
            id="no epoch",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    change: dict[str, Any], words: list[str]
) -> None:
    table = to_table(load_preset("fastcut", "tiny")) | change

    with pytest.raises(ConfigError) as caught:
        parse(CutConfig, table)

    for word in words:
        assert word in str(caught.value)


def test_an_unknown_model_or_preset_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'pix3pix'.*cut, fastcut, vgg16"):
        load_preset("pix3pix", "tiny")
    with pytest.raises(ConfigError, match=r"'large'.*paper, small, tiny"):
        load_preset("cut", "large")


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("size = = 3")

    with pytest.raises(ConfigError, match=r"mine\.toml"):
        load_file("cut", path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_file("cut", tmp_path / "missing.toml")


def test_learning_rate_is_constant_then_falls_linearly() -> None:
    schedule = Schedule(epochs=3, decay_epochs=3, batch_size=1, learning_rate=1.0)

    rates = [schedule.rate_at(epoch) for epoch in range(schedule.total)]

    assert rates == pytest.approx([1, 1, 1, 0.75, 0.5, 0.25])


def test_a_stretched_schedule_keeps_its_share_of_decay() -> None:
    schedule = Schedule(epochs=150, decay_epochs=50, batch_size=1, learning_rate=2e-4)

    stretched = schedule.stretched(8)

    assert (stretched.epochs, stretched.decay_epochs) == (6, 2)
    assert schedule.stretched(1).total == 1

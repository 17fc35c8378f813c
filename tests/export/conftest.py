"""Drawn films, and one bundle exported from untrained networks for all tests that look at one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.build import Form, build_bundle
from fcr_edge import imaging
from fcr_edge.bundle import Bundle
from fcr_train.checkpoint import Checkpoint, save_checkpoint
from fcr_train.config import TranslatorConfig, load_preset, to_table
from fcr_train.embedders import FaceEmbedder
from fcr_train.networks import build_generator

DATA = {"sha256": "d" * 64, "people": 8, "held_out": ["p00001", "p00002"], "seed": 1}
SIDE = 128


def draw_film(width: float, path: Path) -> Path:
    """Draw a vault, a jaw and teeth over soft tissue, as wide as given, with film grain."""
    y, x = (np.mgrid[:SIDE, :SIDE] - SIDE / 2) / (SIDE / 2)
    vault = np.exp(-(((np.hypot(x / width, (y + 0.2) / 0.6) - 1) / 0.08) ** 2))
    jaw = np.exp(-(((np.hypot(x / (0.7 * width), (y - 0.3) / 0.5) - 1) / 0.1) ** 2)) * (y > 0.2)
    teeth = (np.abs(y - 0.45) < 0.06) * (np.abs(x) < 0.3 * width) * (np.sin(40 * x) > 0)
    soft = 0.3 * np.exp(-((np.hypot(x / (1.2 * width), y / 0.9) / 1.1) ** 6))
    grain = np.random.default_rng(round(100 * width)).normal(0, 0.01, vault.shape)
    levels = (soft + 0.5 * vault + 0.4 * jaw + 0.2 * teeth + grain).clip(0, 1)
    imaging.write_png(path, np.rint(255 * levels).astype(np.uint8))
    return path


def _save_translator(
    path: Path, model: str, conditions: tuple[str, ...] = (), dropout: float = 0.0
) -> Path:
    """Write the checkpoint of an untrained translator of the smallest preset."""
    torch.manual_seed(1)
    config = load_preset(model, "tiny")
    assert isinstance(config, TranslatorConfig)
    generator = replace(config.generator, dropout=dropout)
    config = replace(config, conditions=conditions, generator=generator)
    network = build_generator(config.generator, 1 + 2 * len(conditions))
    return _save(path, "translator", model, to_table(config), network)


def _save_embedder(path: Path, backbone: str) -> Path:
    """Write the checkpoint of an untrained embedder of the smallest preset."""
    torch.manual_seed(1)
    config = load_preset(backbone, "tiny")
    network = FaceEmbedder(backbone, config.dimension)
    return _save(path, "embedder", backbone, to_table(config), network)


def _save(path: Path, kind: str, model: str, config: dict, network: torch.nn.Module) -> Path:
    tensors = network.state_dict()
    save_checkpoint(path, Checkpoint(kind, model, "tiny", config, 20, tensors, DATA))
    return path


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [draw_film(width, folder / f"{width}.png") for width in (0.5, 0.6, 0.7, 0.8)]


@pytest.fixture(scope="session")
def save_translator() -> Callable[..., Path]:
    return _save_translator


@pytest.fixture(scope="session")
def save_embedder() -> Callable[..., Path]:
    return _save_embedder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return (
        _save_translator(folder / "translator.safetensors", "fastcut"),
        _save_embedder(folder / "embedder.safetensors", "densenet121"),
    )


@pytest.fixture(scope="session")
def steps() -> list[tuple[int, int]]:
    """What the export of the session's bundle told of its progress."""
    return []


@pytest.fixture(scope="session")
def bundle(
    tmp_path_factory: pytest.TempPathFactory,
    checkpoints: tuple[Path, Path],
    films: list[Path],
    steps: list[tuple[int, int]],
) -> Bundle:
    """Half weights: the harder case, and the one that the packaged demonstration has."""
    folder = tmp_path_factory.mktemp("export") / "bundle"
    build_bundle(
        *checkpoints,
        films,
        folder,
        name="test",
        form=Form("half", licence="Apache-2.0"),
        progress=lambda done, total: steps.append((done, total)),
    )
    return Bundle.load(folder, allow_unsigned=True)

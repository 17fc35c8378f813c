"""A dataset of eight drawn people, small enough to train on in seconds."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcr_edge import imaging

SIDE = 96
PEOPLE = 8
AGES = (21, 28, 35, 44)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Networks this small lose more time to threads waiting for one another than they gain."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def take_step() -> Callable[..., dict[str, float]]:
    """Take the turns of one step as the trainer does, in single precision."""

    def step(translator: Any, batch: Any, optimisers: Any, rng: Any) -> dict[str, float]:
        losses = {}
        for turn in translator.turns(batch, rng):
            turn.objective.backward()
            optimisers[turn.player].step()
            optimisers[turn.player].zero_grad(set_to_none=True)
            losses |= {name: loss.item() for name, loss in turn.losses.items()}
        return losses

    return step


@pytest.fixture(scope="session")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def write_people() -> Callable[[Path, int], Path]:
    """Write a dataset of so many drawn people."""

    def write(folder: Path, number: int) -> Path:
        # People so alike pass for copies, which are not sought among simulated people.
        return write_dataset(folder, number, "skull", "fcr-simulate")

    return write


def write_dataset(
    folder: Path, number: int = PEOPLE, film: str = "xray", generator: str = "drawn"
) -> Path:
    """Write people whose skulls and faces are ellipses of one width each."""
    (folder / "images").mkdir()
    people, images = [], []
    for index in range(number):
        person = f"p{index + 1:05d}"
        people.append((person, "female" if index % 2 else "male", AGES[index // 2 % 4], 24))
        for view in ("frontal", "lateral"):
            rng = np.random.default_rng([index, view == "lateral"])
            pictures = {film: _film(index * PEOPLE / number, rng)}
            pictures |= {f"face_{i}": _face(index * PEOPLE / number, view, rng) for i in (1, 2)}
            for name, picture in pictures.items():
                file = f"images/{person}_{view}_{name}.png"
                imaging.write_png(folder / file, picture)
                images.append((person, view, name.split("_")[0], file, "0" * 64))
    _write_table(folder / "people.csv", ("person", "sex", "age", "bmi"), people)
    _write_table(folder / "images.csv", ("person", "view", "kind", "file", "sha256"), images)
    (folder / "dataset.json").write_text(
        json.dumps({"schema": "fcr-dataset/1", "generator": generator})
    )
    return folder


@pytest.fixture(scope="session")
def draw() -> Callable[..., np.ndarray]:
    """Draw a picture of one's own for each key: a blotchy head on a dark ground."""

    def draw_picture(*key: str, size: int = 64) -> np.ndarray:
        rng = np.random.default_rng([*"".join(key).encode()])
        blotches = imaging.blur(rng.normal(0, 1, (size, size)).astype(np.float32), size / 22)
        blotches += imaging.blur(rng.normal(0, 1, (size, size)).astype(np.float32), size / 48)
        y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
        head = np.hypot(x, y) < 0.38
        grey = head * np.clip(120 + 60 * blotches / blotches.std(), 20, 255) + 8
        grey = grey.clip(0, 255).astype(np.uint8)
        return np.stack([grey, grey // 2, grey // 3], axis=2) if "face" in key else grey

    return draw_picture


@pytest.fixture(scope="session")
def write_pairs(draw: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Write a folder of films and photographs: <number>_<view>_<kind>.png, as in S2F."""

    def write(folder: Path, people: int, kinds: tuple[str, ...] = ("xray", "face")) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, people + 1):
            for view in ("frontal", "lateral"):
                for kind in kinds:
                    picture = draw(f"{number}", view, kind)
                    imaging.write_png(folder / f"{number:02d}_{view}_{kind}.png", picture)
        return folder

    return write


def _ring(width: float, thickness: float) -> np.ndarray:
    y, x = (np.mgrid[:SIDE, :SIDE] - SIDE / 2) / (SIDE / 2)
    radius = np.hypot(x / width, y / 0.8)
    return np.exp(-(((radius - 1) / thickness) ** 2))


def _film(index: float, rng: np.random.Generator) -> np.ndarray:
    bone = _ring(0.45 + 0.04 * index, 0.08)
    soft = 0.25 * (_ring(0.45 + 0.04 * index, 0.6) > 0.1)
    noise = rng.normal(0, 0.01, bone.shape)
    return (255 * (bone * 0.7 + soft + noise).clip(0, 1)).astype(np.uint8)


def _face(index: float, view: str, rng: np.random.Generator) -> np.ndarray:
    head = _ring(0.45 + 0.04 * index, 0.9)[..., None]
    skin = np.array([0.9, 0.7, 0.6]) if view == "frontal" else np.array([0.7, 0.8, 0.6])
    picture = head * skin * rng.uniform(0.8, 1.0) + rng.normal(0, 0.01, (SIDE, SIDE, 3))
    return (255 * picture.clip(0, 1)).astype(np.uint8)


def _write_table(path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)

"""A dataset of eight drawn people, small enough to train on in seconds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

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
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


def write_dataset(folder: Path) -> Path:
    """Write people whose skulls and faces are ellipses of one width each."""
    (folder / "images").mkdir()
    people, images = [], []
    for index in range(PEOPLE):
        person = f"p{index + 1:05d}"
        people.append((person, "female" if index % 2 else "male", AGES[index // 2], 24))
        for view in ("frontal", "lateral"):
            rng = np.random.default_rng([index, view == "lateral"])
            pictures = {"xray": _film(index, rng)}
            pictures |= {f"face_{i}": _face(index, view, rng) for i in (1, 2)}
            for name, picture in pictures.items():
                file = f"images/{person}_{view}_{name}.png"
                imaging.write_png(folder / file, picture)
                images.append((person, view, name.split("_")[0], file, "0" * 64))
    _write_table(folder / "people.csv", ("person", "sex", "age", "bmi"), people)
    _write_table(folder / "images.csv", ("person", "view", "kind", "file", "sha256"), images)
    (folder / "dataset.json").write_text(json.dumps({"schema": "fcr-dataset/1"}))
    return folder


def _ring(width: float, thickness: float) -> np.ndarray:
    y, x = (np.mgrid[:SIDE, :SIDE] - SIDE / 2) / (SIDE / 2)
    radius = np.hypot(x / width, y / 0.8)
    return np.exp(-(((radius - 1) / thickness) ** 2))


def _film(index: int, rng: np.random.Generator) -> np.ndarray:
    bone = _ring(0.45 + 0.04 * index, 0.08)
    soft = 0.25 * (_ring(0.45 + 0.04 * index, 0.6) > 0.1)
    noise = rng.normal(0, 0.01, bone.shape)
    return (255 * (bone * 0.7 + soft + noise).clip(0, 1)).astype(np.uint8)


def _face(index: int, view: str, rng: np.random.Generator) -> np.ndarray:
    head = _ring(0.45 + 0.04 * index, 0.9)[..., None]
    skin = np.array([0.9, 0.7, 0.6]) if view == "frontal" else np.array([0.7, 0.8, 0.6])
    picture = head * skin * rng.uniform(0.8, 1.0) + rng.normal(0, 0.01, (SIDE, SIDE, 3))
    return (255 * picture.clip(0, 1)).astype(np.uint8)


def _write_table(path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)

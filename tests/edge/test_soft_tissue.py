"""A network's layers become a skull, a bone picture, and a warning where it is unsure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fcr_edge import soft_tissue
from fcr_edge.bundle import describe_model
from fcr_edge.errors import ConfigError, FilmError
from fcr_edge.manifest import SuppressorEntry, TensorSpec
from fcr_edge.sessions import SessionInfo
from fcr_edge.soft_tissue import Suppressor

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 64


@dataclass
class PlainSession:
    """Gives layers computed from the film."""

    make: Callable[[np.ndarray], np.ndarray]

    def run(self, batch: np.ndarray) -> np.ndarray:
        return self.make(batch)

    def describe(self) -> SessionInfo:
        return SessionInfo("cpu", "none", "none", "a" * 64)


def make_suppressor(
    make: Callable[[np.ndarray], np.ndarray],
    least: float = 0.5,
    floors: tuple[int, int] = (0, 0),
) -> Suppressor:
    picture = TensorSpec("film", channels=1, height=SIDE, width=SIDE, low=0, high=1)
    entry = SuppressorEntry(
        architecture="SuppressorUnet",
        method="suppressor",
        preset="tiny",
        parameters=1,
        steps=1,
        checkpoint_sha256="c" * 64,
        training_data={},
        weights_licence="Apache-2.0",
        opset=18,
        ir_version=10,
        parity=(),
        files=(describe_model("suppressor.onnx", b"a suppressor"),),
        input=picture,
        output=replace(picture, name="layers", channels=3),
        least_confidence=least,
        floors=floors,
    )
    return Suppressor(PlainSession(make), entry)


def draw_layers(batch: np.ndarray) -> np.ndarray:
    """The skull is the film's upper half, its bone half as bright; sure of the left half alone."""
    skull = batch.copy()
    skull[:, :, SIDE // 2 :] = 0
    confidence = np.broadcast_to(np.arange(SIDE) < SIDE // 2, batch.shape)
    return np.concatenate([skull, skull / 2, confidence], axis=1).astype(np.float32)


@pytest.fixture
def film() -> np.ndarray:
    return np.full((SIDE, SIDE, 1), 200, np.uint8)


def test_layers_become_skull_bone_and_confidence(film: np.ndarray) -> None:
    made = soft_tissue.separate(film, "learned-1", make_suppressor(draw_layers))

    assert made.recipe == "learned-1"
    assert (made.skull[: SIDE // 2] == 200).all()
    assert not made.skull[SIDE // 2 :].any()
    assert made.bone is not None
    assert made.confidence is not None
    assert (made.bone[: SIDE // 2] == 100).all()
    assert made.confidence[0, 0, 0] == 255
    assert made.mean_confidence == pytest.approx(0.5)
    assert made.model_sha256 == "a" * 64
    assert made.warnings == ()


def test_a_film_of_another_size_keeps_its_size() -> None:
    film = np.full((2 * SIDE, 2 * SIDE, 1), 200, np.uint8)

    made = soft_tissue.separate(film, "learned-1", make_suppressor(draw_layers))

    assert made.skull.shape == film.shape


def test_low_confidence_gives_a_warning_with_the_figure(film: np.ndarray) -> None:
    made = soft_tissue.separate(film, "learned-1", make_suppressor(draw_layers, least=0.6))

    (warning,) = made.warnings
    assert "mean confidence over the skull is 0.50, below 0.60" in warning


def test_what_is_fainter_than_the_floors_goes_black() -> None:
    film = np.full((SIDE, SIDE, 1), 200, np.uint8)
    film[:, : SIDE // 4] = 30  # bone of 15

    made = soft_tissue.separate(film, "learned-1", make_suppressor(draw_layers, floors=(30, 16)))

    assert made.bone is not None
    assert made.confidence is not None
    assert (made.skull[0, : SIDE // 4] == 30).all()
    assert not made.bone[0, : SIDE // 4].any()
    assert (made.bone[0, SIDE // 4 :] == 100).all()
    assert made.confidence[0, 0, 0] == 255


def test_a_film_without_a_skull_is_refused(film: np.ndarray) -> None:
    nothing = make_suppressor(lambda batch: np.zeros((1, 3, SIDE, SIDE), np.float32))

    with pytest.raises(FilmError, match="no skull stands out"):
        soft_tissue.separate(film, "learned-1", nothing)


def test_confidence_beside_the_skull_does_not_count() -> None:
    skull = np.zeros((10, 10), np.uint8)
    skull[:5] = soft_tissue.BONE_LEVEL
    confidence = np.zeros((10, 10), np.uint8)
    confidence[:5] = 51

    assert soft_tissue.average_confidence(skull, confidence) == pytest.approx(0.2)
    assert soft_tissue.average_confidence(np.zeros_like(skull), confidence) is None


def test_the_learned_recipe_needs_a_network(film: np.ndarray) -> None:
    for call in (soft_tissue.separate, soft_tissue.remove):
        with pytest.raises(ConfigError, match="needs a bundle with a suppressor"):
            call(film, "learned-1")


def test_a_recipe_without_a_network_leaves_the_network_alone(film: np.ndarray) -> None:
    broken = make_suppressor(lambda batch: pytest.fail("was run"))

    made = soft_tissue.separate(film, "none", broken)

    assert np.array_equal(made.skull, film)
    assert (made.bone, made.confidence, made.mean_confidence, made.warnings) == (None,) * 3 + ((),)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fcr_edge import film, imaging, reading, soft_tissue
from fcr_edge.errors import ConfigError, FilmError

if TYPE_CHECKING:
    from pathlib import Path

GREY_LEVEL = 1


def make_film(height: int = 300, width: int = 240) -> np.ndarray:
    """Draw a bright ring of bone in a dim ball of soft tissue on black."""
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - height / 2, x - width / 2)
    levels = 5 + 100 * np.sqrt(np.clip(1 - (radius / 115) ** 2, 0, None))
    levels += np.where(np.abs(radius - 80) < 5, 160.0, 0.0)
    return levels.astype(np.uint8)


def test_standard_film_is_square_grey_and_uses_the_whole_range() -> None:
    standard = film.standardise(make_film())

    assert standard.shape == (256, 256, 1)
    assert standard.dtype == np.uint8
    assert standard.min() == 0
    assert standard.max() == 255


def test_eight_and_sixteen_bits_give_the_same_film() -> None:
    eight = make_film()

    sixteen = eight.astype(np.uint16) * 16  # 12 bits stored in 16, as detectors do

    difference = film.standardise(eight).astype(int) - film.standardise(sixteen)
    assert np.abs(difference).max() <= GREY_LEVEL


def test_standardising_again_changes_nothing_but_rounding() -> None:
    once = film.standardise(make_film(256, 256))

    twice = film.standardise(once)

    assert np.abs(once.astype(int) - twice).max() <= 2 * GREY_LEVEL


def test_colour_film_equals_the_grey_one() -> None:
    grey = make_film()

    assert np.array_equal(film.standardise(imaging.to_rgb(grey)), film.standardise(grey))


def test_white_frame_is_cut_off() -> None:
    framed = make_film()
    framed[:6] = framed[-6:] = 255
    framed[:, :6] = framed[:, -6:] = 255

    standard = film.standardise(framed)

    assert standard[:, [0, 255]].max() < 50


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("seed", range(5))
def test_grey_levels_are_windowed_as_by_numpy(depth: type, seed: int) -> None:
    rng = np.random.default_rng(seed)
    top = np.iinfo(depth).max
    pixels = rng.gamma(2, top / 10, rng.integers(64, 300, 2)).clip(0, top).astype(depth)

    windowed = film.spread_levels(pixels)

    low, high = np.percentile(pixels, film.WINDOW)
    unit = (pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    assert np.array_equal(windowed, np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        pytest.param(np.zeros((300, 300), np.uint8), "show nothing", id="black"),
        pytest.param(np.full((300, 300), 65535, np.uint16), "show nothing", id="white"),
        pytest.param(np.zeros((20, 300), np.uint8), "too few", id="a strip"),
    ],
)
def test_unusable_film_is_refused(pixels: np.ndarray, message: str) -> None:
    with pytest.raises(FilmError, match=message):
        film.standardise(pixels)


def test_classical_recipe_keeps_the_ring_and_cuts_the_disc_off_around_it() -> None:
    standard = film.standardise(make_film())

    skull = soft_tissue.remove(standard, "classical-1")

    y, x = np.mgrid[:256, :256] - 128
    radius = np.hypot(y, x) * 300 / 256
    ring, inside = skull[np.abs(radius - 80) < 3], skull[radius < 60]
    assert np.median(ring) > 200
    assert np.median(inside) < 45  # the smooth layer, dimmed: 70 before
    assert skull[radius > 95].max() < 10


def test_cutting_out_keeps_the_film_inside_the_ring_as_it_is() -> None:
    standard = film.standardise(make_film())

    skull = soft_tissue.remove(standard, "classical-2")

    y, x = np.mgrid[:256, :256] - 128
    radius = np.hypot(y, x) * 300 / 256
    np.testing.assert_array_equal(skull[radius < 80], standard[radius < 80])
    assert skull[radius > 95].max() < 10


def test_none_leaves_the_film_alone() -> None:
    standard = film.standardise(make_film())

    assert np.array_equal(soft_tissue.remove(standard, "none"), standard)


def test_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="classical-1"):
        soft_tissue.remove(film.standardise(make_film()), "magic")


@pytest.mark.parametrize("recipe", ["classical-1", "classical-2"])
def test_film_without_bone_is_refused(recipe: str) -> None:
    y = np.linspace(0, 255, 256).astype(np.uint8)
    gradient = np.repeat(y[:, None], 256, axis=1)[:, :, None]

    with pytest.raises(FilmError, match="no bone"):
        soft_tissue.remove(gradient, recipe)


@pytest.mark.parametrize("recipe", ["classical-1", "classical-2"])
@pytest.mark.parametrize("number", [1, 9, 17, 24])
def test_real_film_becomes_a_skull(cephalograms: Path, number: int, recipe: str) -> None:
    path = cephalograms / f"{number:03d}.jpg"
    standard = film.standardise_xray(reading.read_film(path))

    skull = soft_tissue.remove(standard, recipe)

    assert 0.1 < (skull > 60).mean() < 0.65  # a skull, and black around it

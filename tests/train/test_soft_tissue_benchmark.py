"""The measures of residual skin and of displaced bone find what is put into drawn films."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

MODULE = Path(__file__).parents[2] / "benchmarks" / "soft_tissue.py"
PIXEL_MM = 0.9375


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soft_tissue_benchmark", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("levels", "place"),
    [
        pytest.param([20, 10, 5, 5, 15, 40], 4, id="darkens towards the face, then skin"),
        pytest.param([5, 5, 5, 6, 7, 9, 9], 4, id="half of a slow rise"),
        pytest.param([30, 20, 10, 5, 5], np.nan, id="nothing brightens"),
        pytest.param([5, 7, 5, 7, 5], np.nan, id="noise below the threshold"),
    ],
)
def test_the_skin_is_the_first_rise_above_the_background(
    benchmark: ModuleType, levels: list[float], place: float
) -> None:
    found = benchmark.find_rise(np.array(levels, np.float32))

    assert found == pytest.approx(place, nan_ok=True)


def draw_labelled(benchmark: ModuleType, film: np.ndarray) -> object:
    points = np.full((19, 2), 128.0)
    points[benchmark.SUBNASALE] = 180, 100
    points[benchmark.SOFT_POGONION] = 180, 150
    return benchmark.Labelled("drawn", film, points, 255, PIXEL_MM)


def test_the_profile_of_a_drawn_face_is_found_and_its_absence_too(benchmark: ModuleType) -> None:
    film = np.tile(np.linspace(0, 40, 256), (256, 1))
    film[:, :181] = 60  # the face, its skin at column 180
    labelled = draw_labelled(benchmark, film.astype(np.uint8)[:, :, None])

    rows, columns = benchmark.find_profile(labelled.film, labelled)
    _, none = benchmark.find_profile(np.zeros((256, 256, 1), np.uint8), labelled)

    assert (rows[0], rows[-1]) == (100, 150)
    assert np.abs(columns - 180).max() <= 1
    assert np.isnan(none).all()


@pytest.mark.parametrize("shift", [(0, 0), (1.0, -2.0), (0.4, 0.3)])
def test_a_moved_patch_is_found_where_it_went(
    benchmark: ModuleType, shift: tuple[float, float]
) -> None:
    texture = ndimage.gaussian_filter(np.random.default_rng(1).random((256, 256)), 2)
    texture = (texture - texture.min()) / np.ptp(texture) * 200
    moved = 0.5 * ndimage.shift(texture, shift, order=3, mode="nearest") + 20
    labelled = draw_labelled(benchmark, texture.astype(np.uint8)[:, :, None])

    distance = benchmark.find_displacement(labelled, moved.astype(np.uint8)[:, :, None], 0)

    assert distance == pytest.approx(np.hypot(*shift) * PIXEL_MM, abs=0.15)


def test_a_blank_patch_tells_nothing(benchmark: ModuleType) -> None:
    labelled = draw_labelled(benchmark, np.zeros((256, 256, 1), np.uint8))

    assert benchmark.find_displacement(labelled, labelled.film, 0) is None

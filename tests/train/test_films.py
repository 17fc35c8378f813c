"""Films: line integrals of known bodies, exposure, development, and what is done to a film."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fcr_train.simulate.exposure import (
    BONE_EDGE,
    BONE_FULL,
    Exposure,
    Handling,
    develop,
    draw_exposure,
    draw_handling,
    encode,
    expose,
    finish,
    handle,
    show_bone,
    trace_bone,
)
from fcr_train.simulate.radiograph import (
    CENTRE,
    SOURCE_MM,
    VIEWS,
    Projection,
    View,
    project_volumes,
    surface_path,
)
from fcr_train.simulate.warp import Grid, Skull

RAY_TOLERANCE = 0.005
"""Share of a path that a ray through a known body may be off."""
SIZE = 128
CLEAN = Exposure(
    scatter=0.0,
    photons=np.inf,
    blur_mm=0.0,
    toe=0.0,
    gamma=1.0,
    fine=0.0,
    coarse=0.0,
    white=100.0,
    print_gamma=1.0,
    collimation=(0, 0, 0, 0),
    marker="",
    marker_place=(0, 0),
)
TIDY = Handling(
    turn_degrees=0.0,
    inverted=False,
    fog=0.0,
    gradient=(0.0, 0.0),
    tabs=False,
    ruler=False,
    frame=0.0,
)


def chords(projection: Projection, centre: np.ndarray, radius: float) -> np.ndarray:
    """Length of each ray inside a sphere, from the geometry alone [mm]."""
    across, up = projection.offsets()
    axis, side = projection.depth_axis, projection.across_axis
    source = np.array(CENTRE)
    source[axis] -= SOURCE_MM
    way = np.zeros((projection.size, projection.size, 3))
    way[..., axis] = SOURCE_MM
    way[..., side] += across[None]
    way[..., 1] += up[:, None]
    way /= np.linalg.norm(way, axis=2, keepdims=True)
    apart = np.linalg.norm(np.cross(way, centre - source), axis=2)
    return 2 * np.sqrt(np.maximum(radius**2 - apart**2, 0))


def ball(centre: np.ndarray, radius: float, steps: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A sphere of triangles, seen counter-clockwise from outside."""
    down, around = np.meshgrid(
        np.linspace(0, np.pi, steps + 1),
        np.linspace(0, 2 * np.pi, 2 * steps, False),
        indexing="ij",
    )
    points = np.stack(
        [np.sin(down) * np.sin(around), np.cos(down), np.sin(down) * np.cos(around)], 2
    )
    row, column = np.meshgrid(np.arange(steps), np.arange(2 * steps), indexing="ij")
    here, right = row * 2 * steps + column, row * 2 * steps + (column + 1) % (2 * steps)
    quads = [(here, here + 2 * steps, right), (right, here + 2 * steps, right + 2 * steps)]
    triangles = np.concatenate([np.stack([c.ravel() for c in quad], 1) for quad in quads])
    return radius * points.reshape(-1, 3) + centre, triangles


@pytest.mark.parametrize("view", VIEWS)
def test_rays_through_a_sphere_of_skin_are_as_long_as_geometry_says(view: View) -> None:
    centre = np.array([12.0, -30.0, -40.0])
    projection = Projection(view, SIZE)

    path = surface_path(*ball(centre, 60.0), projection) * projection.slant()

    expected = chords(projection, centre, 60.0)
    thick = expected > 30
    np.testing.assert_allclose(path[thick], expected[thick], rtol=RAY_TOLERANCE)
    assert np.abs(path[expected == 0]).max() < 1e-6


@pytest.mark.parametrize("view", VIEWS)
def test_rays_through_a_sphere_of_bone_absorb_as_geometry_says(view: View) -> None:
    centre = np.array([12.0, -30.0, -40.0])
    grid = Grid(np.array([-60.0, -100.0, -110.0]), 1.5, (97, 95, 95))
    apart = np.linalg.norm(grid.points() - centre, axis=1).reshape(grid.shape)
    bone = np.clip(0.5 - (apart - 60.0) / 1.5, 0, 1).astype(np.float32)
    projection = Projection(view, SIZE)

    seen, air = project_volumes(Skull(grid, bone, 0 * bone), projection)

    expected = chords(projection, centre, 60.0)
    thick = expected > 60
    np.testing.assert_allclose(
        (seen * projection.slant())[thick], expected[thick], rtol=RAY_TOLERANCE
    )
    assert air.max() == 0


def test_rays_through_a_slab_are_as_long_as_it_is_thick() -> None:
    grid = Grid(np.array([-90.0, -90.0, -80.0]), 1.5, (121, 121, 41))
    bone = np.zeros(grid.shape, np.float32)
    bone[:, :, 5:25] = 1

    seen, _ = project_volumes(Skull(grid, bone, 0 * bone), Projection("frontal", SIZE))

    middle = slice(SIZE // 2 - 20, SIZE // 2 + 20)
    np.testing.assert_allclose(seen[middle, middle], 30, rtol=RAY_TOLERANCE)


# Exposure


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Line integrals of soft tissue and bone: two discs."""
    across = np.hypot(*np.meshgrid(*2 * [np.linspace(-1, 1, SIZE)]))
    return 4.0 * (across < 0.8), 1.5 * (across < 0.6)


def test_clean_densities_of_soft_tissue_and_bone_add_up() -> None:
    soft, bone = phantom()
    rng = np.random.default_rng(0)

    full, parts = expose(soft + bone, CLEAN, rng), [expose(p, CLEAN, rng) for p in (soft, bone)]

    np.testing.assert_allclose(full, parts[0] + parts[1], rtol=1e-3, atol=1e-12)


def test_scatter_lowers_contrast_and_reaches_nothing_beside_the_head() -> None:
    soft, _ = phantom()
    middle = SIZE // 2
    soft[middle, middle] += 0.2

    clean, scattered = (
        expose(soft, replace(CLEAN, scatter=share), np.random.default_rng(0))
        for share in (0.0, 0.5)
    )

    contrast = [film[middle, middle] - film[middle, middle + 8] for film in (clean, scattered)]
    assert contrast[1] == pytest.approx(contrast[0] / 1.5, rel=0.1)
    assert np.abs(scattered[0, 0]) < 0.01


def test_fewer_photons_make_more_noise() -> None:
    flat = np.full((SIZE, SIZE), 3.0)
    spread = [
        expose(flat, replace(CLEAN, photons=photons), np.random.default_rng(0)).std()
        for photons in (1e6, 1e4)
    ]

    # The relative noise of n quanta is 1 / sqrt(n); wider pixels see more of them.
    pixel_share = (256 / SIZE) ** 2
    expected = [np.exp(1.5) / np.sqrt(photons * pixel_share) for photons in (1e6, 1e4)]
    assert spread == pytest.approx(expected, rel=0.05)


def test_developed_films_use_the_whole_range_and_stay_dark_beside_the_head() -> None:
    soft, bone = phantom()
    for number in range(20):
        rng = np.random.default_rng(number)
        exposure = draw_exposure(rng)

        level = develop(expose(soft + bone, exposure, rng), exposure)

        assert level.min() >= 0
        assert level.max() == 1
        assert level[:4, :4].max() < 0.2
        assert level[bone > 0].mean() > level[(bone == 0) & (soft > 0)].mean()


def test_an_empty_film_is_black() -> None:
    nothing = np.zeros((SIZE, SIZE))

    assert develop(nothing, CLEAN).max() == 0
    assert trace_bone(nothing).max() == 0


def test_traced_outline_keeps_bone_fills_it_and_drops_what_lies_apart() -> None:
    bone = np.zeros((SIZE, SIZE))
    bone[30:90, 30:90] = 1
    bone[45:75, 45:75] = 0
    bone[110:114, 110:114] = 1

    mask = trace_bone(bone)

    assert mask[35:85, 35:85].min() > 0.99
    assert mask[60, 60] == pytest.approx(1)
    assert mask[100:, 100:].max() < 0.01
    assert mask[60, 20] < BONE_EDGE


def test_bone_is_shown_in_proportion() -> None:
    bone = np.array([[0, 1.0, 2.0, BONE_FULL, 9.0]])

    assert show_bone(bone).tolist() == [[0, 1 / BONE_FULL, 2 / BONE_FULL, 1, 1]]


@pytest.mark.parametrize(
    ("letter", "side"), [("L", slice(SIZE // 2, None)), ("R", slice(SIZE // 2))]
)
def test_the_lead_letter_lies_on_the_side_it_names(letter: str, side: slice) -> None:
    exposures = (draw_exposure(np.random.default_rng(k)) for k in range(50))
    exposure = next(e for e in exposures if e.marker == letter)

    film = finish(np.zeros((SIZE, SIZE)), exposure)

    assert film.max() > 0.8
    assert film[:, side].sum() == film.sum()


def test_collimator_borders_are_black_and_as_wide_as_recorded() -> None:
    exposure = replace(CLEAN, collimation=(0.0625, 0.03125, 0.0, 0.125))

    film = finish(np.ones((SIZE, SIZE)), exposure)

    assert film[4 : SIZE - 16, 8:].min() == 1
    assert film.sum() == (SIZE - 20) * (SIZE - 8)


# Handling


def test_a_film_that_nobody_touched_is_as_it_was() -> None:
    film = np.random.default_rng(0).random((SIZE, SIZE))

    np.testing.assert_allclose(handle(film, TIDY), film)


def test_an_inverted_film_is_the_negative() -> None:
    film = np.random.default_rng(0).random((SIZE, SIZE))
    rough = replace(draw_handling(np.random.default_rng(1)), inverted=False)

    positive, negative = (handle(film, replace(rough, inverted=which)) for which in (False, True))

    np.testing.assert_allclose(positive + negative, 1)


def test_a_turned_film_shows_the_scanner_bed_in_its_corners() -> None:
    film = handle(np.zeros((SIZE, SIZE)), replace(TIDY, turn_degrees=8.0, frame=1.0))

    assert film[0, 0] == film[-1, -1] == 1
    assert film[SIZE // 2, SIZE // 2] == 0


def test_notches_and_ruler_are_brighter_than_the_film() -> None:
    film = handle(np.full((SIZE, SIZE), 0.2), replace(TIDY, tabs=True, ruler=True))

    assert film[0].max() == 1
    assert film[10 : SIZE // 3, SIZE // 2 :].max() > 0.8
    assert film[SIZE // 2, SIZE // 2] == pytest.approx(0.2)


def test_8_and_16_bits_hold_the_same_levels() -> None:
    level = np.random.default_rng(0).random((SIZE, SIZE))

    eight, sixteen = encode(level), encode(level, 16)

    assert (eight.dtype, sixteen.dtype) == (np.uint8, np.uint16)
    assert np.abs(eight / 255 - sixteen / 65535).max() <= 0.5 / 255 + 1e-5

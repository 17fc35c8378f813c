"""Portraits and looks: facts that hold for every simulated person."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fcr_train.simulate.eyes import GLOBE_MM, globe_behind
from fcr_train.simulate.hair import dress, hair_shell
from fcr_train.simulate.head import load_head
from fcr_train.simulate.looks import (
    LIGHT_IRIS,
    LIGHT_IRIS_MELANIN,
    Beard,
    HairStyle,
    draw_look,
    look_on_day,
)
from fcr_train.simulate.person import shared_simulator
from fcr_train.simulate.pictures import make_pictures
from fcr_train.simulate.plan import Plan
from fcr_train.simulate.population import draw_person, on_day, person_stream
from fcr_train.simulate.portrait import Studio
from fcr_train.simulate.raster import cover
from fcr_train.simulate.scene import draw_scene
from fcr_train.simulate.shape import Anatomy
from fcr_train.simulate.texture import noise_textures
from fcr_train.simulate.warp import STRAIGHT

if TYPE_CHECKING:
    from fcr_train.simulate.looks import Look
    from fcr_train.simulate.person import Simulator
    from fcr_train.simulate.population import Person
    from fcr_train.simulate.radiograph import View
    from fcr_train.simulate.shape import Surfaces

SEED = 1


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return Anatomy(load_head())


@pytest.fixture(scope="module")
def studio(anatomy: Anatomy) -> Studio:
    return Studio(anatomy)


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return shared_simulator()


def person_of(number: int) -> Person:
    return draw_person(person_stream(SEED, number, "population"))


def look_of(number: int) -> Look:
    return draw_look(person_of(number), person_stream(SEED, number, "portraits"))


def surfaces_of(anatomy: Anatomy, number: int) -> Surfaces:
    return anatomy.surfaces(person_of(number), person_stream(SEED, number, "depths"))


def portrait(
    studio: Studio,
    number: int,
    view: View,
    size: int = 128,
    look: Look | None = None,
    skin: np.ndarray | None = None,
) -> np.ndarray:
    """Render a person, as drawn unless given, in a fixed scene."""
    rng = np.random.default_rng(number)
    look = look or look_of(number)
    scene = replace(draw_scene(look.male, rng), pose=STRAIGHT)
    skin = surfaces_of(studio.anatomy, number).skin if skin is None else skin
    return studio.portrait(skin, look, scene, view, size, rng)


def cover_slowly(points: np.ndarray, triangles: np.ndarray, size: int) -> set[tuple[int, int]]:
    """Every pixel against every triangle, by the signs of three areas."""
    rows, columns = np.divmod(np.arange(size * size), size)
    # The same sampling points as cover: a hair off the pixel centres.
    x, y = columns + 1e-4, rows + 1.37e-4
    found = set()
    for index, corners in enumerate(points[triangles]):
        sides = []
        for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0), strict=True):
            sides.append((bx - ax) * (y - ay) - (by - ay) * (x - ax))
        inside = np.all(np.sign(sides) == np.sign(sides[0]), axis=0)
        found |= {(index, int(pixel)) for pixel in np.flatnonzero(inside)}
    return found


# Triangles to pixels


def test_covered_pixels_are_those_of_the_slow_rule() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-6, 30, (40, 2))
    points[:8] = np.round(points[:8])
    triangles = rng.integers(0, 40, (120, 3))
    triangles = triangles[(np.diff(np.sort(triangles, 1), axis=1) > 0).all(1)]

    hits = cover(points, triangles, (24, 24))

    pairs = list(zip(hits.triangle.tolist(), hits.pixel.tolist(), strict=True))
    assert set(pairs) == cover_slowly(points, triangles, 24)
    assert len(pairs) == len(set(pairs))
    at = (hits.corners[:, :, None] * points[triangles[hits.triangle]]).sum(1)
    assert np.abs(at - np.stack([hits.pixel % 24, hits.pixel // 24], 1)).max() < 2e-4


# People and their looks


def test_light_irises_are_on_light_skin_only() -> None:
    looks = [look_of(number) for number in range(1, 301)]

    light = [look for look in looks if look.iris_lightness >= LIGHT_IRIS]

    assert len(light) > 15
    assert all(look.melanin < LIGHT_IRIS_MELANIN for look in light)
    fair = [look.hair.sum() for look in light]
    assert np.mean(fair) > np.mean([look.hair.sum() for look in looks])


def test_another_day_changes_hair_and_leaves_the_identity() -> None:
    look = look_of(3)
    rng = np.random.default_rng(5)
    scene = draw_scene(look.male, rng, first=False)

    later = look_on_day(look, scene, rng)

    for name in ("skin", "iris", "melanin", "moles", "brow_height", "brow_thickness", "lips"):
        np.testing.assert_array_equal(getattr(look, name), getattr(later, name))
    assert not np.array_equal(look.hair, later.hair)
    assert later.age == look.age + scene.years
    assert later.style.hairline >= look.style.hairline


def test_the_first_portrait_is_of_the_day_of_the_film() -> None:
    scenes = [draw_scene(True, np.random.default_rng(k)) for k in range(20)]
    others = [draw_scene(True, np.random.default_rng(k), first=False) for k in range(20)]

    assert all(scene.years == 0 == scene.bmi_change for scene in scenes)
    assert max(max(scene.expression.values()) for scene in scenes) < 0.07
    assert all(0 < scene.years < 8 for scene in others)


def test_weight_of_the_day_moves_cheeks_and_not_the_bone(anatomy: Anatomy) -> None:
    person = person_of(1)
    heavier = on_day(person, 0.0, 3.0)

    before, after = (
        anatomy.surfaces(someone, person_stream(SEED, 1, "depths"))
        for someone in (person, heavier)
    )

    np.testing.assert_array_equal(before.bony, after.bony)
    moved = np.linalg.norm(after.skin - before.skin, axis=1)[anatomy.landmarks]
    moved_at = dict(zip(anatomy.table.names, moved, strict=True))
    assert moved_at["infra-M2"] > 1.0
    assert moved_at["glabella"] < 0.7


# Portraits


@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_portraits_have_the_size_asked_for_and_show_a_head(studio: Studio, size: int) -> None:
    picture = portrait(studio, 2, "frontal", size=size)

    assert picture.shape == (size, size, 3)
    assert picture.std() > 25


def test_portraits_repeat_and_differ(simulator: Simulator) -> None:
    plan = Plan(people=2, seed=SEED, kinds=("face",), size=64)
    twice = [make_pictures(simulator, plan, 2).pictures for _ in range(2)]

    for one, other in zip(*twice, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    first, second = (p.pixels.astype(int) for p in twice[0] if p.view == "frontal")
    assert np.abs(first - second).mean() > 2


def test_hair_leaves_the_skin_where_it_is(studio: Studio, anatomy: Anatomy) -> None:
    skin = surfaces_of(anatomy, 5).skin
    kept = skin.copy()

    portrait(studio, 5, "lateral", skin=skin)

    np.testing.assert_array_equal(skin, kept)


def test_short_hair_does_not_cover_the_ears(studio: Studio, anatomy: Anatomy) -> None:
    style = HairStyle(top=10.0, side=6.0)
    shell = hair_shell(anatomy)
    hair = dress(shell, np.zeros_like(anatomy.reference), style, noise_textures())

    near = shell.ear_distance < 2

    stands = ((hair.points - hair.place) * shell.outward).sum(1)
    assert near.sum() > 5
    assert stands[near].max() < 0.8
    assert stands.max() > 6


def test_hair_covers_the_crown_unless_shaven(studio: Studio, anatomy: Anatomy) -> None:
    look = replace(look_of(1), skin=np.array([0.7, 0.5, 0.4], np.float32))
    black = replace(look, hair=np.array([0.01, 0.01, 0.01], np.float32))
    dressed = replace(black, style=HairStyle())
    shaven = replace(black, style=HairStyle(top=0.0, side=0.0))

    hairy, bald = (portrait(studio, 1, "lateral", look=one) for one in (dressed, shaven))

    crown = np.s_[18:28, 40:65]
    assert hairy[crown].mean() < 60
    assert bald[crown].mean() > 90


def test_the_globe_is_24_mm_across_behind_the_apex_of_the_mesh_eye(anatomy: Anatomy) -> None:
    eye = anatomy.reference[np.unique(anatomy.head.eyes.reshape(2, -1)[0])]

    globe = globe_behind(eye, np.eye(3), (0.0, 0.0), -1.0)

    assert 2 * GLOBE_MM == 24
    assert globe.centre[2] + GLOBE_MM == pytest.approx(eye[:, 2].max())


def test_a_symmetric_person_in_frontal_light_looks_symmetric(
    studio: Studio, anatomy: Anatomy
) -> None:
    person = person_of(6)
    even = replace(person, right=person.left, asymmetry=(0.0,) * len(person.asymmetry))
    skin = anatomy.surfaces(even, person_stream(SEED, 6, "depths")).skin
    look = replace(look_of(6), moles=(), style=HairStyle(), beard=Beard())
    scene = draw_scene(True, np.random.default_rng(0))
    scene = replace(
        scene,
        pose=STRAIGHT,
        key=np.array([0.0, 0.5, np.sqrt(0.75)]),
        fill_strength=0.0,
        gaze_mm=(0.0, 0.0),
    )

    picture = studio.portrait(skin, look, scene, "frontal", 128, np.random.default_rng(1))

    flipped = np.abs(picture.astype(float) - picture[:, ::-1])
    assert flipped.mean() < 3


# Sexes


def read_sex(pictures: np.ndarray, male: np.ndarray, components: int = 30) -> float:
    """Train ridge regression on principal components of one half; its AUC on the other half."""
    half = len(pictures) // 2
    mean = pictures[:half].mean(0)
    axes = np.linalg.svd(pictures[:half] - mean, full_matrices=False)[2][:components]
    seen, new = ((part - mean) @ axes.T for part in (pictures[:half], pictures[half:]))
    target = 2.0 * male[:half] - 1
    ridge = 0.1 * np.trace(seen.T @ seen) / components * np.eye(components)
    weight = np.linalg.solve(seen.T @ seen + ridge, seen.T @ (target - target.mean()))
    score, truth = new @ weight, male[half:]
    return float((score[truth][:, None] > score[~truth]).mean())


@pytest.mark.slow
def test_sex_can_be_read_from_faces_without_hair(studio: Studio) -> None:
    size, people = 64, 300
    row, column = np.mgrid[:size, :size]
    face = ((column - 31.5) / 13.5) ** 2 + ((row - 35) / 17) ** 2 < 1
    pictures, male = [], []
    for number in range(1001, 1001 + people):
        look = replace(look_of(number), style=HairStyle(top=0.0, side=0.0), beard=Beard())
        rng = person_stream(SEED, number, "portraits", 0, 1)
        scene = draw_scene(look.male, rng)
        skin = surfaces_of(studio.anatomy, number).skin
        picture = studio.portrait(skin, look, scene, "frontal", size, rng)[face].astype(float)
        pictures.append((picture.ravel() - picture.mean()) / picture.std())
        male.append(look.male)

    assert read_sex(np.array(pictures), np.array(male)) > 0.9

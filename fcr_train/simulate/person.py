"""One person from number to pictures: every room of the simulator, in order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from fcr_train.simulate.head import load_head
from fcr_train.simulate.looks import draw_look, look_on_day
from fcr_train.simulate.population import Person, draw_person, on_day, person_stream
from fcr_train.simulate.portrait import Studio
from fcr_train.simulate.radiograph import (
    BONE,
    FILM,
    VIEWS,
    LineIntegrals,
    Projection,
    View,
    expose,
    line_integrals,
)
from fcr_train.simulate.scene import draw_scene
from fcr_train.simulate.shape import Anatomy, Surfaces
from fcr_train.simulate.skull import build_skull
from fcr_train.simulate.warp import Calibration, Pose, Warp, draw_pose

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from jaxtyping import Float64, UInt8

    from fcr_train.simulate.scene import Scene

FILM_TILT_DEGREES = 5.0
FILM_SCALE = 0.05
FILM_SHIFT_MM = 4.0
"""Films are held, enlarged and placed at random within these, apart from the portraits."""


@dataclass(frozen=True)
class Picture:
    """One picture of a person; `number` counts portraits from 1, 0 for films."""

    view: View
    kind: str
    number: int
    pixels: UInt8[np.ndarray, "h w ..."]

    @property
    def name(self) -> str:
        """File name, such as "frontal_xray.png"."""
        suffix = f"_{self.number}" if self.number else ""
        return f"{self.view}_{self.kind}{suffix}.png"


class Simulator:
    """Makes people; holds what all of them share: head, skull template, warp and studio."""

    def __init__(self) -> None:
        """Load the head, build the skull and calibrate it: a few seconds."""
        self.anatomy = Anatomy(load_head())
        self.template = build_skull(self.anatomy)
        self.calibration = Calibration(self.anatomy, self.template)
        self.warp = Warp(self.anatomy, self.template, self.calibration)
        self.studio = Studio(self.anatomy)

    def person(self, seed: int, number: int) -> tuple[Person, Surfaces]:
        """Draw person `number` and build the surfaces."""
        person = draw_person(person_stream(seed, number, "population"))
        return person, self.anatomy.surfaces(person, person_stream(seed, number, "depths"))

    def films(
        self, person: Person, surfaces: Surfaces, poses: Mapping[View, Pose], size: int
    ) -> dict[View, LineIntegrals]:
        """Project a person's head once in each view asked for, each in a pose of its own."""
        field = self.warp.field(surfaces.bony)
        closed = self.anatomy.head.with_closed_mouth(surfaces.skin)
        return {
            view: line_integrals(
                self.warp.skull(surfaces.bony, field, pose),
                pose.turn(closed),
                self.anatomy.head.triangles,
                Projection.posed(view, size, pose),
                person.bone_density,
            )
            for view, pose in poses.items()
        }

    def pictures(self, seed: int, number: int, portraits: int, size: int) -> Iterator[Picture]:
        """Make all pictures of a person: films, then portraits."""
        person, surfaces = self.person(seed, number)
        posing, noise = (person_stream(seed, number, name) for name in ("poses", "films"))
        poses = {v: draw_pose(posing, FILM_TILT_DEGREES, FILM_SCALE, FILM_SHIFT_MM) for v in VIEWS}
        for view, film in self.films(person, surfaces, poses, size).items():
            yield Picture(view, "xray", 0, expose(film.full, FILM, noise))
            yield Picture(view, "bone", 0, expose(film.bone, BONE, noise))
        yield from self.faces(seed, number, portraits, size)

    def faces(self, seed: int, number: int, portraits: int, size: int) -> Iterator[Picture]:
        """Make the portraits of a person."""
        person, surfaces = self.person(seed, number)
        for view in VIEWS:
            for portrait in range(1, portraits + 1):
                pixels = self.portrait(seed, number, person, surfaces, view, portrait, size)
                yield Picture(view, "face", portrait, pixels)

    def portrait(
        self,
        seed: int,
        number: int,
        person: Person,
        surfaces: Surfaces,
        view: View,
        portrait: int,
        size: int,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Make one portrait of a person, counted from 1; others are taken on another day."""
        look = draw_look(person, person_stream(seed, number, "portraits"))
        # Each portrait has a stream of its own: asking for more changes no other.
        rng = person_stream(seed, number, "portraits", VIEWS.index(view), portrait)
        scene = draw_scene(person.is_male, rng, portrait == 1)
        skin = surfaces.skin
        if portrait > 1:
            look = look_on_day(look, scene, rng)
            skin = self.skin_on_day(seed, number, person, scene)
        return self.studio.portrait(skin, look, scene, view, size, rng)

    def skin_on_day(
        self, seed: int, number: int, person: Person, scene: Scene
    ) -> Float64[np.ndarray, "v 3"]:
        """Build the skin a person has on the day of a portrait; the bone stays as it is."""
        later = on_day(person, scene.years, scene.bmi_change)
        return self.anatomy.surfaces(later, person_stream(seed, number, "depths")).skin


@cache
def shared_simulator() -> Simulator:
    """Give this process's simulator, built at the first call."""
    return Simulator()

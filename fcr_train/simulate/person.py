"""One person from number to pictures: every room of the simulator, in order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from fcr_train.simulate.head import load_head
from fcr_train.simulate.looks import draw_look
from fcr_train.simulate.population import Person, draw_person, person_stream
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
from fcr_train.simulate.skull import SkullBuilder, Template
from fcr_train.simulate.traits import SkullTraits, draw_traits
from fcr_train.simulate.warp import Calibration, Pose, Warp, draw_pose

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from jaxtyping import UInt8

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
    """Makes people; holds what all of them share: head, skull builder, warp and studio."""

    def __init__(self) -> None:
        """Load the head and prepare what all skulls share: a few seconds."""
        self.anatomy = Anatomy(load_head())
        self.builder = SkullBuilder(self.anatomy)
        self.warp = Warp(self.anatomy)
        self.studio = Studio(self.anatomy)

    def person(self, seed: int, number: int) -> tuple[Person, Surfaces]:
        """Draw person `number` and build the surfaces."""
        person = draw_person(person_stream(seed, number, "population"))
        return person, self.anatomy.surfaces(person, person_stream(seed, number, "depths"))

    def traits(self, person: Person, seed: int, number: int) -> SkullTraits:
        """Draw what is a person's own in the skull."""
        return draw_traits(person, person_stream(seed, number, "traits"))

    def films(
        self,
        person: Person,
        surfaces: Surfaces,
        template: Template,
        poses: Mapping[View, Pose],
        size: int,
    ) -> dict[View, LineIntegrals]:
        """Project a person's head once in each view asked for, each in a pose of its own."""
        calibration = Calibration(self.anatomy, template)
        field = self.warp.field(surfaces.bony, calibration)
        closed = self.anatomy.head.with_closed_mouth(surfaces.skin)
        return {
            view: line_integrals(
                self.warp.skull(template, surfaces.bony, field, pose),
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
        template = self.builder.build(self.traits(person, seed, number))
        for view, film in self.films(person, surfaces, template, poses, size).items():
            yield Picture(view, "xray", 0, expose(film.full, FILM, noise))
            yield Picture(view, "bone", 0, expose(film.bone, BONE, noise))
        look = draw_look(person, person_stream(seed, number, "portraits"))
        for k, view in enumerate(VIEWS):
            for portrait in range(1, portraits + 1):
                # Each portrait has a stream of its own: asking for more changes no other.
                rng = person_stream(seed, number, "portraits", k, portrait)
                scene = draw_scene(person.is_male, rng)
                pixels = self.studio.portrait(surfaces.skin, look, scene, view, size, rng)
                yield Picture(view, "face", portrait, pixels)


@cache
def shared_simulator() -> Simulator:
    """Give this process's simulator, built at the first call."""
    return Simulator()

"""One person: parameters, surfaces, skull and line integrals; all rooms in order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from fcr_train.simulate.depths import read_depths
from fcr_train.simulate.head import load_head
from fcr_train.simulate.population import Person, draw_person, person_stream
from fcr_train.simulate.portrait import Studio
from fcr_train.simulate.radiograph import (
    VIEWS,
    Beam,
    LineIntegrals,
    Projection,
    View,
    line_integrals,
)
from fcr_train.simulate.shape import Anatomy, Surfaces
from fcr_train.simulate.skull import SkullBuilder, Template, read_template
from fcr_train.simulate.traits import SkullTraits, draw_traits
from fcr_train.simulate.warp import Calibration, Pose, Warp, draw_pose

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILM_TILT_DEGREES = 5.0
FILM_SCALE = 0.05
FILM_SHIFT_MM = 4.0
"""Films are held, enlarged and placed at random within these, apart from the portraits."""


@dataclass(frozen=True)
class Subject:
    """A person with everything that films are made of."""

    person: Person
    traits: SkullTraits | None
    """None where the skull is not the person's own but that of a CT."""
    surfaces: Surfaces
    template: Template
    calibration: Calibration


class Simulator:
    """Makes people; holds what all of them share: head, skull, warp and studio."""

    def __init__(self, depths: Path | None = None, template: Path | None = None) -> None:
        """Load the head.

        `depths` replaces the packaged table of tissue depths; `template` is a skull that everybody
        gets instead of one of their own, as `skull.write_template` wrote it.
        """
        self.anatomy = Anatomy(load_head(), read_depths(depths) if depths else None)
        self._template = template

    @cached_property
    def studio(self) -> Studio:
        """The studio for portraits; a second to set up."""
        return Studio(self.anatomy)

    @cached_property
    def warp(self) -> Warp:
        """The warp from the reference head into people's heads."""
        return Warp(self.anatomy)

    @cached_property
    def _builder(self) -> SkullBuilder:
        return SkullBuilder(self.anatomy)

    @cached_property
    def _given(self) -> tuple[Template, Calibration] | None:
        if self._template is None:
            return None
        template = read_template(self._template)
        return template, Calibration(self.anatomy, template)

    def person(self, seed: int, number: int) -> tuple[Person, Surfaces]:
        """Draw person `number` and build the surfaces."""
        person = draw_person(person_stream(seed, number, "population"))
        return person, self.anatomy.surfaces(person, person_stream(seed, number, "depths"))

    def subject(self, seed: int, number: int) -> Subject:
        """Draw person `number` and build the skull too."""
        person, surfaces = self.person(seed, number)
        if self._given is not None:
            return Subject(person, None, surfaces, *self._given)
        traits = draw_traits(person, person_stream(seed, number, "traits"))
        return Subject(person, traits, surfaces, *self.skull_of(traits))

    def skull_of(self, traits: SkullTraits) -> tuple[Template, Calibration]:
        """Build a skull on the reference head, and put it at the mean tissue depths."""
        template = self._builder.build(traits)
        return template, Calibration(self.anatomy, template)

    def films(
        self,
        subject: Subject,
        poses: Mapping[View, Pose],
        size: int,
        beam: Beam = "divergent",
    ) -> dict[View, LineIntegrals]:
        """Project a person's head once in each view asked for, each in a pose of its own."""
        bony = subject.surfaces.bony
        field = self.warp.field(bony, subject.calibration)
        solid = self.anatomy.head.as_solid(subject.surfaces.skin)
        return {
            view: line_integrals(
                self.warp.skull(subject.template, bony, field, pose),
                pose.turn(solid),
                self.anatomy.head.finer.triangles,
                Projection.posed(view, size, pose, beam),
                subject.person.bone_density,
            )
            for view, pose in poses.items()
        }


def draw_film_poses(seed: int, number: int) -> dict[View, Pose]:
    """Draw how a person is held for each film; both are drawn, whichever is wanted."""
    rng = person_stream(seed, number, "poses")
    return {v: draw_pose(rng, FILM_TILT_DEGREES, FILM_SCALE, FILM_SHIFT_MM) for v in VIEWS}


@cache
def shared_simulator(depths: Path | None = None, template: Path | None = None) -> Simulator:
    """Give this process's simulator, built at the first call."""
    return Simulator(depths, template)

"""The hollows of the skull: orbits, nose, sinuses, ear canals, air cells and the airway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_train.simulate.solids import (
    EVERYWHERE,
    HALF_SHAPE,
    STEP_MM,
    Solid,
    coordinates,
    occupancy,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fcr_train.simulate.solids import Slices, Volume
    from fcr_train.simulate.traits import Side, SkullTraits

ETHMOID = 2
"""Number of the ethmoid among the sinuses."""
NOSE = ((0.0, -48.0, -50.0), (6.0, 6.0, 32.0))
"""Box of the nasal septum [mm]."""
VOMER_Z = 10.0


@dataclass(frozen=True)
class Cavity:
    """A hollow of the skull with the thin wall around it."""

    solid: Solid
    air: float
    """Share of air inside."""
    wall: float
    """Cortical share of the wall."""
    wall_mm: float


def sinuses(traits: SkullTraits, side: Side) -> list[Cavity]:
    """List the cavities that differ: pituitary fossa, ear canal and the sinuses there are."""
    a, s, f = side.maxillary_sinus, side.sphenoid_sinus, side.frontal_sinus
    antrum = Solid((6, -62, -46), (54, -2, 18))
    antrum.ellipsoid((27, -28, -12), (13 * a, 15 * a, 17 * a))
    antrum.ellipsoid((22, -22, -6), (8 * a, 9 * a, 10 * a), 3)
    antrum.ellipsoid((32, -36, -16), (8 * a, 10 * a, 10 * a), 3)
    ethmoid = Solid((0, -24, -48), (24, 18, 24)).ellipsoid((10, -2, -12), (6, 9, 24))
    sphenoid = Solid((0, -36, -80), (28, 12, -28)).ellipsoid((7, -13, -52), (9 * s, 9 * s, 13 * s))
    ear = Solid((36, -40, -104), (60, -8, -64)).capsule((48, -24, -84), (75, -24, -80), (2.4, 3.2))
    # The pituitary fossa is open above: its box ends there.
    sella = Solid((0, -16, -76), (16, -1, -50))
    sella.capsule((0, -2, -64), (6, -2, -64), (6.2 * traits.sella, 6.2 * traits.sella))
    found = [
        Cavity(sella, 0.0, 0.5, 1.3),
        Cavity(antrum, 0.97, 0.12, 1.2),
        Cavity(ethmoid, 0.62, 0.18, 1.2),
        Cavity(sphenoid, 0.8, 0.2, 1.2),
        Cavity(ear, 0.7, 0.6, 1.8),
    ]
    if f > 0:
        frontal = Solid((0, 2, -6), (44, 66, 30))
        deep = 3.8 * f**0.4
        frontal.ellipsoid((8.5, 15 + 8 * f, 13), (7 + 3 * f, 3 + 9 * f, deep))
        frontal.ellipsoid((10 + 10 * f, 17 + 3 * f, 11.5), (8 * f, 3 + 3 * f, 0.9 * deep), 2)
        found.append(Cavity(frontal, 0.97, 0.45, 1.2))
    return found


def orbit() -> Solid:
    """Build the orbit, a cone that opens forward."""
    space = Solid(*EVERYWHERE).capsule((15, -2, -42), (31, -1, 4), (4, 17.2))
    return space.capsule((31, -1, 4), (36, -2, 30), (17.2, 18))


def nasal_cavity() -> Solid:
    """Build one nasal cavity."""
    space = Solid(*EVERYWHERE)
    space.ellipsoid((6, -27, 8), (8, 17, 26)).ellipsoid((6, -27, -25), (8, 15, 24))
    return space.capsule((3, -6, 10), (3, -12, 22), (2.5, 4))


def turbinates() -> Solid:
    """Build the lower and the middle turbinate, folds of the side wall of the nose."""
    fold = Solid(*EVERYWHERE).capsule((9.5, -36, 14), (9.5, -37, -30), (3, 3), 0, (1, 0.7, 1))
    return fold.capsule((7.5, -20, 6), (8, -23, -30), (2.2, 2.2), 0, (1, 0.6, 1))


def airway() -> Solid:
    """Build pharynx and larynx."""
    balls = [
        (4.0, -38.0, -50.0, 8.0),
        (5.0, -60.0, -58.0, 6.0),
        (6.0, -85.0, -57.0, 6.5),
        (4.0, -112.0, -48.0, 7.0),
        (5.0, -150.0, -50.0, 8.0),
        (5.0, -190.0, -54.0, 8.0),
    ]
    return Solid(*EVERYWHERE).chain(balls, 0, (0.75, 1, 1))


def mastoid_cells(side: Side) -> Solid:
    """Build the part of the mastoid that is full of air cells."""
    m = side.mastoid_cells
    space = Solid((34, -74, -128), (80, 6, -70))
    space.ellipsoid((57, -38, -96), (8 * m, 13 * m, 10 * m))
    return space.ellipsoid((58, -20, -100), (7 * m, 11 * m, 12 * m), 3)


def solid_septum(cells: Slices, shift: float) -> Volume:
    """Give the share of a cell that the septum fills; it bows by `shift` [mm] in the middle."""
    x, y, z = coordinates(cells)
    sheet = occupancy(np.abs(x - shift * np.exp(-(((y + 20) / 14) ** 2))) - 0.5)
    within = (y > -44) & (y < 4) & (z > -45) & (z < 20 - 0.2 * y)
    return np.asarray(sheet * within, np.float32)


def carve(bone: Volume, air: Volume, hollow: Sequence[Cavity], cortical: float) -> None:
    """Hollow the bone out, then put the walls, of `cortical` bone [per mm], between."""
    for cavity in hollow:
        part = cavity.solid.cells
        inside = occupancy(cavity.solid.distance + 0.2)
        bone[part] *= 1 - inside
        air[part] = np.maximum(air[part], cavity.air * inside)
    for cavity in hollow:
        part = cavity.solid.cells
        distance, half = cavity.solid.distance, cavity.wall_mm / 2
        wall = occupancy(np.abs(distance - half) - half) * (1 - air[part])
        bone[part] = np.maximum(bone[part], cortical * cavity.wall * wall)


def put_septum(bone: Volume, air: Volume, shift: float, cortical: float) -> None:
    """Put the nasal septum in, thin bone in the middle of the nose."""
    part = Solid(*NOSE).cells
    sheet = solid_septum(part, shift)
    # In front of the vomer it is cartilage, too faint to be taken for bone.
    share = np.where(coordinates(part)[2] < VOMER_Z, 0.26, 0.10)
    bone[part] = np.maximum(bone[part], cortical * share * sheet)
    air[part] *= 1 - sheet


def resting_air(nose: Solid, folds: Solid) -> Volume:
    """Give the share of air in nose and airway [0-1], the same for all."""
    air = 0.62 * occupancy(nose.distance) * (1 - occupancy(folds.distance))
    return np.asarray(np.maximum(air, 0.95 * occupancy(airway().distance)))


def thin_walls(orbit: Solid, nose: Solid, folds: Solid, z: Volume) -> Volume:
    """Give the cortical share of walls of orbit and nose, and of the turbinates."""
    share = np.zeros(HALF_SHAPE, np.float32)
    for space, wall, wall_mm, back, front in (
        (orbit, 0.30, 1.5, -43, 9),
        (nose, 0.22, 1.2, -60, 18),
    ):
        half = wall_mm / 2
        sheet = occupancy(np.abs(space.distance - half) - half) * ((z > back) & (z < front))
        share = np.maximum(share, wall * sheet)
    inside = occupancy(np.minimum(orbit.distance, nose.distance) + STEP_MM)
    return np.asarray(np.maximum(share * (1 - inside), 0.16 * occupancy(folds.distance + 0.8)))

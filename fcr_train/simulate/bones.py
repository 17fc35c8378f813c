"""The bones apart from the vault: face and base, the same for all, lower jaw and neck by trait.

Coordinates stand on the reference head (mm, x to the subject's left, y up, z forward, origin
between the eyes); they were tuned by eye on one public cadaver head CT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_train.simulate.solids import EVERYWHERE, Solid

if TYPE_CHECKING:
    from fcr_train.simulate.solids import Ball, Point
    from fcr_train.simulate.traits import Side, SkullTraits

CONDYLE = (51.0, -27.0, -72.0)
GONION = (42.0, -84.0, -57.0)
GONION_REACH_MM = 20.0
DEGREES_A_MM = 1.57
"""Change of the gonial angle when the gonion moves along the bisector, arms of 55 and 75 mm."""


def strong_face() -> Solid:
    """Build what has a thick cortex: orbital rims, brow, nasal bones, zygoma with its arch."""
    bone = Solid(*EVERYWHERE)
    rim: list[Ball] = [
        (32, 18.4, 16, 4.4),
        (44, 14, 10, 4),
        (49, 1, -3, 4.2),
        (45, -15, -1, 4.2),
        (32, -21, 6, 3),
        (20, -17, 10, 2.4),
        (13, 0, 14, 2.4),
        (18, 14, 18, 3.4),
    ]
    bone.chain([*rim, rim[0]], 2)
    bone.chain([(0, 15, 17, 4.5), (18, 17, 17, 4.2), (32, 20, 16, 3.8)], 3)
    bone.capsule((9, 4, 16), (16, -28, 14), (2.6, 2.6), 2)
    bone.chain([(2.5, 6, 15.8, 3), (2.5, -8, 22.4, 2.4), (2.5, -20, 28, 1.8)], 1.5)
    bone.capsule((0, -43, 13), (0, -41.5, 21.6), (3.0, 2.0), 1.5, (1, 0.5, 1))
    bone.capsule((49, 8, -5), (47, -16, -4), (4.2, 4.8), 3)
    bone.capsule((46, -18, -5), (38, -32, -7), (5, 3.2), 3)
    bone.ellipsoid((43, -21, -6), (10, 7, 8), 3)
    bone.chain(
        [
            (49, -20, -8, 4.6),
            (56, -23, -22, 3.6),
            (60, -23, -40, 3.2),
            (61, -22, -60, 3.4),
            (57, -20, -76, 4.4),
        ],
        2,
        (1, 0.5, 1),
    )
    # Hard palate, from the nasal spine to its posterior edge.
    bone.ellipsoid((0, -45.3, -9), (21, 1.7, 28), 1.5)
    return bone


def weak_face() -> Solid:
    """Build what is paper-thin or spongy: maxilla, sphenoid with its wings, clivus, pterygoids."""
    bone = Solid(*EVERYWHERE)
    bone.ellipsoid((23, -30, -10), (16.5, 18.5, 21.5), 3)
    bone.ellipsoid((24, -44, -17), (9.5, 9, 14), 3)
    bone.ellipsoid((0, -17, -56), (20, 12, 18), 3)
    bone.capsule((0, -14, -76), (0, -50, -98), (6.5, 5), 3)
    # Greater wing: side wall of the orbit and front wall of the middle fossa.
    bone.chain([(26, 2, -40, 2.2), (36, 2, -28, 2.2), (47, 4, -12, 3)], 2, (1, 0.3, 1))
    bone.capsule((30, -10, -42), (52, -16, -46), (3, 3), 2)
    bone.capsule((47, 4, -12), (52, 4, -30), (2.6, 2.6), 2, (1, 0.3, 1))
    # Lesser wing.
    bone.chain([(7, 4, -45, 2.4), (22, 6, -43, 1.8), (40, 9, -36, 1.3)], 2)
    bone.chain([(14, -26, -44, 2.6), (16, -54, -42, 1.6)], 2, (1, 1, 0.5))
    bone.chain([(20, -26, -46, 2.4), (25, -52, -47, 1.4)], 2, (1, 1, 0.5))
    bone.ellipsoid((57, -36, -94), (10.5, 19, 14), 4)
    bone.chain(PETROUS, 4)
    bone.capsule((45, -36, -85), (41, -64, -74), (2, 1.2))
    bone.ellipsoid((18, -53, -96), (7, 5.5, 10), 2)
    bone.chain(arch_chain(UPPER_ARCH, -55.0, 4.8), 2, (1, 4.8 / 9.5, 1))
    return bone


PETROUS: list[Ball] = [(15, -18, -70, 4), (36, -17, -80, 7), (57, -23, -91, 9)]
"""The pyramid around the inner ear."""


def petrous_pyramid() -> Solid:
    """Build the part of the base that is dense throughout."""
    return Solid((0, -60, -125), (75, 20, -45)).chain(PETROUS, 4)


def add_clinoids(bone: Solid) -> None:
    """Add the clinoid processes in front of the pituitary fossa and its back wall."""
    bone.capsule((8, 3, -49), (8.5, 1.5, -57), (2.2, 1.4), 1.5)
    bone.capsule((0, -14, -77), (0, -3.5, -74), (2.0, 1.6), 1)
    bone.capsule((0, -3.5, -74), (7, -2.5, -73), (1.6, 1.6), 1)


UPPER_ARCH = (25.4, -21.0, 39.4)
LOWER_ARCH = (24.0, -22.0, 34.0)
"""Half breadth, centre z and depth of the alveolar arches [mm]."""


def arch_points(arch: Point, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give x and z along an elliptic dental arch; angle 0 is the midline in front."""
    breadth, centre, depth = arch
    return breadth * np.sin(angles), centre + depth * np.cos(angles)


def arch_chain(arch: Point, y: float, radius: float) -> list[Ball]:
    """Give balls along the alveolar process."""
    x, z = arch_points(arch, np.radians(np.linspace(0, 98, 9)))
    return [(float(a), y, float(b), radius) for a, b in zip(x, z, strict=True)]


@dataclass(frozen=True)
class Hinge:
    """Moves points of the lower jaw: the gonial angle first, then the opening of the bite."""

    gonial_degrees: float
    bite_degrees: float

    def move(self, point: Point) -> Point:
        """Move one point [mm]."""
        x, y, z = point
        square = sum((p - g) ** 2 for p, g in zip(point, GONION, strict=True))
        bend = self.gonial_degrees / DEGREES_A_MM * np.exp(-square / (2 * GONION_REACH_MM**2))
        y, z = y + 0.66 * bend, z + 0.75 * bend
        angle = np.radians(self.bite_degrees)
        sine, cosine = np.sin(angle), np.cos(angle)
        up, forward = y - CONDYLE[1], z - CONDYLE[2]
        return (
            x,
            float(CONDYLE[1] + cosine * up - sine * forward),
            float(CONDYLE[2] + sine * up + cosine * forward),
        )

    def balls(self, balls: list[Ball]) -> list[Ball]:
        """Move balls, their radii unchanged."""
        return [(*self.move((x, y, z)), radius) for x, y, z, radius in balls]


JAW_BOX = ((0.0, -132.0, -90.0), (70.0, -18.0, 24.0))


def mandible(traits: SkullTraits, side: Side) -> Solid:
    """Build one half of the lower jaw."""
    hinge = Hinge(traits.gonial_degrees, traits.bite_degrees)
    bone = Solid(*JAW_BOX)
    bone.chain(hinge.balls(arch_chain(LOWER_ARCH, -81.5, 4.7)), 2, (1, 4.7 / 8.5, 1))
    body: list[Ball] = [
        (0, -98, 5, 5.4),
        (12, -97.5, 2.5, 5.6),
        (22, -95, -10, 5.6),
        (30.5, -91.5, -27, 5.6),
        (36.5, -86.5, -43, 4.8),
        (39.5, -80, -52, 4.2),
    ]
    bone.chain(hinge.balls(body), 3, (1, 0.48, 1))
    border: list[Ball] = [
        (12, -101, 2.5, 4.6),
        (21, -98.5, -10, 4.6),
        (29, -94.5, -27, 4.4),
        (35.5, -89.5, -43, 4.2),
        (40, -82, -53, 4.2),
    ]
    bone.chain(hinge.balls(border), 3)
    chin = traits.chin
    bone.ellipsoid(hinge.move((0, -99.5, 8.6)), (13 * chin, 9 * chin, 6.6 * chin), 5)
    bone.ellipsoid(hinge.move((12, -103, 3)), (9 * chin, 5 * chin, 6 * chin), 4)
    add_ramus(bone, hinge, side.ramus_width)
    return bone


def add_ramus(bone: Solid, hinge: Hinge, width: float) -> None:
    """Add ramus, coronoid process and condyle; `width` stretches it forward."""

    def forward(z: float) -> float:
        return -64 + width * (z + 64)

    flat = (1.85, 1, 1)
    for start, end, radii in (
        ((41.5, -78, -58), (49.5, -40, -68), (8, 6)),
        ((41, -77, -43), (46.5, -36, -44), (8, 3.4)),
        ((42.5, -70, -46), (47, -48, -48), (9.5, 9)),
        ((42, -74, -55), (48.5, -49, -58), (9, 9)),
    ):
        a, b = ((x, y, forward(z)) for x, y, z in (start, end))
        bone.capsule(hinge.move(a), hinge.move(b), (radii[0], radii[1]), 3, flat)
    bone.capsule(hinge.move((49.5, -42, -68)), CONDYLE, (4.4, 4.2), 3, (1.6, 1, 1))
    bone.ellipsoid(CONDYLE, (9.5, 5, 5), 2)


def mandibular_canal(traits: SkullTraits) -> Solid:
    """Build the canal of the nerve, from the inside of the ramus to the chin."""
    hinge = Hinge(traits.gonial_degrees, traits.bite_degrees)
    course: list[Ball] = [
        (44, -62, -58, 2),
        (40, -82, -48, 1.7),
        (34, -92, -34, 1.6),
        (25, -96, -14, 1.6),
        (26, -94, -8, 1.8),
    ]
    return Solid(*JAW_BOX).chain(hinge.balls(course), 0)


NECK_BOX = ((0.0, -186.0, -150.0), (46.0, -48.0, -10.0))
VERTEBRA_MM, DISC_MM = 12.6, 4.0
LEVELS = 6


@dataclass(frozen=True)
class Level:
    """Where a neck vertebra stands, and how it leans."""

    y: float
    z: float
    tilt: float
    """Forward nod [radians]."""

    def place(self, x: float, up: float, forward: float) -> Point:
        """Carry a point of the vertebra to the head [mm]."""
        sine, cosine = np.sin(self.tilt), np.cos(self.tilt)
        y = self.y + cosine * up - sine * forward
        return x, float(y), float(self.z + sine * up + cosine * forward)


def neck_levels(traits: SkullTraits) -> list[Level]:
    """Lay C2 to C7 along the curve of the neck, each below the last."""
    half = VERTEBRA_MM * traits.vertebra_height / 2
    # The upper end leans back, the lower end forward: the more so the deeper the lordosis.
    tilts = 0.05 + 0.20 * traits.lordosis * np.linspace(-1, 1.2, LEVELS)
    y, z, levels = -75.0, -81.0, []
    for k, tilt in enumerate(tilts.tolist()):
        levels.append(Level(y, z + traits.vertebra_shift_mm[k], tilt))
        step = 2 * half + DISC_MM * traits.disc
        y, z = y - step * float(np.cos(tilt)), z - step * float(np.sin(tilt))
    return levels


def neck(traits: SkullTraits) -> Solid:
    """Build one half of the vertebrae C1 to C7 and of the hyoid bone."""
    bone = Solid(*NECK_BOX)
    bone.ellipsoid((20, -59, -87), (8, 7, 8))
    bone.capsule((22, -59, -91), (0, -61, -115), (2.8, 3.2), 1.5)
    bone.ellipsoid((0, -61, -116), (5, 4.5, 3.4), 1.5)
    bone.capsule((20, -59, -82), (0, -59, -74), (3.5, 3), 1.5)
    bone.capsule((26, -59, -88), (36, -60, -90), (3, 3), 1)
    bone.capsule((0, -74, -81), (0, -57, -80.5), (6.5, 4.4), 1.5)
    half = VERTEBRA_MM * traits.vertebra_height / 2
    for k, level in enumerate(neck_levels(traits)):
        add_vertebra(bone, level, half, -44 if k == 0 else -36 - 2.0 * k)
    up, forward = traits.hyoid_mm
    hyoid = [(0, -113, -20, 3.2), (10, -113, -25, 2.4), (18, -110, -44, 1.6)]
    bone.chain([(x, y + up, z + forward, radius) for x, y, z, radius in hyoid], 1)
    return bone


def add_vertebra(bone: Solid, level: Level, half: float, spine: float) -> None:
    """Add one neck vertebra: body, joints, arch and a spine that ends `spine` mm behind."""
    bone.rounded_box((0, level.y, level.z), (9.5, half, 8.4), 1.8, 0.8, level.tilt)
    # Joint pillars lean more than the bodies, like tiles.
    bone.ellipsoid(level.place(20, -1, -13), (6, 8.6, 5.5), 0, level.tilt - 0.6)
    bone.capsule(level.place(8, 0, -5), level.place(19, 0, -10), (3.2, 3.0), 1.5)
    bone.capsule(level.place(17, -1, -15), level.place(0, -4, -27), (2.2, 2.8), 1.5)
    bone.capsule(level.place(0, -4, -26), level.place(0, -11, spine), (3.4, 2.8), 1.5, (1.3, 1, 1))

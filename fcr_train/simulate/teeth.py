"""Teeth: crowns of enamel on roots of dentin, with pulp, fillings and crowns of metal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_train.simulate.bones import Hinge, arch_points
from fcr_train.simulate.solids import STEP_MM, Solid, occupancy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fcr_train.simulate.solids import Point, Volume
    from fcr_train.simulate.traits import Side, SkullTraits, Tooth

# Attenuation beyond that of soft tissue [per mm], at 70 kVp; estimates. Metal stops nearly all
# rays even where a filling is only a few millimetres thick.
DENTIN, ENAMEL, GUTTA_PERCHA, METAL = 0.075, 0.130, 0.35, 0.90
UPPER_WIDTHS = (8.6, 6.6, 7.6, 7.0, 6.8, 10.2, 9.8, 9.0)
LOWER_WIDTHS = (5.3, 5.9, 6.9, 7.0, 7.1, 11.0, 10.5, 10.2)
"""Mesiodistal widths from the central incisor to the third molar [mm]."""
UPPER_TEETH = (26.5, -21.0, 47.2)
LOWER_TEETH = (24.6, -22.0, 42.5)
BITE_Y = -71.2
ENAMEL_MM = 1.4
SOCKET_MM = 0.9
"""Width of the gap around a root in which bone is half as dense."""
REACH_MM = 9.0


@dataclass(frozen=True)
class Place:
    """Where a tooth stands, and along which axis."""

    edge: Point
    """Middle of the biting edge."""
    axis: Point
    """Unit vector from the edge to the root."""
    outward: tuple[float, float]
    """Unit vector in x and z from the tongue to the cheek."""

    def along(self, mm: float, sideways: float = 0.0, outward: float = 0.0) -> Point:
        """Give the point `mm` along the axis, shifted along the arch and outward."""
        x, z = self.outward
        return (
            self.edge[0] + mm * self.axis[0] + sideways * z + outward * x,
            self.edge[1] + mm * self.axis[1],
            self.edge[2] + mm * self.axis[2] - sideways * x + outward * z,
        )


def tooth_places(arch: Point, widths: Sequence[float]) -> list[tuple[float, float, float]]:
    """Lay teeth side by side along an arch; give x and z of their centres, and the angle."""
    angles = np.radians(np.linspace(0, 125, 500))
    x, z = arch_points(arch, angles)
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
    centre = np.cumsum(widths) - np.array(widths) / 2
    columns = (np.interp(centre, length, column).tolist() for column in (x, z, angles))
    return list(zip(*columns, strict=True))


def put_teeth(bone: Volume, traits: SkullTraits, side: Side) -> None:
    """Put the teeth of one side into the attenuation of a half skull, in place of bone there."""
    hinge = Hinge(0.0, traits.bite_degrees)
    straight = Hinge(0.0, 0.0)
    for row, arch, widths, up, jaw in (
        (side.upper, UPPER_TEETH, UPPER_WIDTHS, 1.0, straight),
        (side.lower, LOWER_TEETH, LOWER_WIDTHS, -1.0, hinge),
    ):
        spots = tooth_places(arch, widths)
        for number, (tooth, spot) in enumerate(zip(row, spots, strict=True)):
            if tooth.present:
                place = tooth_place(number, tooth, spot, up, jaw)
                put_tooth(bone, number, tooth, place, widths[number])


def tooth_place(
    number: int, tooth: Tooth, spot: tuple[float, float, float], up: float, jaw: Hinge
) -> Place:
    """Stand a tooth on the arch; front teeth lean outward, upper ones more."""
    x, z, angle = spot
    outward = (float(np.sin(angle)), float(np.cos(angle)))
    lean = np.radians(tooth.lean_degrees)
    front = (0.28, 0.27, 0.18)[number] if number < 3 else 0.03
    inward = front if up > 0 else 1.1 * front
    along = np.array([-inward * outward[0], up, -inward * outward[1]])
    along += np.tan(lean) * np.array([outward[1], 0, -outward[0]])
    along /= np.linalg.norm(along)
    overjet = 1.0 if up > 0 and number < 3 else 0.0
    shift = tooth.outward_mm + overjet
    # Upper front teeth bite in front of the lower ones and overlap them.
    y = BITE_Y + up * (0.4 + tooth.sunk_mm) - (0.9 if number < 3 and up > 0 else 0)
    edge = (x + shift * outward[0], y, z + shift * outward[1])
    root = jaw.move((edge[0] + along[0], edge[1] + along[1], edge[2] + along[2]))
    edge = jaw.move(edge)
    axis = (root[0] - edge[0], root[1] - edge[1], root[2] - edge[2])
    return Place(edge, axis, outward)


def put_tooth(bone: Volume, number: int, tooth: Tooth, place: Place, width: float) -> None:
    """Put one tooth in: dentin under a cap of enamel, pulp within, metal where it was filled."""
    ends = np.array([place.along(0), place.along(28)])
    box = ends.min(0) - REACH_MM, ends.max(0) + REACH_MM
    crown, roots, pulp = (Solid(*box) for _ in range(3))
    shape_crown(crown, number, place, width)
    shape_roots(roots, pulp, number, place, width)
    part = crown.cells
    whole = np.minimum(crown.distance, roots.distance)
    filled, cap = occupancy(whole), occupancy(crown.distance)
    core = occupancy(crown.distance + ENAMEL_MM)
    tissue = ENAMEL * np.maximum(cap - core, 0) + DENTIN * np.maximum(filled - cap + core, 0)
    hollow = occupancy(pulp.distance)
    tissue *= 1 - 0.85 * hollow * (1 - (cap - core))
    if tooth.root_filled:
        tissue = np.maximum(tissue, GUTTA_PERCHA * hollow * (1 - cap))
    if tooth.metal != "none":
        tissue = np.maximum(tissue, METAL * metal_share(crown, tooth, place))
    socket = 1 - 0.5 * occupancy(whole - SOCKET_MM)
    bone[part] = bone[part] * socket * (1 - filled) + tissue


def shape_crown(crown: Solid, number: int, place: Place, width: float) -> None:
    """Shape a crown: a wedge on front teeth, a block with a rounded edge on the others."""
    half = 0.47 * width
    if number < 3:
        # Two capsules side by side make the edge as wide as the tooth.
        for side in (-0.45, 0.45):
            top = place.along(1.2, side * width * 0.75)
            crown.capsule(top, place.along(9, side * width * 0.5), (1.2, 0.38 * width), 1.0)
        return
    depth = 4.6 if number > 4 else 4.2
    for side in (-0.4, 0.4):
        for cheek in (-0.45, 0.45):
            top = place.along(1.8, side * half, cheek * depth)
            neck = place.along(6.5, 0.6 * side * half, 0.6 * cheek * depth)
            crown.capsule(top, neck, (0.6 * half, 0.66 * half), 1.5)


def shape_roots(roots: Solid, pulp: Solid, number: int, place: Place, width: float) -> None:
    """Shape one root, or two on molars, each with its canal below the chamber of the pulp."""
    neck, length = (8.0, 14.5) if number < 3 else (6.0, 14.0)
    length += 3.0 * (number == 2)
    spread = (2.6, -2.6) if number > 4 else (0.0,)
    thick = (2.4, 1.1) if number > 4 else (0.37 * width, 1.2)
    pulp.capsule(place.along(4.5), place.along(neck), (0.5, 0.14 * width))
    for side in spread:
        start, apex = place.along(neck, 0.8 * side), place.along(neck + length, 1.1 * side)
        roots.capsule(start, apex, thick, 1.0)
        pulp.capsule(place.along(neck, 0.6 * side), apex, (0.8, 0.3))


def metal_share(crown: Solid, tooth: Tooth, place: Place) -> Volume:
    """Give the share of metal: the outer shell of a crown, or a filling at its top."""
    cap = occupancy(crown.distance)
    if tooth.metal == "crown":
        return np.asarray(np.minimum(cap, 1 - occupancy(crown.distance + STEP_MM)))
    lump = Solid(place.along(0), place.along(0))
    lump.cells, lump.distance = crown.cells, np.full_like(crown.distance, 1e3)
    lump.capsule(place.along(1.5), place.along(3.2), (2.6, 2.0))
    return np.asarray(np.minimum(cap, occupancy(lump.distance)))

"""A procedural skull: bones as implicit surfaces, rasterised to attenuation and air volumes.

The surfaces stand on the reference head (mm, x to the subject's left, y up, z forward, origin
between the eyes). The coordinates were tuned by eye on one public cadaver head CT.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_train.simulate.raster import fill_inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float32

    from fcr_train.simulate.shape import Anatomy

    Volume = Float32[np.ndarray, "x y z"]
    Point = tuple[float, float, float]
    Ball = tuple[float, float, float, float]

STEP_MM = 1.5
ORIGIN = (-105.0, -186.0, -195.0)
"""First grid point [mm]."""
SHAPE = (141, 211, 171)
HALF = 70
"""Index of the plane x = 0; bones are built from there to the left and mirrored."""

# Attenuation beyond that of soft tissue [per mm], at 70 kVp with 2.5 mm Al behind 14 cm of soft
# tissue; cortical bone from a SpekPy spectrum, the others estimates.
CORTICAL, SPONGIOSA, DENTIN, ENAMEL = 0.060, 0.016, 0.075, 0.150
NOISE_SEED = 20_000
DEPTH_BLUR = 2.0
"""Grid steps; smooths the facets of the mesh, which would show as rings on the brain case."""


@dataclass(frozen=True)
class Template:
    """A skull on the grid of the reference head."""

    bone: Volume
    """Attenuation beyond soft tissue [per mm]."""
    air: Volume
    """Share of air [0-1]."""


class Field:
    """A signed distance [mm, negative inside] over the left half grid, made of united shapes."""

    def __init__(self) -> None:
        """Start empty: far outside everywhere."""
        shape = (SHAPE[0] - HALF, *SHAPE[1:])
        self.distance = np.full(shape, 1e3, np.float32)
        self._axes = [
            np.asarray(start + STEP_MM * np.arange(count), np.float32)
            for start, count in zip((0.0, *ORIGIN[1:]), shape, strict=True)
        ]

    @property
    def coordinates(self) -> tuple[Volume, Volume, Volume]:
        """Grid coordinates [mm], shaped to broadcast."""
        x, y, z = self._axes
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def _box(self, low: Sequence[float], high: Sequence[float]) -> tuple[slice, slice, slice]:
        """Find the part of the grid between two corners [mm]."""
        bounds = [
            (int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b, "right")))
            for axis, a, b in zip(self._axes, low, high, strict=True)
        ]
        return (slice(*bounds[0]), slice(*bounds[1]), slice(*bounds[2]))

    def _add(self, box: tuple[slice, slice, slice], distance: Volume, width: float) -> None:
        self.distance[box] = unite(self.distance[box], distance, width)

    def _inside(self, box: tuple[slice, slice, slice]) -> tuple[Volume, Volume, Volume]:
        x, y, z = (axis[part] for axis, part in zip(self._axes, box, strict=True))
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def ellipsoid(self, centre: Point, radii: Point, width: float = 0.0) -> Field:
        """Unite with an ellipsoid; the distance is first order (I. Quilez)."""
        margin = 8 + width
        box = self._box(
            [c - r - margin for c, r in zip(centre, radii, strict=True)],
            [c + r + margin for c, r in zip(centre, radii, strict=True)],
        )
        offset = [p - c for p, c in zip(self._inside(box), centre, strict=True)]
        level = np.sqrt(sum((o / r) ** 2 for o, r in zip(offset, radii, strict=True)))
        slope = np.sqrt(sum((o / r**2) ** 2 for o, r in zip(offset, radii, strict=True)))
        self._add(box, level * (level - 1) / np.maximum(slope, 1e-6), width)
        return self

    def capsule(
        self,
        start: Point,
        end: Point,
        radii: tuple[float, float],
        width: float = 0.0,
        scale: Point = (1, 1, 1),
    ) -> Field:
        """Unite with a tapered capsule; `scale` multiplies coordinates, below 1 it lengthens."""
        reach = [(max(radii) + 8 + width) / s for s in scale]
        box = self._box(
            [min(a, b) - r for a, b, r in zip(start, end, reach, strict=True)],
            [max(a, b) + r for a, b, r in zip(start, end, reach, strict=True)],
        )
        a = np.array(start) * scale
        axis = np.array(end) * scale - a
        offset = [p * s - o for p, s, o in zip(self._inside(box), scale, a, strict=True)]
        along = sum(o * d for o, d in zip(offset, axis, strict=True)) / max(axis @ axis, 1e-9)
        along = np.clip(along, 0, 1)
        square = sum((o - along * d) ** 2 for o, d in zip(offset, axis, strict=True))
        radius = radii[0] + (radii[1] - radii[0]) * along
        self._add(box, np.sqrt(square) - radius, width)
        return self

    def chain(self, balls: Sequence[Ball], width: float, scale: Point = (1, 1, 1)) -> Field:
        """Unite with capsules from ball to ball, each (x, y, z, radius)."""
        for (*start, first), (*end, second) in itertools.pairwise(balls):
            a, b = (start[0], start[1], start[2]), (end[0], end[1], end[2])
            self.capsule(a, b, (first, second), width, scale)
        return self

    def rounded_box(self, centre: Point, half: Point, rounding: float, width: float) -> Field:
        """Unite with a box of half sizes `half` whose edges are rounded."""
        box = self._box(
            [c - h - 10 for c, h in zip(centre, half, strict=True)],
            [c + h + 10 for c, h in zip(centre, half, strict=True)],
        )
        excess = [
            np.abs(p - c) - (h - rounding)
            for p, c, h in zip(self._inside(box), centre, half, strict=True)
        ]
        outside = np.sqrt(sum(np.maximum(e, 0) ** 2 for e in excess))
        inside = np.minimum(np.maximum(np.maximum(excess[0], excess[1]), excess[2]), 0)
        self._add(box, outside + inside - rounding, width)
        return self


def unite(a: Volume, b: Volume, width: float) -> Volume:
    """Unite two distances with a smooth seam of `width` [mm]."""
    if width <= 0:
        return np.asarray(np.minimum(a, b))
    share = np.clip(0.5 + 0.5 * (a - b) / width, 0, 1)
    return np.asarray(a + (b - a) * share - width * share * (1 - share), np.float32)


def occupancy(distance: Volume) -> Volume:
    """Turn a distance into the filled share of a grid cell [0-1]."""
    return np.asarray(np.clip(0.5 - distance / STEP_MM, 0, 1), np.float32)


def logistic(value: Volume | float) -> Volume:
    """Step smoothly from 0 to 1."""
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -40, 40))), np.float32)


def add_face_bones(bone: Field) -> None:
    """Add orbital rims, brow ridge, nasal bones, zygoma with its arch, and maxilla."""
    rim: list[Ball] = [
        (32, 19, 16, 4),
        (44, 14, 10, 4.5),
        (49, 1, -3, 4.8),
        (45, -15, -1, 4.5),
        (32, -21, 6, 3.5),
        (20, -17, 10, 3),
        (13, 0, 14, 3),
        (18, 14, 18, 4),
    ]
    bone.chain([*rim, rim[0]], 2)
    bone.chain([(0, 15, 17, 4.5), (18, 17, 17, 4.2), (32, 20, 16, 3.8)], 3)
    bone.capsule((9, 4, 16), (16, -28, 14), (3, 3.4), 2)
    bone.chain([(2.5, 6, 17, 3), (2.5, -8, 23, 2.6), (2.5, -20, 28.5, 2)], 1.5)
    bone.capsule((0, -44, 18), (0, -44, 24), (2.8, 1.6), 1.5)
    bone.capsule((49, 8, -5), (47, -16, -4), (4.6, 5.2), 3)
    bone.capsule((46, -18, -5), (37, -36, -2), (6, 5), 3)
    bone.ellipsoid((43, -21, -6), (11, 9, 9), 3)
    bone.chain(
        [
            (49, -20, -8, 5.5),
            (56, -23, -22, 4.4),
            (60, -23, -40, 3.8),
            (61, -22, -60, 3.8),
            (57, -20, -76, 5),
        ],
        2,
    )
    bone.ellipsoid((25, -31, -11), (20, 21, 22), 3)
    bone.ellipsoid((0, -44.5, -10), (24, 1.6, 30), 1.5)


def add_skull_base(bone: Field) -> None:
    """Add sphenoid, clivus, pterygoids, and the parts of the temporal and occipital bones."""
    bone.ellipsoid((0, -13, -57), (23, 15, 19), 3)
    bone.capsule((0, -12, -74), (0, -50, -97), (8, 6), 3)
    bone.capsule((3, 1, -73), (8, 1, -73), (2.5, 2.5), 1)
    bone.capsule((26, 0, -36), (46, 6, -12), (4, 3.5), 2)
    bone.capsule((30, -8, -40), (52, -18, -48), (4, 4), 2)
    bone.chain([(14, -28, -44, 3), (16, -54, -42, 2.4)], 2)
    bone.chain([(20, -26, -47, 2.6), (25, -52, -47, 1.8)], 2)
    bone.ellipsoid((57, -38, -95), (10.5, 19, 14), 3)
    bone.capsule((45, -36, -85), (41, -64, -74), (2, 1.2))
    bone.ellipsoid((18, -53, -96), (8, 6, 10), 2)


UPPER_ARCH = (26.0, -21.0, 41.0)
LOWER_ARCH = (24.5, -22.0, 36.0)
"""Half breadth, centre z and depth of the alveolar arches [mm]."""


def arch_points(arch: Point, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give x and z along an elliptic dental arch; angle 0 is the midline in front."""
    breadth, centre, depth = arch
    return breadth * np.sin(angles), centre + depth * np.cos(angles)


def add_jaws(bone: Field) -> None:
    """Add alveolar arches, the body of the mandible with the chin, rami and condyles."""
    angles = np.radians(np.linspace(0, 98, 9))
    for arch, y, radius, height in (
        (UPPER_ARCH, -54.0, 4.8, 9.0),
        (LOWER_ARCH, -86.0, 4.4, 8.0),
    ):
        x, z = arch_points(arch, angles)
        balls = [(float(a), y, float(b), radius) for a, b in zip(x, z, strict=True)]
        bone.chain(balls, 2, (1, radius / height, 1))
    body: list[Ball] = [
        (0, -97, 6.5, 6.2),
        (13, -96, 4, 6.2),
        (24, -94, -10, 6),
        (33, -90, -27, 5.8),
        (40, -86, -43, 5.6),
        (44, -80, -54, 5),
    ]
    bone.chain(body, 3, (1, 0.44, 1))
    bone.ellipsoid((0, -104, 8.5), (14, 6, 7), 4)
    bone.ellipsoid((14, -105, 4), (10, 5, 6), 4)
    flat = (1.85, 1, 1)
    bone.capsule((44, -80, -56), (51, -34, -69), (8, 6), 3, flat)
    bone.capsule((43, -76, -46), (47, -33, -46), (7, 4), 3, flat)
    bone.capsule((45, -68, -50), (48, -48, -56), (8, 8), 3, flat)
    bone.ellipsoid((51, -27, -72), (9.5, 5, 5), 2)


def add_neck(bone: Field) -> None:
    """Add the vertebrae C1 to C7 and the hyoid bone."""
    bone.ellipsoid((20, -59, -87), (8, 7, 8))
    bone.capsule((22, -59, -91), (0, -61, -113), (3.2, 3.4), 1.5)
    bone.capsule((20, -59, -82), (0, -59, -74), (3.5, 3), 1.5)
    bone.capsule((26, -59, -88), (36, -60, -90), (3, 3), 1)
    bone.capsule((0, -74, -81), (0, -57, -80), (7, 4.6), 1.5)
    for level in range(6):
        add_vertebra(bone, -75 - 16.5 * level, -81 - 1.2 * level, -42 if level == 0 else -38)
    bone.chain([(0, -113, -20, 3), (10, -113, -25, 2.4), (18, -110, -44, 1.6)], 1)


def add_vertebra(bone: Field, y: float, z: float, spine: float) -> None:
    """Add one neck vertebra: body, joints, arch and a spine that ends at z + `spine`."""
    bone.rounded_box((0, y, z), (9, 6.3, 8), 2, 0.8)
    bone.ellipsoid((20, y, z - 10), (6, 8.2, 7))
    bone.capsule((8, y, z - 4), (19, y, z - 9), (3.4, 3.4), 1.5)
    bone.capsule((17, y - 2, z - 14), (0, y - 4, z - 27), (3, 3.2), 1.5)
    bone.capsule((0, y - 4, z - 27), (0, y - 10, z + spine), (3.2, 2.6), 1.5)


@dataclass(frozen=True)
class Cavity:
    """A hollow of the skull with the thin wall around it."""

    field: Field
    air: float
    """Share of air inside."""
    wall: float
    """Cortical share of the wall."""
    wall_mm: float
    back: float = -1e3
    front: float = 1e3
    """The wall exists between these z [mm]."""


def cavities() -> list[Cavity]:
    """List orbit, nose, antrum, frontal sinus, ethmoid cells, sphenoid sinus, ear canal."""
    orbit = Field().capsule((15, -2, -42), (31, -1, 4), (4, 18.5))
    orbit.capsule((31, -1, 4), (36, -1, 30), (18.5, 22))
    nose = Field().ellipsoid((6, -27, 8), (8, 17, 26)).ellipsoid((6, -27, -25), (8, 15, 24))
    nose.capsule((3, -6, 10), (3, -12, 22), (2.5, 4))
    antrum = Field().ellipsoid((27, -28, -12), (13, 15, 17)).ellipsoid((22, -22, -6), (8, 9, 10))
    antrum.ellipsoid((33, -34, -18), (7, 8, 9))
    frontal = Field().ellipsoid((9, 23, 13), (10, 12, 4.2)).ellipsoid((20, 20, 12), (8, 6, 3.6))
    ethmoid = Field().ellipsoid((10, -2, -12), (6.5, 9, 24))
    sphenoid = Field().ellipsoid((7, -14, -52), (9, 10.5, 13))
    ear = Field().capsule((50, -24, -84), (75, -24, -80), (3.2, 3.2))
    return [
        Cavity(orbit, 0.0, 0.40, 1.6, -43, 9),
        Cavity(nose, 0.72, 0.25, 1.2, front=18),
        Cavity(antrum, 0.97, 0.22, 1.6),
        Cavity(frontal, 0.97, 0.50, 1.2),
        Cavity(ethmoid, 0.75, 0.20, 1.2),
        Cavity(sphenoid, 0.97, 0.30, 1.2),
        Cavity(ear, 0.95, 0.0, 1.0),
    ]


def vault_distance(depth: Volume, x: Volume, y: Volume, z: Volume) -> Volume:
    """Give the distance to the brain case.

    Its outer face lies a regional depth below the skin (`depth` [mm]); its floor is a height
    field in three steps, the anterior, middle and posterior fossa, with the petrous ridge.
    """
    ant = 7 + 10 * np.exp(-(((x - 30) / 14) ** 2)) - 0.1 * np.maximum(0, -z)
    central = -6 * np.exp(-(((z + 62) / 5) ** 2)) + 0 * x
    lateral = -30 + 14 * np.exp(-(((x - 14) / 8) ** 2)) + 0.012 * (x - 42) ** 2 + 0 * z
    mid = central + (lateral - central) * logistic((x - 14) / 1.5)
    pos = -52 + 0.010 * (z + 112) ** 2 + 0.006 * x**2
    floor = ant + (mid - ant) * logistic(-(z + 40) / 2.5)
    floor = floor + (pos - floor) * logistic(-(z + 84 - 0.15 * x) / 2.5)
    ridge = np.exp(-(((z + 80 - 0.12 * x) / 6) ** 2)) * ((x > 9) & (x < 64))
    floor = floor + ridge * np.maximum(-10 - 0.12 * x - floor, 0)
    floor = ndimage.gaussian_filter(floor[:, 0], 1.2)[:, None].astype(np.float32)
    temporal = 9 * np.exp(-(((z + 22) / 26) ** 2) - ((y - 6) / 26) ** 2)
    neck = 0.55 * np.maximum(0, -y - 18) * logistic(-(z + 95) / 2)
    occiput = 1.2 * np.exp(-(((z + 165) / 40) ** 2))
    outer = depth - (5.6 + temporal * logistic((x - 25) / 3) + neck + occiput)
    thick = 6.2 + 1.2 * np.cos(z / 33) + 1.5 * np.exp(-(((z + 170) / 25) ** 2))
    thick = thick - 2 * np.exp(-(((z + 35) / 30) ** 2) - ((y - 15) / 25) ** 2)
    vault = np.maximum(-outer, np.minimum(outer - thick, 0.9 * (y - floor)))
    plate = 2 + 2.6 * logistic(-(z + 42) / 3)
    return np.asarray(np.maximum(vault, 0.9 * (floor - plate - y)), np.float32)


def skin_depth(anatomy: Anatomy) -> Volume:
    """Measure the depth below the skin of the reference head, ears removed [mm], left half.

    The head being symmetric, the skin nearest to a point on the left is on the left too.
    """
    closed = anatomy.head.with_closed_mouth(anatomy.reference)
    inside = fill_inside(closed, anatomy.head.skin, ORIGIN, STEP_MM, SHAPE)
    # The skin of the mesh lines the sockets behind the eyes, which are no outside.
    inside |= fill_inside(closed, anatomy.head.eyes, ORIGIN, STEP_MM, SHAPE)
    inside = (ndimage.binary_closing(inside, iterations=3) | inside)[HALF:]
    depth = ndimage.distance_transform_edt(without_ears(inside), STEP_MM) - STEP_MM / 2
    return np.asarray(ndimage.gaussian_filter(depth.astype(np.float32), DEPTH_BLUR, mode="mirror"))


def without_ears(inside: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Open with a ball of 9 mm behind z = -40, which takes the ears away."""
    radius = 9 / STEP_MM
    eroded = ndimage.distance_transform_edt(inside) > radius
    opened = ndimage.distance_transform_edt(~eroded) <= radius
    behind = ORIGIN[2] + STEP_MM * np.arange(SHAPE[2]) < -40
    return np.asarray(np.where(behind, inside & opened, inside))


UPPER_WIDTHS = (8.6, 6.6, 7.6, 7.0, 6.8, 10.2, 9.8)
LOWER_WIDTHS = (5.3, 5.9, 6.9, 7.0, 7.1, 11.0, 10.5)
"""Mesiodistal widths from the central incisor to the second molar [mm]."""
UPPER_TEETH = (26.5, -21.0, 44.0)
LOWER_TEETH = (24.5, -22.0, 40.0)
BITE_Y = -71.2
ENAMEL_MM = 1.5


def add_teeth(crowns: Field, roots: Field) -> None:
    """Add 28 teeth, third molars left out."""
    for arch, widths, up in ((UPPER_TEETH, UPPER_WIDTHS, 1.0), (LOWER_TEETH, LOWER_WIDTHS, -1.0)):
        for number, (x, z) in enumerate(tooth_places(arch, widths)):
            add_tooth(crowns, roots, number, (x, BITE_Y + 0.9 * up, z), widths[number], up)


def tooth_places(arch: Point, widths: Sequence[float]) -> list[tuple[float, float]]:
    """Lay teeth side by side along an arch; give x and z of their centres."""
    angles = np.radians(np.linspace(0, 105, 400))
    x, z = arch_points(arch, angles)
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
    centre = np.cumsum(widths) - np.array(widths) / 2
    return list(
        zip(
            np.interp(centre, length, x).tolist(),
            np.interp(centre, length, z).tolist(),
            strict=True,
        )
    )


def add_tooth(
    crowns: Field, roots: Field, number: int, edge: Point, width: float, up: float
) -> None:
    """Add one tooth from its biting edge; `up` is 1 in the upper jaw, -1 in the lower."""
    x, y, z = edge
    radius = 0.93 * min(width / 2, 4.6)
    front, molar = number < 3, number > 4
    crown, root = (10.0 if front else 7.5), (16.0 if number == 2 else 13.0)
    tip = (0.85 if front else 0.95) * radius
    crowns.capsule((x, y + up * tip, z), (x, y + up * crown, z), (tip, radius))
    neck, apex = y + up * 0.7 * crown, y + up * (0.7 * crown + root)
    for shift in (2.6, -2.6) if molar else (0.0,):
        thick = (2.6, 1.2) if molar else (0.8 * radius, 1.4)
        roots.capsule((x, neck, z + shift), (x, apex, z + shift), thick)


def airway() -> Field:
    """Give pharynx and larynx."""
    balls: list[Ball] = [
        (4, -38, -52, 8),
        (5, -60, -60, 6),
        (6, -85, -58, 7),
        (4, -112, -48, 7),
        (5, -150, -52, 8),
        (5, -190, -56, 8),
    ]
    return Field().chain(balls, 0, (0.75, 1, 1))


def marrow_noise(width: float, seed: int) -> Volume:
    """Draw smooth noise of unit variance over the half grid, so that both sides have the same."""
    shape = (SHAPE[0] - HALF, *SHAPE[1:])
    noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
    noise = ndimage.gaussian_filter(noise, width)
    return np.asarray(noise / noise.std(), np.float32)


def build_skull(anatomy: Anatomy) -> Template:
    """Build the skull of the reference head; symmetric, the same each time."""
    bone = Field()
    for add in (add_face_bones, add_skull_base, add_jaws, add_neck):
        add(bone)
    grid = bone.coordinates
    depth = skin_depth(anatomy)
    hollow = cavities()
    distance = unite(bone.distance, vault_distance(depth, *grid), 2)
    # Bone may come close to the skin, never through it.
    distance = np.maximum(distance, 1.5 - depth)
    for cavity in hollow:
        distance = np.maximum(distance, -cavity.field.distance - 0.2)
    attenuation = attenuate(distance, hollow, grid)
    attenuation = with_teeth(attenuation)
    attenuation[depth < 1.0] = 0
    air = air_share(hollow, distance)
    return Template(bone=mirror_half(attenuation), air=mirror_half(air))


def attenuate(
    distance: Volume, hollow: Sequence[Cavity], grid: tuple[Volume, Volume, Volume]
) -> Volume:
    """Turn the bone's distance into attenuation: cortical shell and walls, spongiosa within."""
    x, y, z = grid
    coarse, fine = marrow_noise(3, NOISE_SEED), marrow_noise(1, NOISE_SEED + 1)
    filled = occupancy(distance)
    cortical = filled * occupancy(np.abs(distance + 1.2) - 1.4)
    petrous = occupancy(Field().capsule((16, -17, -70), (57, -23, -90), (7.5, 11)).distance)
    cortical = np.maximum(cortical, 0.62 * petrous * filled)
    spongiosa = (filled - cortical) * (1 + 1.1 * logistic((y - 8) / 6))
    spongiosa = spongiosa * np.clip(1 + 0.25 * coarse + 0.25 * fine, 0.2, 1.8)
    mastoid = occupancy(mastoid_cells().distance)
    spongiosa = spongiosa * (1 - 0.5 * mastoid)
    cortical = cortical + wall_share(hollow, z) * (1 - filled)
    septum = (x <= 0.7) & (y > -43) & (y < 4) & (z > -45) & (z < 20 - 0.2 * y)
    cortical = np.maximum(cortical, 0.22 * septum)
    cortical = cortical * np.clip(1 + 0.1 * coarse, 0.6, 1.3)
    return np.asarray(CORTICAL * cortical + SPONGIOSA * spongiosa, np.float32)


def wall_share(hollow: Sequence[Cavity], z: Volume) -> Volume:
    """Give the cortical share of the thin walls around cavities, outside every cavity."""
    share = np.zeros_like(hollow[0].field.distance)
    inside = np.zeros_like(share)
    for cavity in hollow:
        distance = cavity.field.distance
        half = cavity.wall_mm / 2
        shell = occupancy(np.abs(distance - half) - half) * (
            (z > cavity.back) & (z < cavity.front)
        )
        share = np.maximum(share, cavity.wall * shell)
        inside = np.maximum(inside, occupancy(distance + STEP_MM))
    return np.asarray(share * (1 - inside), np.float32)


def mastoid_cells() -> Field:
    """Give the air cells of the mastoid process."""
    return Field().ellipsoid((57, -37, -95), (7.5, 14, 10))


def with_teeth(attenuation: Volume) -> Volume:
    """Put the teeth in: dentin with a cap of enamel, in place of the bone there."""
    crowns, roots = Field(), Field()
    add_teeth(crowns, roots)
    crown, root = occupancy(crowns.distance), occupancy(roots.distance)
    core = occupancy(crowns.distance + ENAMEL_MM)
    tooth = ENAMEL * (crown - core) + DENTIN * np.maximum(core, root * (1 - crown))
    return np.asarray(attenuation * (1 - np.maximum(crown, root)) + tooth, np.float32)


def air_share(hollow: Sequence[Cavity], distance: Volume) -> Volume:
    """Give the share of air in cavities, mastoid cells and, outside bone, the airway."""
    air = 0.95 * occupancy(airway().distance) * (1 - occupancy(distance))
    air = np.maximum(air, 0.45 * occupancy(mastoid_cells().distance))
    for cavity in hollow:
        air = np.maximum(air, cavity.air * occupancy(cavity.field.distance))
    return np.asarray(air, np.float32)


def mirror_half(left: Volume) -> Volume:
    """Complete a left half by its mirror image."""
    return np.concatenate([left[:0:-1], left])

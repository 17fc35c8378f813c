"""The brain case: its outer face below the skin, its floor, and the lines drawn on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_train.simulate.raster import fill_inside
from fcr_train.simulate.solids import HALF, ORIGIN, SHAPE, STEP_MM, logistic

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32

    from fcr_train.simulate.shape import Anatomy
    from fcr_train.simulate.solids import Volume
    from fcr_train.simulate.traits import Side, SkullTraits

    Lines = Float32[np.ndarray, "rows columns"]

DEPTH_BLUR = 3.0
"""Grid steps; smooths the facets of the mesh, which would show as rings on the brain case."""
MIDDLE = (30.0, -70.0)
"""y and z of the axis about which the vault's map is unrolled [mm]."""
MAP_SHAPE = (180, 640)
"""Half a degree of angle from the midline a row, and about the axis a column."""
FIRST_DEGREE = -60.0


def skin_depth(anatomy: Anatomy) -> Volume:
    """Measure the depth below the skin of the reference head, ears removed [mm], left half.

    The head being symmetric, the skin nearest to a point on the left is on the left too.
    """
    solid = anatomy.head.as_solid(anatomy.reference)
    inside = fill_inside(solid, anatomy.head.finer.triangles, ORIGIN, STEP_MM, SHAPE)
    inside = (ndimage.binary_closing(inside, iterations=3) | inside)[HALF:]
    inside = without_ears(inside)
    depth = ndimage.distance_transform_edt(inside, STEP_MM)
    depth -= ndimage.distance_transform_edt(~inside, STEP_MM)
    return np.asarray(ndimage.gaussian_filter(depth.astype(np.float32), DEPTH_BLUR, mode="mirror"))


def without_ears(inside: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Open with a ball of 9 mm behind z = -40, which takes the ears away."""
    radius = 9 / STEP_MM
    eroded = ndimage.distance_transform_edt(inside) > radius
    opened = ndimage.distance_transform_edt(~eroded) <= radius
    behind = ORIGIN[2] + STEP_MM * np.arange(SHAPE[2]) < -40
    return np.asarray(np.where(behind, inside & opened, inside))


def floor_height(x: Volume, z: Volume) -> Volume:
    """Give the height of the floor of the brain case [mm]: three fossae and the petrous ridge."""
    roof = 12 * np.exp(-(((x - 31) / 19) ** 4)) + 0 * z
    ant = 4 + roof * (1 - 0.55 * ((z - 2) / 36) ** 2) - 0.03 * np.maximum(0, -z)
    central = 1 - 8 * np.exp(-(((z + 64) / 6) ** 2)) + 0 * x
    lateral = -29 + 16 * np.exp(-(((x - 14) / 10) ** 2)) + 0.024 * (x - 40) ** 2 + 0 * z
    lateral = lateral + 6 * logistic((z + 52) / 4)
    mid = central + (lateral - central) * logistic((x - 14) / 2.5)
    pos = -49 + 0.0035 * (z + 118) ** 2 + 0.012 * (x - 16) ** 2
    floor = ant + (mid - ant) * logistic(-(z + 43 - 14 * logistic((x - 32) / 4)) / 3.0)
    floor = floor + (pos - floor) * logistic(-(z + 86 - 0.15 * x) / 3.0)
    ridge = (
        np.exp(-(((z + 80 - 0.12 * x) / 7) ** 2)) * logistic((x - 9) / 2) * logistic((64 - x) / 2)
    )
    floor = floor + ridge * np.maximum(-9 - 0.12 * x - floor, 0)
    return np.asarray(ndimage.gaussian_filter(floor, (1.0, 0.0, 1.0)), np.float32)


def outer_face(depth: Volume, x: Volume, y: Volume, z: Volume) -> Volume:
    """Give how deep a point lies below the outer face of the vault [mm]."""
    temporal = 9 * np.exp(-(((z + 26) / 30) ** 2) - ((y - 6) / 28) ** 2)
    corner = 3.5 * np.exp(-(((x - 60) / 18) ** 2) - ((y - 92) / 24) ** 2)
    low = 6.5 * np.exp(-(((z + 88) / 40) ** 2) - ((y + 14) / 26) ** 2)
    neck = 4.5 * np.logaddexp(0, (-y - 36) / 8) * logistic(-(z + 95) / 6)
    occiput = 1.2 * np.exp(-(((z + 165) / 40) ** 2))
    side = logistic((x - 25) / 3) * (temporal + low) + corner
    return np.asarray(depth - (5.6 + side + neck + occiput), np.float32)


def thickness(y: Volume, z: Volume) -> Volume:
    """Give the mean thickness of the vault [mm]: more at the brow and the occiput."""
    thick = (
        6.4 + 1.0 * np.cos(z / 33) + 2.0 * np.exp(-(((z + 172) / 22) ** 2) - ((y - 5) / 25) ** 2)
    )
    return np.asarray(thick - 2.4 * np.exp(-(((z + 35) / 30) ** 2) - ((y - 12) / 25) ** 2))


def seam(z: Volume) -> Volume:
    """Give the width over which wall and floor blend [mm]: sharp in front, round at the nape."""
    return np.asarray(7 + 9 * logistic(-(z + 125) / 8), np.float32)


def map_index(x: Volume, y: Volume, z: Volume) -> Int32[np.ndarray, ...]:
    """Give the cell of the vault's map that a point lies on, flattened."""
    up, forward = y - MIDDLE[0], z - MIDDLE[1]
    about = np.degrees(np.arctan2(up, forward))
    about = np.where(about < -100, about + 360, about) - FIRST_DEGREE
    aside = np.degrees(np.arctan2(x, np.hypot(up, forward)))
    rows, columns = MAP_SHAPE
    row = np.clip(np.rint(aside * 2), 0, rows - 1).astype(np.int32)
    column = np.clip(np.rint(about * 2), 0, columns - 1).astype(np.int32)
    return np.asarray(row * columns + column)


def vault_lines(traits: SkullTraits, side: Side) -> Lines:
    """Draw how much bone is left along sutures and vessels [0-1] on the map of one side."""
    rng = np.random.default_rng((side.pattern, 1))
    rows, columns = MAP_SHAPE
    aside = (np.arange(rows, dtype=np.float32) / 2)[:, None]
    about = (FIRST_DEGREE + np.arange(columns, dtype=np.float32) / 2)[None]
    coronal, lambdoid, sagittal = traits.sutures
    left = np.ones(MAP_SHAPE, np.float32)
    course = 80 - 80 * (aside / 60) ** 3.6 + wave(rng, rows, 1.3)[:, None]
    left *= 1 - 0.95 * coronal * line(about - course, 0.8) * (aside < 60)
    course = 160 + 1.6 * aside + wave(rng, rows, 2.2)[:, None]
    left *= 1 - 0.95 * lambdoid * line(about - course, 0.8) * (aside < 42)
    course = wave(rng, columns, 0.8)[None]
    left *= 1 - 0.9 * sagittal * line(aside - course, 0.7) * ((about > 80) & (about < 160))
    for end in rng.uniform(12, 50, 4):
        course = 60 - (60 - end) * np.clip((about - 5) / 140, 0, 1) ** rng.uniform(0.4, 0.8)
        course = course + wave(rng, columns, 1.2)[None] + 3 * rng.normal()
        shown = (about > 5) & (about < rng.uniform(90, 150))
        left *= 1 - 0.6 * traits.vessels * line(aside - course, 0.9) * shown
    return left


def line(offset: Volume, width: float) -> Volume:
    """Give the profile of a line, 1 in its middle; `width` is the sd of a Gaussian [degrees]."""
    return np.exp((offset / np.float32(width)) ** 2 * np.float32(-0.5))


def wave(rng: np.random.Generator, count: int, degrees: float) -> Float32[np.ndarray, " n"]:
    """Draw the meandering of a line, of unit steps blurred twice, scaled to `degrees`."""
    steps = rng.standard_normal((2, count))
    path = (
        ndimage.gaussian_filter1d(steps[0], 2.0) * 3 + ndimage.gaussian_filter1d(steps[1], 9) * 4
    )
    return np.asarray(degrees * 0.6 * path, np.float32)

"""Where hair grows, and the shell on which long hair hangs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from fcr_train.simulate.raster import fill_inside, nearest
from fcr_train.simulate.skull import ORIGIN, SHAPE, STEP_MM
from fcr_train.simulate.texture import bump, smoothstep, texture

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int64

    from fcr_train.simulate.looks import HairStyle
    from fcr_train.simulate.shape import Anatomy
    from fcr_train.simulate.texture import Noise, Values, Vectors

HAIRLINE = np.array(
    [
        (-200.0, -72.0),
        (-125.0, -68.0),
        (-108.0, -40.0),
        (-92.0, -8.0),
        (-66.0, -8.0),
        (-57.0, -16.0),
        (-46.0, -2.0),
        (-34.0, 26.0),
        (-20.0, 50.0),
        (-4.0, 58.0),
        (10.0, 60.0),
        (60.0, 60.0),
    ]
)
"""Lower edge of the hair on the reference head: z and y [mm], from the nape to the forehead."""
EAR_AZIMUTH = 97.0
"""Where the ears are, from straight ahead about the crown's axis [degrees]."""
CROWN_Z = -75.0
"""Axis about which long hair hangs."""
AZIMUTH_STEP = 4
LONG_HAIR_TOP = 66.0
LONG_HAIR_BOTTOM = -216.0
ROW_STEP = 6.0
EAR_FADE_MM = 15.0
"""Hair has its full thickness this far from the ears; displaced ears would crumple."""


@dataclass(frozen=True)
class HairShell:
    """Long hair on the reference head: rows of points that hang about the axis of the crown."""

    points: Vectors
    triangles: Int64[np.ndarray, "t 3"]
    near: Int64[np.ndarray, "p k"]
    """Control vertices that move each point."""
    weight: Float64[np.ndarray, "p k"]


def ear_fade(anatomy: Anatomy) -> Values:
    """Give the share of its thickness that hair has at each vertex: none on the ears."""
    ears = anatomy.reference[anatomy.head.masks["ears"]]
    distance = cKDTree(ears).query(anatomy.reference)[0]
    return np.asarray(np.clip(distance / EAR_FADE_MM, 0, 1))


def hairline_height(z: Values) -> Values:
    """Give the height of the lower edge of the hair [mm] at a depth on the reference head."""
    return np.asarray(np.interp(z, HAIRLINE[:, 0], HAIRLINE[:, 1]))


def hair_height(place: Vectors, style: HairStyle) -> Values:
    """Give how far above the hairline a place is [mm], negative below."""
    x, y, z = place.T
    raised = (style.hairline - 60) * np.clip((z + 46) / 40, 0, 1)
    fringe = style.fringe * np.clip((z + 30) / 25, 0, 1)
    # Temples recede between forehead and sideburns.
    temples = 5 * np.exp(-(((np.abs(x) - 42) / 12) ** 2)) * (z > -30)
    return np.asarray(y - hairline_height(z) - raised + fringe - temples * (style.fringe == 0))


def hair_shell(anatomy: Anatomy) -> HairShell:
    """Lay long hair around the reference head: it hangs from the widest place above."""
    azimuth = np.arange(0, 360, AZIMUTH_STEP)
    heights = np.arange(LONG_HAIR_TOP, LONG_HAIR_BOTTOM, -ROW_STEP)
    radius = np.maximum.accumulate(head_radius(anatomy, azimuth, heights), axis=0)
    angle = np.radians(azimuth)
    points = np.stack(
        [
            radius * np.sin(angle),
            np.repeat(heights[:, None], len(azimuth), 1),
            CROWN_Z + radius * np.cos(angle),
        ],
        2,
    ).reshape(-1, 3)
    control = anatomy.reference[anatomy.control]
    distance, near = nearest(control, points, 8)
    weight = 1 / (distance + 5)
    weight /= weight.sum(1, keepdims=True)
    return HairShell(points, grid_triangles(len(heights), len(azimuth)), near, weight)


def head_radius(
    anatomy: Anatomy, azimuth: Int64[np.ndarray, " a"], heights: Values
) -> Float64[np.ndarray, "h a"]:
    """Measure the head's radius about the crown's axis, ears flattened, trunk left out."""
    inside = fill_inside(anatomy.reference, anatomy.head.skin, ORIGIN, STEP_MM, SHAPE)
    inside = ndimage.binary_opening(inside, iterations=3)
    reach = np.arange(0, 150, 1.0)
    angle = np.radians(azimuth)
    rows = np.maximum(heights, -110)
    at = np.stack(
        np.broadcast_arrays(
            reach * np.sin(angle)[:, None],
            rows[:, None, None],
            CROWN_Z + reach * np.cos(angle)[:, None],
        ),
        0,
    )
    index = (at.reshape(3, -1).T - ORIGIN) / STEP_MM
    filled = ndimage.map_coordinates(inside.astype(np.float32), index.T, order=1) > 0.5
    filled = filled.reshape(at.shape[1:])
    radius = np.where(filled.any(2), 149 - filled[..., ::-1].argmax(2), 20.0)
    return ndimage.gaussian_filter(radius, (1, 1.5), mode=("nearest", "wrap"))


def stand_off(place: Vectors, style: HairStyle) -> Values:
    """Give how far long hair stands off at places of its shell [mm].

    The shell begins inside the hair of the scalp, so that no seam shows, goes over the ears where
    it covers them, and closes on the cheeks at its front edge.
    """
    x, y, z = place.T
    azimuth = np.degrees(np.arctan2(np.abs(x), z - CROWN_Z))
    stand = (style.side + style.body) * smoothstep((LONG_HAIR_TOP + 4 - y) / 110)
    if style.front < EAR_AZIMUTH:
        stand = stand + 15 * bump(azimuth, EAR_AZIMUTH, 24) * smoothstep((45 - y) / 55)
        stand = stand * (0.15 + 0.85 * smoothstep((azimuth - style.front + 2) / 20))
    return np.asarray(stand)


def grid_triangles(rows: int, columns: int) -> Int64[np.ndarray, "t 3"]:
    """Triangulate rows of points that close around."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    here, right = row * columns + column, row * columns + (column + 1) % columns
    below, diagonal = here + columns, right + columns
    corners = [(here, below, right), (right, below, diagonal)]
    return np.concatenate([np.stack([c.ravel() for c in corner], 1) for corner in corners])


def long_hair_grows(place: Vectors, style: HairStyle, noise: Noise) -> Bool[np.ndarray, " p"]:
    """Tell where on its shell long hair exists: from the front edge back, down to its length."""
    x, y, z = place.T
    azimuth = np.degrees(np.arctan2(np.abs(x), z - CROWN_Z))
    strand = texture(noise, "strand", 0.4 * y, 3.0 * np.where(x > 0, azimuth, 200 - azimuth))
    front = style.front + 6 * np.clip((y - 20) / 40, -1, 1) + 1.2 * strand
    return np.asarray((azimuth > front) & (y > -style.length - 2.5 * strand))

"""The face in a scan: the surface of the skin as grey clay, frontal and lateral."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_train.simulate.ct.body import INNER_MM, Surface, skin_surface
from fcr_train.simulate.radiograph import CENTRE, FIELD_MM, View
from fcr_train.simulate.raster import cover

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

    from fcr_train.simulate.ct.head import UprightHead

    Points = Float64[np.ndarray, "n 3"]
    Values = Float64[np.ndarray, " n"]

SUPERSAMPLING = 2
CAMERA_MM = 1300.0
CLAY = 0.72
"""Grey of the surface: a scan knows no colour."""
BACKGROUND = 0.90
KEY, FILL = (0.30, 0.45, 0.85), (-0.60, 0.10, 0.60)
"""Directions to the lights: right, up, towards the camera."""
KEY_STRENGTH, FILL_STRENGTH, AMBIENT, WRAP = 0.66, 0.18, 0.24, 0.2
SHADE_REACHES_MM = (3.0, 8.0)
"""Skin with much of the head around it in these reaches lies in shade."""
GAMMA = 1 / 1.15
COARSE = 2
"""Every so many voxels are enough for the shade."""


def face_surface(head: UprightHead) -> Surface:
    """Lay the skin of a scanned head, in the upright frame [mm]."""
    step = head.grid.step
    inner = ndimage.binary_erosion(head.filled, iterations=round(INNER_MM / step))
    # Cuts of the scan show as flat faces: the volume gets a rim of air all around.
    hu = np.pad(np.where(inner, np.float32(40), head.hu), 1, constant_values=-1000)
    surface = skin_surface(ndimage.gaussian_filter(hu, head.blur_mm / step), step)
    return Surface(surface.points + head.grid.start - step, surface.normals, surface.triangles)


def camera_frame(points: Points, view: View) -> Points:
    """Express directions of the head as right, up, and towards the camera."""
    x, y, z = points.T
    return np.stack([x, y, z], 1) if view == "frontal" else np.stack([z, y, -x], 1)


def render_face(
    surface: Surface, open_share: Values, view: View, size: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Render the skin in the frame of the portraits, as RGB of equal channels.

    `open_share` says how much light reaches each point of the surface [0-1].
    """
    wide = SUPERSAMPLING * size
    seen = camera_frame(surface.points - CENTRE, view)
    distance = CAMERA_MM - seen[:, 2]
    pitch, middle = FIELD_MM / wide, (wide - 1) / 2
    scale = CAMERA_MM / distance / pitch
    pixels = np.stack([middle + seen[:, 0] * scale, middle - seen[:, 1] * scale], 1)
    hits = cover(pixels, surface.triangles, (wide, wide))
    corners = surface.triangles[hits.triangle]
    depth = (distance[corners] * hits.corners).sum(1)
    nearest = np.full(wide * wide, np.inf)
    np.minimum.at(nearest, hits.pixel, depth)
    shown = depth == nearest[hits.pixel]
    light = lit(camera_frame(surface.normals, view)) * open_share
    shade = np.full(wide * wide, BACKGROUND)
    shade[hits.pixel[shown]] = CLAY * (light[corners] * hits.corners).sum(1)[shown]
    small = shade.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean((1, 3))
    grey = np.round(255 * np.clip(small, 0, 1) ** GAMMA).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def lit(normals: Points) -> Values:
    """Give the light that falls on each normal, seen from the camera."""
    total = AMBIENT * (0.6 + 0.4 * normals[:, 1])
    for direction, strength in ((KEY, KEY_STRENGTH), (FILL, FILL_STRENGTH)):
        cosine = normals @ (np.array(direction) / np.linalg.norm(direction))
        total = total + strength * np.clip((cosine + WRAP) / (1 + WRAP), 0, None)
    return np.asarray(total)


def openness(head: UprightHead, surface: Surface) -> Values:
    """Estimate the share of light that reaches each place of the skin from around."""
    shares = []
    filled = head.filled[::COARSE, ::COARSE, ::COARSE].astype(np.float32)
    step = COARSE * head.grid.step
    for reach in SHADE_REACHES_MM:
        near = ndimage.gaussian_filter(filled, reach / step)
        at = (surface.points + reach * surface.normals - head.grid.start) / step
        around = ndimage.map_coordinates(near, at.T, order=1, mode="nearest")
        shares.append(np.clip(1.35 - 1.5 * around, 0.15, 1))
    return np.asarray(np.sqrt(shares[0] * shares[1]))

"""Eyes: a globe of 24 mm behind the lids, with iris, pupil, catch-light and lashes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_train.simulate.texture import bump, mix, smoothstep, texture, unit

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64

    from fcr_train.simulate.looks import Look
    from fcr_train.simulate.texture import Noise, Values, Vectors

GLOBE_MM = 12.0
"""Radius of the eyeball (axial length 24 mm); the mesh's own, about 31 mm, fills the socket."""
IRIS_MM = 5.9
"""Radius of the iris: white-to-white 11.7 mm (Ruefer et al. 2005)."""
CORNEA_MM = 7.8
"""Radius of the cornea's curve (a textbook mean); it carries the catch-light."""
WHITE = np.array([0.66, 0.61, 0.57], np.float32)
PINK = np.array([0.46, 0.19, 0.15], np.float32)


@dataclass(frozen=True)
class Globe:
    """One eyeball in the camera's frame [mm]."""

    centre: Float64[np.ndarray, 3]
    gaze: Float64[np.ndarray, 3]
    """Unit direction through the middle of the iris."""
    up: Float64[np.ndarray, 3]
    nasal: Float64[np.ndarray, 3]
    """Unit direction to the nose."""


def globe_behind(
    eye: Float64[np.ndarray, "v 3"],
    axes: Float64[np.ndarray, "3 3"],
    gaze_mm: tuple[float, float],
    nasal: float,
) -> Globe:
    """Place a globe whose apex is that of the mesh's eye.

    `eye` are the eye's vertices and `axes` the head's left, up and forward, all in the camera's
    frame; `nasal` is the sign of the direction to the nose along the first axis.
    """
    left, up, forward = axes
    middle = eye.mean(0)
    apex = ((eye - middle) @ forward).max()
    ahead = GLOBE_MM * forward + gaze_mm[0] * left + gaze_mm[1] * up
    return Globe(
        middle + (apex - GLOBE_MM) * forward, ahead / np.linalg.norm(ahead), up, nasal * left
    )


def paint_eye(
    position: Vectors, globe: Globe, key: np.ndarray, look: Look, noise: Noise
) -> tuple[Vectors, Vectors, Values]:
    """Paint what is seen of an eye; give colour, normal, and the catch-light [0-1].

    Where the lids are open wider than the globe, at the canthi, there is conjunctiva.
    """
    offset = position - globe.centre.astype(np.float32)
    squared = offset[:, 0] ** 2 + offset[:, 1] ** 2
    offset[:, 2] = np.sqrt(np.maximum(GLOBE_MM**2 - squared, 0))
    normal = unit(offset)
    towards = np.clip(normal @ globe.gaze.astype(np.float32), -1, 1)
    # Distance from the middle of the iris along the globe.
    arc = np.where(squared < GLOBE_MM**2, GLOBE_MM * np.arccos(towards), 2 * GLOBE_MM)
    colour = paint_white(arc, normal, globe, look)
    colour = paint_iris(colour, arc, normal, globe, look, noise)
    apex = (GLOBE_MM - CORNEA_MM) * globe.gaze.astype(np.float32)
    cornea = np.where((arc < 6.6)[:, None], unit(GLOBE_MM * normal - apex), normal)
    half = key + np.array([0.0, 0.0, 1.0])
    shine = np.clip(cornea @ (half / np.linalg.norm(half)).astype(np.float32), 0, 1)
    # The lashes shade the eyeball from above, the lids at its sides.
    shade = 1 - 0.55 * smoothstep((normal @ globe.up.astype(np.float32) - 0.05) / 0.40)
    shade *= 1 - 0.45 * smoothstep((arc - 8) / 7)
    return colour * shade[:, None], normal, 1.6 * shine**300 + 0.12 * shine**20


def paint_white(arc: Values, normal: Vectors, globe: Globe, look: Look) -> Vectors:
    """Paint sclera and conjunctiva, with the caruncle at the nose."""
    nasal = normal @ globe.nasal.astype(np.float32)
    pink = np.clip(0.8 * smoothstep((arc - 10.0) / 4) + bump(nasal, 1.0, 0.22), 0, 1)
    white = WHITE * np.float32(1 - 0.12 * look.melanin)
    return mix(np.tile(white, (len(arc), 1)), PINK, 0.85 * pink)


def paint_iris(
    colour: Vectors, arc: Values, normal: Vectors, globe: Globe, look: Look, noise: Noise
) -> Vectors:
    """Paint iris, limbus and pupil."""
    edge = GLOBE_MM * np.arcsin(IRIS_MM / GLOBE_MM)
    angle = np.arctan2(
        normal @ globe.up.astype(np.float32), normal @ globe.nasal.astype(np.float32)
    )
    fibres = 1 + 0.18 * texture(noise, "strand", arc, 25 * angle) + 0.4 * (arc / edge - 0.6)
    limbus = 1 - 0.65 * smoothstep((arc - edge + 1.5) / 1.5)
    iris = look.iris * (np.clip(fibres, 0.4, 1.7) * limbus)[:, None]
    colour = mix(colour, iris, smoothstep((edge + 0.3 - arc) / 0.7))
    return mix(
        colour, np.full(3, 0.006, np.float32), smoothstep((look.pupil_mm + 0.3 - arc) / 0.6)
    )


def lash_shade(
    eye: Bool[np.ndarray, "h w"], pitch_mm: float, look: Look
) -> tuple[tuple[slice, slice], Float32[np.ndarray, "a b"]]:
    """Give where the lashes are around eye pixels, and the share of light they leave there.

    Lashes are dense above the eye, short and sparse below.
    """
    rows, columns = np.flatnonzero(eye.any(1)), np.flatnonzero(eye.any(0))
    if not len(rows):
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
    margin = int(np.ceil(4 / pitch_mm))
    height, width = eye.shape
    box = (
        slice(max(rows[0] - margin, 0), min(rows[-1] + margin + 1, height)),
        slice(max(columns[0] - margin, 0), min(columns[-1] + margin + 1, width)),
    )
    seen = eye[box].astype(np.float32)
    shift = 1.0 / pitch_mm
    above = ndimage.shift(seen, (-shift, 0), order=1) * (1 - seen)
    upper = ndimage.gaussian_filter(
        above + 0.35 * seen * (1 - ndimage.shift(seen, (shift, 0), order=1)), 0.3 / pitch_mm
    )
    below = ndimage.shift(seen, (0.8 * shift, 0), order=1) * (1 - seen)
    lower = ndimage.gaussian_filter(below, 0.4 / pitch_mm)
    dark = 0.95 * look.lashes * np.clip(1.25 * upper, 0, 1) + 0.3 * look.lashes * np.clip(
        lower, 0, 1
    )
    return box, (1 - np.clip(dark, 0, 0.92)).astype(np.float32)

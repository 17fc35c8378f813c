"""Colour and light of the visible surface: skin, lips, brows, beard, hair and eyes.

Paint is laid on the reference head, so that it follows the mesh from person to person. Its places
and colours were chosen by eye.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_train.simulate.hair import CROWN_Z, hair_height
from fcr_train.simulate.texture import bump, mix, smoothstep, texture

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

    from fcr_train.simulate.looks import Look
    from fcr_train.simulate.scene import Scene
    from fcr_train.simulate.texture import Noise, Values, Vectors

SKIN, EYE, HAIR = 0, 1, 2
"""Materials."""
IRIS_MM = 5.9
"""Radius of the iris: white-to-white 11.7 mm (Ruefer et al. 2005)."""
GLOBE_MM = 12.0
"""Radius of the eyeball as shaded; the mesh's own is too flat."""


@dataclass(frozen=True)
class Pixels:
    """The visible surface at every covered pixel."""

    index: Int64[np.ndarray, " p"]
    """Into the flattened supersampled picture."""
    material: Int64[np.ndarray, " p"]
    place: Vectors
    """On the reference head [mm], so that paint follows the mesh."""
    normal: Vectors
    """In the camera's frame: right, up, to the camera."""
    lips: Values
    mouth: Values
    ears: Values
    openness: Values
    """Share of the sky seen [0-1]."""
    inner: Values
    """1 where the inside of long hair is seen."""


def paint_skin(pixels: Pixels, look: Look, scene: Scene, noise: Noise) -> tuple[Vectors, Values]:
    """Paint skin, lips, brows, beard, scalp hair and clothes; also give the gloss."""
    x, y, z = pixels.place.T
    colour = paint_complexion(pixels, look, noise)
    gloss = 0.10 + 0.04 * bump(y, -25, 40) * bump(np.abs(x), 0, 20)
    colour, gloss = paint_beard(colour, gloss, pixels, look, noise)
    colour, gloss = paint_lips(colour, gloss, pixels, look, noise)
    colour = paint_brows(colour, pixels, look, noise)
    colour, gloss = paint_scalp(colour, gloss, pixels, look, noise)
    collar = smoothstep((-132 - 0.22 * (z + 75) - y) / 2)
    return mix(colour, scene.clothes, collar), gloss * (1 - collar)


def paint_complexion(pixels: Pixels, look: Look, noise: Noise) -> Vectors:
    """Paint bare skin: grain and blotches, red cheeks and ears, shade below eyes, freckles."""
    x, y, z = pixels.place.T
    side = np.abs(x)
    fine = texture(noise, "fine", 2.5 * y, 2.5 * (x + z))
    blotch = texture(noise, "blotch", 3 * y, 3 * (x + z))
    colour = look.skin * (1 + 0.012 * fine + 0.022 * blotch)[:, None]
    cheeks = bump(side, 38, 20) * bump(y, -32, 18) * (z > -30)
    nose = bump(side, 0, 13) * bump(y, -40, 12) * (z > 20)
    red = look.redness * np.clip(cheeks + nose + 0.5 * pixels.ears, 0, 1)
    red = red * (1 - 0.5 * look.melanin)
    colour *= 1 - red[:, None] * np.array([0.0, 0.75, 0.65])
    tired = bump(side, 29, 13) * bump(y, -13, 5) * (z > 0)
    colour *= 1 - 0.09 * tired[:, None] * np.array([0.8, 1.0, 0.85])
    spots = np.clip(texture(noise, "fine", 5 * y, 5 * x) - 1.3, 0, 1) * bump(y, -22, 18)
    spotted = look.freckles * 0.35 * spots[:, None] * np.array([0.5, 0.8, 1.0])
    return np.asarray(colour * (1 - spotted))


def paint_lips(
    colour: Vectors, gloss: Values, pixels: Pixels, look: Look, noise: Noise
) -> tuple[Vectors, Values]:
    """Paint the lips, and darken the inside of the mouth and the line where they meet."""
    x, y, _ = pixels.place.T
    lips = smoothstep((pixels.lips - 0.25) / 0.5)
    line = 1 - 0.07 * (1 + texture(noise, "strand", 0.5 * y, 4 * x)) * 0.5
    colour = mix(colour, look.skin * look.lips * line[:, None], lips)
    dark = 0.75 * smoothstep((pixels.mouth - 0.3) / 0.6)
    return colour * (1 - dark)[:, None], gloss + 0.06 * lips


def paint_brows(colour: Vectors, pixels: Pixels, look: Look, noise: Noise) -> Vectors:
    """Paint the brows, arched and thinning outwards."""
    x, y, z = pixels.place.T
    along = (np.abs(x) - 11) / 42
    centre = 13.6 + look.brow_height + 3.0 * np.sin(np.pi * np.clip(along * 0.85 + 0.05, 0, 1))
    half = look.brow_thickness * (2.9 - 1.6 * np.clip(along, 0, 1) ** 1.5)
    hairs = texture(noise, "strand", 2.0 * (np.abs(x) + y), 5.0 * (y - 0.45 * np.abs(x)))
    edge = smoothstep(1.35 - np.abs(y - centre) / half + 0.22 * hairs)
    ends = smoothstep(along / 0.12) * smoothstep((1.02 - along) / 0.2) * (z > -25)
    share = look.brow_density * np.clip(edge * ends * (0.85 + 0.15 * hairs), 0, 1)
    return mix(colour, 0.75 * look.hair + 0.06 * look.skin, share)


def paint_beard(
    colour: Vectors, gloss: Values, pixels: Pixels, look: Look, noise: Noise
) -> tuple[Vectors, Values]:
    """Paint beard and stubble over the beard area."""
    beard = look.beard
    if beard.density == 0 and beard.stubble == 0:
        return colour, gloss
    x, y, z = pixels.place.T
    grain = texture(noise, "fine", 6 * y, 6 * (x + 0.7 * z))
    blotch = texture(noise, "blotch", 2 * y, 2 * (x + z))
    area = beard_area(pixels.place, blotch)
    bare = 1 - smoothstep((pixels.lips - 0.2) / 0.4)
    shaved = np.clip(beard.stubble * area * bare * (1 + 0.2 * grain), 0, 1)
    tone = (0.55 * look.skin + 0.45 * look.hair) * np.array([0.92, 0.97, 1.04])
    colour = mix(colour, tone, shaved)
    if beard.around_mouth_only:
        area = area * smoothstep((33 - np.abs(x) + 2 * blotch) / 6) * (z > -5)
    share = np.clip(beard.density * area * bare * (1 + 0.22 * grain), 0, 0.97)
    return mix(colour, 0.9 * look.hair + 0.05 * look.skin, share), gloss * (1 - 0.8 * share)


def beard_area(place: Vectors, ragged: Values) -> Values:
    """Give the share of beard at places of the reference head; `ragged` roughens its edge."""
    x, y, z = place.T
    side = np.abs(x)
    # From the sideburns down along the cheek to the corner of the mouth, and above the lip.
    beside = np.interp(z, [-60, -45, -28, -8, 8], [-8, -22, -44, -58, -66])
    upper = -50 + (beside + 50) * smoothstep((side - 25) / 6)
    cheek = smoothstep((upper - y + 3 * ragged) / 9) * smoothstep((z + 62 + ragged) / 9)
    neck = smoothstep((y + 122 + 0.35 * (z - 10) + 3 * ragged) / 12)
    nostril = smoothstep((-51 - y) / 5 + (side > 26))
    return np.asarray(cheek * neck * nostril)


def strands(pixels: Pixels, noise: Noise) -> Values:
    """Give the lightness of strands that run from the crown downwards, about 0."""
    x, y, z = pixels.place.T
    azimuth = np.degrees(np.arctan2(x, z - CROWN_Z))
    fine = texture(noise, "strand", 0.5 * y, 4.0 * azimuth)
    coarse = texture(noise, "strand", 0.25 * y, 1.1 * azimuth + 50)
    return np.asarray(0.6 * fine + 0.5 * coarse)


def paint_scalp(
    colour: Vectors, gloss: Values, pixels: Pixels, look: Look, noise: Noise
) -> tuple[Vectors, Values]:
    """Paint short hair, with strands and a ragged edge."""
    strand = strands(pixels, noise)
    height = hair_height(pixels.place, look.style) + 1.6 * strand
    share = smoothstep(height / 8) * (1 - smoothstep(pixels.ears * 1.5))
    hair = look.hair * np.clip(1 + 0.28 * strand, 0.3, 1.8)[:, None]
    return mix(colour, hair, share), gloss + (0.16 - gloss) * share


def paint_long(pixels: Pixels, look: Look, noise: Noise) -> tuple[Vectors, Values]:
    """Paint long hair; its inside is dark."""
    strand = strands(pixels, noise)
    colour = look.hair * np.clip(1 + 0.34 * strand, 0.25, 1.9)[:, None]
    return colour * (1 - 0.6 * pixels.inner)[:, None], 0.16 * (1 - pixels.inner)


def eye_offsets(
    pixels: Pixels, eyes: Float64[np.ndarray, "2 3"], scene: Scene
) -> tuple[Values, Values]:
    """Give offsets of eye pixels from the middle of the iris, across and up [mm]."""
    x, y, _ = pixels.place.T
    centre = np.where(x > 0, eyes[0, 0], eyes[1, 0])
    return x - centre - scene.gaze_mm[0], y - eyes[0, 1] - scene.gaze_mm[1]


def paint_eye(across: Values, up: Values, look: Look, noise: Noise) -> tuple[Vectors, Values]:
    """Paint sclera, conjunctiva, iris and pupil around the middle of the iris."""
    radius = np.hypot(across, up)
    angle = np.arctan2(up, across)
    rays = texture(noise, "strand", 2 * radius, 40 * angle)
    white = np.array([0.80, 0.77, 0.74]) * (1 - 0.06 * look.melanin)
    pink = smoothstep((radius - 9.0) / 5.0)
    colour = mix(np.tile(white, (len(radius), 1)), np.array([0.72, 0.45, 0.40]), 0.75 * pink)
    fibres = np.clip(1 + 0.16 * rays + 0.35 * (radius / IRIS_MM - 0.6), 0.4, 1.6)
    limbus = 1 - 0.55 * smoothstep((radius - 4.7) / 1.2)
    iris = look.iris * (fibres * limbus)[:, None]
    colour = mix(colour, iris, smoothstep((IRIS_MM + 0.35 - radius) / 0.7))
    colour = mix(colour, np.full(3, 0.008), smoothstep((look.pupil_mm + 0.3 - radius) / 0.6))
    # The upper lid with its lashes shades the eyeball.
    shade = 1 - 0.45 * smoothstep((up - 0.5) / 5.5)
    return colour * shade[:, None], np.full(len(radius), 0.9)


def globe_normals(across: Values, up: Values) -> Vectors:
    """Give the normals that an eyeball of 24 mm has around the middle of the iris."""
    forward = np.sqrt(np.maximum(GLOBE_MM**2 - across**2 - up**2, 9.0))
    local = np.stack([across, up, forward], 1)
    return np.asarray(local / np.linalg.norm(local, axis=1, keepdims=True))


def lit(colour: Vectors, gloss: Values, normal: Vectors, pixels: Pixels, scene: Scene) -> Vectors:
    """Light painted pixels: wrapped key, fill from the other side, sky, and highlights."""
    fill = np.array([-0.75 * np.sign(scene.key[0]) - 0.1, 0.1, 0.65])
    fill /= np.linalg.norm(fill)
    facing = normal @ scene.key
    wrapped = np.clip((facing + 0.25) / 1.25, 0, None)
    sky = 0.26 * (0.6 + 0.4 * normal[:, 1])
    open_share = pixels.openness
    diffuse = scene.key_strength * wrapped * (0.45 + 0.55 * open_share)
    diffuse = diffuse + scene.fill_strength * np.clip(normal @ fill, 0, None) * open_share
    diffuse = diffuse + sky * open_share
    half = scene.key + np.array([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    shine = np.clip(normal @ half, 0, None)
    power = np.where(pixels.material == EYE, 160.0, 22.0)
    highlight = gloss * scene.key_strength * shine**power * open_share
    # Light scattered inside skin comes out red where it turns away from the key.
    is_skin = pixels.material == SKIN
    edge = np.exp(-((facing / 0.25) ** 2)) * is_skin * 0.05 * scene.key_strength
    light = scene.tint * diffuse[:, None] + edge[:, None] * np.array([1.0, 0.35, 0.2])
    return np.asarray(colour * light * 1.12 + highlight[:, None] * scene.tint)

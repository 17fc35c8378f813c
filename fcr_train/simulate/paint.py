"""Colour of the skin: complexion, lips, brows, beard, scalp and clothes.

Paint is laid on the reference head, so that it follows the mesh from person to person. Its places
and colours were chosen by eye.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_train.simulate.hair import parting, side_density, strands
from fcr_train.simulate.texture import bump, mix, smoothstep, texture, vector

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64

    from fcr_train.simulate.looks import Look
    from fcr_train.simulate.scene import Scene
    from fcr_train.simulate.texture import Noise, Values, Vectors

FOLD = np.array([(-86.0, 30.0), (-72.0, 29.5), (-56.0, 24.0), (-42.0, 17.0)])
"""Fold from the wing of the nose around the mouth: y and |x| [mm]."""
BROW_INNER, BROW_OUTER, BROW_Y = 11.0, 52.0, 14.2
"""Ends of a brow, and its height at them before a person's own raise [mm]."""


@dataclass(frozen=True)
class Samples:
    """Places where the visible surface is painted and lit."""

    pixel: Int64[np.ndarray, " p"]
    """Into the flattened supersampled picture."""
    share: Float32[np.ndarray, " p"]
    """Of its pixel of the finished picture [0-1]."""
    position: Vectors
    """In the camera's frame: right, up, to the camera [mm]."""
    normal: Vectors
    """In the camera's frame."""
    place: Vectors
    """On the reference head [mm]."""
    lips: Values
    mouth: Values
    ears: Values
    openness: Values
    """Share of the sky seen [0-1]."""
    above: Values
    """Height above the hairline [mm]."""


def paint_skin(samples: Samples, look: Look, scene: Scene, noise: Noise) -> tuple[Vectors, Values]:
    """Paint skin, lips, brows, beard, scalp and clothes; also give the gloss."""
    x, y, z = samples.place.T
    colour = paint_complexion(samples, look, noise)
    gloss = skin_gloss(samples, look, noise)
    colour = paint_lines(colour, samples, look)
    colour, gloss = paint_beard(colour, gloss, samples, look, noise)
    colour, gloss = paint_lips(colour, gloss, samples, look, noise)
    colour = paint_brows(colour, samples, look, noise)
    colour = paint_scalp(colour, samples, look, noise)
    opening = scene.opening * np.clip(1 - np.abs(x) / 42, 0, 1) * smoothstep((z + 60) / 30)
    below = -126 - scene.neckline - 0.22 * (z + 75) - opening - y
    clothed = smoothstep(below / 1.5)
    weave = 1 + 0.05 * texture(noise, "fine", 1.2 * y, 1.2 * x)
    seam = 1 - 0.3 * bump(below, 4.5, 1.2)
    return mix(colour, scene.clothes * (weave * seam)[:, None], clothed), gloss * (1 - clothed)


def paint_complexion(samples: Samples, look: Look, noise: Noise) -> Vectors:
    """Paint bare skin: grain and blotches, red cheeks and ears, shade below eyes, spots."""
    x, y, z = samples.place.T
    side, ahead = np.abs(x), smoothstep((z + 30) / 40)
    pores = texture(noise, "fine", 1.7 * y, 1.7 * (x + z))
    grain = texture(noise, "fine", 0.45 * y, 0.45 * (x + z))
    blotch = texture(noise, "blotch", 2 * y, 2 * (x + z))
    uneven = look.roughness * (0.030 * pores + 0.016 * grain + 0.030 * blotch)
    colour = look.skin * (1 + uneven)[:, None]
    cheeks = bump(side, 37, 18) * bump(y, -30, 16) * ahead
    nose = bump(side, 0, 14) * bump(y, -38, 13) * ahead
    chin = 0.5 * bump(side, 0, 20) * bump(y, -102, 12) * ahead
    flushed = np.clip(cheeks + 0.8 * nose + chin + 0.7 * samples.ears, 0, 1) * (1 + 0.2 * blotch)
    red = look.redness * (1 - 0.55 * look.melanin) * flushed
    colour *= 1 - red[:, None] * vector((0.10, 0.75, 0.62))
    tired = bump(side, 27, 12) * bump(y, -13.5, 4.5) * ahead
    colour *= 1 - 0.20 * tired[:, None] * vector((0.75, 1.0, 0.9))
    spots = np.clip(texture(noise, "fine", 1.1 * y, 1.1 * x) - 1.1, 0, 1) * bump(y, -22, 20)
    colour *= 1 - look.freckles * 0.5 * spots[:, None] * vector((0.5, 0.8, 1.0))
    return paint_moles(colour, samples, look)


def paint_moles(colour: Vectors, samples: Samples, look: Look) -> Vectors:
    """Paint moles, each a dark spot with a soft edge."""
    x, y, z = samples.place.T
    for left, up, radius in look.moles:
        near = np.flatnonzero((np.abs(x - left) < 4) & (np.abs(y - up) < 4) & (z > -30))
        away = np.hypot(x[near] - left, y[near] - up)
        dark = 0.75 * smoothstep((radius + 0.5 - away) / 0.8)
        colour[near] *= 1 - dark[:, None] * vector((0.7, 0.85, 0.9))
    return colour


def skin_gloss(samples: Samples, look: Look, noise: Noise) -> Values:
    """Give how much light skin reflects as from oil: most on forehead, nose and chin [0-1]."""
    x, y, z = samples.place.T
    middle = bump(x, 0, 22) * smoothstep((z + 10) / 25)
    oily = 0.6 + 0.5 * middle + 0.25 * bump(np.abs(x), 38, 16) * bump(y, -18, 14)
    grain = 1 + 0.25 * texture(noise, "fine", 1.3 * y, 1.3 * (x + z))
    return np.asarray(oily * grain * (0.8 + 0.3 * look.male) * (1 - smoothstep(samples.above / 6)))


def paint_lines(colour: Vectors, samples: Samples, look: Look) -> Vectors:
    """Darken folds beside the mouth, and lines of forehead and lids as the skin ages."""
    x, y, z = samples.place.T
    side = np.abs(x)
    fold = bump(side - np.interp(y, FOLD[:, 0], FOLD[:, 1]).astype(np.float32), 0, 1.7)
    fold *= smoothstep((y + 88) / 14) * smoothstep((-40 - y) / 6) * (z > -5)
    deep = max(0.0, look.lines - 0.2)
    bent = y + 3 * np.cos(x / 24) + 0.02 * side
    wrinkles = sum(bump(bent, at, 0.7) for at in (33, 41, 49)) * bump(side, 0, 34)
    crease = bump(y - 9.5 + ((side - 30) / 13) ** 2 * 3.5, 0, 0.9) * bump(side, 31, 11) * (z > 0)
    feet = bump(side, 57, 4) * bump(np.sin(2.1 * (y + 0.35 * side)), 1, 0.35) * bump(y, -2, 6)
    dark = 0.28 * look.lines * fold + 0.25 * deep * (wrinkles + feet) + 0.18 * crease
    return np.asarray(colour * (1 - dark[:, None] * vector((0.8, 1.0, 1.0))))


def paint_lips(
    colour: Vectors, gloss: Values, samples: Samples, look: Look, noise: Noise
) -> tuple[Vectors, Values]:
    """Paint the lips, and darken the inside of the mouth and the line where they meet."""
    x, y, _ = samples.place.T
    ragged = 0.06 * texture(noise, "fine", 0.8 * y, 0.8 * x)
    lips = smoothstep((samples.lips - 0.28 + ragged) / 0.5) * (0.9 if look.male else 1.0)
    line = 1 - 0.05 * (1 + texture(noise, "strand", 0.5 * y, 1.6 * x))
    colour = mix(colour, look.skin * look.lips * line[:, None], lips)
    dark = 0.85 * smoothstep((samples.mouth - 0.25) / 0.5)
    return colour * (1 - dark)[:, None], gloss * (1 - dark) * (1 + 0.7 * lips)


def paint_brows(colour: Vectors, samples: Samples, look: Look, noise: Noise) -> Vectors:
    """Paint the brows: hairs that rise at the nose and lie down outwards, dense in the middle."""
    x, y, z = samples.place.T
    near = np.flatnonzero((np.abs(y - 17) < 12) & (z > -25))
    side, y = np.abs(x[near]), y[near]
    along = np.clip((side - BROW_INNER) / (BROW_OUTER - BROW_INNER), -0.2, 1.2)
    arch = np.interp(along, (0, 0.3, 0.66, 1), (0, 0.55, 1, 0.05)).astype(np.float32)
    centre = BROW_Y + look.brow_height + look.brow_arch * arch + 1.2 * np.sin(2.6 * along)
    half = look.brow_thickness * (3.0 - 1.9 * np.clip(along, 0, 1) ** 1.4)
    lying = 1.1 - 0.9 * np.clip(along, 0, 1)
    hairs = texture(noise, "strand", 0.8 * side, 2.2 * (y - lying * side))
    edge = smoothstep(1.25 - np.abs(y - centre) / half + 0.30 * hairs)
    ends = smoothstep((along + 0.04) / 0.2) * smoothstep((1.04 - along) / 0.3)
    share = look.brow_density * np.clip(edge * ends * (0.84 + 0.22 * hairs), 0, 1)
    colour[near] = mix(colour[near], look.brows, share)
    return colour


def paint_beard(
    colour: Vectors, gloss: Values, samples: Samples, look: Look, noise: Noise
) -> tuple[Vectors, Values]:
    """Paint stubble over the beard area, and the beard where it grows."""
    beard = look.beard
    if beard == type(beard)():
        return colour, gloss
    near = np.flatnonzero((samples.place[:, 1] < 0) & (samples.place[:, 2] > -75))
    place = samples.place[near]
    x, y, z = place.T
    grain = texture(noise, "crop", y, 1.6 * (x + 0.7 * z))
    blotch = texture(noise, "blotch", 2 * y, 2 * (x + z))
    bare = 1 - smoothstep((samples.lips[near] - 0.15) / 0.3)
    area = beard_area(place, blotch) * bare
    shaved = np.clip(beard.stubble * area * (1 + 0.25 * grain), 0, 1)
    tone = 0.5 * look.skin + 0.5 * look.hair * vector((0.9, 1.0, 1.1))
    painted = mix(colour[near], tone, shaved)
    side = np.abs(x)
    lip = smoothstep((y + 72) / 8) * smoothstep((36 - side) / 7)
    chin = smoothstep((-72 - y) / 10) * smoothstep((31 - side + 2 * blotch) / 8)
    cheeks = np.clip(1 - lip - chin, 0, 1)
    dense = beard.cheeks * cheeks + beard.chin * chin + beard.lip * lip
    share = np.clip(1.2 * dense * area * (1 + 0.2 * grain), 0, 0.95)
    strong = 0.6 * look.hair * (1 + 0.15 * np.clip(grain, -1.5, 1.5))[:, None]
    colour[near] = mix(painted, strong, share)
    gloss[near] *= 1 - 0.9 * share
    return colour, gloss


def beard_area(place: Vectors, ragged: Values) -> Values:
    """Give the share of beard at places of the reference head; `ragged` roughens its edge."""
    x, y, z = place.T
    side = np.abs(x)
    # From the sideburns down along the cheek to the corner of the mouth, and above the lip.
    beside = np.interp(z, [-64, -48, -28, -8, 8], [-4, -22, -44, -58, -66]).astype(np.float32)
    upper = -50 + (beside + 50) * smoothstep((side - 25) / 6)
    cheek = smoothstep((upper - y + 4 + 3 * ragged) / 18) * smoothstep((z + 72 + ragged) / 14)
    neck = smoothstep((y + 122 + 0.35 * (z - 10) + 3 * ragged) / 16)
    nostril = smoothstep((-51 - y) / 5 + (side > 26))
    soul = 1 - 0.6 * bump(side, 14, 7) * bump(y, -88, 4)
    return np.asarray(cheek * neck * nostril * soul)


def paint_scalp(colour: Vectors, samples: Samples, look: Look, noise: Noise) -> Vectors:
    """Paint the scalp: roots of the hair, sparse where it is shaven, bare along a parting."""
    style = look.style
    near = np.flatnonzero((samples.above > -8) & (samples.ears < 0.5))
    place = samples.place[near]
    strand = strands(place, style, noise)
    ragged = texture(noise, "fine", place[:, 1], place[:, 0] + place[:, 2])
    share = smoothstep((samples.above[near] + 1.2 * strand + 1.6 * ragged + 1) / 13)
    share *= 1 - smoothstep(samples.ears[near] * 2)
    share *= side_density(place, style)
    share *= 1 - 0.75 * parting(place, style)
    roots = look.hair * np.clip(0.65 + 0.15 * strand, 0.3, 1.2)[:, None]
    if style.is_shaven:
        share *= 0.5 * style.top * (1 + 0.15 * ragged)
        roots *= vector((0.55, 0.6, 0.66))
    colour[near] = mix(colour[near], roots, share)
    return colour

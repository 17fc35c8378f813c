"""Where hair grows, the surface it forms around the head, and its strands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from fcr_train.simulate.raster import fill_inside, nearest
from fcr_train.simulate.skull import ORIGIN, SHAPE, STEP_MM
from fcr_train.simulate.texture import bump, mix, smoothstep, texture, unit, vector

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int64

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
CROWN_Y, CROWN_Z = 25.0, -75.0
"""Centre from which the dome of the hair is seen; below it long hair hangs about this axis."""
AZIMUTH_STEP = 4
POLAR_STEP = 5
ROW_STEP = 6.0
BOTTOM = -216.0
TRUNK_TOP = -110.0
"""Below this height the body is the trunk, which hair does not follow."""
EAR_FADE_MM = 15.0
"""Hair that shows the ears has its full thickness this far from them."""
HIDDEN = -14.0
"""Hair is drawn no farther than this outside its edge, where strands may still reach [mm]."""
BUN_MM = 30.0
ROOT_MM = 4.0
"""How deep the surface of hair begins below the skin."""
COILY = 0.75
"""Hair of more curl than this forms no strands that one could follow."""


@dataclass(frozen=True)
class HairShell:
    """A surface around the reference head: dome rows above, then rows that follow or hang."""

    scalp: Vectors
    """Points on the skin of the head."""
    hanging: Vectors
    """The same points where hair that falls from the widest place above passes."""
    outward: Vectors
    azimuth: Values
    """From straight ahead, either side [0-180 degrees]."""
    ear_distance: Values
    triangles: Int64[np.ndarray, "t 3"]
    scalp_near: Int64[np.ndarray, "p k"]
    hanging_near: Int64[np.ndarray, "p k"]
    """Skin vertices that carry each point, and their shares."""
    scalp_share: Float64[np.ndarray, "p k"]
    hanging_share: Float64[np.ndarray, "p k"]


@dataclass(frozen=True)
class HairSurface:
    """The hair of one person in one style."""

    points: Vectors
    place: Vectors
    """On the reference head, where strands and edges are laid out."""
    edges: Float32[np.ndarray, "p 4"]
    """How far inside each edge a point lies: hairline, front of long hair, ends, ears [mm]."""
    triangles: Int64[np.ndarray, "t 3"]


def hairline_height(z: Values) -> Values:
    """Give the height of the lower edge of the hair [mm] at a depth on the reference head."""
    return np.asarray(np.interp(z, HAIRLINE[:, 0], HAIRLINE[:, 1]))


def hair_height(place: Vectors, style: HairStyle) -> Values:
    """Give how far above the hairline a place is [mm], negative below."""
    x, y, z = place.T
    raised = (style.hairline - 60) * np.clip((z + 46) / 40, 0, 1)
    sweep = 0.75 + 0.25 * np.cos((x - 1.4 * style.part) / 26)
    fringe = style.fringe * sweep * np.clip((z + 26) / 25, 0, 1)
    # Temples recede between forehead and sideburns.
    temples = style.recession * bump(np.abs(x), 40, 14) * (z > -45)
    temples = temples + 0.35 * style.recession * np.clip((z + 20) / 20, 0, 1)
    peak = (style.phase % 3) * bump(x, 0, 10) * (z > 0)
    rounded = 11 * smoothstep((np.abs(x) - 18) / 45) * np.clip((z + 46) / 30, 0, 1)
    edge = hairline_height(z) + raised - rounded + (temples - peak) * (style.fringe == 0)
    return np.asarray(y - edge + fringe, np.float32)


def hair_shell(anatomy: Anatomy) -> HairShell:
    """Lay the surface of hair around the reference head."""
    azimuth = np.arange(0, 360, AZIMUTH_STEP)
    polar = np.radians(np.arange(0, 91, POLAR_STEP))
    heights = np.arange(CROWN_Y - ROW_STEP, BOTTOM, -ROW_STEP)
    rise = np.concatenate([np.cos(polar), np.zeros(len(heights))])
    reach = np.concatenate([np.sin(polar), np.ones(len(heights))])
    start = np.concatenate([np.full(len(polar), CROWN_Y), heights])
    angle = np.radians(azimuth)
    across, ahead = reach[:, None] * np.sin(angle), reach[:, None] * np.cos(angle)
    outward = np.stack([across, np.repeat(rise[:, None], len(angle), 1), ahead], 2)
    origin = np.stack([0 * start, start, np.full(len(start), CROWN_Z)], 1)[:, None]
    level = np.stack([0 * start, np.maximum(start, TRUNK_TOP), origin[:, 0, 2]], 1)[:, None]
    radius = head_radius(anatomy, level, outward)
    fallen = np.maximum.accumulate(radius * reach[:, None], 0)
    fallen[: len(polar)] = radius[: len(polar)]
    scalp, hanging = (origin + r[..., None] * outward for r in (radius, fallen))
    # Long hair moves with the place it hangs from.
    anchor = np.where(start[:, None, None] < 0, hanging[len(polar) + 3], hanging)
    scalp, hanging, anchor, outward = (a.reshape(-1, 3) for a in (scalp, hanging, anchor, outward))
    ears = anatomy.reference[anatomy.head.masks["ears"]]
    return HairShell(
        scalp,
        hanging,
        outward,
        np.tile(np.minimum(azimuth, 360 - azimuth), len(start)).astype(float),
        np.asarray(cKDTree(ears).query(scalp)[0]),
        grid_triangles(len(start), len(azimuth)),
        *carriers(anatomy, scalp, anchor),
    )


def head_radius(
    anatomy: Anatomy, origin: Float64[np.ndarray, "h 1 3"], outward: Float64[np.ndarray, "h a 3"]
) -> Float64[np.ndarray, "h a"]:
    """Measure how far the head reaches along rays, ears flattened."""
    inside = fill_inside(anatomy.reference, anatomy.head.skin, ORIGIN, STEP_MM, SHAPE)
    inside = ndimage.binary_opening(inside, iterations=3)
    steps = np.arange(0, 150, 1.0)
    at = (origin[:, :, None] + steps[:, None] * outward[:, :, None] - ORIGIN) / STEP_MM
    filled = ndimage.map_coordinates(inside.astype(np.float32), at.reshape(-1, 3).T, order=1)
    met = filled.reshape(at.shape[:3]) > 0.5
    radius = np.where(met.any(2), 149.5 - met[..., ::-1].argmax(2), 20.0)
    return ndimage.gaussian_filter(radius, (0.7, 1.2), mode=("nearest", "wrap"))


def carriers(anatomy: Anatomy, *points: Vectors) -> list[np.ndarray]:
    """Find the skin vertices that carry points, then the share of each; ears carry none."""
    head = anatomy.head
    skin = np.flatnonzero(~head.is_eye & ~head.masks["ears"] & ~head.masks["inside-mouth"])
    found = [nearest(anatomy.reference[skin], p, 5) for p in points]
    shares = [1 / (distance + 3) ** 2 for distance, _ in found]
    return [skin[i] for _, i in found] + [s / s.sum(1, keepdims=True) for s in shares]


def grid_triangles(rows: int, columns: int) -> Int64[np.ndarray, "t 3"]:
    """Triangulate rows of points that close around, seen counter-clockwise from outside."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    here, right = row * columns + column, row * columns + (column + 1) % columns
    below, diagonal = here + columns, right + columns
    corners = [(here, below, right), (right, below, diagonal)]
    return np.concatenate([np.stack([c.ravel() for c in corner], 1) for corner in corners])


def dress(shell: HairShell, move: Vectors, style: HairStyle, noise: Noise) -> HairSurface:
    """Put a style on a head whose skin vertices moved by `move` from the reference."""
    hang = hanging_share(shell, style)[:, None]
    place = shell.scalp + hang * (shell.hanging - shell.scalp)
    moved = carried(move, shell.scalp_near, shell.scalp_share)
    moved += hang * (carried(move, shell.hanging_near, shell.hanging_share) - moved)
    edges = edge_distances(shell, place, style)
    thickness = hair_thickness(shell, place, edges, style, noise)
    points = place + moved + thickness[:, None] * shell.outward
    grows = (edges[:, 0] > HIDDEN) | ((edges[:, 1] > HIDDEN) & (edges[:, 2] > 2 * HIDDEN))
    triangles = shell.triangles[grows[shell.triangles].any(1)]
    return HairSurface(points, place.astype(np.float32), edges, triangles)


def carried(
    move: Vectors, near: Int64[np.ndarray, "p k"], share: Float64[np.ndarray, "p k"]
) -> Float64[np.ndarray, "p 3"]:
    """Average the moves of the vertices that carry each point."""
    return np.asarray(np.einsum("pk,pkc->pc", share, move[near]))


def hanging_share(shell: HairShell, style: HairStyle) -> Values:
    """Give how far hair hangs rather than follows the head [0-1]."""
    if style.length == 0:
        return np.zeros(len(shell.azimuth))
    if style.tail == "tail":
        return smoothstep((shell.azimuth - 154) / 12)
    return smoothstep((shell.azimuth - 40) / 15)


def edge_distances(
    shell: HairShell, place: Vectors, style: HairStyle
) -> Float32[np.ndarray, "p 4"]:
    """Give how far inside the hairline, the front edge and the ends places are, and from ears."""
    y, azimuth = place[:, 1], shell.azimuth
    if style.length == 0:
        front = np.full(len(y), -90.0)
    elif style.tail == "tail":
        front = 1.4 * (azimuth - 165)
    else:
        # Hair that covers the ears frames the forehead and swings forward below.
        lead = 26 * smoothstep((y - 5) / 55) * (style.front < EAR_AZIMUTH)
        front = 1.4 * (azimuth - style.front + lead + 5 * np.sin(y / 30 + style.phase))
    shorter = 0.25 * np.maximum(0, 110 - azimuth) * (style.tail == "none")
    ends = y + style.length - shorter
    columns = [hair_height(place, style), front, ends, shell.ear_distance]
    return np.stack(columns, 1).astype(np.float32)


def hair_thickness(
    shell: HairShell, place: Vectors, edges: Vectors, style: HairStyle, noise: Noise
) -> Values:
    """Give how far the surface of the hair stands off [mm]; 0 at its edges and on bare skin."""
    x, y, z = place.T
    above, front, ends, _ = edges.T
    azimuth = shell.azimuth
    up = np.clip((y - 15) / 60, 0, 1)
    cap = style.side + (style.top - style.side) * up
    if style.flow == "back":
        cap = cap + 0.5 * style.top * bump(azimuth, 0, 55) * bump(y, 78, 22)
    if style.flow == "part":
        cap = cap * (1 - 0.3 * bump(x, style.part, 8) * up)
        cap = cap * (1 + 0.2 * np.tanh((x - style.part) / 15) * -np.sign(style.part) * up)
    cap = cap * smoothstep((above - 2) / (12 + 0.5 * style.top))
    thickness = cap + tied_hair(shell, y, style)
    if style.length > 0 and style.tail == "none":
        loose = (style.side + style.body) * (0.35 + 0.65 * smoothstep(front / 30))
        loose = loose * smoothstep((95 - y) / 70) * (front > 0)
        # The ends of shorter hair turn inwards.
        inwards = 0.7 * (style.length < 120) * (1 - smoothstep(ends / 45))
        thickness = np.maximum(thickness, loose) * (1 - inwards)
    if style.front < EAR_AZIMUTH and style.length > 0 and style.tail == "none":
        over_ears = bump(azimuth, EAR_AZIMUTH, 26) * smoothstep((75 - y) / 80)
        thickness = thickness + 13 * over_ears * smoothstep((front + 5) / 30)
    else:
        free = smoothstep(shell.ear_distance / EAR_FADE_MM)
        thickness = thickness * np.where(azimuth < 150, free, 1)
    tuft = texture(noise, "blotch", 0.7 * y + style.phase, 0.7 * np.sign(x) * azimuth)
    # All azimuths meet at the crown and have to agree there.
    tuft = tuft * np.clip(np.hypot(x, z - CROWN_Z) / 40, 0, 1)
    thickness = thickness * (1 + (0.06 + 0.10 * style.curl * (style.curl < COILY)) * tuft)
    # At the hairline the surface dips into the skin, or a gap would show from the side.
    return np.asarray(thickness - ROOT_MM * (1 - smoothstep(above / 16)) * (front < 0))


def tied_hair(shell: HairShell, y: Values, style: HairStyle) -> Values:
    """Give the thickness that a pony tail or a bun adds behind the head [mm]."""
    behind = 180 - shell.azimuth
    if style.tail == "tail":
        return np.asarray(17 * smoothstep((16 - behind) / 12) * smoothstep((58 - y) / 30))
    if style.tail == "bun":
        away = np.hypot(1.7 * behind, y - 42)
        return np.asarray(1.15 * BUN_MM * np.sqrt(np.clip(1 - (away / BUN_MM) ** 2, 0, 1)))
    return np.zeros(len(y))


def strands(place: Vectors, style: HairStyle, noise: Noise) -> Values:
    """Give the lightness of strands along the hair's flow, about 0 and of unit variance."""
    x, y, z = place.T
    if style.curl > COILY:
        return 0.6 * texture(noise, "fine", 0.55 * y + style.phase, 0.55 * (x + z))
    azimuth = np.degrees(np.arctan2(x, z - CROWN_Z))
    falling = streaks(noise, y, 1.4 * azimuth, style)
    if style.flow == "down":
        return falling
    turned = 80 * np.arctan2(x, y - 5)
    along, across = (turned, z) if style.flow == "part" else (z, turned)
    combed = streaks(noise, along, across, style)
    return np.asarray(falling + (combed - falling) * combed_share(place, style))


def streaks(noise: Noise, along: Values, across: Values, style: HairStyle) -> Values:
    """Look up streaks at places along and across the strands [mm], waving with the curl."""
    if style.is_short:
        return texture(noise, "crop", 1.1 * along + style.phase, 1.1 * across)
    drift = texture(noise, "blotch", 0.5 * along, 0.5 * across + style.phase)
    bend = np.sin(along * (0.08 + 0.10 * style.curl) + 0.03 * across + 1.3 * drift)
    across = across + 1.2 * drift + 5.0 * style.curl * bend
    fine = texture(noise, "strand", 0.3 * along, 1.5 * across + style.phase)
    locks = texture(noise, "strand", 0.15 * along, 0.3 * across + style.phase)
    return 0.85 * fine + 0.4 * locks


def combed_share(place: Vectors, style: HairStyle) -> Values:
    """Give how far strands follow the comb rather than fall [0-1]."""
    y = place[:, 1]
    if style.flow == "part":
        return smoothstep((y - 15) / 45)
    if style.tail != "none":
        return smoothstep((place[:, 2] + 185) / 20)
    return smoothstep((y - 5) / 40)


def strand_direction(place: Vectors, style: HairStyle) -> Vectors:
    """Give the direction of strands, before it is laid onto the surface."""
    radial = (place - vector((0, 0, CROWN_Z))) * vector((0.012, 0, 0.012))
    down = radial - vector((0, 1, 0))
    if style.flow == "part":
        sides = np.sign(place[:, :1] - style.part) * vector((1, 0, 0))
        return mix(down, sides - vector((0, 0.7, 0)), combed_share(place, style))
    if style.flow == "back":
        return mix(down, vector((0, -0.3, -1)), combed_share(place, style))
    return np.asarray(down)


def coverage(
    place: Vectors,
    edges: Float32[np.ndarray, "p 4"],
    strand: Values,
    style: HairStyle,
    noise: Noise,
) -> Values:
    """Give how much hair covers what is behind it [0-1]: soft, ragged edges along strands."""
    above, front, ends, _ = edges.T
    wisp = texture(noise, "fine", place[:, 1], place[:, 0] + place[:, 2])
    loose = 0.4 if style.curl > COILY else 1.0
    hairline = smoothstep((above + loose * (1.2 * strand + 1.6 * wisp) - 1) / 10)
    hairline = hairline * side_density(place, style)
    if style.length == 0:
        return np.asarray(hairline)
    ragged = 5 if style.curl < COILY else 2
    hanging = smoothstep((front + 2.0 * strand) / 7) * smoothstep((ends + ragged * strand) / 14)
    return np.asarray(np.maximum(hairline, hanging))


def side_density(place: Vectors, style: HairStyle) -> Values:
    """Give how densely hair covers the head [0-1]: cropped sides let the skin show."""
    if style.length > 0 or style.tail != "none":
        return np.ones(len(place), np.float32)
    sides = min(1.0, 0.35 + 0.2 * style.side)
    return 1 - (1 - sides) * smoothstep((62 - place[:, 1]) / 50)


def parting(place: Vectors, style: HairStyle) -> Values:
    """Give the bareness of the scalp along the parting [0-1]."""
    if style.flow != "part":
        return np.zeros(len(place), np.float32)
    x, y, z = place.T
    wiggle = 0.8 * np.sin(z / 6 + style.phase)
    reach = smoothstep((z + 105) / 20) * smoothstep((y - 58) / 10)
    return np.asarray(bump(x - style.part - wiggle, 0, 1.1) * reach)


def light_of_strands(
    normal: Vectors, along: Vectors, light: np.ndarray, strand: Values
) -> tuple[Values, Values, Values]:
    """Give diffuse light and the two highlights of fibres (Kajiya & Kay 1989, shifted by noise).

    The first highlight has the colour of the light, the second that of the hair.
    """
    along = unit(along - np.einsum("pk,pk->p", along, normal)[:, None] * normal)
    half = light + np.array([0.0, 0.0, 1.0])
    half = (half / np.linalg.norm(half)).astype(np.float32)
    facing = np.clip(normal @ light.astype(np.float32), -0.3, 1)
    fibre = np.sqrt(1 - np.clip(along @ light.astype(np.float32), -1, 1) ** 2)
    lean = along @ half + 0.10 * strand
    lit = smoothstep((facing + 0.3) / 0.9)
    diffuse = (0.35 + 0.65 * np.maximum(facing, 0)) * fibre * lit
    first, second = (
        np.exp(-(((lean - at) / wide) ** 2)) for at, wide in ((-0.08, 0.13), (0.12, 0.3))
    )
    return diffuse, first * lit, second * lit

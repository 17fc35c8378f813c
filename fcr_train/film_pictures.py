"""Films as they arrive, turned, mirrored and mishandled, to train what understands them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import film, imaging, pose
from fcr_edge.looks import FINDINGS, TURNS
from fcr_edge.pose import LANDMARKS, RIM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float32, Float64, UInt8

    from fcr_edge.pose import Matrix, Places, View

    Levels = Float32[np.ndarray, "s s"]
    Picture = UInt8[np.ndarray, "s s"]

ASKED = FINDINGS[len(TURNS) :]
"""The findings that are yes or no."""
OTHER_SIDE = [
    LANDMARKS.index(name.replace("left", "*").replace("right", "left").replace("*", "right"))
    for name in LANDMARKS
]
"""For each landmark the place of its counterpart on the other side, its own on the midline."""
FACE = np.array([name not in RIM for name in LANDMARKS])

# Every range below is an assumption about films that arrive, wider than most of them.
UPRIGHT = 0.5
"""Share of films that lie as they should: only of them the landmarks are asked."""
ALIGNED = 0.4
"""Share of films that are near the common pose, as they are at the last look."""
FILLED = 0.25
"""Share of films that the head fills, as those that orthodontists take."""
CLOSE = 0.06
"""Share of films that show a part of a head."""
STRETCH = 0.2
"""Standard deviation of the logarithm by which a part of a head is longer or broader than drawn:
proportions of real heads differ more than those of simulated ones, and a network that knows these
places landmarks by the outline of the whole head."""
EVENED = 0.3
"""Share of films whose contrast is the same in light and in dark regions."""
HIDDEN = 0.15
"""Share of films of which a part is covered."""
PARTS = 6
"""Places along each axis where that is drawn."""


@dataclass(frozen=True)
class Example:
    """A picture with what is to be answered."""

    picture: Picture
    turn: int = -1
    """Quarter turns anticlockwise, -1 where that is not to be asked."""
    findings: Mapping[str, float] = field(default_factory=dict)
    """0 or 1 by finding; what is left out is not to be asked."""
    places: Places | None = None
    """Of LANDMARKS [shares of the side], NaN where unknown; None where they are not asked."""


@dataclass(frozen=True)
class Film:
    """A film of one head as it should be."""

    pixels: UInt8[np.ndarray, "h w"]
    places: Places
    """Of LANDMARKS from its upper left corner [pixels], NaN where unknown."""
    view: View


def draw_film(one: Film, size: int, rng: np.random.Generator) -> Example:
    """Draw a film of one head as it may arrive, `size` pixels on a side."""
    is_upright, is_aligned = rng.random(2) < (UPRIGHT, ALIGNED)
    one = stretch(one, rng)
    to_picture = _draw_move(one, size, rng, is_aligned)
    levels = _warp(_cut(one.pixels, rng), to_picture, size)
    places: Places = pose.apply(to_picture, one.places) / size
    bounds = _draw_field(rng, is_aligned)
    share = _share_off(places, bounds)
    findings = {"lateral": float(one.view == "lateral"), "two heads": 0.0}
    findings |= {"cropped": float(share > 1 / 3)} if not 0.2 < share <= 1 / 3 else {}
    findings |= {"skull": 1.0} if share < 0.6 else {}
    return _arrive(_expose(levels, rng), bounds, findings, places, one.view, is_upright, rng)


def draw_two_heads(first: Film, second: Film, size: int, rng: np.random.Generator) -> Example:
    """Draw a film with two heads, beside or above one another."""
    is_beside, gap = rng.random() < 0.7, rng.uniform(0.2, 0.3)
    levels = np.zeros((size, size), np.float32)
    for one, sign in ((first, -1), (second, 1)):
        along, across = sign * gap, rng.uniform(-0.1, 0.1)
        middle = (along, across) if is_beside else (across, along)
        similarity = _about_head(
            one, rng.uniform(0.5, 0.75) * size, rng.normal(0, 6), middle, size
        )
        levels = np.maximum(levels, _warp(one.pixels, similarity, size))
    findings = {"two heads": 1.0, "skull": 1.0}
    if first.view == second.view:
        findings["lateral"] = float(first.view == "lateral")
    bounds = _draw_field(rng, is_aligned=True)
    view = first.view if first.view == second.view else "frontal"
    return _arrive(_expose(levels, rng), bounds, findings, None, view, rng.random() < 0.5, rng)


def draw_other(levels: Levels, rng: np.random.Generator) -> Example:
    """Let a picture of something else arrive like a film; only that it is no skull is asked."""
    if rng.random() < 0.5:
        levels = _expose(levels, rng)
    bounds = _draw_field(rng, is_aligned=rng.random() < 0.5)
    made = _arrive(levels, bounds, {"skull": 0.0}, None, "frontal", rng.random() < 0.5, rng)
    return Example(made.picture, findings={"skull": 0.0})


def stretch(one: Film, rng: np.random.Generator) -> Film:
    """Stretch rows and columns unevenly, the ends staying where they are."""
    moved, places = one.pixels.astype(np.float32), one.places.copy()
    for axis, side in enumerate(one.pixels.shape):
        knots = rng.normal(0, STRETCH, PARTS)
        length = np.exp(np.interp(np.arange(side), np.linspace(0, side - 1, PARTS), knots))
        edges = np.concatenate([[0], np.cumsum(length)]) * (side / length.sum())
        places[:, 1 - axis] = np.interp(places[:, 1 - axis], np.arange(side + 1), edges)
        moved = _take_lines(
            moved, np.interp(np.arange(side) + 0.5, edges, np.arange(side + 1)), axis
        )
    return Film(np.rint(moved).astype(np.uint8), places, one.view)


def _take_lines(
    levels: Float32[np.ndarray, "h w"], places: Float64[np.ndarray, " n"], axis: int
) -> Float32[np.ndarray, "h w"]:
    """Take lines at places along an axis, between their neighbours."""
    at = (places - 0.5).clip(0, levels.shape[axis] - 1.001)
    before = at.astype(int)
    share = np.expand_dims((at - before).astype(np.float32), 1 - axis)
    first, second = (np.take(levels, before + step, axis) for step in (0, 1))
    taken: Float32[np.ndarray, "h w"] = first + (second - first) * share
    return taken


def _draw_move(one: Film, size: int, rng: np.random.Generator, is_aligned: bool) -> Matrix:
    """Draw where the head comes to lie."""
    lot = rng.random()
    if is_aligned and lot > CLOSE:
        degrees, scale = rng.normal(0, 3), np.exp(rng.normal(0, 0.06))
        middle = tuple(rng.normal(0, 0.03, 2))
    elif lot < CLOSE:
        degrees, scale = rng.uniform(-25, 25), rng.uniform(1.5, 3)
        middle = tuple(rng.uniform(-0.7, 0.7, 2))
    elif lot < CLOSE + FILLED / (1 - ALIGNED):
        degrees, scale = rng.normal(0, 6), rng.uniform(1, 1.4)
        middle = tuple(rng.uniform(-0.12, 0.12, 2))
    else:
        degrees = rng.uniform(-25, 25)
        scale = np.exp(rng.uniform(np.log(0.6), np.log(1.5)))
        middle = tuple(rng.uniform(-0.2, 0.2, 2))
    return _about_head(one, scale * size, degrees, middle, size)


def _about_head(
    one: Film, side: float, degrees: float, middle: tuple[float, ...], size: int
) -> Matrix:
    """Turn a film about its middle, scale it to a side, and put its middle somewhere.

    `middle` is counted from the picture's middle [shares of its side].
    """
    height, width = one.pixels.shape
    turn = pose.Similarity(side / max(height, width), degrees, (0.0, 0.0)).matrix
    place = pose.shift(size * (0.5 + middle[0]), size * (0.5 + middle[1]))
    matrix: Matrix = place @ turn @ pose.shift(-width / 2, -height / 2)
    return matrix


def _warp(pixels: UInt8[np.ndarray, "h w"], to_picture: Matrix, size: int) -> Levels:
    drawn = imaging.resample(pixels, np.linalg.inv(to_picture), (size, size))
    return drawn / np.float32(255)


def _cut(pixels: UInt8[np.ndarray, "h w"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Blacken margins of the film, as where the film ended and was then turned with the head."""
    if rng.random() < 0.6:
        return pixels
    height, width = pixels.shape
    shares = rng.uniform(0, 0.2, 4) * (rng.random(4) < 0.5)
    top, bottom, left, right = (shares * (height, height, width, width)).astype(int).tolist()
    cut = np.zeros_like(pixels)
    inner = slice(top, height - bottom), slice(left, width - right)
    cut[inner] = pixels[inner]
    return cut


Bounds = tuple[float, float, float, float]
"""Left, top, right, bottom of the exposed field [shares of the side]."""


def _draw_field(rng: np.random.Generator, is_aligned: bool) -> Bounds:
    """Draw the aspect of the film and where the collimator closes it."""
    aspect = rng.uniform(0.7, 1) if rng.random() < 0.6 else 1.0
    margin = (1 - aspect) / 2
    bounds = [0.0, margin, 1.0, 1 - margin] if rng.random() < 0.3 else [margin, 0, 1 - margin, 1]
    if rng.random() < 0.4:
        most = 0.06 if is_aligned else 0.15
        closed = rng.uniform(0, most, 4) * (rng.random(4) < 0.5)
        bounds = [*np.add(bounds[:2], closed[:2]), *np.subtract(bounds[2:], closed[2:])]
    left, top, right, bottom = map(float, bounds)
    return left, top, right, bottom


def _share_off(places: Places, bounds: Bounds) -> float:
    """Return the share of the landmarks of the face that lie off the field."""
    left, top, right, bottom = bounds
    face = places[FACE & np.isfinite(places).all(axis=1)]
    inside = (face >= (left, top)).all(axis=1) & (face <= (right, bottom)).all(axis=1)
    return float(1 - inside.mean())


def _expose(levels: Levels, rng: np.random.Generator) -> Levels:
    """Change the film's tones: curve, shading, local contrast, fog, blur and noise."""
    size = len(levels)
    made = levels ** np.float32(np.exp(rng.normal(0.15, 0.35)))
    if rng.random() < 0.6:
        sigma, amount = rng.uniform(1.5, 12), rng.uniform(0.2, 1.8)
        made = made + np.float32(amount) * (made - imaging.blur(made, sigma)) * (made > 0.02)
    if rng.random() < EVENED:
        made = _even_out(made, rng)
    if rng.random() < 0.6:
        made = made * np.exp(np.float32(rng.uniform(0.1, 0.8)) * draw_cloud(size, 2, 4, rng))
    if rng.random() < 0.3:
        made = np.minimum(made, np.float32(rng.uniform(0.6, 0.9)))
    fog = rng.uniform(0, 0.35) * (rng.random() < 0.5)
    made = np.float32(fog) + np.float32(1 - fog) * made.clip(0, 1)
    if rng.random() < 0.4:
        slope = draw_slope(size, rng)
        made += np.float32(rng.uniform(0, 1)) * slope
    made = _add_fittings(made.clip(0, 1), rng)
    if rng.random() < HIDDEN:
        made = _hide(made, rng)
    if rng.random() < 0.3:
        made = imaging.blur(made, rng.uniform(0.3, 1.2))
    noise = rng.standard_normal(made.shape, np.float32)
    return (made + np.float32(rng.uniform(0, 0.03)) * noise).clip(0, 1)


def _even_out(levels: Levels, rng: np.random.Generator) -> Levels:
    """Give light and dark regions one contrast, as units do that compress a film's range."""
    sigma, share = rng.uniform(4, 16), np.float32(rng.uniform(0.3, 1))
    mean = imaging.blur(levels, sigma)
    spread = np.sqrt(imaging.blur((levels - mean) ** 2, sigma)) + np.float32(0.03)
    even = np.float32(0.4) + np.float32(0.2) * (levels - mean) / spread
    evened: Levels = np.where(levels > 0.02, levels + share * (even - levels), levels).clip(0, 1)
    return evened


def _hide(levels: Levels, rng: np.random.Generator) -> Levels:
    """Cover a part of the film, so that no one part of a head decides what is seen."""
    size = len(levels)
    height, width = (rng.uniform(0.1, 0.4, 2) * size).astype(int)
    row, column = int(rng.integers(size - height)), int(rng.integers(size - width))
    hidden = levels.copy()
    hidden[row : row + height, column : column + width] = rng.uniform(0, 1)
    return hidden


def draw_cloud(size: int, coarsest: int, finest: int, rng: np.random.Generator) -> Levels:
    """Draw smooth noise of about unit variance, its octaves from a grid to another."""
    levels, octaves = np.zeros((size, size), np.float32), 0
    cells = coarsest
    while cells <= finest:
        levels += imaging.resize(rng.standard_normal((cells, cells), np.float32), (size, size))
        cells, octaves = 2 * cells, octaves + 1
    return levels / np.float32(np.sqrt(octaves))


def draw_slope(size: int, rng: np.random.Generator) -> Levels:
    """Draw levels that rise from 0 to 1 across the picture in a random direction."""
    angle, power = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 6)
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    along = np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]
    slope: Levels = (((along + 0.71) / 1.42).clip(0, 1) ** power).astype(np.float32)
    return slope


def _add_fittings(levels: Levels, rng: np.random.Generator) -> Levels:
    """Lay letters, rods of a head holder and notches of a cassette on the film."""
    size = len(levels)
    canvas = np.zeros((size, size, 3), np.uint8)
    if rng.random() < 0.4:
        place = rng.uniform(0.02, 0.9, 2) * size
        letter = "".join(rng.choice(list("LRAP0123456789"), rng.integers(1, 5)))
        corner = (int(place[0]) + 8, int(place[1]))
        imaging.draw_text(canvas, letter, corner, (255,) * 3, rng.uniform(0.25, 0.6))
    for _ in range(rng.integers(0, 4) * (rng.random() < 0.4)):
        start = (rng.uniform(0, 1, 2) * size).astype(int)
        end = start + (rng.uniform(-0.3, 0.3, 2) * size).astype(int)
        level = int(rng.uniform(60, 255))
        width = int(rng.integers(1, 5))
        first, last = ((int(row), int(column)) for row, column in (start, end))
        imaging.draw_line(canvas, first, last, (level,) * 3, width)
    fitted: Levels = np.maximum(levels, canvas[:, :, 0].astype(np.float32) / 255)
    return fitted


def _arrive(
    levels: Levels,
    bounds: Bounds,
    findings: dict[str, float],
    places: Places | None,
    view: View,
    is_upright: bool,
    rng: np.random.Generator,
) -> Example:
    """Cut the film to its field, invert, frame, mirror and turn it; say what that makes true."""
    turn, is_mirrored, is_inverted = 0, False, False
    if not is_upright:
        turn = int(rng.integers(4))
        is_mirrored, is_inverted = (bool(yes) for yes in rng.random(2) < 0.5)
    if view == "frontal":
        is_mirrored = bool(rng.random() < 0.5)
    picture = _finish(levels, bounds, is_inverted, rng)
    if is_mirrored:
        picture = picture[:, ::-1]
        places = None if places is None else _mirror(places)
    findings = {**findings, "inverted": float(is_inverted)}
    if view == "lateral":
        findings["mirrored"] = float(is_mirrored)
    asked = is_upright or (turn == 0 and not is_inverted and not findings.get("mirrored", 0))
    return Example(
        np.ascontiguousarray(np.rot90(picture, turn)), turn, findings, places if asked else None
    )


def _mirror(places: Places) -> Places:
    """Mirror places [shares of the side], left becoming right."""
    mirrored = places[OTHER_SIDE].copy()
    mirrored[:, 0] = 1 - mirrored[:, 0]
    return mirrored


def _finish(
    levels: Levels, bounds: Bounds, is_inverted: bool, rng: np.random.Generator
) -> Picture:
    """Spread the levels of the field as the field does, and frame it."""
    size = len(levels)
    left, top, right, bottom = (round(size * share) for share in bounds)
    inner = 1 - levels if is_inverted else levels
    picture = np.zeros((size, size), np.uint8)
    frame = rng.random()
    if frame < 0.1:  # a scanner's bed, or the unexposed border of an inverted film
        picture[:] = 255
    elif frame < 0.2:  # notches of the cassette
        for share in rng.uniform(0, 1, 6):
            column, width = round(share * size), round(0.07 * size)
            picture[max(0, top - 3) : top + 3, column : column + width] = 255
            picture[bottom - 3 : bottom + 3, column : column + width] = 255
    cut = inner[top:bottom, left:right]
    low, high = np.percentile(cut, film.WINDOW)
    spread = ((cut - low) / max(high - low, 0.02)).clip(0, 1)
    inset = round(0.02 * size) if 0.1 <= frame < 0.2 else 0
    rows, columns = slice(top + inset, bottom - inset), slice(left, right)
    whole = np.zeros((size, size), np.float32)
    whole[top:bottom, left:right] = spread
    picture[rows, columns] = np.rint(255 * whole[rows, columns])
    return picture

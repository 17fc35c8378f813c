"""What is no film of a skull, drawn: noise, text, drawings, hands, chests, scenes, faces."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import imaging
from fcr_train.film_pictures import draw_cloud, draw_slope

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float32, UInt8

    Levels = Float32[np.ndarray, "s s"]
    Canvas = UInt8[np.ndarray, "s s 3"]

WORDS = ("film", "skull", "report", "name", "date", "view", "left", "right", "the", "of", "1", "2")


def draw_stranger(size: int, rng: np.random.Generator) -> Levels:
    """Draw something that is no film of a skull, in [0, 1]."""
    drawn = STRANGERS[int(rng.integers(len(STRANGERS)))](size, rng)
    low, high = float(drawn.min()), float(drawn.max())
    return ((drawn - low) / max(high - low, 1e-6)).astype(np.float32)


def draw_noise(size: int, rng: np.random.Generator) -> Levels:
    """Draw noise, from white to cloudy."""
    if rng.random() < 0.4:
        return rng.random((size, size), np.float32)
    finest = int(2 ** rng.integers(2, 7))
    return draw_cloud(size, 2, finest, rng)


def draw_shades(size: int, rng: np.random.Generator) -> Levels:
    """Draw slopes and discs of light with a little grain: an empty or covered film."""
    levels = draw_slope(size, rng)
    for _ in range(rng.integers(0, 3)):
        levels = levels + np.float32(rng.uniform(-1, 1)) * _ellipse(size, rng, soft=True)
    grain = rng.standard_normal((size, size), np.float32)
    return _plain(levels + np.float32(rng.uniform(0, 0.1)) * grain)


def draw_texture(size: int, rng: np.random.Generator) -> Levels:
    """Draw stripes, waves or tiles."""
    rows, columns = np.indices((size, size), np.float32) / size
    angle, waves = rng.uniform(0, np.pi), rng.uniform(2, 25)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    across = np.cos(angle) * rows - np.sin(angle) * columns
    bent = along + np.float32(rng.uniform(0, 0.05)) * draw_cloud(size, 2, 8, rng)
    levels = np.sin(2 * np.pi * waves * bent)
    if rng.random() < 0.5:
        levels = levels * np.sin(2 * np.pi * rng.uniform(2, 25) * across)
    if rng.random() < 0.4:
        levels = np.sign(levels)
    return _plain(levels)


def draw_writing(size: int, rng: np.random.Generator) -> Levels:
    """Draw lines of text on paper."""
    canvas = _paper(size, rng)
    scale = rng.uniform(0.2, 0.7)
    step = max(6, round(40 * scale))
    for row in range(step, size, step):
        line = " ".join(rng.choice(WORDS, rng.integers(1, 8)))
        imaging.draw_text(canvas, line, (row, int(rng.integers(0, size // 4))), (0,) * 3, scale)
    return _take(canvas, rng)


def draw_scribble(size: int, rng: np.random.Generator) -> Levels:
    """Draw what a pen draws: lines, curves, circles, a hand or a face of a few strokes."""
    canvas = _paper(size, rng)
    for _ in range(rng.integers(1, 9)):
        _draw_curve(canvas, _wander(size, rng), int(rng.integers(1, 4)), 0)
    for _ in range(rng.integers(0, 4)):
        middle, radii = rng.uniform(0.1, 0.9, 2) * size, rng.uniform(0.03, 0.4, 2) * size
        _draw_curve(canvas, _oval(middle, radii), int(rng.integers(1, 4)), 0)
    if rng.random() < 0.3:
        _draw_curve(canvas, _outline_hand(size, rng), int(rng.integers(1, 4)), 0)
    return _take(canvas, rng)


def draw_scene(size: int, rng: np.random.Generator) -> Levels:
    """Draw shapes that cover each other, of all sizes: the statistics of photographs.

    The dead leaves model (Lee, Mumford & Huang 2001), with shading and texture on each leaf.
    """
    levels = draw_slope(size, rng)
    texture = draw_cloud(size, 4, 64, rng)
    for share in np.sort(rng.uniform(0.05, 1, rng.integers(5, 30)))[::-1]:
        radius = 0.5 * share**2
        leaf = _shape(size, rng, radius)
        shade = rng.random() + rng.uniform(-0.5, 0.5) * draw_slope(size, rng)
        levels = np.where(leaf, shade + np.float32(rng.uniform(0, 0.15)) * texture, levels)
    if rng.random() < 0.5:
        levels = imaging.blur(levels.astype(np.float32), rng.uniform(0.4, 1.5))
    return _plain(levels)


def draw_chest(size: int, rng: np.random.Generator) -> Levels:
    """Draw a chest film: lungs, ribs, spine, heart, diaphragm, collar bones."""
    rows, columns = np.indices((size, size), np.float32) / size
    wide, top = rng.uniform(0.3, 0.42), rng.uniform(0.05, 0.2)
    body = _blob(rows, columns, 0.55, 0.5, 0.55, wide + 0.12)
    levels = 0.75 * body
    for side in (-1, 1):
        middle = 0.5 + side * wide * rng.uniform(0.5, 0.6)
        levels = levels - rng.uniform(0.35, 0.6) * _blob(
            rows, columns, 0.48, middle, 0.36, wide * 0.42
        )
    levels = levels + 0.3 * _blob(rows, columns, 0.62, 0.5 + rng.uniform(0, 0.08), 0.17, 0.15)
    levels = levels + 0.4 * (rows > rng.uniform(0.75, 0.9)) * body
    canvas = np.zeros((size, size, 3), np.uint8)
    for number in range(rng.integers(6, 11)):
        for side in (-1, 1):
            start = top + 0.07 * number
            across = np.linspace(0.03, wide, 12)
            down = (
                start
                + rng.uniform(0.1, 0.35) * across
                - rng.uniform(0.1, 0.3) * np.sin(across / wide * 3)
            )
            curve = np.stack([down, 0.5 + side * across], axis=1) * size
            _draw_curve(canvas, curve, max(1, size // 60), int(rng.uniform(40, 90)))
    for vertebra in np.arange(0.02, 0.95, 0.06):
        ends = np.array([[vertebra, 0.46], [vertebra, 0.54]]) * size
        _draw_curve(canvas, ends, max(2, size // 28), 110)
    for side in (-1, 1):
        ends = np.array([[top + 0.03, 0.5 + side * 0.03], [top - 0.02, 0.5 + side * wide]]) * size
        _draw_curve(canvas, ends, max(1, size // 40), 120)
    bones = imaging.blur(canvas[:, :, 0].astype(np.float32) / 255, 0.8)
    return _plain((levels + bones).clip(0, 1.2))


def draw_hand(size: int, rng: np.random.Generator) -> Levels:
    """Draw a film of a hand: five rays of bones in soft tissue, and the wrist."""
    soft, bone = (np.zeros((size, size, 3), np.uint8) for _ in range(2))
    wrist = np.array([0.85, 0.5])
    scale, turn = rng.uniform(0.7, 1.1), rng.normal(0, 10)
    for number, fan in enumerate((-55, -18, -5, 8, 22)):
        angle = np.deg2rad(fan + turn + rng.normal(0, 3))
        direction = np.array([-np.cos(angle), np.sin(angle)])
        lengths = scale * np.array([0.25, 0.17, 0.11, 0.08]) * (0.75 if number == 0 else 1)
        place = wrist + 0.06 * direction
        for length in lengths:
            end = place + length * direction
            ends = np.stack([place, end]) * size
            _draw_curve(soft, ends, max(4, size // 11), 90)
            _draw_bone(bone, ends, max(2, size // 38))
            place = end + 0.012 * direction
    for _ in range(8):
        spot = (wrist + rng.normal(0, 0.03, 2)) * size
        imaging.draw_disc(bone, _pixel(spot), max(2, size // 35), (150,) * 3)
    for side in (-0.035, 0.03):
        ends = np.array([[0.9, 0.5 + side], [1.05, 0.5 + side]]) * size
        _draw_curve(soft, ends, size // 8, 90)
        _draw_bone(bone, ends, size // 24)
    return _combine(soft, bone)


def draw_limb(size: int, rng: np.random.Generator) -> Levels:
    """Draw a film of long bones: a thigh, a knee, a forearm; or of the lower spine and hips."""
    soft, bone = (np.zeros((size, size, 3), np.uint8) for _ in range(2))
    if rng.random() < 0.25:
        for vertebra in np.arange(0.02, 0.6, 0.09):
            ends = np.array([[vertebra, 0.44], [vertebra, 0.56]]) * size
            _draw_curve(bone, ends, max(3, size // 18), 150)
        for side in (-1, 1):
            wing = _oval(np.array([0.68, 0.5 + side * 0.22]) * size, np.array([0.16, 0.14]) * size)
            _draw_curve(bone, wing, max(3, size // 16), 140)
            imaging.draw_disc(
                bone, _pixel(np.array([0.85, 0.5 + side * 0.3]) * size), size // 14, (170,) * 3
            )
        _draw_curve(soft, np.array([[0, 0.5], [1, 0.5]]) * size, size // 2, 90)
        return _combine(soft, bone)
    angle, number = rng.normal(0, 0.15), int(rng.integers(1, 3))
    for index in range(number):
        across = 0.5 + (index - (number - 1) / 2) * rng.uniform(0.1, 0.2)
        cut = rng.uniform(0.4, 0.6)
        for start, end in ((-0.1, cut - 0.01), (cut + 0.01, 1.1)):
            ends = np.array([[start, across - angle / 2], [end, across + angle / 2]]) * size
            _draw_curve(soft, ends, round(size * rng.uniform(0.2, 0.35)), 90)
            _draw_bone(bone, ends, round(size * rng.uniform(0.03, 0.07)))
    return _combine(soft, bone)


def draw_portrait(size: int, rng: np.random.Generator) -> Levels:
    """Draw a face as a lamp shows it: head, hair, eyes, nose, mouth, a shirt."""
    rows, columns = np.indices((size, size), np.float32) / size
    row, column = rng.uniform(0.42, 0.55), rng.uniform(0.42, 0.58)
    height, width = rng.uniform(0.28, 0.45), rng.uniform(0.2, 0.32)
    back, skin, hair = rng.random(3)
    levels = back + rng.uniform(-0.3, 0.3) * draw_slope(size, rng)
    shirt = _blob(rows, columns, row + height + 0.3, column, 0.33, width * 1.7) > 0
    levels = np.where(shirt, rng.random(), levels)
    grown = _blob(rows, columns, row - 0.12 * height, column, height * 1.1, width * 1.18) > 0
    levels = np.where(grown, hair * 0.6, levels)
    face = _blob(rows, columns, row + 0.05, column, height * 0.95, width)
    lit = skin * 0.6 + 0.35 * face + rng.uniform(-0.3, 0.3) * draw_slope(size, rng)
    levels = np.where(face > 0, lit, levels)
    for side in (-1, 1):
        eye = _blob(
            rows,
            columns,
            row - 0.05 * height,
            column + side * 0.4 * width,
            0.06 * height,
            0.2 * width,
        )
        levels = np.where(eye > 0, rng.uniform(0, 0.3), levels)
        brow = _blob(
            rows,
            columns,
            row - 0.2 * height,
            column + side * 0.4 * width,
            0.03 * height,
            0.26 * width,
        )
        levels = np.where(brow > 0, hair * 0.5, levels)
    nose = _blob(rows, columns, row + 0.25 * height, column, 0.06 * height, 0.16 * width)
    mouth = _blob(rows, columns, row + 0.5 * height, column, 0.06 * height, 0.35 * width)
    levels = levels - 0.2 * (nose > 0) - rng.uniform(0.1, 0.35) * (mouth > 0)
    return imaging.blur(levels.astype(np.float32), rng.uniform(0.6, 1.5))


STRANGERS: tuple[Callable[[int, np.random.Generator], Levels], ...] = (
    draw_noise,
    draw_shades,
    draw_texture,
    draw_writing,
    draw_scribble,
    draw_scene,
    draw_scene,
    draw_chest,
    draw_hand,
    draw_limb,
    draw_portrait,
    draw_portrait,
    draw_portrait,
)
"""What is drawn; scenes and portraits vary most, and portraits are nearest to a head's film."""


def _plain(levels: np.ndarray) -> Levels:
    """Return levels as single-precision numbers."""
    return np.asarray(levels, np.float32)


def _paper(size: int, rng: np.random.Generator) -> Canvas:
    level = int(rng.uniform(150, 255))
    return np.full((size, size, 3), level, np.uint8)


def _take(canvas: Canvas, rng: np.random.Generator) -> Levels:
    """Take the picture of a drawing, white on black as often as black on white."""
    levels = canvas[:, :, 0].astype(np.float32) / 255
    return 1 - levels if rng.random() < 0.5 else levels


def _pixel(place: np.ndarray) -> tuple[int, int]:
    return int(place[0]), int(place[1])


def _draw_curve(canvas: Canvas, places: np.ndarray, width: int, level: int) -> None:
    """Draw a line through places (row, column) [pixels]."""
    for start, end in pairwise(places):
        imaging.draw_line(canvas, _pixel(start), _pixel(end), (level,) * 3, max(1, width))


def _draw_bone(canvas: Canvas, ends: np.ndarray, width: int) -> None:
    """Draw a bone: a shaft with a dense cortex, and a thicker head at either end."""
    _draw_curve(canvas, ends, width, 190)
    _draw_curve(canvas, ends, max(1, width // 2), 120)
    for end in ends:
        imaging.draw_disc(canvas, _pixel(end), max(1, round(0.7 * width)), (165,) * 3)


def _combine(soft: Canvas, bone: Canvas) -> Levels:
    levels = imaging.blur(soft[:, :, 0].astype(np.float32), 2.0) * np.float32(0.6)
    return _plain((levels + imaging.blur(bone[:, :, 0].astype(np.float32), 0.7)) / 255)


def _wander(size: int, rng: np.random.Generator) -> np.ndarray:
    """Walk a smooth random way (row, column) [pixels]."""
    steps = np.cumsum(rng.normal(0, 0.6, 25)) + rng.uniform(0, 6)
    moves = np.stack([np.sin(steps), np.cos(steps)], axis=1) * rng.uniform(0.01, 0.06) * size
    way: np.ndarray = rng.uniform(0.1, 0.9, 2) * size + np.cumsum(moves, axis=0)
    return way


def _oval(middle: np.ndarray, radii: np.ndarray) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 33)
    oval: np.ndarray = middle + np.stack([np.sin(angle), np.cos(angle)], axis=1) * radii
    return oval


def _outline_hand(size: int, rng: np.random.Generator) -> np.ndarray:
    """Trace a hand: up and down each finger in turn."""
    places = [(0.95, 0.35)]
    for fan in (-60, -20, -5, 10, 25):
        angle = np.deg2rad(fan + rng.normal(0, 4))
        length, root = rng.uniform(0.35, 0.5), np.array([0.75, 0.5])
        tip = root + length * np.array([-np.cos(angle), np.sin(angle)])
        side = 0.03 * np.array([np.sin(angle), np.cos(angle)])
        middle = root + 0.5 * (tip - root)
        places += [
            tuple(middle - side),
            tuple(tip - side / 2),
            tuple(tip + side / 2),
            tuple(middle + side),
        ]
    return np.array([*places, (0.95, 0.65)]) * size


def _blob(
    rows: Levels, columns: Levels, row: float, column: float, height: float, width: float
) -> Levels:
    """Return the thickness of an ellipsoid, 1 in its middle, 0 outside."""
    inside = 1 - ((rows - row) / height) ** 2 - ((columns - column) / width) ** 2
    return _plain(np.sqrt(inside.clip(0)))


def _ellipse(size: int, rng: np.random.Generator, soft: bool = False) -> Levels:
    rows, columns = np.indices((size, size), np.float32) / size
    row, column = rng.uniform(0, 1, 2)
    height, width = rng.uniform(0.05, 0.5, 2)
    blob = _blob(rows, columns, row, column, height, width)
    return blob if soft else (blob > 0).astype(np.float32)


def _shape(size: int, rng: np.random.Generator, radius: float) -> imaging.Mask:
    """Draw a leaf: an ellipse, or the hull of a few places."""
    middle = rng.uniform(0, 1, 2)
    if rng.random() < 0.5:
        rows, columns = np.indices((size, size), np.float32) / size
        height, width = radius * rng.uniform(0.4, 1.4, 2) + 0.01
        return _blob(rows, columns, middle[0], middle[1], height, width) > 0
    corners = middle + rng.uniform(-1.3, 1.3, (int(rng.integers(3, 7)), 2)) * radius
    return imaging.fill_hull(corners * size, (size, size))

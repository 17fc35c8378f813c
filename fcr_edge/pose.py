"""The skull's landmarks, where they lie on the standard film, and the move that brings them there.

Places are counted in pixels from a picture's upper left corner, columns first, so that the first
pixel's centre lies at (.5, .5): a picture resized by a factor has its places multiplied by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64

    Places = Float64[np.ndarray, "l 2"]
    Matrix = Float64[np.ndarray, "3 3"]

View = Literal["frontal", "lateral"]
VIEWS: tuple[View, ...] = ("frontal", "lateral")

STANDARD_SIDE = 256
"""Side of the picture in which the places below are counted [pixels]."""
STANDARD_MM = 1.1
"""Pitch of the standard film in the plane of the head's centre [mm a pixel]."""

_MIDLINE = {
    "glabella": ((128.0, 103.7), (205.6, 102.1)),
    "nasion": ((128.0, 117.0), (202.2, 116.1)),
    "subnasale": ((128.0, 152.2), (204.8, 153.2)),
    "labrale superius": ((128.0, 168.7), (209.0, 170.6)),
    "labrale inferius": ((128.0, 181.8), (203.7, 184.2)),
    "pogonion": ((128.0, 200.9), (198.2, 204.0)),
    "gnathion": ((128.0, 208.7), (196.1, 212.0)),
    "menton": ((128.0, 211.7), (188.1, 214.7)),
    "vertex": ((128.0, 23.9), (121.0, 24.4)),
    "opisthocranion": ((128.0, 84.7), (40.6, 87.4)),
}
_PAIRED = {
    "mid-supraorbital": ((150.4, 106.1), (202.2, 104.7)),
    "mid-infraorbital": ((145.4, 145.0), (195.8, 145.4)),
    "zygion": ((183.2, 139.8), (151.3, 139.8)),
    "supra-M2": ((154.0, 159.2), (173.9, 159.9)),
    "mid-ramus": ((170.4, 169.4), (146.7, 169.7)),
    "gonion": ((166.7, 193.6), (141.2, 194.0)),
    "euryon": ((188.6, 75.8), (110.5, 76.3)),
    "temple": ((174.2, 113.6), (162.3, 113.0)),
}
"""Places of bony landmarks on the frontal and the lateral standard film [pixels].

Means of 1,900 simulated people (seed 11) whose films are tilted, scaled and shifted at random
about the common pose; the frontal ones made symmetric. Of a pair the left one stands here; on a
lateral film, where left and right cover each other, it is the middle between both.
"""

LANDMARKS = (*_MIDLINE, *(f"{name} {side}" for name in _PAIRED for side in ("left", "right")))
"""The landmarks, the same for both views; left is the subject's left, right on a frontal film."""
RIM = ("vertex", "opisthocranion", "euryon left", "euryon right")
"""Landmarks of the vault, which films of the face often leave out."""


def _lay_out(view: int) -> Places:
    midline = [places[view] for places in _MIDLINE.values()]
    mirror = STANDARD_SIDE if view == 0 else None
    paired = []
    for places in _PAIRED.values():
        column, row = places[view]
        paired += [(column, row), (column if mirror is None else mirror - column, row)]
    return np.array(midline + paired, np.float64)


STANDARD: dict[View, Places] = {view: _lay_out(number) for number, view in enumerate(VIEWS)}
"""Where each of LANDMARKS lies on the standard film of a view [pixels of 256]."""


@dataclass(frozen=True)
class Similarity:
    """Turn, scale and shift of places in the plane."""

    scale: float
    """Above 0."""
    degrees: float
    """Clockwise as one sees it on the picture."""
    shift: tuple[float, float]
    """Added after turning and scaling: columns, rows [pixels]."""

    @property
    def matrix(self) -> Matrix:
        """The move as a matrix on (column, row, 1)."""
        angle = np.deg2rad(self.degrees)
        cos, sin = self.scale * np.cos(angle), self.scale * np.sin(angle)
        return np.array([[cos, -sin, self.shift[0]], [sin, cos, self.shift[1]], [0, 0, 1]])


def fit_similarity(
    source: Places,
    target: Places,
    weights: Float64[np.ndarray, " l"],
    scale: float | None = None,
) -> Similarity:
    """Find the move that brings places nearest to their targets, in weighted least squares.

    The weighted form of Umeyama 1991 (IEEE PAMI 13:376, Eq. 40-42), in the plane, without
    mirroring. A scale that is given is kept.

    >>> square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    >>> fit_similarity(square, 3 * square + 1, np.ones(4))
    Similarity(scale=3.0, degrees=0.0, shift=(1.0, 1.0))
    """
    share = (weights / weights.sum())[:, None]
    source_mean, target_mean = (share * source).sum(0), (share * target).sum(0)
    one, other = source - source_mean, target - target_mean
    along = float((share * one * other).sum())
    across = float((share[:, 0] * (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0])).sum())
    if scale is None:
        spread = float((share * one**2).sum())
        scale = float(np.hypot(along, across)) / max(spread, np.finfo(float).tiny)
    turn = Similarity(scale, float(np.rad2deg(np.arctan2(across, along))), (0.0, 0.0))
    column, row = target_mean - turn.matrix[:2, :2] @ source_mean
    return Similarity(turn.scale, turn.degrees, (float(column), float(row)))


def join(first: Similarity, second: Similarity) -> Similarity:
    """Return the move that does the first, then the second."""
    column, row = (second.matrix @ first.matrix)[:2, 2]
    degrees = (first.degrees + second.degrees + 180) % 360 - 180
    return Similarity(first.scale * second.scale, degrees, (float(column), float(row)))


def apply(matrix: Matrix, places: Places) -> Places:
    """Move places by a matrix on (column, row, 1)."""
    moved: Places = places @ matrix[:2, :2].T + matrix[:2, 2]
    return moved


def zoom(columns: float, rows: float) -> Matrix:
    """Return the matrix that multiplies columns and rows."""
    return np.diag([columns, rows, 1.0])


def shift(columns: float, rows: float) -> Matrix:
    """Return the matrix that adds to columns and rows."""
    return np.array([[1.0, 0.0, columns], [0.0, 1.0, rows], [0.0, 0.0, 1.0]])


def quarter_turns(number: int, side: float) -> Matrix:
    """Return the matrix of anticlockwise quarter turns of a square, as np.rot90 turns it."""
    once = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, side], [0.0, 0.0, 1.0]])
    return np.linalg.matrix_power(once, number % 4)


def mirror(side: float) -> Matrix:
    """Return the matrix that mirrors a picture of this width left to right."""
    return np.array([[-1.0, 0.0, side], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])

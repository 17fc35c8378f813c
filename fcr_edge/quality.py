"""How well a standard film shows the head: blur, burnt and blank areas, white borders."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import imaging
from fcr_edge.pose import LANDMARKS, RIM, STANDARD, STANDARD_SIDE, View

if TYPE_CHECKING:
    from jaxtyping import UInt8

    Film = UInt8[np.ndarray, "s s 1"]

DETAIL = 1.0
"""Standard deviation of the blur whose rest is fine detail [pixels of 256, so 1.1 mm]."""
STRUCTURE = 6.0
"""The same for the rest that is all structure but the broad shades [pixels of 256]."""
WHITE, BLACK = 254, 1
"""Grey levels from which on, or up to which, nothing can be told apart."""
NEAR_WHITE = 245
"""Grey level from which on an area at the border may be a frame, a bed or a notch."""
HEAD_MARGIN = 25
"""What a head reaches beyond its landmarks, at most [pixels of 256]."""


def measure_sharpness(film: Film, view: View) -> float:
    """Return the share of the structure inside the head that is fine detail [0 to 1].

    It is the ratio of two variances: of what a Gaussian blur by DETAIL takes away and of what one
    by STRUCTURE takes away, which are the spectral energies above two frequencies. A film that is
    out of focus or moved has little of it, noise has much.
    """
    levels = film[:, :, 0].astype(np.float32)
    unit = len(levels) / STANDARD_SIDE
    head = find_face(view, len(levels))
    fine, all_of_it = (
        float((levels - imaging.blur(levels, sigma * unit))[head].var())
        for sigma in (DETAIL, STRUCTURE)
    )
    return fine / max(all_of_it, 1e-6)


def measure_white(film: Film, view: View) -> float:
    """Return the share of the face that is burnt to white [0 to 1]."""
    return float((film[:, :, 0][find_face(view, len(film))] >= WHITE).mean())


def measure_black(film: Film, view: View) -> float:
    """Return the share of the face that is blank [0 to 1]."""
    return float((film[:, :, 0][find_face(view, len(film))] <= BLACK).mean())


@functools.cache
def find_face(view: View, side: int) -> imaging.Mask:
    """Mark the hull of the landmarks of face and jaw on a standard film of this side."""
    face = np.array([name not in RIM for name in LANDMARKS])
    return imaging.fill_hull(STANDARD[view][face] * (side / STANDARD_SIDE), (side, side))


@functools.cache
def _find_head(view: View, side: int) -> imaging.Mask:
    """Mark the hull of all landmarks, and the margin around it."""
    head = imaging.fill_hull(STANDARD[view] * (side / STANDARD_SIDE), (side, side))
    return imaging.dilate(head, 2 * round(HEAD_MARGIN * side / STANDARD_SIDE) + 1)


def clear_border(film: Film, view: View) -> Film:
    """Blacken what is white from the border inwards and no part of the head: bed, frame, notches.

    A white area that reaches the head is left alone: it may be bone.
    """
    side = len(film)
    levels = film[:, :, 0]
    edge = np.ones((side, side), bool)
    edge[1:-1, 1:-1] = False
    # The film's own border may lie inside the picture: outside it is black.
    edge |= imaging.dilate(levels == 0, 3)
    head = _find_head(view, side)
    white = levels >= NEAR_WHITE
    border = imaging.keep_touching(white, edge) & ~imaging.keep_touching(white, head)
    cleared = levels.copy()
    cleared[imaging.dilate(border, 3) & ~head] = 0
    return cleared[:, :, None]

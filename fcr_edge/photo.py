"""A photograph becomes a standard face: 8-bit RGB, square."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import imaging
from fcr_edge.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import UInt8

STANDARD_SIZE = 256
"""Side of the standard face [pixels]."""
THUMBNAIL_SIZE = 128
"""Side of the picture that the gallery keeps [pixels]."""
MIN_SIDE = 48
"""Shorter side of a photograph [pixels]: on less, features are a few pixels wide."""
MIN_SPREAD = 8.0
"""Standard deviation of a photograph that shows something [grey levels of 256]."""
MAX_CLIPPED = 0.7
"""Share of a photograph's pixels that may be black or white through and through."""


def read_face(path: Path) -> UInt8[np.ndarray, "s s 3"]:
    """Read a portrait as a standard face. Raises ImageError."""
    return standardise(imaging.read_picture(path))


def standardise(pixels: imaging.RawPicture) -> UInt8[np.ndarray, "s s 3"]:
    """Reduce to 8 bits, pad to a square by repeating the edge, resize.

    The portrait is taken as it is: the whole head, upright, about filling the picture. Faces are
    not detected or aligned.
    """
    square = imaging.pad_to_square(imaging.to_rgb(_to_8_bits(pixels)), "edge")
    return imaging.resize(square, (STANDARD_SIZE, STANDARD_SIZE))


def assess(pixels: imaging.RawPicture, name: str) -> float:
    """Say how much a portrait may tell, from 0 to 1: its size and its contrast, each at most 1.

    Whether it shows a face, and whose, is not looked at. Raises ImageError, in which `name` stands
    for the photograph, where it is too small, blank or all but black and white.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f"{name} has {width} x {height} pixels: a portrait needs {MIN_SIDE} on its shorter"
            " side; find a larger copy"
        )
    grey = imaging.to_grey(_to_8_bits(pixels))
    spread = float(grey.std())
    if spread < MIN_SPREAD:
        raise ImageError(
            f"{name} shows next to nothing, its grey levels spread by {spread:.1f} of 256: give a"
            " portrait"
        )
    clipped = float(((grey == 0) | (grey == 255)).mean())
    if clipped > MAX_CLIPPED:
        raise ImageError(
            f"{name} is black or white in {clipped:.0%} of its pixels: give a portrait that is"
            " better exposed"
        )
    size = min(1.0, min(height, width) / STANDARD_SIZE)
    quality: float = round(size * min(1.0, spread / 32) * (1 - clipped), 3)
    return quality


def encode_thumbnail(face: UInt8[np.ndarray, "s s 3"]) -> bytes:
    """Encode a small JPEG (under 20 kB) that shows the face in reports."""
    return imaging.encode_jpeg(imaging.resize(face, (THUMBNAIL_SIZE, THUMBNAIL_SIZE)), quality=85)


def _to_8_bits(pixels: imaging.RawPicture) -> imaging.Picture:
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels

"""A photograph becomes a standard face: 8-bit RGB, square."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import imaging

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import UInt8

STANDARD_SIZE = 256
"""Side of the standard face [pixels]."""
THUMBNAIL_SIZE = 128
"""Side of the picture that the gallery keeps [pixels]."""


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


def encode_thumbnail(face: UInt8[np.ndarray, "s s 3"]) -> bytes:
    """Encode a small JPEG (under 20 kB) that shows the face in reports."""
    return imaging.encode_jpeg(imaging.resize(face, (THUMBNAIL_SIZE, THUMBNAIL_SIZE)), quality=85)


def _to_8_bits(pixels: imaging.RawPicture) -> imaging.Picture:
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels

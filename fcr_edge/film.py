"""An X-ray becomes a standard film: 8-bit grey, square, bright bone on black."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import imaging
from fcr_edge.errors import FilmError

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt8

    from fcr_edge.reading import Xray

STANDARD_SIZE = 256
"""Side of the standard film [pixels]."""
MIN_SIDE = 64
"""Shortest side of a usable X-ray [pixels]: below this no facial bone is resolved."""
MIN_CONTRAST = 0.02
"""Least spread of grey levels, as a share of the full range, in a picture that shows anything."""
WINDOW = (0.1, 99.9)
"""Percentiles of the grey levels that become 0 and 255; what lies outside is dust and markers."""
MAX_FRAME = 0.05
"""Widest white frame that is cut off, as a share of the side."""


def standardise_xray(xray: Xray) -> UInt8[np.ndarray, "s s 1"]:
    """Turn an X-ray as read into a standard film. Raises FilmError, which names the file."""
    try:
        return standardise(xray.pixels)
    except FilmError as err:
        raise FilmError(f"{xray.name}: {err}") from err


def standardise(
    pixels: imaging.RawPicture, size: int = STANDARD_SIZE
) -> UInt8[np.ndarray, "s s 1"]:
    """Window the grey levels, cut a white frame off, pad to a square with black, resize.

    Takes a grey or RGB picture of 8 or 16 bits with bright bone on a dark background, the face to
    the front or to the right. The same film stored with 8 and 16 bits gives the same picture to
    within one grey level. Raises FilmError for a picture too small or without contrast.
    """
    check_size(pixels)
    windowed = spread_levels(imaging.to_grey(pixels))
    square = imaging.pad_to_square(windowed[find_white_frame(windowed)], "black")
    return imaging.resize(square, (size, size))[:, :, None]


def check_size(pixels: imaging.RawPicture) -> None:
    """Raise FilmError for a film of too few pixels."""
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise FilmError(
            f"{width} x {height} pixels are too few: a film needs at least {MIN_SIDE} a side"
        )


def spread_levels(
    pixels: imaging.GreyPicture, inside: imaging.Mask | None = None
) -> UInt8[np.ndarray, "h w"]:
    """Spread the grey levels so that few are below 0 or above 255 (WINDOW).

    Only the pixels `inside` are counted, or all. Raises FilmError where they are too alike to show
    anything.
    """
    full_range = np.iinfo(pixels.dtype).max
    counts = imaging.count_levels(pixels if inside is None else pixels[inside][None])
    low, high = (_find_percentile(counts, share) for share in WINDOW)
    # A scanner may use 12 of 16 bits, so contrast is judged against the brightest pixel.
    brightest = max(int(np.flatnonzero(counts)[-1]), full_range // 64)
    if high - low < MIN_CONTRAST * brightest:
        raise FilmError(
            f"grey levels {low:.0f} to {high:.0f} of {full_range} show nothing:"
            " check the exposure, or that the right file was given"
        )
    unit = (np.arange(len(counts), dtype=np.float32) - np.float32(low)) / np.float32(high - low)
    table: UInt8[np.ndarray, " n"] = np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)
    return imaging.look_up(table, pixels)


def _find_percentile(counts: Int64[np.ndarray, " n"], percent: float) -> float:
    """Find a percentile of the pixels from how many each level has, as np.percentile does."""
    below = np.cumsum(counts)
    place = percent / 100 * (below[-1] - 1)
    first = int(np.searchsorted(below, np.floor(place), side="right"))
    second = int(np.searchsorted(below, np.ceil(place), side="right"))
    return float(first + (second - first) * (place - np.floor(place)))


def find_white_frame(film: UInt8[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """Find the rows and columns inside of the saturated lines on each side of a film.

    A scanner's bed or an unexposed edge leaves such lines.
    """
    top, bottom = _count_white(film), _count_white(film[::-1])
    left, right = _count_white(film.T), _count_white(film.T[::-1])
    height, width = film.shape
    return slice(top, height - bottom), slice(left, width - right)


def _count_white(lines: UInt8[np.ndarray, "n m"]) -> int:
    """Count the leading lines that are white over most of their length."""
    edge = lines[: int(MAX_FRAME * len(lines))]
    # A line that is half white is not dark on average, which is quicker to tell.
    bright = np.flatnonzero(edge.mean(axis=1) >= 125)
    white = bright[np.median(edge[bright], axis=1) > 250]
    return int(white[-1]) + 1 if len(white) else 0

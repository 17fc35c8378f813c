"""Soft-tissue suppression without a network: the outline of bone, by morphology."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import imaging
from fcr_edge.errors import FilmError

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    Film = UInt8[np.ndarray, "h w 1"]
    Levels = Float32[np.ndarray, "h w"]

# All numbers were found by eye on real lateral films; a change of one makes a new recipe. Lengths
# are shares of the picture's side: 1/256 is 1.1 mm.
LAYER_WIDTH = 33 / 256
"""Structures narrower than this may be bone."""

# classical-2
STANDING_OUT = 0.055
"""Least height of narrow structure above the layer behind it [grey levels in 0 to 1]."""
SHADE = 0.6
"""Least level of narrow structure that is bone, as a share of Otsu's threshold."""
THICK = 1.1
"""Level from which on a broad area is bone as well, the vault, as a share of the threshold."""
BROAD = 15 / 256
"""Width of such an area."""
RIM = 6 / 256
"""Border in which narrow structure is the film's own edge."""
STEP = 5 / 256
"""Bridge between neighbouring structures."""
GAP = 17 / 256
"""Gap in the outline that is closed."""
SKIRT = 3 / 256
"""What a closed outline reaches beyond the bone."""
REST = 0.3
"""Least area of a piece, as a share of the largest's: smaller ones are rulers and markers."""

# classical-1
FLOOR = 0.025
"""Grey level, as a share of 255, below which structure is taken for soft tissue."""
BRIDGE = 9 / 256
"""Gap between pieces of one skull."""
CLOSING = 21 / 256
"""Gap in the outline of a skull that is closed."""
MARGIN = 5 / 256
"""What a closed outline reaches beyond the bone."""
PIECE = 0.1
"""Least area of a piece that belongs to the skull, as a share of the largest's."""
GAMMA = 0.7
"""Exponent that lifts thin bone, applied to levels in [0, 1]."""


def cut_out(film: Film) -> Film:
    """Cut the skull out along its outline, as an examiner does by hand: recipe `classical-2`.

    Bone is narrow structure (the top-hat transform; Serra 1982) brighter than most soft tissue, by
    Otsu's threshold between dark and bright (Otsu 1979, IEEE SMC 9:62), and the thickest bright
    area, the vault. Its outline is closed and filled; inside, the film stays as it is.
    """
    levels = film[:, :, 0].astype(np.float32) / 255
    side = max(levels.shape)
    inside = _exposed_area(levels)
    region = _outline_bone(levels[inside], side)
    skull = np.zeros_like(levels)
    skull[inside] = imaging.blur(region.astype(np.float32), 1.0) * levels[inside]
    return np.rint(skull * 255).astype(np.uint8)[:, :, None]


def _outline_bone(levels: Levels, side: int) -> imaging.Mask:
    """Find the region of the skull, without the head holder, labels and the film's edge."""
    threshold = imaging.find_threshold(levels[levels > 8 / 255])
    narrow = _find_narrow(levels, side, threshold)
    pieces = imaging.dilate(narrow, round(STEP * side))
    broad = (levels > THICK * threshold).astype(np.float32)
    vault = imaging.open_bright(broad, round(BROAD * side)) > 0
    pieces = imaging.keep_large_regions(pieces | imaging.keep_large_regions(vault, 1.0), REST)
    gap = round(GAP * side)
    closed = imaging.fill_holes(imaging.erode(imaging.dilate(pieces, gap), gap))
    region = imaging.keep_large_regions(imaging.erode(closed, round(SKIRT * side)), REST)
    if not (narrow.any() and region.any()):
        raise FilmError("no bone stands out from the film: check exposure and polarity")
    return region


def _find_narrow(levels: Levels, side: int, threshold: float) -> imaging.Mask:
    """Find narrow structure that is bright enough for bone, off the film's own edge."""
    standing_out = _subtract_soft_layer(levels, side) > STANDING_OUT
    bone = (standing_out & (levels > SHADE * threshold)).astype(np.float32)
    narrow = imaging.open_bright(bone, 3) > 0
    off_edge = np.zeros_like(narrow)
    rim = round(RIM * side)
    off_edge[rim:-rim, rim:-rim] = True
    return narrow & off_edge


def lift_bone(film: Film) -> Film:
    """Cut the skull out along its outline and lift its bone out of the smooth layer behind.

    Soft tissue attenuates little and changes slowly, cortical bone is narrow and bright: so a grey
    opening by a disc wider than any cortex is taken for the soft layer, and its rest (the top-hat
    transform; Serra 1982) for bone. The large pieces of bone, their gaps closed and holes filled,
    are the skull; all outside goes black, as where somebody cuts a film by hand. Inside, film and
    bone count half each: soft tissue in front of and behind bone stays in the film's half, and
    thick soft edges such as lips may leave a faint trace.
    """
    levels = film[:, :, 0].astype(np.float32) / 255
    side = max(levels.shape)
    inside = _exposed_area(levels)
    skull = np.zeros_like(levels)
    skull[inside] = _lift(levels[inside], side)
    return np.rint(skull * 255).astype(np.uint8)[:, :, None]


def _exposed_area(levels: Levels) -> tuple[slice, slice]:
    """Bound the exposed rows and columns, so that a black margin is no edge of anything."""
    exposed = levels > 8 / 255
    rows, columns = np.flatnonzero(exposed.any(axis=1)), np.flatnonzero(exposed.any(axis=0))
    if len(rows) == 0:
        raise FilmError("the film is black: check the exposure, or that the right file was given")
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _subtract_soft_layer(levels: Levels, side: int) -> Levels:
    width = max(3, round(LAYER_WIDTH * side))
    padded = np.pad(levels, width, mode="edge")
    layer = imaging.blur(imaging.open_bright(padded, width), width / 6)
    rest: Levels = levels - layer[width:-width, width:-width]
    return rest


def _lift(levels: Levels, side: int) -> Levels:
    bone = (_subtract_soft_layer(levels, side) - np.float32(FLOOR)).clip(0)
    region = _outline_skull(bone, levels, side)
    film_half = _stretch(levels, *np.percentile(levels[region], (2, 99)))
    bone_half = _stretch(bone, 0, np.percentile(bone[bone > FLOOR], 97)) ** GAMMA
    return imaging.blur(region.astype(np.float32), 1.5) * (film_half + bone_half) / 2


def _outline_skull(bone: Levels, levels: Levels, side: int) -> imaging.Mask:
    """Find the region of the large pieces of bone, without labels, markers and loose pieces."""
    solid = imaging.open_bright((bone > FLOOR).astype(np.float32), 3) > 0
    if not solid.any():
        raise FilmError("no bone stands out from the film: check exposure and polarity")
    pieces = imaging.keep_large_regions(imaging.dilate(solid, round(BRIDGE * side)), PIECE)
    # A vault that the film cuts off is closed by the film's edge, where it is as bright as bone.
    edge = np.ones_like(pieces)
    edge[4:-4, 4:-4] = False
    pieces |= edge & (levels > np.percentile(levels[pieces], 25))
    closed = imaging.erode(imaging.dilate(pieces, round(CLOSING * side)), round(CLOSING * side))
    region = imaging.erode(imaging.fill_holes(closed), round(MARGIN * side))
    return imaging.keep_large_regions(region, PIECE)


def _stretch(levels: Levels, low: float, high: float) -> Levels:
    return ((levels - np.float32(low)) / np.float32(max(high - low, 1e-6))).clip(0, 1)

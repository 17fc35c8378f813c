"""The paper's four augmentations: flip, rotation, jitter and affine, the same on film and face."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from jaxtyping import Float64

    from fcr_edge.imaging import RawPicture

AUGMENTATIONS = ("flip", "rotation", "jitter", "affine")
"""Prasad & Singh 2025: with the original they make 410 pairs of 82. Their ranges are not stated;
those below are assumptions."""
ROTATION_DEGREES = 10.0
AFFINE_DEGREES = 5.0
AFFINE_SHIFT = 0.05
"""Shift in each direction [share of the longer side]."""
AFFINE_SCALE = 0.1
AFFINE_SHEAR_DEGREES = 5.0
COLOUR = 0.2
"""Change of a face's brightness, contrast and saturation [share]."""
GREY = 0.2
"""Loss of a film's gain at most, and change of the exponent of its grey levels [share]. A gain
above 1 would wash the densest bone out."""


@dataclass(frozen=True)
class Change:
    """One augmentation of one pair: the same numbers serve its film and its face."""

    name: str
    matrix: Float64[np.ndarray, "2 2"]
    """From a place in the new picture to that in the old, (down, across) from the centre."""
    shift: Float64[np.ndarray, " 2"]
    """[share of the longer side], so that film and face of different sizes move alike."""
    levels: Float64[np.ndarray, " 3"]
    """Shares of the ranges of brightness, contrast, saturation, or of gain, exponent [-1..1]."""


def draw_change(name: str, seed: int, person: str, view: str) -> Change:
    """Draw an augmentation, each number evenly from its range; a pair's own stream decides.

    So a pair keeps its changes when people are added or pictures are listed in another order.
    """
    key = hashlib.sha256(f"{person}/{view}/{name}".encode()).digest()
    rng = np.random.default_rng([seed, int.from_bytes(key[:8], "big")])
    draws = rng.uniform(-1, 1, 8)
    matrix, shift, levels = np.eye(2), np.zeros(2), np.zeros(3)
    if name == "rotation":
        matrix = _turn(draws[0] * ROTATION_DEGREES)
    elif name == "affine":
        shear = np.tan(np.radians(draws[1] * AFFINE_SHEAR_DEGREES))
        matrix = _turn(draws[0] * AFFINE_DEGREES) @ np.array([[1, 0], [shear, 1]])
        matrix = matrix * (1 + draws[2] * AFFINE_SCALE)
        shift = draws[3:5] * AFFINE_SHIFT
    elif name == "jitter":
        levels = draws[5:]
    return Change(name, matrix, shift, levels)


def _turn(degrees: float) -> Float64[np.ndarray, "2 2"]:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def apply_change(picture: RawPicture, change: Change, is_face: bool) -> RawPicture:
    """Return the changed picture, of the same size and depth.

    What comes in from outside is black on a film and the edge repeated on a face, as where the
    field pads them. Only a face has colours to change; a film's black stays black.
    """
    if change.name == "flip":
        return np.ascontiguousarray(picture[:, ::-1])
    values = picture.astype(np.float32)
    full = np.iinfo(picture.dtype).max
    if change.name == "jitter":
        changed = _recolour(values, change, full) if is_face else _expose(values, change, full)
    else:
        changed = _move(values, change, "nearest" if is_face else "constant")
    levels: RawPicture = np.rint(changed.clip(0, full)).astype(picture.dtype)
    return levels


def _move(
    values: np.ndarray, change: Change, outside: Literal["nearest", "constant"]
) -> np.ndarray:
    channels = values[:, :, None] if values.ndim == 2 else values
    centre = (np.array(channels.shape[:2]) - 1) / 2
    offset = centre - change.matrix @ centre + change.shift * max(channels.shape[:2])
    moved = [
        ndimage.affine_transform(channel, change.matrix, offset, order=1, mode=outside)
        for channel in np.moveaxis(channels, 2, 0)
    ]
    return np.stack(moved, axis=2).reshape(values.shape)


def _recolour(values: np.ndarray, change: Change, full: int) -> np.ndarray:
    brightness, contrast, saturation = 1 + COLOUR * change.levels
    mean = values.mean()
    grey = values.mean(axis=-1, keepdims=True) if values.ndim == 3 else values
    coloured: np.ndarray = grey + saturation * (values - grey)
    result: np.ndarray = brightness * (mean + contrast * (coloured - mean))
    return result


def _expose(values: np.ndarray, change: Change, full: int) -> np.ndarray:
    gain, exponent = 1 - GREY * abs(change.levels[0]), 1 + GREY * change.levels[1]
    result: np.ndarray = gain * full * (values / full) ** exponent
    return result

"""Patterns, soft steps and blends that paint is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from jaxtyping import Float64

    Values = Float64[np.ndarray, " p"]
    Vectors = Float64[np.ndarray, "p 3"]
    Noise = dict[str, Float64[np.ndarray, "n n"]]

TEXTURE = 512
"""Side of the textures in texels, a power of 2."""


def smoothstep(value: Values) -> Values:
    """Step from 0 to 1 as the value goes from 0 to 1."""
    value = np.clip(value, 0, 1)
    return np.asarray(value * value * (3 - 2 * value))


def bump(value: Values, centre: float, width: float) -> Values:
    """Give a Gaussian bump of height 1."""
    return np.asarray(np.exp(-(((value - centre) / width) ** 2)))


def mix(colour: Vectors, other: np.ndarray, share: Values) -> Vectors:
    """Blend another colour in."""
    return np.asarray(colour + (other - colour) * share[:, None])


def noise_textures() -> Noise:
    """Draw fixed periodic textures of unit variance: fine grain, blotches, and strands."""
    rng = np.random.default_rng(7)
    white = rng.standard_normal((3, TEXTURE, TEXTURE))
    blurs = {"fine": (1.4, 1.4), "blotch": (10, 10), "strand": (24.0, 1.2)}
    textures = {
        name: ndimage.gaussian_filter(field, blur, mode="wrap")
        for (name, blur), field in zip(blurs.items(), white, strict=True)
    }
    return {name: field / field.std() for name, field in textures.items()}


def texture(noise: Noise, name: str, row: Values, column: Values) -> Values:
    """Look a texture up, repeating; a step of 1 is two texels."""
    rows = np.floor(2 * row).astype(np.int64) % TEXTURE
    columns = np.floor(2 * column).astype(np.int64) % TEXTURE
    return np.asarray(noise[name][rows, columns])

"""Patterns, soft steps and blends that paint is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

    Values = Float32[np.ndarray, " p"]
    Vectors = Float32[np.ndarray, "p 3"]
    Noise = dict[str, Float32[np.ndarray, "n n"]]

TEXTURE = 512
"""Side of the textures in texels, a power of 2."""
FAR = 1 << 14
"""Shift, a multiple of TEXTURE, that makes every texel index positive."""


def smoothstep(value: Float[np.ndarray, " p"]) -> Values:
    """Step from 0 to 1 as the value goes from 0 to 1."""
    value = np.clip(value, 0, 1)
    return np.asarray(value * value * (3 - 2 * value))


def bump(value: Float[np.ndarray, " p"], centre: float, width: float) -> Values:
    """Give a Gaussian bump of height 1."""
    return np.asarray(np.exp(-(((value - centre) / width) ** 2)))


def mix(colour: Vectors, other: np.ndarray, share: Values) -> Vectors:
    """Blend another colour in."""
    return np.asarray(colour + (other - colour) * share[:, None])


def vector(values: tuple[float, float, float]) -> Float32[np.ndarray, 3]:
    """Give three values in the precision of pictures."""
    return np.array(values, np.float32)


def unit(vectors: Vectors) -> Vectors:
    """Scale vectors to length 1."""
    squared = np.einsum("pk,pk->p", vectors, vectors)
    return np.asarray(vectors / np.sqrt(np.maximum(squared, 1e-12))[:, None])


def noise_textures() -> Noise:
    """Draw fixed periodic textures of unit variance: grain, blotches, long and short strands."""
    rng = np.random.default_rng(7)
    white = rng.standard_normal((4, TEXTURE, TEXTURE))
    blurs = {"fine": (1.0, 1.0), "blotch": (10, 10), "strand": (28.0, 0.8), "crop": (4.0, 0.8)}
    textures = {
        name: ndimage.gaussian_filter(field, blur, mode="wrap")
        for (name, blur), field in zip(blurs.items(), white, strict=True)
    }
    return {name: (field / field.std()).astype(np.float32) for name, field in textures.items()}


def texture(noise: Noise, name: str, row: Values, column: Values) -> Values:
    """Look a texture up, repeating; a step of 1 is two texels."""
    # Casting cuts towards 0, which is down once everything is positive; 511 keeps the remainder.
    rows = (2 * row + FAR).astype(np.int32) & (TEXTURE - 1)
    columns = (2 * column + FAR).astype(np.int32) & (TEXTURE - 1)
    return noise[name].ravel()[rows * TEXTURE + columns]

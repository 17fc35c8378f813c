"""Light on painted surfaces: key with cast shadows, fill, sky, and highlights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_train.simulate.hair import light_of_strands
from fcr_train.simulate.raster import cover, cross
from fcr_train.simulate.texture import unit, vector

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

    from fcr_train.simulate.paint import Samples
    from fcr_train.simulate.scene import Scene
    from fcr_train.simulate.texture import Values, Vectors

SHADOW_SIZE = 128
SHADOW_FIELD_MM = 330.0
SHADOW_BLUR = 1.3
"""Grid of the shadow map, its side, and the blur that softens shadows [texels]."""
SHADOW_SHARPNESS = 0.22
"""How fast a shadow closes with the distance to what casts it [per mm]."""
SHADOW_BIAS_MM = 3.5
SCATTER = np.array([0.45, 0.24, 0.18], np.float32)
"""How far light of each colour creeps round into the shade inside skin, as wrapped shading."""


class Shadow:
    """What the key light reaches, as exponentials of the distance to it."""

    def __init__(
        self,
        points: Float64[np.ndarray, "v 3"],
        triangles: Int64[np.ndarray, "t 3"],
        key: Float64[np.ndarray, 3],
    ) -> None:
        """Look at the surface from the light; all in the camera's frame."""
        across = np.cross((0.0, 1.0, 0.0), key)
        across /= np.linalg.norm(across)
        self._axes = np.stack([across, np.cross(key, across), key])
        seen = points @ self._axes.T
        self._middle = (SHADOW_SIZE - 1) / 2
        at = seen[:, :2] * (SHADOW_SIZE / SHADOW_FIELD_MM) + self._middle
        a, b, c = (at[triangles[:, k]] for k in range(3))
        towards = triangles[cross(b - a, c - a) > 0]
        hits = cover(at, towards, (SHADOW_SIZE, SHADOW_SIZE))
        height = (seen[towards[hits.triangle], 2] * hits.corners).sum(1)
        nearest = np.full(SHADOW_SIZE**2, -1e3)
        np.maximum.at(nearest, hits.pixel, height)
        map_ = np.exp(SHADOW_SHARPNESS * nearest).reshape(SHADOW_SIZE, SHADOW_SIZE)
        self._map = ndimage.gaussian_filter(map_, SHADOW_BLUR)

    def reach(self, position: Vectors) -> Values:
        """Give the share of the key light that reaches positions [0-1]."""
        seen = position @ self._axes.T.astype(np.float32)
        at = seen[:, :2] * np.float32(SHADOW_SIZE / SHADOW_FIELD_MM) + np.float32(self._middle)
        caster = ndimage.map_coordinates(self._map, at[:, ::-1].T, order=1, mode="nearest")
        height = seen[:, 2].astype(np.float64) + SHADOW_BIAS_MM
        share = np.exp(SHADOW_SHARPNESS * height) / np.maximum(caster, 1e-30)
        return np.asarray(np.clip(share, 0, 1).astype(np.float32))


def fill_direction(key: Float64[np.ndarray, 3]) -> np.ndarray:
    """Put the fill light on the side away from the key."""
    fill = np.array([-0.75 * np.sign(key[0]) - 0.1, 0.1, 0.75])
    return np.asarray((fill / np.linalg.norm(fill)).astype(np.float32))


def light_around(normal: Vectors, openness: Values, scene: Scene) -> Values:
    """Give the light from fill and sky."""
    fill = scene.fill_strength * np.clip(0.15 + normal @ fill_direction(scene.key), 0, None)
    sky = scene.sky_strength * (0.75 + 0.25 * normal[:, 1])
    return np.asarray((fill + sky) * openness)


def light_skin(
    colour: Vectors, gloss: Values, samples: Samples, reach: Values, scene: Scene
) -> Vectors:
    """Light skin: red light creeps farthest round into the shade."""
    normal, key = samples.normal, scene.key.astype(np.float32)
    facing = (normal @ key)[:, None]
    wrapped = np.clip((facing + SCATTER) / (1 + SCATTER), 0, None)
    wrapped = wrapped * wrapped * 0.45 + wrapped * 0.55
    soft = reach[:, None] ** vector((0.8, 1.0, 1.05))
    diffuse = scene.key_strength * scene.tint * wrapped * soft
    diffuse *= (0.55 + 0.45 * samples.openness)[:, None]
    diffuse += light_around(normal, samples.openness, scene)[:, None]
    return np.asarray(colour * diffuse + shine_on_skin(gloss, samples, reach, scene)[:, None])


def shine_on_skin(gloss: Values, samples: Samples, reach: Values, scene: Scene) -> Values:
    """Give the highlights of skin: a broad sheen, a narrow gleam, more at grazing angles."""
    half = scene.key + np.array([0.0, 0.0, 1.0])
    half = (half / np.linalg.norm(half)).astype(np.float32)
    shine = np.clip(samples.normal @ half, 0, 1)
    lobes = 0.045 * shine**10 + 0.065 * shine**36
    grazing = 1 + 1.5 * (1 - np.clip(samples.normal[:, 2], 0, 1)) ** 3
    return np.asarray(gloss * lobes * grazing * scene.key_strength * reach * samples.openness)


def light_eye(
    colour: Vectors, normal: Vectors, catch: Values, samples: Samples, reach: Values, scene: Scene
) -> Vectors:
    """Light eyeballs; `catch` is the mirror image of the light."""
    facing = np.clip(0.3 + 0.7 * (normal @ scene.key.astype(np.float32)), 0, None)
    reach = 0.35 + 0.65 * reach
    diffuse = scene.key_strength * facing * reach + light_around(normal, samples.openness, scene)
    return np.asarray(
        colour * diffuse[:, None] + 0.9 * (catch * scene.key_strength * reach)[:, None]
    )


def light_hair(
    colour: Vectors,
    along: Vectors,
    strand: Values,
    inner: Values,
    gleam: float,
    samples: Samples,
    reach: Values,
    scene: Scene,
) -> Vectors:
    """Light hair as fibres, with highlights of strength `gleam`; its inside is dark."""
    diffuse, first, second = light_of_strands(samples.normal, along, scene.key, strand)
    around = 0.75 * light_around(samples.normal, samples.openness, scene)
    open_share = 1 - 0.7 * inner
    body = (0.85 * scene.key_strength * diffuse * reach + around) * open_share
    strength = gleam * scene.key_strength * reach * open_share
    sheen = (0.9 * strength * second)[:, None] * colour + (0.035 * strength * first)[:, None]
    return np.asarray(
        colour * body[:, None] + sheen * unit(scene.tint[None] + 1e-6) * np.float32(3**0.5)
    )

"""Portraits: the skin rendered with light, hair, brows, beard and eyes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_train.simulate.hair import (
    CROWN_Z,
    ear_fade,
    hair_height,
    hair_shell,
    long_hair_grows,
    stand_off,
)
from fcr_train.simulate.paint import (
    EYE,
    HAIR,
    SKIN,
    Pixels,
    eye_offsets,
    globe_normals,
    lit,
    paint_eye,
    paint_long,
    paint_skin,
)
from fcr_train.simulate.radiograph import CENTRE, FIELD_MM, View
from fcr_train.simulate.raster import Cover, cover, cross, fill_inside
from fcr_train.simulate.shape import vertex_normals
from fcr_train.simulate.skull import ORIGIN, SHAPE, STEP_MM
from fcr_train.simulate.texture import noise_textures, smoothstep

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int64, UInt8

    from fcr_train.simulate.looks import HairStyle, Look
    from fcr_train.simulate.scene import Scene
    from fcr_train.simulate.shape import Anatomy
    from fcr_train.simulate.texture import Values, Vectors

SUPERSAMPLING = 2


class Studio:
    """Renders portraits of people; holds what all of them share."""

    def __init__(self, anatomy: Anatomy) -> None:
        """Measure how open each place of the head is to light, and lay out long hair."""
        self._anatomy = anatomy
        self._ear_fade = ear_fade(anatomy)
        self._openness = openness(anatomy)
        self._shell = hair_shell(anatomy)
        self._noise = noise_textures()
        masks = anatomy.head.masks
        vertices = len(anatomy.reference)
        self._paint = np.column_stack(
            [
                anatomy.reference,
                masks["lips"],
                masks["inside-mouth"],
                masks["ears"],
                self._openness,
            ]
        )
        shell = np.zeros((len(self._shell.points), self._paint.shape[1]))
        shell[:, :3] = self._shell.points
        shell[:, -1] = 0.9
        self._paint = np.concatenate([self._paint, shell])
        triangles = [anatomy.head.skin, anatomy.head.eyes, self._shell.triangles + vertices]
        self._triangles = np.concatenate(triangles)
        self._material = np.repeat([SKIN, EYE, HAIR], [len(part) for part in triangles])

    def portrait(
        self,
        skin: Float64[np.ndarray, "v 3"],
        look: Look,
        scene: Scene,
        view: View,
        size: int,
        rng: np.random.Generator,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Render one portrait of `size` pixels a side; `rng` draws the camera's noise.

        `skin` is a person's skin [mm]. The camera stands in front, or on the subject's right.
        """
        mesh = self._mesh(skin, look.style, scene)
        wide = SUPERSAMPLING * size
        pixels = self._visible(mesh, look.style, scene, view, wide)
        colour = backdrop(scene, wide)
        colour[pixels.index] = self._shade(pixels, look, scene, view)
        picture = darken_lashes(colour.reshape(wide, wide, 3), pixels, wide)
        return develop(picture, rng)

    def _mesh(self, skin: Vectors, style: HairStyle, scene: Scene) -> Vectors:
        """Put expression and hair on the skin, add long hair, and turn it all into the pose."""
        head = self._anatomy.head
        moved = skin.copy()
        for name, weight in scene.expression.items():
            moved += weight * head.targets[name]
        reference = self._anatomy.reference
        height = hair_height(reference, style)
        up = np.clip((reference[:, 1] - 20) / 70, 0, 1)
        thickness = style.side + (style.top - style.side) * up
        thickness = thickness * smoothstep(height / 22) * self._ear_fade
        thickness[head.is_eye] = 0
        haired = moved + vertex_normals(moved, head.skin) * thickness[:, None]
        return scene.pose.turn(np.concatenate([haired, self._long_hair(moved, style)]))

    def _long_hair(self, skin: Vectors, style: HairStyle) -> Vectors:
        """Carry the shell of long hair to a person's head, and let it stand off."""
        shell, control = self._shell, self._anatomy.control
        move = skin[control] - self._anatomy.reference[control]
        points = shell.points + (shell.weight[:, :, None] * move[shell.near]).sum(1)
        outward = (points - (0, 0, CROWN_Z)) * (1, 0, 1)
        outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1)
        return np.asarray(points + outward * stand_off(shell.points, style)[:, None])

    def _visible(
        self, mesh: Vectors, style: HairStyle, scene: Scene, view: View, wide: int
    ) -> Pixels:
        """Find what each pixel shows, and interpolate the mesh's values there."""
        points, distance = project(camera_frame(mesh, view), scene, wide)
        a, b, c = (points[self._triangles[:, k]] for k in range(3))
        facing = cross(b - a, c - a) < 0
        hits = self._nearest(points, distance, facing, style, wide)
        corners = self._triangles[hits.triangle]
        normals = camera_frame(self._normals(mesh, scene), view, direction=True)
        values = blend(hits.corners, self._paint[corners])
        normal = blend(hits.corners, normals[corners])
        material = self._material[hits.triangle]
        inner = (material == HAIR) & ~facing[hits.triangle]
        normal = np.where(inner[:, None], -normal, normal)
        return Pixels(
            index=hits.pixel,
            material=material,
            place=values[:, :3],
            normal=normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9),
            lips=values[:, 3],
            mouth=values[:, 4],
            ears=values[:, 5],
            openness=values[:, 6],
            inner=inner.astype(float),
        )

    def _nearest(
        self,
        points: Float64[np.ndarray, "v 2"],
        distance: Values,
        facing: Bool[np.ndarray, " t"],
        style: HairStyle,
        wide: int,
    ) -> Cover:
        """Keep the triangle nearest to the camera at each pixel, by a depth buffer."""
        # Only long hair is thin enough to be seen from inside.
        drawn = np.flatnonzero(np.where(self._material == HAIR, style.length > 0, facing))
        hits = cover(points, self._triangles[drawn], (wide, wide))
        triangle = drawn[hits.triangle]
        depth = blend(hits.corners, distance[self._triangles[triangle]])
        hair = np.flatnonzero(self._material[triangle] == HAIR)
        place = blend(hits.corners[hair], self._paint[:, :3][self._triangles[triangle[hair]]])
        depth[hair[~long_hair_grows(place, style, self._noise)]] = np.inf
        nearest = np.full(wide * wide, np.inf)
        np.minimum.at(nearest, hits.pixel, depth)
        shown = np.flatnonzero((depth == nearest[hits.pixel]) & np.isfinite(depth))
        # A pixel may be met twice at the same depth, on a shared edge: the first one counts.
        shown = shown[np.unique(hits.pixel[shown], return_index=True)[1]]
        return Cover(triangle[shown], hits.pixel[shown], hits.corners[shown])

    def _normals(self, mesh: Vectors, scene: Scene) -> Vectors:
        """Give normals of the posed mesh; those of long hair point away from the crown's axis.

        The folds of the shell would otherwise show where it comes out of the scalp's hair.
        """
        normals = vertex_normals(mesh, self._triangles)
        count = len(self._shell.points)
        outward = (self._shell.points - (0, 0, CROWN_Z)) * (1, 0, 1)
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        rise = np.clip(self._shell.points[:, 1:2] / 120, 0.05, 0.6)
        outward = (outward + rise * np.array([0.0, 1.0, 0.0])) @ scene.pose.rotation.T
        normals[-count:] = 0.25 * normals[-count:] + outward
        return np.asarray(normals)

    def _shade(self, pixels: Pixels, look: Look, scene: Scene, view: View) -> Vectors:
        """Colour and light the visible surface [linear RGB]."""
        colour = np.empty((len(pixels.index), 3))
        gloss = np.empty(len(colour))
        normal = pixels.normal.copy()
        skin, eye, hair = (np.flatnonzero(pixels.material == k) for k in (SKIN, EYE, HAIR))
        colour[skin], gloss[skin] = paint_skin(subset(pixels, skin), look, scene, self._noise)
        colour[hair], gloss[hair] = paint_long(subset(pixels, hair), look, self._noise)
        across, up = eye_offsets(subset(pixels, eye), self._anatomy.eyes, scene)
        colour[eye], gloss[eye] = paint_eye(across, up, look, self._noise)
        globe = globe_normals(across, up) @ scene.pose.rotation.T
        normal[eye] = camera_frame(globe, view, direction=True)
        return lit(colour, gloss, normal, pixels, scene)


def subset(pixels: Pixels, chosen: Int64[np.ndarray, " n"]) -> Pixels:
    """Keep some pixels."""
    return Pixels(**{name: values[chosen] for name, values in vars(pixels).items()})


def blend(
    weight: Float64[np.ndarray, "n 3"], corners: Float64[np.ndarray, "n 3 ..."]
) -> Float64[np.ndarray, "n ..."]:
    """Interpolate values at the corners of triangles."""
    a, b, c = (weight[:, k].reshape(-1, *(1,) * (corners.ndim - 2)) for k in range(3))
    return np.asarray(a * corners[:, 0] + b * corners[:, 1] + c * corners[:, 2])


def openness(anatomy: Anatomy) -> Values:
    """Estimate the share of light that reaches each vertex of the reference head from around."""
    inside = fill_inside(anatomy.reference, anatomy.head.skin, ORIGIN, STEP_MM, SHAPE)
    inside |= fill_inside(anatomy.reference, anatomy.head.eyes, ORIGIN, STEP_MM, SHAPE)
    normals = vertex_normals(anatomy.reference, anatomy.head.triangles)
    shares = []
    for blur, reach in ((2.0, 2.0), (5.0, 5.0)):
        filled = ndimage.gaussian_filter(inside.astype(np.float32), blur)
        at = (anatomy.reference + reach * normals - ORIGIN) / STEP_MM
        near = ndimage.map_coordinates(filled, at.T, order=1, mode="nearest")
        shares.append(np.clip(1.35 - 1.5 * near, 0.15, 1))
    return np.asarray(np.sqrt(shares[0] * shares[1]))


def camera_frame(points: Vectors, view: View, direction: bool = False) -> Vectors:
    """Express points of the head, or directions, as right, up, and towards the camera [mm]."""
    x, y, z = (points if direction else points - CENTRE).T
    return np.stack([x, y, z], 1) if view == "frontal" else np.stack([z, y, -x], 1)


def project(seen: Vectors, scene: Scene, wide: int) -> tuple[Float64[np.ndarray, "v 2"], Values]:
    """Project points to (column, row); give their distance from the camera [mm]."""
    distance = scene.camera_mm - seen[:, 2]
    pitch = FIELD_MM / wide / scene.pose.scale
    beam = scene.camera_mm / distance
    across, up = scene.pose.shift_mm
    middle = (wide - 1) / 2
    column = middle + (seen[:, 0] * beam + across) / pitch
    row = middle - (seen[:, 1] * beam + up) / pitch
    return np.stack([column, row], 1), distance


def backdrop(scene: Scene, wide: int) -> Vectors:
    """Paint the background, a little lighter in the middle [linear RGB]."""
    axis = np.linspace(-1, 1, wide)
    glow = 1.04 - 0.16 * np.minimum(axis[None] ** 2 + axis[:, None] ** 2, 1.5)
    return np.asarray(glow.reshape(-1, 1) * scene.background**1.15)


def darken_lashes(
    picture: Float64[np.ndarray, "h w 3"], pixels: Pixels, wide: int
) -> Float64[np.ndarray, "h w 3"]:
    """Draw the line of the lashes where skin meets the upper edge of an eye."""
    eye, skin = np.zeros((2, wide * wide))
    eye[pixels.index[pixels.material == EYE]] = 1
    skin[pixels.index[pixels.material == SKIN]] = 1
    eye, skin = eye.reshape(wide, wide), skin.reshape(wide, wide)
    step = wide / 512
    above = np.roll(eye, -round(1.6 * step), 0)
    lashes = skin * ndimage.gaussian_filter(above, 0.8 * step)
    below = skin * ndimage.gaussian_filter(np.roll(eye, round(step), 0), 0.7 * step)
    shade = 1 - np.clip(0.95 * lashes, 0, 0.8) - 0.22 * np.clip(below, 0, 1)
    return np.asarray(picture * np.clip(shade, 0.15, 1)[..., None])


def develop(
    picture: Float64[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Average the supersamples, add the camera's noise, and encode."""
    wide = len(picture)
    small = picture.reshape(wide // 2, 2, wide // 2, 2, 3).mean((1, 3))
    encoded = np.clip(small, 0, 1) ** (1 / 1.15)
    noisy = encoded + 0.006 * rng.standard_normal(encoded.shape)
    return np.asarray(np.round(255 * np.clip(noisy, 0, 1)), np.uint8)

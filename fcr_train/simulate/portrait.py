"""Portraits: the skin rendered with light, hair, brows, beard and eyes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_train.simulate.eyes import globe_behind, lash_shade, paint_eye
from fcr_train.simulate.hair import (
    COILY,
    HairSurface,
    coverage,
    dress,
    hair_height,
    hair_shell,
    parting,
    strand_direction,
    strands,
)
from fcr_train.simulate.light import Shadow, light_eye, light_hair, light_skin
from fcr_train.simulate.looks import DISPLAY_GAMMA
from fcr_train.simulate.paint import Samples, paint_skin
from fcr_train.simulate.radiograph import CENTRE, FIELD_MM, View
from fcr_train.simulate.raster import Cover, cover, cross, fill_inside
from fcr_train.simulate.shape import vertex_normals
from fcr_train.simulate.skull import ORIGIN, SHAPE, STEP_MM
from fcr_train.simulate.texture import mix, noise_textures, smoothstep, unit

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8

    from fcr_train.simulate.eyes import Globe
    from fcr_train.simulate.looks import Look
    from fcr_train.simulate.scene import Scene
    from fcr_train.simulate.shape import Anatomy
    from fcr_train.simulate.texture import Values, Vectors

    Points = Float64[np.ndarray, "v 3"]
    Triangles = Int64[np.ndarray, "t 3"]

SUPERSAMPLING = 2
FINE_SIZE = 256
"""Smaller pictures are painted at least this finely, then averaged: paint has fine grain."""
OPAQUE, CLEAR = 0.97, 0.04
"""Hair that covers more hides what is behind it, hair that covers less is left out."""
SAME_SURFACE_MM = 5.0
"""A pixel whose samples lie within this depth is painted once."""
HAIR_BIAS_MM, HAIR_DEPTH_MM = 3.0, 4.0
"""Hair counts as nearer than skin that it lies on, the more so away from the ears."""
CONTRAST = 0.35
"""Share of a steep tone curve in the picture."""
FAR_MM = 1e6
"""Depth where there is nothing."""
FREE_Y = 60.0
"""Below this height long hair may stand off so far that its inside shows [mm]."""
EDGE_MM = 35.0
"""So far from the hairline hair may show its inside [mm]."""
OVER_EARS_MM = 16.0
"""Hair that covers the ears presses them flat: it wins over them by this much."""


@dataclass(frozen=True)
class Layer:
    """The triangle nearest to the camera at each pixel that shows one."""

    hits: Cover
    depth: Float32[np.ndarray, " n"]
    """Distance from the camera [mm]."""
    at: Int64[np.ndarray, " p"]
    """Index of each pixel of the picture into `hits`, -1 where there is nothing."""
    covers: Float32[np.ndarray, " n"]
    """How much of what is behind is hidden [0-1]."""

    def spread(self, values: np.ndarray, empty: float) -> np.ndarray:
        """Lay values of the hits out as a picture."""
        picture = np.full(len(self.at), empty, values.dtype)
        picture[self.hits.pixel] = values
        return picture


class Lens:
    """A camera in front of the head, or on its right: from places to pixels and back."""

    def __init__(self, view: View, scene: Scene, wide: int) -> None:
        """Look at a head so that the picture is `wide` samples wide."""
        self.wide = wide
        self.pitch_mm = FIELD_MM / wide / scene.pose.scale
        self._view: View = view
        self._scene = scene

    def frame(self, points: Points) -> Points:
        """Turn points of the head into the pose, as right, up, and towards the camera [mm]."""
        return self._seen(self._scene.pose.turn(points) - CENTRE)

    def directions(self, vectors: np.ndarray) -> np.ndarray:
        """Turn directions of the head into the pose and the camera's frame."""
        return self._seen(vectors @ self._scene.pose.rotation.T.astype(vectors.dtype))

    def _seen(self, points: np.ndarray) -> np.ndarray:
        x, y, z = points.T
        return np.stack([x, y, z], 1) if self._view == "frontal" else np.stack([z, y, -x], 1)

    def project(
        self, seen: Points
    ) -> tuple[Float64[np.ndarray, "v 2"], Float64[np.ndarray, " v"]]:
        """Project points to (column, row); give their distance from the camera [mm]."""
        distance = self._scene.camera_mm - seen[:, 2]
        beam = self._scene.camera_mm / distance
        across, up = self._scene.pose.shift_mm
        middle = (self.wide - 1) / 2
        column = middle + (seen[:, 0] * beam + across) / self.pitch_mm
        row = middle - (seen[:, 1] * beam + up) / self.pitch_mm
        return np.stack([column, row], 1), distance

    def unproject(self, pixel: Int64[np.ndarray, " n"], distance: Values) -> Vectors:
        """Give the places at a distance that pixels show, in the camera's frame [mm]."""
        row, column = np.divmod(pixel, self.wide)
        across, up = self._scene.pose.shift_mm
        middle = (self.wide - 1) / 2
        beam = self._scene.camera_mm / distance
        x = ((column - middle) * self.pitch_mm - across) / beam
        y = ((middle - row) * self.pitch_mm - up) / beam
        return np.stack([x, y, self._scene.camera_mm - distance], 1).astype(np.float32)


class Studio:
    """Renders portraits of people; holds what all of them share."""

    def __init__(self, anatomy: Anatomy) -> None:
        """Measure how open each place of the head is to light, and lay out hair."""
        self.anatomy = anatomy
        self._shell = hair_shell(anatomy)
        self._noise = noise_textures()
        head = anatomy.head
        masks = [head.masks[name] for name in ("lips", "inside-mouth", "ears")]
        columns = [anatomy.reference, *masks, openness(anatomy)]
        self._paint = np.column_stack(columns).astype(np.float32)
        self._detailed = detailed_triangles(anatomy)

    def portrait(
        self,
        skin: Points,
        look: Look,
        scene: Scene,
        view: View,
        size: int,
        rng: np.random.Generator,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Render one portrait of `size` pixels a side; `rng` draws the camera's noise.

        `skin` is a person's skin [mm]. The camera stands in front, or on the subject's right.
        """
        finer = max(1, FINE_SIZE // size)
        lens = Lens(view, scene, SUPERSAMPLING * finer * size)
        moved = self._express(skin, scene)
        seen = lens.frame(moved)
        hair = self._hair(moved, look)
        body = self._body_layer(seen, lens)
        over = None if hair is None else self._hair_layer(hair, body, look, lens)
        shadow = self._shadow(seen, hair, scene, lens)
        canvas = Canvas(finer * size, SUPERSAMPLING)
        hidden = (
            np.zeros(lens.wide**2, np.float32) if over is None else over.spread(over.covers, 0)
        )
        self._paint_body(canvas, body, hidden, moved, seen, look, scene, lens, shadow)
        if hair is not None and over is not None:
            self._paint_hair(canvas, over, hair, look, scene, lens, shadow)
        light = canvas.over(backdrop(scene, finer * size))
        return develop(light.reshape(size, finer, size, finer, 3).mean((1, 3)), rng)

    def _express(self, skin: Points, scene: Scene) -> Points:
        """Put the expression on the skin."""
        moved = skin.copy()
        for name, weight in scene.expression.items():
            moved += weight * self.anatomy.head.targets[name]
        return moved

    def _hair(self, moved: Points, look: Look) -> HairSurface | None:
        """Give the surface of the hair; None for a shaven head."""
        if look.style.is_shaven:
            return None
        return dress(self._shell, moved - self.anatomy.reference, look.style, self._noise)

    def _body_layer(self, seen: Points, lens: Lens) -> Layer:
        """Find which triangle of skin and eyes each pixel shows."""
        points, distance = lens.project(seen)
        triangles = self.anatomy.head.triangles
        front = np.flatnonzero(facing(points, triangles))
        hits = covered(points, triangles, front, lens.wide)
        depth = blend(hits, triangles, distance)
        return nearest_layer(hits, depth, np.ones(len(depth), np.float32), lens.wide)

    def _hair_layer(self, hair: HairSurface, body: Layer, look: Look, lens: Lens) -> Layer:
        """Find where each pixel shows hair, and how densely."""
        points, distance = lens.project(lens.frame(hair.points))
        # Only hair that hangs free, or its edge, can be seen from inside.
        free = (hair.place[hair.triangles, 1].max(1) < FREE_Y) & (look.style.length > 0)
        free |= hair.edges[hair.triangles, 0].min(1) < EDGE_MM
        shown = np.flatnonzero(free | facing(points, hair.triangles))
        hits = covered(points, hair.triangles, shown, lens.wide)
        depth = blend(hits, hair.triangles, distance)
        behind = body.spread(body.depth, FAR_MM)[hits.pixel]
        seen = np.flatnonzero(depth < behind + OVER_EARS_MM)
        hits, depth, behind = take(hits, seen), depth[seen], behind[seen]
        values = blend(hits, hair.triangles, np.column_stack([hair.place, hair.edges]))
        place, edges = values[:, :3], values[:, 3:]
        strand = strands(place, look.style, self._noise)
        covers = coverage(place, edges, strand, look.style, self._noise)
        lies_on = HAIR_BIAS_MM + np.clip(edges[:, 3] - 10, 0, HAIR_DEPTH_MM)
        covers[(depth > behind + lies_on) & (edges[:, 1] < 0)] = 0
        # Where strands leave a gap, hair farther back fills it.
        densest = np.zeros(lens.wide**2, np.float32)
        np.maximum.at(densest, hits.pixel, covers)
        dense = np.flatnonzero(covers > CLEAR)
        covers = densest[hits.pixel[dense]]
        bare = behind[dense] == FAR_MM
        covers[bare] = smoothstep((covers[bare] - 0.3) / 0.35)
        # What is all but hidden is not painted, and must let no background through.
        covers[covers > OPAQUE] = 1
        return nearest_layer(take(hits, dense), depth[dense], covers, lens.wide)

    def _shadow(self, seen: Points, hair: HairSurface | None, scene: Scene, lens: Lens) -> Shadow:
        """Find what the key light reaches past head and hair."""
        triangles = self.anatomy.head.skin
        if hair is None:
            return Shadow(seen, triangles, scene.key)
        above, front, ends, _ = hair.edges.T
        dense = (above > 4) | ((front > 4) & (ends > 4))
        casting = hair.triangles[dense[hair.triangles].all(1)] + len(seen)
        points = np.concatenate([seen, lens.frame(hair.points)])
        return Shadow(points, np.concatenate([triangles, casting]), scene.key)

    def _paint_body(
        self,
        canvas: Canvas,
        body: Layer,
        hidden: Values,
        moved: Points,
        seen: Points,
        look: Look,
        scene: Scene,
        lens: Lens,
        shadow: Shadow,
    ) -> None:
        """Paint and light skin and eyes where hair does not hide them."""
        head = self.anatomy.head
        normals = vertex_normals(seen, head.triangles)
        above = hair_height(self.anatomy.reference, look.style)
        table = np.column_stack([self._paint, above, normals]).astype(np.float32)
        plain = body.spread(~self._detailed[body.hits.triangle], 0) & (hidden < CLEAR)
        pixel, share = canvas.choose(body, plain, hidden < 1)
        chosen = body.at[pixel]
        values = blend(take(body.hits, chosen), head.triangles, table)
        samples = Samples(
            pixel=pixel,
            share=share * (1 - hidden[pixel]),
            position=lens.unproject(pixel, body.depth[chosen]),
            normal=unit(values[:, 8:11]),
            place=values[:, :3],
            lips=values[:, 3],
            mouth=values[:, 4],
            ears=values[:, 5],
            openness=values[:, 6],
            above=values[:, 7],
        )
        reach = shadow.reach(samples.position)
        triangle = body.hits.triangle[chosen]
        colour = np.empty((len(pixel), 3), np.float32)
        is_skin = triangle < head.skin_triangles
        part = subset(samples, is_skin)
        paint, gloss = paint_skin(part, look, scene, self._noise)
        colour[is_skin] = light_skin(paint, gloss, part, reach[is_skin], scene)
        for side, globe in enumerate(self._globes(moved, scene, lens)):
            first = head.skin_triangles + side * len(head.eyes) // 2
            own = (triangle >= first) & (triangle < first + len(head.eyes) // 2)
            part = subset(samples, own)
            paint, normal, catch = paint_eye(part.position, globe, scene.key, look, self._noise)
            colour[own] = light_eye(paint, normal, catch, part, reach[own], scene)
        eyes = body.spread(body.hits.triangle >= head.skin_triangles, 0).reshape(lens.wide, -1)
        colour *= lash_share(eyes, pixel, look, lens)[:, None]
        canvas.add(pixel, samples.share, colour)

    def _globes(self, moved: Points, scene: Scene, lens: Lens) -> list[Globe]:
        """Place both eyeballs."""
        head = self.anatomy.head
        axes = lens.directions(np.eye(3))
        eyes = head.eyes.reshape(2, -1)
        return [
            globe_behind(lens.frame(moved[np.unique(eye)]), axes, scene.gaze_mm, nasal)
            for eye, nasal in zip(eyes, (-1.0, 1.0), strict=True)
        ]

    def _paint_hair(
        self,
        canvas: Canvas,
        over: Layer,
        hair: HairSurface,
        look: Look,
        scene: Scene,
        lens: Lens,
        shadow: Shadow,
    ) -> None:
        """Paint and light hair."""
        hidden = over.spread(over.covers, 0)
        pixel, share = canvas.choose(over, hidden == 1, hidden > 0)
        chosen = over.at[pixel]
        hits = take(over.hits, chosen)
        outward = lens.directions(self._shell.outward)
        normals = unit(vertex_normals(lens.frame(hair.points), hair.triangles) + outward)
        table = np.column_stack([hair.place, normals]).astype(np.float32)
        values = blend(hits, hair.triangles, table)
        points, _ = lens.project(lens.frame(hair.points))
        inner = ~facing(points, hair.triangles)[hits.triangle]
        normal = unit(np.where(inner[:, None], -values[:, 3:], values[:, 3:]))
        place = values[:, :3]
        position = lens.unproject(pixel, over.depth[chosen])
        strand = strands(place, look.style, self._noise)
        along = lens.directions(strand_direction(place, look.style))
        nape = np.clip(0.5 + (place[:, 1] + 150) / 220, 0.55, 0.95)
        samples = Samples(
            pixel=pixel,
            share=share * hidden[pixel],
            position=position,
            normal=normal,
            place=place,
            openness=nape,
            **dict.fromkeys(("lips", "mouth", "ears", "above"), nape[:0]),
        )
        coily = look.style.curl > COILY
        contrast = 0.55 if coily else 0.20
        colour = look.hair * np.clip(1 + contrast * strand, 0.35, 1.7)[:, None]
        colour = mix(colour, 0.6 * look.skin, 0.45 * parting(place, look.style))
        gleam = 0.15 if coily else 1.0
        depth = inner.astype(np.float32)
        reach = shadow.reach(position)
        lit = light_hair(colour, along, strand, depth, gleam, samples, reach, scene)
        canvas.add(pixel, samples.share, lit)


class Canvas:
    """A picture that gathers shares of painted samples."""

    def __init__(self, size: int, block: int) -> None:
        """Start empty; each pixel has `block` x `block` samples."""
        self._size, self._block = size, block
        self._light = np.zeros((size * size, 3))
        self._filled = np.zeros(size * size)

    def choose(
        self, layer: Layer, plain: Bool[np.ndarray, " p"], shown: Bool[np.ndarray, " p"]
    ) -> tuple[Int64[np.ndarray, " n"], Values]:
        """Choose the samples of a layer to paint, with their shares of their pixels.

        One sample stands for a pixel that is plain and on one surface all over.
        """
        block, wide = self._block, self._size * self._block
        depth = self._samples(np.where(plain, layer.spread(layer.depth, FAR_MM), FAR_MM))
        near, far = np.minimum.reduce(depth), np.maximum.reduce(depth)
        whole = (far < FAR_MM) & (far - near < SAME_SURFACE_MM)
        spread = np.repeat(np.repeat(whole, block, 0), block, 1).ravel()
        single = np.flatnonzero(~spread & shown & (layer.at >= 0))
        row, column = np.nonzero(whole)
        middle = (row * block + block // 2) * wide + column * block + block // 2
        share = np.repeat(np.array([1, 1 / block**2], np.float32), [len(middle), len(single)])
        return np.concatenate([middle, single]), share

    def _samples(self, values: Values) -> list[Float32[np.ndarray, "h w"]]:
        """List the samples of every pixel: first samples of all pixels, second samples, ..."""
        block = self._block
        picture = values.reshape(self._size * block, -1)
        return [picture[i::block, k::block] for i in range(block) for k in range(block)]

    def add(self, pixel: Int64[np.ndarray, " n"], share: Values, colour: Vectors) -> None:
        """Add samples."""
        row, column = np.divmod(pixel, self._size * self._block)
        at = row // self._block * self._size + column // self._block
        self._filled += np.bincount(at, share, self._size**2)
        for k in range(3):
            self._light[:, k] += np.bincount(at, share * colour[:, k], self._size**2)

    def over(self, behind: Float64[np.ndarray, "p 3"]) -> Float64[np.ndarray, "h w 3"]:
        """Put what is painted before a background."""
        light = self._light + (1 - np.minimum(self._filled, 1))[:, None] * behind
        return np.asarray(light.reshape(self._size, self._size, 3))


def detailed_triangles(anatomy: Anatomy) -> Bool[np.ndarray, " t"]:
    """Tell triangles with detail finer than a pixel: eyes, lids, brows and the edge of lips."""
    head = anatomy.head
    x, y, z = anatomy.reference[head.triangles].mean(1).T
    around_eyes = (np.abs(x) < 57) & (y > -14) & (y < 27) & (z > -12)
    lips = head.masks["lips"] | head.masks["inside-mouth"]
    return np.asarray(around_eyes | lips[head.triangles].any(1))


def facing(points: Float64[np.ndarray, "v 2"], triangles: Triangles) -> Bool[np.ndarray, " t"]:
    """Tell triangles that show their outer side."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return np.asarray(cross(b - a, c - a) < 0)


def covered(
    points: Float64[np.ndarray, "v 2"],
    triangles: Triangles,
    chosen: Int64[np.ndarray, " n"],
    wide: int,
) -> Cover:
    """Find the pixels of chosen triangles, in the precision of pictures."""
    hits = cover(points, triangles[chosen], (wide, wide))
    return Cover(chosen[hits.triangle], hits.pixel, hits.corners.astype(np.float32))


def nearest_layer(hits: Cover, depth: Values, covers: Values, wide: int) -> Layer:
    """Keep the hit nearest to the camera at each pixel."""
    depth = depth.astype(np.float32)
    nearest = np.full(wide * wide, np.inf, np.float32)
    np.minimum.at(nearest, hits.pixel, depth)
    shown = np.flatnonzero(depth == nearest[hits.pixel])
    at = np.full(wide * wide, -1)
    # A pixel may be met twice at the same depth, on a shared edge: one of them counts.
    at[hits.pixel[shown]] = shown
    shown = at[at >= 0]
    at[at >= 0] = np.arange(len(shown))
    return Layer(take(hits, shown), depth[shown], at, covers[shown])


def take(hits: Cover, chosen: Int64[np.ndarray, " n"]) -> Cover:
    """Keep some hits."""
    return Cover(hits.triangle[chosen], hits.pixel[chosen], hits.corners[chosen])


def subset(samples: Samples, chosen: Bool[np.ndarray, " p"]) -> Samples:
    """Keep some samples."""
    return Samples(**{name: values[chosen] for name, values in vars(samples).items()})


def blend(
    hits: Cover, triangles: Triangles, table: Float[np.ndarray, "v ..."]
) -> Float32[np.ndarray, "n ..."]:
    """Interpolate values at vertices."""
    table = table.astype(np.float32)
    corners = hits.corners.reshape(-1, 3, *(1,) * (table.ndim - 1))
    at = triangles[hits.triangle]
    parts = (corners[:, k] * table.take(at[:, k], 0) for k in range(3))
    return np.asarray(sum(parts))


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


def lash_share(
    eyes: Bool[np.ndarray, "h w"], pixel: Int64[np.ndarray, " n"], look: Look, lens: Lens
) -> Values:
    """Give the share of light that lashes leave at samples."""
    shade = np.ones(eyes.shape, np.float32)
    box, values = lash_shade(eyes, lens.pitch_mm, look)
    shade[box] = values
    return np.asarray(shade.ravel()[pixel])


def backdrop(scene: Scene, size: int) -> Float64[np.ndarray, "p 3"]:
    """Paint the background, a little lighter in the middle [linear RGB]."""
    axis = np.linspace(-1, 1, size)
    glow = 1.05 - 0.2 * np.minimum(axis[None] ** 2 + axis[:, None] ** 2, 1.5)
    return np.asarray(glow.reshape(-1, 1) * scene.background)


def develop(
    light: Float64[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Encode a picture for display, with the camera's noise."""
    encoded = np.clip(light, 0, 1).astype(np.float32) ** np.float32(1 / DISPLAY_GAMMA)
    # A camera's tone curve deepens shadows and holds lights.
    encoded += CONTRAST * (encoded * encoded * (3 - 2 * encoded) - encoded)
    encoded += 0.006 * rng.standard_normal(encoded.shape, np.float32)
    return np.asarray(np.round(255 * np.clip(encoded, 0, 1)), np.uint8)

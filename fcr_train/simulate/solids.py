"""Signed distances of simple solids on the grid of the reference head, united smoothly."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float32, Float64

    Volume = Float32[np.ndarray, "x y z"]
    Point = tuple[float, float, float]
    Ball = tuple[float, float, float, float]
    Slices = tuple[slice, slice, slice]
    Corner = Sequence[float] | Float64[np.ndarray, 3]

STEP_MM = 1.5
ORIGIN = (-105.0, -186.0, -195.0)
"""First grid point [mm]."""
SHAPE = (141, 211, 171)
HALF = 70
"""Index of the plane x = 0; each side of the head is built as a left half, x from 0."""
HALF_SHAPE = (SHAPE[0] - HALF, *SHAPE[1:])
AXES = tuple(
    np.asarray(start + STEP_MM * np.arange(count), np.float32)
    for start, count in zip((0.0, *ORIGIN[1:]), HALF_SHAPE, strict=True)
)
"""Coordinates of the half grid [mm]."""
EVERYWHERE = ((0.0, *ORIGIN[1:]), (200.0, 200.0, 200.0))


def box_cells(low: Corner, high: Corner) -> Slices:
    """Find the part of the half grid between two corners [mm]."""
    x, y, z = (
        slice(int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b, "right")))
        for axis, a, b in zip(AXES, low, high, strict=True)
    )
    return x, y, z


def coordinates(cells: Slices) -> tuple[Volume, Volume, Volume]:
    """Give the coordinates of a part of the half grid [mm], shaped to broadcast."""
    x, y, z = (axis[part] for axis, part in zip(AXES, cells, strict=True))
    return x[:, None, None], y[None, :, None], z[None, None, :]


class Solid:
    """A signed distance [mm, negative inside] over a box of the half grid, of united shapes."""

    def __init__(self, low: Corner, high: Corner) -> None:
        """Start empty between two corners [mm]: far outside everywhere."""
        self.cells = box_cells(low, high)
        shape = [part.stop - part.start for part in self.cells]
        self.distance = np.full(shape, 1e3, np.float32)

    def _inside(self, low: Corner, high: Corner) -> tuple[Slices, Slices]:
        """Find the part of the box between two corners, in the half grid and in the box."""
        pairs = []
        for own, part in zip(self.cells, box_cells(low, high), strict=True):
            start = min(max(part.start, own.start), own.stop)
            pairs.append((start, min(max(part.stop, start), own.stop), own.start))
        x, y, z = (slice(a, b) for a, b, _ in pairs)
        i, j, k = (slice(a - start, b - start) for a, b, start in pairs)
        return (x, y, z), (i, j, k)

    def _add(self, part: Slices, distance: Volume, width: float) -> None:
        self.distance[part] = unite(self.distance[part], distance, width)

    def ellipsoid(
        self, centre: Point, radii: Point, width: float = 0.0, tilt: float = 0.0
    ) -> Solid:
        """Unite with an ellipsoid turned by `tilt` [radians]; first order (I. Quilez)."""
        reach = np.full(3, max(radii)) if tilt else np.array(radii)
        grid, part = self._inside(centre - reach - 8 - width, centre + reach + 8 + width)
        offset = tilted(grid, centre, tilt)
        level = np.sqrt(sum((o / r) ** 2 for o, r in zip(offset, radii, strict=True)))
        slope = np.sqrt(sum((o / r**2) ** 2 for o, r in zip(offset, radii, strict=True)))
        self._add(part, level * (level - 1) / np.maximum(slope, 1e-6), width)
        return self

    def capsule(
        self,
        start: Point,
        end: Point,
        radii: tuple[float, float],
        width: float = 0.0,
        scale: Point = (1, 1, 1),
    ) -> Solid:
        """Unite with a tapered capsule; `scale` multiplies coordinates, below 1 it lengthens."""
        reach = (max(radii) + 8 + width) / np.array(scale)
        grid, part = self._inside(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        a = (np.array(start) * scale).astype(np.float32)
        axis = (np.array(end) * scale).astype(np.float32) - a
        offset = [
            p * np.float32(s) - o for p, s, o in zip(coordinates(grid), scale, a, strict=True)
        ]
        share = axis / max(float(axis @ axis), 1e-9)
        along = np.clip(sum(o * d for o, d in zip(offset, share, strict=True)), 0, 1)
        square = sum((o - along * d) ** 2 for o, d in zip(offset, axis, strict=True))
        radius = np.float32(radii[0]) + np.float32(radii[1] - radii[0]) * along
        self._add(part, np.sqrt(square) - radius, width)
        return self

    def chain(self, balls: Sequence[Ball], width: float, scale: Point = (1, 1, 1)) -> Solid:
        """Unite with capsules from ball to ball, each (x, y, z, radius)."""
        for (*start, first), (*end, second) in itertools.pairwise(balls):
            a, b = (start[0], start[1], start[2]), (end[0], end[1], end[2])
            self.capsule(a, b, (first, second), width, scale)
        return self

    def rounded_box(
        self, centre: Point, half: Point, rounding: float, width: float, tilt: float = 0.0
    ) -> Solid:
        """Unite with a box of half sizes `half` whose edges are rounded, turned by `tilt`."""
        reach = np.full(3, max(half) + 8) if tilt else np.array(half) + 8
        grid, part = self._inside(centre - reach, centre + reach)
        sizes = zip(tilted(grid, centre, tilt), half, strict=True)
        excess = [np.abs(o) - np.float32(h - rounding) for o, h in sizes]
        outside = np.sqrt(sum(np.maximum(e, 0) ** 2 for e in excess))
        inside = np.minimum(np.maximum(np.maximum(excess[0], excess[1]), excess[2]), 0)
        self._add(part, outside + inside - np.float32(rounding), width)
        return self


def tilted(cells: Slices, centre: Point, tilt: float) -> list[Volume]:
    """Give offsets from a centre [mm] along axes nodding forward by `tilt` [radians]."""
    x, y, z = (p - np.float32(c) for p, c in zip(coordinates(cells), centre, strict=True))
    if not tilt:
        return [x, y, z]
    sine, cosine = np.float32(np.sin(tilt)), np.float32(np.cos(tilt))
    return [x, cosine * y + sine * z, cosine * z - sine * y]


def unite(a: Volume, b: Volume, width: float | Volume) -> Volume:
    """Unite two distances with a smooth seam of `width` [mm]."""
    if isinstance(width, (int, float)) and width <= 0:
        return np.asarray(np.minimum(a, b))
    share = np.clip(0.5 + 0.5 * (a - b) / width, 0, 1)
    return np.asarray(a + (b - a) * share - width * share * (1 - share), np.float32)


def occupancy(distance: Volume) -> Volume:
    """Turn a distance into the filled share of a grid cell [0-1]."""
    return np.asarray(np.clip(np.float32(0.5) - distance / np.float32(STEP_MM), 0, 1))


def shell(distance: Volume, thickness: float | Volume) -> Volume:
    """Give the share of a cell in the outermost `thickness` [mm] inside a solid [0-1]."""
    return np.asarray(np.minimum(occupancy(distance), occupancy(-distance - thickness)))


def logistic(value: Volume | float) -> Volume:
    """Step smoothly from 0 to 1."""
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -40, 40))), np.float32)

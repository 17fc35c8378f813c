"""Triangles to pixels: which pixels a triangle covers, and where in it each one lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int64

NUDGE = 1e-4
"""Sampling points lie this far off the pixel centres, or edges on the symmetry plane, where
vertices share one coordinate with the centres, would be counted twice or not at all [pixels]."""


class Cover(NamedTuple):
    """Pixels covered by triangles, one entry for each pair of triangle and pixel."""

    triangle: Int64[np.ndarray, " n"]
    pixel: Int64[np.ndarray, " n"]
    """Index into the flattened picture."""
    corners: Float64[np.ndarray, "n 3"]
    """Barycentric coordinates, sum 1."""


def cover(
    points: Float64[np.ndarray, "v 2"],
    triangles: Int64[np.ndarray, "t 3"],
    size: tuple[int, int],
) -> Cover:
    """Find the pixels whose centre lies in each triangle.

    `points` are (column, row) in pixels, (0, 0) the centre of the first one; `size` is height and
    width. Triangles of either orientation count; a pixel on a shared edge falls to one of them.
    """
    height, width = size
    corners = points[triangles] - NUDGE * np.array([1.0, 1.37])
    low = np.maximum(np.ceil(corners.min(1)), 0).astype(np.int64)
    high = np.minimum(np.floor(corners.max(1)), (width - 1, height - 1)).astype(np.int64)
    extent = np.maximum(high - low + 1, 0)
    count = extent[:, 0] * extent[:, 1]
    triangle = np.repeat(np.arange(len(triangles)), count)
    step = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
    down, right = np.divmod(step, extent[triangle, 0])
    column, row = low[triangle, 0] + right, low[triangle, 1] + down
    weights, inside = barycentric(corners, triangle, column, row)
    return Cover(triangle[inside], (row * width + column)[inside], weights[inside])


def barycentric(
    corners: Float64[np.ndarray, "t 3 2"],
    triangle: Int64[np.ndarray, " n"],
    column: Int64[np.ndarray, " n"],
    row: Int64[np.ndarray, " n"],
) -> tuple[Float64[np.ndarray, "n 3"], Bool[np.ndarray, " n"]]:
    """Give barycentric coordinates of pixel centres, and whether they lie inside."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = cross(b - a, c - a)
    scale = 1 / np.where(area == 0, np.inf, area)
    # Each coordinate is linear in column and row: one gradient and one constant a triangle.
    second = np.stack([c[:, 1] - a[:, 1], a[:, 0] - c[:, 0]], 1) * scale[:, None]
    third = np.stack([a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]], 1) * scale[:, None]
    dx, dy = column - a[triangle, 0], row - a[triangle, 1]
    v = second[triangle, 0] * dx + second[triangle, 1] * dy
    w = third[triangle, 0] * dx + third[triangle, 1] * dy
    u = 1 - v - w
    flat = area[triangle] == 0
    return np.stack([u, v, w], 1), (u >= 0) & (v >= 0) & (w >= 0) & ~flat


def nearest(
    points: Float64[np.ndarray, "n 3"], queries: Float64[np.ndarray, "m 3"], count: int
) -> tuple[Float64[np.ndarray, "m k"], Int64[np.ndarray, "m k"]]:
    """Find the `count` (2 or more) nearest points to each query: distances and indices."""
    distance, index = cKDTree(points).query(queries, count)
    return np.asarray(distance), np.asarray(index)


def cross(
    a: Float64[np.ndarray, "n 2"], b: Float64[np.ndarray, "n 2"]
) -> Float64[np.ndarray, " n"]:
    """Give twice the signed area that two edges span."""
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def fill_inside(
    vertices: Float64[np.ndarray, "v 3"],
    triangles: Int64[np.ndarray, "t 3"],
    origin: tuple[float, float, float],
    step_mm: float,
    shape: tuple[int, int, int],
) -> Bool[np.ndarray, "x y z"]:
    """Voxelise a surface by the parity of crossings along y, from above.

    The head is open at the shoulder cut below; rays enter through the vertex and stay inside.
    """
    grid = (vertices - origin) / step_mm
    hits = cover(grid[:, [2, 0]], triangles, (shape[0], shape[2]))
    y = (grid[triangles[hits.triangle], 1] * hits.corners).sum(1)
    crossings = np.zeros((shape[0] * shape[2], shape[1] + 1), np.int32)
    np.add.at(crossings, (hits.pixel, np.clip(np.ceil(y), 0, shape[1]).astype(np.int64)), 1)
    below = crossings[:, ::-1].cumsum(1)[:, ::-1][:, 1:] % 2 == 1
    return np.asarray(below.reshape(shape[0], shape[2], shape[1]).transpose(0, 2, 1))

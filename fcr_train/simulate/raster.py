"""Triangles to pixels: which pixels a triangle covers, and where in it each one lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int64

    Spans = Int64[np.ndarray, " n"]

NUDGE = 1e-4
"""Sampling points lie this far off the pixel centres, or edges on the symmetry plane, where
vertices share one coordinate with the centres, would be counted twice or not at all [pixels]."""
SLACK = 1e-6
"""Runs of pixels reach this much farther than computed, so that rounding loses none [pixels]."""


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
    corners = points[triangles] - NUDGE * np.array([1.0, 1.37])
    triangle, row, first, count = spans(corners, size)
    along = steps(count)
    weights, inside = barycentric(corners, triangle, row, first, count, along)
    pixel = np.repeat(row * size[1] + first, count) + along
    return Cover(np.repeat(triangle, count)[inside], pixel[inside], weights[inside])


def spans(
    corners: Float64[np.ndarray, "t 3 2"], size: tuple[int, int]
) -> tuple[Spans, Spans, Spans, Spans]:
    """Cut triangles into runs of pixels along rows: triangle, row, first column and length.

    Triangles without area have none. A run may hold one pixel too many at either end, never one
    too few.
    """
    height, width = size
    order = np.argsort(corners[:, :, 1], 1)
    top, middle, bottom = (
        np.take_along_axis(corners, order[:, k, None, None], 1)[:, 0] for k in range(3)
    )
    low = np.maximum(np.ceil(top[:, 1]), 0).astype(np.int64)
    high = np.minimum(np.floor(bottom[:, 1]), height - 1).astype(np.int64)
    rows = np.maximum(high - low + 1, 0)
    triangle = np.repeat(np.arange(len(corners)), rows)
    row = low[triangle] + steps(rows)
    long = crossing(top, bottom, triangle, row)
    upper = row < middle[triangle, 1]
    short = np.where(
        upper, crossing(top, middle, triangle, row), crossing(middle, bottom, triangle, row)
    )
    first = np.ceil(np.maximum(np.minimum(long, short), 0) - SLACK).astype(np.int64)
    last = np.floor(np.minimum(np.maximum(long, short), width - 1) + SLACK).astype(np.int64)
    first, last = np.maximum(first, 0), np.minimum(last, width - 1)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    met = (last >= first) & (cross(b - a, c - a) != 0)[triangle]
    return triangle[met], row[met], first[met], (last - first + 1)[met]


def steps(counts: Spans) -> Spans:
    """Count 0, 1, 2, ... within each run.

    >>> steps(np.array([2, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    ends = np.cumsum(counts)
    return np.asarray(np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts))


def crossing(
    start: Float64[np.ndarray, "t 2"],
    end: Float64[np.ndarray, "t 2"],
    triangle: Spans,
    row: Spans,
) -> Float64[np.ndarray, " n"]:
    """Give the column at which an edge of each run's triangle crosses the row."""
    rise = end[:, 1] - start[:, 1]
    slope = (end[:, 0] - start[:, 0]) / np.where(rise == 0, np.inf, rise)
    return np.asarray(start[triangle, 0] + (row - start[triangle, 1]) * slope[triangle])


def barycentric(
    corners: Float64[np.ndarray, "t 3 2"],
    triangle: Spans,
    row: Spans,
    first: Spans,
    count: Spans,
    along: Spans,
) -> tuple[Float64[np.ndarray, "n 3"], Bool[np.ndarray, " n"]]:
    """Give barycentric coordinates of the pixels of runs, and whether they lie inside.

    `along` counts the pixels of each run from 0.
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = cross(b - a, c - a)
    scale = 1 / np.where(area == 0, np.inf, area)
    dx = np.repeat(first - a[triangle, 0], count) + along
    dy = row - a[triangle, 1]
    # Each coordinate is linear in column and row; what the row adds is the same along a run.
    second = (c[:, 1] - a[:, 1]) * scale, (a[:, 0] - c[:, 0]) * scale
    third = (a[:, 1] - b[:, 1]) * scale, (b[:, 0] - a[:, 0]) * scale
    v, w = (
        np.repeat(across[triangle], count) * dx + np.repeat(down[triangle] * dy, count)
        for across, down in (second, third)
    )
    u = 1 - v - w
    return np.stack([u, v, w], 1), (u >= 0) & (v >= 0) & (w >= 0)


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

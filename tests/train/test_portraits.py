"""Portraits and looks: facts that hold for every simulated person."""

from __future__ import annotations

import numpy as np

from fcr_train.simulate.raster import cover


def cover_slowly(points: np.ndarray, triangles: np.ndarray, size: int) -> set[tuple[int, int]]:
    """Every pixel against every triangle, by the signs of three areas."""
    rows, columns = np.divmod(np.arange(size * size), size)
    # The same sampling points as cover: a hair off the pixel centres.
    x, y = columns + 1e-4, rows + 1.37e-4
    found = set()
    for index, corners in enumerate(points[triangles]):
        sides = []
        for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0), strict=True):
            sides.append((bx - ax) * (y - ay) - (by - ay) * (x - ax))
        inside = np.all(np.sign(sides) == np.sign(sides[0]), axis=0)
        found |= {(index, int(pixel)) for pixel in np.flatnonzero(inside)}
    return found


# Triangles to pixels


def test_covered_pixels_are_those_of_the_slow_rule() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-6, 30, (40, 2))
    points[:8] = np.round(points[:8])
    triangles = rng.integers(0, 40, (120, 3))
    triangles = triangles[(np.diff(np.sort(triangles, 1), axis=1) > 0).all(1)]

    hits = cover(points, triangles, (24, 24))

    pairs = list(zip(hits.triangle.tolist(), hits.pixel.tolist(), strict=True))
    assert set(pairs) == cover_slowly(points, triangles, 24)
    assert len(pairs) == len(set(pairs))
    at = (hits.corners[:, :, None] * points[triangles[hits.triangle]]).sum(1)
    assert np.abs(at - np.stack([hits.pixel % 24, hits.pixel // 24], 1)).max() < 2e-4

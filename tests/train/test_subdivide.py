"""Subdivision: a smoother surface of the same shape."""

from __future__ import annotations

import numpy as np

from fcr_train.simulate.head import load_head, mirrored
from fcr_train.simulate.subdivide import subdivide

OCTAHEDRON = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
FACES = np.array(
    [
        [a, b, c] if sign > 0 else [a, c, b]
        for a, x in ((0, 1), (1, -1))
        for b, y in ((2, 1), (3, -1))
        for c, z in ((4, 1), (5, -1))
        for sign in [x * y * z]
    ]
)


def volume(points: np.ndarray, triangles: np.ndarray) -> float:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def test_an_octahedron_becomes_rounder_and_stays_closed() -> None:
    finer = subdivide(FACES, 6)
    again = subdivide(finer.triangles, 18)

    points = again(finer(OCTAHEDRON))

    radius = np.linalg.norm(points, axis=1)
    assert len(again.triangles) == 16 * len(FACES)
    assert radius.std() / radius.mean() < 0.1
    assert 0 < volume(points, again.triangles) < volume(OCTAHEDRON, FACES)
    edges = np.sort(np.concatenate([again.triangles[:, [k, (k + 1) % 3]] for k in range(3)]), 1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_a_flat_sheet_stays_flat_and_keeps_its_border() -> None:
    sheet = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]], float)

    finer = subdivide(np.array([[0, 1, 2], [0, 2, 3]]), 4)

    points = finer(sheet)
    np.testing.assert_allclose(points[:4], sheet)
    np.testing.assert_allclose(points[:, 2], 0)
    assert {(1, 0), (2, 1), (1, 2), (0, 1)} <= {tuple(p[:2]) for p in points[4:]}


def test_the_solid_head_is_symmetric_and_hardly_smaller() -> None:
    head = load_head()
    reference = head.reference()

    solid = head.as_solid(reference)

    flipped = head.as_solid(mirrored(reference, head.mirror))
    np.testing.assert_allclose(flipped, solid, atol=1e-9)
    assert np.abs(np.ptp(solid, axis=0) - np.ptp(reference[~head.is_eye], axis=0)).max() < 1.5

"""A smoother surface through a coarse mesh: one step of Loop's subdivision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array, vstack

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int64

    Triangles = Int64[np.ndarray, "t 3"]


@dataclass(frozen=True)
class Finer:
    """A mesh with four triangles for each of a coarse one's."""

    triangles: Triangles
    weights: csr_array
    """Of the coarse vertices at each of the finer ones, rows summing to 1."""

    def __call__(self, shape: Float64[np.ndarray, "v 3"]) -> Float64[np.ndarray, "w 3"]:
        """Carry positions of the coarse vertices to the finer mesh."""
        return np.asarray(self.weights @ shape)


def subdivide(triangles: Triangles, vertices: int) -> Finer:
    """Subdivide a mesh by the rules of Loop 1987 with the weights of Warren 1995.

    An edge of one triangle, or of more than two, is a border: it is halved, its ends stay.
    """
    corners = np.concatenate([triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    opposite = np.concatenate([triangles[:, c] for c in (2, 0, 1)])
    edges, edge = np.unique(np.sort(corners, 1), axis=0, return_inverse=True)
    inner = np.bincount(edge, minlength=len(edges)) == 2
    middles = halve_edges(edges, edge, opposite, inner, vertices)
    weights = vstack([round_corners(edges, inner, vertices), middles], format="csr")
    a, b, c = triangles.T
    ab, bc, ca = vertices + edge.reshape(3, -1)
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return Finer(np.concatenate([np.stack(part, 1) for part in parts]), csr_array(weights))


def halve_edges(
    edges: Int64[np.ndarray, "e 2"],
    edge: Int64[np.ndarray, " n"],
    opposite: Int64[np.ndarray, " n"],
    inner: Bool[np.ndarray, " e"],
    vertices: int,
) -> coo_array:
    """Weigh the vertices around the middle of each edge: 3/8 its ends, 1/8 those opposite."""
    ends = np.where(inner, 3 / 8, 1 / 2)
    both = inner[edge]
    values = np.concatenate([ends, ends, np.full(both.sum(), 1 / 8)])
    rows = np.concatenate([np.arange(len(edges)), np.arange(len(edges)), edge[both]])
    columns = np.concatenate([edges[:, 0], edges[:, 1], opposite[both]])
    return coo_array((values, (rows, columns)), shape=(len(edges), vertices))


def round_corners(
    edges: Int64[np.ndarray, "e 2"], inner: Bool[np.ndarray, " e"], vertices: int
) -> coo_array:
    """Weigh each vertex against its neighbours; on a border it stays."""
    count = np.bincount(edges.ravel(), minlength=vertices)
    share = np.where(count > 3, 3 / (8 * np.maximum(count, 1)), 3 / 16)
    share[edges[~inner]] = 0
    ends, others = np.concatenate([edges, edges[:, ::-1]]).T
    values = np.concatenate([1 - count * share, share[ends]])
    rows = np.concatenate([np.arange(vertices), ends])
    columns = np.concatenate([np.arange(vertices), others])
    return coo_array((values, (rows, columns)), shape=(vertices, vertices))

"""Search over enrolled faces: exact, or HNSW that proposes and exact arithmetic that decides.

Measured on synthetic 1024-d embeddings, exact search stays under 15 ms up to 50,000 faces on two
cores; below about 20,000 HNSW is no faster at equal recall.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float32, Float64, Int64, UInt64

    from fcr_edge.gallery.records import Mode, Probe, View

logger = logging.getLogger(__name__)

EXACT_LIMIT = 1_000_000
"""Faces up to which mode "auto" searches exactly.

A graph answers faster from about 50,000 on, but it is not kept in the file: building it would cost
each command minutes, where exact search of a million takes 0.3 s.
"""
DECIMALS = 6
"""To which a similarity is rounded: what float32 vectors of two devices agree on."""

CONNECTIVITY = 32
EF_CONSTRUCTION = 200
RECALL_SAMPLE = 100
_GRAPH_SEED = 1


@dataclass(frozen=True, eq=False)
class Faces:
    """All enrolled faces in memory, ordered by person id, then photo hash."""

    matrix: Float32[np.ndarray, "n d"]
    """Unit vectors, at least one."""
    owners: Int64[np.ndarray, " n"]
    """Index of each face's person, ascending from 0 without a gap."""

    @property
    def people(self) -> int:
        """How many people the faces belong to."""
        return int(self.owners[-1]) + 1

    @property
    def first_rows(self) -> Int64[np.ndarray, " p"]:
        """Give the row of each person's first face."""
        return np.flatnonzero(np.diff(self.owners, prepend=-1))


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best face of each of the most similar people, most similar first."""

    owners: list[int]
    """Index of the person."""
    nth: list[int]
    """Which of the person's faces, from 0."""
    similarities: list[float]


@dataclass(frozen=True, eq=False)
class JointRanking:
    """The people most similar to several probes together, most similar first."""

    owners: list[int]
    """Index of the person."""
    scores: list[float]
    """See Candidate.similarity."""
    nth: list[list[int]]
    """By person and probe: which of the person's faces was most similar, from 0; -1 for none."""
    similarities: list[list[float]]
    """By person and probe, of that face; NaN for none."""
    people: int
    """How many people have a face that could be of a probe's view."""


class Searcher(Protocol):
    """Proposes the faces among which the nearest people are."""

    @property
    def mode(self) -> Literal["exact", "hnsw"]:
        """Which kind it is."""

    def propose(self, probe: Float32[np.ndarray, " d"], k: int) -> Int64[np.ndarray, " m"]:
        """Give rows of faces that cover the k nearest people, or all if there are fewer."""

    def ef_search(self, k: int) -> int | None:
        """Give the breadth of a search for k people; None where there is no such thing."""

    def recall(self, k: int) -> float:
        """Give the share of the true first k that is found, 0 to 1."""


class ExactSearcher:
    """Compares the probe with every face."""

    mode: Literal["exact"] = "exact"

    def __init__(self, faces: Faces) -> None:
        self._faces = faces

    def propose(
        self,
        probe: Float32[np.ndarray, " d"],
        k: int,
        admitted: Bool[np.ndarray, " p"] | None = None,
    ) -> Int64[np.ndarray, " m"]:
        """Give the faces that are, within rounding, as near as the k-th person's nearest.

        `admitted` says of each person whether they count; None admits everybody.
        """
        similarities = self._faces.matrix @ probe
        if admitted is not None:
            similarities[~admitted[self._faces.owners]] = -np.inf
        if k >= (self._faces.people if admitted is None else admitted.sum()):
            return np.flatnonzero(similarities > -np.inf)
        nearest = np.maximum.reduceat(similarities, self._faces.first_rows)
        kth = np.partition(nearest, -k)[-k]
        # The float32 product of two unit vectors errs by up to dimension x epsilon (Higham 2002,
        # eq. 3.7), and rank() rounds: what could still reach the k-th place is kept.
        slack = 2 * len(probe) * np.finfo(np.float32).eps + 10.0**-DECIMALS
        return np.flatnonzero(similarities >= kth - slack)

    def ef_search(self, k: int) -> None:
        """Exact search has no such setting."""

    def recall(self, k: int) -> float:
        """Nothing is missed."""
        return 1.0


class HnswSearcher:
    """Asks a graph of near neighbours (Malkov and Yashunin 2018) for about ten faces a candidate.

    The graph is built here, single-threaded from rows in order, because only then are two builds
    the same. It takes minutes above 50,000 faces.
    """

    mode: Literal["hnsw"] = "hnsw"

    def __init__(self, faces: Faces) -> None:
        self._faces = faces
        self._graph = _build_graph(faces.matrix)
        self._recalls: dict[int, float] = {}

    def propose(self, probe: Float32[np.ndarray, " d"], k: int) -> Int64[np.ndarray, " m"]:
        """Give the nearest faces the graph knows, enough of them for k people."""
        count, people = len(self._faces.matrix), min(k, self._faces.people)
        wanted = _breadth(k)
        while wanted < count:
            rows = _nearest(self._graph, probe, wanted)
            if rows is None:
                logger.warning(
                    "parts of the graph cannot be reached: all %d faces compared", count
                )
                break
            if len(np.unique(self._faces.owners[rows])) >= people:
                return rows
            wanted *= 2
        return np.arange(count)

    def ef_search(self, k: int) -> int:
        """Give the breadth with which the graph is first asked."""
        return _ef_search(_breadth(k))

    def recall(self, k: int) -> float:
        """Measure once for each k how many of the true first k are found for enrolled faces."""
        if k not in self._recalls:
            self._recalls[k] = measure_recall(self._faces, self, k)
        return self._recalls[k]


class Index:
    """The faces of an open gallery and the searchers over them, each made when first asked for."""

    def __init__(self, faces: Faces) -> None:
        self.faces = faces
        self._searchers: dict[str, Searcher] = {}

    def searcher(self, mode: Mode) -> Searcher:
        """Give the searcher for a mode; "auto" is exact up to EXACT_LIMIT faces."""
        if mode == "auto":
            mode = "exact" if len(self.faces.matrix) <= EXACT_LIMIT else "hnsw"
        if mode not in self._searchers:
            make: type[ExactSearcher | HnswSearcher]
            make = ExactSearcher if mode == "exact" else HnswSearcher
            self._searchers[mode] = make(self.faces)
        return self._searchers[mode]


def to_unit(vectors: Float32[np.ndarray, "*n d"]) -> Float32[np.ndarray, "*n d"]:
    """Divide each vector by its norm, so that a product of two is their cosine."""
    unit: Float32[np.ndarray, "*n d"] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def rank(
    faces: Faces, rows: Int64[np.ndarray, " m"], probe: Float32[np.ndarray, " d"], k: int
) -> Ranking:
    """Order the people behind the proposed faces by their best face, and keep the first k.

    Similarities are summed in float64, clipped to [-1, 1] and rounded; among equal ones the lower
    row, which is the lower person id, comes first.
    """
    products = np.einsum("md,d->m", faces.matrix[rows], probe, dtype=np.float64)
    similarities = np.round(np.clip(products, -1, 1), DECIMALS)
    order = np.lexsort((rows, -similarities))
    _, first = np.unique(faces.owners[rows[order]], return_index=True)
    best = order[np.sort(first)[:k]]
    owners = faces.owners[rows[best]]
    nth = rows[best] - np.searchsorted(faces.owners, owners)
    return Ranking(owners.tolist(), nth.tolist(), similarities[best].tolist())


def rank_together(
    faces: Faces,
    views: Sequence[View | None],
    probes: Sequence[Probe],
    k: int,
    admitted: Bool[np.ndarray, " p"] | None = None,
) -> JointRanking:
    """Order everybody by all probes together, and keep the first k; every face is compared.

    A probe is compared with the faces of its view and with those of unknown view. Among equal
    scores the lower person id comes first. `admitted` says of each person whether they count.
    """
    found = [_compare(faces, views, probe) for probe in probes]
    if admitted is not None:
        found = [np.where(admitted[faces.owners], row, -np.inf) for row in found]
    best = np.stack([np.maximum.reduceat(row, faces.first_rows) for row in found])
    known = np.isfinite(best)
    scaled = [(row - probe.mean) / probe.sd for row, probe in zip(best, probes, strict=True)]
    count = known.sum(axis=0)
    total = np.where(known, scaled, 0).sum(axis=0)
    scores = np.round(total / np.sqrt(np.maximum(count, 1)), DECIMALS)
    order = np.lexsort((np.arange(len(scores)), -scores, count == 0))[: min(k, (count > 0).sum())]
    ends = np.append(faces.first_rows, len(faces.owners))
    nth = [
        [
            int(row[ends[owner] : ends[owner + 1]].argmax()) if has else -1
            for row, has in zip(found, known[:, owner], strict=True)
        ]
        for owner in order
    ]
    similarities = np.where(known, best, np.nan).T[order]
    people = int((count > 0).sum())
    return JointRanking(order.tolist(), scores[order].tolist(), nth, similarities.tolist(), people)


def _compare(
    faces: Faces, views: Sequence[View | None], probe: Probe
) -> Float64[np.ndarray, " n"]:
    """Give the similarity of each face that could be of the probe's view, -inf for the others."""
    products = np.einsum(
        "nd,d->n", faces.matrix, to_unit(probe.embedding), dtype=np.float64, casting="safe"
    )
    similarities = np.round(np.clip(products, -1, 1), DECIMALS)
    fits = np.array([view in (None, probe.view) for view in views])
    return np.where(fits, similarities, -np.inf)


def measure_recall(faces: Faces, searcher: Searcher, k: int) -> float:
    """Search for up to 100 enrolled faces, spread evenly, and compare with exact search [0..1].

    A person counts as found when as similar as the true k-th: ties are no loss.
    """
    exact = ExactSearcher(faces)
    found = expected = 0
    for row in np.unique(np.linspace(0, len(faces.matrix) - 1, RECALL_SAMPLE).astype(np.int64)):
        probe = faces.matrix[row]
        truth = rank(faces, exact.propose(probe, k), probe, k).similarities
        given = rank(faces, searcher.propose(probe, k), probe, k).similarities
        found += sum(similarity >= truth[-1] for similarity in given)
        expected += len(truth)
    return found / expected


class _Graph(Protocol):
    """What is used of hnswlib.Index, which carries no types of its own."""

    dim: int

    def init_index(
        self, max_elements: int, M: int, ef_construction: int, random_seed: int
    ) -> None: ...

    def add_items(
        self, data: Float32[np.ndarray, "n d"], ids: Int64[np.ndarray, " n"], num_threads: int
    ) -> None: ...

    def set_ef(self, ef: int) -> None: ...

    def knn_query(
        self, data: Float32[np.ndarray, "1 d"], k: int, num_threads: int
    ) -> tuple[UInt64[np.ndarray, "1 k"], Float32[np.ndarray, "1 k"]]: ...


def _build_graph(matrix: Float32[np.ndarray, "n d"]) -> _Graph:
    import hnswlib

    logger.info("building the HNSW graph of %d faces", len(matrix))
    # Inner product of vectors that are unit length already: hnswlib's own cosine would keep
    # other copies than the ones that are ranked. Labels are given, never counted by hnswlib.
    graph: _Graph = hnswlib.Index(space="ip", dim=matrix.shape[1])
    graph.init_index(
        max_elements=len(matrix),
        M=CONNECTIVITY,
        ef_construction=EF_CONSTRUCTION,
        random_seed=_GRAPH_SEED,
    )
    graph.add_items(matrix, np.arange(len(matrix)), num_threads=1)
    return graph


def _nearest(
    graph: _Graph, probe: Float32[np.ndarray, " d"], wanted: int
) -> Int64[np.ndarray, " m"] | None:
    """Ask for the labels of the nearest faces; None if the graph does not reach so many."""
    if probe.shape != (graph.dim,):  # hnswlib would read past the end of the probe
        raise ValueError(f"probe of shape {probe.shape} for a graph of dimension {graph.dim}")
    graph.set_ef(_ef_search(wanted))
    try:
        labels, _ = graph.knn_query(probe[None], k=wanted, num_threads=1)
    except RuntimeError:  # hnswlib's word for fewer than k found
        return None
    rows: Int64[np.ndarray, " m"] = labels[0].astype(np.int64)
    return rows


def _breadth(k: int) -> int:
    """How many faces to ask for: ten a candidate leaves room for several photos a person."""
    return max(50, 10 * k)


def _ef_search(wanted: int) -> int:
    """ef_search for so many faces: recall 0.999 or better at 50,000 faces (measured)."""
    return max(400, 4 * wanted)

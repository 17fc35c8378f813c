"""Exact search is a plain cosine ranking; HNSW gives the same answer and says how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcr_edge.errors import GalleryError
from fcr_edge.gallery import Gallery, Person, Photo, Probe, View
from fcr_edge.gallery import search as search_module
from fcr_edge.gallery.search import (
    ExactSearcher,
    Faces,
    HnswSearcher,
    Index,
    Searcher,
    rank,
    rank_together,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float32

HNSW_RECALL = 0.99  # measured 1.000 on these vectors; HNSW promises no more than a share


def make_faces(seed: int, people: int, dimension: int, most: int = 3) -> Faces:
    """Random unit vectors, 1 to `most` a person."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(people), rng.integers(1, most + 1, people))
    matrix = rng.standard_normal((len(owners), dimension)).astype(np.float32)
    return Faces(search_module.to_unit(matrix), owners)


def make_probe(seed: int, dimension: int) -> Float32[np.ndarray, " d"]:
    return make_faces(seed, 1, dimension, most=1).matrix[0]


def rank_slowly(faces: Faces, probe: Float32[np.ndarray, " d"], k: int) -> list[tuple[float, int]]:
    """What search must answer: by similarity, then by person."""
    best: dict[int, float] = {}
    for vector, owner in zip(faces.matrix.astype(np.float64), faces.owners.tolist(), strict=True):
        similarity = round(float(vector @ probe.astype(np.float64)), 6)
        best[owner] = max(best.get(owner, -2.0), similarity)
    return sorted((-similarity, owner) for owner, similarity in best.items())[:k]


def run(faces: Faces, searcher: Searcher, probe: Float32[np.ndarray, " d"], k: int) -> list[tuple]:
    found = rank(faces, searcher.propose(probe, k), probe, k)
    return [(-s, owner) for s, owner in zip(found.similarities, found.owners, strict=True)]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    people=st.integers(1, 60),
    dimension=st.integers(2, 40),
    k=st.integers(1, 70),
)
def test_exact_search_is_the_plain_ranking(seed: int, people: int, dimension: int, k: int) -> None:
    faces, probe = make_faces(seed, people, dimension), make_probe(seed + 1, dimension)

    found = run(faces, ExactSearcher(faces), probe, k)

    assert [owner for _, owner in found] == [owner for _, owner in rank_slowly(faces, probe, k)]
    np.testing.assert_allclose(
        [s for s, _ in found], [s for s, _ in rank_slowly(faces, probe, k)], atol=2e-6
    )


@pytest.mark.parametrize("count", [5, 64, 1_001])
def test_copies_of_one_face_keep_the_order_of_people(count: int) -> None:
    faces = Faces(np.tile(make_probe(1, 333), (count, 1)), np.arange(count))
    probe = make_probe(2, 333)

    found = rank(faces, ExactSearcher(faces).propose(probe, 5), probe, 5)

    assert found.owners == [0, 1, 2, 3, 4]
    assert len(set(found.similarities)) == 1


def rank_together_slowly(
    faces: Faces, views: list[View | None], probes: list[Probe], k: int
) -> list[tuple[float, int]]:
    """What a search with several probes must answer: by score, then by person."""
    scores = []
    for owner in np.unique(faces.owners).tolist():
        scaled = []
        for probe in probes:
            products = [
                round(float(faces.matrix[row].astype(np.float64) @ probe.embedding), 6)
                for row in np.flatnonzero(faces.owners == owner)
                if views[row] in (None, probe.view)
            ]
            if products:
                scaled.append((max(products) - probe.mean) / probe.sd)
        if scaled:
            scores.append((-round(sum(scaled) / len(scaled) ** 0.5, 6), owner))
    return sorted(scores)[:k]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), people=st.integers(1, 40), k=st.integers(1, 50))
def test_search_with_several_probes_is_the_plain_ranking(seed: int, people: int, k: int) -> None:
    faces, rng = make_faces(seed, people, 16), np.random.default_rng(seed)
    shown: list[View | None] = ["frontal", "lateral", None]
    views = [shown[rng.integers(3)] for _ in faces.owners]
    probes = [
        Probe(make_probe(seed + 1, 16), "frontal", 0.1, 0.2),
        Probe(make_probe(seed + 2, 16), "lateral", -0.2, 0.3),
    ][: rng.integers(1, 3)]

    found = rank_together(faces, views, probes, k)

    expected = rank_together_slowly(faces, views, probes, k)
    assert found.owners == [owner for _, owner in expected]
    np.testing.assert_allclose(found.scores, [-score for score, _ in expected], atol=2e-5)
    for owner, nth, similarities in zip(found.owners, found.nth, found.similarities, strict=True):
        first = int(np.flatnonzero(faces.owners == owner)[0])
        for which, similarity, probe in zip(nth, similarities, probes, strict=True):
            if which < 0:
                assert np.isnan(similarity)
                continue
            assert views[first + which] in (None, probe.view)
            product = faces.matrix[first + which] @ probe.embedding
            assert similarity == pytest.approx(product, abs=2e-6)


def test_whoever_lacks_a_view_competes_on_equal_terms() -> None:
    rng = np.random.default_rng(4)
    people, dimension = 20_000, 8
    matrix = search_module.to_unit(rng.standard_normal((2 * people, dimension)).astype(np.float32))
    # The first half of the people have both views, the others a frontal photo alone.
    faces = Faces(
        matrix[: people + people // 2],
        np.concatenate([np.repeat(np.arange(people // 2), 2), np.arange(people // 2, people)]),
    )
    views: list[View | None] = ["frontal", "lateral"] * (people // 2) + ["frontal"] * (people // 2)
    sd = dimension**-0.5
    probes = [
        Probe(make_probe(5, dimension), "frontal", 0, sd),
        Probe(make_probe(6, dimension), "lateral", 0, sd),
    ]

    first = rank_together(faces, views, probes, 2_000).owners

    # Strangers all: either half has to fill half of the list (sd of the share is .011).
    assert np.mean(np.array(first) < people // 2) == pytest.approx(0.5, abs=0.1)


def test_the_best_photo_of_a_person_counts_and_is_named() -> None:
    matrix = np.eye(4, dtype=np.float32)
    faces = Faces(matrix, np.array([0, 0, 0, 1]))

    found = rank(faces, np.arange(4), matrix[2], 2)

    assert (found.owners, found.nth, found.similarities) == ([0, 1], [2, 0], [1.0, 0.0])


def test_similarities_lie_between_minus_one_and_one() -> None:
    face = make_probe(1, 100)
    faces = Faces(np.stack([face, -face]) * np.float32(1.0001), np.array([0, 1]))

    found = rank(faces, np.arange(2), face, 2)

    assert found.similarities == [1.0, -1.0]


def test_hnsw_gives_the_exact_answer() -> None:
    faces = make_faces(1, people=1500, dimension=32)
    hnsw, exact = HnswSearcher(faces), ExactSearcher(faces)
    probes = [make_probe(seed, 32) for seed in range(100, 150)]

    pairs = [(run(faces, hnsw, probe, 10), run(faces, exact, probe, 10)) for probe in probes]

    share = np.mean([len(set(given) & set(truth)) / 10 for given, truth in pairs])
    assert share >= HNSW_RECALL
    assert hnsw.recall(10) >= HNSW_RECALL
    assert (hnsw.ef_search(10), hnsw.ef_search(50)) == (400, 2000)


def test_hnsw_is_the_same_graph_each_time() -> None:
    faces, probe = make_faces(2, people=600, dimension=16), make_probe(9, 16)

    first, second = (HnswSearcher(faces).propose(probe, 10) for _ in range(2))

    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("k", [1, 49, 50, 51, 400])
def test_hnsw_gives_all_there_are_when_asked_for_more(k: int) -> None:
    faces, probe = make_faces(3, people=50, dimension=8), make_probe(4, 8)

    found = run(faces, HnswSearcher(faces), probe, k)

    assert found == run(faces, ExactSearcher(faces), probe, k)
    assert len(found) == min(k, 50)


def test_hnsw_finds_k_people_though_one_has_most_photos() -> None:
    probe = make_probe(1, 16)
    crowd = search_module.to_unit(
        probe + np.float32(0.01) * np.random.default_rng(1).standard_normal((300, 16), np.float32)
    )
    others = make_faces(2, people=200, dimension=16, most=1)
    faces = Faces(
        np.concatenate([crowd, others.matrix]),
        np.concatenate([np.zeros(300, np.int64), 1 + others.owners]),
    )

    found = run(faces, HnswSearcher(faces), probe, 5)

    assert found == run(faces, ExactSearcher(faces), probe, 5)
    assert len(found) == 5


def test_a_graph_that_reaches_too_few_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    faces, probe = make_faces(3, people=200, dimension=8), make_probe(4, 8)
    searcher = HnswSearcher(faces)
    monkeypatch.setattr(search_module, "_nearest", lambda *_: None)

    assert run(faces, searcher, probe, 5) == run(faces, ExactSearcher(faces), probe, 5)


def test_a_probe_of_another_length_never_reaches_the_graph() -> None:
    searcher = HnswSearcher(make_faces(3, people=200, dimension=8))

    with pytest.raises(ValueError, match="dimension 8"):
        searcher.propose(make_probe(1, 7), 1)


def test_recall_counts_what_is_missed() -> None:
    faces = make_faces(5, people=40, dimension=8, most=1)

    class Half(ExactSearcher):
        def propose(self, probe: Float32[np.ndarray, " d"], k: int) -> np.ndarray:
            best = np.argsort(-(faces.matrix @ probe))[:k]
            return best[::2]

    assert search_module.measure_recall(faces, ExactSearcher(faces), 10) == 1.0
    assert search_module.measure_recall(faces, Half(faces), 10) == 0.5


def test_auto_is_exact_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "EXACT_LIMIT", 20)

    below = Index(make_faces(1, people=20, dimension=4, most=1))
    above = Index(make_faces(1, people=21, dimension=4, most=1))

    assert below.searcher("auto").mode == "exact"
    assert above.searcher("auto").mode == "hnsw"
    assert above.searcher("exact").mode == "exact"
    assert above.searcher("hnsw") is above.searcher("auto")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    faces = make_faces(8, people=300, dimension=24, most=2)
    path = tmp_path_factory.mktemp("gallery") / "db.bin"
    with Gallery.create(path, "f" * 64, 24) as gallery:
        for person in range(faces.people):
            rows = np.flatnonzero(faces.owners == person)
            photos = [
                Photo(f"{row:064x}", f"{row}.png", None, b"", faces.matrix[row]) for row in rows
            ]
            gallery.enroll(Person(f"p{person:05d}"), photos)
        yield gallery


def test_both_modes_of_a_gallery_agree(gallery: Gallery) -> None:
    probe = make_probe(5, 24)

    exact, hnsw = gallery.search(probe, 10, "exact"), gallery.search(probe, 10, "hnsw")

    assert hnsw.candidates == exact.candidates
    assert (exact.mode, exact.ef_search, exact.recall) == ("exact", None, 1.0)
    assert (hnsw.mode, hnsw.ef_search, hnsw.recall) == ("hnsw", 400, 1.0)
    assert [candidate.rank for candidate in exact.candidates] == list(range(1, 11))


def test_a_smaller_gallery_gives_fewer_candidates(gallery: Gallery) -> None:
    assert len(gallery.search(make_probe(5, 24), k=1000).candidates) == 300


def test_a_search_is_repeatable(gallery: Gallery) -> None:
    probe = make_probe(5, 24)
    with Gallery.open(gallery.path) as again:
        assert again.search(probe) == gallery.search(probe)


@pytest.mark.parametrize(("k", "mode"), [(0, "auto"), (-1, "exact"), (1, "fast")])
def test_senseless_requests_are_refused(gallery: Gallery, k: int, mode: str) -> None:
    with pytest.raises(GalleryError, match="k is 1 or more"):
        gallery.search(make_probe(5, 24), k, mode)

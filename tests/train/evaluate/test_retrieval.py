from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from torchmetrics.retrieval import RetrievalMAP, RetrievalMRR, RetrievalRecall

from fcr_edge.errors import DataError
from fcr_train.evaluate import retrieval
from fcr_train.evaluate.record import CUTOFFS, RANKS, Bootstrap
from fcr_train.evaluate.retrieval import Label, Outcome, Pictures, Search

LABEL = Label("generated", "frontal", jitter=True)
QUICK = Bootstrap(200, 1)


def make_pictures(people: list[str], seed: int, view: str = "frontal") -> Pictures:
    vectors = np.random.default_rng(seed).normal(size=(len(people), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Pictures(vectors, tuple(people), (view,) * len(people))


def name_people(number: int) -> list[str]:
    return [f"p{i:04d}" for i in range(number)]


def make_search(
    people: int, gallery: int, seed: int = 1, skill: float = 0.0, pictures: int = 2
) -> Search:
    """Random similarities; the mate's are higher by `skill` standard deviations."""
    rng = np.random.default_rng(seed)
    names = name_people(gallery)
    owners = np.repeat(np.arange(gallery), pictures)
    similarity = rng.normal(size=(people, len(owners)))
    similarity += skill * (owners == np.arange(people)[:, None])
    similarity = np.round(similarity, 3).astype(np.float32)
    best = similarity.reshape(people, gallery, pictures).max(axis=2)
    return Search(tuple(names[:people]), tuple(names), best, similarity, owners)


def test_a_search_is_what_loops_over_all_pictures_give() -> None:
    people = [*name_people(300), "p0007", "p0007", "p0299", "stranger", "stranger"]
    gallery = make_pictures(people[::-1], 1)
    probes = make_pictures([*name_people(200), "p0003"], 2)

    found = retrieval.search(probes, gallery, "frontal")

    assert found.probes == tuple(name_people(200))
    assert found.enrolled == (*name_people(300), "stranger")
    for probe, enrolled in [("p0003", "p0007"), ("p0199", "stranger"), ("p0000", "p0000")]:
        cosines = [
            float(a.astype(float) @ b.astype(float))
            for a, who in zip(probes.vectors, probes.people, strict=True)
            for b, owner in zip(gallery.vectors, gallery.people, strict=True)
            if who == probe and owner == enrolled
        ]
        got = found.people[found.probes.index(probe), found.enrolled.index(enrolled)]
        assert got == pytest.approx(max(cosines), abs=1e-6)
    assert found.pictures.shape == (200, 305)
    assert [*np.bincount(found.owners)[[7, 299, 300]]] == [3, 2, 2]


def test_only_photographs_of_the_probes_view_are_searched() -> None:
    names = name_people(5)
    front, side = make_pictures(names, 1), make_pictures(["x"], 2, "lateral")
    both = Pictures(
        np.concatenate([front.vectors, side.vectors]),
        front.people + side.people,
        front.views + side.views,
    )

    found = retrieval.search(make_pictures(names, 3), both, "frontal")

    assert found.enrolled == tuple(names)
    with pytest.raises(DataError, match="no lateral probe"):
        retrieval.search(make_pictures(names, 3), both, "lateral")


def test_a_probe_without_a_mate_is_refused() -> None:
    with pytest.raises(DataError, match="1 people are searched for and not enrolled, p0002"):
        retrieval.search(
            make_pictures(name_people(3), 1), make_pictures(name_people(2), 1), "frontal"
        )


@pytest.mark.parametrize("fault", [np.nan, 0.0, 7.0])
def test_embeddings_that_are_no_unit_vectors_are_refused(fault: float) -> None:
    vectors = np.eye(3, dtype=np.float32)
    vectors[1] *= fault

    with pytest.raises(DataError, match="not 1"):
        Pictures(vectors, ("a", "b", "c"), ("frontal",) * 3)


def test_every_embedding_has_a_person_and_a_view() -> None:
    with pytest.raises(DataError, match="2 people and 3 views"):
        Pictures(np.eye(3, dtype=np.float32), ("a", "b"), ("frontal",) * 3)


@given(
    rows=st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_ranks_lie_between_best_and_worst_of_the_ties(rows: list[list[int]], seed: int) -> None:
    names = name_people(6)
    scores = np.array(rows, np.float32)
    found = retrieval.search_people(names[: len(rows)], names, scores)

    ranks = retrieval.rank_mates(found, np.random.default_rng(seed))

    for person, rank in enumerate(ranks):
        own = scores[person, person]
        assert 1 + (scores[person] > own).sum() <= rank <= (scores[person] >= own).sum()


def test_a_constant_similarity_gives_chance() -> None:
    names = name_people(400)
    found = retrieval.search_people(names, names, np.zeros((400, 400), np.float32))

    outcome = retrieval.measure(found)
    got = retrieval.summarise(outcome, LABEL)
    chance = retrieval.state_chance(outcome, dict.fromkeys(names, 1), LABEL)

    for figures, expected in (
        (got.cmc, chance.cmc),
        (got.recall, chance.recall),
        (got.mean_average_precision, chance.mean_average_precision),
    ):
        for key, share in figures.items():
            assert share.low is not None
            assert share.high is not None
            assert share.low <= expected[key].value <= share.high
    assert got.median_rank.value == pytest.approx(chance.median_rank.value, abs=35)
    for k in RANKS:
        row = chance.cmc[str(k)]
        assert row.low is not None
        assert row.high is not None
        assert row.low <= got.cmc[str(k)].value <= row.high


@pytest.mark.parametrize(
    ("gallery", "shares"),
    [
        (51, (0.020, 0.098, 0.196, 0.392, 0.980)),
        (1000, (0.001, 0.005, 0.010, 0.020, 0.050)),
        (6159, (0.0002, 0.0008, 0.0016, 0.0032, 0.0081)),
        # The seed paper's Table 2 says .04 and .08: what 250 pictures in random order give.
        pytest.param(250, (0.004, 0.02, 0.04, 0.08, 0.2), id="paper"),
    ],
)
def test_chance_is_k_of_n(gallery: int, shares: tuple[float, ...]) -> None:
    zeros = np.zeros((1, 5))
    outcome = Outcome(("a",), gallery, zeros, zeros[0], zeros[0], zeros, zeros)

    chance = retrieval.state_chance(outcome, {"a": 1}, LABEL)

    got = [round(chance.cmc[str(k)].value, 3 if gallery < 6000 else 4) for k in RANKS]
    assert tuple(got) == shares
    assert chance.recall["10"].value == pytest.approx(10 / gallery)


@pytest.mark.parametrize(("relevant", "pictures"), [(1, 6), (3, 6), (5, 5)])
def test_expected_precision_is_the_mean_over_all_orders(relevant: int, pictures: int) -> None:
    k = 4
    precisions = []
    for chosen in itertools.combinations(range(pictures), relevant):
        listed = [place in chosen for place in range(k)]
        hits = np.cumsum(listed)
        precisions.append(sum(hits[i] / (i + 1) for i in range(k) if listed[i]) / min(relevant, k))

    got = retrieval.expect_precision(k, relevant, pictures)

    assert got == pytest.approx(np.mean(precisions))


@pytest.mark.parametrize("pictures", [1, 3, 15])
def test_figures_are_those_of_torchmetrics(pictures: int) -> None:
    people, gallery = 40, 50
    found = make_search(people, gallery, skill=1.5, pictures=pictures)
    # torchmetrics breaks ties by place, and its MRR finds nothing at a score of 0 or less.
    noise = np.random.default_rng(2).random(found.pictures.shape)
    scores = (found.pictures + 1e-3 * noise + 10).astype(np.float32)
    best = scores.reshape(people, gallery, pictures).max(axis=2)
    found = Search(found.probes, found.enrolled, best, scores, found.owners)

    got = retrieval.summarise(retrieval.measure(found), LABEL, QUICK)

    def ask(metric: object, values: np.ndarray, owners: np.ndarray) -> float:
        number = values.shape[1]
        relevant = owners == np.arange(people)[:, None]
        queries = torch.arange(people).repeat_interleave(number)
        value = metric(  # type: ignore[operator]
            torch.from_numpy(values.ravel()), torch.from_numpy(relevant.ravel()), indexes=queries
        )
        return float(value)

    everybody = np.arange(gallery)
    assert got.mean_reciprocal_rank.value == pytest.approx(ask(RetrievalMRR(), best, everybody))
    for k in RANKS:  # One relevant person: recall@k of people is CMC(k).
        expected = ask(RetrievalRecall(top_k=k), best, everybody)
        assert got.cmc[str(k)].value == pytest.approx(expected)
    for k in CUTOFFS:
        expected = ask(RetrievalRecall(top_k=k), scores, found.owners)
        assert got.recall[str(k)].value == pytest.approx(expected)
    if pictures == 1:  # torchmetrics divides by the hits among the first k, not by min(m, k).
        for k in CUTOFFS:
            expected = ask(RetrievalMAP(top_k=k), scores, found.owners)
            assert got.mean_average_precision[str(k)].value == pytest.approx(expected)
    else:
        outcome = retrieval.measure(found)
        hits = np.round(outcome.recall * pictures)
        own = outcome.precision * np.minimum(pictures, np.array(CUTOFFS)) / np.maximum(hits, 1)
        for column, k in enumerate(CUTOFFS):
            expected = ask(RetrievalMAP(top_k=k), scores, found.owners)
            assert own[:, column].mean() == pytest.approx(expected)


def test_average_precision_of_a_hand_computed_list() -> None:
    # The mate's three pictures stand at places 1, 3 and 12.
    similarity = -np.arange(14, dtype=np.float32)[None]
    owners = np.array([0, 1, 0, *[1] * 8, 0, 1, 1])
    found = Search(("a",), ("a", "b"), np.array([[0, -1]], np.float32), similarity, owners)

    outcome = retrieval.measure(found)

    assert outcome.recall == pytest.approx(np.array([[2 / 3, 1]]))
    assert outcome.precision == pytest.approx(
        np.array([[(1 + 2 / 3) / 3, (1 + 2 / 3 + 3 / 12) / 3]])
    )


@given(seed=st.integers(0, 50), pictures=st.integers(1, 6))
@settings(deadline=None, max_examples=20)
def test_precision_never_exceeds_recall_where_all_pictures_fit(seed: int, pictures: int) -> None:
    outcome = retrieval.measure(make_search(20, 30, seed, 1.0, pictures))

    assert np.all(outcome.precision <= outcome.recall + 1e-12)
    assert np.all(np.diff(outcome.reached, axis=1) >= 0)


def test_a_gallery_smaller_than_a_list_counts_what_is_there() -> None:
    outcome = retrieval.measure(make_search(4, 5, pictures=1))

    assert np.all(outcome.recall == 1)
    assert np.all(outcome.reached[:, 1:] == 1)
    assert np.all(outcome.precision == outcome.reciprocal_rank[:, None])


def test_views_are_fused_on_the_scale_of_training_people() -> None:
    frontal, lateral = make_search(3, 4, 1), make_search(3, 4, 2)
    lateral = Search(
        lateral.probes,
        lateral.enrolled,
        lateral.people * 100 + 7,
        lateral.pictures * 100 + 7,
        lateral.owners,
    )
    scales = [retrieval.fit_scale(found) for found in (frontal, lateral)]

    both = retrieval.fuse_views(
        [retrieval.standardise(*pair) for pair in zip((frontal, lateral), scales, strict=True)]
    )

    expected = sum(
        (found.people - found.people.mean()) / found.people.std() / 2
        for found in (frontal, lateral)
    )
    np.testing.assert_allclose(both.people, expected, atol=1e-5)
    assert both.pictures.shape == (3, 16)
    assert np.bincount(both.owners).tolist() == [4] * 4


def test_fusion_keeps_the_people_that_all_searches_have() -> None:
    whole = make_search(3, 5)
    part = whole.restrict([2, 0], [0, 2, 4])

    both = retrieval.fuse_views([whole, part])

    assert both.probes == ("p0000", "p0002")
    assert both.enrolled == ("p0000", "p0002", "p0004")
    np.testing.assert_allclose(both.people, whole.people[np.ix_([0, 2], [0, 2, 4])])


def test_systems_are_fused_by_weight_picture_by_picture() -> None:
    first, second = make_search(3, 4, 1), make_search(3, 4, 2)

    fused = retrieval.fuse_systems([first, second], [3, 1])

    np.testing.assert_allclose(fused.pictures, 0.75 * first.pictures + 0.25 * second.pictures)
    np.testing.assert_allclose(fused.people, 0.75 * first.people + 0.25 * second.people)
    with pytest.raises(DataError, match="different pictures"):
        retrieval.fuse_systems([first, make_search(3, 4, pictures=1)], [1, 1])


def test_a_collapsed_view_has_no_scale() -> None:
    names = name_people(3)
    found = retrieval.search_people(names, names, np.ones((3, 3), np.float32))

    with pytest.raises(DataError, match="collapsed"):
        retrieval.fit_scale(found)


@pytest.mark.parametrize(("people", "size"), [(20, 30), (60, 25), (50, 25)])
def test_drawn_galleries_give_the_hypergeometric_expectation(people: int, size: int) -> None:
    found = make_search(people, 80, skill=1.0, pictures=1)

    outcome = retrieval.measure_drawn(found, size, draws=60)

    # Everybody above the mate is drawn like anybody else; similarities here know no mates.
    ranks = retrieval.measure(found).rank
    expected = hypergeom.cdf(9, 79, ranks.astype(int) - 1, size - 1).mean()
    assert outcome.gallery == size
    assert outcome.people == found.probes
    assert outcome.reached[:, RANKS.index(10)].mean() == pytest.approx(expected, abs=0.03)


def test_a_drawn_gallery_of_everybody_is_the_whole_one() -> None:
    found = make_search(30, 30, skill=1.0, seed=4)
    found = Search(
        found.probes,
        found.enrolled,
        found.people + np.random.default_rng(0).random(found.people.shape) * 1e-4,
        found.pictures,
        found.owners,
    )

    drawn = retrieval.measure_drawn(found, 30, draws=2)

    np.testing.assert_array_equal(drawn.rank, retrieval.measure(found).rank)
    with pytest.raises(DataError, match="gallery of 31 cannot be drawn from 30"):
        retrieval.measure_drawn(found, 31)


def test_the_same_seed_gives_the_same_figures() -> None:
    found = make_search(30, 40)

    first, second = (retrieval.measure_drawn(found, 10, 3, seed=5) for _ in range(2))

    np.testing.assert_array_equal(first.rank, second.rank)
    assert not np.array_equal(first.rank, retrieval.measure_drawn(found, 10, 3, seed=6).rank)


def test_folds_are_joined_and_state_the_smallest_gallery() -> None:
    whole = make_search(30, 30, skill=1)
    parts = [retrieval.measure(whole.restrict(fold, fold)) for fold in (range(16), range(16, 30))]

    joined = retrieval.join(parts)

    assert joined.gallery == 14
    assert len(joined.people) == 30
    assert joined.rank.sum() == sum(part.rank.sum() for part in parts)
    with pytest.raises(DataError, match="two folds"):
        retrieval.join([parts[0], parts[0]])


def test_two_systems_are_compared_on_the_same_people() -> None:
    good, poor = (make_search(100, 100, seed, skill) for seed, skill in ((1, 3.0), (2, 0.0)))
    outcomes = [retrieval.measure(found) for found in (good, poor)]
    labels = (LABEL, Label("mean face", "frontal", jitter=True))

    difference = retrieval.compare(outcomes[0], outcomes[1], labels, 10)

    shares = [retrieval.summarise(outcome, LABEL).cmc["10"].value for outcome in outcomes]
    assert difference.difference.value == pytest.approx(shares[0] - shares[1])
    assert difference.difference.low is not None
    assert difference.difference.low > 0.5
    assert difference.p is not None
    assert difference.p < 1e-6
    nothing = retrieval.compare(outcomes[0], outcomes[0], labels, 10)
    assert (nothing.difference.low, nothing.difference.high, nothing.p) == (0, 0, 1)
    drawn = [retrieval.measure_drawn(found, 30, 3) for found in (good, poor)]
    assert retrieval.compare(drawn[0], drawn[1], labels, 10).p is None
    with pytest.raises(DataError, match="not measured on the same people"):
        retrieval.compare(outcomes[0], retrieval.measure(make_search(99, 100)), labels, 10)


def test_a_perfect_matcher_finds_everybody_first() -> None:
    names = name_people(60)
    found = retrieval.search_people(names, names, np.eye(60, dtype=np.float32))

    got = retrieval.summarise(retrieval.measure(found), LABEL, QUICK)

    assert {share.value for share in got.cmc.values()} == {1.0}
    assert got.median_rank.value == got.mean_reciprocal_rank.value == 1.0
    assert got.cmc["1"].low == pytest.approx(0.94, abs=0.005)

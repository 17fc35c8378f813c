from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from fcr_edge.conditions import Conditions
from fcr_edge.errors import DataError
from fcr_train.evaluate import baselines, retrieval
from fcr_train.evaluate.baselines import LinearMatcher
from fcr_train.evaluate.record import CUTOFFS, RANKS, Bootstrap
from fcr_train.evaluate.retrieval import Label, Pictures, Search

LABEL = Label("sex and age", "frontal", jitter=True)
QUICK = Bootstrap(300, 1)


def name_people(number: int) -> list[str]:
    return [f"p{i:03d}" for i in range(number)]


def draw_pairs(people: int, seed: int, noise: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Films and faces of 32 x 32 whose patterns are two linear pictures of one hidden person."""
    patterns = np.random.default_rng(0)
    film_of, face_of = (
        ndimage.gaussian_filter(patterns.normal(size=(12, 32, 32)), (0, 3, 3)) for _ in range(2)
    )
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(people, 12))
    films, faces = (
        128 + 150 * np.tensordot(hidden, part, 1) + noise * rng.normal(size=(people, 32, 32))
        for part in (film_of, face_of)
    )
    to_pixels = [np.clip(part, 0, 255).astype(np.uint8)[..., None] for part in (films, faces)]
    return to_pixels[0], np.repeat(to_pixels[1], 3, axis=3)


def test_the_mean_face_is_the_mean_of_every_pixel() -> None:
    faces = np.zeros((3, 2, 2, 3), np.uint8)
    faces[0] = 255
    faces[1, 0, 0] = [30, 60, 90]

    mean = baselines.mean_face(faces)

    assert mean.dtype == np.uint8
    assert mean[0, 0].tolist() == [95, 105, 115]
    assert mean[1, 1].tolist() == [85, 85, 85]


def test_one_embedding_for_everybody_ranks_the_gallery_alike() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = name_people(50)
    gallery = Pictures(vectors, tuple(names), ("frontal",) * 50)

    probes = baselines.repeat_probe(vectors[0], names, "frontal")
    outcome = retrieval.measure(retrieval.search(probes, gallery, "frontal"))

    # Each rank is taken once: whatever the order, that is chance.
    assert sorted(outcome.rank) == list(range(1, 51))


def test_the_nearest_film_is_a_training_persons_own_copy() -> None:
    films, _ = draw_pairs(30, 1)
    noisy = np.clip(films[[4, 20]].astype(int) + 5, 0, 255).astype(np.uint8)

    assert baselines.find_nearest(noisy, films).tolist() == [4, 20]


def test_a_probe_photograph_is_not_enrolled() -> None:
    people = ("a", "a", "b", "a", "b", "c")
    views = ("frontal", "frontal", "frontal", "lateral", "frontal", "frontal")

    enrolled, probes = baselines.hold_out_photographs(people, views)

    assert probes == [1, 4]
    assert enrolled == [0, 2, 3, 5]
    with pytest.raises(DataError, match="needs a second"):
        baselines.hold_out_photographs(("a", "b"), ("frontal", "frontal"))


def test_the_linear_matcher_finds_new_people_where_film_and_face_belong_together() -> None:
    matcher = LinearMatcher.fit(*draw_pairs(200, 1))
    films, faces = draw_pairs(100, 2)
    names = tuple(name_people(100))
    views = ("frontal",) * 100

    found = retrieval.search(
        Pictures(matcher.embed_films(films), names, views),
        Pictures(matcher.embed_faces(faces), names, views),
        "frontal",
    )

    assert retrieval.measure(found).reached[:, RANKS.index(10)].mean() > 0.9


def test_the_linear_matcher_finds_nobody_where_there_is_nothing_to_find() -> None:
    films, faces = draw_pairs(300, 1)
    matcher = LinearMatcher.fit(films[:200], np.roll(faces[:200], 1, axis=0))
    names, views = tuple(name_people(100)), ("frontal",) * 100

    found = retrieval.search(
        Pictures(matcher.embed_films(films[200:]), names, views),
        Pictures(matcher.embed_faces(faces[200:]), names, views),
        "frontal",
    )

    share = retrieval.summarise(retrieval.measure(found), LABEL, QUICK).cmc["10"]
    assert share.low is not None
    assert share.high is not None
    assert share.low <= 0.1 <= share.high


def test_the_linear_matcher_needs_pairs() -> None:
    films, faces = draw_pairs(4, 1)

    with pytest.raises(DataError, match="4 films and 3 faces"):
        LinearMatcher.fit(films, faces[:3])


def test_a_picture_moves_by_so_much_and_not_more() -> None:
    picture = np.zeros((256, 256, 1), np.uint8)
    picture[128 - 40 : 128 + 40, 128 - 40 : 128 + 40] = 200

    moved = baselines.jitter(np.repeat(picture[None], 40, axis=0), seed=1)

    places = [np.argwhere(one[..., 0] > 100) for one in moved]
    heights = np.array([np.ptp(place[:, 0]) + 1 for place in places]) / 80
    middles = np.array([(place.max(axis=0) + place.min(axis=0))[:2] / 2 for place in places])
    assert 0.94 <= heights.min() < 0.97
    assert 1.03 < heights.max() <= 1.06
    assert 5 < np.abs(middles - 127.5).max() < 7
    assert np.array_equal(moved, baselines.jitter(np.repeat(picture[None], 40, axis=0), seed=1))


def test_a_picture_that_is_not_moved_stays_as_it_is() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)

    assert np.array_equal(baselines._move(picture, 1.0, np.zeros(2)), picture)
    shifted = baselines._move(picture, 1.0, np.array([2 / 20, 3 / 30]))
    assert np.array_equal(shifted[2:, 3:], picture[:-2, :-3])


def test_jitter_tells_how_far_it_is() -> None:
    calls: list[tuple[int, int]] = []

    baselines.jitter(np.zeros((3, 8, 8, 1), np.uint8), 1, lambda *call: calls.append(call))

    assert calls == [(1, 3), (2, 3), (3, 3)]


def make_conditions() -> dict[str, Conditions]:
    """51 people like the seed paper's, 22 women and 29 men, all of one age band."""
    return {
        name: Conditions("female" if i < 22 else "male", 24.0)
        for i, name in enumerate(name_people(51))
    }


def test_the_filter_of_sex_alone_doubles_chance_in_the_seed_papers_gallery() -> None:
    names = name_people(51)

    found = baselines.filter_people(names, names, make_conditions())
    row = baselines.state_filter([found], LABEL, QUICK)

    shares = [round(row.cmc[str(k)].value, 3) for k in (1, 5, 10)]
    assert shares == [0.039, 0.196, 0.392]
    for k in (5, 10, 20):
        share = row.cmc[str(k)]
        assert share.low is not None
        assert share.high is not None
        assert share.low < share.value < share.high
    median = row.median_rank
    assert median.low is not None
    assert median.high is not None
    assert median.low < median.value < median.high


def test_the_filter_keeps_those_who_could_be_meant() -> None:
    conditions = {
        "a": Conditions("female", 30),
        "b": Conditions("female", 35),
        "c": Conditions("female", 35.1),
        "d": Conditions("male", 30),
        "e": Conditions(None, 30),
        "f": Conditions("female", None),
    }

    found = baselines.filter_people(["a", "e"], list(conditions), conditions)

    assert found.people.tolist() == [[1, 1, 0, 0, 1, 1], [1, 1, 0, 1, 1, 1]]


def test_the_filters_expectation_is_what_many_random_orders_give() -> None:
    rng = np.random.default_rng(3)
    names = name_people(60)
    conditions = {
        name: Conditions(("female", "male")[int(rng.integers(2))], float(rng.integers(20, 60)))
        for name in names
    }
    people = baselines.filter_people(names, names, conditions)
    owners = np.repeat(np.arange(60), 3)
    found = Search(people.probes, people.enrolled, people.people, people.people[:, owners], owners)

    exact = baselines.expect_filter(found)
    drawn = [retrieval.measure(found, seed) for seed in range(150)]

    for name, tolerance in {
        "reached": 0.01,
        "rank": 0.15,
        "reciprocal_rank": 0.01,
        "recall": 0.01,
        "precision": 0.01,
    }.items():
        mean = np.mean([getattr(outcome, name) for outcome in drawn], axis=(0, 1))
        assert getattr(exact, name).mean(axis=0) == pytest.approx(mean, abs=tolerance)
    assert exact.recall.shape == (60, len(CUTOFFS))


def test_weights_go_to_the_system_that_finds_people() -> None:
    rng = np.random.default_rng(1)
    names = name_people(80)
    noise, signal = rng.normal(size=(2, 80, 80)).astype(np.float32)
    signal[np.arange(80), np.arange(80)] += 3
    good, useless = (retrieval.search_people(names, names, part) for part in (signal, noise))

    assert baselines.fit_weights((good, useless))[0] > 0.6
    assert sum(baselines.fit_weights((good, useless))) == 1
    assert baselines.fit_weights((good, good)) == (0.5, 0.5)


def draw_films(people: int, seed: int) -> tuple[np.ndarray, list[Conditions]]:
    """Films that are brighter on the left for men and at the top for the old, with noise."""
    rng = np.random.default_rng(seed)
    male, age = rng.integers(0, 2, people), rng.uniform(20, 80, people)
    films = np.full((people, 32, 32, 1), 80.0)
    films[:, :, :16] += 40 * male[:, None, None, None]
    films[:, :16] += age[:, None, None, None]
    films += rng.normal(0, 4, films.shape)
    told = [Conditions(("female", "male")[m], float(a)) for m, a in zip(male, age, strict=True)]
    return films.clip(0, 255).astype(np.uint8), told


def test_sex_and_age_are_read_off_films_and_those_who_fit_come_first() -> None:
    estimator = baselines.FilmEstimator.fit(*draw_films(80, 1))
    films, told = draw_films(30, 2)

    similarity = estimator.compare(films, told)

    likeliest = similarity.argmax(axis=1)
    assert all(told[best].sex == own.sex for best, own in zip(likeliest, told, strict=True))
    years = [
        abs(float(told[best].age or 0) - float(own.age or 0))
        for best, own in zip(likeliest, told, strict=True)
    ]
    assert np.median(years) < 6
    assert estimator.errors["sex"] < 0.5


def test_whoever_nothing_is_known_of_counts_as_people_do_on_average() -> None:
    estimator = baselines.FilmEstimator.fit(*draw_films(80, 1))
    films, told = draw_films(10, 2)

    similarity = estimator.compare(films, [*told, Conditions()])

    assert similarity[:, -1] == pytest.approx(similarity[:, :-1].mean(axis=1), rel=1e-4)


def test_what_is_the_same_of_all_is_not_estimated() -> None:
    films, told = draw_films(12, 1)
    women = [Conditions("female", conditions.age) for conditions in told]

    estimator = baselines.FilmEstimator.fit(films, women)

    assert set(estimator.regressions) == {"age"}
    assert not baselines.FilmEstimator.fit(films, [Conditions()] * 12).compare(films, told).any()
    with pytest.raises(DataError, match="2 films: give 3 or more"):
        baselines.FilmEstimator.fit(films[:2], told[:2])

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import det_curve

from fcr_edge.errors import DataError
from fcr_train.evaluate.open_set import (
    DET_POINTS,
    Attempts,
    attempt,
    count_needed,
    find_threshold,
    join_attempts,
    measure_open_set,
    state_rates,
    trace_det,
)
from fcr_train.evaluate.record import Bootstrap
from fcr_train.evaluate.retrieval import search_people

QUICK = Bootstrap(300, 1)


def make_attempts(people: int, seed: int = 1, skill: float = 1.5) -> Attempts:
    rng = np.random.default_rng(seed)
    mate, other = rng.normal(size=(2, people))
    names = tuple(f"p{i}" for i in range(people))
    return Attempts(names, people, mate + skill, other)


def test_everybody_is_searched_for_with_and_without_the_mate() -> None:
    similarity = np.array([[0.5, 0.9, 0.1], [0.2, 0.8, 0.3]], np.float32)
    found = search_people(["a", "b"], ["a", "b", "c"], similarity)

    attempts = attempt(found)

    assert attempts.mate == pytest.approx([0.5, 0.8])
    assert attempts.other == pytest.approx([0.9, 0.3])
    assert attempts.gallery == 3


def test_a_mate_past_the_end_of_the_list_is_missed_at_any_threshold() -> None:
    similarity = np.array([[0.5, 0.9, 0.7], [0.2, 0.8, 0.3]], np.float32)
    found = search_people(["a", "b"], ["a", "b", "c"], similarity)

    attempts = attempt(found, listed=2)

    assert attempts.mate[0] == -np.inf
    assert attempts.mate[1] == pytest.approx(0.8)


def test_one_person_enrolled_cannot_be_left_out() -> None:
    with pytest.raises(DataError, match="needs 2 or more"):
        attempt(search_people(["a"], ["a"], np.ones((1, 1), np.float32)))


@pytest.mark.parametrize(("fpir", "needed"), [(0.1, 29), (0.03, 99), (0.003, 998)])
def test_what_can_be_shown_needs_so_many_searches(fpir: float, needed: int) -> None:
    assert count_needed(fpir) == needed
    assert (1 - fpir) ** needed < 0.05 <= (1 - fpir) ** (needed - 1)

    for number, measurable in ((needed - 1, False), (needed, True)):
        row = next(
            row
            for row in measure_open_set(make_attempts(number), "both", QUICK).fnir
            if row.fpir == fpir
        )
        assert (row.value is not None) == measurable
        assert (row.reason == f"not measurable with {number} searches") == (not measurable)


@given(
    others=st.lists(st.integers(0, 8), min_size=1, max_size=60),
    fpir=st.sampled_from([0.003, 0.03, 0.1, 0.5]),
)
@settings(deadline=None)
def test_the_threshold_is_the_least_that_keeps_the_rate(others: list[int], fpir: float) -> None:
    values = np.array(others, float)

    threshold = float(find_threshold(values, fpir)[0])

    assert (values > threshold).mean() <= fpir + 1e-12
    lower = values[values < threshold]
    if len(lower):
        assert (values > lower.max()).mean() > fpir


def test_fnir_is_what_a_plain_search_over_all_thresholds_gives() -> None:
    attempts = make_attempts(300)

    for row in measure_open_set(attempts, "both", QUICK).fnir[:2]:
        rates = [
            (attempts.mate <= t).mean()
            for t in attempts.other
            if (attempts.other > t).mean() <= row.fpir
        ]
        assert row.value is not None
        assert row.value.value == pytest.approx(min(rates))
        assert row.value.low is not None
        assert row.value.high is not None
        assert row.value.low < row.value.value < row.value.high


def test_det_points_lie_on_the_curve_of_scikit_learn() -> None:
    # With one enrolled person a search is a comparison, and DET is the verification curve.
    attempts = make_attempts(80)
    labels = np.repeat([1, 0], 80)
    fpr, fnr, _ = det_curve(labels, np.concatenate([attempts.mate, attempts.other]))
    curve = {(round(a, 9), round(b, 9)) for a, b in zip(fpr, fnr, strict=True)}

    points = trace_det(attempts)

    assert len(points) > 60
    # scikit-learn stops at the first point without a miss.
    assert {(round(a, 9), round(b, 9)) for a, b in points if b > 0} <= curve
    for fpir, fnir in points:
        best = min(b for a, b in curve if a <= fpir + 1e-9)
        assert fnir == pytest.approx(best)


def test_a_det_curve_falls_and_is_kept_short() -> None:
    points = trace_det(make_attempts(5000))

    fpirs, fnirs = zip(*points, strict=True)
    assert len(points) <= DET_POINTS
    assert fpirs[0] == 1 / 5000
    assert list(fpirs) == sorted(fpirs)
    assert list(fnirs) == sorted(fnirs, reverse=True)
    assert trace_det(make_attempts(1)) == ()


def test_a_constant_similarity_misses_everybody() -> None:
    names = [f"p{i}" for i in range(40)]
    found = search_people(names, names, np.zeros((40, 40), np.float32))

    row = measure_open_set(attempt(found), "both", QUICK).fnir[0]

    assert row.value is not None
    assert row.value.value == 1.0


def test_rates_at_a_threshold_are_told_person_by_person() -> None:
    attempts = Attempts(("a", "b"), 2, np.array([0.5, -np.inf]), np.array([0.6, 0.5]))

    missed, named = state_rates(attempts, 0.5)

    assert missed.tolist() == [1, 1]
    assert named.tolist() == [1, 0]


def test_folds_are_joined() -> None:
    joined = join_attempts([make_attempts(10), make_attempts(8, 2)])

    assert len(joined.people) == len(joined.mate) == len(joined.other) == 18
    assert joined.gallery == 8

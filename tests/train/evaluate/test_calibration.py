from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from fcr_edge.errors import DataError
from fcr_train.evaluate import calibration
from fcr_train.evaluate.calibration import (
    Pairs,
    apply,
    compute_cllr,
    compute_cllr_min,
    deal,
    fit,
    measure_calibration,
    trace_tippett,
)
from fcr_train.evaluate.record import Bootstrap, CalibrationFit
from fcr_train.evaluate.retrieval import Search, search_people

QUICK = Bootstrap(300, 1)
WHO = "simulated people"


def make_search(people: int, skill: float, seed: int = 1, extra: int = 0) -> Search:
    names = [f"p{i:03d}" for i in range(people + extra)]
    similarity = np.random.default_rng(seed).normal(size=(people, people + extra)) * 0.1
    similarity[np.arange(people), np.arange(people)] += skill * 0.1
    return search_people(names[:people], names, similarity.astype(np.float32))


def make_pairs(people: int, skill: float, seed: int = 1) -> Pairs:
    return calibration.pair_people([make_search(people, skill, seed)])


def test_the_ratio_of_two_normal_distributions_is_recovered() -> None:
    # Equal sd s, means m apart: ln LR = (x - m/2) m / s^2. Here m = 0.2, s = 0.1.
    fitted = fit(make_pairs(600, skill=2.0), WHO)

    assert fitted.slope * math.log(10) == pytest.approx(20, rel=0.1)
    assert fitted.offset * math.log(10) == pytest.approx(-2, rel=0.1)
    assert fitted.cap_log10 == pytest.approx(math.log10(600))
    assert (fitted.people, fitted.population) == (600, WHO)


def test_prior_odds_are_taken_out() -> None:
    # The same distributions with 19 or 199 different pairs to each same pair.
    few, many = (fit(make_pairs(people, 2.0, seed=3), WHO) for people in (100, 400))

    assert apply(few, np.array([0.1])) == pytest.approx(apply(many, np.array([0.1])), abs=0.2)


def test_ratios_are_held_within_the_cap() -> None:
    fitted = fit(make_pairs(51, skill=8.0), WHO)

    ratios = apply(fitted, np.array([-100.0, 100.0]))

    assert ratios == pytest.approx([-math.log10(51), math.log10(51)])
    assert 10 ** ratios[1] == pytest.approx(51)


def test_cllr_of_hand_computed_ratios() -> None:
    same, different = np.log10([4.0, 0.5]), np.log10([0.25, 1.0])

    expected = 0.5 * ((math.log2(1.25) + math.log2(3)) / 2 + (math.log2(1.25) + 1) / 2)
    assert compute_cllr(same, different) == pytest.approx(expected)


@given(
    same=st.lists(st.floats(-5, 5), min_size=1, max_size=9),
    different=st.lists(st.floats(-5, 5), min_size=1, max_size=9),
)
@settings(deadline=None, max_examples=60)
def test_cllr_is_a_balanced_log_loss_in_bits_and_not_below_its_minimum(
    same: list[float], different: list[float]
) -> None:
    ratios = np.array(same + different)
    labels = np.repeat([1, 0], [len(same), len(different)])
    weights = np.repeat([1 / len(same), 1 / len(different)], [len(same), len(different)])
    posterior = 1 / (1 + 10.0**-ratios)
    expected = log_loss(labels, posterior, sample_weight=weights) / math.log(2)

    cllr = compute_cllr(np.array(same), np.array(different))

    assert cllr == pytest.approx(expected, abs=1e-6)
    least = compute_cllr_min(np.array(same), np.array(different))
    assert -1e-6 <= least <= min(cllr, 1) + 1e-6


def test_cllr_min_is_that_of_a_slow_pooling_of_violators() -> None:
    rng = np.random.default_rng(4)
    same, different = rng.normal(1, 1, 40), rng.normal(0, 1, 90)

    # Every pool is [same pairs, all pairs]; neighbours are pooled until their shares rise.
    ratios, labels = np.concatenate([same, different]), np.repeat([1, 0], [40, 90])
    pools: list[list[int]] = []
    for label in labels[np.argsort(ratios)]:
        pools.append([int(label), 1])
        while len(pools) > 1 and pools[-2][0] * pools[-1][1] >= pools[-1][0] * pools[-2][1]:
            hits, total = pools.pop()
            pools[-1][0] += hits
            pools[-1][1] += total
    cost_same = cost_different = 0.0
    for hits, total in pools:
        misses = total - hits
        if hits:
            cost_same += hits * math.log2(1 + misses / hits * 40 / 90)
        if misses:
            cost_different += misses * math.log2(1 + hits / misses * 90 / 40)

    expected = (cost_same / 40 + cost_different / 90) / 2
    assert compute_cllr_min(same, different) == pytest.approx(expected)


def test_similarities_that_say_nothing_cost_one_bit() -> None:
    found = measure_calibration([make_search(200, skill=0.0)], "both", WHO, QUICK)

    assert found.cllr.value == pytest.approx(1, abs=0.02)
    assert found.cllr.high is not None
    assert found.cllr.high >= 1


def test_similarities_that_part_everybody_cost_what_the_cap_leaves() -> None:
    found = measure_calibration([make_search(50, skill=40.0)], "both", WHO, QUICK)

    assert found.cllr_min == 0
    assert found.cap_log10 == pytest.approx(math.log10(40))
    assert found.cllr.value == pytest.approx(math.log2(1 + 1 / 40))
    assert (found.misleading.same, found.misleading.different) == (0, 0)
    assert found.fit is not None
    assert found.fit.people == 50


def test_nobody_is_measured_with_a_map_fitted_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = make_search(23, skill=1.0)
    similarity = calibration.pair_people([found]).similarity
    fitted_on: list[Pairs] = []
    applied_to: list[np.ndarray] = []
    fit_now, apply_now = fit, apply

    def note_fit(pairs: Pairs, population: str) -> CalibrationFit:
        fitted_on.append(pairs)
        return fit_now(pairs, population)

    def note_apply(fitted: CalibrationFit, values: np.ndarray) -> np.ndarray:
        applied_to.append(values)
        return apply_now(fitted, values)

    monkeypatch.setattr(calibration, "fit", note_fit)
    monkeypatch.setattr(calibration, "apply", note_apply)

    measure_calibration([found], "both", WHO, QUICK)

    def find_people(values: np.ndarray) -> set[int]:
        return {int(np.flatnonzero(np.diagonal(similarity) == v)[0]) for v in np.diagonal(values)}

    assert len(applied_to) == 5
    for pairs, values in zip(fitted_on, applied_to, strict=False):
        assert find_people(pairs.similarity).isdisjoint(find_people(values))
    assert set.union(*(find_people(values) for values in applied_to)) == set(range(23))
    assert find_people(fitted_on[-1].similarity) == set(range(23))


def test_of_several_folds_each_is_measured_with_a_map_of_the_others() -> None:
    folds = [make_search(people, 1.5, seed) for people, seed in ((12, 1), (13, 2), (15, 3))]

    pairs = calibration.pair_people(folds)
    found = measure_calibration(folds, "both", WHO, QUICK)

    assert len(pairs.same) == 40
    assert len(pairs.different) == 12 * 11 + 13 * 12 + 15 * 14, "none of two folds"
    costs: list[float] = []
    apart: list[float] = []
    for place, fold in enumerate(folds):
        fitted = fit(calibration.pair_people(folds[:place] + folds[place + 1 :]), WHO)
        own = calibration.pair_people([fold])
        costs += apply(fitted, own.same).tolist()
        apart += apply(fitted, own.different).tolist()
    assert found.cllr.value == pytest.approx(compute_cllr(np.array(costs), np.array(apart)))
    assert found.cap_log10 == pytest.approx(math.log10(25))
    assert (found.people, found.fit) == (40, None)


def test_distractors_are_left_out() -> None:
    alone, enlarged = (
        calibration.pair_people([make_search(5, 1.0, extra=extra)]) for extra in (0, 9)
    )

    assert enlarged.similarity.shape == alone.similarity.shape == (5, 5)
    assert len(alone.different) == 20


def test_the_bootstrap_of_cllr_is_a_plain_resampling_of_pairs() -> None:
    rng = np.random.default_rng(2)
    log10_lr = rng.normal(size=(7, 7))
    apart = rng.random((7, 7)) < 0.6
    np.fill_diagonal(apart, False)

    drawn = calibration._resample_cllr(log10_lr, apart, Bootstrap(50, 3))

    draws = np.random.default_rng(3)
    expected = []
    for _ in range(50):
        picks = draws.integers(0, 7, 7)
        different = [log10_lr[i, j] for i in picks for j in picks if apart[i, j]]
        if different:
            expected.append(compute_cllr(log10_lr[picks, picks], np.array(different)))
    assert drawn == pytest.approx(np.array(expected))


def test_tippett_points_count_what_lies_at_or_above() -> None:
    ratios = np.random.default_rng(1).normal(size=1000).round(1)

    points = trace_tippett(ratios)

    assert len(points) <= calibration.TIPPETT_POINTS
    assert points[0] == (ratios.min(), 1.0)
    for value, share in points:
        assert share == pytest.approx((ratios >= value).mean())


@pytest.mark.parametrize(("people", "folds"), [(4, 2), (5, 2), (9, 4), (200, 5)])
def test_folds_hold_everybody_once_and_two_at_least(people: int, folds: int) -> None:
    parts = deal(people)

    assert len(parts) == folds
    assert sorted(np.concatenate(parts)) == list(range(people))
    assert min(map(len, parts)) >= 2


def test_too_few_people_or_equal_similarities_are_refused() -> None:
    with pytest.raises(DataError, match="3 people cannot be calibrated on folds"):
        measure_calibration([make_search(3, 1.0)], "both", WHO, QUICK)
    with pytest.raises(DataError, match="1 people cannot"):
        fit(Pairs(np.ones((1, 1))), WHO)
    with pytest.raises(DataError, match="all similarities are equal"):
        fit(Pairs(np.ones((5, 5))), WHO)


@pytest.mark.filterwarnings("ignore")
def test_figures_are_those_of_the_netherlands_forensic_institute() -> None:
    metrics = pytest.importorskip("lir.metrics", reason="lir needs Python 3.11")
    from lir.algorithms.logistic_regression import LogitCalibrator
    from lir.data.models import LLRData

    pairs = make_pairs(60, skill=1.5, seed=8)
    values = np.concatenate([pairs.same, pairs.different])
    labels = np.repeat([1, 0], [len(pairs.same), len(pairs.different)])
    theirs = LogitCalibrator(C=100.0, solver="newton-cholesky")
    scale = values.std()
    ratios = theirs.fit(values[:, None] / scale, labels).transform(values[:, None] / scale)

    fitted = fit(pairs, WHO)

    ours = fitted.offset + fitted.slope * values
    assert ours == pytest.approx(ratios.ravel(), abs=1e-4)
    data = LLRData(features=ours[:, None], labels=labels)
    same, different = ours[: len(pairs.same)], ours[len(pairs.same) :]
    assert compute_cllr(same, different) == pytest.approx(metrics.cllr(data))
    assert compute_cllr_min(same, different) == pytest.approx(metrics.cllr_min(data), abs=1e-6)

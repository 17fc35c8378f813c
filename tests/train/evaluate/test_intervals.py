from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fcr_edge.errors import DataError
from fcr_train.evaluate.intervals import (
    clopper_pearson,
    estimate_mean,
    estimate_median,
    mcnemar,
    resample,
)
from fcr_train.evaluate.record import Bootstrap


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (5, 10, 0.19, 0.81),
        (10, 20, 0.27, 0.73),
        (26, 51, 0.37, 0.65),
        (0, 51, 0, 0.07),
        (60, 120, 0.41, 0.59),
        (250, 500, 0.46, 0.54),
        pytest.param(16, 26, 0.41, 0.80, id="FBI"),
    ],
)
def test_clopper_pearson_gives_the_known_intervals(
    hits: int, trials: int, low: float, high: float
) -> None:
    share = clopper_pearson(hits, trials)

    assert (share.low, share.high) == pytest.approx((low, high), abs=0.005)


def test_clopper_pearson_solves_its_two_binomial_equations() -> None:
    share = clopper_pearson(7, 30)

    assert stats.binom.sf(6, 30, share.low) == pytest.approx(0.025)
    assert stats.binom.cdf(7, 30, share.high) == pytest.approx(0.025)


def test_bootstrap_is_what_a_plain_loop_over_its_draws_gives() -> None:
    values = np.random.default_rng(3).random(17)
    bootstrap = Bootstrap(draws=250, seed=9)

    found = estimate_mean(values, bootstrap), estimate_median(values, bootstrap)

    rng = np.random.default_rng(9)
    drawn = [values[rng.integers(0, 17, 17)] for _ in range(250)]
    for got, statistic in zip(found, (np.mean, np.median), strict=True):
        low, high = np.percentile([statistic(draw) for draw in drawn], [2.5, 97.5])
        assert (got.value, got.low, got.high) == pytest.approx((statistic(values), low, high))


def test_bootstrap_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)

    covered = 0
    for _ in range(200):
        share = estimate_mean((rng.random(60) < 0.4).astype(float), Bootstrap(300, 1))
        assert share.low is not None
        assert share.high is not None
        covered += share.low <= 0.4 <= share.high

    # 95 % of 200, less three standard deviations and a little: the percentile bootstrap is narrow.
    assert covered >= 178


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_without_spread_gets_the_exact_interval(value: float) -> None:
    assert estimate_mean(np.full(20, value)) == clopper_pearson(int(20 * value), 20)


def test_draws_are_the_same_for_equal_seeds_and_bounded_in_size() -> None:
    first, second = (list(resample(7, Bootstrap(250, 4))) for _ in range(2))

    assert [len(block) for block in first] == [100, 100, 50]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    other = next(resample(7, Bootstrap(250, 5)))
    assert not np.array_equal(first[0], other)


def test_mcnemar_sums_the_binomial_tails() -> None:
    first = np.array([True] * 9 + [False] * 2 + [True] * 30)
    second = np.array([False] * 9 + [True] * 2 + [True] * 30)

    expected = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(first, first) == 1.0


def test_nobody_has_no_figures() -> None:
    with pytest.raises(DataError, match="nobody to measure"):
        estimate_mean(np.zeros(0))
    with pytest.raises(DataError, match="at least one trial"):
        clopper_pearson(0, 0)

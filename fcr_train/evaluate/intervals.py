"""How far a figure could be off: bootstrap by person, exact intervals of a share, paired tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from fcr_edge.errors import DataError
from fcr_train.evaluate.record import Bootstrap, Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jaxtyping import Bool, Float64, Int64

BOOTSTRAP = Bootstrap()
"""The draws and seed used unless others are asked for."""

_PERCENTILES = (2.5, 97.5)
_DRAWS_AT_ONCE = 100
"""Bounds memory: 100 draws of 6,000 people are 5 MB."""


def resample(people: int, bootstrap: Bootstrap) -> Iterator[Int64[np.ndarray, "draws people"]]:
    """Draw people with replacement, in blocks; the same number and seed give the same draws.

    Two systems measured on the same people in the same order are thereby compared in pairs.
    Raises DataError where there is nobody.
    """
    if people < 1:
        raise DataError("there is nobody to measure: give the test part at least one person")
    rng = np.random.default_rng(bootstrap.seed)
    for done in range(0, bootstrap.draws, _DRAWS_AT_ONCE):
        draws = min(_DRAWS_AT_ONCE, bootstrap.draws - done)
        yield rng.integers(0, people, (draws, people))


def estimate_mean(
    values: Float64[np.ndarray, " people"], bootstrap: Bootstrap = BOOTSTRAP
) -> Estimate:
    """Average a figure over people.

    Where everybody was found, or nobody, the bootstrap sees no spread at all; the interval of
    Clopper and Pearson stands there instead.

    >>> estimate_mean(np.array([0.0, 0.0, 1.0, 1.0]))
    Estimate(value=0.5, low=0.0, high=1.0)
    >>> round(estimate_mean(np.zeros(51)).high, 2)
    0.07
    """
    if len(values) and (np.all(values == 0) or np.all(values == 1)):
        return clopper_pearson(int(values.sum()), len(values))
    return estimate(values, lambda drawn: drawn.mean(axis=-1), bootstrap)


def estimate_median(
    values: Float64[np.ndarray, " people"], bootstrap: Bootstrap = BOOTSTRAP
) -> Estimate:
    """Take the median of a figure over people."""
    return estimate(values, lambda drawn: np.median(drawn, axis=-1), bootstrap)


def estimate(
    values: Float64[np.ndarray, " people"],
    statistic: Callable[[Float64[np.ndarray, "*draws people"]], Float64[np.ndarray, "*draws"]],
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Estimate:
    """Compute a statistic along the last axis, with the percentiles of its bootstrap draws."""
    drawn = [statistic(values[picks]) for picks in resample(len(values), bootstrap)]
    return bound(float(statistic(values)), np.concatenate(drawn))


def bound(value: float, drawn: Float64[np.ndarray, " draws"]) -> Estimate:
    """Put the percentiles 2.5 and 97.5 of bootstrap draws around a value."""
    low, high = np.percentile(drawn, _PERCENTILES)
    return Estimate(value, float(low), float(high))


def clopper_pearson(hits: int, trials: int) -> Estimate:
    """Give a share with its exact 95 % interval (Clopper & Pearson 1934).

    >>> [round(x, 2) for x in (clopper_pearson(26, 51).low, clopper_pearson(26, 51).high)]
    [0.37, 0.65]
    """
    if trials < 1:
        raise DataError("a share of nothing has no interval: give at least one trial")
    interval = stats.binomtest(hits, trials).proportion_ci(method="exact")
    return Estimate(hits / trials, float(interval.low), float(interval.high))


def mcnemar(first: Bool[np.ndarray, " people"], second: Bool[np.ndarray, " people"]) -> float:
    """Test exactly whether two systems find equally many of the same people [p, two-sided].

    Only people whom one finds and the other does not count (McNemar 1947): under the null
    hypothesis each of them is as likely to be the first system's as the second's.

    >>> mcnemar(np.array([True] * 5 + [False]), np.array([False] * 5 + [False]))
    0.0625
    """
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    if wins + losses == 0:
        return 1.0
    return float(stats.binomtest(wins, wins + losses).pvalue)

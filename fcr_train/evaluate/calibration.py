"""From a similarity to the logarithm of a likelihood ratio, and how good the ratios are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from fcr_edge.errors import DataError
from fcr_train.evaluate.intervals import BOOTSTRAP, bound, resample
from fcr_train.evaluate.record import (
    Bootstrap,
    Calibration,
    CalibrationFit,
    Misleading,
    Tippett,
    Views,
)
from fcr_train.evaluate.retrieval import SEED, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float64, Int64

FOLDS = 5
"""People are calibrated on four fifths of the others, where there are enough."""
TIPPETT_POINTS = 100

_PENALTY_INVERSE = 100.0
"""scikit-learn's C, for similarities scaled to sd 1: keeps the slope finite where a few pairs are
parted perfectly, and moves it by less than a hundredth elsewhere."""
_LN_10 = math.log(10)


@dataclass(frozen=True)
class Pairs:
    """Similarities of named pairs of one set of people: row, the probe; column, the photograph."""

    similarity: Float64[np.ndarray, "p p"]
    """Same person on the diagonal; NaN for a pair of two folds, which nothing compared."""

    @property
    def same(self) -> Float64[np.ndarray, " p"]:
        """Similarities of the pairs of one person."""
        return np.diagonal(self.similarity)

    @property
    def different(self) -> Float64[np.ndarray, " pairs"]:
        """Similarities of the pairs of two persons."""
        different: Float64[np.ndarray, " pairs"] = self.similarity[self.apart]
        return different

    @property
    def apart(self) -> Bool[np.ndarray, "p p"]:
        """Tell which pairs are of two persons who were compared."""
        apart: Bool[np.ndarray, "p p"] = ~np.isnan(self.similarity)
        np.fill_diagonal(apart, False)
        return apart

    def of(self, people: Int64[np.ndarray, " q"]) -> Pairs:
        """Return the pairs among some of the people."""
        return Pairs(self.similarity[np.ix_(people, people)])


def pair_people(found: Sequence[Search]) -> Pairs:
    """Pair everybody searched for in a fold with one another; distractors are left out."""
    people = sum(len(one.probes) for one in found)
    similarity = np.full((people, people), np.nan)
    for place, one in zip(_list_places(found), found, strict=True):
        similarity[np.ix_(place, place)] = one.people[:, one.mates]
    return Pairs(similarity)


def _list_places(found: Sequence[Search]) -> list[Int64[np.ndarray, " part"]]:
    """List the places of each fold's people, one fold after the other."""
    ends = np.cumsum([0, *(len(one.probes) for one in found)])
    return [np.arange(start, end) for start, end in pairwise(ends)]


def fit(pairs: Pairs, population: str) -> CalibrationFit:
    """Fit the map from similarity to log10 LR by logistic regression (Bruemmer & du Preez 2006).

    Both kinds of pairs weigh the same in total, so the prior odds are 1 and the log odds are the
    log ratio. The cap is log10 of the number of people: pairs that share a person are not
    independent, so the number of pairs would allow too much. Raises DataError for under 2 people,
    or equal similarities.
    """
    same, different = pairs.same, pairs.different
    if len(same) < 2:
        raise DataError(f"{len(same)} people cannot be calibrated on: give 2 or more")
    similarity = np.concatenate([same, different])
    mean, sd = similarity.mean(), similarity.std()
    if sd == 0:
        raise DataError("all similarities are equal: there is nothing to calibrate")
    model = LogisticRegression(
        C=_PENALTY_INVERSE, class_weight="balanced", solver="newton-cholesky"
    )
    labels = np.repeat([1, 0], [len(same), len(different)])
    model.fit(((similarity - mean) / sd)[:, None], labels)
    slope = float(model.coef_[0, 0]) / sd
    offset = float(model.intercept_[0]) - slope * mean
    return CalibrationFit(
        float(offset / _LN_10),
        float(slope / _LN_10),
        math.log10(len(same)),
        len(same),
        population,
    )


def apply(
    calibration: CalibrationFit, similarity: Float64[np.ndarray, "*n"]
) -> Float64[np.ndarray, "*n"]:
    """Map similarities of named pairs to log10 LR, held within the cap.

    >>> apply(CalibrationFit(-2.0, 8.0, 1.7, 51, "nobody"), np.array([0.0, 0.25, 0.9]))
    array([-1.7,  0. ,  1.7])
    """
    log10_lr = calibration.offset + calibration.slope * similarity
    return np.clip(log10_lr, -calibration.cap_log10, calibration.cap_log10)


def compute_cllr(same: Float64[np.ndarray, " s"], different: Float64[np.ndarray, " d"]) -> float:
    """Compute Cllr of log10 LRs of both kinds of pairs: 1 says nothing, above 1 misleads.

    Half the sum of the means of log2(1 + 1/LR) over same and log2(1 + LR) over different
    (Bruemmer & du Preez 2006).

    >>> compute_cllr(np.zeros(3), np.zeros(5))
    1.0
    """
    return float((_cost(-same).mean() + _cost(different).mean()) / 2)


def _cost(log10_lr: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
    """Return log2(1 + LR) without overflow."""
    return np.logaddexp(0, log10_lr * _LN_10) / math.log(2)


def compute_cllr_min(
    same: Float64[np.ndarray, " s"], different: Float64[np.ndarray, " d"]
) -> float:
    """Compute Cllr after the best monotone map (pool adjacent violators): what it cannot tell.

    The rest of Cllr is calibration loss.

    >>> compute_cllr_min(np.array([1.0, 2.0]), np.array([-3.0, 0.5]))
    0.0
    """
    labels = np.repeat([1.0, 0.0], [len(same), len(different)])
    # Rounded, because scikit-learn divides by the differences of neighbours, however small.
    ratios = np.round(np.concatenate([same, different]), 9)
    share = IsotonicRegression(y_min=0, y_max=1).fit_transform(ratios, labels)
    # A share of 0 or 1 is an LR of 0 or infinity, which costs nothing where it is right; PAV
    # never gives it where it is wrong.
    with np.errstate(divide="ignore"):
        log_odds = np.log10(share) - np.log10(1 - share)
    best = log_odds - math.log10(len(same) / len(different))
    return compute_cllr(best[: len(same)], best[len(same) :])


def measure_calibration(
    found: Sequence[Search],
    views: Views,
    population: str,
    bootstrap: Bootstrap = BOOTSTRAP,
    folds: int = FOLDS,
    seed: int = SEED,
) -> Calibration:
    """Calibrate on some people and measure on the people left out.

    Args:
        found: The search of one fold, whose people are dealt into `folds` parts; or those of
            several, each of which is left out in turn.
        views: What was searched.
        population: Whom "different persons" stands for.
        bootstrap: Draws of people.
        folds: Parts that the people of one fold are dealt into.
        seed: Of the dealing.

    A pair is measured where both its persons are in the part that is left out, so nobody is
    measured with a map that was fitted with him or her. Raises DataError for under 4 people.
    """
    pairs = pair_people(found)
    people = len(pairs.similarity)
    parts = deal(people, folds, seed) if len(found) == 1 else _list_places(found)
    log10_lr = np.zeros_like(pairs.similarity)
    within = np.zeros(log10_lr.shape, bool)
    caps = []
    for part in parts:
        rest = np.setdiff1d(np.arange(people), part)
        fitted = fit(pairs.of(rest), population)
        place = np.ix_(part, part)
        log10_lr[place], within[place] = apply(fitted, pairs.similarity[place]), True
        caps.append(fitted.cap_log10)
    same = np.diagonal(log10_lr)
    apart = within & pairs.apart
    return Calibration(
        views,
        people,
        bound(compute_cllr(same, log10_lr[apart]), _resample_cllr(log10_lr, apart, bootstrap)),
        compute_cllr_min(same, log10_lr[apart]),
        min(caps),
        "logistic",
        Tippett(trace_tippett(same), trace_tippett(log10_lr[apart])),
        Misleading(float((same < 0).mean()), float((log10_lr[apart] > 0).mean())),
        fit(pairs, population) if len(found) == 1 else None,
    )


def deal(people: int, folds: int = FOLDS, seed: int = SEED) -> list[Int64[np.ndarray, " part"]]:
    """Deal people's places into folds of 2 or more people, so many or as many as possible."""
    if people < 4:
        raise DataError(f"{people} people cannot be calibrated on folds: give 4 or more")
    order = np.random.default_rng(seed).permutation(people)
    return [np.sort(part) for part in np.array_split(order, min(folds, people // 2))]


def _resample_cllr(
    log10_lr: Float64[np.ndarray, "p p"], apart: Bool[np.ndarray, "p p"], bootstrap: Bootstrap
) -> Float64[np.ndarray, " draws"]:
    """Draw people, each with his or her pairs: a pair counts as often as both are drawn."""
    people = len(log10_lr)
    same = _cost(-np.diagonal(log10_lr))
    different = np.where(apart, _cost(log10_lr), 0)
    drawn = []
    for picks in resample(people, bootstrap):
        counts = np.stack([np.bincount(pick, minlength=people) for pick in picks]).astype(float)
        pairs = ((counts @ apart) * counts).sum(axis=1)
        costs = ((counts @ different) * counts).sum(axis=1)
        # Among very few people a draw can be without a pair of two persons.
        some = pairs > 0
        drawn.append((counts @ same / people)[some] / 2 + costs[some] / pairs[some] / 2)
    return np.concatenate(drawn)


def trace_tippett(log10_lr: Float64[np.ndarray, " n"]) -> tuple[tuple[float, float], ...]:
    """Return points (log10 LR, share of comparisons at or above it), log10 LR rising.

    >>> trace_tippett(np.array([2.0, -1.0, 2.0, 0.0]))
    ((-1.0, 1.0), (0.0, 0.75), (2.0, 0.5))
    """
    rising = np.sort(log10_lr)
    places = np.unique(np.linspace(0, len(rising) - 1, TIPPETT_POINTS).round().astype(int))
    values = np.unique(rising[places])
    above = len(rising) - np.searchsorted(rising, values, side="left")
    return tuple(zip(values.tolist(), (above / len(rising)).tolist(), strict=True))

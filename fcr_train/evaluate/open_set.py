"""Open-set search: how often a mate is missed, and how often somebody is named in error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.errors import DataError
from fcr_train.evaluate.intervals import BOOTSTRAP, bound, resample
from fcr_train.evaluate.record import FPIRS, Bootstrap, Fnir, OpenSet, Views
from fcr_train.evaluate.retrieval import SEED, Search, rank_mates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float64

LISTED = 50
"""Length of the list that a mate must stand in, as in NIST's investigation mode."""
DET_POINTS = 200
"""At most so many points are kept of a DET curve."""


@dataclass(frozen=True)
class Attempts:
    """Everybody searched for twice: with the mate enrolled, and without."""

    people: tuple[str, ...]
    gallery: int
    """People enrolled; without the mate, one less."""
    mate: Float64[np.ndarray, " people"]
    """Similarity of the mate; minus infinity where the mate stands past the list."""
    other: Float64[np.ndarray, " people"]
    """Similarity of the first candidate where the mate is not enrolled."""


def attempt(found: Search, listed: int = LISTED, seed: int = SEED) -> Attempts:
    """Search for everybody with and without the mate. Raises DataError for a gallery of one."""
    if len(found.enrolled) < 2:
        raise DataError("one person is enrolled: a search without the mate needs 2 or more")
    rows = np.arange(len(found.probes))
    mate = found.people[rows, found.mates].astype(np.float64)
    others = found.people.astype(np.float64)
    others[rows, found.mates] = -np.inf
    missed = rank_mates(found, np.random.default_rng(seed)) > listed
    return Attempts(
        found.probes,
        len(found.enrolled),
        np.where(missed, -np.inf, mate),
        others.max(axis=1),
    )


def join_attempts(parts: Sequence[Attempts]) -> Attempts:
    """Put the people of several folds together; the gallery stated is the smallest."""
    return Attempts(
        tuple(name for part in parts for name in part.people),
        min(part.gallery for part in parts),
        np.concatenate([part.mate for part in parts]),
        np.concatenate([part.other for part in parts]),
    )


def count_needed(fpir: float) -> int:
    """Return how many searches without a false alarm show at 95 % that FPIR is at most this.

    None in n is less likely than .05 once (1 - f)^n < .05.

    >>> [count_needed(fpir) for fpir in (0.1, 0.03, 0.003)]
    [29, 99, 998]
    """
    return math.ceil(math.log(0.05) / math.log(1 - fpir))


def find_threshold(
    others: Float64[np.ndarray, "*draws n"], fpir: float
) -> Float64[np.ndarray, "*draws 1"]:
    """Find the least similarity that at most a share `fpir` of searches without mate exceed.

    A candidate counts where it is *above* the threshold, so ties with it are no alarms.
    """
    number = others.shape[-1]
    # Rounded: 0.03 * 100 is a little less than 3 in binary.
    allowed = math.floor(round(fpir * number, 9))
    place = number - 1 - min(allowed, number - 1)
    return np.partition(others, place, axis=-1)[..., place : place + 1]


def measure_open_set(
    attempts: Attempts, views: Views, bootstrap: Bootstrap = BOOTSTRAP
) -> OpenSet:
    """State FNIR at each FPIR that so many searches can show, and the DET curve.

    Each bootstrap draw of people finds its threshold anew.
    """
    number = len(attempts.people)
    return OpenSet(
        views,
        attempts.gallery,
        number,
        number,
        tuple(_state_fnir(attempts, fpir, bootstrap) for fpir in FPIRS),
        trace_det(attempts),
    )


def _state_fnir(attempts: Attempts, fpir: float, bootstrap: Bootstrap) -> Fnir:
    number = len(attempts.people)
    if number < count_needed(fpir):
        return Fnir(fpir, None, f"not measurable with {number} searches")
    drawn = [
        _miss(attempts.mate[picks], attempts.other[picks], fpir)
        for picks in resample(number, bootstrap)
    ]
    value = float(_miss(attempts.mate, attempts.other, fpir))
    return Fnir(fpir, bound(value, np.concatenate(drawn)), "")


def _miss(
    mate: Float64[np.ndarray, "*draws n"], other: Float64[np.ndarray, "*draws n"], fpir: float
) -> Float64[np.ndarray, "*draws"]:
    missed: Float64[np.ndarray, "*draws"] = (mate <= find_threshold(other, fpir)).mean(axis=-1)
    return missed


def trace_det(attempts: Attempts) -> tuple[tuple[float, float], ...]:
    """Return points (FPIR, FNIR), FPIR rising, the least FNIR for each number of false alarms.

    Both axes of a DET curve are logarithmic, and so are the steps where points are left out.
    Several alarms at one similarity are one point; ties of all leave the point (0, FNIR).
    """
    number = len(attempts.people)
    if number < 2:
        return ()
    alarms = np.unique(np.geomspace(1, number - 1, DET_POINTS).round().astype(int))
    thresholds = np.sort(attempts.other)[::-1][alarms]
    points = {
        float((attempts.other > t).mean()): float((attempts.mate <= t).mean()) for t in thresholds
    }
    return tuple(sorted(points.items()))


def state_rates(
    attempts: Attempts, threshold: float
) -> tuple[Float64[np.ndarray, " people"], Float64[np.ndarray, " people"]]:
    """Tell for each person whether the mate is missed, and whether somebody else is named."""
    missed, named = attempts.mate <= threshold, attempts.other > threshold
    return missed.astype(np.float64), named.astype(np.float64)

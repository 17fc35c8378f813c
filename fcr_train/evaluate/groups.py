"""Who is served how well: the figures by sex, age and body mass index, at one threshold."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from fcr_edge.conditions import Conditions
from fcr_train.evaluate.intervals import (
    BOOTSTRAP,
    bound,
    estimate_mean,
    estimate_median,
    resample,
)
from fcr_train.evaluate.open_set import count_needed, find_threshold, state_rates
from fcr_train.evaluate.record import RANKS, Bootstrap, Estimate, Gap, Group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float64, Int64

    from fcr_train.evaluate.open_set import Attempts
    from fcr_train.evaluate.retrieval import Outcome

    Figures = dict["MeasureName", Float64[np.ndarray, " people"]]

By = Literal["sex", "age", "bmi"]
MeasureName = Literal["cmc 10", "cmc 50", "median rank", "fnir", "fpir"]

SMALLEST_CELL = 20
"""People a group must have before it is set against another (our rule)."""
COMMON_FPIR = 0.1
"""The threshold common to all groups lets so many searches of everybody name somebody falsely."""
UNKNOWN = "not known"
AGE_BANDS = ((18, "under 18"), (30, "18-29"), (45, "30-44"), (60, "45-59"))
"""Upper bound [years] and name of each band; the last one is open."""
BMI_BANDS = ((18.5, "under 18.5"), (25, "18.5-25"), (30, "25-30"))
"""Upper bound [kg/m2] and name: the WHO's underweight, normal, overweight; obese is open."""


def name_group(conditions: Conditions, by: By) -> str:
    """Name the group of a person.

    >>> name_group(Conditions("female", 30, 24.9), "age"), name_group(Conditions(bmi=30), "bmi")
    ('30-44', '30 and over')
    >>> name_group(Conditions(), "sex")
    'not known'
    """
    if by == "sex":
        return conditions.sex or UNKNOWN
    if by == "age":
        return _name_band(conditions.age, AGE_BANDS, "60 and over")
    return _name_band(conditions.bmi, BMI_BANDS, "30 and over")


def _name_band(value: float | None, bands: tuple[tuple[float, str], ...], last: str) -> str:
    if value is None:
        return UNKNOWN
    return next((name for upper, name in bands if value < upper), last)


def measure_groups(
    outcome: Outcome,
    attempts: Attempts,
    conditions: Mapping[str, Conditions],
    bootstrap: Bootstrap = BOOTSTRAP,
) -> tuple[tuple[Group, ...], tuple[Gap, ...]]:
    """State the figures of each group, and how far the worst stands from the best.

    Sex, age and BMI are each left out where nothing is known of anybody. `attempts` are of the
    same people as `outcome`, in the same order.
    """
    figures = _list_figures(outcome, attempts)
    groups: list[Group] = []
    gaps: list[Gap] = []
    for by in get_args(By):
        places = divide(outcome.people, conditions, by)
        if set(places) <= {UNKNOWN}:
            continue
        groups += [_describe(by, name, figures, rows, bootstrap) for name, rows in places.items()]
        known = {name: rows for name, rows in places.items() if name != UNKNOWN}
        gaps += [
            _state_gap(by, measure, figures, known, bootstrap) for measure in get_args(MeasureName)
        ]
    return tuple(groups), tuple(gaps)


def divide(
    people: tuple[str, ...], conditions: Mapping[str, Conditions], by: By
) -> dict[str, Int64[np.ndarray, " group"]]:
    """Return the places of the people of each group, by name of the group."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(people):
        places[name_group(conditions.get(name, Conditions()), by)].append(place)
    return {name: np.array(places[name]) for name in sorted(places, key=_order)}


def _order(name: str) -> tuple[bool, bool, str]:
    return name == UNKNOWN, not name.startswith("under"), name


def _list_figures(outcome: Outcome, attempts: Attempts) -> Figures:
    """Return each measure person by person, without those that so few searches cannot show."""
    figures: Figures = {
        "cmc 10": outcome.reached[:, RANKS.index(10)],
        "cmc 50": outcome.reached[:, RANKS.index(50)],
        "median rank": outcome.rank,
    }
    if len(attempts.people) >= count_needed(COMMON_FPIR):
        threshold = float(find_threshold(attempts.other, COMMON_FPIR)[0])
        figures["fnir"], figures["fpir"] = state_rates(attempts, threshold)
    return figures


def _describe(
    by: By, name: str, figures: Figures, rows: Int64[np.ndarray, " group"], bootstrap: Bootstrap
) -> Group:
    def mean(measure: MeasureName) -> Estimate:
        return estimate_mean(figures[measure][rows], bootstrap)

    measurable = "fnir" in figures
    return Group(
        by,
        name,
        len(rows),
        estimate_median(figures["median rank"][rows], bootstrap),
        {"10": mean("cmc 10"), "50": mean("cmc 50")},
        mean("fnir") if measurable else None,
        mean("fpir") if measurable else None,
    )


def _state_gap(
    by: By,
    measure: MeasureName,
    figures: Figures,
    groups: Mapping[str, Int64[np.ndarray, " group"]],
    bootstrap: Bootstrap,
) -> Gap:
    """Subtract the best group's figure from the worst's, or say why that is not done."""
    reason = _refuse(measure, figures, groups)
    if reason:
        return Gap(by, measure, "", "", None, reason)
    values = figures[measure]
    statistic = np.median if measure == "median rank" else np.mean
    found = {name: float(statistic(values[rows])) for name, rows in groups.items()}
    low, high = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    worst, best = (low, high) if measure.startswith("cmc") else (high, low)
    # Groups have no one in common, so each is drawn from a stream of its own.
    drawn = [
        np.concatenate([statistic(values[groups[name]][picks], axis=-1) for picks in draws])
        for name, draws in (
            (worst, resample(len(groups[worst]), bootstrap)),
            (best, resample(len(groups[best]), replace(bootstrap, seed=bootstrap.seed + 1))),
        )
    ]
    gap = bound(found[worst] - found[best], drawn[0] - drawn[1])
    return Gap(by, measure, worst, best, gap, "")


def _refuse(
    measure: MeasureName, figures: Figures, groups: Mapping[str, Int64[np.ndarray, " group"]]
) -> str:
    """Say why groups cannot be set against each other, or nothing."""
    if len(groups) < 2:
        return f"all are {next(iter(groups))}: there is nothing to compare"
    small = {name: len(rows) for name, rows in groups.items() if len(rows) < SMALLEST_CELL}
    if small:
        counts = ", ".join(f"{name}: {people}" for name, people in small.items())
        return f"refused, groups have fewer than {SMALLEST_CELL} people ({counts})"
    if measure not in figures:
        return f"not measurable with {sum(map(len, groups.values()))} searches"
    return ""

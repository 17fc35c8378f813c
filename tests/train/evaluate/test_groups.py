from __future__ import annotations

import numpy as np
import pytest

from fcr_edge.conditions import Conditions
from fcr_train.evaluate.groups import divide, measure_groups, name_group
from fcr_train.evaluate.open_set import attempt
from fcr_train.evaluate.record import Bootstrap, Gap, Group
from fcr_train.evaluate.retrieval import Outcome, Search, measure, search_people

QUICK = Bootstrap(400, 1)


def make_search(people: int, skills: np.ndarray, seed: int = 1) -> Search:
    names = [f"p{i:03d}" for i in range(people)]
    similarity = np.random.default_rng(seed).normal(size=(people, people))
    similarity[np.arange(people), np.arange(people)] += skills
    return search_people(names, names, similarity.astype(np.float32))


def measure_all(
    found: Search, conditions: dict[str, Conditions]
) -> tuple[Outcome, dict[tuple[str, str], Group], dict[tuple[str, str], Gap]]:
    outcome = measure(found)
    groups, gaps = measure_groups(outcome, attempt(found), conditions, QUICK)
    return (
        outcome,
        {(group.by, group.group): group for group in groups},
        {(gap.by, gap.measure): gap for gap in gaps},
    )


def alternate(people: int, share: int = 2) -> dict[str, Conditions]:
    """Every so-manieth person is a woman."""
    return {f"p{i:03d}": Conditions("female" if i % share == 0 else "male") for i in range(people)}


@pytest.mark.parametrize(
    ("conditions", "by", "name"),
    [
        (Conditions(age=17.9), "age", "under 18"),
        (Conditions(age=18), "age", "18-29"),
        (Conditions(age=29.9), "age", "18-29"),
        (Conditions(age=45), "age", "45-59"),
        (Conditions(age=60), "age", "60 and over"),
        (Conditions(bmi=18.4), "bmi", "under 18.5"),
        (Conditions(bmi=18.5), "bmi", "18.5-25"),
        (Conditions(bmi=25), "bmi", "25-30"),
        (Conditions(bmi=30), "bmi", "30 and over"),
        (Conditions("male"), "sex", "male"),
        (Conditions(), "bmi", "not known"),
    ],
)
def test_bands_begin_at_their_lower_bound(conditions: Conditions, by: str, name: str) -> None:
    assert name_group(conditions, by) == name  # type: ignore[arg-type]


def test_every_person_is_in_one_group_and_unknown_comes_last() -> None:
    conditions = {
        "a": Conditions(bmi=31),
        "b": Conditions(bmi=17),
        "c": Conditions(bmi=20),
        "e": Conditions(bmi=22),
    }

    groups = divide(("a", "b", "c", "d", "e"), conditions, "bmi")

    assert list(groups) == ["under 18.5", "18.5-25", "30 and over", "not known"]
    assert {name: rows.tolist() for name, rows in groups.items()} == {
        "under 18.5": [1],
        "18.5-25": [2, 4],
        "30 and over": [0],
        "not known": [3],
    }


def test_figures_of_a_group_are_those_of_its_people() -> None:
    found = make_search(80, np.full(80, 1.5))

    outcome, groups, _ = measure_all(found, alternate(80))

    women = np.arange(0, 80, 2)
    group = groups["sex", "female"]
    assert group.people == 40
    assert group.median_rank.value == np.median(outcome.rank[women])
    assert group.cmc["10"].value == np.mean(outcome.rank[women] <= 10)
    assert set(groups) == {("sex", "female"), ("sex", "male")}


def test_all_groups_are_judged_at_one_threshold() -> None:
    # Men's non-mates are more similar throughout: at a common threshold they raise the alarms.
    found = make_search(200, np.full(200, 4.0))
    found.people[1::2] += 1.5

    _, groups, gaps = measure_all(found, alternate(200))

    rates = {who: groups["sex", who].fpir for who in ("female", "male")}
    assert rates["female"] is not None
    assert rates["male"] is not None
    assert (rates["female"].value + rates["male"].value) / 2 == pytest.approx(0.1)
    assert rates["male"].value > 0.15
    gap = gaps["sex", "fpir"]
    assert (gap.worst, gap.best) == ("male", "female")
    assert gap.gap is not None
    assert gap.gap.value == pytest.approx(rates["male"].value - rates["female"].value)
    assert gap.gap.low is not None
    assert gap.gap.low > 0


def test_the_worst_group_is_found_in_every_measure() -> None:
    skills = np.where(np.arange(200) % 2 == 0, 5.0, 0.5)

    _, _, gaps = measure_all(make_search(200, skills), alternate(200))

    for measure_name, sign in {
        "cmc 10": -1,
        "cmc 50": -1,
        "median rank": 1,
        "fnir": 1,
    }.items():
        gap = gaps["sex", measure_name]
        assert (gap.worst, gap.best, gap.reason) == ("male", "female", "")
        assert gap.gap is not None
        assert gap.gap.low is not None
        assert gap.gap.high is not None
        assert sign * gap.gap.value > 0
        assert gap.gap.low <= gap.gap.value <= gap.gap.high


def test_a_difference_that_is_not_there_lies_within_the_interval() -> None:
    _, _, gaps = measure_all(make_search(200, np.full(200, 1.5), seed=3), alternate(200))

    gap = gaps["sex", "cmc 50"].gap
    assert gap is not None
    assert gap.high is not None
    assert gap.high >= 0


def test_small_groups_are_counted_and_not_compared() -> None:
    _, groups, gaps = measure_all(make_search(60, np.full(60, 2.0)), alternate(60, share=4))

    assert groups["sex", "female"].people == 15
    assert groups["sex", "female"].cmc["10"].value > 0
    gap = gaps["sex", "cmc 10"]
    assert gap.gap is None
    assert gap.reason == "refused, groups have fewer than 20 people (female: 15)"


def test_rates_that_so_few_searches_cannot_show_are_left_out() -> None:
    _, groups, gaps = measure_all(make_search(20, np.full(20, 2.0)), alternate(20))

    assert groups["sex", "male"].fnir is None
    assert groups["sex", "male"].fpir is None
    assert gaps["sex", "fnir"].gap is None


def test_one_group_alone_is_not_compared() -> None:
    conditions = {f"p{i:03d}": Conditions("male") for i in range(30)}

    _, _, gaps = measure_all(make_search(30, np.full(30, 2.0)), conditions)

    assert gaps["sex", "cmc 10"].reason == "all are male: there is nothing to compare"


def test_unknown_people_are_listed_and_never_compared() -> None:
    conditions = alternate(60)
    for i in range(10):
        conditions[f"p{i:03d}"] = Conditions()

    _, groups, gaps = measure_all(make_search(60, np.full(60, 2.0)), conditions)

    assert groups["sex", "not known"].people == 10
    assert gaps["sex", "cmc 10"].gap is not None
    assert not any(by == "age" for by, _ in groups)

from __future__ import annotations

from dataclasses import replace

import pytest

from fcr_edge.errors import DataError
from fcr_train.evaluate.record import Estimate
from fcr_train.evaluate.study import Study, compare, find_supported_fpir


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        pytest.param(Estimate(0.5, 0.4, 0.6), Estimate(0.3, 0.2, 0.39), "above", id="clear"),
        pytest.param(Estimate(0.3, 0.2, 0.39), Estimate(0.5, 0.4, 0.6), "below", id="under"),
        pytest.param(
            Estimate(0.5, 0.4, 0.6), Estimate(0.3, 0.2, 0.4), "not distinguishable", id="touching"
        ),
        pytest.param(
            Estimate(0.5, 0.4, 0.6), Estimate(0.05), "above", id="chance has no interval"
        ),
    ],
)
def test_intervals_that_meet_are_not_distinguishable(
    one: Estimate, other: Estimate, words: str
) -> None:
    assert compare(one, other) == words


@pytest.mark.parametrize(("searches", "fpir"), [(29, 0.1), (99, 0.03), (998, 0.003)])
def test_the_supported_rate_is_that_of_the_rule(searches: int, fpir: float) -> None:
    assert find_supported_fpir(searches) <= fpir < find_supported_fpir(searches - 1)


def test_two_evaluations_of_one_run_are_refused(study: Study) -> None:
    with pytest.raises(DataError, match="two evaluations are of cyclegan with vgg16"):
        replace(study, evaluations=[*study.evaluations, study.evaluations[0]])


def test_a_best_run_without_people_it_never_saw_is_refused(study: Study) -> None:
    with pytest.raises(DataError, match="no evaluation on the split by person"):
        replace(study, evaluations=study.on_split("pair"))

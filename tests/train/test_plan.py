from __future__ import annotations

from dataclasses import replace

import pytest

from fcr_edge.errors import DataError
from fcr_train.config import load_preset
from fcr_train.tasks.plan import fit_batch


def test_a_batch_takes_all_where_there_are_fewer_people_than_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    schedule = replace(load_preset("densenet121", "small").schedule, batch_size=96)

    fitted = fit_batch(schedule, {"frontal": 34, "lateral": 33})

    assert fitted == replace(schedule, batch_size=33)
    assert "a batch shows 33 people, not 96: there are no more of view lateral" in caplog.text
    assert fit_batch(schedule, {"frontal": 96}) == schedule


def test_one_person_cannot_be_told_from_others() -> None:
    schedule = load_preset("densenet121", "small").schedule

    with pytest.raises(DataError, match=r"1 people .* of view 'lateral' are left for training"):
        fit_batch(schedule, {"frontal": 40, "lateral": 1})

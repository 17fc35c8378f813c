from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fcr_train.evaluate.results.training import build_trainings
from fcr_train.evaluate.study import Study, find_headline


def test_a_study_of_one_training_says_that_chance_was_not_measured(study: Study) -> None:
    table = build_trainings(study)

    assert "Trained once" in table.says
    assert len(table.rows) == 1


def test_trainings_with_other_seeds_are_set_side_by_side_with_their_spread(
    make_study: Callable[..., Study],
) -> None:
    once = make_study(300)
    best = once.best_run
    # Another run's figures, as if the seed had made them.
    other = next(run for run in once.on_split("person") if run is not best)
    again = replace(other, embedder=replace(best.embedder, seed=2))

    table = build_trainings(make_study(300, again=[again]))

    assert [row.cells[0].value for row in table.rows] == ["1", "2", "largest less smallest"]
    shares = [find_headline(run).cmc["50"].value for run in (best, again)]  # type: ignore[union-attr]
    assert table.rows[-1].cells[5].value == pytest.approx(abs(shares[0] - shares[1]))
    assert "Trained 2 times" in table.says

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fcr_train.evaluate.results.conditions import build_splits
from fcr_train.evaluate.study import Study, find_headline
from fcr_train.evaluate.tables import Cell, Table


def test_the_gap_is_pair_split_less_person_split(
    study: Study,
    tables: dict[str, Table],
    find_row: Callable[..., list[Cell]],
    find_column: Callable[..., int],
) -> None:
    table = tables["table5-splits"]
    shares = []
    for by in ("person", "pair"):
        run = study.find(by, "pix2pix", "densenet121")
        assert run is not None
        row = find_headline(run)
        assert row is not None
        shares.append(row.cmc["50"].value)

    cells = find_row(table, "pix2pix (cGAN)", "DenseNet121")

    gap = cells[find_column(table, "rank 50", "gap, pair less person")]
    assert gap.value == pytest.approx(shares[1] - shares[0])


def test_no_gap_is_printed_between_galleries_of_two_sizes(
    make_study: Callable[..., Study], study: Study, find_row: Callable[..., list[Cell]]
) -> None:
    others = make_study(120).on_split("pair")

    table = build_splits(replace(study, evaluations=[*study.on_split("person"), *others]))

    cells = find_row(table, "CUT", "VGG16")
    assert [cell.value for cell in cells[-3:]] == [None] * 3
    assert "different conditions" in cells[-1].reason


def test_a_split_that_was_not_evaluated_says_so(study: Study) -> None:
    table = build_splits(replace(study, evaluations=study.on_split("person")))

    assert "this split was not evaluated" in table.reasons

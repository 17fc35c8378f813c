from __future__ import annotations

from collections.abc import Callable

from fcr_train.evaluate.tables import Cell, Table


def test_a_small_group_has_no_gap(
    tables: dict[str, Table], find_row: Callable[..., list[Cell]]
) -> None:
    cells = find_row(tables["table8b-gaps"], "age")

    assert cells[4].value is None
    assert "fewer than 20 people" in cells[4].reason

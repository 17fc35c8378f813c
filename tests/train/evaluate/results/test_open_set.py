from __future__ import annotations

from collections.abc import Callable

from fcr_train.evaluate.tables import Cell, Table


def test_what_the_searches_cannot_support_is_not_printed(
    tables: dict[str, Table], find_row: Callable[..., list[Cell]]
) -> None:
    cells = find_row(tables["table6-open-set"], "both")

    assert [cell.value is None for cell in cells[-3:]] == [False, False, True]
    assert cells[-1].reason == "not measurable with 300 searches"

from __future__ import annotations

from collections.abc import Callable

import pytest

from fcr_train.evaluate.results import BUILDERS, build_tables
from fcr_train.evaluate.study import Study
from fcr_train.evaluate.tables import Table, render_markdown


def test_all_tables_are_built_in_the_order_of_their_numbers(study: Study) -> None:
    titles = [table.title for table in build_tables(study)]

    assert [title.split(".")[0] for title in titles] == [
        f"Table {number}" for number in ("1", "2a", "2b", *range(3, 8), "8a", "8b", 9, 10)
    ]


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_no_table_stands_without_what_it_must_not_be_read_without(
    study: Study, build: Callable[[Study], Table]
) -> None:
    table = build(study)

    basis = dict(table.basis.lines)

    assert "level S" in basis["Evidence"]
    assert "never forensic accuracy" in basis["Evidence"]
    assert basis["Split"].startswith("by person")
    assert basis["People"] == "750 trained on, 300 tested"
    assert all(basis[name] for name in ("Gallery", "Chance", "Baselines"))
    written = render_markdown(table)
    assert all(text in written for text in basis.values())
    assert all(len(row.cells) == len(table.columns) for row in table.rows)

from __future__ import annotations

import csv
from collections.abc import Callable

import pytest

from fcr_train.evaluate.tables import Basis, Cell, Column, Row, Table, render_csv, render_markdown


def test_csv_keeps_figures_intervals_and_notes_apart(
    tables: dict[str, Table], find_row: Callable[..., list[Cell]]
) -> None:
    table = tables["table2b-cmc"]

    lines = render_csv(table).splitlines()

    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    cell = find_row(table, "generated face, VGG16")[5]
    assert float(rows[0]["CMC rank 50 ↑"]) == pytest.approx(cell.value, rel=1e-5)
    assert float(rows[0]["CMC rank 50 ↑ low"]) == pytest.approx(cell.low, rel=1e-5)
    assert sum(line.startswith("# ") for line in lines) == 6 + len(table.notes)


def test_a_line_in_a_name_breaks_no_markdown_table() -> None:
    table = Table(
        name="t",
        title="T",
        says="",
        basis=Basis("", "", "", "", "", ""),
        columns=(Column("a"),),
        rows=(Row((Cell("x|y"),)),),
    )

    assert "| x\\|y |" in render_markdown(table)

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from fcr_train.evaluate.results.images import build_images
from fcr_train.evaluate.study import Study
from fcr_train.evaluate.tables import Cell, Table, render_csv, render_markdown


def test_a_missing_measure_says_why_in_every_form(
    tables: dict[str, Table], find_row: Callable[..., list[Cell]], find_column: Callable[..., int]
) -> None:
    table = tables["table1-images"]
    why = "not computed: no Inception weights were given"

    cell = find_row(table, "CUT", "frontal")[find_column(table, "FID ↓", "measured here")]

    assert (cell.text, cell.reason) == ("\N{EN DASH}", why)
    mark = table.mark(cell)
    assert f"- ({mark}) {why}" in render_markdown(table)
    assert f"\N{EN DASH} ({mark})" in render_markdown(table)
    rows = list(csv.DictReader(io.StringIO(render_csv(table))))
    assert rows[0]["measured here FID ↓"] == why


def test_weights_that_were_given_give_figures_with_their_spread(
    make_study: Callable[..., Study],
    find_row: Callable[..., list[Cell]],
    find_column: Callable[..., int],
) -> None:
    table = build_images(make_study(120, with_weights=True))

    cells = find_row(table, "FastCUT", "frontal")

    kid = cells[find_column(table, "KID ↓", "measured here")]
    assert (kid.text, kid.below) == ("0.0600", "± 0.0020")
    assert cells[find_column(table, "FID ↓", "measured here")].text == "120.0"

"""What happens where the mate may not be enrolled: Table 6."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fcr_train.evaluate.record import FPIRS
from fcr_train.evaluate.results.basis import describe_basis
from fcr_train.evaluate.results.rows import (
    NOT_EVALUATED,
    by_views,
    mark_stated,
    show_estimate,
)
from fcr_train.evaluate.study import miss_by_chance
from fcr_train.evaluate.tables import Cell, Column, Row, Table, choose_digits, write_number

if TYPE_CHECKING:
    from fcr_train.evaluate.record import Evaluation, OpenSet
    from fcr_train.evaluate.study import Study
    from fcr_train.evaluate.tables import Basis

COLUMNS = (
    Column("views", is_text=True),
    Column("gallery"),
    Column("searches with mate"),
    Column("searches without"),
    *(Column(f"FPIR {fpir:g}", "FNIR ↓ at") for fpir in FPIRS),
)


def build_open_set(study: Study) -> Table:
    """Searches with and without the mate enrolled, at thresholds for all."""
    run = study.best_run
    return Table(
        name="table6-open-set",
        title="Table 6. Open set: the mate may not be enrolled",
        says=(
            "Share of mates that are missed (FNIR) at a threshold where a given share of the "
            "searches without a mate still returns somebody (FPIR). “No candidate above "
            "the threshold” is a valid answer."
        ),
        basis=_describe_searches(run),
        columns=COLUMNS,
        rows=tuple(_open_set_row(row, run) for row in sorted(run.open_set, key=by_views)),
        notes=(
            "To claim an FPIR of 0.1, 0.03 or 0.003 with 95 % confidence takes at least 29, 99 "
            "or 998 searches without a mate.",
        ),
    )


def _describe_searches(run: Evaluation) -> Basis:
    basis = describe_basis(run)
    sizes = sorted({row.gallery for row in run.open_set})
    chance = ", ".join(
        f"{write_number(miss_by_chance(FPIRS[0], size), 5)} for N = {size:,}" for size in sizes
    )
    return replace(
        basis,
        gallery=" and ".join(f"{size:,} people" for size in sizes) or "nothing was searched",
        chance=f"FNIR of a score at random, at FPIR {FPIRS[0]:g}: {chance or 'nothing'}",
        baselines=f"closed set, {basis.baselines}",
    )


def _open_set_row(row: OpenSet, run: Evaluation) -> Row:
    digits = choose_digits(row.probes)
    cells = (
        Cell(row.views),
        Cell(row.gallery),
        Cell(row.probes),
        Cell(row.searches_without_mate),
        *(_fnir(row, fpir, digits) for fpir in FPIRS),
    )
    return Row(cells, mark_stated(run, row))


def _fnir(row: OpenSet, fpir: float, digits: int) -> Cell:
    for found in row.fnir:
        if found.fpir == fpir:
            return show_estimate(found.value, digits, found.reason)
    return Cell(reason=NOT_EVALUATED)

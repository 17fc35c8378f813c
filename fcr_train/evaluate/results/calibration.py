"""What a similarity is worth as evidence: Table 7."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fcr_train.evaluate.results.basis import describe_basis
from fcr_train.evaluate.results.rows import by_views, mark_stated, show_estimate
from fcr_train.evaluate.tables import Cell, Column, Row, Table, choose_digits

if TYPE_CHECKING:
    from fcr_train.evaluate.record import Calibration, Evaluation
    from fcr_train.evaluate.study import Study
    from fcr_train.evaluate.tables import Basis

COLUMNS = (
    Column("views", is_text=True),
    Column("people"),
    Column("Cllr ↓"),
    Column("Cllr min ↓"),
    Column("lost to calibration ↓"),
    Column("LR at most"),
    Column("same person, LR below 1", "misleading"),
    Column("other person, LR above 1", "misleading"),
)


def build_calibration(study: Study) -> Table:
    """How well similarities become likelihood ratios, and how far these may go."""
    run = study.best_run
    return Table(
        name="table7-calibration",
        title="Table 7. Calibration to likelihood ratios",
        says=(
            "What a similarity is worth as evidence about one named pair, on folds by person. "
            "Cllr 0 is perfect, 1 says nothing, above 1 misleads. A top candidate is no named "
            "pair: it is the best of many."
        ),
        basis=_describe_pairs(run),
        columns=COLUMNS,
        rows=tuple(_calibration_row(row, run) for row in sorted(run.calibration, key=by_views)),
        notes=(
            "LR at most: the cap. Pictures of one person are not independent, so no ratio may "
            "exceed the number of people that it was fitted on.",
        ),
    )


def _describe_pairs(run: Evaluation) -> Basis:
    basis = describe_basis(run)
    return replace(
        basis,
        gallery="none: pairs of one probe and one photograph",
        chance="Cllr 1, a likelihood ratio of 1 for everybody",
        baselines=f"closed set, {basis.baselines}",
    )


def _calibration_row(row: Calibration, run: Evaluation) -> Row:
    digits = choose_digits(row.people)
    cells = (
        Cell(row.views),
        Cell(row.people),
        show_estimate(row.cllr, 3),
        Cell(row.cllr_min, digits=3),
        Cell(row.cllr.value - row.cllr_min, digits=3),
        Cell(10**row.cap_log10),
        Cell(row.misleading.same, digits=digits),
        Cell(row.misleading.different, digits=digits),
    )
    return Row(cells, mark_stated(run, row))

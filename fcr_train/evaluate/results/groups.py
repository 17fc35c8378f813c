"""Whether some people fare worse than others: Table 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.evaluate.record import Estimate
from fcr_train.evaluate.results.basis import describe_basis
from fcr_train.evaluate.results.rows import show_estimate
from fcr_train.evaluate.study import compare
from fcr_train.evaluate.tables import Cell, Column, Row, Table, choose_digits

if TYPE_CHECKING:
    from fcr_train.evaluate.record import Gap, Group
    from fcr_train.evaluate.study import Study

GROUPINGS = {"sex": "sex", "age": "age", "bmi": "body mass index"}
MEASURES = {
    "cmc 10": "rank 10",
    "cmc 50": "rank 50",
    "median rank": "median rank",
    "fnir": "FNIR",
    "fpir": "FPIR",
}
GROUP_COLUMNS = (
    Column("by", is_text=True),
    Column("group", is_text=True),
    Column("people"),
    Column("rank 10 ↑"),
    Column("rank 50 ↑"),
    Column("median rank ↓"),
    Column("FNIR ↓"),
    Column("FPIR ↓"),
)
GAP_COLUMNS = (
    Column("by", is_text=True),
    Column("measure", is_text=True),
    Column("worst", is_text=True),
    Column("best", is_text=True),
    Column("gap"),
    Column("groups differ", is_text=True),
)


def build_groups(study: Study) -> Table:
    """The best run by sex, age and body mass index, at one threshold for all."""
    run = study.best_run
    return Table(
        name="table8a-groups",
        title="Table 8a. The best run by group",
        says="FNIR and FPIR are at one threshold for everybody, so that groups can be compared.",
        basis=describe_basis(run),
        columns=GROUP_COLUMNS,
        rows=tuple(_group_row(group) for group in run.groups),
    )


def _group_row(group: Group) -> Row:
    digits = choose_digits(group.people)
    cells = (
        Cell(GROUPINGS[group.by]),
        Cell(group.group),
        Cell(group.people),
        *(show_estimate(group.cmc.get(k), digits) for k in ("10", "50")),
        show_estimate(group.median_rank, 0),
        show_estimate(group.fnir, digits),
        show_estimate(group.fpir, digits),
    )
    return Row(cells)


def build_gaps(study: Study) -> Table:
    """Worst group less best group in each measure."""
    return Table(
        name="table8b-gaps",
        title="Table 8b. Worst group less best group",
        says="An interval that holds 0 shows neither a difference between groups nor its absence.",
        basis=describe_basis(study.best_run),
        columns=GAP_COLUMNS,
        rows=tuple(_gap_row(gap) for gap in study.best_run.gaps),
    )


def _gap_row(gap: Gap) -> Row:
    verdict = ""
    if gap.gap:
        differs = compare(gap.gap, Estimate(0.0)) != "not distinguishable"
        verdict = "yes" if differs else "not distinguishable"
    cells = (
        Cell(GROUPINGS[gap.by]),
        Cell(MEASURES[gap.measure]),
        Cell(gap.worst),
        Cell(gap.best),
        show_estimate(gap.gap, 0 if gap.measure == "median rank" else 3, gap.reason),
        Cell(verdict),
    )
    return Row(cells)

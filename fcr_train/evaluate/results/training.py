"""How far chance of training moves the best run's figures: Table 10."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.evaluate.record import RANKS
from fcr_train.evaluate.results.basis import describe_basis
from fcr_train.evaluate.results.rows import show_estimate, show_places
from fcr_train.evaluate.study import find_headline
from fcr_train.evaluate.tables import Cell, Column, Row, Table, choose_digits

if TYPE_CHECKING:
    from fcr_train.evaluate.record import Evaluation, Retrieval
    from fcr_train.evaluate.study import Study

COLUMNS = (
    Column("seed", is_text=True),
    *(Column(f"rank {k} ↑", "generated face") for k in RANKS),
    Column("mean reciprocal rank ↑", "generated face"),
)


def build_trainings(study: Study) -> Table:
    """The best run and its trainings with other seeds, and the largest difference of them."""
    runs = [study.best_run, *study.again]
    found = [(run, row) for run in runs if (row := find_headline(run))]
    rows = [_show_training(run, row, run is study.best_run) for run, row in found]
    if len(found) > 1:
        rows.append(_show_spread([row for _, row in found]))
    return Table(
        name="table10-trainings",
        title="Table 10. The best run, trained again",
        says=_tell(len(found)),
        basis=describe_basis(study.best_run),
        columns=COLUMNS,
        rows=tuple(rows),
    )


def _tell(trainings: int) -> str:
    if trainings < 2:
        return (
            "Trained once: the intervals tell what other people would change, not what another "
            "training would. Three trainings or more (--trainings 3) would show that."
        )
    return (
        f"Trained {trainings} times on the same people, everything alike but the seed. The "
        "intervals tell what other people would change; the last row, what chance of training did."
    )


def _show_training(run: Evaluation, row: Retrieval, is_best: bool) -> Row:
    cells = (
        Cell(str(run.embedder.seed)),
        *show_places(row, "cmc", RANKS),
        show_estimate(row.mean_reciprocal_rank, 3),
    )
    return Row(cells, "best" if is_best else "run")


def _show_spread(rows: list[Retrieval]) -> Row:
    digits = choose_digits(rows[0].probes)
    shares = [[row.cmc[str(k)].value for row in rows] for k in RANKS]
    ranks = [row.mean_reciprocal_rank.value for row in rows]
    return Row(
        (
            Cell("largest less smallest"),
            *(Cell(max(values) - min(values), digits=digits) for values in shares),
            Cell(max(ranks) - min(ranks), digits=3),
        ),
        "baseline",
    )

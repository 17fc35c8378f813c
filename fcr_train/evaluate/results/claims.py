"""What may be claimed: Table 9."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.evaluate.results.basis import describe_basis
from fcr_train.evaluate.results.rows import show_names
from fcr_train.evaluate.tables import Cell, Column, Row, Table

if TYPE_CHECKING:
    from fcr_train.evaluate.study import Study

COLUMNS = (
    Column("translator", is_text=True),
    Column("embedder", is_text=True),
    Column("earned", is_text=True),
    Column("first that failed", is_text=True),
)


def build_claims(study: Study) -> Table:
    """Which claims each run has earned, and the first that it has not."""
    return Table(
        name="table9-claims",
        title="Table 9. What may be claimed",
        says=(
            "Claims are earned in order, each with the interval clear of the one below: better "
            "than chance, than the mean face, than sex and age alone; not worse than the direct "
            f"matcher. They are judged at rank {study.rank}, with jitter on. After the first that "
            "fails nothing more is claimed."
        ),
        basis=describe_basis(study.best_run),
        columns=COLUMNS,
        rows=tuple(
            Row(
                (
                    *show_names(run),
                    Cell("; ".join(run.claims.passed) or "none"),
                    Cell(run.claims.failed or "none"),
                ),
                "best" if run is study.best_run else "run",
            )
            for run in study.on_split("person")
        ),
    )

"""What views, jitter, gallery and split change: Tables 4 and 5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.evaluate.results.basis import describe_basis
from fcr_train.evaluate.results.rows import (
    by_views,
    show_names,
    show_places,
    show_share,
    show_verdicts,
)
from fcr_train.evaluate.study import (
    DIRECT,
    compare,
    embedder_of,
    find_beside,
    find_headline,
    translator_of,
)
from fcr_train.evaluate.tables import Cell, Column, Row, Table, choose_digits

if TYPE_CHECKING:
    from fcr_train.evaluate.record import Evaluation, Retrieval
    from fcr_train.evaluate.study import Study

BESIDE = ("chance", "mean face", "sex and age", *DIRECT)
"""Probes that stand beside the generated face under each condition."""
SPLIT_COLUMNS = (
    Column("translator", is_text=True),
    Column("embedder", is_text=True),
    *(
        Column(name, group)
        for group in ("split by person", "split by pair")
        for name in ("gallery", "chance, 50", "sex and age, 50", "rank 10 ↑", "rank 50 ↑")
    ),
    Column("rank 10", "gap, pair less person"),
    Column("rank 50", "gap, pair less person"),
    Column("pair is, at 50", "gap, pair less person", is_text=True),
)


def build_conditions(study: Study) -> Table:
    """The best run by views, jitter and gallery, each with its own chance and baselines."""
    run = study.best_run
    rows = sorted(
        (row for row in run.retrieval if row.probe == "generated"),
        key=lambda row: (by_views(row), not row.jitter, -row.gallery),
    )
    return Table(
        name="table4-conditions",
        title="Table 4. The best run by views, jitter and gallery",
        says=(
            "Jitter moves films and photographs by a few per cent in scale and position, so that "
            "absolute size cannot stand in for shape. Claims are made with jitter on."
        ),
        basis=describe_basis(run, "columns of their own, under the same conditions"),
        columns=_condition_columns(study.rank),
        rows=tuple(_condition_row(run, row, row is find_headline(run)) for row in rows),
    )


def _condition_columns(rank: int) -> tuple[Column, ...]:
    return (
        Column("views", is_text=True),
        Column("jitter", is_text=True),
        Column("gallery"),
        Column("searched for"),
        *(Column(f"rank {k} ↑", "generated face") for k in (1, 10, 50)),
        *(Column(name, "at rank 50") for name in BESIDE),
        Column("against sex and age", f"at rank {rank}", is_text=True),
        Column("against direct matcher", f"at rank {rank}", is_text=True),
    )


def _condition_row(run: Evaluation, row: Retrieval, is_headline: bool) -> Row:
    cells = (
        Cell(row.views),
        Cell("on" if row.jitter else "off"),
        Cell(row.gallery),
        Cell(row.probes),
        *show_places(row, "cmc", (1, 10, 50)),
        *(show_share(find_beside(run, row, probe), 50) for probe in BESIDE),
        *show_verdicts(run, row),
    )
    return Row(cells, "stated" if is_headline else "run")


def build_splits(study: Study) -> Table:
    """Both splits side by side, and what the split by pairs adds."""
    pairs = [
        (run, study.find("pair", translator_of(run), embedder_of(run)))
        for run in study.on_split("person")
    ]
    return Table(
        name="table5-splits",
        title="Table 5. Split by person beside split by pair",
        says=(
            "A split by pairs tests on people whose other view was trained on. The gap is what "
            "that adds; it is no merit. Every claim rests on the split by person alone."
        ),
        basis=describe_basis(study.best_run, "columns of their own, for each split"),
        columns=SPLIT_COLUMNS,
        rows=tuple(_split_row(run, other, run is study.best_run) for run, other in pairs),
        notes=(
            "The gap is not shown where galleries differ in size, as chance does then. The two "
            "splits have other people and other training: their intervals are compared unpaired.",
        ),
    )


def _split_row(run: Evaluation, other: Evaluation | None, is_best: bool) -> Row:
    row = find_headline(run)
    paired = _match_headline(other, row)
    cells = (
        *show_names(run),
        *_split_cells(run, row),
        *_split_cells(other, paired),
        *_split_gap(row, paired),
    )
    return Row(cells, "best" if is_best else "run")


def _match_headline(other: Evaluation | None, row: Retrieval | None) -> Retrieval | None:
    """Return the other run's figures under the same conditions, else its own headline."""
    if other is None or row is None:
        return None
    return find_beside(other, row, "generated") or find_headline(other)


def _split_cells(run: Evaluation | None, row: Retrieval | None) -> list[Cell]:
    if run is None or row is None:
        return [Cell(reason="this split was not evaluated")] * 5
    beside = [show_share(find_beside(run, row, name), 50) for name in ("chance", "sex and age")]
    return [Cell(row.gallery), *beside, *show_places(row, "cmc", (10, 50))]


def _split_gap(row: Retrieval | None, paired: Retrieval | None) -> list[Cell]:
    if row is None or paired is None:
        return [Cell(reason="only one split was evaluated")] * 3
    if (row.gallery, row.views, row.jitter) != (paired.gallery, paired.views, paired.jitter):
        return [Cell(reason="the splits were searched under different conditions")] * 3
    digits = choose_digits(min(row.probes, paired.probes))
    gaps = [Cell(paired.cmc[k].value - row.cmc[k].value, digits=digits) for k in ("10", "50")]
    return [*gaps, Cell(compare(paired.cmc["50"], row.cmc["50"]))]

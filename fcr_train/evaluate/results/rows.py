"""What the rows of several tables share: their order and their cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.evaluate.study import (
    VIEWS,
    compare_probes,
    embedder_of,
    find_direct,
    find_headline,
    translator_of,
    write_name,
)
from fcr_train.evaluate.tables import Cell, choose_digits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fcr_train.evaluate.record import (
        Calibration,
        Estimate,
        Evaluation,
        Images,
        Measure,
        OpenSet,
        Retrieval,
    )
    from fcr_train.evaluate.tables import Kind

NOT_EVALUATED = "not in this evaluation's record"


def by_views(row: Images | Retrieval | OpenSet | Calibration) -> int:
    """Order rows by their views, as results are stated."""
    return VIEWS.index(row.views)


def mark_stated(run: Evaluation, row: OpenSet | Calibration) -> Kind:
    """Return the kind of a row: whether it has the views under which results are stated."""
    headline = find_headline(run)
    return "stated" if headline and headline.views == row.views else "run"


def show_names(run: Evaluation) -> tuple[Cell, Cell]:
    """Return the names of the run's translator and embedder."""
    return Cell(write_name(translator_of(run))), Cell(write_name(embedder_of(run)))


def show_estimate(estimate: Estimate | None, digits: int, reason: str = "") -> Cell:
    """Return an estimate with its interval, or why there is none."""
    if estimate is None:
        return Cell(reason=reason or NOT_EVALUATED)
    return Cell(estimate.value, estimate.low, estimate.high, digits, reason=reason)


def show_measure(measure: Measure, digits: int) -> Cell:
    """Return a measure of pictures with its spread, or why there is none."""
    return Cell(measure.value, digits=digits, spread=measure.spread, reason=measure.reason)


def show_places(row: Retrieval | None, measure: str, places: Iterable[int]) -> list[Cell]:
    """Return a cell for each k of one measure of a retrieval."""
    if row is None:
        return [Cell(reason=NOT_EVALUATED) for _ in places]
    estimates: Mapping[str, Estimate] = getattr(row, measure)
    return [show_estimate(estimates.get(str(k)), choose_digits(row.probes)) for k in places]


def show_share(row: Retrieval | None, rank: int) -> Cell:
    """Return the share of a retrieval whose mate is found at a rank or before."""
    return show_places(row, "cmc", [rank])[0]


def show_verdicts(run: Evaluation, row: Retrieval | None) -> list[Cell]:
    """Say where the row lies from the sex-and-age filter and from the direct matcher."""
    if row is None:
        return [Cell(reason=NOT_EVALUATED)] * 2
    direct = find_direct(run, row)
    words = [compare_probes(run, row, "sex and age")]
    words.append(compare_probes(run, row, direct.probe) if direct else None)
    return [Cell(word, reason="" if word else "not compared in the record") for word in words]

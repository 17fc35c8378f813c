from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fcr_train.evaluate.record import Estimate
from fcr_train.evaluate.results.basis import BASELINES
from fcr_train.evaluate.results.retrieval import build_cmc
from fcr_train.evaluate.results.rows import NOT_EVALUATED
from fcr_train.evaluate.study import Study, find_beside, find_direct, find_headline
from fcr_train.evaluate.tables import Cell, Table, render_markdown


def test_figures_in_the_cmc_table_are_those_of_the_record(
    study: Study, tables: dict[str, Table], find_row: Callable[..., list[Cell]]
) -> None:
    run = study.best_run
    generated = find_headline(run)
    assert generated is not None

    cells = find_row(tables["table2b-cmc"], "generated face, DenseNet121")

    for place, rank in enumerate(("1", "5", "10", "20", "50"), start=1):
        estimate = generated.cmc[rank]
        cell = cells[place]
        assert (cell.value, cell.low, cell.high) == (estimate.value, estimate.low, estimate.high)
    assert cells[6].value == generated.mean_reciprocal_rank.value
    assert cells[7].value == generated.median_rank.value


def test_every_baseline_has_a_row_under_the_conditions_of_the_headline(
    study: Study, tables: dict[str, Table], find_row: Callable[..., list[Cell]]
) -> None:
    headline = find_headline(study.best_run)
    assert headline is not None
    assert (headline.views, headline.jitter) == ("both", True)

    for probe, name in BASELINES.items():
        row = find_beside(study.best_run, headline, probe)
        assert row is not None
        assert find_row(tables["table2b-cmc"], name)[5].value == row.cmc["50"].value
        assert find_row(tables["table2a-retrieval"], name)[1].value == row.recall["10"].value


def test_a_baseline_nobody_measured_says_so(
    study: Study, find_row: Callable[..., list[Cell]]
) -> None:
    run = study.best_run
    rows = tuple(row for row in run.retrieval if row.probe != "film (linear)")
    others = [other for other in study.evaluations if other is not run]

    table = build_cmc(replace(study, evaluations=[replace(run, retrieval=rows), *others]))

    cell = find_row(table, BASELINES["film (linear)"])[1]
    assert (cell.text, cell.reason) == ("\N{EN DASH}", NOT_EVALUATED)


def test_verdicts_come_from_the_paired_difference(
    study: Study, find_row: Callable[..., list[Cell]]
) -> None:
    run = study.best_run
    row = find_headline(run)
    assert row is not None
    direct = find_direct(run, row)
    assert direct is not None
    comparisons = tuple(
        replace(found, difference=Estimate(-0.2, -0.3, -0.1))
        if (found.second, found.views, found.jitter) == (direct.probe, row.views, row.jitter)
        else found
        for found in run.comparisons
    )
    worse = replace(run, comparisons=comparisons)
    others = [other for other in study.evaluations if other is not run]

    table = build_cmc(replace(study, evaluations=[worse, *others]))

    assert find_row(table, "generated face, DenseNet121")[-1].text == "below"


def test_an_embedder_used_as_it_came_stands_beside_the_trained_one(study: Study) -> None:
    run = study.best_run
    untrained = replace(run, embedder=replace(run.embedder, steps=0))

    both = replace(study, evaluations=[*study.evaluations, untrained])

    table = render_markdown(build_cmc(both))
    assert "DenseNet121, not trained" in table
    assert both.best_run == run
    assert both.find("person", "pix2pix", "densenet121-untrained") == untrained

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from fcr_edge.errors import DataError
from fcr_train.evaluate import results
from fcr_train.evaluate.record import Claims, Estimate
from fcr_train.evaluate.study import (
    Study,
    compare,
    find_beside,
    find_direct,
    find_headline,
    find_supported_fpir,
)
from fcr_train.evaluate.tables import Cell, Table, render_csv, render_markdown

BUILDERS = [
    results.build_images,
    results.build_retrieval,
    results.build_cmc,
    results.build_grid,
    results.build_conditions,
    results.build_splits,
    results.build_open_set,
    results.build_calibration,
    results.build_groups,
    results.build_gaps,
    results.build_claims,
]


@pytest.fixture(scope="module")
def tables(study: Study) -> dict[str, Table]:
    return {table.name: table for table in results.build_tables(study)}


def find_row(table: Table, *heads: str) -> list[Cell]:
    rows = [
        row.cells for row in table.rows if [c.text for c in row.cells[: len(heads)]] == [*heads]
    ]
    assert len(rows) == 1, f"{heads} stands {len(rows)} times in {table.name}"
    return list(rows[0])


def column(table: Table, name: str, group: str = "") -> int:
    return [(c.group, c.name) for c in table.columns].index((group, name))


def test_all_tables_are_built(tables: dict[str, Table]) -> None:
    assert len(tables) == len(BUILDERS)


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_no_table_stands_without_what_it_must_not_be_read_without(
    study: Study, build: Callable[[Study], Table]
) -> None:
    table = build(study)

    basis = dict(table.basis.lines)

    assert "level S" in basis["Evidence"]
    assert "never forensic accuracy" in basis["Evidence"]
    assert basis["Split"].startswith("by person")
    assert basis["People"] == "750 trained on, 300 tested"
    assert all(basis[name] for name in ("Gallery", "Chance", "Baselines"))
    written = render_markdown(table)
    assert all(text in written for text in basis.values())
    assert all(len(row.cells) == len(table.columns) for row in table.rows)


def test_figures_in_the_cmc_table_are_those_of_the_record(
    study: Study, tables: dict[str, Table]
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
    study: Study, tables: dict[str, Table]
) -> None:
    headline = find_headline(study.best_run)
    assert headline is not None
    assert (headline.views, headline.jitter) == ("both", True)

    for probe, name in results.BASELINES.items():
        row = find_beside(study.best_run, headline, probe)
        assert row is not None
        assert find_row(tables["table2b-cmc"], name)[5].value == row.cmc["50"].value
        assert find_row(tables["table2a-retrieval"], name)[1].value == row.recall["10"].value


def test_a_baseline_nobody_measured_says_so(study: Study) -> None:
    run = study.best_run
    rows = tuple(row for row in run.retrieval if row.probe != "film (linear)")
    others = [other for other in study.evaluations if other is not run]

    table = results.build_cmc(replace(study, evaluations=[replace(run, retrieval=rows), *others]))

    cell = find_row(table, results.BASELINES["film (linear)"])[1]
    assert (cell.text, cell.reason) == ("\N{EN DASH}", results.NOT_EVALUATED)


def test_figures_of_the_seed_paper_stand_in_columns_of_their_own(tables: dict[str, Table]) -> None:
    images, retrieval = tables["table1-images"], tables["table2a-retrieval"]

    for table in (images, retrieval):
        assert (results.PAPER_GROUP, 3 if table is images else 4) in table.groups
        assert any("Not comparable" in note for note in table.notes)
    assert [c.text for c in find_row(images, "FastCUT", "frontal")[-3:]] == [
        "63.65",
        "2.72 ± .22",
        ".66",
    ]
    assert [c.text for c in find_row(retrieval, "generated face, DenseNet121")[-4:]] == [
        ".04",
        ".08",
        ".81",
        ".74",
    ]
    assert "N = 250" in render_markdown(retrieval)


def test_a_missing_measure_says_why_in_every_form(tables: dict[str, Table]) -> None:
    table = tables["table1-images"]
    why = "not computed: no Inception weights were given"

    cell = find_row(table, "CUT", "frontal")[column(table, "FID ↓", "measured here")]

    assert (cell.text, cell.reason) == ("\N{EN DASH}", why)
    mark = table.mark(cell)
    assert f"- ({mark}) {why}" in render_markdown(table)
    assert f"\N{EN DASH} ({mark})" in render_markdown(table)
    rows = list(csv.DictReader(io.StringIO(render_csv(table))))
    assert rows[0]["measured here FID ↓"] == why


def test_weights_that_were_given_give_figures_with_their_spread(
    make_study: Callable[..., Study],
) -> None:
    table = results.build_images(make_study(120, with_weights=True))

    cells = find_row(table, "FastCUT", "frontal")

    kid = cells[column(table, "KID ↓", "measured here")]
    assert (kid.text, kid.below) == ("0.0600", "± 0.0020")
    assert cells[column(table, "FID ↓", "measured here")].text == "120.0"


def test_what_the_searches_cannot_support_is_not_printed(tables: dict[str, Table]) -> None:
    cells = find_row(tables["table6-open-set"], "both")

    assert [cell.value is None for cell in cells[-3:]] == [False, False, True]
    assert cells[-1].reason == "not measurable with 300 searches"


def test_a_small_group_has_no_gap(tables: dict[str, Table]) -> None:
    cells = find_row(tables["table8b-gaps"], "age")

    assert cells[4].value is None
    assert "fewer than 20 people" in cells[4].reason


def test_the_gap_is_pair_split_less_person_split(study: Study, tables: dict[str, Table]) -> None:
    table = tables["table5-splits"]
    shares = []
    for by in ("person", "pair"):
        run = study.find(by, "pix2pix", "densenet121")
        assert run is not None
        row = find_headline(run)
        assert row is not None
        shares.append(row.cmc["50"].value)

    cells = find_row(table, "pix2pix (cGAN)", "DenseNet121")

    gap = cells[column(table, "rank 50", "gap, pair less person")]
    assert gap.value == pytest.approx(shares[1] - shares[0])


def test_no_gap_is_printed_between_galleries_of_two_sizes(
    make_study: Callable[..., Study], study: Study
) -> None:
    others = make_study(120).on_split("pair")

    table = results.build_splits(replace(study, evaluations=[*study.on_split("person"), *others]))

    cells = find_row(table, "CUT", "VGG16")
    assert [cell.value for cell in cells[-3:]] == [None] * 3
    assert "different conditions" in cells[-1].reason


def test_a_split_that_was_not_evaluated_says_so(study: Study) -> None:
    table = results.build_splits(replace(study, evaluations=study.on_split("person")))

    assert "this split was not evaluated" in table.reasons


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        pytest.param(Estimate(0.5, 0.4, 0.6), Estimate(0.3, 0.2, 0.39), "above", id="clear"),
        pytest.param(Estimate(0.3, 0.2, 0.39), Estimate(0.5, 0.4, 0.6), "below", id="under"),
        pytest.param(
            Estimate(0.5, 0.4, 0.6), Estimate(0.3, 0.2, 0.4), "not distinguishable", id="touching"
        ),
        pytest.param(
            Estimate(0.5, 0.4, 0.6), Estimate(0.05), "above", id="chance has no interval"
        ),
    ],
)
def test_intervals_that_meet_are_not_distinguishable(
    one: Estimate, other: Estimate, words: str
) -> None:
    assert compare(one, other) == words


def test_verdicts_come_from_the_paired_difference(study: Study) -> None:
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

    table = results.build_cmc(replace(study, evaluations=[worse, *others]))

    assert find_row(table, "generated face, DenseNet121")[-1].text == "below"


def test_the_summary_states_share_interval_and_chance(study: Study) -> None:
    row = find_headline(study.best_run)
    assert row is not None
    share = row.cmc["50"]

    sentences = results.summarise(study)

    assert f"{100 * share.value:.1f} %" in sentences[0]
    assert f"95 % interval {100 * (share.low or 0):.1f} %" in sentences[0]
    assert "first 50 of 300" in sentences[0]
    assert "Chance would do so for 16.7 %" in sentences[0]
    assert any(sentence.startswith("Sex and age alone: ") for sentence in sentences)
    assert sentences[-1].endswith("None failed.")


def test_in_a_small_gallery_the_result_is_stated_where_chance_is_rare(
    make_study: Callable[..., Study],
) -> None:
    few = make_study(51)

    assert few.rank == 10
    assert "among the first 10 of 51" in results.summarise(few)[0]
    assert {column.group for column in results.build_grid(few).columns[1:]} == {"rank 10 ↑ with"}


def test_the_summary_ends_with_the_first_claim_that_failed(study: Study) -> None:
    claims = Claims(("better than chance",), "better than the mean face: 0.01 (-0.02 to 0.04)")
    run = replace(study.best_run, claims=claims)

    sentences = results.summarise(replace(study, evaluations=[run]))

    assert sentences[-1] == (
        "Claims earned, judged at rank 10: better than chance. The first that failed: "
        "better than the mean face: 0.01 (-0.02 to 0.04)."
    )


def test_csv_keeps_figures_intervals_and_notes_apart(tables: dict[str, Table]) -> None:
    table = tables["table2b-cmc"]

    lines = render_csv(table).splitlines()

    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    cell = find_row(table, "generated face, VGG16")[5]
    assert float(rows[0]["CMC rank 50 ↑"]) == pytest.approx(cell.value, rel=1e-5)
    assert float(rows[0]["CMC rank 50 ↑ low"]) == pytest.approx(cell.low, rel=1e-5)
    assert sum(line.startswith("# ") for line in lines) == 6 + len(table.notes)


def test_a_line_in_a_name_breaks_no_markdown_table() -> None:
    table = results.Table(
        name="t",
        title="T",
        says="",
        basis=results.Basis("", "", "", "", "", ""),
        columns=(results.Column("a"),),
        rows=(results.Row((Cell("x|y"),)),),
    )

    assert "| x\\|y |" in render_markdown(table)


@pytest.mark.parametrize(("searches", "fpir"), [(29, 0.1), (99, 0.03), (998, 0.003)])
def test_the_supported_rate_is_that_of_the_rule(searches: int, fpir: float) -> None:
    assert find_supported_fpir(searches) <= fpir < find_supported_fpir(searches - 1)


def test_an_embedder_used_as_it_came_stands_beside_the_trained_one(study: Study) -> None:
    run = study.best_run
    untrained = replace(run, embedder=replace(run.embedder, steps=0))

    both = replace(study, evaluations=[*study.evaluations, untrained])

    table = render_markdown(results.build_cmc(both))
    assert "DenseNet121, not trained" in table
    assert both.best_run == run
    assert both.find("person", "pix2pix", "densenet121-untrained") == untrained


def test_the_published_mark_stands_with_its_input_and_gallery(tables: dict[str, Table]) -> None:
    text = render_markdown(tables["table2b-cmc"])

    for words in ("62 %", "41 to 80 %", "6,159", "not comparable"):
        assert words in text


def test_two_evaluations_of_one_run_are_refused(study: Study) -> None:
    with pytest.raises(DataError, match="two evaluations are of cyclegan with vgg16"):
        replace(study, evaluations=[*study.evaluations, study.evaluations[0]])


def test_a_best_run_without_people_it_never_saw_is_refused(study: Study) -> None:
    with pytest.raises(DataError, match="no evaluation on the split by person"):
        replace(study, evaluations=study.on_split("pair"))

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fcr_train.evaluate.record import Claims
from fcr_train.evaluate.results.retrieval import build_grid
from fcr_train.evaluate.results.summary import summarise
from fcr_train.evaluate.study import Study, find_headline


def test_the_summary_states_share_interval_and_chance(study: Study) -> None:
    row = find_headline(study.best_run)
    assert row is not None
    share = row.cmc["50"]

    sentences = summarise(study)

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
    assert "among the first 10 of 51" in summarise(few)[0]
    assert {column.group for column in build_grid(few).columns[1:]} == {"rank 10 ↑ with"}


def test_the_summary_ends_with_the_first_claim_that_failed(study: Study) -> None:
    claims = Claims(("better than chance",), "better than the mean face: 0.01 (-0.02 to 0.04)")
    run = replace(study.best_run, claims=claims)

    sentences = summarise(replace(study, evaluations=[run]))

    assert sentences[-1] == (
        "Claims earned: better than chance. The first that failed: better than the mean face: "
        "0.01 (-0.02 to 0.04)."
    )

from __future__ import annotations

import pytest

from export import card as bundle_card
from fcr_train.evaluate import card
from fcr_train.evaluate.results import build_tables
from fcr_train.evaluate.results.summary import summarise
from fcr_train.evaluate.study import Study


@pytest.fixture(scope="module")
def text(study: Study) -> str:
    return card.render_card(study, build_tables(study), summarise(study))


def test_the_card_names_the_run_and_its_checkpoints(study: Study, text: str) -> None:
    assert text.startswith("# Model card: pix2pix (cGAN) with DenseNet121\n")
    assert study.command in text
    for checkpoint in study.best.checkpoints.values():
        assert checkpoint in text
    assert study.best_run.embedder.checkpoint_sha256 in text
    assert study.best_run.dataset_sha256 in text


@pytest.mark.parametrize(
    "heading",
    ["Intended use", "Limits", "Training data", "The translator", "The embedder", "Evaluation"],
)
def test_the_card_has_what_a_reader_looks_for(text: str, heading: str) -> None:
    assert f"\n## {heading}\n" in text


def test_the_card_holds_results_by_group_and_what_may_be_claimed(study: Study, text: str) -> None:
    assert "Table 8a. The best run by group" in text
    assert "| sex | female | 129 |" in text
    assert "Table 9. What may be claimed" in text
    assert all(sentence in text for sentence in summarise(study))


def test_both_cards_state_the_same_limits(text: str) -> None:
    assert bundle_card.LIMITS is card.LIMITS
    assert all(limit in text for limit in card.LIMITS)


def test_limits_of_simulated_people_stand_where_people_are_simulated() -> None:
    assert {*card.SIMULATED_LIMITS} < {*card.list_limits("S")}
    assert not {*card.SIMULATED_LIMITS} & {*card.list_limits("P")}

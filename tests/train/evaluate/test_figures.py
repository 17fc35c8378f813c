from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from fcr_train.evaluate import figures
from fcr_train.evaluate.study import Illustration, Study

NAMES = [
    "figure-cmc-probes",
    "figure-cmc-runs",
    "figure-det",
    "figure-tippett",
    "figure-groups",
]


@pytest.fixture(scope="module")
def drawn(study: Study) -> list[Illustration]:
    return figures.build_figures(study)


def test_every_figure_is_drawn_and_says_what_it_shows(drawn: list[Illustration]) -> None:
    assert [figure.name for figure in drawn] == NAMES
    for figure in drawn:
        assert ElementTree.fromstring(figure.data).tag.endswith("svg")
        assert len(figure.alt) > 40
        assert figure.caption


def test_the_figures_of_the_best_run_are_told_to_who_cannot_see_them(
    study: Study, drawn: list[Illustration]
) -> None:
    row = figures.find_headline(study.best_run)
    assert row is not None

    assert f"generated face {row.cmc['50'].value:.3f}" in drawn[0].alt


def test_equal_studies_give_equal_bytes(study: Study, drawn: list[Illustration]) -> None:
    again = figures.draw_det(study.best_run)

    assert again is not None
    assert again.data == drawn[2].data
    assert b"<dc:date>" not in again.data


def test_what_was_not_measured_is_not_drawn(study: Study) -> None:
    run = replace(study.best_run, open_set=(), calibration=(), groups=())

    drawn = [draw(run) for draw in (figures.draw_det, figures.draw_tippett, figures.draw_groups)]

    assert drawn == [None] * 3


def test_the_det_says_which_rates_the_searches_cannot_support(drawn: list[Illustration]) -> None:
    # 1 - .05^(1 / 300) = .00994
    assert "below 0.0099, which 300 searches" in drawn[2].caption

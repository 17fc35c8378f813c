from __future__ import annotations

from dataclasses import replace

import pytest

from fcr_train.evaluate.claims import claims
from fcr_train.evaluate.record import (
    RANKS,
    Bootstrap,
    Claims,
    Comparison,
    Estimate,
    Evaluation,
    Network,
    People,
    Probe,
    Retrieval,
    SplitUsed,
    Views,
)

STEPS = (
    "better than chance",
    "better than the mean face",
    "better than the sex-and-age filter",
    "not worse than the direct matcher",
)
CLEAR, WITHIN, BELOW = (
    Estimate(0.1, 0.02, 0.2),
    Estimate(0.1, -0.02, 0.2),
    Estimate(-0.1, -0.2, -0.01),
)


def make_row(low: float, views: Views = "both", *, jitter: bool = True) -> Retrieval:
    share = Estimate(0.5, low, 0.75)
    return Retrieval(
        "generated",
        views,
        jitter,
        100,
        "all test people",
        60,
        {str(k): share for k in RANKS},
        {},
        {},
        share,
        share,
    )


def compare(rival: Probe, difference: Estimate) -> Comparison:
    return Comparison("generated", rival, "both", True, 100, 20, difference, None)


def make_evaluation(
    rows: tuple[Retrieval, ...], *comparisons: Comparison, by: str = "person"
) -> Evaluation:
    network = Network("densenet121", "tiny", "a" * 64, 1, 1)
    return Evaluation(
        "fcr-evaluation/1",
        "",
        "",
        "",
        "S",
        SplitUsed(by, 0, 1),  # type: ignore[arg-type]
        People(200, 100),
        "b" * 64,
        network,
        network,
        None,
        Bootstrap(),
        rows,
        comparisons,
        (),
        (),
        None,
        (),
        (),
        (),
        Claims((), None),
        1.0,
        {},
    )


ALL = (
    compare("mean face", CLEAR),
    compare("sex and age", CLEAR),
    compare("film (linear)", WITHIN),
    compare("film (two-tower)", CLEAR),
)


def test_all_claims_are_earned_in_order() -> None:
    assert claims(make_evaluation((make_row(0.3),), *ALL)) == Claims(STEPS, None)


@pytest.mark.parametrize(
    ("step", "low", "changed", "words"),
    [
        (0, 0.2, None, r"better than chance: 0.500 (0.200 to 0.750) at rank 20 against 0.200"),
        (1, 0.3, compare("mean face", WITHIN), "0.100 (-0.020 to 0.200) at rank 20"),
        (2, 0.3, compare("sex and age", BELOW), "-0.100 (-0.200 to -0.010) at rank 20"),
        (3, 0.3, compare("film (two-tower)", BELOW), "film (two-tower), -0.100"),
        (3, 0.3, compare("film (linear)", BELOW), "film (linear), -0.100"),
    ],
)
def test_the_first_claim_that_fails_ends_the_list(
    step: int, low: float, changed: Comparison | None, words: str
) -> None:
    comparisons = [
        changed if changed is not None and changed.second == each.second else each for each in ALL
    ]

    made = claims(make_evaluation((make_row(low),), *comparisons))

    assert made.passed == STEPS[:step]
    assert made.failed is not None
    assert made.failed.startswith(STEPS[step])
    assert words in made.failed


@pytest.mark.parametrize(("missing", "step"), [(0, 1), (1, 2)])
def test_a_claim_that_was_not_measured_fails(missing: int, step: int) -> None:
    made = claims(make_evaluation((make_row(0.3),), *ALL[:missing], *ALL[missing + 1 :]))

    assert made.failed == f"{STEPS[step]}: not measured"


def test_without_a_direct_matcher_the_last_claim_fails() -> None:
    made = claims(make_evaluation((make_row(0.3),), *ALL[:2]))

    assert made == Claims(STEPS[:3], "not worse than the direct matcher: not measured")


def test_nothing_is_claimed_on_pairs_or_without_jitter() -> None:
    for evaluation, words in (
        (make_evaluation((make_row(0.3),), *ALL, by="pair"), "split is by pair"),
        (make_evaluation((make_row(0.3, jitter=False),), *ALL), "with jitter on"),
        (make_evaluation((), *ALL), "with jitter on"),
    ):
        made = claims(evaluation)
        assert made.passed == ()
        assert made.failed is not None
        assert words in made.failed


def test_both_views_are_judged_where_there_are_both_in_the_largest_gallery() -> None:
    rows = (
        make_row(0.01, "frontal"),
        replace(make_row(0.01), gallery=51),
        make_row(0.3, "both"),
    )

    assert claims(make_evaluation(rows, *ALL)).passed == STEPS

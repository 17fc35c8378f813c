"""Which claims of retrieval an evaluation has earned, in the order they must be earned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.evaluate.record import Claims, Comparison, Estimate, Evaluation, Probe, Retrieval
from fcr_train.evaluate.study import decide_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECT: tuple[Probe, ...] = ("film (two-tower)", "film (linear)")


def claims(evaluation: Evaluation) -> Claims:
    """Go through the claims in the order they must be earned, up to the first that fails.

    Better than chance, than the mean face, than the sex-and-age filter; then not worse than the
    direct matcher. Each is read off CMC(k) of the generated faces with jitter on, both views
    where there are both, in the largest gallery, at the rank k that `decide_rank` states: its
    95 % interval must be clear of chance, the paired difference clear of 0; "not worse" needs a
    difference whose interval reaches 0.
    """
    if evaluation.split.by != "person":
        return Claims((), "none: the split is by pair, so persons are in training and test")
    row = _find_row(evaluation)
    if row is None:
        return Claims((), "none: generated faces were not searched with, with jitter on")
    passed: list[str] = []
    for claim, verdict in _judge(evaluation, row):
        if verdict:
            return Claims(tuple(passed), f"{claim}: {verdict}")
        passed.append(claim)
    return Claims(tuple(passed), None)


def _find_row(evaluation: Evaluation) -> Retrieval | None:
    rows = [row for row in evaluation.retrieval if row.probe == "generated" and row.jitter]
    order = ("both", "frontal", "lateral")
    return min(rows, key=lambda row: (order.index(row.views), -row.gallery), default=None)


def _judge(evaluation: Evaluation, row: Retrieval) -> list[tuple[str, str]]:
    """Return each claim with why it fails, or nothing."""
    rank = decide_rank(row.gallery)
    share, chance = row.cmc[str(rank)], rank / row.gallery
    above = share.low is not None and share.low > chance
    found = {
        each.second: each
        for each in evaluation.comparisons
        if (each.first, each.rank) == ("generated", rank)
        and (each.views, each.jitter, each.gallery) == (row.views, True, row.gallery)
    }
    direct = [found[rival] for rival in DIRECT if rival in found]
    return [
        ("better than chance", "" if above else f"{_show(share, rank)} against {chance:.3f}"),
        ("better than the mean face", _refute_better(found.get("mean face"))),
        ("better than the sex-and-age filter", _refute_better(found.get("sex and age"))),
        ("not worse than the direct matcher", _refute_equal(direct)),
    ]


def _refute_better(comparison: Comparison | None) -> str:
    if comparison is None:
        return "not measured"
    low = comparison.difference.low
    return "" if low is not None and low > 0 else _show(comparison.difference, comparison.rank)


def _refute_equal(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return "not measured"
    for comparison in comparisons:
        high = comparison.difference.high
        if high is None or high < 0:
            return f"{comparison.second}, {_show(comparison.difference, comparison.rank)}"
    return ""


def _show(estimate: Estimate, rank: int) -> str:
    if estimate.low is None or estimate.high is None:
        return f"CMC({rank}) {estimate.value:.3f} without interval"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f}) at rank {rank}"

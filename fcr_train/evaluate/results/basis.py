"""What the figures of a table rest on, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.evaluate.study import DIRECT, find_beside, find_headline
from fcr_train.evaluate.tables import Basis, choose_digits, write_number

if TYPE_CHECKING:
    from fcr_train.evaluate.record import Evaluation, Retrieval

BASELINES = {
    "chance": "chance",
    "mean face": "mean face, the same for everybody",
    "sex and age": "sex and age alone, random order within",
    "estimated sex and age": "sex and age as the film tells them, no face",
    "nearest training face": "nearest face of the training people",
    "film (linear)": "film itself, linear matcher",
    "film (two-tower)": "film itself, two-tower network",
    "fusion": "film and generated face, fused",
    "photograph": "another photograph of the person: the ceiling",
}
"""What stands beside the generated faces in every table of retrieval."""


def describe_setting(run: Evaluation) -> dict[str, str]:
    """Say who was tested, by evidence, split and number: the parts of a Basis so called."""
    folds = "all folds together" if run.split.fold is None else f"fold {run.split.fold}"
    return {
        "level": f"level {run.level}. {run.notice}",
        "split": f"by {run.split.by}, {folds}, seed {run.split.seed}",
        "people": f"{run.people.train:,} trained on, {run.people.test:,} tested",
    }


def describe_basis(run: Evaluation, baselines: str = "") -> Basis:
    """Describe what the run's headline figures rest on; baselines may stand in rows instead."""
    row = find_headline(run)
    return Basis(
        **describe_setting(run),
        gallery="nothing was searched" if row is None else _describe_gallery(row),
        chance="nothing was searched" if row is None else _describe_chance(run, row),
        baselines=baselines or _describe_baselines(run, row),
    )


def _describe_gallery(row: Retrieval) -> str:
    """Say what was searched for, where and how."""
    views = "both views fused" if row.views == "both" else f"{row.views} view"
    jitter = "with" if row.jitter else "without"
    return (
        f"{row.gallery:,} people ({row.origin}), {row.probes:,} searched for, {views}, {jitter} "
        "jitter of scale and position"
    )


def _describe_chance(run: Evaluation, row: Retrieval) -> str:
    chance = find_beside(run, row, "chance")
    shares = [
        f"{write_number(chance.cmc[str(k)].value if chance else min(1.0, k / row.gallery), 3)} "
        f"at rank {k}"
        for k in (1, 10, 50)
    ]
    return f"k/N for N = {row.gallery:,}: {', '.join(shares)}"


def _describe_baselines(run: Evaluation, row: Retrieval | None) -> str:
    """Write the closed-set baselines at rank 50, for tables that have no rows of them."""
    if row is None:
        return "nothing was searched"
    found = {name: find_beside(run, row, name) for name in ("mean face", "sex and age", *DIRECT)}
    shares = (
        f"{name} {write_number(other.cmc['50'].value, choose_digits(other.probes))}"
        if other
        else f"{name} not evaluated"
        for name, other in found.items()
    )
    return "at rank 50: " + ", ".join(shares)

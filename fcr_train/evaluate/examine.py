"""Networks measured on people they never saw: one fold, or several put together."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np

import fcr_edge
from fcr_edge.latency import describe_machine
from fcr_edge.manifest import Fusion
from fcr_train.evaluate import baselines
from fcr_train.evaluate.benches import KNOWN, describe_trained
from fcr_train.evaluate.calibration import measure_calibration
from fcr_train.evaluate.claims import claims
from fcr_train.evaluate.findings import JITTERS, is_collapsed
from fcr_train.evaluate.groups import measure_groups
from fcr_train.evaluate.images import Faces, Networks, measure_images
from fcr_train.evaluate.intervals import BOOTSTRAP
from fcr_train.evaluate.open_set import attempt, join_attempts, measure_open_set
from fcr_train.evaluate.record import (
    NOTICES,
    RANKS,
    Claims,
    Evaluation,
    People,
    SplitUsed,
)
from fcr_train.evaluate.retrieval import (
    DRAWS,
    Label,
    compare,
    join,
    measure,
    measure_drawn,
    standardise,
    state_chance,
    summarise,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fcr_train.evaluate.findings import Examiner, Findings
    from fcr_train.evaluate.record import (
        Calibration,
        Comparison,
        Gap,
        Group,
        Images,
        Level,
        OpenSet,
        Probe,
        Retrieval,
        Views,
    )
    from fcr_train.evaluate.retrieval import Outcome, Search

SMALLER_GALLERIES = (51, 1000, 6159)
"""The seed paper's people, a round number, the FBI's gallery: drawn where more are enrolled."""
RIVALS: tuple[Probe, ...] = (
    "mean face",
    "sex and age",
    "estimated sex and age",
    "film (linear)",
    "film (two-tower)",
)
"""What the generated face is set against, on the same people."""
DRAWN: tuple[Probe, ...] = ("generated", "film (linear)", "film (two-tower)", "photograph")
"""Whose figures are stated in smaller galleries, too."""
FEWEST_CALIBRATED = 20
"""People below whom a likelihood ratio is not worth printing (our rule)."""


def examine(
    examiners: Sequence[Examiner],
    networks: Networks | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Search with everything, without jitter and with it, and measure.

    Args:
        examiners: One a fold. The people of several folds, each searched for among those of the
            own fold, are put together, as if one system had been tested on them all.
        networks: What measures pictures by weights that the user gave.
        progress: Counts the searches.

    Raises DataError where a person is in two folds.
    """
    started = time.monotonic()
    step = _count(progress, len(JITTERS) * sum(len(each.probes) for each in examiners))
    still, moved = (
        _Statement(
            [each.find(jitter, step) for each in examiners], _tell_origin(examiners), jitter
        )
        for jitter in JITTERS
    )
    matchers = [each.systems.matcher for each in examiners]
    level = _level(examiners)
    evaluation = Evaluation(
        "fcr-evaluation/1",
        NOTICES[level],
        datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        fcr_edge.__version__,
        level,
        _describe_split(examiners),
        People(
            min(len(each.ground.training.people) for each in examiners),
            sum(len(each.ground.test.people) for each in examiners),
        ),
        examiners[0].ground.plan.dataset.sha256,
        describe_trained([each.systems.translator for each in examiners]),
        describe_trained([each.systems.embedder for each in examiners]),
        describe_trained([found for found in matchers if found]) if all(matchers) else None,
        BOOTSTRAP,
        tuple(row for statement in (still, moved) for row in statement.retrieval()),
        tuple(row for statement in (still, moved) for row in statement.comparisons()),
        tuple(moved.open_set()),
        tuple(moved.calibration(_tell_population(examiners, level))),
        moved.fusion(examiners, level),
        *moved.groups(examiners),
        tuple(still.images(networks or Networks())),
        Claims((), None),
        time.monotonic() - started,
        describe_machine(),
    )
    return replace(evaluation, claims=claims(evaluation))


def _count(progress: Callable[[int, int], None] | None, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return step


def _level(examiners: Sequence[Examiner]) -> Level:
    """Say how strong evidence from these people is."""
    return "S" if examiners[0].ground.plan.dataset.is_simulated else "P"


def _tell_origin(examiners: Sequence[Examiner]) -> str:
    """Say who is enrolled."""
    others = examiners[0].ground.distractors
    people = "all test people" + (" of one's fold" if len(examiners) > 1 else "")
    return people + (f" and {len(others.people):,} distractors" if others else "")


def _tell_population(examiners: Sequence[Examiner], level: Level) -> str:
    """Say whom "different persons" stands for."""
    people = [person for each in examiners for person in each.ground.test.people]
    ages = [person.age for person in people if person.age is not None]
    spread = f", {min(ages):.0f} to {max(ages):.0f} years" if ages else ""
    return ("simulated people" if level == "S" else "people of the dataset") + spread


def _describe_split(examiners: Sequence[Examiner]) -> SplitUsed:
    plan = examiners[0].ground.plan
    if plan.fold is None:
        return SplitUsed("person", None, plan.config.split.seed)
    number = plan.fold.number if len(examiners) == 1 else None
    return SplitUsed(plan.fold.split.by, number, plan.fold.split.seed)


class _Statement:
    """What was found under one setting of the jitter, stated in figures."""

    def __init__(self, findings: Sequence[Findings], origin: str, jitter: bool) -> None:
        self.findings, self.origin, self.jitter = findings, origin, jitter
        self.outcomes: dict[Probe, dict[Views, Outcome]] = {
            probe: {views: join([_rank(probe, one) for one in self._of(probe, views)])
                    for views in self._list_views(probe)}
            for probe in findings[0].searches
            if all(probe in each.searches for each in findings)
        }  # fmt: skip

    def _list_views(self, probe: Probe) -> list[Views]:
        """List the views that every fold was searched in."""
        first, *others = [each.searches[probe] for each in self.findings]
        return [views for views in first if all(views in other for other in others)]

    def _of(self, probe: Probe, views: Views) -> list[Search]:
        return [each.searches[probe][views] for each in self.findings]

    def _scaled(self, views: Views) -> list[Search]:
        """Return the searches with generated faces on a scale that the folds have in common.

        A single fold keeps its cosines, which are what the field sees.
        """
        found = self._of("generated", views)
        if len(found) == 1:
            return found
        return [
            standardise(one, each.scales[views]) if views in each.scales else one
            for one, each in zip(found, self.findings, strict=True)
        ]

    def retrieval(self) -> Iterator[Retrieval]:
        """Yield the rows of every kind of probe, in whole and in smaller galleries."""
        for views, outcome in self.outcomes["generated"].items():
            found = self._of("generated", views)
            counts = {name: n for one in found for name, n in count_pictures(one).items()}
            chance = self._label("chance", views)
            yield state_chance(outcome, counts, chance)
            for probe, outcomes in self.outcomes.items():
                if views in outcomes:
                    yield from self._rows(probe, views)
            for size in self._list_smaller(views):
                label = replace(chance, origin=_tell_drawn(size))
                yield state_chance(replace(outcome, gallery=size), counts, label)

    def _rows(self, probe: Probe, views: Views) -> Iterator[Retrieval]:
        found, label = self._of(probe, views), self._label(probe, views)
        if probe == KNOWN:
            yield baselines.state_filter(found, label)
        else:
            yield summarise(self.outcomes[probe][views], label)
        for size in self._list_smaller(views) if probe in DRAWN else ():
            drawn = join([measure_drawn(one, size) for one in found])
            yield summarise(drawn, replace(label, origin=_tell_drawn(size)))

    def _list_smaller(self, views: Views) -> list[int]:
        least = min(len(one.enrolled) for one in self._of("generated", views))
        return [size for size in SMALLER_GALLERIES if size < least]

    def _label(self, probe: Probe, views: Views) -> Label:
        return Label(probe, views, self.jitter, self.origin)

    def comparisons(self) -> Iterator[Comparison]:
        """Yield the paired differences between the generated face and what it has to beat."""
        for rival in RIVALS:
            for views, theirs in self.outcomes.get(rival, {}).items():
                ours = self.outcomes["generated"][views]
                ends = (self._label("generated", views), self._label(rival, views))
                for rank in RANKS:
                    yield compare(ours, theirs, ends, rank)

    def open_set(self) -> Iterator[OpenSet]:
        """Yield FNIR and FPIR of the generated face."""
        for views in self.outcomes["generated"]:
            attempts = [attempt(one) for one in self._scaled(views)]
            yield measure_open_set(join_attempts(attempts), views)

    def calibration(self, population: str) -> Iterator[Calibration]:
        """Yield likelihood ratios of the generated face, where there are people enough."""
        for views in self.outcomes["generated"]:
            found = self._scaled(views)
            people = sum(len(one.probes) for one in found)
            if people >= FEWEST_CALIBRATED and not any(is_collapsed(one) for one in found):
                yield measure_calibration(found, views, population)

    def fusion(self, examiners: Sequence[Examiner], level: Level) -> Fusion | None:
        """Return the scales by which both views were put together."""
        scales = self.findings[0].scales
        if len(examiners) > 1 or not {"frontal", "lateral"} <= {*scales}:
            return None
        people = len(examiners[0].ground.fitting.people)
        return Fusion(scales["frontal"], scales["lateral"], people, simulated=level == "S")

    def groups(self, examiners: Sequence[Examiner]) -> tuple[tuple[Group, ...], tuple[Gap, ...]]:
        """Return the figures by sex, age and BMI: of both views where there are both."""
        outcomes = self.outcomes["generated"]
        views = "both" if "both" in outcomes else next(iter(outcomes))
        attempts = join_attempts([attempt(one) for one in self._scaled(views)])
        told = examiners[0].ground.plan.dataset.told
        return measure_groups(outcomes[views], attempts, told)

    def images(self, networks: Networks) -> Iterator[Images]:
        """Yield how the generated faces look beside the true ones, view by view."""
        for views in self.findings[0].faces:
            faces = [each.faces[views] for each in self.findings if views in each.faces]
            yield measure_images(Faces.join(faces), views, networks)


def _rank(probe: Probe, found: Search) -> Outcome:
    return baselines.expect_filter(found) if probe == KNOWN else measure(found)


def count_pictures(found: Search) -> dict[str, int]:
    """Count the photographs of each person enrolled."""
    counts = np.bincount(found.owners, minlength=len(found.enrolled))
    return dict(zip(found.enrolled, counts.tolist(), strict=True))


def _tell_drawn(size: int) -> str:
    return f"{size:,} people drawn, mean of {DRAWS} draws"

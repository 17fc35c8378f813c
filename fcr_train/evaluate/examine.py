"""One translator and embedder, perhaps a direct matcher, measured on people they never saw."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

import fcr_edge
from fcr_edge.latency import describe_machine
from fcr_train.evaluate import baselines
from fcr_train.evaluate.benches import Bench, Part, Systems, list_probes, of_view
from fcr_train.evaluate.calibration import measure_calibration
from fcr_train.evaluate.claims import claims
from fcr_train.evaluate.groups import measure_groups
from fcr_train.evaluate.images import Faces, Networks, measure_images
from fcr_train.evaluate.intervals import BOOTSTRAP
from fcr_train.evaluate.open_set import attempt, measure_open_set
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
    fit_scale,
    fuse_systems,
    fuse_views,
    measure,
    measure_drawn,
    standardise,
    state_chance,
    summarise,
)
from fcr_train.tasks.plan import list_unseen, refuse_leak

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fcr_train.dataset import Dataset
    from fcr_train.evaluate.benches import Searches
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
    from fcr_train.tasks.plan import Plan

logger = logging.getLogger(__name__)

SMALLER_GALLERIES = (51, 1000, 6159)
"""The seed paper's people, a round number, the FBI's gallery: drawn where more are enrolled."""
RIVALS: tuple[Probe, ...] = ("mean face", "sex and age", "film (linear)", "film (two-tower)")
"""What the generated face is set against, on the same people."""
DRAWN: tuple[Probe, ...] = ("generated", "film (linear)", "film (two-tower)", "photograph")
"""Whose figures are stated in smaller galleries, too."""
FEWEST_CALIBRATED = 20
"""People below whom a likelihood ratio is not worth printing (our rule)."""
_SETTINGS = (False, True)
"""Without jitter and with it."""


class Ground:
    """The people on whom networks are measured: read once, however many networks are."""

    def __init__(self, plan: Plan[Any], recipe: str, distractors: Dataset | None = None) -> None:
        self.plan = plan
        self.distractors = distractors
        divided = plan.divide()
        self.unseen = list_unseen(divided)
        apart = divided.test is not None and divided.test is not divided.validation
        whom = {
            "training": divided.training,
            "test": divided.test or divided.validation,
            # Scales and weights of fusions are fitted on them: never on test people.
            "fitting": divided.validation if apart else divided.training,
        }
        self.parts = {
            (name, jitter): Part(part, recipe, jitter, distractors if name == "test" else None)
            for name, part in whom.items()
            for jitter in _SETTINGS
        }
        self.training, self.test, self.fitting = whom.values()


class Examiner:
    """Measures networks on the people whom a plan holds out."""

    def __init__(self, ground: Ground, systems: Systems, networks: Networks | None = None) -> None:
        self.ground, self.systems, self.networks = ground, systems, networks or Networks()
        for trained in (systems.translator, systems.embedder, systems.matcher):
            if trained is not None:
                refuse_leak(trained.checkpoint, ground.plan, ground.unseen)

    def examine(self, progress: Callable[[int, int], None] | None = None) -> Evaluation:
        """Search with everything, without jitter and with it, and measure."""
        started = time.monotonic()
        tell = progress or (lambda done, total: None)
        tables = []
        for number, jitter in enumerate(_SETTINGS):
            tables.append(_Setting(self, jitter))
            tables[-1].search_all(_count_from(number, tell))
        still, moved = tables
        evaluation = Evaluation(
            "fcr-evaluation/1",
            NOTICES[self.level],
            datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            fcr_edge.__version__,
            self.level,
            self._split(),
            People(len(self.ground.training.people), len(self.ground.test.people)),
            self.ground.plan.dataset.sha256,
            self.systems.translator.record,
            self.systems.embedder.record,
            self.systems.matcher.record if self.systems.matcher else None,
            BOOTSTRAP,
            tuple(row for setting in tables for row in setting.retrieval()),
            tuple(row for setting in tables for row in setting.comparisons()),
            tuple(moved.open_set()),
            tuple(moved.calibration(self.population)),
            *moved.groups(),
            tuple(still.images(self.networks)),
            Claims((), None),
            time.monotonic() - started,
            describe_machine(),
        )
        return replace(evaluation, claims=claims(evaluation))

    def validate(self) -> float:
        """Return the mean reciprocal rank of generated faces on the people who are fitted on.

        With jitter, both views where there are both: what models are chosen by.
        """
        setting = _Setting(self, jitter=True)
        fit = setting.fitting.search("generated")
        found = join_views(fit, fit)
        search = found.get("both") or next(iter(found.values()))
        return float(measure(search).reciprocal_rank.mean())

    @property
    def origin(self) -> str:
        """Say who is enrolled."""
        others = self.ground.distractors
        return "all test people" + (f" and {len(others.people):,} distractors" if others else "")

    @property
    def level(self) -> Level:
        """How strong evidence from these people is."""
        return "S" if self.ground.plan.dataset.is_simulated else "P"

    @property
    def population(self) -> str:
        """Say whom "different persons" stands for."""
        ages = [person.age for person in self.ground.test.people if person.age is not None]
        spread = f", {min(ages):.0f} to {max(ages):.0f} years" if ages else ""
        kind = "simulated people" if self.level == "S" else "people of the dataset"
        return f"{kind}{spread}"

    def _split(self) -> SplitUsed:
        fold = self.ground.plan.fold
        if fold is None:
            return SplitUsed("person", None, self.ground.plan.config.split.seed)
        return SplitUsed(fold.split.by, fold.number, fold.split.seed)


class _Setting:
    """Everything searched under one setting of the jitter."""

    def __init__(self, examiner: Examiner, jitter: bool) -> None:
        self.jitter, self.origin, systems = jitter, examiner.origin, examiner.systems
        training, test, fitting = (
            examiner.ground.parts[name, jitter] for name in ("training", "test", "fitting")
        )
        self.bench, self.fitting = (
            Bench(systems, test, training),
            Bench(systems, fitting, training),
        )
        self.searches: dict[Probe, Searches] = {}
        self.outcomes: dict[Probe, dict[Views, Outcome]] = {}

    def search_all(self, progress: Callable[[int, int], None]) -> None:
        """Search with every kind of probe, fuse views and systems, and rank."""
        probes = list_probes(self.bench.systems, self.bench.part)
        fitted = {}
        for done, probe in enumerate(probes, start=1):
            found, fit = self.bench.search(probe), self.fitting.search(probe)
            known = probe == "sex and age"  # no similarity, so there is nothing to scale
            self.searches[probe] = join_views(found, None if known else fit)
            fitted[probe] = join_views(fit, None if known else fit)
            if any(is_collapsed(one) for one in found.values()):
                logger.warning("%s: everybody looks alike, so the order is random", probe)
            progress(done, len(probes))
        direct: Probe = "film (two-tower)" if "film (two-tower)" in probes else "film (linear)"
        self.searches["fusion"] = {
            views: join_systems(
                (found, self.searches[direct][views]),
                (fitted["generated"][views], fitted[direct][views]),
            )
            for views, found in self.searches["generated"].items()
        }
        self.outcomes = {
            probe: {
                views: baselines.expect_filter(one) if probe == "sex and age" else measure(one)
                for views, one in found.items()
            }
            for probe, found in self.searches.items()
        }

    def retrieval(self) -> Iterator[Retrieval]:
        """Yield the rows of every kind of probe, in whole and in smaller galleries."""
        for views, found in self.searches["generated"].items():
            counts = count_pictures(found)
            chance = self._label("chance", views)
            yield state_chance(self.outcomes["generated"][views], counts, chance)
            for probe in self.searches:
                yield from self._rows(probe, views)
            for size in SMALLER_GALLERIES:
                if size < len(found.enrolled):
                    drawn = replace(self.outcomes["generated"][views], gallery=size)
                    label = replace(chance, origin=_tell_drawn(size))
                    yield state_chance(drawn, counts, label)

    def _rows(self, probe: Probe, views: Views) -> Iterator[Retrieval]:
        found, label = self.searches[probe][views], self._label(probe, views)
        if probe == "sex and age":
            yield baselines.state_filter(found, label)
        else:
            yield summarise(self.outcomes[probe][views], label)
        for size in SMALLER_GALLERIES if probe in DRAWN else ():
            if size < len(found.enrolled):
                drawn = measure_drawn(found, size)
                yield summarise(drawn, replace(label, origin=_tell_drawn(size)))

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
        for views, found in self.searches["generated"].items():
            yield measure_open_set(attempt(found), views)

    def calibration(self, population: str) -> Iterator[Calibration]:
        """Yield likelihood ratios of the generated face, where there are people enough."""
        for views, found in self.searches["generated"].items():
            if len(found.probes) >= FEWEST_CALIBRATED and not is_collapsed(found):
                yield measure_calibration(found, views, population)

    def groups(self) -> tuple[tuple[Group, ...], tuple[Gap, ...]]:
        """Return the figures by sex, age and BMI: of both views where there are both."""
        outcomes = self.outcomes["generated"]
        views = "both" if "both" in outcomes else next(iter(outcomes))
        attempts = attempt(self.searches["generated"][views])
        return measure_groups(outcomes[views], attempts, self.bench.part.told)

    def images(self, networks: Networks) -> Iterator[Images]:
        """Yield how the generated faces look beside the true ones, view by view."""
        bench = self.bench
        size = bench.generated.pixels.shape[1]
        mates, others = bench.part.mates(size), bench.training.mates(size)
        for view in bench.part.views:
            drawn, true = of_view(bench.generated, view), of_view(mates, view)
            faces = Faces(
                drawn.pixels,
                true.pixels,
                drawn.people,
                baselines.mean_face(of_view(others, view).pixels),
                bench.embed(drawn).vectors,
                bench.embed(true).vectors,
            )
            yield measure_images(faces, view, networks)


def _count_from(number: int, tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Count the steps of one setting among those of all."""
    return lambda done, total: tell(number * total + done, len(_SETTINGS) * total)


def join_views(found: Searches, fit: Searches | None) -> Searches:
    """Add the average of the views, standardised, where there are two and people with both."""
    common = set.intersection(*({*one.probes} for one in found.values()))
    if len(found) < 2 or len(common) < 2:
        return found
    scaled = [_scale(one, fit[view]) if fit else one for view, one in found.items()]
    return {**found, "both": fuse_views(scaled)}


def join_systems(found: tuple[Search, Search], fit: tuple[Search, Search]) -> Search:
    """Average two systems' standardised searches by the weights that rank the others best."""
    ours, theirs = (_scale(one, other) for one, other in zip(found, fit, strict=True))
    weights = baselines.fit_weights((_scale(fit[0], fit[0]), _scale(fit[1], fit[1])))
    return fuse_systems((ours, theirs), weights)


def count_pictures(found: Search) -> dict[str, int]:
    """Count the photographs of each person enrolled."""
    owners = found.owners.tolist()
    return {name: owners.count(place) for place, name in enumerate(found.enrolled)}


def is_collapsed(found: Search) -> bool:
    """Tell whether everybody looks alike to a system, so that it knows nothing."""
    return bool(np.ptp(found.people) == 0)


def _scale(found: Search, fit: Search) -> Search:
    """Standardise; of a system that has collapsed nothing is left but random order."""
    return found if is_collapsed(fit) else standardise(found, fit_scale(fit))


def _tell_drawn(size: int) -> str:
    return f"{size:,} people drawn, mean of {DRAWS} draws"

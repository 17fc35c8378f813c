"""What the networks of one fold find among the people whom it holds out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fcr_train.evaluate import baselines
from fcr_train.evaluate.benches import KNOWN, Bench, Part, list_probes, of_view
from fcr_train.evaluate.images import Embeddings, Faces
from fcr_train.evaluate.retrieval import (
    fit_scale,
    fuse_systems,
    fuse_views,
    measure,
    standardise,
)
from fcr_train.tasks.plan import list_unseen, refuse_leak

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fcr_edge.manifest import Scale
    from fcr_train.dataset import Dataset
    from fcr_train.evaluate.benches import Searches, Systems
    from fcr_train.evaluate.record import Probe, Views
    from fcr_train.evaluate.retrieval import Search
    from fcr_train.tasks.plan import Plan

logger = logging.getLogger(__name__)

JITTERS = (False, True)
"""Everything is searched without jitter and with it."""


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
            for jitter in JITTERS
        }
        self.training, self.test, self.fitting = whom.values()


@dataclass(frozen=True)
class Findings:
    """Everything searched on one fold, under one setting of the jitter."""

    searches: Mapping[Probe, Searches]
    scales: Mapping[Views, Scale]
    """Of the generated faces' similarities among the people fitted on, so that those of several
    folds, each with networks of its own, can be put together."""
    faces: Mapping[Views, Faces]
    """Generated faces beside the true ones; none with jitter, which moves both."""


class Examiner:
    """Searches, with the networks of a fold, for the people whom its plan holds out."""

    def __init__(self, ground: Ground, systems: Systems) -> None:
        self.ground, self.systems = ground, systems
        for trained in (systems.translator, systems.embedder, systems.matcher):
            if trained is not None:
                refuse_leak(trained.checkpoint, ground.plan, ground.unseen)

    @property
    def probes(self) -> list[Probe]:
        """List the kinds of probe that can be searched with, fusion aside."""
        shown, fitted = (
            list_probes(self.systems, self.ground.parts[name, False])
            for name in ("test", "fitting")
        )
        return [probe for probe in shown if probe in fitted]

    def find(self, jitter: bool, step: Callable[[], None]) -> Findings:
        """Search with every kind of probe, fuse views and systems; `step` follows each kind."""
        bench, fitting = self._bench("test", jitter), self._bench("fitting", jitter)
        searches: dict[Probe, Searches] = {}
        fitted: dict[Probe, Searches] = {}
        for probe in self.probes:
            found, fit = bench.search(probe), fitting.search(probe)
            # A filter has no similarities that could be scaled.
            searches[probe] = join_views(found, None if probe == KNOWN else fit)
            fitted[probe] = join_views(fit, None if probe == KNOWN else fit)
            if any(is_collapsed(one) for one in found.values()):
                logger.warning("%s: everybody looks alike, so the order is random", probe)
            step()
        direct: Probe = "film (two-tower)" if "film (two-tower)" in searches else "film (linear)"
        searches["fusion"] = {
            views: join_systems(
                (found, searches[direct][views]),
                (fitted["generated"][views], fitted[direct][views]),
            )
            for views, found in searches["generated"].items()
        }
        scales = {
            views: fit_scale(one)
            for views, one in fitted["generated"].items()
            if not is_collapsed(one)
        }
        return Findings(searches, scales, {} if jitter else self._compare_faces(bench))

    def validate(self) -> float:
        """Return the mean reciprocal rank of generated faces on the people who are fitted on.

        With jitter, both views where there are both: what models are chosen by.
        """
        fit = self._bench("fitting", jitter=True).search("generated")
        found = join_views(fit, fit)
        search = found.get("both") or next(iter(found.values()))
        return float(measure(search).reciprocal_rank.mean())

    def _bench(self, name: str, jitter: bool) -> Bench:
        parts = self.ground.parts
        return Bench(self.systems, parts[name, jitter], parts["training", jitter])

    def _compare_faces(self, bench: Bench) -> dict[Views, Faces]:
        """Lay the generated faces beside the true ones, view by view."""
        size = bench.generated.pixels.shape[1]
        mates, others = bench.part.mates(size), bench.training.mates(size)
        faces: dict[Views, Faces] = {}
        for view in bench.part.views:
            drawn, true = of_view(bench.generated, view), of_view(mates, view)
            mean = baselines.mean_face(of_view(others, view).pixels)
            faces[view] = Faces(
                drawn.pixels,
                true.pixels,
                drawn.people,
                np.broadcast_to(mean, true.pixels.shape),
                (Embeddings(bench.embed(drawn).vectors, bench.embed(true).vectors),),
            )
        return faces


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


def is_collapsed(found: Search) -> bool:
    """Tell whether everybody looks alike to a system, so that it knows nothing."""
    return bool(np.ptp(found.people) == 0)


def _scale(found: Search, fit: Search) -> Search:
    """Standardise; of a system that has collapsed nothing is left but random order."""
    return found if is_collapsed(fit) else standardise(found, fit_scale(fit))

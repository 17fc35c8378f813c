"""What a report shows of its best run: people drawn at random, the worst cases, candidates."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, TypedDict, TypeVar

import numpy as np

from fcr_train.batches import Album
from fcr_train.evaluate.benches import Bench, of_view
from fcr_train.evaluate.images import compute_ssim
from fcr_train.evaluate.retrieval import SEED, rank_mates
from fcr_train.evaluate.study import Candidate, CandidateList, Case
from fcr_train.tasks import generate
from fcr_train.translators import translator_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jaxtyping import Float64, UInt8

    from fcr_train.evaluate.benches import Trained
    from fcr_train.evaluate.findings import Examiner
    from fcr_train.evaluate.record import Views

SHOWN = 5
"""People of each view on a sheet."""
Shown = TypeVar("Shown")

LISTED = 10
"""Candidates of each search that is shown."""


class Illustrations(TypedDict):
    """The parts of a study that are pictures."""

    cases: Sequence[Case]
    worst_by_rank: Sequence[Case]
    worst_by_ssim: Sequence[Case]
    searches: Sequence[CandidateList]


def illustrate(examiner: Examiner, best: str, translators: Mapping[str, Trained]) -> Illustrations:
    """Show what every translator makes of a few people, and whom the best run finds.

    The people are drawn by seed; the worst cases are those of the best run, by rank and by SSIM.
    """
    test, training = (examiner.ground.parts[name, False] for name in ("test", "training"))
    bench = Bench(examiner.systems, test, training)
    scenes = [_Scene(bench, view, best, translators) for view in test.views]
    drawn = [scene.draw() for scene in scenes]
    shown = list(zip(scenes, drawn, strict=True))
    return {
        "cases": _chain(scene.cases(people) for scene, people in shown),
        "worst_by_rank": _chain(scene.cases(scene.worst(-scene.ranks)) for scene in scenes),
        "worst_by_ssim": _chain(scene.cases(scene.worst(scene.ssim)) for scene in scenes),
        "searches": _chain(scene.list_candidates(people) for scene, people in shown),
    }


class _Scene:
    """One view of the test people, searched for by the best run; people count by their place."""

    def __init__(
        self, bench: Bench, view: Views, best: str, translators: Mapping[str, Trained]
    ) -> None:
        self.bench, self.view, self.best, self.translators = bench, view, best, translators
        self.found = bench.search("generated")[view]
        self.ranks = rank_mates(self.found, np.random.default_rng(SEED)).astype(np.float64)
        films = of_view(bench.part.films(self._size(best)), view)
        self.places = [films.people.index(person) for person in self.found.probes]
        faces = of_view(bench.generated, view).pixels[self.places]
        self.ssim = compute_ssim(faces, self._mates(self._size(best)))

    def draw(self) -> list[int]:
        """Draw people to show, by seed."""
        number = len(self.places)
        rng = np.random.default_rng(SEED)
        return sorted(rng.choice(number, min(SHOWN, number), replace=False).tolist())

    def worst(self, values: Float64[np.ndarray, " people"]) -> list[int]:
        """Return the people with the lowest values, the lowest first."""
        lowest: list[int] = np.argsort(values, kind="stable")[:SHOWN].tolist()
        return lowest

    def cases(self, people: Sequence[int]) -> list[Case]:
        """Show each person as every translator draws them."""
        size = self._size(self.best)
        skulls = of_view(self.bench.part.films(size), self.view).pixels[self.places]
        mates = self._mates(size)
        faces = {name: self._generate(name, people) for name in self.translators}
        return [
            Case(
                self.found.probes[person],
                self.view,
                skulls[person],
                {name: drawn[row] for name, drawn in faces.items()},
                mates[person],
                int(self.ranks[person]),
                len(self.found.enrolled),
                float(self.ssim[person]),
            )
            for row, person in enumerate(people)
        ]

    def list_candidates(self, people: Sequence[int]) -> list[CandidateList]:
        """Show the first candidates for each person."""
        cases = self.cases(people)
        return [self._search(person, case) for person, case in zip(people, cases, strict=True)]

    def _search(self, person: int, case: Case) -> CandidateList:
        similarity = self.found.people[person]
        # Among equals the mate comes last that its rank allows, so list and rank agree.
        mate, rank = self.found.mates[person], int(self.ranks[person])
        order = [place for place in np.argsort(-similarity, kind="stable") if place != mate]
        order.insert(rank - 1, int(mate))
        return CandidateList(
            case.person,
            self.view,
            case.skull,
            case.faces[self.best],
            self._photograph(int(mate), person),
            rank,
            len(self.found.enrolled),
            [
                Candidate(
                    self.found.enrolled[place],
                    float(similarity[place]),
                    self._photograph(int(place), person),
                )
                for place in order[:LISTED]
            ],
        )

    def _photograph(self, place: int, person: int) -> UInt8[np.ndarray, "h w 3"]:
        """Return the photograph of an enrolled person that is most similar to the face."""
        owned = np.flatnonzero(self.found.owners == place)
        best = owned[np.argmax(self.found.pictures[person, owned])]
        stored = of_view(self.bench.part.photographs(self._size(self.best)), self.view)
        order = sorted(range(len(stored)), key=lambda i: stored.people[i])
        picture: UInt8[np.ndarray, "h w 3"] = stored.pixels[order[best]]
        return picture

    def _generate(self, name: str, people: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        translator, part = self.translators[name], self.bench.part
        config = translator_config(translator.checkpoint)
        films = of_view(part.films(config.size), self.view)
        places = [self.places[person] for person in people]
        names = tuple(films.people[place] for place in places)
        chosen = Album(films.pixels[places], names, (self.view,) * len(places))
        device = self.bench.systems.device
        return generate(translator.network, chosen, part.dataset.told, config, device).pixels

    def _mates(self, size: int) -> UInt8[np.ndarray, "n h w 3"]:
        return of_view(self.bench.part.mates(size), self.view).pixels[self.places]

    def _size(self, name: str) -> int:
        return int(self.translators[name].checkpoint.config["size"])


def _chain(parts: Iterable[Sequence[Shown]]) -> list[Shown]:
    return [*chain.from_iterable(parts)]

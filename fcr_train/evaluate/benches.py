"""Films and photographs of one part of a dataset, and the searches that each system makes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import imaging
from fcr_edge.conditions import Conditions
from fcr_edge.errors import DataError
from fcr_train.batches import Album, load_faces, load_skulls
from fcr_train.checkpoint import digest
from fcr_train.config import MatcherConfig, parse
from fcr_train.evaluate import baselines
from fcr_train.evaluate.baselines import ESTIMATED, SIDE, FilmEstimator, LinearMatcher
from fcr_train.evaluate.record import Network, Views
from fcr_train.evaluate.retrieval import Pictures, Search, search, search_people
from fcr_train.matcher import TwoTower
from fcr_train.tasks import embed, embed_skulls, generate
from fcr_train.translators import translator_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import nn

    from fcr_train.checkpoint import Checkpoint
    from fcr_train.dataset import Dataset
    from fcr_train.evaluate.record import Probe

Searches = dict[Views, Search]
"""By view, frontal before lateral; both views fused come last."""

VIEWS: tuple[Views, ...] = ("frontal", "lateral")
KNOWN: Probe = "sex and age"
"""Searches by what is known of a person, without similarities: a filter."""
FILM_SEED, PHOTOGRAPH_SEED = 11, 12
"""Of the jitter: a film and a photograph are never moved alike."""


@dataclass(frozen=True)
class Trained:
    """A trained network and where it came from."""

    network: nn.Module
    checkpoint: Checkpoint
    sha256: str
    """Of the checkpoint file."""

    @property
    def record(self) -> Network:
        """Name it for the record."""
        made = self.checkpoint
        return Network(made.model, made.preset, self.sha256, made.step, int(made.data["seed"]))


def read_trained(path: Path, load: Callable[[Path], tuple[nn.Module, Checkpoint]]) -> Trained:
    """Load a network by its loader, and hash its file. Raises DataError."""
    network, checkpoint = load(path)
    return Trained(network, checkpoint, digest(path))


def describe_trained(networks: Sequence[Trained]) -> Network:
    """Name the networks that folds of one study trained alike, one a fold, for the record.

    Of several the hash is that of their hashes, and the steps those of the first.
    """
    first, *others = [trained.record for trained in networks]
    if not others:
        return first
    hashes = "".join([first.checkpoint_sha256, *(other.checkpoint_sha256 for other in others)])
    return replace(first, checkpoint_sha256=hashlib.sha256(hashes.encode()).hexdigest())


@dataclass(frozen=True)
class Systems:
    """What is measured: the product's two networks, and the direct matcher beside them."""

    translator: Trained
    embedder: Trained
    matcher: Trained | None
    device: torch.device


class Part:
    """People of a dataset with their films and photographs, at the sizes asked for.

    Distractors are enrolled beside them, and never searched for.
    """

    def __init__(
        self, part: Dataset, recipe: str, jitter: bool, distractors: Dataset | None = None
    ) -> None:
        self.dataset, self.recipe, self.jitter = part, recipe, jitter
        self.told = {**(distractors.told if distractors else {}), **part.told}
        films = [row for row in part.pictures if row.kind == part.film_kind]
        mates = part.mates()
        self.film_rows = [row for row in films if (row.pair, row.augmentation) in mates]
        self.mate_rows = [mates[row.pair, row.augmentation] for row in self.film_rows]
        self.photograph_rows = [*part.gallery(), *(distractors.gallery() if distractors else [])]
        self._albums: dict[tuple[str, int], Album] = {}
        if not self.film_rows:
            raise DataError("nobody here has a film and a face of one view: add some")

    @cached_property
    def views(self) -> list[Views]:
        """List the views of which there are films and photographs."""
        shown = {row.view for row in self.film_rows} & {row.view for row in self.photograph_rows}
        return [view for view in VIEWS if view in shown]

    def films(self, size: int) -> Album:
        """Load the films as a network of this size takes them."""
        return self._keep(
            "films", size, FILM_SEED, lambda: load_skulls(self.film_rows, size, self.recipe, None)
        )

    def photographs(self, size: int) -> Album:
        """Load the photographs to enrol, at this size."""
        return self._keep(
            "photographs",
            size,
            PHOTOGRAPH_SEED,
            lambda: load_faces(self.photograph_rows, size, None),
        )

    def mates(self, size: int) -> Album:
        """Load the face that belongs to each film, in the order of the films."""
        return self._keep(
            "mates", size, PHOTOGRAPH_SEED, lambda: load_faces(self.mate_rows, size, None)
        )

    def _keep(self, what: str, size: int, seed: int, load: Callable[[], Album]) -> Album:
        if (what, size) not in self._albums:
            album = load()
            if self.jitter:
                moved = baselines.jitter(album.pixels, seed)
                album = Album(moved, album.people, album.views)
            self._albums[what, size] = album
        return self._albums[what, size]


class Bench:
    """One part under search by every system; what is slow is computed once.

    `training` is the same kind of part made of training people: baselines are fitted on it.
    """

    def __init__(self, systems: Systems, part: Part, training: Part) -> None:
        self.systems, self.part, self.training = systems, part, training

    def search(self, probe: Probe) -> Searches:
        """Search for everybody with one kind of probe, in each view."""
        return _SYSTEMS[probe](self)

    @property
    def size(self) -> int:
        """Side of the pictures that the embedder takes."""
        return int(self.systems.embedder.checkpoint.config["size"])

    @cached_property
    def generated(self) -> Album:
        """The faces that the translator makes of the films, at its own size."""
        return self.generate(self.part.dataset.told)

    def generate(self, told: Mapping[str, Conditions]) -> Album:
        """Make the faces with this said of each person; a translator may take none of it."""
        translator = self.systems.translator
        config = translator_config(translator.checkpoint)
        films = self.part.films(config.size)
        return generate(translator.network, films, told, config, self.systems.device)

    @cached_property
    def enrolled(self) -> Pictures:
        """The photographs as the embedder sees them."""
        return self.embed(self.part.photographs(self.size))

    def embed(self, faces: Album) -> Pictures:
        """Embed faces of any size."""
        vectors = embed(self.systems.embedder.network, _resize(faces, self.size), self._device)
        return Pictures(vectors.numpy(), faces.people, faces.views)

    @property
    def _device(self) -> torch.device:
        return self.systems.device

    def compare(self, probes: Pictures, gallery: Pictures) -> Searches:
        """Search the photographs of each view with the probes of that view."""
        return {view: search(probes, gallery, view) for view in self.part.views}


def _by_generated(bench: Bench) -> Searches:
    return bench.compare(bench.embed(bench.generated), bench.enrolled)


def _by_untold(bench: Bench) -> Searches:
    faces = bench.generate(dict.fromkeys(bench.part.dataset.told, Conditions()))
    return bench.compare(bench.embed(faces), bench.enrolled)


def _by_other_sex(bench: Bench) -> Searches:
    """Search as after a wrong estimate: what it costs to be told the other sex."""
    faces = bench.generate(
        {name: _swap_sex(conditions) for name, conditions in bench.part.dataset.told.items()}
    )
    return bench.compare(bench.embed(faces), bench.enrolled)


def _swap_sex(conditions: Conditions) -> Conditions:
    other = {"female": "male", "male": "female", None: None}
    return replace(conditions, sex=other[conditions.sex])


def _by_two_tower(bench: Bench) -> Searches:
    trained, part, device = bench.systems.matcher, bench.part, bench.systems.device
    assert trained is not None, "list_probes leaves it out"
    matcher, config = trained.network, parse(MatcherConfig, trained.checkpoint.config)
    assert isinstance(matcher, TwoTower), "load_matcher gives nothing else"
    films, photographs = part.films(config.size), part.photographs(config.size)
    skulls = embed_skulls(matcher, films, part.dataset.told, config, device)
    faces = embed(matcher.embed_faces, photographs, device)
    return bench.compare(
        Pictures(skulls.numpy(), films.people, films.views),
        Pictures(faces.numpy(), photographs.people, photographs.views),
    )


def _by_linear(bench: Bench) -> Searches:
    """Fit on training people, view by view: the embeddings of two views have nothing in common."""
    part, training = bench.part, bench.training
    found = {}
    for view in part.views:
        films, mates = of_view(training.films(SIDE), view), of_view(training.mates(SIDE), view)
        matcher = LinearMatcher.fit(films.pixels, mates.pixels)
        probes, photographs = of_view(part.films(SIDE), view), part.photographs(SIDE)
        stored = of_view(photographs, view)
        found[view] = search(
            Pictures(matcher.embed_films(probes.pixels), probes.people, probes.views),
            Pictures(matcher.embed_faces(stored.pixels), stored.people, stored.views),
            view,
        )
    return found


def _by_mean_face(bench: Bench) -> Searches:
    found = {}
    for view in bench.part.views:
        faces = of_view(bench.training.photographs(bench.size), view)
        mean = Album(baselines.mean_face(faces.pixels)[None], ("mean",), (view,))
        people = of_view(bench.part.films(bench.size), view).people
        probes = baselines.repeat_probe(bench.embed(mean).vectors[0], people, view)
        found[view] = search(probes, bench.enrolled, view)
    return found


def _by_nearest_face(bench: Bench) -> Searches:
    """Search with the face of the training person whose film is nearest."""
    found = {}
    for view in bench.part.views:
        films, others = (of_view(part.films(SIDE), view) for part in (bench.part, bench.training))
        nearest = baselines.find_nearest(films.pixels, others.pixels)
        faces = of_view(bench.training.mates(bench.size), view).pixels[nearest]
        found[view] = search(bench.embed(Album(faces, films.people, films.views)),
                             bench.enrolled, view)  # fmt: skip
    return found


def _by_photograph(bench: Bench) -> Searches:
    """Search with another photograph of the person: the embedder's own ceiling."""
    whole, known = bench.enrolled, bench.part.dataset.told
    kept, taken = baselines.hold_out_photographs(whole.people, whole.views)
    probes = [place for place in taken if whole.people[place] in known]
    return bench.compare(_pick(whole, probes), _pick(whole, kept))


def _by_filter(bench: Bench) -> Searches:
    part, found = bench.part, {}
    for view in part.views:
        probes, stored = (
            sorted({row.person for row in rows if row.view == view})
            for rows in (part.film_rows, part.photograph_rows)
        )
        found[view] = baselines.filter_people(probes, stored, part.told)
    return found


def _by_estimates(bench: Bench) -> Searches:
    """Search by sex and age as the film tells them, to one who knows only training people."""
    part, training, found = bench.part, bench.training, {}
    for view in part.views:
        films, others = of_view(part.films(SIDE), view), of_view(training.films(SIDE), view)
        estimator = FilmEstimator.fit(
            others.pixels, [training.told[name] for name in others.people]
        )
        stored = sorted({row.person for row in part.photograph_rows if row.view == view})
        probes = sorted({*films.people})
        shown = films.pixels[[films.people.index(person) for person in probes]]
        similarity = estimator.compare(shown, [part.told[person] for person in stored])
        found[view] = search_people(probes, stored, similarity)
    return found


_SYSTEMS: Mapping[Probe, Callable[[Bench], Searches]] = {
    "generated": _by_generated,
    "generated, told nothing": _by_untold,
    "generated, told the other sex": _by_other_sex,
    "film (two-tower)": _by_two_tower,
    "film (linear)": _by_linear,
    "mean face": _by_mean_face,
    KNOWN: _by_filter,
    "estimated sex and age": _by_estimates,
    "nearest training face": _by_nearest_face,
    "photograph": _by_photograph,
}


def list_probes(systems: Systems, part: Part) -> list[Probe]:
    """List the kinds of probe that can be searched with here."""
    probes = [*_SYSTEMS]
    conditions = translator_config(systems.translator.checkpoint).conditions
    if not conditions:
        probes.remove("generated, told nothing")
    if "sex" not in conditions:
        probes.remove("generated, told the other sex")
    told = part.dataset.told.values()
    if all(one.value(attribute) is None for one in told for attribute in ESTIMATED):
        probes.remove("estimated sex and age")
    if systems.matcher is None:
        probes.remove("film (two-tower)")
    pairs = [row.pair for row in part.dataset.gallery()]
    if len(set(pairs)) == len(pairs):  # nobody has two photographs of a view
        probes.remove("photograph")
    return probes


def of_view(album: Album, view: str) -> Album:
    """Keep the pictures of one view."""
    places = [place for place, shown in enumerate(album.views) if shown == view]
    people = tuple(album.people[place] for place in places)
    return Album(album.pixels[places], people, (view,) * len(places))


def _pick(pictures: Pictures, places: Sequence[int]) -> Pictures:
    return Pictures(
        pictures.vectors[list(places)],
        tuple(pictures.people[place] for place in places),
        tuple(pictures.views[place] for place in places),
    )


def _resize(album: Album, size: int) -> Album:
    if album.pixels.shape[1] == size:
        return album
    pixels = np.stack([imaging.resize(picture, (size, size)) for picture in album.pixels])
    return Album(pixels, album.people, album.views)

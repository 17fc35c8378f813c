"""Closed-set search: how near the front of a gallery the mates come, beside chance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from fcr_edge.errors import DataError
from fcr_edge.manifest import Scale
from fcr_train.evaluate.intervals import (
    BOOTSTRAP,
    bound,
    estimate_mean,
    estimate_median,
    mcnemar,
    resample,
)
from fcr_train.evaluate.record import (
    CUTOFFS,
    RANKS,
    Bootstrap,
    Comparison,
    Estimate,
    Probe,
    Retrieval,
    Views,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jaxtyping import Bool, Float32, Float64, Int64

DECIMALS = 6
"""Similarities are rounded as the field's gallery rounds them, so that equal ones are ties."""
DRAWS = 20
"""How often a smaller gallery is drawn."""
SEED = 1
"""Of ties and drawn galleries."""

_NORM_TOLERANCE = 1e-3
"""Of an embedding's length: a float16 embedder is off by a few 1e-4."""
_PEOPLE_AT_ONCE = 128


@dataclass(frozen=True)
class Pictures:
    """Embeddings of pictures, each with its person and view."""

    vectors: Float32[np.ndarray, "n d"]
    """Rows of length 1."""
    people: tuple[str, ...]
    views: tuple[str, ...]

    def __post_init__(self) -> None:
        number = len(self.vectors)
        if not number == len(self.people) == len(self.views):
            raise DataError(
                f"{number} embeddings have {len(self.people)} people and {len(self.views)} views:"
                " give one of each an embedding"
            )
        norms = np.linalg.norm(self.vectors, axis=1)
        # Written so that NaN fails.
        if not np.all(np.abs(norms - 1) < _NORM_TOLERANCE):
            worst = norms[np.argmax(np.nan_to_num(np.abs(norms - 1), nan=np.inf))]
            raise DataError(
                f"an embedding has length {worst:g}, not 1: the embedder diverged, or its vectors"
                " were not scaled to length 1"
            )

    def of_view(self, view: str) -> Pictures:
        """Return the pictures of one view, ordered by person."""
        places = [i for i, shown in enumerate(self.views) if shown == view]
        places.sort(key=lambda i: self.people[i])
        people = tuple(self.people[i] for i in places)
        return Pictures(self.vectors[places], people, (view,) * len(places))


@dataclass(frozen=True)
class Search:
    """How similar every person searched for is to every picture and every person enrolled."""

    probes: tuple[str, ...]
    """People searched for; each is enrolled."""
    enrolled: tuple[str, ...]
    """People enrolled, once each."""
    people: Float32[np.ndarray, "p g"]
    """Similarity to each person: that of the best picture."""
    pictures: Float32[np.ndarray, "p n"]
    """Similarity to each picture."""
    owners: Int64[np.ndarray, " n"]
    """The place of each picture's person in `enrolled`."""

    def __post_init__(self) -> None:
        absent = sorted({*self.probes} - {*self.enrolled})
        if absent or not self.probes:
            raise DataError(
                f"{len(absent)} people are searched for and not enrolled, {absent[0]} the first:"
                " enrol a photograph of the same view"
                if absent
                else "nobody is searched for: give a probe of this view"
            )

    @property
    def mates(self) -> Int64[np.ndarray, " p"]:
        """The place of each probe's own person in `enrolled`."""
        places = {person: place for place, person in enumerate(self.enrolled)}
        return np.array([places[person] for person in self.probes])

    def restrict(self, probes: Iterable[int], enrolled: Iterable[int]) -> Search:
        """Keep only these probes and these people of the gallery, by their places."""
        rows, columns = np.fromiter(probes, np.int64), np.sort(np.fromiter(enrolled, np.int64))
        kept = np.isin(self.owners, columns)
        return Search(
            tuple(self.probes[row] for row in rows),
            tuple(self.enrolled[column] for column in columns),
            self.people[np.ix_(rows, columns)],
            self.pictures[np.ix_(rows, np.flatnonzero(kept))],
            np.searchsorted(columns, self.owners[kept]),
        )


def search(probes: Pictures, gallery: Pictures, view: str) -> Search:
    """Compare everybody's probe of a view with the enrolled photographs of that view.

    Of several probes or photographs of a person the most similar counts. Raises DataError where
    a probe's person is not enrolled.
    """
    shown, stored = probes.of_view(view), gallery.of_view(view)
    names, rows = _group(shown.people)
    enrolled, columns = _group(stored.people)
    if not names or not enrolled:
        raise DataError(f"there is no {view} probe or photograph: leave this view out")
    across = stored.vectors.T.astype(np.float64)
    blocks = []
    for start in range(0, len(names), _PEOPLE_AT_ONCE):
        ends = rows[start : start + _PEOPLE_AT_ONCE + 1]
        block = shown.vectors[ends[0] : ends[-1]].astype(np.float64) @ across
        blocks.append(np.maximum.reduceat(block, ends[:-1] - ends[0], axis=0))
    pictures = np.round(np.concatenate(blocks), DECIMALS).astype(np.float32)
    return Search(
        names,
        enrolled,
        np.maximum.reduceat(pictures, columns[:-1], axis=1),
        pictures,
        np.repeat(np.arange(len(enrolled)), np.diff(columns)),
    )


def _group(people: Sequence[str]) -> tuple[tuple[str, ...], Int64[np.ndarray, " ends"]]:
    """Return the names of sorted rows, and where each one's rows start; the last end follows."""
    counts = Counter(people)
    return tuple(counts), np.cumsum([0, *counts.values()], dtype=np.int64)


def search_people(
    probes: Sequence[str], enrolled: Sequence[str], similarity: Float32[np.ndarray, "p g"]
) -> Search:
    """Make a search of similarities between people, where each has one picture or none is used."""
    owners = np.arange(len(enrolled))
    return Search(tuple(probes), tuple(enrolled), similarity, similarity, owners)


def fit_scale(found: Search) -> Scale:
    """Measure the scale of a view on *training* people. Raises DataError if all are equal."""
    values = found.people.astype(np.float64)
    sd = float(values.std())
    if sd == 0:
        raise DataError(
            "all training similarities of a view are equal: its embedder or translator has"
            " collapsed, so it cannot be joined with another view"
        )
    return Scale(float(values.mean()), sd)


def standardise(found: Search, scale: Scale) -> Search:
    """Put a view's similarities on the scale of its training people: mean 0, sd 1 there."""
    people, pictures = (
        (values - scale.mean) / scale.sd for values in (found.people, found.pictures)
    )
    return replace(found, people=people, pictures=pictures)


def fuse_views(searches: Sequence[Search]) -> Search:
    """Average standardised views over the people who have all of them.

    People are averaged; their pictures stand side by side, each with its similarity to the probe
    of its own view.
    """
    parts = _align(searches)
    return Search(
        parts[0].probes,
        parts[0].enrolled,
        np.mean([part.people for part in parts], axis=0),
        np.concatenate([part.pictures for part in parts], axis=1),
        np.concatenate([part.owners for part in parts]),
    )


def fuse_systems(searches: Sequence[Search], weights: Sequence[float]) -> Search:
    """Average standardised searches of the same pictures by different means.

    Weights are relative and come from training folds. Raises DataError where the galleries hold
    different pictures.
    """
    parts = _align(searches)
    if not all(np.array_equal(part.owners, parts[0].owners) for part in parts):
        raise DataError("the searches to fuse are of different pictures: enrol the same in each")
    return replace(
        parts[0],
        people=np.average([part.people for part in parts], axis=0, weights=weights),
        pictures=np.average([part.pictures for part in parts], axis=0, weights=weights),
    )


def _align(searches: Sequence[Search]) -> list[Search]:
    """Take the people out who are missing in one of the searches, and order the rest alike."""
    probes = _common([found.probes for found in searches])
    enrolled = _common([found.enrolled for found in searches])
    return [_take(found, probes, enrolled) for found in searches]


def _common(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted(set(names[0]).intersection(*names[1:])))


def _take(found: Search, probes: Sequence[str], enrolled: Sequence[str]) -> Search:
    rows = {name: place for place, name in enumerate(found.probes)}
    columns = {name: place for place, name in enumerate(found.enrolled)}
    return found.restrict((rows[name] for name in probes), (columns[name] for name in enrolled))


@dataclass(frozen=True)
class Outcome:
    """What became of each person searched for; averaged over draws where there were several."""

    people: tuple[str, ...]
    gallery: int
    """People enrolled."""
    reached: Float64[np.ndarray, "people ranks"]
    """Share of draws whose mate stands at each of RANKS or before."""
    rank: Float64[np.ndarray, " people"]
    """Rank of the mate, 1 or more."""
    reciprocal_rank: Float64[np.ndarray, " people"]
    recall: Float64[np.ndarray, "people cutoffs"]
    """Share of the mate's pictures among the first k of CUTOFFS."""
    precision: Float64[np.ndarray, "people cutoffs"]
    """Average precision at k of CUTOFFS, over min(m, k) of the mate's m pictures."""


def rank_mates(found: Search, rng: np.random.Generator) -> Int64[np.ndarray, " p"]:
    """Rank the mates: 1 + people above + a random number of the people level with the mate.

    A constant similarity thus gives each rank equally often.
    """
    own = found.people[np.arange(len(found.probes)), found.mates][:, None]
    above = (found.people > own).sum(axis=1)
    level = (found.people == own).sum(axis=1) - 1
    ranks: Int64[np.ndarray, " p"] = 1 + above + rng.integers(0, level + 1)
    return ranks


def measure(found: Search, seed: int = SEED) -> Outcome:
    """Search the whole gallery for everybody; ties are broken at random."""
    rng = np.random.default_rng(seed)
    ranks = rank_mates(found, rng)
    relevant = [
        _list_first(row, found.owners, mate, rng)
        for row, mate in zip(found.pictures, found.mates, strict=True)
    ]
    counts = np.bincount(found.owners, minlength=len(found.enrolled))[found.mates]
    recall, precision = _score_lists(np.array(relevant), counts)
    return Outcome(
        found.probes,
        len(found.enrolled),
        (ranks[:, None] <= np.array(RANKS)).astype(np.float64),
        ranks.astype(np.float64),
        1 / ranks,
        recall,
        precision,
    )


def _list_first(
    row: Float32[np.ndarray, " n"],
    owners: Int64[np.ndarray, " n"],
    mate: int,
    rng: np.random.Generator,
) -> Bool[np.ndarray, " k"]:
    """Tell which of the first pictures are the mate's; past the gallery's end none are."""
    listed = min(max(CUTOFFS), len(row))
    candidates = np.flatnonzero(row >= np.partition(row, -listed)[-listed])
    order = np.lexsort((rng.random(len(candidates)), -row[candidates]))[:listed]
    relevant = owners[candidates[order]] == mate
    return np.pad(relevant, (0, max(CUTOFFS) - listed))


def _score_lists(
    relevant: Bool[np.ndarray, "p k"], counts: Int64[np.ndarray, " p"]
) -> tuple[Float64[np.ndarray, "p cutoffs"], Float64[np.ndarray, "p cutoffs"]]:
    """Return recall@k and AP@k of lists, for people with so many pictures enrolled."""
    hits = relevant.cumsum(axis=1)
    gains = relevant * hits / np.arange(1, relevant.shape[1] + 1)
    recall = [hits[:, k - 1] / counts for k in CUTOFFS]
    precision = [gains[:, :k].sum(axis=1) / np.minimum(counts, k) for k in CUTOFFS]
    return np.stack(recall, axis=1), np.stack(precision, axis=1)


def measure_drawn(found: Search, size: int, draws: int = DRAWS, seed: int = SEED) -> Outcome:
    """Search galleries of `size` people drawn from all enrolled, mates kept; average the draws.

    In a draw the people searched for are divided at random into blocks of `size` or fewer; each
    block is enrolled, filled up with others, and searched for. Everybody is searched for once a
    draw. Raises DataError where fewer than `size` are enrolled.
    """
    if not 1 <= size <= len(found.enrolled):
        raise DataError(
            f"a gallery of {size} cannot be drawn from {len(found.enrolled)} people: enrol more"
        )
    rng = np.random.default_rng(seed)
    return _average([_measure_draw(found, size, rng) for _ in range(draws)])


def _measure_draw(found: Search, size: int, rng: np.random.Generator) -> Outcome:
    everybody = np.arange(len(found.enrolled))
    order = rng.permutation(len(found.probes))
    parts = []
    for start in range(0, len(order), size):
        block = order[start : start + size]
        mates = found.mates[block]
        others = rng.choice(np.setdiff1d(everybody, mates), size - len(block), replace=False)
        small = found.restrict(block, np.concatenate([mates, others]))
        parts.append(measure(small, int(rng.integers(2**32))))
    return _sort(join(parts))


def join(outcomes: Sequence[Outcome]) -> Outcome:
    """Put the people of several folds together, each searched for in the gallery of one's fold.

    The gallery stated is the smallest, for which chance is the highest.
    """
    twice = len({name for part in outcomes for name in part.people})
    if twice < sum(len(part.people) for part in outcomes):
        raise DataError("a person is searched for in two folds: give folds by person")
    return Outcome(
        tuple(name for part in outcomes for name in part.people),
        min(part.gallery for part in outcomes),
        *(np.concatenate([getattr(part, name) for part in outcomes]) for name in _FIGURES),
    )


def _sort(outcome: Outcome) -> Outcome:
    order = sorted(range(len(outcome.people)), key=lambda place: outcome.people[place])
    people = tuple(outcome.people[place] for place in order)
    return Outcome(people, outcome.gallery, *(getattr(outcome, name)[order] for name in _FIGURES))


def _average(draws: Sequence[Outcome]) -> Outcome:
    figures = (np.mean([getattr(draw, name) for draw in draws], axis=0) for name in _FIGURES)
    return Outcome(draws[0].people, draws[0].gallery, *figures)


_FIGURES = ("reached", "rank", "reciprocal_rank", "recall", "precision")


@dataclass(frozen=True)
class Label:
    """What a row of retrieval figures is about."""

    probe: Probe
    views: Views
    jitter: bool
    origin: str = "all test people"


def summarise(outcome: Outcome, label: Label, bootstrap: Bootstrap = BOOTSTRAP) -> Retrieval:
    """Average over people, with intervals by person; the gallery is held fixed."""

    def columns(
        values: Float64[np.ndarray, "people k"], keys: tuple[int, ...]
    ) -> dict[str, Estimate]:
        return {
            str(key): estimate_mean(column, bootstrap)
            for key, column in zip(keys, values.T, strict=True)
        }

    return Retrieval(
        label.probe,
        label.views,
        label.jitter,
        outcome.gallery,
        label.origin,
        len(outcome.people),
        columns(outcome.reached, RANKS),
        columns(outcome.recall, CUTOFFS),
        columns(outcome.precision, CUTOFFS),
        estimate_mean(outcome.reciprocal_rank, bootstrap),
        estimate_median(outcome.rank, bootstrap),
    )


def compare(
    first: Outcome,
    second: Outcome,
    labels: tuple[Label, Label],
    rank: int,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Comparison:
    """Subtract the second's CMC at one of RANKS from the first's, on the same people.

    Where one is a mean over draws, nobody is just found or not, and McNemar's test is left out.
    Raises DataError where people or galleries differ.
    """
    if sorted(first.people) != sorted(second.people) or first.gallery != second.gallery:
        raise DataError(
            f"{labels[0].probe} and {labels[1].probe} were not measured on the same people and"
            " gallery: compare those that were"
        )
    column = RANKS.index(rank)
    ours, theirs = (_sort(outcome).reached[:, column] for outcome in (first, second))
    whole = all(np.all(shares == np.round(shares)) for shares in (ours, theirs))
    drawn = [(ours - theirs)[picks].mean(axis=1) for picks in resample(len(ours), bootstrap)]
    return Comparison(
        labels[0].probe,
        labels[1].probe,
        labels[0].views,
        labels[0].jitter,
        first.gallery,
        rank,
        bound(float((ours - theirs).mean()), np.concatenate(drawn)),
        mcnemar(ours == 1, theirs == 1) if whole else None,
    )


def state_chance(outcome: Outcome, pictures: Mapping[str, int], label: Label) -> Retrieval:
    """State what a random order gives on average, exactly, beside an outcome.

    Args:
        outcome: Gives the people searched for and the size of the gallery.
        pictures: How many photographs of each enrolled person are in the gallery.
        label: What the row is about.

    The interval of a CMC is where 95 % of random orders fall for so many people.
    """
    gallery, probes = outcome.gallery, len(outcome.people)
    total = round(sum(pictures.values()) * gallery / len(pictures))
    counts = [pictures[name] for name in outcome.people]
    return Retrieval(
        "chance",
        label.views,
        label.jitter,
        gallery,
        label.origin,
        probes,
        {str(k): _expect_share(k, gallery, probes) for k in RANKS},
        {str(k): Estimate(min(1.0, k / total)) for k in CUTOFFS},
        {
            str(k): Estimate(float(np.mean([expect_precision(k, m, total) for m in counts])))
            for k in CUTOFFS
        },
        Estimate(float((1 / np.arange(1, gallery + 1)).mean())),
        Estimate((gallery + 1) / 2),
    )


def _expect_share(rank: int, gallery: int, probes: int) -> Estimate:
    chance = min(1.0, rank / gallery)
    low, high = (float(stats.binom.ppf(share, probes, chance)) for share in (0.025, 0.975))
    return Estimate(chance, low / probes, high / probes)


def expect_precision(k: int, relevant: int, pictures: int) -> float:
    """Return the mean AP@k of a random order, over min(relevant, k).

    Place i holds a relevant picture with probability m/n, and then (i - 1)(m - 1)/(n - 1) of
    those before it are relevant on average.

    >>> round(expect_precision(10, 1, 1000), 6)  # (1 + 1/2 + ... + 1/10) / 1000
    0.002929
    """
    places = np.arange(1, min(k, pictures) + 1)
    before = (places - 1) * (relevant - 1) / max(pictures - 1, 1)
    gains = relevant / pictures * (1 + before) / places
    return float(gains.sum() / min(relevant, k))

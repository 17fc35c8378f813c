"""What a generated face must beat to be worth anything."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from fcr_edge import imaging
from fcr_edge.errors import DataError
from fcr_train.evaluate.intervals import BOOTSTRAP, bound, resample
from fcr_train.evaluate.record import (
    CUTOFFS,
    RANKS,
    Bootstrap,
    Estimate,
    Retrieval,
)
from fcr_train.evaluate.retrieval import (
    SEED,
    Label,
    Outcome,
    Pictures,
    Search,
    expect_precision,
    fuse_systems,
    join,
    rank_mates,
    search_people,
    summarise,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jaxtyping import Float32, Float64, Int64, UInt8

    from fcr_edge.conditions import Conditions

AGE_BAND = 5.0
"""The filter keeps people whose age differs by at most so much [years]."""
SIDE = 64
"""Of the pictures that the linear matcher and the nearest skull are computed on [pixels]."""
JITTER_SCALE, JITTER_SHIFT = 0.05, 6 / 256
"""Largest change of scale, and shift in each direction [share of the side]."""

ESTIMATED = ("sex", "age")
"""What is estimated from a film, of `fcr_edge.conditions.ATTRIBUTES`."""
_LEAST_ERROR = 1e-3
"""Of an estimate that leaving one out finds perfect."""
_FILM_COMPONENTS, _FACE_COMPONENTS = 150, 60
_PENALTIES = np.logspace(-1, 5, 13)
_WEIGHTS = np.linspace(0, 1, 11)


def mean_face(faces: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Average the training photographs of one view: the probe that is the same for everybody."""
    mean: UInt8[np.ndarray, "h w 3"] = faces.mean(axis=0).round().astype(np.uint8)
    return mean


def repeat_probe(
    embedding: Float32[np.ndarray, " d"], people: Sequence[str], view: str
) -> Pictures:
    """Search for everybody with one embedding, such as the mean face's."""
    vectors = np.tile(embedding, (len(people), 1))
    return Pictures(vectors, tuple(people), (view,) * len(people))


def find_nearest(
    films: UInt8[np.ndarray, "n h w c"], training: UInt8[np.ndarray, "m h w c"]
) -> Int64[np.ndarray, " n"]:
    """Find the training film nearest to each film: that person's face becomes the probe.

    A generator that only remembers training faces does no better than this copy.
    """
    nearest: Int64[np.ndarray, " n"] = cdist(_flatten(films), _flatten(training)).argmin(axis=1)
    return nearest


def hold_out_photographs(
    people: Sequence[str], views: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Choose the last photograph of each person and view as a probe, where there are several.

    Returns the places of the photographs that stay enrolled and of the probes: the ceiling of
    the matcher is measured with a photograph that is not itself in the gallery. Raises DataError
    where everybody has but one.
    """
    places = defaultdict(list)
    for place, key in enumerate(zip(people, views, strict=True)):
        places[key].append(place)
    probes = sorted(stack[-1] for stack in places.values() if len(stack) > 1)
    if not probes:
        raise DataError(
            "everybody has one photograph of a view: searching with a photograph needs a second"
        )
    return sorted({*range(len(people))} - {*probes}), probes


@dataclass(frozen=True)
class LinearMatcher:
    """A film compared with a photograph without a face in between: PCA, then ridge regression.

    It says what is to be had from position and size alone, and is fitted in seconds.
    """

    film_components: PCA
    face_components: PCA
    regression: RidgeCV

    @classmethod
    def fit(
        cls, films: UInt8[np.ndarray, "n h w c"], faces: UInt8[np.ndarray, "n h w 3"]
    ) -> LinearMatcher:
        """Fit on training pairs of one view: film i and face i show one person.

        The penalty is chosen by leaving one out. Raises DataError for fewer than 3 pairs.
        """
        if len(films) != len(faces) or len(films) < 3:
            raise DataError(
                f"{len(films)} films and {len(faces)} faces: give 3 or more pairs to fit on"
            )
        film_components = _fit_components(films, _FILM_COMPONENTS, whiten=False)
        face_components = _fit_components(faces, _FACE_COMPONENTS, whiten=True)
        regression = RidgeCV(_PENALTIES).fit(
            film_components.transform(_flatten(films)),
            face_components.transform(_flatten(faces)),
        )
        return cls(film_components, face_components, regression)

    def embed_films(self, films: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n d"]:
        """Predict the embeddings of the faces that belong to films."""
        return _to_unit(self.regression.predict(self.film_components.transform(_flatten(films))))

    def embed_faces(self, faces: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Embed photographs: their whitened principal components, scaled to length 1."""
        return _to_unit(self.face_components.transform(_flatten(faces)))


def _fit_components(pixels: UInt8[np.ndarray, "n h w c"], most: int, *, whiten: bool) -> PCA:
    number = min(most, len(pixels) - 1)
    components = PCA(number, whiten=whiten, svd_solver="randomized", random_state=SEED)
    components.fit(_flatten(pixels))
    return components


def _flatten(pixels: UInt8[np.ndarray, "n h w c"]) -> Float64[np.ndarray, "n p"]:
    """Reduce pictures to grey, SIDE x SIDE, in [0, 1], a row each."""
    small = np.stack([imaging.resize(picture, (SIDE, SIDE)) for picture in pixels])
    rows: Float64[np.ndarray, "n p"] = small.mean(axis=3).reshape(len(pixels), -1) / 255
    return rows


def _to_unit(vectors: Float64[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    # Exactly average pictures have no direction; any will do, the same for all.
    vectors = np.where(norms > 0, vectors, 1)
    unit: Float32[np.ndarray, "n d"] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32)


def fit_weights(searches: tuple[Search, Search]) -> tuple[float, float]:
    """Choose the weights of two standardised searches of *training* people by their ranks.

    The greatest mean reciprocal rank wins; of equal ones, the evenest weights.
    """

    def judge(weight: float) -> tuple[float, float]:
        fused = fuse_systems(searches, (weight, 1 - weight))
        ranks = rank_mates(fused, np.random.default_rng(SEED))
        return float((1 / ranks).mean()), -abs(weight - 0.5)

    best = float(max(_WEIGHTS, key=judge))
    return best, 1 - best


@dataclass(frozen=True)
class FilmEstimator:
    """Sex and age as a film tells them: what is to be had without a face or a photograph.

    Each is regressed on the film's principal components; whoever is enrolled is as similar as his
    or her true sex and age are likely, the error being normal.
    """

    components: PCA
    regressions: Mapping[str, RidgeCV]
    errors: Mapping[str, float]
    """Standard deviation of each estimate, leaving one out, in the units of `Conditions.value`."""

    @classmethod
    def fit(cls, films: UInt8[np.ndarray, "n h w c"], told: Sequence[Conditions]) -> FilmEstimator:
        """Fit on training films of one view; `told` is of the person on each film.

        What is known of fewer than 3, or is the same of all, is not estimated. Raises DataError
        for fewer than 3 films.
        """
        if len(films) < 3:
            raise DataError(f"{len(films)} films: give 3 or more to estimate sex and age from")
        components = _fit_components(films, _FILM_COMPONENTS, whiten=False)
        rows = components.transform(_flatten(films))
        regressions, errors = {}, {}
        for attribute in ESTIMATED:
            values = _list_values(told, attribute)
            known = ~np.isnan(values)
            if known.sum() < 3 or np.ptp(values[known]) == 0:
                continue
            fitted = RidgeCV(_PENALTIES).fit(rows[known], values[known])
            regressions[attribute] = fitted
            # RidgeCV's score is the mean squared error of leaving one out, negated.
            errors[attribute] = max(math.sqrt(-fitted.best_score_), _LEAST_ERROR)
        return cls(components, regressions, errors)

    def compare(
        self, films: UInt8[np.ndarray, "p h w c"], enrolled: Sequence[Conditions]
    ) -> Float32[np.ndarray, "p g"]:
        """Return the log likelihood of each enrolled person's sex and age, up to a constant.

        What is not known of somebody counts as it does on average.
        """
        rows = self.components.transform(_flatten(films))
        total = np.zeros((len(films), len(enrolled)))
        for attribute, regression in self.regressions.items():
            values = _list_values(enrolled, attribute)
            apart = regression.predict(rows)[:, None] - values
            likely = -((apart / self.errors[attribute]) ** 2) / 2
            known = ~np.isnan(values)
            if known.any():
                likely[:, ~known] = likely[:, known].mean(axis=1, keepdims=True)
                total += likely
        similarity: Float32[np.ndarray, "p g"] = total.astype(np.float32)
        return similarity


def _list_values(told: Sequence[Conditions], attribute: str) -> Float64[np.ndarray, " n"]:
    """List an attribute as numbers, NaN where it is not known."""
    values = [conditions.value(attribute) for conditions in told]
    return np.array([np.nan if value is None else value for value in values])


def jitter(
    pixels: UInt8[np.ndarray, "n h w c"],
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> UInt8[np.ndarray, "n h w c"]:
    """Scale and shift each picture at random, so that absolute size and place say nothing.

    The edge is drawn out where the picture moves in. Films and photographs take different seeds.
    """
    rng = np.random.default_rng(seed)
    draws = rng.uniform(-1, 1, (len(pixels), 3))
    moved = np.empty_like(pixels)
    for done, (picture, draw) in enumerate(zip(pixels, draws, strict=True), start=1):
        moved[done - 1] = _move(picture, 1 + JITTER_SCALE * draw[0], JITTER_SHIFT * draw[1:])
        if progress is not None:
            progress(done, len(pixels))
    return moved


def _move(
    picture: UInt8[np.ndarray, "h w c"], scale: float, shift: Float64[np.ndarray, " 2"]
) -> UInt8[np.ndarray, "h w c"]:
    """Scale about the middle, then shift down and right [share of the side]."""
    sides = np.array(picture.shape[:2])
    middle = (sides - 1) / 2
    offset = middle - (middle + shift * sides) / scale
    channels = [
        ndimage.affine_transform(
            channel.astype(np.float32), np.full(2, 1 / scale), offset, order=1, mode="nearest"
        )
        for channel in np.moveaxis(picture, 2, 0)
    ]
    moved: UInt8[np.ndarray, "h w c"] = np.stack(channels, axis=2).round().astype(np.uint8)
    return moved


def filter_people(
    probes: Sequence[str], enrolled: Sequence[str], conditions: Mapping[str, Conditions]
) -> Search:
    """Search by true sex and age alone: 1 within the band, 0 outside, no order within.

    What is not known of a person keeps nobody out.
    """
    shown, stored = _tabulate(probes, conditions), _tabulate(enrolled, conditions)
    other_sex = shown.sex[:, None] * stored.sex == -1
    other_age = np.abs(shown.age[:, None] - stored.age) > AGE_BAND
    return search_people(probes, enrolled, (~other_sex & ~other_age).astype(np.float32))


class _Table(NamedTuple):
    sex: Int64[np.ndarray, " n"]
    """-1 and 1, 0 where it is not known."""
    age: Float64[np.ndarray, " n"]
    """NaN where it is not known."""


def _tabulate(people: Sequence[str], conditions: Mapping[str, Conditions]) -> _Table:
    rows = [conditions[name] for name in people]
    ages = [np.nan if row.age is None else row.age for row in rows]
    return _Table(np.array([row.value("sex") or 0 for row in rows]), np.array(ages))


def expect_filter(found: Search) -> Outcome:
    """Compute what a filter's random order gives each person on average, exactly.

    In a band of b people, the mate stands at each rank to b equally often.
    """
    band = _count_band(found)
    places = np.arange(1, band.max() + 1)
    harmonic = np.cumsum(1 / places)
    own = np.bincount(found.owners, minlength=len(found.enrolled))[found.mates]
    pictures = (found.pictures > 0).sum(axis=1)
    return Outcome(
        found.probes,
        len(found.enrolled),
        np.minimum(1, np.array(RANKS) / band[:, None]),
        (band + 1) / 2,
        harmonic[band - 1] / band,
        np.minimum(1, np.array(CUTOFFS) / pictures[:, None]),
        np.array(
            [
                [expect_precision(k, m, n) for k in CUTOFFS]
                for m, n in zip(own, pictures, strict=True)
            ]
        ),
    )


def _count_band(found: Search) -> Int64[np.ndarray, " p"]:
    """Count the people whom a filter leaves to each person searched for, mate included."""
    band: Int64[np.ndarray, " p"] = (found.people > 0).sum(axis=1)
    return band


def state_filter(
    found: Sequence[Search], label: Label, bootstrap: Bootstrap = BOOTSTRAP
) -> Retrieval:
    """State a filter's figures: values are exact means, intervals those of one random order.

    Each draw takes people with replacement and gives every mate a random rank in the band. The
    searches are those of one fold, or of several, whose people are put together.
    """
    exact = summarise(join([expect_filter(one) for one in found]), label, bootstrap)
    ranks = _draw_ranks(np.concatenate([_count_band(one) for one in found]), bootstrap)
    medians = np.median(ranks, axis=1)

    def state(estimate: Estimate, drawn: Float64[np.ndarray, " draws"]) -> Estimate:
        return bound(estimate.value, drawn)

    return replace(
        exact,
        cmc={
            key: state(share, (ranks <= int(key)).mean(axis=1)) for key, share in exact.cmc.items()
        },
        recall={key: Estimate(share.value) for key, share in exact.recall.items()},
        mean_average_precision={
            key: Estimate(share.value) for key, share in exact.mean_average_precision.items()
        },
        mean_reciprocal_rank=state(exact.mean_reciprocal_rank, (1 / ranks).mean(axis=1)),
        # Of expected ranks the median is another, and may lie outside of every random order's.
        median_rank=bound(float(medians.mean()), medians),
    )


def _draw_ranks(
    band: Int64[np.ndarray, " p"], bootstrap: Bootstrap
) -> Int64[np.ndarray, "draws p"]:
    rng = np.random.default_rng([bootstrap.seed, 1])
    return np.concatenate(
        [rng.integers(1, band[picks] + 1) for picks in resample(len(band), bootstrap)]
    )

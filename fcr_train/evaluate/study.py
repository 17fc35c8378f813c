"""A study: its evaluations, which run is the best and why, and the pictures that show it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from fcr_edge.errors import DataError
from fcr_train.evaluate.record import RANKS, Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from jaxtyping import UInt8

    from fcr_train.evaluate.record import Evaluation, Retrieval

    Picture = UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w c"]

SCHEMA = "fcr-study/1"
BEST_FILE = "best.json"
"""Names the run that is offered for export, in the folder of a study."""
VIEWS = ("both", "frontal", "lateral")
"""In the order in which results are stated."""
DIRECT = ("film (two-tower)", "film (linear)")
"""Probes that are compared with photographs without a face in between."""
UNTRAINED = "-untrained"
"""Ends the identifier of an embedder as the seed paper uses it: pretrained features."""
PARTS = ("translator", "embedder")
"""What a run has of its own."""
NAMES = {
    "cyclegan": "CycleGAN",
    "pix2pix": "pix2pix (cGAN)",
    "cut": "CUT",
    "fastcut": "FastCUT",
    "vgg16": "VGG16",
    "resnet18": "ResNet18",
    "resnet101": "ResNet101",
    "densenet121": "DenseNet121",
}
"""How methods are written for readers, in the order of the seed paper's tables."""


@dataclass(frozen=True)
class Illustration:
    """A figure or a sheet, with the words that go with it."""

    name: str
    """File name without its ending."""
    format: Literal["svg", "png"]
    data: bytes
    title: str
    caption: str
    alt: str
    """What somebody hears who cannot see it."""


@dataclass(frozen=True)
class Case:
    """One view of a person as every translator drew it."""

    person: str
    view: str
    skull: Picture
    faces: Mapping[str, Picture]
    """The generated face, by translator."""
    photograph: Picture
    """The true face."""
    rank: int | None = None
    """Rank of the mate when the best run's face is searched for, 1 or more."""
    gallery: int | None = None
    """People among whom that rank was."""
    ssim: float | None = None
    """SSIM of the best run's face with the true one."""


@dataclass(frozen=True)
class Candidate:
    """A person of the gallery as a search returned them."""

    person: str
    similarity: float
    photograph: Picture


@dataclass(frozen=True)
class CandidateList:
    """A generated face, the first candidates that it found, and the mate with its rank."""

    person: str
    view: str
    skull: Picture
    face: Picture
    photograph: Picture
    """The mate's photograph in the gallery."""
    rank: int
    """Rank of the mate, 1 or more."""
    gallery: int
    candidates: Sequence[Candidate]
    """In order, the best first; ten are shown."""

    def __post_init__(self) -> None:
        """Raise DataError where the mate is not at its rank among the candidates."""
        places = [n for n, found in enumerate(self.candidates, start=1)
                  if found.person == self.person]  # fmt: skip
        if places != ([self.rank] if self.rank <= len(self.candidates) else []):
            raise DataError(
                f"{self.person} has rank {self.rank} but stands at {places or 'no place'} of the "
                "candidates: pass the list and the rank of one search"
            )


@dataclass(frozen=True, kw_only=True)
class Best:
    """The run that is offered for export."""

    translator: str
    embedder: str
    checkpoints: Mapping[str, str]
    """Path of each part's checkpoint from the study's folder: `translator`, `embedder`."""
    evaluation: str
    """Path of its evaluation, likewise."""
    why: str
    """One sentence for readers: by which measure, and against what."""


def find_best(runs: Path) -> Path:
    """Find the record of the best run that was written last: BEST_FILE in a folder of `runs`.

    Raises DataError where there is none.
    """
    found = sorted(runs.glob(f"*/{BEST_FILE}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise DataError(
            f"no study has marked a best run ({runs}/*/{BEST_FILE}): run `fcr-train compare`, or"
            " pass --best FILE, or --translator CHECKPOINT and --embedder CHECKPOINT"
        )
    return found[-1]


def read_best(path: Path) -> Best:
    """Read which run a study marked best; paths are returned whole.

    Raises DataError.
    """
    try:
        best = Best(**json.loads(path.read_text(encoding="utf-8")))
        parts = {part: str(path.parent / best.checkpoints[part]) for part in PARTS}
        evaluation = str(path.parent / best.evaluation)
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise DataError(
            f"{path} does not name a best run ({err}): run `fcr-train compare` again, or pass"
            " --translator CHECKPOINT and --embedder CHECKPOINT"
        ) from err
    return replace(best, checkpoints=parts, evaluation=evaluation)


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that a report shows.

    Raises DataError where two evaluations are of one run, or where the best run has none on
    people it never saw.
    """

    evaluations: Sequence[Evaluation]
    best: Best
    command: str
    """What repeats the study, as it is typed."""
    created: str
    """When the study was made, ISO 8601."""
    again: Sequence[Evaluation] = ()
    """The best run trained again with other seeds: how much chance of training moves figures."""
    cases: Sequence[Case] = ()
    """People drawn at random, a case for each view (as the seed paper's Figs. 6 and 7)."""
    worst_by_rank: Sequence[Case] = ()
    """The cases whose mates rank last, the worst first (Fig. 8)."""
    worst_by_ssim: Sequence[Case] = ()
    """The cases whose faces resemble the true ones least, the worst first (Fig. 8)."""
    searches: Sequence[CandidateList] = ()
    """Candidate lists with the mate's place in them (Fig. 9)."""
    best_run: Evaluation = field(init=False)
    """The best run's evaluation on people it never saw."""

    def __post_init__(self) -> None:
        seen = Counter(name_run(run) for run in self.evaluations)
        twice = [name for name, times in seen.items() if times > 1]
        if twice:
            raise DataError(f"two evaluations are of {twice[0]}: pass one of each run and split")
        run = self.find("person", self.best.translator, self.best.embedder)
        if run is None:
            raise DataError(
                f"the best run, {self.best.translator} with {self.best.embedder}, has no "
                "evaluation on the split by person: evaluate it there first"
            )
        object.__setattr__(self, "best_run", run)

    @property
    def rank(self) -> int:
        """The rank that the study's result is stated at."""
        headline = find_headline(self.best_run)
        return decide_rank(headline.gallery) if headline else RANKS[-1]

    @property
    def is_simulated(self) -> bool:
        """Whether anybody in the study is simulated."""
        return any(run.level == "S" for run in self.evaluations)

    def on_split(self, by: str) -> list[Evaluation]:
        """Return the evaluations of one kind of split, in the order of the paper's tables."""
        runs = [run for run in self.evaluations if run.translator and run.split.by == by]
        return sorted(runs, key=_paper_order)

    def find(self, by: str, translator: str, embedder: str) -> Evaluation | None:
        """Return the evaluation of a run, or None."""
        for run in self.evaluations:
            if (run.split.by, translator_of(run), embedder_of(run)) == (
                by,
                translator,
                embedder,
            ):
                return run
        return None


def find_supported_fpir(searches: int) -> float:
    """Return the smallest FPIR that so many searches (1 or more) without a mate can support.

    With no false alarm among n searches FPIR <= f holds at 95 % where n >= ln .05 / ln(1 - f).

    >>> round(find_supported_fpir(29), 3), round(find_supported_fpir(998), 4)
    (0.098, 0.003)
    """
    return float(1 - 0.05 ** (1 / searches))


def miss_by_chance(fpir: float, gallery: int) -> float:
    """Return the FNIR of independent random scores: 1 - FMR, with FPIR = 1 - (1 - FMR)^N.

    >>> miss_by_chance(0.19, 2)
    0.9
    """
    return float((1 - fpir) ** (1 / gallery))


def name_run(run: Evaluation) -> str:
    """Name an evaluation for a message."""
    return f"{translator_of(run)} with {embedder_of(run)} on the {run.split.by} split"


def translator_of(run: Evaluation) -> str:
    """Return the identifier of the run's translator, empty for a matcher alone."""
    return run.translator.model if run.translator else ""


def embedder_of(run: Evaluation) -> str:
    """Return the identifier of the run's embedder, saying so where nothing was trained."""
    return f"{run.embedder.model}{UNTRAINED}" if run.embedder.steps == 0 else run.embedder.model


def write_name(model: str) -> str:
    """Write a method's name as its authors do."""
    known = model.removesuffix(UNTRAINED)
    return NAMES.get(known, known) + (", not trained" if model.endswith(UNTRAINED) else "")


def _paper_order(run: Evaluation) -> tuple[int, ...]:
    known = [*NAMES, *(f"{name}{UNTRAINED}" for name in NAMES)]
    models = (translator_of(run), embedder_of(run))
    return tuple(known.index(model) if model in known else len(known) for model in models)


def find_headline(run: Evaluation) -> Retrieval | None:
    """Return the retrieval that is stated: both views if there are, jitter on, most people."""
    rows = [row for row in run.retrieval if row.probe == "generated"]
    return max(
        rows, key=lambda row: (row.jitter, -VIEWS.index(row.views), row.gallery), default=None
    )


def find_beside(run: Evaluation, row: Retrieval, probe: str) -> Retrieval | None:
    """Return the retrieval of another probe under the very conditions of `row`, or None."""
    for other in run.retrieval:
        same = (other.views, other.jitter, other.gallery) == (row.views, row.jitter, row.gallery)
        if other.probe == probe and same:
            return other
    return None


def decide_rank(gallery: int) -> int:
    """Return the rank that a result is stated at: the last of RANKS that chance reaches rarely.

    Among the first 50 of 51 people nearly everybody is; one in five is as often as may be.

    >>> [decide_rank(size) for size in (10, 51, 250, 6159)]
    [1, 10, 50, 50]
    """
    return max((rank for rank in RANKS if 5 * rank <= gallery), default=RANKS[0])


def find_direct(run: Evaluation, row: Retrieval) -> Retrieval | None:
    """Return the better of the direct matchers under the conditions of `row`."""
    rows = [found for probe in DIRECT if (found := find_beside(run, row, probe))]
    rank = str(decide_rank(row.gallery))
    return max(rows, key=lambda found: found.cmc[rank].value, default=None)


def compare_probes(run: Evaluation, row: Retrieval, probe: str) -> str | None:
    """Say where `row` lies from another probe on the same people, or None if nobody compared.

    By the paired bootstrap interval of the difference at the rank that decides.
    """
    rank = decide_rank(row.gallery)
    for found in run.comparisons:
        same = (found.views, found.jitter, found.gallery) == (row.views, row.jitter, row.gallery)
        if same and (found.first, found.second, found.rank) == (row.probe, probe, rank):
            return compare(found.difference, Estimate(0.0))
    return None


def compare(one: Estimate, other: Estimate) -> str:
    """Say in words where one estimate lies from another; intervals that meet say nothing."""
    (low, high), (other_low, other_high) = _bounds(one), _bounds(other)
    if low > other_high:
        return "above"
    return "below" if high < other_low else "not distinguishable"


def _bounds(estimate: Estimate) -> tuple[float, float]:
    low = estimate.value if estimate.low is None else estimate.low
    return low, estimate.value if estimate.high is None else estimate.high

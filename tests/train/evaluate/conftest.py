"""A study with plausible figures: four translators, four embedders, two splits, three views."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fcr_edge.manifest import Fusion, Scale
from fcr_train.evaluate import record
from fcr_train.evaluate.claims import claims
from fcr_train.evaluate.record import Estimate, Measure, Views
from fcr_train.evaluate.results import build_tables
from fcr_train.evaluate.study import Best, Candidate, CandidateList, Case, Study
from fcr_train.evaluate.tables import Cell, Table

TRANSLATORS = {"cyclegan": 1.2, "pix2pix": 2.2, "cut": 1.4, "fastcut": 1.5}
"""How strongly each one's probes pull their mates to the front, 1 being chance."""
EMBEDDERS = {"vgg16": 0.9, "resnet18": 1.0, "resnet101": 1.1, "densenet121": 1.2}
BASELINES: dict[record.Probe, float] = {
    "mean face": 1.05,
    "sex and age": 1.45,
    "estimated sex and age": 1.4,
    "nearest training face": 1.6,
    "film (linear)": 1.8,
    "film (two-tower)": 2.6,
    "fusion": 2.8,
    "photograph": 9.0,
}
VIEWS: dict[Views, float] = {"frontal": 1.0, "lateral": 0.9, "both": 1.2}
SIZE = 64
NO_INCEPTION = "not computed: no Inception weights were given"


def estimate(values: np.ndarray) -> Estimate:
    """Estimate a mean with its interval by normal approximation."""
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / np.sqrt(values.size)
    return Estimate(mean, max(mean - half, 0.0), mean + half)


def draw_ranks(rng: np.random.Generator, people: int, gallery: int, pull: float) -> np.ndarray:
    return np.floor(gallery * rng.random(people) ** pull).astype(int) + 1


def make_retrieval(
    probe: record.Probe, views: Views, jitter: bool, ranks: np.ndarray, gallery: int
) -> record.Retrieval:
    cmc = {str(k): estimate((ranks <= k).astype(float)) for k in record.RANKS}
    median = float(np.median(ranks))
    return record.Retrieval(
        probe=probe,
        views=views,
        jitter=jitter,
        gallery=gallery,
        origin="all test people",
        probes=ranks.size,
        cmc=cmc,
        recall={k: cmc[k] for k in ("10", "20")},
        mean_average_precision={
            k: estimate(np.where(ranks <= int(k), 1 / ranks, 0.0)) for k in ("10", "20")
        },
        mean_reciprocal_rank=estimate(1 / ranks),
        median_rank=Estimate(median, 0.9 * median, 1.1 * median),
    )


def make_chance(views: Views, jitter: bool, gallery: int) -> record.Retrieval:
    harmonic = np.cumsum(1 / np.arange(1, gallery + 1)) / gallery
    return record.Retrieval(
        probe="chance",
        views=views,
        jitter=jitter,
        gallery=gallery,
        origin="all test people",
        probes=gallery,
        cmc={str(k): Estimate(min(1.0, k / gallery)) for k in record.RANKS},
        recall={str(k): Estimate(min(1.0, k / gallery)) for k in (10, 20)},
        mean_average_precision={str(k): Estimate(float(harmonic[k - 1])) for k in (10, 20)},
        mean_reciprocal_rank=Estimate(float(harmonic[-1])),
        median_rank=Estimate((gallery + 1) / 2),
    )


def make_retrievals(
    rng: np.random.Generator, gallery: int, pull: float
) -> tuple[list[record.Retrieval], list[record.Comparison]]:
    rows, comparisons = [], []
    for views, share in VIEWS.items():
        for jitter in (True, False):
            scale = share * (1.0 if jitter else 1.5)
            ranks = {
                probe: draw_ranks(rng, gallery, gallery, max(1.0, strength * scale))
                for probe, strength in {"generated": pull, **BASELINES}.items()
            }
            rows += [make_retrieval(p, views, jitter, r, gallery) for p, r in ranks.items()]  # type: ignore[arg-type]
            rows.append(make_chance(views, jitter, gallery))
            rivals = ("mean face", "sex and age", "film (linear)", "film (two-tower)")
            for second, rank in itertools.product(rivals, (10, 50)):
                better = (ranks["generated"] <= rank).astype(float) - (ranks[second] <= rank)
                half = 1.96 * better.std() / np.sqrt(gallery)
                mean = float(better.mean())
                difference = Estimate(mean, mean - half, mean + half)
                comparisons.append(
                    record.Comparison(
                        "generated", second, views, jitter, gallery, rank, difference, 0.01
                    )  # type: ignore[arg-type]
                )
    return rows, comparisons


def make_open_set(views: Views, gallery: int, pull: float) -> record.OpenSet:
    fpirs = np.geomspace(1 / gallery, 1, 40)
    fnirs = np.clip(1 - 0.16 * pull * fpirs**0.35, 0, 1)
    fnir = []
    for fpir, needed in ((0.1, 29), (0.03, 99), (0.003, 998)):
        value = float(np.interp(fpir, fpirs, fnirs))
        reason = f"not measurable with {gallery} searches" if gallery < needed else ""
        found = None if reason else Estimate(value, value - 0.03, min(1.0, value + 0.03))
        fnir.append(record.Fnir(fpir, found, reason))
    det = tuple((float(x), float(y)) for x, y in zip(fpirs, fnirs, strict=True))
    return record.OpenSet(views, gallery, gallery, gallery, tuple(fnir), det)


def make_calibration(rng: np.random.Generator, views: Views, people: int) -> record.Calibration:
    cap = float(np.log10(people))
    same = np.clip(np.sort(rng.normal(0.5, 0.8, people)), -cap, cap)
    different = np.clip(np.sort(rng.normal(-0.4, 0.7, 2 * people)), -cap, cap)

    def curve(values: np.ndarray) -> tuple[tuple[float, ...], ...]:
        shares = 1 - np.arange(values.size) / values.size
        points = zip(values[::10], shares[::10], strict=True)
        return tuple((float(x), float(y)) for x, y in points)

    return record.Calibration(
        views=views,
        people=people,
        cllr=Estimate(0.81, 0.77, 0.86),
        cllr_min=0.78,
        cap_log10=cap,
        method="logistic",
        tippett=record.Tippett(curve(same), curve(different)),
        misleading=record.Misleading(float((same < 0).mean()), float((different > 0).mean())),
        fit=record.CalibrationFit(-1.1, 4.2, cap, people, "simulated people, 18 to 35 years"),
    )


GROUPS = {
    "sex": {"female": 0.43, "male": 0.57},
    "age": {"18 to 24": 0.45, "25 to 29": 0.54, "30 to 35": 0.01},
    "bmi": {"under 25": 0.6, "25 or more": 0.4},
}


def make_groups(people: int) -> tuple[list[record.Group], list[record.Gap]]:
    groups, gaps = [], []
    for by, shares in GROUPS.items():
        for place, (name, share) in enumerate(shares.items()):
            number = round(share * people)
            half = 0.5 / np.sqrt(number)
            values = {"10": 0.12 + 0.02 * place, "50": 0.31 + 0.03 * place}
            cmc = {k: Estimate(v, max(0.0, v - half), v + half) for k, v in values.items()}
            rate = Estimate(0.88, 0.84, 0.92)
            groups.append(
                record.Group(by, name, number, Estimate(140, 120, 161), cmc, rate, None)  # type: ignore[arg-type]
            )
        small = "the group 30 to 35 has fewer than 20 people" if by == "age" else ""
        gap = None if small else Estimate(0.03, -0.02, 0.08)
        gaps.append(record.Gap(by, "cmc 50", *list(shares)[:2], gap, small))  # type: ignore[arg-type]
    return groups, gaps


def make_images(n: int, pull: float, with_weights: bool) -> list[record.Images]:
    ssim = 0.4 + 0.1 * pull
    missing = Measure(None, None, NO_INCEPTION)
    return [
        record.Images(
            views=views,
            n=n,
            ssim_settings="RGB, range 0 to 255, 11 x 11 Gaussian of sigma 1.5",
            ssim=Estimate(ssim, ssim - 0.01, ssim + 0.01),
            ssim_mean_face=Estimate(0.58, 0.57, 0.59),
            ssim_other_person=Estimate(0.47, 0.46, 0.48),
            fid=Measure(180 / pull, None, "") if with_weights else missing,
            fid_floor=Measure(12.3, None, "") if with_weights else missing,
            kid=Measure(0.09 / pull, 0.002, "") if with_weights else missing,
            inception_score=Measure(1.9, 0.1, "") if with_weights else missing,
            lpips=Measure(None, None, "not computed: no LPIPS weights were given"),
            embedder_distance=Measure(0.031 / pull, 0.004, ""),
        )
        for views in ("frontal", "lateral")
    ]


def make_evaluation(
    translator: str,
    embedder: str,
    by: str = "person",
    people: int = 1000,
    with_weights: bool = False,
) -> record.Evaluation:
    """Make the record of one run, the same each time."""
    rng = np.random.default_rng([*translator.encode(), *embedder.encode(), len(by)])
    pull = TRANSLATORS[translator] * EMBEDDERS[embedder] * (1.3 if by == "pair" else 1.0)
    rows, comparisons = make_retrievals(rng, people, pull)
    groups, gaps = make_groups(people)
    network = {"preset": "small", "steps": 12000, "seed": 1}
    evaluation = record.Evaluation(
        schema="fcr-evaluation/1",
        notice=record.NOTICES["S"],
        created="2026-11-22T05:00:00Z",
        fcr="0.4.0",
        level="S",
        split=record.SplitUsed(by, 0, 1),  # type: ignore[arg-type]
        people=record.People(750, people),
        dataset_sha256="d5" * 32,
        translator=record.Network(translator, checkpoint_sha256="ab" * 32, **network),  # type: ignore[arg-type]
        embedder=record.Network(embedder, checkpoint_sha256="cd" * 32, **network),  # type: ignore[arg-type]
        matcher=record.Network("two_tower", checkpoint_sha256="ef" * 32, **network),  # type: ignore[arg-type]
        bootstrap=record.Bootstrap(2000, 1),
        retrieval=tuple(rows),
        comparisons=tuple(comparisons),
        open_set=tuple(
            make_open_set(views, people, pull * share) for views, share in VIEWS.items()
        ),
        calibration=tuple(make_calibration(rng, views, people) for views in VIEWS),
        fusion=Fusion(Scale(0.1, 0.2), Scale(0.3, 0.1), people=40, simulated=True),
        groups=tuple(groups),
        gaps=tuple(gaps),
        images=tuple(make_images(people, TRANSLATORS[translator], with_weights)),
        claims=record.Claims((), None),
        seconds=412.3,
        machine={"system": "Linux", "processor": "x86_64", "threads": 2, "torch": "2.14.1"},
    )
    return replace(evaluation, claims=claims(evaluation))


def draw_face(seed: int, channels: int = 3) -> np.ndarray:
    """Draw an oval of its own colour and width."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    inside = (rows / 0.9) ** 2 + (columns / rng.uniform(0.5, 0.8)) ** 2 < 1
    colour = rng.integers(90, 220, 3)
    face = np.full((SIZE, SIZE, 3), 40, np.uint8)
    face[inside] = colour
    return face if channels == 3 else face[:, :, 0]


def make_case(person: str, view: str, seed: int) -> Case:
    return Case(
        person=person,
        view=view,
        skull=draw_face(seed, channels=1),
        faces={name: draw_face(seed + n) for n, name in enumerate(TRANSLATORS, start=1)},
        photograph=draw_face(seed + 9),
        rank=seed + 3,
        gallery=1000,
        ssim=0.61,
    )


def make_search(person: str, rank: int, seed: int = 0) -> CandidateList:
    names = [f"p{number:05d}" for number in range(1, 11)]
    if rank <= 10:
        names[rank - 1] = person
    mate = draw_face(seed + 99)
    return CandidateList(
        person=person,
        view="frontal",
        skull=draw_face(seed, channels=1),
        face=draw_face(seed + 1),
        photograph=mate,
        rank=rank,
        gallery=1000,
        candidates=tuple(
            Candidate(name, 0.9 - 0.03 * n, mate if name == person else draw_face(seed + n))
            for n, name in enumerate(names)
        ),
    )


def build_study(people: int = 1000, with_weights: bool = False, **changed: Any) -> Study:
    evaluations = [
        make_evaluation(translator, embedder, by, people, with_weights)
        for by in ("person", "pair")
        for translator in TRANSLATORS
        for embedder in EMBEDDERS
    ]
    views = ("frontal", "lateral")
    given: dict[str, Any] = {
        "evaluations": evaluations,
        "best": Best(
            translator="pix2pix",
            embedder="densenet121",
            checkpoints={
                "translator": "runs/pix2pix-small/checkpoint.safetensors",
                "embedder": "runs/densenet121-small/checkpoint.safetensors",
            },
            evaluation="evaluations/person-0-pix2pix-densenet121.json",
            why="highest share of mates among the first 50, both views, on training folds.",
        ),
        "command": "fcr-train compare --data people --preset small --out study",
        "created": "2026-11-22T06:00:00Z",
        "cases": [make_case(f"p{n:05d}", v, n) for n in range(1, 5) for v in views],
        "worst_by_rank": [make_case(f"p{n:05d}", "frontal", n) for n in (900, 901, 902)],
        "worst_by_ssim": [make_case(f"p{n:05d}", "lateral", n) for n in (903, 904, 905)],
        "searches": [
            make_search("p00900", 3),
            make_search("p00901", 1),
            make_search("p00902", 87),
        ],
    }
    return Study(**{**given, **changed})


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Study]:
    return build_study


@pytest.fixture(scope="session")
def study() -> Study:
    """Four translators with four embedders on 300 people; no weights of Inception or LPIPS."""
    return build_study(300)


@pytest.fixture(scope="session")
def tables(study: Study) -> dict[str, Table]:
    """The tables of the study by their names."""
    return {table.name: table for table in build_tables(study)}


@pytest.fixture(scope="session")
def find_row() -> Callable[..., list[Cell]]:
    """Return the cells of the one row of a table that begins with these words."""

    def find(table: Table, *heads: str) -> list[Cell]:
        begins = [[cell.text for cell in row.cells[: len(heads)]] for row in table.rows]
        rows = [row for row, texts in zip(table.rows, begins, strict=True) if texts == [*heads]]
        assert len(rows) == 1, f"{heads} stands {len(rows)} times in {table.name}"
        return list(rows[0].cells)

    return find


@pytest.fixture(scope="session")
def find_column() -> Callable[..., int]:
    """Return the place of a column by its name and the heading it shares."""

    def find(table: Table, name: str, group: str) -> int:
        return [(column.group, column.name) for column in table.columns].index((group, name))

    return find

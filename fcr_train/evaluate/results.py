"""What each table of a study holds, read from its records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fcr_train.evaluate.claims import CLAIM_RANK
from fcr_train.evaluate.record import CUTOFFS, EMBEDDER_KID, FPIRS, RANKS, Estimate
from fcr_train.evaluate.study import (
    DIRECT,
    VIEWS,
    compare,
    compare_probes,
    decide_rank,
    embedder_of,
    find_beside,
    find_direct,
    find_headline,
    miss_by_chance,
    translator_of,
    write_name,
)
from fcr_train.evaluate.tables import (
    Basis,
    Cell,
    Column,
    Row,
    Table,
    choose_digits,
    write_number,
    write_share,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fcr_train.evaluate.record import (
        Calibration,
        Evaluation,
        Gap,
        Group,
        Images,
        Measure,
        OpenSet,
        Retrieval,
    )
    from fcr_train.evaluate.study import Study
    from fcr_train.evaluate.tables import Kind

PAPER = "Prasad & Singh 2025, arXiv 2508.18031"
PAPER_IMAGES = {
    "cyclegan": ("313.46", "2.48 ± .14", ".33"),
    "pix2pix": ("148.84", "1.66 ± .28", ".66"),
    "cut": ("305.04", "2.67 ± .20", ".32"),
    "fastcut": ("63.65", "2.72 ± .22", ".66"),
}
"""FID, inception score and SSIM (Table 1 of the seed paper)."""
PAPER_RETRIEVAL = {
    "vgg16": (".03", ".06", ".62", ".56"),
    "resnet18": (".02", ".05", ".67", ".60"),
    "resnet101": (".04", ".08", ".77", ".75"),
    "densenet121": (".04", ".08", ".81", ".74"),
}
"""recall@10, recall@20, mAP@10 and mAP@20 (Table 2 of the seed paper)."""
PAPER_GROUP = "seed paper, not comparable"
PAPER_IMAGES_NOTE = (
    f"Seed paper ({PAPER}, Table 1): 51 volunteers whose films were cleaned by hand, at most 20 "
    "test pictures, split by pairs, so that most people tested were also trained on. FID of so "
    "few pictures measures how few they are; its floor was not stated. Not comparable with the "
    "figures measured here."
)
PAPER_RETRIEVAL_NOTE = (
    f"Seed paper ({PAPER}, Table 2): neither the size of the gallery, nor the number of probes, "
    "nor what counts as relevant is stated. Random order gives recall@k = k/N: .04 at 10 and .08 "
    "at 20 is exactly chance for N = 250. With at most k relevant pictures to a search mAP@k "
    "cannot exceed recall@k, so .81 beside .04 is impossible where relevant means this person; "
    "it fits about 200 relevant pictures to a search, the size of a view. Not comparable."
)
FBI_NOTE = (
    "The published mark for real people: in an automated search with 26 approximations (all "
    "African male participants, built on CT of the whole skull with sex, age and ancestry known) "
    "16, or 62 % (95 % interval 41 to 80 %), had the life photograph among the first 50 of 6,159; "
    "chance is 0.8 % (Parks & Monson 2023, Biology 12:682). Another input, other people and "
    "another gallery: not comparable with the figures here unless these were measured on real "
    "people in a gallery of that size."
)
BASELINES = {
    "chance": "chance",
    "mean face": "mean face, the same for everybody",
    "sex and age": "sex and age alone, random order within",
    "nearest training face": "nearest face of the training people",
    "film (linear)": "film itself, linear matcher",
    "film (two-tower)": "film itself, two-tower network",
    "fusion": "film and generated face, fused",
    "photograph": "another photograph of the person: the ceiling",
}
"""What stands beside the generated faces in every table of retrieval."""
GROUPINGS = {"sex": "sex", "age": "age", "bmi": "body mass index"}
MEASURES = {
    "cmc 10": "rank 10",
    "cmc 50": "rank 50",
    "median rank": "median rank",
    "fnir": "FNIR",
    "fpir": "FPIR",
}
DIRECT_NAMES = {"film (two-tower)": "two-tower network", "film (linear)": "linear matcher"}
IN_WORDS = {
    "above": "above it",
    "below": "below it",
    "not distinguishable": "not distinguishable from it",
    None: "not compared with it in the record",
}
NOT_EVALUATED = "not in this evaluation's record"


@dataclass(frozen=True)
class Bar:
    """One figure of the summary, beside what it is measured against."""

    name: str
    estimate: Estimate | None
    digits: int
    verdict: str
    """Where the generated face lies from it; empty for the generated face itself."""

    @property
    def cell(self) -> Cell:
        """The figure as tables write it."""
        return _estimate(self.estimate, self.digits)


def summarise(study: Study) -> list[str]:
    """Say in plain words what the best run reached, and where its claims end."""
    run, row = study.best_run, find_headline(study.best_run)
    if row is None:
        return ["Nothing was searched: there is no result to state."]
    share, first = row.cmc[str(study.rank)], "first" if study.rank == 1 else f"first {study.rank}"
    return [
        f"{_name_best(study)} put the right person among the {first} of {row.gallery:,} for "
        f"{_write_interval(share)} of {row.probes:,} people whom no network was trained on. "
        f"Chance would do so for {write_share(study.rank / row.gallery)}.",
        *_say_verdicts(run, row),
        _say_claims(run),
    ]


def _name_best(study: Study) -> str:
    return (
        f"Faces generated by {write_name(study.best.translator)} and compared by "
        f"{write_name(study.best.embedder)}"
    )


def _write_interval(share: Estimate) -> str:
    if share.low is None or share.high is None:
        return write_share(share.value)
    interval = f"{write_share(share.low)} to {write_share(share.high)}"
    return f"{write_share(share.value)} (95 % interval {interval})"


def _say_verdicts(run: Evaluation, row: Retrieval) -> list[str]:
    """Write one sentence about each baseline that decides what the product adds."""
    direct, rank = find_direct(run, row), str(decide_rank(row.gallery))
    beside = [("Sex and age alone", find_beside(run, row, "sex and age"))]
    beside.append((f"The film itself, by the {DIRECT_NAMES[direct.probe]}", direct)
                  if direct else ("The film itself", None))  # fmt: skip
    return [
        f"{name}: {_write_interval(other.cmc[rank])}; the generated face is "
        f"{IN_WORDS[compare_probes(run, row, other.probe)]}."
        if other
        else f"{name}: not evaluated."
        for name, other in beside
    ]


def _say_claims(run: Evaluation) -> str:
    passed = "; ".join(run.claims.passed) or "none"
    failed = run.claims.failed
    end = "None failed." if failed is None else f"The first that failed: {failed}."
    return f"Claims earned, judged at rank {CLAIM_RANK}: {passed}. {end}"


def measure_headline(study: Study) -> list[Bar]:
    """Return the share of the best run above what it is measured against."""
    run, row = study.best_run, find_headline(study.best_run)
    if row is None:
        return []
    digits, rank = choose_digits(row.probes), str(study.rank)
    bars = [Bar(f"generated face, {write_name(study.best.translator)} and "
                f"{write_name(study.best.embedder)}", row.cmc[rank], digits, "")]  # fmt: skip
    for probe in ("film (two-tower)", "film (linear)", "sex and age", "mean face", "chance"):
        other = find_beside(run, row, probe)
        estimate = other.cmc[rank] if other else None
        bars.append(Bar(BASELINES[probe], estimate, digits, compare_probes(run, row, probe) or ""))
    return bars


def build_tables(study: Study) -> list[Table]:
    """Make every table of a study, in the order of the report."""
    return [
        build_images(study),
        build_retrieval(study),
        build_cmc(study),
        build_grid(study),
        build_conditions(study),
        build_splits(study),
        build_open_set(study),
        build_calibration(study),
        build_groups(study),
        build_gaps(study),
        build_claims(study),
    ]


def build_images(study: Study) -> Table:
    """Image quality by translator and views, the seed paper's Table 1 beside it."""
    rows = [
        _image_row(run, images, study, is_first=place == 0)
        for run in _runs_by_translator(study)
        for place, images in enumerate(sorted(run.images, key=_by_views))
    ]
    images = [images for run in _runs_by_translator(study) for images in run.images]
    settings = dict.fromkeys(images.ssim_settings for images in images)
    return Table(
        name="table1-images",
        title="Table 1. Image quality by translator",
        says=(
            "How generated faces look beside the photographs of the same people. An SSIM says "
            "little by itself: a generator has to beat the mean face, which is the same for all."
        ),
        basis=Basis(
            **_describe_setting(study.best_run),
            gallery="none: pictures are compared with the photograph of their own person",
            chance="SSIM with the photograph of another person, drawn at random",
            baselines=(
                "SSIM of the mean training face; the FID floor is the FID of two halves of the "
                "photographs themselves, which no generator can be expected to beat"
            ),
        ),
        columns=(
            Column("translator", is_text=True),
            Column("views", is_text=True),
            Column("pictures"),
            Column("SSIM ↑", "measured here"),
            Column("SSIM, mean face", "measured here"),
            Column("SSIM, other person", "measured here"),
            Column("SSIM against mean face", "measured here", is_text=True),
            Column("FID ↓", "measured here"),
            Column("FID floor", "measured here"),
            Column("KID ↓", "measured here"),
            Column("IS ↑", "measured here"),
            Column("LPIPS ↓", "measured here"),
            Column(f"{EMBEDDER_KID} ↓", "measured here"),
            *(Column(name, PAPER_GROUP) for name in ("FID", "IS", "SSIM")),
        ),
        rows=tuple(rows),
        notes=(*(f"SSIM: {text}." for text in settings if text), PAPER_IMAGES_NOTE),
    )


def _runs_by_translator(study: Study) -> list[Evaluation]:
    """Return one run of each translator, with the best embedder where there is one."""
    found: dict[str, Evaluation] = {}
    for run in study.on_split("person"):
        if translator_of(run) not in found or embedder_of(run) == study.best.embedder:
            found[translator_of(run)] = run
    return list(found.values())


def _runs_by_embedder(study: Study) -> list[Evaluation]:
    """Return the runs of the best translator, one of each embedder."""
    runs = study.on_split("person")
    return [run for run in runs if translator_of(run) == study.best.translator]


def _image_row(run: Evaluation, images: Images, study: Study, is_first: bool) -> Row:
    digits = choose_digits(images.n)
    paper = PAPER_IMAGES.get(translator_of(run)) if is_first else ("", "", "")
    cells = (
        Cell(write_name(translator_of(run))),
        Cell(images.views),
        Cell(images.n),
        *(_estimate(value, digits) for value in (images.ssim, images.ssim_mean_face)),
        _estimate(images.ssim_other_person, digits),
        Cell(compare(images.ssim, images.ssim_mean_face)),
        _measure(images.fid, 1),
        _measure(images.fid_floor, 1),
        _measure(images.kid, 4),
        _measure(images.inception_score, 2),
        _measure(images.lpips, 3),
        _measure(images.embedder_distance, 4),
        *_paper_cells(paper, 3),
    )
    return Row(cells, "best" if translator_of(run) == study.best.translator else "run")


def _paper_cells(figures: tuple[str, ...] | None, number: int) -> tuple[Cell, ...]:
    if figures is None:
        return (Cell(reason="not in the seed paper"),) * number
    return tuple(Cell(figure) for figure in figures)


def _measure(measure: Measure, digits: int) -> Cell:
    return Cell(measure.value, digits=digits, spread=measure.spread, reason=measure.reason)


def _estimate(estimate: Estimate | None, digits: int, reason: str = "") -> Cell:
    if estimate is None:
        return Cell(reason=reason or NOT_EVALUATED)
    return Cell(estimate.value, estimate.low, estimate.high, digits, reason=reason)


def _by_views(row: Images | Retrieval | OpenSet | Calibration) -> int:
    return VIEWS.index(row.views)


def _describe_setting(run: Evaluation) -> dict[str, str]:
    folds = "all folds together" if run.split.fold is None else f"fold {run.split.fold}"
    return {
        "level": f"level {run.level}. {run.notice}",
        "split": f"by {run.split.by}, {folds}, seed {run.split.seed}",
        "people": f"{run.people.train:,} trained on, {run.people.test:,} tested",
    }


def _describe_basis(run: Evaluation, baselines: str = "") -> Basis:
    """Describe what the run's headline figures rest on; baselines may stand in rows instead."""
    row = find_headline(run)
    return Basis(
        **_describe_setting(run),
        gallery="nothing was searched" if row is None else describe_gallery(row),
        chance="nothing was searched" if row is None else _describe_chance(run, row),
        baselines=baselines or _describe_baselines(run, row),
    )


def describe_gallery(row: Retrieval) -> str:
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


def build_retrieval(study: Study) -> Table:
    """Recall and mean average precision by embedder, the seed paper's Table 2 beside them."""
    columns = [
        *(Column(f"recall@{k} ↑", "measured here") for k in CUTOFFS),
        *(Column(f"mAP@{k} ↑", "measured here") for k in CUTOFFS),
    ]
    return Table(
        name="table2a-retrieval",
        title="Table 2a. Retrieval by embedder: recall and mean average precision",
        says=(
            f"Faces generated by {write_name(study.best.translator)} searched for in the gallery, "
            "by embedder, above what else could have been searched with."
        ),
        basis=_describe_basis(study.best_run, _row_baselines(study)),
        columns=(
            Column("searched with", is_text=True),
            *columns,
            *(Column(f"recall@{k}", PAPER_GROUP) for k in CUTOFFS),
            *(Column(f"mAP@{k}", PAPER_GROUP) for k in CUTOFFS),
        ),
        rows=tuple(_retrieval_rows(study)),
        notes=(
            "recall@k: share of the pictures of the person searched for among the first k "
            "pictures. mAP@k: average precision over min(m, k), m pictures of that person.",
            PAPER_RETRIEVAL_NOTE,
        ),
    )


def _row_baselines(study: Study) -> str:
    return (
        "the rows below the generated faces, measured with "
        f"{write_name(study.best.embedder)} where an embedder is needed"
    )


def _retrieval_rows(study: Study) -> Iterator[Row]:
    for name, kind, run, row in _searches(study):
        paper = PAPER_RETRIEVAL.get(run.embedder.model) if kind != "baseline" else ("",) * 4
        measured = [*_pick(row, "recall", CUTOFFS), *_pick(row, "mean_average_precision", CUTOFFS)]
        yield Row((Cell(name), *measured, *_paper_cells(paper, 4)), kind)


def _searches(study: Study) -> Iterator[tuple[str, Kind, Evaluation, Retrieval | None]]:
    """Walk over the best translator's embedders, then over the baselines of the best run."""
    headline = find_headline(study.best_run)
    for run in _runs_by_embedder(study):
        name = f"generated face, {write_name(embedder_of(run))}"
        kind: Kind = "best" if run is study.best_run else "run"
        yield name, kind, run, headline and find_beside(run, headline, "generated")
    for probe, name in BASELINES.items():
        row = headline and find_beside(study.best_run, headline, probe)
        yield name, "baseline", study.best_run, row


def _pick(row: Retrieval | None, measure: str, places: Iterable[int]) -> list[Cell]:
    """Return a cell for each k of one measure of a retrieval."""
    if row is None:
        return [Cell(reason=NOT_EVALUATED) for _ in places]
    estimates: Mapping[str, Estimate] = getattr(row, measure)
    return [_estimate(estimates.get(str(k)), choose_digits(row.probes)) for k in places]


def build_cmc(study: Study) -> Table:
    """The share of people whose mate is among the first k, by embedder, with its baselines."""
    return Table(
        name="table2b-cmc",
        title="Table 2b. Retrieval by embedder: mate among the first k",
        says=(
            "Share of people whose own photograph is among the first k candidates (CMC). A face "
            "that does not beat sex and age alone adds nothing to the search; one that does not "
            "reach the film itself loses what the film had."
        ),
        basis=_describe_basis(study.best_run, _row_baselines(study)),
        columns=(
            Column("searched with", is_text=True),
            *(Column(f"rank {k} ↑" if k > 1 else "rank 1 ↑", "CMC") for k in RANKS),
            Column("MRR ↑"),
            Column("median rank ↓"),
            Column("sex and age", f"at rank {study.rank} against", is_text=True),
            Column("direct matcher", f"at rank {study.rank} against", is_text=True),
        ),
        rows=tuple(_cmc_rows(study)),
        notes=(
            "Against: by the 95 % interval of the paired difference on the same people. The "
            f"direct matcher is the better one of the two at rank {study.rank}.",
            "MRR: mean reciprocal rank of the mate.",
            FBI_NOTE,
        ),
    )


def _cmc_rows(study: Study) -> Iterator[Row]:
    for name, kind, run, row in _searches(study):
        if row is None:
            order = [Cell(reason=NOT_EVALUATED)] * 2
        else:
            order = [_estimate(row.mean_reciprocal_rank, 3), _estimate(row.median_rank, 0)]
        verdicts = [Cell(""), Cell("")] if kind == "baseline" else _verdicts(run, row)
        yield Row((Cell(name), *_pick(row, "cmc", RANKS), *order, *verdicts), kind)


def _verdicts(run: Evaluation, row: Retrieval | None) -> list[Cell]:
    """Say where the row lies from the sex-and-age filter and from the direct matcher."""
    if row is None:
        return [Cell(reason=NOT_EVALUATED)] * 2
    direct = find_direct(run, row)
    words = [compare_probes(run, row, "sex and age")]
    words.append(compare_probes(run, row, direct.probe) if direct else None)
    return [Cell(word, reason="" if word else "not compared in the record") for word in words]


def build_grid(study: Study) -> Table:
    """The share found by every translator with every embedder."""
    runs = study.on_split("person")
    translators = list(dict.fromkeys(translator_of(run) for run in runs))
    embedders = list(dict.fromkeys(embedder_of(run) for run in runs))
    headline = find_headline(study.best_run)
    rows = [
        Row(
            (
                Cell(write_name(translator)),
                *(
                    _grid_cell(study, translator, name, "generated", headline)
                    for name in embedders
                ),
            ),
            "best" if translator == study.best.translator else "run",
        )
        for translator in translators
    ]
    rows += [
        Row(
            (
                Cell(name),
                *(
                    _grid_cell(study, study.best.translator, embedder, probe, headline)
                    for embedder in embedders
                ),
            ),
            "baseline",
        )
        for probe, name in BASELINES.items()
    ]
    return Table(
        name="table3-grid",
        title=f"Table 3. Every translator with every embedder: rank {study.rank} or before",
        says="Where the intervals of two runs meet, they are not distinguishable.",
        basis=_describe_basis(
            study.best_run, f"the rows below, from the runs of {write_name(study.best.translator)}"
        ),
        columns=(
            Column("translator", is_text=True),
            *(Column(write_name(name), f"rank {study.rank} ↑ with") for name in embedders),
        ),
        rows=tuple(rows),
        notes=(f"Best run: {study.best.why}",),
    )


def _grid_cell(
    study: Study, translator: str, embedder: str, probe: str, headline: Retrieval | None
) -> Cell:
    run = study.find("person", translator, embedder)
    row = find_beside(run, headline, probe) if run and headline else None
    return _pick(row, "cmc", [study.rank])[0]


def build_conditions(study: Study) -> Table:
    """The best run by views, jitter and gallery, each with its own chance and baselines."""
    run = study.best_run
    rows = sorted(
        (row for row in run.retrieval if row.probe == "generated"),
        key=lambda row: (_by_views(row), not row.jitter, -row.gallery),
    )
    return Table(
        name="table4-conditions",
        title="Table 4. The best run by views, jitter and gallery",
        says=(
            "Jitter moves films and photographs by a few per cent in scale and position, so that "
            "absolute size cannot stand in for shape. Claims are made with jitter on."
        ),
        basis=_describe_basis(run, "columns of their own, under the same conditions"),
        columns=(
            Column("views", is_text=True),
            Column("jitter", is_text=True),
            Column("gallery"),
            Column("searched for"),
            *(Column(f"rank {k} ↑", "generated face") for k in (1, 10, 50)),
            *(Column(name, "at rank 50") for name in ("chance", "mean face", "sex and age")),
            *(Column(name, "at rank 50") for name in DIRECT),
            Column("against sex and age", f"at rank {study.rank}", is_text=True),
            Column("against direct matcher", f"at rank {study.rank}", is_text=True),
        ),
        rows=tuple(_condition_row(run, row, row is find_headline(run)) for row in rows),
    )


def _condition_row(run: Evaluation, row: Retrieval, is_headline: bool) -> Row:
    beside = ("chance", "mean face", "sex and age", *DIRECT)
    cells = (
        Cell(row.views),
        Cell("on" if row.jitter else "off"),
        Cell(row.gallery),
        Cell(row.probes),
        *_pick(row, "cmc", (1, 10, 50)),
        *(_pick(find_beside(run, row, probe), "cmc", [50])[0] for probe in beside),
        *_verdicts(run, row),
    )
    return Row(cells, "stated" if is_headline else "run")


def build_splits(study: Study) -> Table:
    """Both splits side by side, and what the split by pairs adds."""
    pairs = [
        (run, study.find("pair", translator_of(run), embedder_of(run)))
        for run in study.on_split("person")
    ]
    return Table(
        name="table5-splits",
        title="Table 5. Split by person beside split by pair",
        says=(
            "A split by pairs tests on people whose other view was trained on. The gap is what "
            "that adds; it is no merit. Every claim rests on the split by person alone."
        ),
        basis=_describe_basis(study.best_run, "columns of their own, for each split"),
        columns=(
            Column("translator", is_text=True),
            Column("embedder", is_text=True),
            *(
                Column(name, group)
                for group in ("split by person", "split by pair")
                for name in ("gallery", "chance, 50", "sex and age, 50", "rank 10 ↑", "rank 50 ↑")
            ),
            Column("rank 10", "gap, pair less person"),
            Column("rank 50", "gap, pair less person"),
            Column("pair is, at 50", "gap, pair less person", is_text=True),
        ),
        rows=tuple(_split_row(run, other, run is study.best_run) for run, other in pairs),
        notes=(
            "The gap is not shown where galleries differ in size, as chance does then. The two "
            "splits have other people and other training: their intervals are compared unpaired.",
        ),
    )


def _split_row(run: Evaluation, other: Evaluation | None, is_best: bool) -> Row:
    row = find_headline(run)
    paired = _match_headline(other, row)
    cells = (
        Cell(write_name(translator_of(run))),
        Cell(write_name(embedder_of(run))),
        *_split_cells(run, row),
        *_split_cells(other, paired),
        *_split_gap(row, paired),
    )
    return Row(cells, "best" if is_best else "run")


def _match_headline(other: Evaluation | None, row: Retrieval | None) -> Retrieval | None:
    """Return the other run's figures under the same conditions, else its own headline."""
    if other is None or row is None:
        return None
    return find_beside(other, row, "generated") or find_headline(other)


def _split_cells(run: Evaluation | None, row: Retrieval | None) -> list[Cell]:
    if run is None or row is None:
        return [Cell(reason="this split was not evaluated")] * 5
    beside = [
        _pick(find_beside(run, row, name), "cmc", [50])[0] for name in ("chance", "sex and age")
    ]
    return [Cell(row.gallery), *beside, *_pick(row, "cmc", (10, 50))]


def _split_gap(row: Retrieval | None, paired: Retrieval | None) -> list[Cell]:
    if row is None or paired is None:
        return [Cell(reason="only one split was evaluated")] * 3
    if (row.gallery, row.views, row.jitter) != (paired.gallery, paired.views, paired.jitter):
        return [Cell(reason="the splits were searched under different conditions")] * 3
    digits = choose_digits(min(row.probes, paired.probes))
    gaps = [Cell(paired.cmc[k].value - row.cmc[k].value, digits=digits) for k in ("10", "50")]
    return [*gaps, Cell(compare(paired.cmc["50"], row.cmc["50"]))]


def build_open_set(study: Study) -> Table:
    """Searches with and without the mate enrolled, at thresholds for all."""
    run = study.best_run
    return Table(
        name="table6-open-set",
        title="Table 6. Open set: the mate may not be enrolled",
        says=(
            "Share of mates that are missed (FNIR) at a threshold where a given share of the "
            "searches without a mate still returns somebody (FPIR). “No candidate above "
            "the threshold” is a valid answer."
        ),
        basis=_open_set_basis(run),
        columns=(
            Column("views", is_text=True),
            Column("gallery"),
            Column("searches with mate"),
            Column("searches without"),
            *(Column(f"FPIR {fpir:g}", "FNIR ↓ at") for fpir in FPIRS),
        ),
        rows=tuple(_open_set_row(row, run) for row in sorted(run.open_set, key=_by_views)),
        notes=(
            "To claim an FPIR of 0.1, 0.03 or 0.003 with 95 % confidence takes at least 29, 99 "
            "or 998 searches without a mate.",
        ),
    )


def _open_set_basis(run: Evaluation) -> Basis:
    basis = _describe_basis(run)
    sizes = sorted({row.gallery for row in run.open_set})
    chance = ", ".join(
        f"{write_number(miss_by_chance(FPIRS[0], size), 5)} for N = {size:,}" for size in sizes
    )
    return Basis(
        level=basis.level,
        split=basis.split,
        people=basis.people,
        gallery=" and ".join(f"{size:,} people" for size in sizes) or "nothing was searched",
        chance=f"FNIR of a score at random, at FPIR {FPIRS[0]:g}: {chance or 'nothing'}",
        baselines=f"closed set, {basis.baselines}",
    )


def _open_set_row(row: OpenSet, run: Evaluation) -> Row:
    digits = choose_digits(row.probes)
    cells = (
        Cell(row.views),
        Cell(row.gallery),
        Cell(row.probes),
        Cell(row.searches_without_mate),
        *(_fnir(row, fpir, digits) for fpir in FPIRS),
    )
    headline = find_headline(run)
    return Row(cells, "stated" if headline and headline.views == row.views else "run")


def _fnir(row: OpenSet, fpir: float, digits: int) -> Cell:
    for found in row.fnir:
        if found.fpir == fpir:
            return _estimate(found.value, digits, found.reason)
    return Cell(reason=NOT_EVALUATED)


def build_calibration(study: Study) -> Table:
    """How well similarities become likelihood ratios, and how far these may go."""
    run = study.best_run
    basis = _describe_basis(run)
    return Table(
        name="table7-calibration",
        title="Table 7. Calibration to likelihood ratios",
        says=(
            "What a similarity is worth as evidence about one named pair, on folds by person. "
            "Cllr 0 is perfect, 1 says nothing, above 1 misleads. A top candidate is no named "
            "pair: it is the best of many."
        ),
        basis=Basis(
            level=basis.level,
            split=basis.split,
            people=basis.people,
            gallery="none: pairs of one probe and one photograph",
            chance="Cllr 1, a likelihood ratio of 1 for everybody",
            baselines=f"closed set, {basis.baselines}",
        ),
        columns=(
            Column("views", is_text=True),
            Column("people"),
            Column("Cllr ↓"),
            Column("Cllr min ↓"),
            Column("lost to calibration ↓"),
            Column("LR at most"),
            Column("same person, LR below 1", "misleading"),
            Column("other person, LR above 1", "misleading"),
        ),
        rows=tuple(_calibration_row(row, run) for row in sorted(run.calibration, key=_by_views)),
        notes=(
            "LR at most: the cap. Pictures of one person are not independent, so no ratio may "
            "exceed the number of people that it was fitted on.",
        ),
    )


def _calibration_row(row: Calibration, run: Evaluation) -> Row:
    digits = choose_digits(row.people)
    cells = (
        Cell(row.views),
        Cell(row.people),
        _estimate(row.cllr, 3),
        Cell(row.cllr_min, digits=3),
        Cell(row.cllr.value - row.cllr_min, digits=3),
        Cell(10**row.cap_log10),
        Cell(row.misleading.same, digits=digits),
        Cell(row.misleading.different, digits=digits),
    )
    headline = find_headline(run)
    return Row(cells, "stated" if headline and headline.views == row.views else "run")


def build_groups(study: Study) -> Table:
    """The best run by sex, age and body mass index, at one threshold for all."""
    run = study.best_run
    return Table(
        name="table8a-groups",
        title="Table 8a. The best run by group",
        says="FNIR and FPIR are at one threshold for everybody, so that groups can be compared.",
        basis=_describe_basis(run),
        columns=(
            Column("by", is_text=True),
            Column("group", is_text=True),
            Column("people"),
            Column("rank 10 ↑"),
            Column("rank 50 ↑"),
            Column("median rank ↓"),
            Column("FNIR ↓"),
            Column("FPIR ↓"),
        ),
        rows=tuple(_group_row(group) for group in run.groups),
    )


def _group_row(group: Group) -> Row:
    digits = choose_digits(group.people)
    cells = (
        Cell(GROUPINGS[group.by]),
        Cell(group.group),
        Cell(group.people),
        *(_estimate(group.cmc.get(k), digits) for k in ("10", "50")),
        _estimate(group.median_rank, 0),
        _estimate(group.fnir, digits),
        _estimate(group.fpir, digits),
    )
    return Row(cells)


def build_gaps(study: Study) -> Table:
    """Worst group less best group in each measure."""
    return Table(
        name="table8b-gaps",
        title="Table 8b. Worst group less best group",
        says="An interval that holds 0 shows neither a difference between groups nor its absence.",
        basis=_describe_basis(study.best_run),
        columns=(
            Column("by", is_text=True),
            Column("measure", is_text=True),
            Column("worst", is_text=True),
            Column("best", is_text=True),
            Column("gap"),
            Column("groups differ", is_text=True),
        ),
        rows=tuple(_gap_row(gap) for gap in study.best_run.gaps),
    )


def _gap_row(gap: Gap) -> Row:
    verdict = ""
    if gap.gap:
        differs = compare(gap.gap, Estimate(0.0)) != "not distinguishable"
        verdict = "yes" if differs else "not distinguishable"
    cells = (
        Cell(GROUPINGS[gap.by]),
        Cell(MEASURES[gap.measure]),
        Cell(gap.worst),
        Cell(gap.best),
        _estimate(gap.gap, 0 if gap.measure == "median rank" else 3, gap.reason),
        Cell(verdict),
    )
    return Row(cells)


def build_claims(study: Study) -> Table:
    """Which claims each run has earned, and the first that it has not."""
    runs = study.on_split("person")
    return Table(
        name="table9-claims",
        title="Table 9. What may be claimed",
        says=(
            "Claims are earned in order, each with the interval clear of the one below: better "
            "than chance, than the mean face, than sex and age alone; not worse than the direct "
            f"matcher. They are judged at rank {CLAIM_RANK}, with jitter on. After the first that "
            "fails nothing more is claimed."
        ),
        basis=_describe_basis(study.best_run),
        columns=(
            Column("translator", is_text=True),
            Column("embedder", is_text=True),
            Column("earned", is_text=True),
            Column("first that failed", is_text=True),
        ),
        rows=tuple(
            Row(
                (
                    Cell(write_name(translator_of(run))),
                    Cell(write_name(embedder_of(run))),
                    Cell("; ".join(run.claims.passed) or "none"),
                    Cell(run.claims.failed or "none"),
                ),
                "best" if run is study.best_run else "run",
            )
            for run in runs
        ),
    )

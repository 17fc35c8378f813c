"""The figures of a study as SVG: equal studies give equal bytes."""

from __future__ import annotations

import io
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.optimize import isotonic_regression

from fcr_train.evaluate.record import FPIRS, RANKS
from fcr_train.evaluate.study import (
    VIEWS,
    Illustration,
    embedder_of,
    find_beside,
    find_headline,
    find_supported_fpir,
    miss_by_chance,
    translator_of,
    write_name,
)
from fcr_train.evaluate.tables import write_share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

    from fcr_train.evaluate.record import (
        Calibration,
        Estimate,
        Evaluation,
        Group,
        OpenSet,
        Retrieval,
    )
    from fcr_train.evaluate.study import Study

INK, QUIET, GRID = "#1c2024", "#5c636a", "#d6dade"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#a5568b"
ORANGE, SKY = "#c88a00", "#3d9bd0"
"""Colours that people with colour-blind eyes tell apart (Okabe & Ito), darkened for print."""
STYLES = {
    "photograph": ("another photograph (ceiling)", QUIET, "-."),
    "fusion": ("film and face, fused", PURPLE, "-"),
    "film (two-tower)": ("film itself, two-tower", BLUE, "-"),
    "film (linear)": ("film itself, linear", SKY, "-"),
    "generated": ("generated face", VERMILLION, "-"),
    "nearest training face": ("nearest training face", ORANGE, "--"),
    "sex and age": ("sex and age alone", INK, "--"),
    "mean face": ("mean face", GREEN, "--"),
    "chance": ("chance", INK, ":"),
}
"""Label, colour and line of each probe, no two alike in both colour and line."""
SERIES = (
    (VERMILLION, "-"),
    (BLUE, "--"),
    (GREEN, "-."),
    (PURPLE, (0, (5, 1, 1, 1, 1, 1))),
    (ORANGE, (0, (8, 2))),
    (SKY, (0, (3, 2, 1, 2))),
)
"""Colour and line of the runs that one figure compares; a seventh would begin anew."""
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "fcr",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
    "font.size": 9.5,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.6,
}
WIDTH = 8.2
"""Width of a figure [inches], the width of the text on the page and on A4."""
SMALL_GROUP = 20
"""People below which a group is too small to be compared (evaluation protocol, section 8)."""


def build_figures(study: Study) -> list[Illustration]:
    """Draw every figure for which the study's records hold something."""
    figures = [
        draw_probes(study),
        draw_runs(study),
        draw_det(study.best_run),
        draw_tippett(study.best_run),
        draw_groups(study.best_run),
    ]
    return [figure for figure in figures if figure is not None]


def draw_probes(study: Study) -> Illustration | None:
    """Draw the CMC of the best run and of everything that it is measured against."""
    run, headline = study.best_run, find_headline(study.best_run)
    if headline is None:
        return None
    rows = {probe: find_beside(run, headline, probe) for probe in STYLES}
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        axes = figure.add_subplot()
        ends = []
        for probe, row in rows.items():
            label, colour, line = STYLES[probe]
            if row is None or probe == "chance":
                continue
            _draw_cmc(axes, row, colour, line, width=2.6 if probe == "generated" else 1.5)
            ends.append((row.cmc["50"].value, label, colour))
        ends.append((_draw_chance(axes, headline.gallery), *STYLES["chance"][:2]))
        _set_cmc_axes(axes)
        _label_ends(axes, ends)
        data = _save(figure)
    shown = [f"{STYLES[p][0]} {row.cmc['50'].value:.3f}" for p, row in rows.items() if row]
    return Illustration(
        name="figure-cmc-probes",
        format="svg",
        data=data,
        title="What finds the mate",
        caption=(
            "Share of people whose own photograph is among the first k candidates, for the best "
            "run and all that it is measured against. Bands: 95 % intervals by person."
        ),
        alt=f"Curves of the share of mates among the first 1 to 50. At 50: {', '.join(shown)}.",
    )


def _draw_cmc(
    axes: Axes, row: Retrieval, colour: str, line: object, width: float = 1.6, label: str = ""
) -> None:
    """Draw the shares at the ranks that were measured, their intervals as a band."""
    estimates = [row.cmc[str(k)] for k in RANKS]
    values = [estimate.value for estimate in estimates]
    axes.plot(RANKS, values, color=colour, linestyle=line, linewidth=width, label=label,
              marker="o", markersize=3)  # fmt: skip
    if all(estimate.low is not None for estimate in estimates):
        lows, highs = zip(*(_bounds(estimate) for estimate in estimates), strict=True)
        axes.fill_between(RANKS, lows, highs, color=colour, alpha=0.13, linewidth=0)


def _bounds(estimate: Estimate) -> tuple[float, float]:
    low = estimate.value if estimate.low is None else estimate.low
    return low, estimate.value if estimate.high is None else estimate.high


def _draw_chance(axes: Axes, gallery: int, label: str = "") -> float:
    """Draw k/N and return it at rank 50."""
    ranks = np.arange(RANKS[0], RANKS[-1] + 1)
    shares = np.minimum(1.0, ranks / gallery)
    _, colour, line = STYLES["chance"]
    axes.plot(ranks, shares, color=colour, linestyle=line, linewidth=1.4, label=label)
    return float(shares[-1])


def _set_cmc_axes(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(RANKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_xlabel("first k candidates")
    axes.set_ylabel("mate among them")
    axes.set_xlim(1, RANKS[-1])
    axes.set_ylim(bottom=0)


def _label_ends(axes: Axes, ends: Iterable[tuple[float, str, str]]) -> None:
    """Name curves at their right ends, moved apart where they would overlap."""
    ordered = sorted(ends)
    steps = 0.05 * axes.get_ylim()[1] * np.arange(len(ordered))
    # Least squares under a least distance: labels stay as near to their curves as they can.
    places = isotonic_regression([end[0] for end in ordered] - steps).x + steps
    for (value, label, colour), place in zip(ordered, places, strict=True):
        axes.annotate(
            label,
            (RANKS[-1], value),
            (1.02, place),
            textcoords=("axes fraction", "data"),
            color=colour,
            va="center",
            annotation_clip=False,
        )


def draw_runs(study: Study) -> Illustration | None:
    """Draw the CMC of every translator, and of every embedder, beside filter and chance."""
    headline = find_headline(study.best_run)
    if headline is None:
        return None
    runs = study.on_split("person")
    by_translator = {
        write_name(translator_of(run)): run
        for run in runs
        if embedder_of(run) == study.best.embedder
    }
    by_embedder = {
        write_name(embedder_of(run)): run
        for run in runs
        if translator_of(run) == study.best.translator
    }
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        left.set_title(f"translators, with {write_name(study.best.embedder)}")
        right.set_title(f"embedders, with {write_name(study.best.translator)}")
        for axes, shown in ((left, by_translator), (right, by_embedder)):
            _draw_panel(axes, shown, headline)
        right.set_ylabel("")
        data = _save(figure)
    return Illustration(
        name="figure-cmc-runs",
        format="svg",
        data=data,
        title="Which translator, which embedder",
        caption=(
            "Share of people whose own photograph is among the first k candidates. Where bands "
            "meet, two runs are not distinguishable."
        ),
        alt=(
            f"Two panels of curves: the translators {', '.join(by_translator)}, and the embedders "
            f"{', '.join(by_embedder)}; in both, sex and age alone, and chance. The figures stand "
            "in Tables 2b and 3."
        ),
    )


def _draw_panel(axes: Axes, runs: dict[str, Evaluation], headline: Retrieval) -> None:
    for (name, run), (colour, line) in zip(runs.items(), cycle(SERIES), strict=False):
        row = find_beside(run, headline, "generated")
        if row:
            _draw_cmc(axes, row, colour, line, label=name)
    first = next(iter(runs.values()))
    label, colour, line = STYLES["sex and age"]
    if row := find_beside(first, headline, "sex and age"):
        _draw_cmc(axes, row, colour, line, label=label)
    _draw_chance(axes, headline.gallery, label="chance")
    _set_cmc_axes(axes)
    axes.legend(loc="upper left", frameon=False)


def draw_det(run: Evaluation) -> Illustration | None:
    """Draw missed mates against false candidates, and mark what the searches can support."""
    rows = sorted(run.open_set, key=lambda row: VIEWS.index(row.views))
    if not rows:
        return None
    searches, gallery = rows[0].searches_without_mate, rows[0].gallery
    limit = find_supported_fpir(searches)
    start = min(0.001, limit / 2)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for row, (colour, line) in zip(rows, cycle(SERIES), strict=False):
            _draw_det_row(axes, row, colour, line)
        fpirs = np.geomspace(start, 0.999, 200)
        axes.plot(fpirs, [miss_by_chance(fpir, gallery) for fpir in fpirs], color=INK,
                  linestyle=":", linewidth=1.4, label="chance")  # fmt: skip
        axes.axvspan(start, limit, color=GRID, alpha=0.55, linewidth=0,
                     label=f"not measurable with {searches:,} searches")  # fmt: skip
        axes.axvline(limit, color=QUIET, linewidth=1)
        axes.set(xscale="log", yscale="log", xlim=(start, 1))
        bottom = min(0.5, 0.8 * min((y for row in rows for _, y in row.det if y > 0), default=0.5))
        axes.set_ylim(bottom, 1.06)
        _set_log_ticks(axes, start, bottom)
        axes.set_xlabel("searches without a mate that return somebody (FPIR)")
        axes.set_ylabel("mates missed (FNIR)")
        axes.legend(loc="lower left", framealpha=0.92, edgecolor="none")
        data = _save(figure)
    return Illustration(
        name="figure-det",
        format="svg",
        data=data,
        title="Open set: missed mates against false candidates (DET)",
        caption=(
            f"Gallery of {gallery:,} people, both axes logarithmic. Points: the rates of Table 6, "
            f"with 95 % intervals. Grey: rates below {limit:.2g}, which {searches:,} searches "
            "without a mate cannot support."
        ),
        alt=(
            "Curves of the share of mates missed, falling as more searches without a mate return "
            f"somebody, for {', '.join(row.views for row in rows)} views, and for chance. The "
            "figures stand in Table 6."
        ),
    )


def _draw_det_row(axes: Axes, row: OpenSet, colour: str, line: object) -> None:
    points = np.array([point for point in row.det if min(point) > 0]).reshape(-1, 2)
    name = "both views" if row.views == "both" else row.views
    axes.step(points[:, 0], points[:, 1], where="post", color=colour, linestyle=line, label=name)
    for found in row.fnir:
        if found.value:
            low, high = _bounds(found.value)
            axes.plot([found.fpir] * 2, [low, high], color=colour, linewidth=1.1)
            axes.plot(found.fpir, found.value.value, "o", color=colour, markersize=4.5)


def _set_log_ticks(axes: Axes, start: float, bottom: float) -> None:
    across = [tick for tick in (0.001, *FPIRS, 0.01, 0.3, 1) if tick >= start]
    wide = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
    narrow = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
    up = [tick for tick in (narrow if bottom > 0.25 else wide) if tick >= bottom]
    for axis, ticks in ((axes.xaxis, across), (axes.yaxis, up)):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def draw_tippett(run: Evaluation) -> Illustration | None:
    """Draw how often each likelihood ratio is reached, by the same and by different people."""
    row = min(run.calibration, key=lambda row: VIEWS.index(row.views), default=None)
    if row is None:
        return None
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        axes = figure.add_subplot()
        _draw_tippett_row(axes, row)
        data = _save(figure)
    views = "both views" if row.views == "both" else f"{row.views} view"
    return Illustration(
        name="figure-tippett",
        format="svg",
        data=data,
        title="What a similarity is worth as evidence (Tippett plot)",
        caption=(
            f"Share of comparisons that reach a likelihood ratio (LR), {views}, {row.people:,} "
            f"people. The cap, LR {10**row.cap_log10:,.0f}, is the number of people: nothing "
            "beyond it is claimed."
        ),
        alt=(
            f"Two falling curves between the caps at log10 LR {-row.cap_log10:.2f} and "
            f"{row.cap_log10:.2f}. LR is below 1 for {write_share(row.misleading.same)} of the "
            f"same people, above 1 for {write_share(row.misleading.different)} of different ones."
        ),
    )


def _draw_tippett_row(axes: Axes, row: Calibration) -> None:
    cap = row.cap_log10
    for points, label, (colour, line) in (
        (row.tippett.same, "same person", SERIES[1]),
        (row.tippett.different, "different people", SERIES[0]),
    ):
        ratios, shares = np.array(points).reshape(-1, 2).T
        axes.step(ratios, shares, where="post", color=colour, linestyle=line, label=label)
    for side in (-cap, cap):
        axes.axvline(side, color=QUIET, linewidth=1)
        axes.axvspan(side, 1.25 * side, color=GRID, alpha=0.55, linewidth=0)
    axes.text(1.23 * cap, 0.5, "beyond the cap", rotation=90, ha="right", va="center", color=QUIET)
    axes.axvline(0, color=QUIET, linewidth=1, linestyle="--")
    axes.set(xlim=(-1.25 * cap, 1.25 * cap), ylim=(0, 1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_xlabel("log10 of the likelihood ratio at least")
    axes.set_ylabel("share of comparisons")
    axes.legend(loc="lower left", bbox_to_anchor=(0.11, 0.02), frameon=False)


def draw_groups(run: Evaluation) -> Illustration | None:
    """Draw rank 50 by group with its intervals, groups too small to be compared hatched."""
    groups = [group for group in run.groups if "50" in group.cmc]
    headline = find_headline(run)
    if not groups or headline is None:
        return None
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.36 * len(groups)), layout="constrained")
        axes = figure.add_subplot()
        _draw_bars(axes, groups)
        everybody, chance = headline.cmc["50"].value, min(1.0, 50 / headline.gallery)
        axes.axvline(everybody, color=INK, linewidth=1.2, label="everybody")
        axes.axvline(chance, color=INK, linewidth=1.4, linestyle=":", label="chance")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.set_xlabel("mate among the first 50")
        figure.legend(loc="outside lower right", ncols=3, frameon=False)
        data = _save(figure)
    shares = [f"{_name_group(group)} {group.cmc['50'].value:.3f}" for group in groups]
    return Illustration(
        name="figure-groups",
        format="svg",
        data=data,
        title="The best run by group",
        caption=(
            "Share of people whose own photograph is among the first 50 candidates, with 95 % "
            f"intervals. Hatched: fewer than {SMALL_GROUP} people, not to be compared."
        ),
        alt=f"Bars of rank 50 by group: {'; '.join(shares)}.",
    )


def _draw_bars(axes: Axes, groups: Sequence[Group]) -> None:
    for place, group in enumerate(groups):
        estimate, is_small = group.cmc["50"], group.people < SMALL_GROUP
        low, high = _bounds(estimate)
        axes.barh(place, estimate.value, 0.66, color="white" if is_small else SKY,
                  edgecolor=BLUE, hatch="////" if is_small else None)  # fmt: skip
        axes.plot([low, high], [place, place], color=INK, linewidth=1.3, solid_capstyle="butt")
    axes.set_yticks(range(len(groups)), [_name_group(group) for group in groups])
    axes.tick_params("y", length=0)
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()


def _name_group(group: Group) -> str:
    by = {"age": "age ", "bmi": "BMI "}.get(group.by, "")
    return f"{by}{group.group} (n = {group.people:,})"


def _save(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()

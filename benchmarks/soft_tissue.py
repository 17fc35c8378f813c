"""How well soft tissue is taken off: on simulated people against the truth, on real films.

    python benchmarks/soft_tissue.py simulated DATA --suppressor CHECKPOINT [--json out.json]
    python benchmarks/soft_tissue.py real CEPHALOGRAMS --suppressor CHECKPOINT [--sheet FOLDER]

DATA holds people whom the network has not seen, with kinds xray, skull and bone; CEPHALOGRAMS
lateral films, face to the right, with points.csv (the 19 landmarks of the ISBI 2015 challenge) at
0.1 mm a pixel. Simulated people measure the method; nothing is said of other units' films.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import track
from scipy import stats
from skimage.feature import match_template
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

from export.build import SUPPRESSOR_FILE, choose_films, export_suppressor
from fcr_edge import film, imaging, reading, soft_tissue
from fcr_edge.errors import DataError
from fcr_edge.latency import describe_machine
from fcr_edge.sessions import open_session
from fcr_edge.soft_tissue import Separation, Suppressor
from fcr_train.checkpoint import digest
from fcr_train.dataset import Dataset, read_dataset
from fcr_train.evaluate.intervals import estimate_mean
from fcr_train.suppressor import load_suppressor

RECIPES = ("learned-1", "classical-2", "classical-1", "none")
FIGURES = ("psnr", "ms_ssim", "mae")
COMPARED = 7
"""Every so-manieth pixel is taken for the rank correlation of confidence and error."""

SPACING_MM = 0.1
"""Of the real films, as their metadata state it; sella-nasion suggests 10 % more."""
SOFT_POINTS = (12, 13, 14, 15)
"""Upper lip, lower lip, subnasale, soft pogonion."""
SUBNASALE, SOFT_POGONION = 14, 15
BONY_POINTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18)
# Chosen on the untouched films alone, so that the line passes the labelled points.
RISE = 3
"""Grey levels by which the skin is brighter than the darkest background outside of it."""
SMOOTHING = 0.6
"""Blur before the search [pixels of the standard film, sd]."""
EDGE = 3
"""Columns left out at the film's edge."""
SAME_MM = 3.0
"""A line found after at most so far from where it was before is the skin's."""
FOUND_SHARE = 0.25
"""Share of the rows with the skin's line from which on a film still shows its soft profile."""
PATCH, REACH = 15, 4
"""Side of a patch, and how far it is sought in each direction [pixels of the standard film]."""

app = typer.Typer(no_args_is_help=True, add_completion=False)
Checkpoint = Annotated[Path, typer.Option("--suppressor", help="Checkpoint of the network.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File for the figures.")]


@app.command()
def simulated(
    data: Annotated[Path, typer.Argument(help="Dataset of unseen simulated people.")],
    suppressor: Checkpoint,
    people: Annotated[int | None, typer.Option(help="The first so many people.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Compare bone and skull pictures with the truth, by person, in pairs."""
    dataset = read_dataset(data)
    refuse_seen(dataset, suppressor)
    names = dataset.names[:people]
    made: dict[str, dict[str, list[float]]] = {}
    ranks, confidences, milliseconds = [], [], []
    with ready(suppressor, choose_films(data)) as network:
        for name in track(names, "people"):
            rows = []
            for truth, separations, ms in take_apart(dataset, name, network):
                rows.append(compare(truth, separations))
                ranks.append(rank_doubt(truth, separations["learned-1"]))
                confidences.append(separations["learned-1"].mean_confidence)
                milliseconds.append(ms)
            for key in rows[0]:
                for figure in FIGURES:
                    mean = statistics.fmean(row[key][figure] for row in rows)
                    made.setdefault(key, {}).setdefault(figure, []).append(mean)
    result = {
        "people": len(names),
        "dataset": dataset.sha256,
        "figures": {key: summarise(values) for key, values in made.items()},
        "differences": {
            key: summarise(subtract(made[key.split(" ")[0] + " learned-1"], made[key]))
            for key in made
            if not key.endswith("learned-1")
        },
        "doubt_rank": asdict(estimate_mean(np.array(ranks))),
        "mean_confidence": statistics.fmean(confidences),
        "network_ms": {"min": min(milliseconds), "median": statistics.median(milliseconds)},
    }
    finish(result, suppressor, json_file)


@app.command()
def real(
    folder: Annotated[Path, typer.Argument(help="Folder of lateral films with points.csv.")],
    suppressor: Checkpoint,
    sheet: Annotated[
        Path | None, typer.Option(help="Folder for the contact sheet, outside the project.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Look for the soft profile and for displaced bone on real films."""
    films = [*read_labelled(folder)]
    rows, tiles = [], []
    with ready(suppressor, choose_films(folder)) as network:
        for labelled in track(films, "films"):
            separations = {
                recipe: soft_tissue.separate(labelled.film, recipe, network) for recipe in RECIPES
            }
            rows.append(examine(labelled, separations))
            tiles.append(draw_film(labelled, separations["learned-1"]))
    pictures = [key for key in rows[0] if key not in ("film", "point_mm", "mean_confidence")]
    result = {
        "films": len(rows),
        "untouched": {
            "median_point_mm": statistics.median(mm for row in rows for mm in row["point_mm"]),
            "worst_median_of_a_film_mm": max(statistics.median(row["point_mm"]) for row in rows),
            "worst_point_mm": max(mm for row in rows for mm in row["point_mm"]),
        },
        "after": {key: summarise_after([row[key] for row in rows]) for key in pictures},
        "rows": rows,
    }
    if sheet is not None:
        sheet.mkdir(parents=True, exist_ok=True)
        for number in range(0, len(tiles), 6):
            page = np.concatenate(tiles[number : number + 6], axis=1)
            imaging.write_png(sheet / f"films_{number // 6 + 1}.png", page)
    finish(result, suppressor, json_file)


@contextlib.contextmanager
def ready(checkpoint: Path, films: list[Path]) -> Iterator[Suppressor]:
    """Run a checkpoint's network as the field does: exported, in ONNX Runtime on the CPU."""
    entry, exported = export_suppressor(checkpoint, films)
    with open_session(exported[SUPPRESSOR_FILE], "cpu") as session:
        yield Suppressor(session, entry)


def refuse_seen(dataset: Dataset, suppressor: Path) -> None:
    """Refuse the very people that the network was trained on."""
    _, checkpoint = load_suppressor(suppressor)
    if checkpoint.data["sha256"] == dataset.sha256:
        raise SystemExit("the network was trained on this dataset: simulate with another seed")


def take_apart(
    dataset: Dataset, name: str, network: Suppressor
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Separation], float]]:
    """Yield the truth of each film of a person, what each recipe makes of it, and the time."""
    shown = {(row.view, row.kind): row.path for row in dataset.pictures if row.person == name}
    for view, kind in shown:
        if kind != "xray":
            continue
        standard = film.standardise(imaging.read_picture(shown[view, kind]))
        truth = {
            kind: imaging.read_picture(shown[view, kind]).astype(np.float32) / 255
            for kind in ("bone", "skull")
        }
        start = time.perf_counter()
        learned = network.separate(standard)
        ms = 1000 * (time.perf_counter() - start)
        others = {recipe: soft_tissue.separate(standard, recipe) for recipe in RECIPES[1:]}
        yield truth, {"learned-1": learned, **others}, ms


def compare(
    truth: dict[str, np.ndarray], separations: dict[str, Separation]
) -> dict[str, dict[str, float]]:
    """Compare what each recipe makes with bone and skull; where it has no bone, its skull.

    "fitted" are pictures whose grey levels are first brought nearest to the truth by one factor
    and offset a film: only so can a recipe that does not aim at proportion be judged by its lines.
    """
    figures = {}
    for recipe, made in separations.items():
        bone = made.skull if made.bone is None else made.bone
        levels = {"bone": to_levels(bone), "skull": to_levels(made.skull)}
        for kind, picture in levels.items():
            figures[f"{kind} {recipe}"] = measure(picture, truth[kind])
        slope, offset = np.polyfit(levels["bone"].ravel(), truth["bone"].ravel(), 1)
        fitted = (slope * levels["bone"] + offset).clip(0, 1)
        figures[f"bone_fitted {recipe}"] = measure(fitted, truth["bone"])
    return figures


def measure(picture: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Give PSNR [dB], MS-SSIM and mean absolute error [share of the range]."""
    pair = [torch.from_numpy(one.astype(np.float32))[None, None] for one in (picture, truth)]
    difference = picture - truth
    return {
        "psnr": float(-10 * np.log10(max(np.mean(difference**2), 1e-10))),
        "ms_ssim": float(ms_ssim(*pair, data_range=1.0)),
        "mae": float(np.abs(difference).mean()),
    }


def rank_doubt(truth: dict[str, np.ndarray], made: Separation) -> float:
    """Correlate the ranks of doubt and error over the pixels of a film (Spearman)."""
    assert made.bone is not None
    assert made.confidence is not None
    pictures = {"bone": made.bone, "skull": made.skull}
    error = sum(np.abs(to_levels(pictures[kind]) - truth[kind]) for kind in truth)
    doubt = 255 - made.confidence[:, :, 0].astype(int)
    return float(stats.spearmanr(doubt.ravel()[::COMPARED], error.ravel()[::COMPARED]).statistic)


def to_levels(picture: np.ndarray) -> np.ndarray:
    """Map 0..255 to 0..1 and drop the single channel."""
    return picture[:, :, 0].astype(np.float32) / 255


def summarise(values: dict[str, list[float]]) -> dict[str, Any]:
    """Give the mean of each figure over people, with its 95 % bootstrap interval."""
    return {figure: asdict(estimate_mean(np.array(row))) for figure, row in values.items()}


def subtract(first: dict[str, list[float]], second: dict[str, list[float]]) -> dict[str, Any]:
    """Subtract person by person."""
    return {
        figure: [one - other for one, other in zip(first[figure], second[figure], strict=True)]
        for figure in FIGURES
    }


@dataclass(frozen=True)
class Labelled:
    """A real film in its standard picture, with its landmarks."""

    name: str
    film: np.ndarray
    points: np.ndarray
    """Column and row of each landmark [pixels of the standard film]."""
    right: int
    """Last column of the film itself, before what was filled up to a square."""
    pixel_mm: float


def read_labelled(folder: Path) -> Iterator[Labelled]:
    """Read the films that points.csv names. Raises DataError where there is none."""
    try:
        with (folder / "points.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as err:
        raise DataError(f"cannot read {folder}/points.csv ({err.strerror})") from err
    for row in rows:
        path = folder / row["document"]
        height, width = imaging.read_picture(path).shape[:2]
        side, size = max(height, width), film.STANDARD_SIZE
        left = (side - width) // 2
        named = ast.literal_eval(row["points"])
        points = np.array([[named[key]["x"] + left, named[key]["y"]] for key in sorted(named)])
        yield Labelled(
            path.name,
            film.standardise_xray(reading.read_film(path)),
            (points + 0.5) * size / side - 0.5,
            (left + width) * size // side - 1,
            SPACING_MM * side / size,
        )


def find_profile(picture: np.ndarray, labelled: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """Find the skin in each row from subnasale to soft pogonion: rows, and columns or NaN.

    From the film's edge inwards, that is the first place that is RISE brighter than the darkest
    pixel passed: background only darkens towards the face, skin is the first thing to brighten.
    The line is where half of the rise is reached.
    """
    first, last = labelled.points[[SUBNASALE, SOFT_POGONION], 1]
    rows = np.arange(int(np.ceil(first)), int(last) + 1)
    levels = imaging.blur(picture[:, :, 0].astype(np.float32), SMOOTHING)
    start = labelled.right - EDGE
    return rows, np.array([start - find_rise(levels[row, start::-1]) for row in rows])


def find_rise(levels: np.ndarray) -> float:
    """Find the first rise above the darkest level passed; NaN for none."""
    darkest = np.minimum.accumulate(levels)
    risen = np.flatnonzero(levels - darkest >= RISE)
    if len(risen) == 0:
        return np.nan
    place = int(risen[0])
    half = darkest[place] + RISE / 2
    while levels[place - 1] >= half:
        place -= 1
    return float(place)


def examine(labelled: Labelled, separations: dict[str, Separation]) -> dict[str, Any]:
    """Find the skin's line before and after, and how far bone moved."""
    rows, before = find_profile(labelled.film, labelled)
    distances = [
        float(np.nanmin(np.hypot(before - column, rows - row)) * labelled.pixel_mm)
        for column, row in labelled.points[list(SOFT_POINTS)]
    ]
    learned = separations["learned-1"]
    assert learned.bone is not None
    pictures = {recipe: made.skull for recipe, made in separations.items()}
    pictures["learned-1 bone"] = learned.bone
    result: dict[str, Any] = {"film": labelled.name, "point_mm": distances}
    for key, picture in pictures.items():
        after = find_profile(picture, labelled)[1]
        same = np.abs(after - before) * labelled.pixel_mm <= SAME_MM
        moved = [
            mm
            for place in BONY_POINTS
            if (mm := find_displacement(labelled, picture, place)) is not None
        ]
        result[key] = {"profile_share": float(same.mean()), "moved_mm": moved}
    return {**result, "mean_confidence": learned.mean_confidence}


def find_displacement(labelled: Labelled, picture: np.ndarray, place: int) -> float | None:
    """Find how far the patch around a landmark lies from where it was [mm]; None at the edge.

    The place of the highest normalised cross-correlation, refined by a parabola in each direction.
    """
    column, row = np.rint(labelled.points[place]).astype(int)
    half, size = PATCH // 2, len(picture)
    if min(row, column) < half + REACH or max(row, column) >= size - half - REACH:
        return None
    patch = window_around(labelled.film, row, column, half)
    sought = window_around(picture, row, column, half + REACH)
    if patch.std() < 1 or sought.std() < 1:
        return None
    likeness = match_template(sought, patch)
    best = np.unravel_index(np.argmax(likeness), likeness.shape)
    offset = [best[axis] - REACH + refine(likeness, best, axis) for axis in (0, 1)]
    return float(np.hypot(*offset) * labelled.pixel_mm)


def window_around(picture: np.ndarray, row: int, column: int, half: int) -> np.ndarray:
    """Cut a square out of a picture."""
    rows, columns = slice(row - half, row + half + 1), slice(column - half, column + half + 1)
    return picture[rows, columns, 0].astype(np.float64)


def refine(likeness: np.ndarray, best: tuple[Any, ...], axis: int) -> float:
    """Give the vertex of the parabola through the best value and its neighbours, -0.5 to 0.5."""
    line = likeness[:, best[1]] if axis == 0 else likeness[best[0]]
    place = int(best[axis])
    if not 0 < place < len(line) - 1:
        return 0.0
    below, middle, above = line[place - 1 : place + 2]
    bend = below - 2 * middle + above
    return 0.0 if bend == 0 else float(np.clip((below - above) / (2 * bend), -0.5, 0.5))


def summarise_after(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Count the films that still show the profile, and give the displacement of bone."""
    moved = np.array([mm for row in rows for mm in row["moved_mm"]])
    return {
        "films_with_profile": sum(row["profile_share"] >= FOUND_SHARE for row in rows),
        "mean_profile_share": statistics.fmean(row["profile_share"] for row in rows),
        "patches": len(moved),
        "median_moved_mm": float(np.median(moved)),
        "p90_moved_mm": float(np.percentile(moved, 90)),
        "share_moved_over_1_mm": float((moved > 1).mean()),
    }


def draw_film(labelled: Labelled, made: Separation) -> np.ndarray:
    """Stack film, skull, bone and confidence under the film's name."""
    assert made.bone is not None
    assert made.confidence is not None
    column = np.concatenate([labelled.film, made.skull, made.bone, made.confidence])
    picture = imaging.to_rgb(column).copy()
    text = f"{labelled.name} {made.mean_confidence:.2f}"
    imaging.draw_text(picture, text, (14, 4), (255, 255, 0))
    return picture


def finish(result: dict[str, Any], suppressor: Path, json_file: Path | None) -> None:
    """Print the figures, with what was measured on what, and write them."""
    document = {
        "schema": "fcr-soft-tissue-benchmark/1",
        "checkpoint_sha256": digest(suppressor),
        "steps": load_suppressor(suppressor)[1].step,
        "machine": describe_machine(),
        **result,
    }
    shown = {key: value for key, value in document.items() if key != "rows"}
    print(json.dumps(shown, indent=1))
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()

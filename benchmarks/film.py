"""How well films are understood: lie, pose, strangers, time, and what alignment gives a search.

    python benchmarks/film.py --film film.safetensors --data data/films-test \
        [--real FOLDER] [--ct FOLDER] [--faces FOLDER] [--sheet FOLDER] [--json out.json]

The simulated people must be others than those the network was trained on.
"""

from __future__ import annotations

import ast
import csv
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track

from export.build import export_film
from fcr_edge import imaging, latency, pose, reading
from fcr_edge.errors import FilmError
from fcr_edge.film import MIN_SIDE
from fcr_edge.film_record import FilmRecord
from fcr_edge.reading import Xray
from fcr_edge.sessions import open_session
from fcr_edge.understanding import Understanding, draw_understanding, understand
from fcr_train.dataset import read_dataset
from fcr_train.film_strangers import STRANGERS

SEED = 5
LIES = tuple(product(range(4), (False, True), (False, True)))
"""Quarter turns anticlockwise, mirrored, inverted."""
MOVES = 4
"""Moved copies of each film."""
MOST_DEGREES, MOST_SCALE, MOST_SHIFT = 15, 0.2, 0.15
JITTERS = 2
Z = 1.959964
"""Quantile of the normal distribution, for intervals of 95 %."""
CEPHALOGRAM_MM = 0.1
"""Spacing of the real lateral films, as their description states it."""
POINTS = {"nasion": 1, "pogonion": 6, "menton": 7, "gnathion": 8, "gonion": 9}
"""Landmark -> its number in points.csv, where both mean the same place of the bone."""

Ask = Callable[[np.ndarray], Understanding]


@dataclass(frozen=True)
class Shown:
    """A film whose answers are known."""

    name: str
    pixels: np.ndarray
    view: str


def to_xray(name: str, pixels: np.ndarray) -> Xray:
    """Take pixels for a film without spacing."""
    height, width = pixels.shape
    record = FilmRecord(container="PNG", width=width, height=height, bits=8)
    return Xray(name, "0" * 64, np.ascontiguousarray(pixels), record)


def wilson(right: int, number: int) -> dict[str, Any]:
    """Return a share with its interval (Wilson 1927)."""
    share, spread = right / number, Z**2 / number
    middle = (share + spread / 2) / (1 + spread)
    half = Z * np.sqrt(share * (1 - share) / number + spread / (4 * number)) / (1 + spread)
    return {
        "right": right,
        "of": number,
        "share": share,
        "interval95": [middle - half, middle + half],
    }


def lay(pixels: np.ndarray, turns: int, mirrored: bool, inverted: bool) -> np.ndarray:
    """Mirror, invert, turn."""
    film = pixels[:, ::-1] if mirrored else pixels
    return np.rot90(np.iinfo(film.dtype).max - film if inverted else film, turns)


def check_lies(films: list[Shown], ask: Ask) -> dict[str, Any]:
    """Ask for every film in every lie; count what is right, and name what is not."""
    right: dict[str, list[bool]] = {}
    wrong, verdicts = [], {"pass": 0, "warn": 0, "refuse": 0}
    for film in track(films, "how films lie", console=Console(stderr=True)):
        for turns, mirrored, inverted in LIES:
            if film.view == "frontal" and mirrored:
                continue  # cannot be told
            found = ask(lay(film.pixels, turns, mirrored, inverted))
            verdicts[found.verdict] += 1
            told = {
                "view": found.view == film.view,
                "turn": found.quarter_turns == turns,
                "facing": found.mirrored == mirrored,
                "polarity": found.inverted == inverted,
            }
            told["all"] = all(told.values())
            for what, good in told.items():
                right.setdefault(what, []).append(good)
            lie = f"{90 * turns}{' mirrored' * mirrored}{' inverted' * inverted}"
            right.setdefault(f"all, {lie}", []).append(told["all"])
            if not told["all"]:
                wrong.append(f"{film.name} {lie}: {found.verdict}")
    shares = {what: wilson(sum(good), len(good)) for what, good in right.items()}
    return {"films": len(films), "shares": shares, "verdicts": verdicts, "wrong": wrong}


def move_picture(pixels: np.ndarray, move: pose.Similarity) -> np.ndarray:
    """Move a square film about its middle; what comes in is black."""
    side = len(pixels)
    middle = pose.shift(side / 2, side / 2)
    matrix = middle @ move.matrix @ np.linalg.inv(middle)
    moved = imaging.resample(pixels, np.linalg.inv(matrix), (side, side))
    return np.rint(moved).astype(pixels.dtype)


def draw_move(rng: np.random.Generator, side: int) -> pose.Similarity:
    """Draw a move within the limits."""
    across, down = rng.uniform(-MOST_SHIFT, MOST_SHIFT, 2) * side
    return pose.Similarity(
        1 + rng.uniform(-MOST_SCALE, MOST_SCALE),
        rng.uniform(-MOST_DEGREES, MOST_DEGREES),
        (float(across), float(down)),
    )


def check_pose(films: list[Shown], ask: Ask) -> dict[str, Any]:
    """Move films and compare the pose found with that of the film as it was."""
    rng = np.random.default_rng(SEED)
    degrees, scales, shifts = [], [], []
    for film in track(films, "pose", console=Console(stderr=True)):
        square = imaging.pad_to_square(film.pixels, "black")
        still = _to_standard(ask(square))
        for _ in range(MOVES):
            move = draw_move(rng, len(square))
            found = _to_standard(ask(move_picture(square, move)))
            middle = pose.shift(len(square) / 2, len(square) / 2)
            again = found @ middle @ move.matrix @ np.linalg.inv(middle)
            rest = again @ np.linalg.inv(still)
            degrees.append(abs(np.rad2deg(np.arctan2(rest[1, 0], rest[0, 0]))))
            scales.append(100 * abs(np.sqrt(np.linalg.det(rest[:2, :2])) - 1))
            shifts.append(
                100 * np.hypot(*(pose.apply(rest, np.full((1, 2), 128.0))[0] - 128)) / 256
            )
    rows = {"degrees": degrees, "scale_percent": scales, "shift_percent": shifts}
    return {
        "moved": len(degrees),
        **{name: _summarise(np.array(values)) for name, values in rows.items()},
    }


def _to_standard(found: Understanding) -> np.ndarray:
    """Return the matrix from the film to its standard film."""
    return np.vstack([found.to_standard, (0.0, 0.0, 1.0)])


def _summarise(values: np.ndarray) -> dict[str, float]:
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))}


def check_points(films: list[Shown], folder: Path, ask: Ask) -> dict[str, Any]:
    """Compare landmarks of real lateral films with the points that people set [mm]."""
    with (folder / "points.csv").open(newline="") as file:
        points = {row["document"]: ast.literal_eval(row["points"]) for row in csv.DictReader(file)}
    off: dict[str, list[float]] = {name: [] for name in POINTS}
    for film in films:
        found = ask(film.pixels).landmarks
        for name, number in POINTS.items():
            true = points[film.name][number]
            # Of a pair, the middle: that is what a lateral film lets people mark.
            at = [(one.film_column, one.film_row) for one in found if one.name.startswith(name)]
            distance = np.hypot(*(np.mean(at, axis=0) - (true["x"], true["y"])))
            off[name].append(float(distance) * CEPHALOGRAM_MM)
    every = np.concatenate(list(map(np.array, off.values())))
    return {"all_mm": _summarise(every)} | {
        name: _summarise(np.array(values)) for name, values in off.items()
    }


def list_strangers(faces: Path | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what is no film of a skull: drawn, photographed, or shipped with scikit-image."""
    rng = np.random.default_rng(SEED)
    for draw in dict.fromkeys(STRANGERS):
        for number in range(5):
            levels = draw(256, rng)
            unit = (levels - levels.min()) / max(float(np.ptp(levels)), 1e-6)
            yield f"{draw.__name__} {number}", np.rint(255 * unit).astype(np.uint8)
    shipped = Path(find_spec("skimage").origin).parent / "data"
    for path in sorted([*shipped.glob("*.png"), *shipped.glob("*.jpg")]):
        pixels = imaging.to_grey(imaging.read_picture(path))
        if min(pixels.shape) >= MIN_SIDE:
            yield f"skimage {path.name}", pixels
    for path in sorted(faces.glob("s*/1.pgm")) if faces else ():
        yield f"face {path.parent.name}", imaging.to_grey(imaging.read_picture(path))


def check_strangers(faces: Path | None, ask: Ask) -> dict[str, Any]:
    """Ask for pictures that show no skull, as they are and inverted; name what passes."""
    verdicts, passed = {"pass": 0, "warn": 0, "refuse": 0}, []
    rows = {}
    for name, pixels in list_strangers(faces):
        for inverted in (False, True):
            told = f"{name}{' inverted' * inverted}"
            try:
                found = ask(255 - pixels if inverted else pixels)
                verdict, skull = found.verdict, found.probabilities["skull"]
            except FilmError:
                verdict, skull = "refuse", 0.0  # nothing but one grey level
            verdicts[verdict] += 1
            rows[told] = {"verdict": verdict, "skull": skull}
            if verdict == "pass":
                passed.append(told)
    return {"pictures": len(rows), "verdicts": verdicts, "passed": passed, "rows": rows}


def check_good(films: list[Shown], ask: Ask) -> dict[str, Any]:
    """Count the verdicts on good films, and the reasons."""
    verdicts: dict[str, int] = {"pass": 0, "warn": 0, "refuse": 0}
    rows = {}
    for film in films:
        found = ask(film.pixels)
        verdicts[found.verdict] += 1
        if found.reasons:
            rows[film.name] = {"verdict": found.verdict, "reasons": found.reasons}
    return {"verdicts": verdicts, "rows": rows}


def check_search(data: Path, translator: Path, embedder: Path, ask: Ask) -> dict[str, Any]:
    """Search with skulls out of pose, as they are and put right by their film; rank the mates."""
    from fcr_train.batches import to_batch, to_pixels
    from fcr_train.embedders import load_embedder
    from fcr_train.tasks.embedding import rank_mates
    from fcr_train.translators import load_generator

    rng = np.random.default_rng(SEED)
    generator, drawn = load_generator(translator)
    network, embedded = load_embedder(embedder)
    dataset = read_dataset(data)
    size, side = int(drawn.config["size"]), int(embedded.config["size"])

    def embed(pictures: list[np.ndarray]) -> torch.Tensor:
        sized = np.stack([imaging.resize(imaging.to_rgb(face), (side, side)) for face in pictures])
        with torch.inference_mode():
            return torch.cat(
                [network(to_batch(sized[i : i + 16], 0, 1)) for i in range(0, len(sized), 16)]
            )

    def translate(skulls: list[np.ndarray]) -> list[np.ndarray]:
        sized = np.stack([imaging.resize(skull, (size, size)) for skull in skulls])[..., None]
        with torch.inference_mode():
            faces = [
                generator(to_batch(sized[i : i + 16], -1, 1)) for i in range(0, len(sized), 16)
            ]
        return [*to_pixels(torch.cat(faces), -1, 1)]

    rows = {
        (row.pair, row.kind): row.path for row in dataset.pictures if row.kind in ("xray", "skull")
    }
    result = {}
    for view in ("frontal", "lateral"):
        portraits = [row for row in dataset.gallery() if row.view == view]
        gallery = embed([imaging.read_picture(row.path) for row in portraits])
        enrolled = [row.person for row in portraits]
        probes: dict[str, list[np.ndarray]] = {
            "as taken": [],
            "jittered": [],
            "aligned": [],
            "taken, aligned": [],
        }
        names = []
        for (pair, kind), path in track(
            rows.items(), f"{view} search", console=Console(stderr=True)
        ):
            if kind != "xray" or pair[1] != view:
                continue
            film = imaging.to_grey(imaging.read_picture(path))
            skull = imaging.to_grey(imaging.read_picture(rows[pair, "skull"]))
            for _ in range(JITTERS):
                move = draw_move(rng, len(film))
                moved = move_picture(skull, move)
                found = ask(move_picture(film, move))
                still = ask(film)
                names.append(pair[0])
                probes["as taken"].append(skull)
                probes["jittered"].append(moved)
                probes["aligned"].append(_align(moved, found))
                probes["taken, aligned"].append(_align(skull, still))
        ranks = {
            way: rank_mates(embed(translate(skulls)), names, gallery, enrolled)
            for way, skulls in probes.items()
        }
        result[view] = {
            "probes": len(names),
            "enrolled": len(set(enrolled)),
            "chance_10": min(1.0, 10 / len(set(enrolled))),
            **{
                way: {
                    "rank_1": float((found <= 1).mean()),
                    "rank_10": float((found <= 10).mean()),
                    "median": float(np.median(found)),
                }
                for way, found in ranks.items()
            },
            **{f"gain_{k}": _gain(ranks["jittered"], ranks["aligned"], k, rng) for k in (1, 10)},
        }
    return result


def _gain(
    before: np.ndarray, after: np.ndarray, k: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return by how much the share in the first k grows, paired, with a bootstrap interval."""
    gain = (after <= k).astype(float) - (before <= k)
    draws = gain[rng.integers(0, len(gain), (2000, len(gain)))].mean(axis=1)
    return {"value": float(gain.mean()), "interval95": np.percentile(draws, [2.5, 97.5]).tolist()}


def _align(skull: np.ndarray, found: Understanding) -> np.ndarray:
    """Undo the pose that was found on the film on its skull."""
    to_skull = np.linalg.inv(_to_standard(found))
    to_skull = to_skull @ pose.zoom(256 / len(skull), 256 / len(skull))
    return np.rint(imaging.resample(skull, to_skull, skull.shape)).astype(np.uint8)


def read_simulated(data: Path, most: int) -> list[Shown]:
    """Read the films of the first people."""
    rows = [row for row in read_dataset(data).pictures if row.kind == "xray"]
    return [
        Shown(
            f"{row.person} {row.view}", imaging.to_grey(imaging.read_picture(row.path)), row.view
        )
        for row in rows[: 2 * most]
    ]


def read_real(folder: Path) -> list[Shown]:
    """Read the real lateral films."""
    return [
        Shown(path.name, reading.read_film(path).pixels, "lateral")
        for path in sorted(folder.glob("*.jpg"))
    ]


def read_scanned(folder: Path) -> list[Shown]:
    """Read the films of a CT."""
    return [
        Shown(path.name, imaging.to_grey(imaging.read_picture(path)), path.name.split("_")[0])
        for path in sorted(folder.glob("*_xray.png"))
    ]


def write_sheet(films: list[Shown], ask: Ask, folder: Path) -> None:
    """Draw each film as it was understood, beside its standard film."""
    folder.mkdir(parents=True, exist_ok=True)
    for film in films:
        found = ask(film.pixels)
        drawn = draw_understanding(film.pixels, found)
        standard = np.zeros((len(drawn), 256, 3), np.uint8)
        standard[:256] = imaging.to_rgb(found.film)
        imaging.write_png(folder / f"{Path(film.name).stem}.png", np.hstack([drawn, standard]))


def time_it(films: list[Shown], ask: Ask) -> dict[str, float]:
    """Time one film after another, warmed up [ms]."""
    times = []
    for film in [*films[:3], *films]:
        start = time.perf_counter()
        ask(film.pixels)
        times.append(1000 * (time.perf_counter() - start))
    return _summarise(np.array(times[3:]))


def main(
    film: Annotated[Path, typer.Option(help="Checkpoint of fcr-train film.")],
    data: Annotated[Path, typer.Option(help="Simulated people it was not trained on.")],
    real: Annotated[Path | None, typer.Option(help="Real lateral films with points.csv.")] = None,
    ct: Annotated[Path | None, typer.Option(help="Folder of the films of a CT.")] = None,
    faces: Annotated[Path | None, typer.Option(help="Photographs, s1/1.pgm and on.")] = None,
    translator: Annotated[Path | None, typer.Option(help="Checkpoint, for the search.")] = None,
    embedder: Annotated[Path | None, typer.Option(help="Checkpoint, likewise.")] = None,
    study: Annotated[
        Path | None, typer.Option(help="Dataset with the kinds xray, skull and face.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Folder for drawings of every film.")] = None,
    people: Annotated[int, typer.Option(help="Simulated people, at most.")] = 100,
    out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Measure."""
    torch.set_num_threads(2)
    simulated = read_simulated(data, people)
    films = [row.path for row in read_dataset(data).pictures if row.kind == "xray"][:4]
    entry, exported = export_film(film, films)
    (model,) = exported.values()
    with open_session(model, "cpu") as session:

        def ask(pixels: np.ndarray) -> Understanding:
            return understand(to_xray("film", pixels), session, entry, force=True)

        record: dict[str, Any] = {
            "schema": "fcr-film/1",
            "notice": "simulated people: this measures the method",
            "checkpoint": entry.checkpoint_sha256,
            "steps": entry.steps,
            "limits": dict(entry.limits),
            "machine": latency.describe_machine(),
            "model_bytes": len(model),
            "lies": {"simulated": check_lies(simulated, ask)},
            "pose": {"simulated": check_pose(simulated, ask)},
            "good": {"simulated": check_good(simulated, ask)},
            "time_ms": {"simulated, 256 pixels": time_it(simulated, ask)},
        }
        if real is not None:
            taken = read_real(real)
            record["lies"]["real"] = check_lies(taken, ask)
            record["good"]["real"] = check_good(taken, ask)
            record["landmarks"] = check_points(taken, real, ask)
            record["time_ms"]["real, 1935 x 2400 pixels"] = time_it(taken, ask)
        if ct is not None:
            scanned = read_scanned(ct)
            record["lies"]["ct"] = check_lies(scanned, ask)
            record["good"]["ct"] = check_good(scanned, ask)
        record["strangers"] = check_strangers(faces, ask)
        if sheet is not None:
            drawn = [*(read_real(real) if real else []), *(read_scanned(ct) if ct else [])]
            write_sheet([*drawn, *simulated[:12]], ask, sheet)
        if translator and embedder and study:
            record["search"] = check_search(study, translator, embedder, ask)
    if out is not None:
        out.write_text(json.dumps(record, indent=2) + "\n")
    show(record)


def show(record: dict[str, Any]) -> None:
    """Print what matters."""
    console = Console()
    for name, lies in record["lies"].items():
        for what, row in lies["shares"].items():
            low, high = row["interval95"]
            console.print(f"{name}: {what} {row['right']}/{row['of']} ({low:.3f}-{high:.3f})")
        console.print(f"{name}: wrong {lies['wrong'][:12]}; verdicts {lies['verdicts']}")
    for key in ("pose", "landmarks", "time_ms", "good", "search"):
        if key in record:
            console.print(key, record[key])
    strangers = {k: v for k, v in record["strangers"].items() if k != "rows"}
    console.print("no skull", strangers)


if __name__ == "__main__":
    typer.run(main)

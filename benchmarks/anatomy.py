"""What simulated people are like: tissue depths, head sizes, what a skull leaves open, likeness.

    python benchmarks/anatomy.py depths [--people 30] [--json out.json] [--plot out.png]
    python benchmarks/anatomy.py sizes [--people 300]
    python benchmarks/anatomy.py residual [--people 400]
    python benchmarks/anatomy.py likeness DATA

Figures on simulated people: they show what the simulator does, not what people are like.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fcr_edge import imaging
from fcr_edge.latency import describe_machine
from fcr_train.simulate.person import Simulator

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64

app = typer.Typer(no_args_is_help=True, add_completion=False)
Json = Annotated[Path | None, typer.Option("--json", help="File for the figures.")]
Plot = Annotated[Path | None, typer.Option(help="File for a picture of the figures.")]
Seed = Annotated[int, typer.Option(help="Seed of the people.")]

NOTICE = "simulated people: this measures the simulator, not people and not forensic accuracy"
UNTESTABLE = ("rhinion", "alare curvature")
"""A ray from these landmarks enters the nasal aperture."""
ANSUR = {
    "male": {"breadth": (154.3, 5.5), "length": (199.5, 7.0), "nasion-menton": (122.6, 6.7)},
    "female": {"breadth": (147.8, 5.2), "length": (189.8, 7.5), "nasion-menton": (113.1, 6.1)},
}
"""ANSUR II (US Army 2012, public tables): mean and standard deviation [mm]."""
REGIONS: dict[str, tuple[tuple[float, float, float], float]] = {
    "vault": ((0, 95, -75), 45),
    "forehead": ((25, 50, 12), 22),
    "brow": ((25, 16, 22), 14),
    "malar": ((47, -22, 12), 14),
    "mid cheek": ((42, -52, 8), 14),
    "nose tip": ((0, -37, 44), 8),
    "nose wings": ((16, -43, 30), 8),
    "lips": ((0, -72, 34), 14),
    "chin": ((0, -104, 24), 14),
    "jaw angle": ((57, -84, -48), 16),
}
"""Centre on the reference head, and radius [mm]; either side. Ears are the mesh's own mask."""
RIDGE = 1.0
PIXELS = 48
COMPONENTS = 40


@app.command()
def depths(
    people: Annotated[int, typer.Option(min=2)] = 30,
    seed: Seed = 1,
    out: Json = None,
    plot: Plot = None,
) -> None:
    """Tissue depth measured along rays against the depth meant, for each landmark."""
    simulator = Simulator()
    names = np.array(simulator.anatomy.table.names)
    numbers = track(range(1, people + 1), "people", console=Console(stderr=True))
    errors = np.array([depth_errors(simulator, seed, number) for number in numbers])
    tested = ~np.isin(names, UNTESTABLE)
    rows = {"all": summarise(errors[:, tested])}
    rows |= {str(n): summarise(errors[:, names == n]) for n in dict.fromkeys(names)}
    show(
        "landmark",
        ("median", "p90", "p95", "bias", "missed"),
        {f"{n} *" if n in UNTESTABLE else n: row for n, row in rows.items()},
    )
    print("mm; * left out of 'all': the ray enters the nasal aperture")
    print(f"table of depths: {simulator.anatomy.table.status}")
    save(out, {"depths_mm": rows, "people": people, "seed": seed})
    if plot is not None:
        plot_depths(plot, errors, names)


def depth_errors(simulator: Simulator, seed: int, number: int) -> Float64[np.ndarray, " l"]:
    """Measured less meant depth at each landmark [mm]; infinite where a ray met no bone."""
    subject = simulator.subject(seed, number)
    measured = simulator.warp.measure_depths(
        subject.template, subject.calibration, subject.surfaces.bony, subject.surfaces.skin
    )
    return np.asarray(measured - subject.surfaces.depth_target)


def summarise(errors: Float64[np.ndarray, "p l"]) -> dict[str, float]:
    """Summarise errors, rays that met no bone apart."""
    met = errors[np.isfinite(errors)]
    return {
        "median": float(np.median(np.abs(met))),
        "p90": float(np.percentile(np.abs(met), 90)),
        "p95": float(np.percentile(np.abs(met), 95)),
        "bias": float(met.mean()),
        "missed": float(1 - met.size / errors.size),
    }


def plot_depths(path: Path, errors: Float64[np.ndarray, "p l"], names: np.ndarray) -> None:
    """Draw the spread of errors for each landmark."""
    figure, axes = open_figure(7.5, 6.5)
    order = [name for name in dict.fromkeys(names.tolist()) if name not in UNTESTABLE][::-1]
    values = [errors[:, names == name] for name in order]
    axes.boxplot(
        [v[np.isfinite(v)] for v in values],
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
    )
    axes.set_yticks(range(1, len(order) + 1), order, fontsize=7)
    axes.axvline(0, color="grey", lw=0.5)
    axes.set_xlabel("measured less meant tissue depth [mm]; box 25-75 %, whiskers 5-95 %")
    axes.set_title(f"{len(errors)} simulated people", fontsize=9)
    figure.savefig(path, dpi=120)


@app.command()
def sizes(
    people: Annotated[int, typer.Option(min=10, help="Of each sex.")] = 300,
    seed: Seed = 1,
    out: Json = None,
) -> None:
    """Head sizes of men and of women against ANSUR II."""
    simulator = Simulator()
    found: dict[str, list[list[float]]] = {"male": [], "female": []}
    number = 0
    while min(map(len, found.values())) < people:
        number += 1
        person, surfaces = simulator.person(seed, number)
        if len(found[person.sex]) < people:
            found[person.sex].append(measure_head(simulator, surfaces.skin))
    rows = {}
    for sex, targets in ANSUR.items():
        measured = np.array(found[sex])
        for k, (name, (mean, sd)) in enumerate(targets.items()):
            values = measured[:, k]
            rows[f"{sex} {name}"] = {
                "mean": float(values.mean()),
                "ANSUR mean": mean,
                "mean off %": float(100 * (values.mean() / mean - 1)),
                "sd": float(values.std(ddof=1)),
                "ANSUR sd": sd,
                "sd off %": float(100 * (values.std(ddof=1) / sd - 1)),
            }
    show("size [mm]", tuple(next(iter(rows.values()))), rows)
    save(out, {"sizes": rows, "people_each_sex": people, "seed": seed})


def measure_head(simulator: Simulator, skin: Float64[np.ndarray, "v 3"]) -> list[float]:
    """Measure head breadth without ears, head length, and nasion to menton [mm]."""
    anatomy = simulator.anatomy
    nasion, menton = (
        anatomy.landmarks[anatomy.table.names.index(name)] for name in ("nasion", "menton")
    )
    scalp = ~anatomy.head.is_eye & ~anatomy.head.masks["ears"] & (anatomy.reference[:, 1] > 0)
    breadth, _, length = np.ptp(skin[scalp], axis=0)
    return [float(breadth), float(length), float(np.linalg.norm(skin[nasion] - skin[menton]))]


@app.command()
def residual(
    people: Annotated[int, typer.Option(min=20)] = 400, seed: Seed = 1, out: Json = None
) -> None:
    """What the skull does not determine: ridge regression from its shape to the skin, by region.

    Root mean square distance between the skin and the skin predicted, for people left out: from
    the skull's shape, from it and the body mass, and by the mean face, which knows nothing.
    """
    simulator = Simulator()
    everyone = [simulator.person(seed, n) for n in range(1, people + 1)]
    control = simulator.anatomy.control
    skull = np.array([surfaces.bony[control].ravel() for _, surfaces in everyone])
    skin = np.array([surfaces.skin.ravel() for _, surfaces in everyone])
    bmi = np.array([[person.bmi] for person, _ in everyone])
    # As much weight as all coordinates of the skull together.
    weighed = (bmi - bmi.mean()) / bmi.std() * np.linalg.norm(skull.std(0))
    training = np.arange(people) < 0.75 * people
    known = {"skull": skull, "skull and body mass": np.hstack([skull, weighed])}
    apart = {
        name: distances(ridge(k[training], skin[training], k[~training]), skin[~training])
        for name, k in known.items()
    }
    apart["nothing"] = distances(skin[training].mean(0)[None], skin[~training])
    rows = {
        name: {given: float(np.sqrt((d[:, place] ** 2).mean())) for given, d in apart.items()}
        for name, place in regions(simulator).items()
    }
    rows = dict(sorted(rows.items(), key=lambda row: row[1]["skull and body mass"]))
    show("region [mm], given", tuple(apart), rows)
    save(out, {"residual_mm": rows, "people": people, "seed": seed})


def ridge(
    known: Float64[np.ndarray, "n a"],
    wanted: Float64[np.ndarray, "n b"],
    new: Float64[np.ndarray, "m a"],
) -> Float64[np.ndarray, "m b"]:
    """Predict by ridge regression in its dual form (fewer people than coordinates)."""
    middle = known.mean(0)
    kernel = (known - middle) @ (known - middle).T
    weight = RIDGE * np.trace(kernel) / len(kernel) * 1e-3
    solved = np.linalg.solve(kernel + weight * np.eye(len(kernel)), wanted - wanted.mean(0))
    return np.asarray((new - middle) @ (known - middle).T @ solved + wanted.mean(0))


def distances(
    first: Float64[np.ndarray, "n a"], second: Float64[np.ndarray, "n a"]
) -> Float64[np.ndarray, "n v"]:
    """Measure the distance of each vertex [mm]."""
    apart = (first - second).reshape(len(second), -1, 3)
    return np.asarray(np.linalg.norm(apart, axis=2))


def regions(simulator: Simulator) -> dict[str, Bool[np.ndarray, " v"]]:
    """Give the vertices of each region."""
    anatomy = simulator.anatomy
    folded = np.abs(anatomy.reference[:, :1])
    place = np.column_stack([folded, anatomy.reference[:, 1:]])
    hidden = anatomy.head.masks["inside-mouth"] | anatomy.head.masks["ears"] | anatomy.head.is_eye
    found = {
        name: (np.linalg.norm(place - centre, axis=1) < radius) & ~hidden
        for name, (centre, radius) in REGIONS.items()
    }
    return {**found, "ears": anatomy.head.masks["ears"]}


@app.command()
def likeness(
    data: Annotated[Path, typer.Argument(help="Dataset with two portraits a view.")],
    out: Json = None,
) -> None:
    """Distances between portraits of one person and of strangers, in a plain pixel-PCA space.

    The components come from the first half of the people, the distances from the second.
    """
    rows = {}
    for view in ("frontal", "lateral"):
        first, second = (read_portraits(data, view, number) for number in ("1", "2"))
        half = len(first) // 2
        components = principal(np.concatenate([first[:half], second[:half]]))
        one, other = (portraits[half:] @ components.T for portraits in (first, second))
        rows[view] = compare(np.linalg.norm(one[:, None] - other[None], axis=2))
    show("view", tuple(rows["frontal"]), rows)
    save(out, {"likeness": rows, "dataset": json.loads((data / "dataset.json").read_text())})


def read_portraits(data: Path, view: str, number: str) -> Float64[np.ndarray, "n a"]:
    """Read everybody's portrait of one number, small and grey, mean and contrast evened out."""
    with (data / "images.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if (r["view"], r["portrait"]) == (view, number)]
    pictures = []
    for row in rows:
        grey = imaging.to_grey(imaging.read_picture(data / row["file"]))
        small = imaging.resize(grey, (PIXELS, PIXELS)).astype(float).ravel()
        pictures.append((small - small.mean()) / max(small.std(), 1e-6))
    return np.array(pictures)


def principal(pictures: Float64[np.ndarray, "n a"]) -> Float64[np.ndarray, "c a"]:
    """Give the first principal components."""
    return np.asarray(np.linalg.svd(pictures - pictures.mean(0), full_matrices=False)[2])[
        :COMPONENTS
    ]


def compare(apart: Float64[np.ndarray, "n n"]) -> dict[str, float]:
    """Compare a person's own distance, on the diagonal, with those to strangers."""
    own = np.diag(apart)
    strange = apart[~np.eye(len(apart), dtype=bool)].reshape(len(apart), -1)
    rank = 1 + (strange <= own[:, None]).sum(1)
    return {
        "same person": float(np.median(own)),
        "strangers": float(np.median(strange)),
        "nearer than a stranger": float((own[:, None] < strange).mean()),
        "rank 1": float((rank == 1).mean()),
        "chance": 1 / len(apart),
        "people": float(len(apart)),
    }


def open_figure(width: float, height: float) -> tuple[Any, Any]:
    """Open a figure that needs no screen."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots()


def show(name: str, columns: tuple[str, ...], rows: dict[str, dict[str, float]]) -> None:
    """Print a table of figures."""
    table = Table(name, *columns)
    for label, row in rows.items():
        table.add_row(label, *(f"{row[column]:.2f}" for column in columns))
    Console(width=120).print(table)
    print(NOTICE)


def save(out: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures with machine and notice."""
    if out is not None:
        record = {"notice": NOTICE, **figures, "machine": describe_machine()}
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()

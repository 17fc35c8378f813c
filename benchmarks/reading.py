"""How long a film takes from the file to the skull, with and without a process of its own.

python benchmarks/reading.py FILM... [--bundle B] [--runs 20] [--json out.json]

Prints the fastest and the median of each step [ms] for each size of film, and the most memory that
a decoder took. With a bundle the film is put right and its soft tissue taken off by its networks.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcr_edge import Bundle, film, reading, sandbox, soft_tissue
from fcr_edge.latency import describe_machine
from fcr_edge.understanding import open_film_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from fcr_edge.soft_tissue import Suppressor
    from fcr_edge.understanding import FilmModel

TOTAL = "read, film and soft tissue"


def main(
    films: Annotated[list[Path], typer.Argument(help="Films, of any format that is read.")],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle whose networks make the standard film and skull.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each film.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Measure every step on each film, after one uncounted run."""
    start = time.perf_counter()
    reading.read_film(films[0])
    print(f"first film, the decoder started: {1000 * (time.perf_counter() - start):.0f} ms")
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        opened = Bundle.load(bundle, allow_unsigned=True) if bundle else None
        model = open_film_model(opened, "cpu", stack) if opened else None
        network = soft_tissue.open_suppressor(opened, "cpu", stack) if opened else None
        for path in films:
            for run in range(runs + 1):
                size, steps = time_steps(path, model, network)
                for step, ms in steps.items():
                    if run:
                        rows[size][step].append(ms)
    figures = {size: summarise(steps) for size, steps in rows.items()}
    show(figures)
    tell_memory()
    if json_file is not None:
        record = {"schema": "fcr-reading/1", "machine": describe_machine(), "ms": figures}
        json_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def time_steps(
    path: Path, model: FilmModel | None, network: Suppressor | None
) -> tuple[str, dict[str, float]]:
    """Take one film through every step: its size, and the time of each step [ms]."""
    data = path.read_bytes()
    steps: dict[str, float] = {}

    def timed(step: str, run: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = run()
        steps[step] = 1000 * (time.perf_counter() - start)
        return result

    timed("decoded in this process", lambda: reading.decode(data, path.name))
    xray = timed("read in a process of its own", lambda: reading.read_film(path))
    if model is None:
        standard = timed("standard film, as it lies", lambda: film.standardise_xray(xray))
    else:
        standard = timed("standard film, put right", lambda: model.understand(xray).film)
    recipe = "classical-2" if network is None else "learned-1"
    timed(f"soft tissue, {recipe}", lambda: soft_tissue.separate(standard, recipe, network))
    steps[TOTAL] = sum(steps.values()) - steps["decoded in this process"]
    height, width = xray.pixels.shape
    return f"{width} x {height}", steps


def summarise(steps: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Give the fastest and the median of each step [ms]."""
    return {
        step: {"fastest": min(values), "median": statistics.median(values), "runs": len(values)}
        for step, values in steps.items()
    }


def show(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print a line for each step."""
    for size, steps in figures.items():
        print(size)
        for step, row in steps.items():
            print(f"  {step:36} fastest {row['fastest']:6.1f}  median {row['median']:6.1f}")


def tell_memory() -> None:
    """Print the most memory of an ended decoder; not on Windows."""
    try:
        import resource
    except ImportError:
        return
    sandbox.close()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"most memory of a decoder: {peak / 1000:.0f} MB")


if __name__ == "__main__":
    typer.run(main)

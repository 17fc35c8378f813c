"""How long a film takes from the file to the skull, with and without a process of its own.

python benchmarks/reading.py FILM... [--runs 20]

Prints the fastest and the median of each step [ms], and the most memory that a decoder took.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcr_edge import film, reading, sandbox, soft_tissue

if TYPE_CHECKING:
    from collections.abc import Callable


def main(
    films: Annotated[list[Path], typer.Argument(help="Films, of any format that is read.")],
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each film.")] = 20,
) -> None:
    """Measure every step on each film, after one uncounted run."""
    start = time.perf_counter()
    reading.read_film(films[0])
    print(f"first film, the decoder started: {1000 * (time.perf_counter() - start):.0f} ms")
    rows: dict[str, list[float]] = {}
    for path in films:
        for run in range(runs + 1):
            for step, ms in time_steps(path).items():
                if run:
                    rows.setdefault(step, []).append(ms)
    for step, values in rows.items():
        print(f"{step:38} fastest {min(values):6.1f}  median {statistics.median(values):6.1f}")
    tell_memory()


def time_steps(path: Path) -> dict[str, float]:
    """Take one film through every step [ms each]."""
    data = path.read_bytes()
    steps: dict[str, float] = {}

    def timed(step: str, run: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = run()
        steps[step] = 1000 * (time.perf_counter() - start)
        return result

    timed("decoded in this process", lambda: reading.decode(data, path.name))
    xray = timed("read in a process of its own", lambda: reading.read_film(path))
    standard = timed("standard film", lambda: film.standardise_xray(xray))
    timed("soft tissue, classical-1", lambda: soft_tissue.remove(standard, "classical-1"))
    steps["read, film and soft tissue"] = sum(steps.values()) - steps["decoded in this process"]
    return steps


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

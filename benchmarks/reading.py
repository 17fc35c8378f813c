"""How long a film takes from the file to the skull, with and without a process of its own.

python benchmarks/reading.py FILM... [--bundle B] [--runs 20]

Prints the fastest and the median of each step [ms], and the most memory that a decoder took.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcr_edge import Bundle, film, reading, sandbox, soft_tissue

if TYPE_CHECKING:
    from collections.abc import Callable

    from fcr_edge.soft_tissue import Suppressor


def main(
    films: Annotated[list[Path], typer.Argument(help="Films, of any format that is read.")],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle whose network takes the soft tissue off.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each film.")] = 20,
) -> None:
    """Measure every step on each film, after one uncounted run."""
    start = time.perf_counter()
    reading.read_film(films[0])
    print(f"first film, the decoder started: {1000 * (time.perf_counter() - start):.0f} ms")
    rows: dict[str, list[float]] = {}
    with ExitStack() as stack:
        network = bundle and soft_tissue.open_suppressor(Bundle.load(bundle), "cpu", stack)
        for path in films:
            for run in range(runs + 1):
                for step, ms in time_steps(path, network).items():
                    if run:
                        rows.setdefault(step, []).append(ms)
    for step, values in rows.items():
        print(f"{step:38} fastest {min(values):6.1f}  median {statistics.median(values):6.1f}")
    tell_memory()


def time_steps(path: Path, network: Suppressor | None) -> dict[str, float]:
    """Take one film through every step [ms each]; without a network, by classical-1."""
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
    recipe = "classical-1" if network is None else "learned-1"
    timed(f"soft tissue, {recipe}", lambda: soft_tissue.separate(standard, recipe, network))
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

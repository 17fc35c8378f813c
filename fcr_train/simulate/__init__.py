"""Simulated people: head, skull, tissue depth, radiograph, portrait, from CC0 and own data."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["simulate"]


def simulate(
    out: Path,
    people: int,
    seed: int = 1,
    workers: int | None = None,
    portraits: int = 2,
    size: int = 256,
    first: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make a dataset of simulated people, or finish one that was interrupted.

    Workers are fresh interpreters: a script that calls this does so under
    `if __name__ == "__main__":`.

    Args:
        out: Folder of the dataset; made when missing.
        people: How many people, 1 or more.
        seed: Same seed, same bytes, whatever `workers` is.
        workers: Processes; by default one for each CPU core.
        portraits: Portraits of each person and view, 1 or more.
        size: Side of the pictures in pixels: 64, 128, 256 or 512.
        first: Number of the first person; person 7 of a seed is the same in every dataset.
        progress: Called with the people done and all people.

    Raises:
        ConfigError: An argument is out of range.
        DataError: `out` cannot be written, or holds a dataset of other parameters.
    """
    from fcr_train.simulate.dataset import Parameters, make_dataset

    parameters = Parameters(people=people, seed=seed, portraits=portraits, size=size, first=first)
    make_dataset(out, parameters, workers, progress)

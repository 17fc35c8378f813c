"""Simulated people: head, skull, tissue depth, radiograph, portrait, from CC0 and own data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_train.simulate.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Plan", "simulate"]


def simulate(
    out: Path,
    plan: Plan,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make a dataset of simulated people, or finish one that was interrupted.

    The same plan gives the same bytes, whatever `workers` is. Workers are fresh interpreters: a
    script that calls this does so under `if __name__ == "__main__":`.

    Args:
        out: Folder of the dataset; made when missing.
        plan: What to make of how many people.
        workers: Processes; by default one for each CPU core.
        progress: Called with the people done and all people.

    Raises:
        ConfigError: `workers` is out of range.
        DataError: `out` cannot be written, or holds a dataset of another plan; the table of tissue
            depths or the CT cannot be used.
    """
    from fcr_train.simulate.dataset import make_dataset

    make_dataset(out, plan, workers, progress)

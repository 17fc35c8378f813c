"""The options that several commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcr_edge.errors import ConfigError
from fcr_train.cli.progress import counter

if TYPE_CHECKING:
    from fcr_train.dataset import Dataset
    from fcr_train.splits import Fold

Data = Annotated[Path, typer.Option("--data", help="Folder of the dataset.")]
Preset = Annotated[str, typer.Option(help="paper, small or tiny.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of weights, order and augmentation.")]
SplitFile = Annotated[
    Path | None,
    typer.Option("--split", help="File of `fcr-train split`, instead of the preset's split."),
]
FoldNumber = Annotated[
    int | None, typer.Option("--fold", min=0, help="Fold of the file that is held out.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def read_names(names: str) -> tuple[Any, ...]:
    """Split a list at its commas; what takes the names checks them."""
    return tuple(name.strip() for name in names.split(","))


def read_fold(path: Path | None, number: int | None, dataset: Dataset) -> Fold | None:
    """Read a fold of a split file, and check it again: the pictures may have changed since."""
    from fcr_train.splits import check_leaks, read_split

    if path is None and number is None:
        return None
    if path is None or number is None:
        raise ConfigError("--split and --fold belong together: pass both, or neither")
    split = read_split(path, dataset)
    fold = split.fold(number)
    with counter("checking") as count:
        check_leaks(dataset, split, count)
    return fold

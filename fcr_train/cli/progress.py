"""What the commands show on stderr while they work."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from fcr_train.trainer import Progress


def make_console() -> Console:
    """Speak on stderr; of several processes that torchrun started, only the first one does."""
    from rich.console import Console

    return Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")


@contextlib.contextmanager
def counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the time left, fed by (done, total)."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=make_console()) as bar:
        shown = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(shown, completed=done, total=total)


@contextlib.contextmanager
def watcher() -> Iterator[Callable[[Progress], None]]:
    """Show a bar with losses and the time left, and a line for each epoch that ended."""
    from rich.progress import Progress as Bar
    from rich.progress import TextColumn

    console = make_console()
    columns = (*Bar.get_default_columns(), TextColumn("{task.fields[figures]}"))
    with Bar(*columns, console=console) as bar:
        shown = bar.add_task("training", total=None, figures="")

        def watch(progress: Progress) -> None:
            figures = "  ".join(f"{name} {value:.4g}" for name, value in progress.figures.items())
            bar.update(shown, completed=progress.step, total=progress.steps, figures=figures)
            if progress.epoch_ended:
                console.print(f"epoch {progress.epoch}  {figures}", highlight=False)

        yield watch

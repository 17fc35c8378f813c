"""What the commands print: results on stdout, words about them on stderr."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import typer

EXIT_ERROR = 3


EXIT_INTERRUPTED = 130


def print_json(value: object) -> None:
    """Print for a program, on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """Say what was taken or done, on stderr."""
    typer.echo(text, err=True)


def warn(text: str) -> None:
    """Say what to look at, on stderr."""
    typer.secho(f"warning: {text}", fg="yellow", err=True)


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar with the time left on stderr; yields what to call after each step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the time left on stderr; yields what to call with (done, all)."""
    with build_progress() as tell:
        yield lambda done, total: tell(what, done, total)


@contextlib.contextmanager
def build_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show the phases of a build with the time left on stderr, once there is one.

    Yields what to call with (phase, steps done, steps), from any thread.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeLeft())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    tasks: dict[str, Any] = {}

    def tell(phase: str, step: int, steps: int) -> None:
        if not tasks:
            bar.start()
        if phase not in tasks:
            tasks[phase] = bar.add_task(phase, total=steps)
        bar.update(tasks[phase], completed=step, total=steps)

    try:
        yield tell
    finally:
        if tasks:  # stopping a bar that never started writes an empty line
            bar.stop()

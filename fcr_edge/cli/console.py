"""What the commands print: results on stdout, words about them on stderr."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

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

"""The command line of the workshop: simulate or prepare, split, train, export."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from fcr_edge import __version__
from fcr_edge.cli import FcrGroup
from fcr_train.cli import bundles, data, study, training

app = typer.Typer(
    cls=FcrGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Simulate people, train on them, and export what was trained for the field.",
)
app.command()(data.simulate)
app.command()(data.prepare)
app.command()(data.split)
app.command()(data.gallery_sheet)
app.command()(training.translator)
app.command()(training.distill)
app.command()(training.embedder)
app.command()(training.matcher)
app.command()(training.suppressor)
app.command()(training.film)
app.command()(study.evaluate)
app.command()(study.compare)
app.command()(bundles.export)
app.command()(bundles.keygen)
app.command()(bundles.sign)


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run fcr-train."""
    app()

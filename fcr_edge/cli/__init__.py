"""The command line of the field kit: enroll people, identify films, look after both."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fcr_edge import __version__
from fcr_edge.cli import bundles, checks, engines, films, galleries, people
from fcr_edge.cli.console import EXIT_ERROR
from fcr_edge.errors import FcrError


class FcrGroup(TyperGroup):
    """Commands whose FcrError becomes one line on stderr and exit status 3."""

    def invoke(self, ctx: Any) -> Any:  # noqa: D102 - click's Context, which newer Typer vendors
        try:
            return super().invoke(ctx)
        except FcrError as err:
            typer.echo(f"error: {err}", err=True)
            raise typer.Exit(EXIT_ERROR) from err


app = typer.Typer(
    cls=FcrGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Turn an X-ray of a skull into a face and rank the people of a gallery by similarity: "
    "an investigative lead for a qualified examiner, never an identification.",
)
gallery_app = typer.Typer(no_args_is_help=True, help="Make, lock and look after a gallery.")
cache_app = typer.Typer(no_args_is_help=True, help="List and remove engines built for the GPU.")
app.add_typer(gallery_app, name="gallery")
trust_app = typer.Typer(no_args_is_help=True, help="The keys whose bundles are trusted.")
app.add_typer(cache_app, name="cache")
app.add_typer(trust_app, name="trust")
app.command()(films.identify)
app.command()(people.enroll)
app.command()(films.reconstruct)
app.command()(films.preprocess)
app.command()(films.deidentify)
app.command()(checks.bench)
app.command()(checks.doctor)
app.command()(checks.demo)
app.command()(engines.warmup)
app.command()(bundles.verify)
app.command()(bundles.install)
trust_app.command("add")(bundles.add_key)
trust_app.command("list")(bundles.list_keys)
trust_app.command("remove")(bundles.remove_key)
cache_app.command("list")(engines.list_engines)
cache_app.command("clear")(engines.clear_engines)
gallery_app.command("create")(galleries.create)
gallery_app.command("rekey")(galleries.rekey)
gallery_app.command("keygen")(galleries.keygen)
gallery_app.command("backup")(galleries.backup)
gallery_app.command("restore")(galleries.restore)
gallery_app.command("verify")(galleries.verify_gallery)
gallery_app.command("compact")(galleries.compact)
gallery_app.command("re-embed")(galleries.re_embed)
gallery_app.command("merge")(galleries.merge)
gallery_app.command("export")(galleries.export)
gallery_app.command("undo")(galleries.undo)
gallery_app.command("purge")(galleries.purge)
gallery_app.command("check-receipt")(galleries.check_receipt)
gallery_app.command("audit")(galleries.audit)
gallery_app.command("list")(people.list_gallery)
gallery_app.command("show")(people.show_person)
gallery_app.command("remove")(people.remove_person)


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.addLevelName(logging.WARNING, "warning")
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run fcr-edge."""
    app()

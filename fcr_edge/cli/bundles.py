"""The commands that look after bundles: verify, install, and the keys that are trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcr_edge.cli.console import note, print_json, warn
from fcr_edge.cli.options import JsonOption, UnsignedOption
from fcr_edge.errors import BundleError, ConfigError

Folder = Annotated[Path, typer.Argument(help="Folder of models.")]


def verify(folder: Folder, as_json: JsonOption = False) -> None:
    """Check every file of a bundle and who vouches for it; fails where nobody trusted does."""
    from fcr_edge.bundle import Bundle

    bundle = Bundle.load(folder, allow_unsigned=True)
    standing, manifest = bundle.standing, bundle.manifest
    if as_json:
        print_json(
            {
                "schema": "fcr-verified/1",
                "name": manifest.name,
                "created": manifest.created,
                "sha256": bundle.sha256,
                "standing": standing.state,
                "owner": standing.owner or None,
                "key": standing.signature.key if standing.signature else None,
                "version": standing.version or None,
            }
        )
    else:
        typer.echo(f"{manifest.name}: {len(manifest.files)} files whole, {standing}")
        typer.echo(f"SHA-256 of its manifest: {bundle.sha256}")
    if not standing.is_trusted:
        raise BundleError(
            f"{folder} is whole, but nobody whom you trust vouches for it ({standing}): add its"
            " maker's key (fcr-edge trust add), or have it signed"
        )


def install(
    folder: Folder,
    force: Annotated[
        bool, typer.Option("--force", help="Also an older version than the installed one.")
    ] = False,
    allow_unsigned: UnsignedOption = False,
) -> None:
    """Copy a bundle to where galleries find theirs; a version never goes back unless forced."""
    from fcr_edge.bundle import install_bundle
    from fcr_edge.identify import user_bundles

    bundle = install_bundle(folder, user_bundles(), allow_unsigned, force)
    if not bundle.standing.is_trusted:
        warn(f"bundle {bundle.manifest.name}: {bundle.standing}")
    typer.echo(bundle.folder)


def add_key(
    key: Annotated[Path, typer.Argument(help="Public key, the .pub file of fcr-train keygen.")],
    owner: Annotated[str, typer.Option("--name", help="Whose it is, e.g. headquarters.")],
) -> None:
    """Trust the bundles that a key has signed."""
    from fcr_edge import trust

    public = trust.read_public_key(key)
    trust.write_trusted({**trust.read_trusted(), public: owner})
    typer.echo(f"{public} {owner}")
    note("compare the key with its maker by another way than the one it came")


def list_keys(as_json: JsonOption = False) -> None:
    """List the keys that are trusted."""
    from fcr_edge import trust

    keys = trust.read_trusted()
    if as_json:
        print_json({"schema": trust.TRUSTED_SCHEMA, "keys": keys})
        return
    for key, owner in keys.items():
        typer.echo(f"{key} {owner}")
    if not keys:
        note("no key is trusted yet: fcr-edge trust add KEY.pub --name OWNER")


def remove_key(
    key: Annotated[str, typer.Argument(help="The key's first digits, eight or more.")],
) -> None:
    """Trust a key no longer."""
    from fcr_edge import trust

    keys = trust.read_trusted()
    meant = [each for each in keys if each.startswith(key) and len(key) >= 8]
    if len(meant) != 1:
        raise ConfigError(f"{len(meant)} trusted keys begin with {key!r}: see fcr-edge trust list")
    trust.write_trusted({each: owner for each, owner in keys.items() if each != meant[0]})
    typer.echo(f"no longer trusted: {meant[0]} {keys[meant[0]]}")

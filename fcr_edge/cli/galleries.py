"""The commands for a gallery as a whole: make it, lock it, copy it, check it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcr_edge.cli.console import bar, note, print_json, progress, warn
from fcr_edge.cli.opening import (
    ask_for,
    choose_first_bundle,
    create_gallery,
    load_bundle,
    make_ready,
    open_gallery,
    warn_of_plain,
)
from fcr_edge.cli.options import (
    BundleOption,
    DeviceChoice,
    DeviceOption,
    HeadquartersOption,
    JsonOption,
    KeyFileOption,
    OnlyAgeOption,
    OnlyHeightOption,
    OnlySexOption,
    PassphraseOption,
    PlainOption,
    SinceOption,
    UnsignedOption,
    UntilOption,
    ask_passphrase,
    read_among,
    read_key,
    read_new_key,
)
from fcr_edge.cli.people import tell_enrolment
from fcr_edge.errors import GalleryError

if TYPE_CHECKING:
    from fcr_edge.gallery import Event

_SHOWN = 12
"""Digits of a hash that are shown."""
_START = 100
"""Bytes of a key file that tell whether it is locked."""
_NAMED = 5
"""Candidates of a search that are named."""

NewKeyFileOption = Annotated[
    Path | None, typer.Option(help="File of 32 bytes that shall lock the gallery.")
]
NewPassphraseOption = Annotated[
    bool, typer.Option("--new-passphrase", help="Ask for a new passphrase.")
]


class DetailsChoice(str, Enum):
    """Which details of people stay."""

    same = "same"
    ours = "ours"
    theirs = "theirs"


GalleryArgument = Annotated[Path, typer.Argument(help="The gallery, e.g. db.bin.")]


def create(
    gallery: GalleryArgument,
    bundle: BundleOption = None,
    allow_unsigned: UnsignedOption = False,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    plain: PlainOption = False,
    headquarters: HeadquartersOption = None,
) -> None:
    """Make an empty gallery, encrypted unless --plain is given."""
    made_for = choose_first_bundle(bundle, allow_unsigned)
    key = read_new_key(key_file, passphrase, plain)
    with create_gallery(gallery, made_for, key, headquarters) as made:
        _tell_locks(made.encrypted, headquarters)
    typer.echo(gallery)


def rekey(
    gallery: GalleryArgument,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    new_key_file: NewKeyFileOption = None,
    new_passphrase: NewPassphraseOption = False,
    plain: PlainOption = False,
    headquarters: HeadquartersOption = None,
) -> None:
    """Encrypt a gallery anew, under a new key; other locks than those given now are gone."""
    from fcr_edge.gallery import read_headquarters_public_key

    with open_gallery(gallery, key_file, passphrase) as opened:
        key = read_new_key(new_key_file, new_passphrase, plain)
        public = None if headquarters is None else read_headquarters_public_key(headquarters)
        with bar("sealing anew") as tell:
            opened.rekey(key, public, tell)
        opened.pack()
        warn_of_plain(opened)
        _tell_locks(opened.encrypted, headquarters)
    note("copies made before still open with the old key: delete or encrypt them, too")
    typer.echo(gallery)


def backup(
    gallery: GalleryArgument,
    copy: Annotated[Path, typer.Argument(help="The copy to write.")],
) -> None:
    """Copy a gallery, also while others write to it; no key is needed."""
    from fcr_edge.gallery import back_up

    with bar("copying") as tell:
        back_up(gallery, copy, tell)
    note(f"{copy} opens with what opens {gallery} now")
    typer.echo(copy)


def restore(
    copy: Annotated[Path, typer.Argument(help="The copy.")],
    gallery: GalleryArgument,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a gallery that is sound.")
    ] = False,
) -> None:
    """Check a copy and put it in a gallery's place, which is kept under another name."""
    from fcr_edge.gallery import restore as put_back

    key = read_key(key_file, passphrase)
    with bar("checking") as tell:
        old = put_back(copy, gallery, key, ask_for(copy), force=force, tell=tell)
    if old is not None:
        note(f"what was there is now {old}: it holds the same people, delete it when all is well")
    typer.echo(gallery)


def verify_gallery(
    gallery: GalleryArgument,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check everything in a gallery; exit status 3 where something is missing or changed."""
    with open_gallery(gallery, key_file, passphrase) as opened, bar("checking") as tell:
        health = opened.verify(tell)
    if as_json:
        print_json({"schema": "fcr-gallery-health/1", **asdict(health)})
        return
    typer.echo(f"{health.people} people with {health.photos} photographs, all sound")
    typer.echo(f"changes   {health.generation}")
    typer.echo(f"digest    {health.digest}")
    typer.echo(f"locks     {', '.join(health.locks) or 'none: anyone can read it'}")


def compact(
    gallery: GalleryArgument,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
) -> None:
    """Give back the room that people who were removed left in the file."""
    with open_gallery(gallery, key_file, passphrase) as opened:
        opened.pack()
        saved = opened.compact()
    note(f"{saved} bytes given back")
    typer.echo(gallery)


def merge(
    gallery: GalleryArgument,
    other: Annotated[Path, typer.Argument(help="The gallery whose people are brought in.")],
    details: Annotated[
        DetailsChoice,
        typer.Option(help="Which details stay where they differ; same: write nothing, list them."),
    ] = DetailsChoice.same,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    other_key_file: Annotated[
        Path | None, typer.Option(help="File of 32 bytes that locks the other gallery.")
    ] = None,
    other_passphrase: Annotated[
        bool, typer.Option("--other-passphrase", help="Ask for the other one's passphrase.")
    ] = False,
) -> None:
    """Bring the people of another gallery into this one; `undo` takes it back."""
    from fcr_edge.gallery import merge as bring_in

    with (
        open_gallery(gallery, key_file, passphrase) as ours,
        open_gallery(other, other_key_file, other_passphrase) as theirs,
        progress("merging", len(theirs.people())) as tick,
    ):
        report = bring_in(ours, theirs, details.value, progress=tick)
    for sentence in (*report.conflicts, *report.shared):
        warn(sentence)
    if report.conflicts and details is DetailsChoice.same:
        raise GalleryError(
            f"{len(report.conflicts)} people have other details in {other}, and nothing was"
            " written: say which stay with --details ours or --details theirs"
        )
    typer.echo(f"{report.people} people of {other}, {report.added} photographs of them new")


def export(
    gallery: GalleryArgument,
    out: Annotated[Path, typer.Argument(help="The gallery to make.")],
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    new_key_file: NewKeyFileOption = None,
    new_passphrase: NewPassphraseOption = False,
    plain: PlainOption = False,
    headquarters: HeadquartersOption = None,
    only_sex: OnlySexOption = None,
    only_age: OnlyAgeOption = None,
    only_height: OnlyHeightOption = None,
    missing_since: SinceOption = "",
    missing_until: UntilOption = "",
) -> None:
    """Make a gallery of some or all people, under a key of its own, to be handed on."""
    from fcr_edge.gallery import Gallery, read_headquarters_public_key
    from fcr_edge.gallery import merge as bring_in

    among = read_among(only_sex, only_age, only_height, missing_since, missing_until)
    with open_gallery(gallery, key_file, passphrase) as source:
        people = [person for person in source.people() if among.admits(person)]
        if not people:
            raise GalleryError(f"nobody in {gallery} is among those asked for")
        key = read_new_key(new_key_file, new_passphrase, plain)
        public = None if headquarters is None else read_headquarters_public_key(headquarters)
        with Gallery.create(out, source.fingerprint, source.dimension, key, public) as made:
            with progress("exporting", len(people)) as tick:
                bring_in(made, source, among=among, progress=tick)
            warn_of_plain(made)
    note(f"{len(people)} people")
    typer.echo(out)


def undo(
    gallery: GalleryArgument,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
) -> None:
    """Take back the last change, if it was an enrolment, an update of details or a merge."""
    with open_gallery(gallery, key_file, passphrase) as opened:
        done = opened.undo()
        opened.pack()
    note(f"not enrolled any more: {' '.join(done.removed) or 'nobody'}")
    note(f"as before: {' '.join(done.restored) or 'nobody'}")
    typer.echo(f"{done.photos} photographs taken back")


def re_embed(
    gallery: GalleryArgument,
    new: Annotated[Path, typer.Argument(help="The gallery to make, or to go on with.")],
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="The new folder of models.")],
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photographs, for those not kept inside.")
    ] = None,
    without_missing: Annotated[
        bool, typer.Option("--without-missing", help="Leave out photographs not at hand.")
    ] = False,
    allow_unsigned: UnsignedOption = False,
    device: DeviceOption = DeviceChoice.auto,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    headquarters: HeadquartersOption = None,
) -> None:
    """Make a gallery for another bundle out of one; what opens the old one opens the new one."""
    from fcr_edge.gallery import Gallery, HeadquartersKey
    from fcr_edge.reembed import re_embed as embed_anew

    key, ask = read_key(key_file, passphrase), ask_for(gallery)
    if isinstance(key, HeadquartersKey):
        raise GalleryError(
            f"{key_file} cannot lock a new gallery: `fcr-edge gallery rekey` gives {gallery} a"
            " passphrase first"
        )
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(Gallery.open(gallery, key, ask))
        if key is None and old.encrypted:
            key = ask(["passphrase"])  # it was asked for just now, and is remembered
        identifier = stack.enter_context(make_ready(load_bundle(bundle, allow_unsigned), device))
        if new.exists():
            fresh = stack.enter_context(Gallery.open(new, key, ask))
        else:
            made = create_gallery(new, identifier.bundle, key, headquarters)
            fresh = stack.enter_context(made)
        with progress("embedding anew", len(old.people())) as tick:
            report = embed_anew(
                *(old, fresh, identifier, photos), without_missing=without_missing, progress=tick
            )
        tell_enrolment(report, fresh)


def audit(
    gallery: GalleryArgument,
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check the log and show it: who enrolled, removed and searched for whom, and when."""
    with open_gallery(gallery, key_file, passphrase) as opened:
        events, names = opened.history(), opened.name_hashes()
    if as_json:
        rows = [{**asdict(event), "person_id": names.get(event.person)} for event in events]
        print_json({"schema": "fcr-gallery-log/1", "events": rows})
        return
    for event in events:
        typer.echo(_describe(event, names))
    note(f"{len(events)} entries, unbroken; people who were removed are shown by a hash")


def _describe(event: Event, names: dict[str, str]) -> str:
    """Put an event into a line: people by their ids while they are enrolled."""
    named = [names.get(one, one[:_SHOWN]) for one in (event.person, *event.candidates) if one]
    what = {
        "enroll": f"{event.photos} photographs",
        "remove": f"{event.photos} photographs",
        "rekey": f"{event.photos} photographs",
        "undo": f"{event.photos} photographs",
        "search": f"film {' and '.join(film[:_SHOWN] for film in event.films)}, found",
    }[event.action]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return (
        f"{event.number:6}  {event.time}  {event.operator or '-'}  {event.action:6}  {what}"
        f"  {' '.join(named[:_NAMED])}{more}"
    )


def purge(
    gallery: GalleryArgument,
    receipt: Annotated[Path, typer.Option(help="File for the signed receipt.")],
    sign_with: Annotated[Path, typer.Option(help="Private key, see keygen --purpose receipts.")],
    as_of: Annotated[str, typer.Option(help="The day, e.g. 2026-11-22 (today).")] = "",
    key_file: KeyFileOption = None,
    passphrase: PassphraseOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove everybody whose retain_until is over, for good, with a signed receipt."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from fcr_edge import key_files
    from fcr_edge.gallery import purging

    secret = None
    if sign_with.is_file() and b"ENCRYPTED" in sign_with.read_bytes()[:_START]:
        secret = ask_passphrase(f"Passphrase of {sign_with}")
    maker = key_files.SIGNING_KEY_MAKER
    key = key_files.read_private(sign_with, Ed25519PrivateKey, secret, maker)
    day = as_of or datetime.now(timezone.utc).strftime("%Y-%m-%d")
    with open_gallery(gallery, key_file, passphrase) as opened:
        expired = purging.find_expired(opened, day)
        if not expired:
            note(f"nobody's time is over on {day}")
            return
        for person in expired:
            note(f"{person.id}, until {person.retain_until}")
        if not yes:
            typer.confirm(f"Remove these {len(expired)} people for good?", abort=True, err=True)
        purging.purge(opened, expired, day, receipt, key)
        opened.pack()
    note("copies of the file elsewhere still hold them")
    typer.echo(receipt)


def check_receipt(
    receipt: Annotated[Path, typer.Argument(help="The receipt.")],
    key: Annotated[Path, typer.Option(help="The public key (.pub) that is to have signed it.")],
) -> None:
    """Check who signed a receipt, and print it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from fcr_edge import key_files
    from fcr_edge.gallery import purging

    public = key_files.read_public(key, Ed25519PublicKey, key_files.SIGNING_KEY_MAKER)
    print_json(purging.check_receipt(receipt, public))


class Purpose(str, Enum):
    """What a pair of keys is for."""

    headquarters = "headquarters"
    receipts = "receipts"


def keygen(
    out: Annotated[Path, typer.Option(help="The private key to write; .pub is put after it.")],
    purpose: Annotated[
        Purpose, typer.Option(help="Headquarters' second key, or a key that signs receipts.")
    ] = Purpose.headquarters,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase that locks it.")
    ] = False,
) -> None:
    """Make a pair of keys that opens galleries, or one that signs receipts."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from fcr_edge import key_files
    from fcr_edge.gallery import make_headquarters_keys

    secret = ask_passphrase("New passphrase", confirm=True) if passphrase else None
    if purpose is Purpose.receipts:
        typer.echo(key_files.write_pair(out, Ed25519PrivateKey.generate(), secret))
        return
    typer.echo(make_headquarters_keys(out, secret))
    note(f"give the .pub to field kits (--headquarters); keep {out} at headquarters, offline")
    if secret is None:
        warn(f"{out} is not locked by a passphrase: it opens every gallery made for it")


def _tell_locks(encrypted: bool, headquarters: Path | None) -> None:
    if encrypted and headquarters is None:
        note("no second key: once this one is lost, nothing opens the gallery (--headquarters)")

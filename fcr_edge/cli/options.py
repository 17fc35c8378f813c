"""The options that several commands share, and how their values are read."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcr_edge.cli.console import warn
from fcr_edge.errors import GalleryError

if TYPE_CHECKING:
    from fcr_edge.conditions import Conditions
    from fcr_edge.gallery import Among, Key

LONG_ENOUGH = 15
"""Characters of a passphrase that is the only thing in the way (NIST SP 800-63B-4, 3.1.1.2)."""


class DeviceChoice(str, Enum):
    """What shall run the networks."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    trt = "trt"
    openvino = "openvino"
    openvino_bf16 = "openvino-bf16"


class ViewChoice(str, Enum):
    """What a film shows."""

    frontal = "frontal"
    lateral = "lateral"


class SexChoice(str, Enum):
    """What an examiner may say of a skull's sex."""

    female = "female"
    male = "male"


XrayArgument = Annotated[Path, typer.Argument(help="Film of a skull, from the front or the side.")]


GalleryOption = Annotated[Path, typer.Option("--gallery", "-g", help="The gallery, e.g. db.bin.")]


BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", "-b", help="Folder of models (the one that fits)."),
]


UnsignedOption = Annotated[
    bool, typer.Option("--allow-unsigned", help="Take a bundle that nobody trusted has signed.")
]


DeviceOption = Annotated[DeviceChoice, typer.Option(help="What runs the networks.")]


SexOption = Annotated[
    SexChoice | None,
    typer.Option("--sex", help="Sex by examination, for a bundle that takes it; may mislead."),
]


AgeOption = Annotated[
    float | None, typer.Option("--age", help="Age by examination in years, likewise.")
]


BmiOption = Annotated[
    float | None, typer.Option("--bmi", help="Body mass index by examination in kg/m2, likewise.")
]


ForceOption = Annotated[
    bool, typer.Option("--force", help="Take a film that is refused, with a warning.")
]


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


KeyFileOption = Annotated[
    Path | None,
    typer.Option("--key-file", help="File of 32 bytes that locks the gallery, or headquarters'."),
]


PassphraseOption = Annotated[
    bool,
    typer.Option("--passphrase", help="Ask for the passphrase that locks the gallery."),
]


OnlySexOption = Annotated[
    SexChoice | None, typer.Option("--only-sex", help="Search people of this or unknown sex.")
]


OnlyAgeOption = Annotated[
    str | None,
    typer.Option("--only-age", help="Search who may have died at this age, e.g. 20-35."),
]


OnlyHeightOption = Annotated[
    str | None, typer.Option("--only-height", help="Search people of this height, e.g. 160-175.")
]


SinceOption = Annotated[
    str, typer.Option("--missing-since", help="Search people last seen then or later, e.g. 2019.")
]


UntilOption = Annotated[
    str, typer.Option("--missing-until", help="Search people last seen then or earlier.")
]


def read_among(
    sex: SexChoice | None, age: str | None, height: str | None, since: str, until: str
) -> Among:
    """Read whom a search is confined to. Raises GalleryError."""
    from fcr_edge.gallery import Among

    return Among(
        sex=sex.value if sex else None,
        age=read_span(age, "age"),
        height=read_span(height, "height"),
        since=since,
        until=until,
    )


def read_span(text: str | None, what: str) -> tuple[int, int] | None:
    """Read "20-35" or "20". Raises GalleryError."""
    if text is None:
        return None
    low, _, high = text.partition("-")
    if not low.strip().isdecimal() or not (high or low).strip().isdecimal():
        raise GalleryError(f"--only-{what} is {text!r}: write two numbers, as 20-35")
    return int(low), int(high or low)


def read_conditions(sex: SexChoice | None, age: float | None, bmi: float | None) -> Conditions:
    """Take what the examiner says of the person."""
    from fcr_edge.conditions import Conditions

    return Conditions(sex.value if sex else None, age, bmi)


PlainOption = Annotated[
    bool, typer.Option("--plain", help="Leave a new gallery readable by anyone.")
]


HeadquartersOption = Annotated[
    Path | None,
    typer.Option(
        "--headquarters", help="A public key (.pub) whose owner can open the gallery, too."
    ),
]


def read_key(key_file: Path | None, passphrase: bool) -> Key | None:
    """Read the key file, or ask for the passphrase; None where neither is asked for."""
    if key_file is not None and passphrase:
        raise GalleryError("--key-file and --passphrase were both given: use one")
    if key_file is not None:
        from fcr_edge.gallery import read_key_file

        return read_key_file(key_file, lambda: ask_passphrase(f"Passphrase of {key_file}"))
    return ask_passphrase() if passphrase else None


def read_new_key(key_file: Path | None, passphrase: bool, plain: bool) -> str | bytes | None:
    """Read what shall lock a gallery from now on; None only where `plain` asks for that."""
    if plain:
        if key_file is not None or passphrase:
            raise GalleryError("--plain and a key were both given: use one")
        return None
    if key_file is not None:
        key = read_key(key_file, passphrase)
        if not isinstance(key, bytes):
            raise GalleryError(
                f"{key_file} is headquarters' private key: give its .pub as --headquarters, and a"
                " passphrase or a key file of your own"
            )
        return key
    if not passphrase and not sys.stdin.isatty():
        raise GalleryError(
            "a new gallery is encrypted: give --passphrase (read from standard input here),"
            " --key-file, or --plain to leave its faces and names readable by anyone"
        )
    text = ask_passphrase("New passphrase", confirm=True)
    if len(text) < LONG_ENOUGH:
        warn(
            f"the passphrase has {len(text)} characters: NIST SP 800-63B asks for {LONG_ENOUGH}"
            " where nothing else protects"
        )
    return text


def ask_passphrase(prompt: str = "Passphrase", confirm: bool = False) -> str:
    """Ask at a terminal, without showing it; elsewhere take the next line of standard input."""
    if sys.stdin.isatty():
        text: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
        return text
    return sys.stdin.readline().rstrip("\r\n")

"""The options that several commands share, and how their values are read."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcr_edge.errors import GalleryError

if TYPE_CHECKING:
    from fcr_edge.conditions import Conditions


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
    Path | None, typer.Option("--key-file", help="File of 32 bytes that locks the gallery.")
]


PassphraseOption = Annotated[
    bool,
    typer.Option("--passphrase", help="Ask for the passphrase that locks the gallery."),
]


def read_conditions(sex: SexChoice | None, age: float | None, bmi: float | None) -> Conditions:
    """Take what the examiner says of the person."""
    from fcr_edge.conditions import Conditions

    return Conditions(sex.value if sex else None, age, bmi)


def read_key(key_file: Path | None, passphrase: bool, confirm: bool = False) -> str | bytes | None:
    """Read the key file, or ask for the passphrase; None where neither is asked for."""
    if key_file is not None and passphrase:
        raise GalleryError("--key-file and --passphrase were both given: use one")
    if key_file is not None:
        from fcr_edge.gallery.keys import read_key_file

        return read_key_file(key_file)
    if not passphrase:
        return None
    if sys.stdin.isatty():
        text: str = typer.prompt(
            "Passphrase", hide_input=True, confirmation_prompt=confirm, err=True
        )
        return text
    return sys.stdin.readline().rstrip("\r\n")

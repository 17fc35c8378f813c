"""The methods that translate a skull into a face, and how to load one that was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcr_edge.errors import DataError
from fcr_train.checkpoint import rebuild
from fcr_train.config import CONFIGS, StudentConfig, TranslatorConfig, parse
from fcr_train.networks import build_generator
from fcr_train.translators.cut import CUT
from fcr_train.translators.cyclegan import CycleGAN
from fcr_train.translators.identity import FaceIdentity
from fcr_train.translators.pix2pix import Pix2Pix
from fcr_train.translators.student import Student
from fcr_train.translators.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from fcr_train.checkpoint import Checkpoint
    from fcr_train.networks import AnyGenerator

__all__ = [
    "CUT",
    "STUDENT",
    "TRANSLATORS",
    "CycleGAN",
    "FaceIdentity",
    "Pix2Pix",
    "Student",
    "Translator",
    "load_encoder",
    "load_generator",
    "translator_config",
]

TRANSLATORS: dict[str, Callable[..., Translator]] = {
    "cyclegan": CycleGAN,
    "pix2pix": Pix2Pix,
    "cut": CUT,
    "fastcut": CUT,
}
"""FastCUT is CUT with other numbers: compare the presets `cut.toml` and `fastcut.toml`."""
STUDENT = "student"
"""What a translator is called that learned from another one."""


def load_generator(path: Path) -> tuple[AnyGenerator, Checkpoint]:
    """Rebuild a trained generator, ready to use: `forward(skull with its planes) -> face`.

    Raises DataError if the file is no translator's checkpoint.
    """

    def build(checkpoint: Checkpoint) -> AnyGenerator:
        config = translator_config(checkpoint)
        return build_generator(config.generator, 1 + 2 * len(config.conditions))

    return rebuild(path, "translator", (*TRANSLATORS, STUDENT), build)


def load_encoder(generator: nn.Module, path: Path) -> Checkpoint:
    """Start a generator's encoder, the half that reads the skull, from a trained generator's.

    Of the same architecture, size and conditions, by whichever method it was trained: CycleGAN
    calls a pretrained encoder optional. Returns where it came from. Raises DataError if it does
    not fit.
    """
    source, checkpoint = load_generator(path)
    try:
        if type(source) is not type(generator):
            raise RuntimeError(f"{type(source).__name__} is no {type(generator).__name__}")
        generator.get_submodule("encoder").load_state_dict(source.encoder.state_dict())
    except RuntimeError as err:
        raise DataError(
            f"the encoder of the {checkpoint.model} in {path} does not fit this generator: pass a"
            f" checkpoint of the same [generator] and conditions ({err})"
        ) from err
    return checkpoint


def translator_config(checkpoint: Checkpoint) -> TranslatorConfig:
    """Return the configuration that a translator was trained with."""
    kind = StudentConfig if checkpoint.model == STUDENT else CONFIGS[checkpoint.model]
    config = parse(kind, checkpoint.config)
    assert isinstance(config, TranslatorConfig), "load_generator has checked the kind"
    return config

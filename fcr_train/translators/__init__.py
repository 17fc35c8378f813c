"""The methods that translate a skull into a face, and how to load one that was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fcr_edge.errors import DataError
from fcr_train.checkpoint import load_checkpoint
from fcr_train.config import CONFIGS, TranslatorConfig, parse
from fcr_train.networks import ResnetGenerator
from fcr_train.translators.cut import CUT
from fcr_train.translators.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fcr_train.checkpoint import Checkpoint

__all__ = ["CUT", "TRANSLATORS", "Translator", "load_generator", "translator_config"]

TRANSLATORS: dict[str, Callable[[Any], Translator]] = {"cut": CUT, "fastcut": CUT}
"""FastCUT is CUT with other numbers: compare the presets `cut.toml` and `fastcut.toml`."""


def load_generator(path: Path) -> tuple[ResnetGenerator, Checkpoint]:
    """Rebuild a trained generator, ready to use: `forward(skull) -> face`.

    Raises DataError if the file is not a translator's checkpoint.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.kind != "translator" or checkpoint.model not in TRANSLATORS:
        raise DataError(
            f"{path} holds a {checkpoint.kind} {checkpoint.model!r}: pass a translator, one of"
            f" {', '.join(TRANSLATORS)}"
        )
    config = translator_config(checkpoint)
    generator = ResnetGenerator(config.generator.ngf, config.generator.blocks)
    try:
        generator.load_state_dict(checkpoint.tensors)
    except RuntimeError as err:
        raise DataError(f"the weights in {path} do not fit its configuration: {err}") from err
    return generator.eval(), checkpoint


def translator_config(checkpoint: Checkpoint) -> TranslatorConfig:
    """Return the configuration that a translator was trained with."""
    config = parse(CONFIGS[checkpoint.model], checkpoint.config)
    assert isinstance(config, TranslatorConfig), "load_generator has checked the kind"
    return config

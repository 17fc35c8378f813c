"""Soft-tissue suppression: a standard film becomes a skull, by a named and versioned recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import classical, imaging
from fcr_edge.errors import ConfigError, FilmError
from fcr_edge.manifest import LEARNED_RECIPE
from fcr_edge.sessions import open_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from jaxtyping import UInt8

    from fcr_edge.bundle import Bundle
    from fcr_edge.manifest import SuppressorEntry
    from fcr_edge.sessions import Device, Session, Tell

    Film = UInt8[np.ndarray, "h w 1"]

BONE_LEVEL = 16
"""Grey level from which on a pixel of a learned skull counts as skull, 0 to 255."""
LEAST_SKULL = 0.02
"""Share of the film that a skull covers at least; the smallest head on a film covers a tenth."""


@dataclass(frozen=True)
class Separation:
    """What a recipe made of a standard film."""

    recipe: str
    skull: Film
    """What a translator takes."""
    bone: Film | None = None
    """Bone alone, in proportion to how much of it a ray met; None without a network."""
    confidence: Film | None = None
    """0 to 255 for 0 to 1: near 1 where skull and bone can be relied on, 1/2 where the network
    expects them to be off by 8 grey levels; None without a network."""
    mean_confidence: float | None = None
    """Over the skull, 0 to 1; None without a network."""
    model_sha256: str | None = None
    """The network's, 64 hexadecimal digits."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suppressor:
    """A bundle's network that takes films apart, ready to run."""

    session: Session
    entry: SuppressorEntry

    def separate(self, film: Film) -> Separation:
        """Take a standard film apart by `learned-1`. Raises FilmError where no skull is left.

        The network was trained on simulated people. What it draws fainter than the bundle's floors
        goes black; nothing is added. Where the mean confidence over the skull is below the
        bundle's limit, a warning says so.
        """
        layers = self.session.run(imaging.to_tensor(film, self.entry.input))[0]
        drawn = clear_faint(imaging.to_picture(layers, self.entry.output), self.entry.floors)
        pictures = imaging.resize(drawn, film.shape[:2])
        skull, bone, confidence = (pictures[:, :, [channel]] for channel in range(3))
        mean = average_confidence(skull, confidence)
        if mean is None:
            raise FilmError("no skull stands out from the film: check exposure and polarity")
        return Separation(
            LEARNED_RECIPE,
            skull,
            bone,
            confidence,
            mean,
            self.session.describe().model_sha256,
            tuple(_warn_unsure(mean, self.entry.least_confidence)),
        )


def open_suppressor(
    bundle: Bundle, device: Device, stack: ExitStack, tell: Tell | None = None
) -> Suppressor | None:
    """Open a bundle's suppressor, to be closed by the stack; None where the bundle has none.

    Raises DeviceError where the device cannot be had.
    """
    entry = bundle.manifest.suppressor
    if entry is None:
        return None
    session = stack.enter_context(open_network(bundle, "suppressor", device, tell))
    return Suppressor(session, entry)


def separate(film: Film, recipe: str, suppressor: Suppressor | None = None) -> Separation:
    """Take a standard film apart by the named recipe; `learned-1` needs a suppressor.

    Raises ConfigError for an unknown recipe and FilmError where no bone stands out.
    """
    if recipe == LEARNED_RECIPE and suppressor is not None:
        return suppressor.separate(film)
    return Separation(recipe, remove(film, recipe))


def remove(film: Film, recipe: str) -> Film:
    """Turn a standard film into a skull by a recipe that needs no network.

    Raises ConfigError for an unknown recipe and FilmError where no bone stands out.
    """
    if recipe == LEARNED_RECIPE:
        raise ConfigError(
            f"soft-tissue recipe {recipe!r} needs a bundle with a suppressor: name one, or use one"
            f" of {list(RECIPES)}"
        )
    if recipe not in RECIPES:
        known = [*RECIPES, LEARNED_RECIPE]
        raise ConfigError(f"soft-tissue recipe {recipe!r} is unknown: use one of {known}")
    return RECIPES[recipe](film)


def clear_faint(
    layers: UInt8[np.ndarray, "h w 3"], floors: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """Blacken what is fainter than the floors of skull and bone: residue, not structure."""
    return np.where(layers < np.array([*floors, 0], np.uint8), np.uint8(0), layers)


def average_confidence(
    skull: UInt8[np.ndarray, "h w ..."], confidence: UInt8[np.ndarray, "h w ..."]
) -> float | None:
    """Average the confidence over the skull [0-1]; None where there is next to no skull."""
    inside = skull >= BONE_LEVEL
    if inside.mean() < LEAST_SKULL:
        return None
    return float(confidence[inside].mean() / 255)


def _warn_unsure(mean: float, least: float) -> list[str]:
    if mean >= least:
        return []
    return [
        f"the soft-tissue network is unsure of this film: its mean confidence over the skull is"
        f" {mean:.2f}, below {least:.2f}; compare the skull with the film (fcr-edge preprocess"
        " --keep-steps)"
    ]


def keep_all(film: Film) -> Film:
    """Leave the film as it is: for films whose soft tissue was removed by hand."""
    return film


RECIPES: dict[str, Callable[[Film], Film]] = {
    "none": keep_all,
    "classical-2": classical.cut_out,
    "classical-1": classical.lift_bone,
}

"""Soft-tissue suppression: a standard film becomes a skull, by a named and versioned recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import imaging
from fcr_edge.errors import ConfigError, FilmError
from fcr_edge.manifest import LEARNED_RECIPE
from fcr_edge.sessions import open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from jaxtyping import Float32, UInt8

    from fcr_edge.bundle import Bundle
    from fcr_edge.manifest import SuppressorEntry
    from fcr_edge.sessions import Device, Session

    Film = UInt8[np.ndarray, "h w 1"]
    Levels = Float32[np.ndarray, "h w"]

BONE_LEVEL = 16
"""Grey level from which on a pixel of a learned skull counts as skull, 0 to 255."""
LEAST_SKULL = 0.02
"""Share of the film that a skull covers at least; the smallest head on a film covers a tenth."""

# The numbers of classical-1, found by eye on real lateral films; a change makes a new recipe.
LAYER_WIDTH = 33 / 256
"""Structures narrower than this share of the side may be bone: 36 mm on a 281 mm field."""
FLOOR = 0.025
"""Grey level, as a share of 255, below which structure is taken for soft tissue."""
BRIDGE = 9 / 256
"""Gap between pieces of one skull, as a share of the side."""
CLOSING = 21 / 256
"""Gap in the outline of a skull that is closed, as a share of the side."""
MARGIN = 5 / 256
"""What a closed outline reaches beyond the bone, as a share of the side."""
PIECE = 0.1
"""Least area of a piece that belongs to the skull, as a share of the largest's."""
GAMMA = 0.7
"""Exponent that lifts thin bone, applied to levels in [0, 1]."""


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


def open_suppressor(bundle: Bundle, device: Device, stack: ExitStack) -> Suppressor | None:
    """Open a bundle's suppressor, to be closed by the stack; None where the bundle has none.

    Raises DeviceError where the device cannot be had.
    """
    entry = bundle.manifest.suppressor
    if entry is None:
        return None
    session = stack.enter_context(open_session(bundle.model_bytes("suppressor"), device))
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


def remove_classical_1(film: Film) -> Film:
    """Cut the skull out along its outline and lift its bone out of the smooth layer behind.

    Soft tissue attenuates little and changes slowly, cortical bone is narrow and bright: so a grey
    opening by a disc wider than any cortex is taken for the soft layer, and its rest (the top-hat
    transform; Serra 1982) for bone. The large pieces of bone, their gaps closed and holes filled,
    are the skull; all outside goes black, as where somebody cuts a film by hand. Inside, film and
    bone count half each: soft tissue in front of and behind bone stays in the film's half, and
    thick soft edges such as lips may leave a faint trace.
    """
    levels = film[:, :, 0].astype(np.float32) / 255
    side = max(levels.shape)
    inside = _exposed_area(levels)
    skull = np.zeros_like(levels)
    skull[inside] = _cut_out(levels[inside], side)
    return np.rint(skull * 255).astype(np.uint8)[:, :, None]


def _exposed_area(levels: Levels) -> tuple[slice, slice]:
    """Bound the exposed rows and columns, so that a black margin is no edge of anything."""
    exposed = levels > 8 / 255
    rows, columns = np.flatnonzero(exposed.any(axis=1)), np.flatnonzero(exposed.any(axis=0))
    if len(rows) == 0:
        raise FilmError("the film is black: check the exposure, or that the right file was given")
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _subtract_soft_layer(levels: Levels, side: int) -> Levels:
    width = max(3, round(LAYER_WIDTH * side))
    padded = np.pad(levels, width, mode="edge")
    layer = imaging.blur(imaging.open_bright(padded, width), width / 6)
    rest: Levels = levels - layer[width:-width, width:-width] - np.float32(FLOOR)
    return rest.clip(0)


def _cut_out(levels: Levels, side: int) -> Levels:
    bone = _subtract_soft_layer(levels, side)
    region = _outline_skull(bone, levels, side)
    film_half = _stretch(levels, *np.percentile(levels[region], (2, 99)))
    bone_half = _stretch(bone, 0, np.percentile(bone[bone > FLOOR], 97)) ** GAMMA
    return imaging.blur(region.astype(np.float32), 1.5) * (film_half + bone_half) / 2


def _outline_skull(bone: Levels, levels: Levels, side: int) -> imaging.Mask:
    """Find the region of the large pieces of bone, without labels, markers and loose pieces."""
    solid = imaging.open_bright((bone > FLOOR).astype(np.float32), 3) > 0
    if not solid.any():
        raise FilmError("no bone stands out from the film: check exposure and polarity")
    pieces = imaging.keep_large_regions(imaging.dilate(solid, round(BRIDGE * side)), PIECE)
    # A vault that the film cuts off is closed by the film's edge, where it is as bright as bone.
    edge = np.ones_like(pieces)
    edge[4:-4, 4:-4] = False
    pieces |= edge & (levels > np.percentile(levels[pieces], 25))
    closed = imaging.erode(imaging.dilate(pieces, round(CLOSING * side)), round(CLOSING * side))
    region = imaging.erode(imaging.fill_holes(closed), round(MARGIN * side))
    return imaging.keep_large_regions(region, PIECE)


def _stretch(levels: Levels, low: float, high: float) -> Levels:
    return ((levels - np.float32(low)) / np.float32(max(high - low, 1e-6))).clip(0, 1)


RECIPES: dict[str, Callable[[Film], Film]] = {
    "none": keep_all,
    "classical-1": remove_classical_1,
}

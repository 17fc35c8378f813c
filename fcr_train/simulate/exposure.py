"""From line integrals to films: scatter, noise, blur, development, and what a unit leaves on it.

The tone curve and the detail were set by eye beside digitised cephalograms; all ranges are
assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from fcr_edge import imaging
from fcr_train.simulate.radiograph import FIELD_MM

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, UInt8, UInt16

    Picture = Float64[np.ndarray, "h w"]

HEAD_LEVEL = 0.25
"""A line integral above this belongs to the head: about 1 cm of soft tissue."""
BONE_FULL = 3.0
"""Line integral of bone that is shown white; metal and the densest petrous rays exceed it."""
LIGHT_FLOOR = 2e-5
SCATTER_MM = 24.0
"""Scattered light follows the head's mean density over this reach (sd)."""
FINE_MM, COARSE_MM = 2.5, 13.0
"""Scales of detail that development lifts, as digital units and film scanners do (sd)."""
BONE_EDGE = 0.08
"""Line integral at which an examiner would still trace bone."""
CLOSING_MM = 9.0
"""Gaps between bones that a traced outline bridges."""


@dataclass(frozen=True)
class Exposure:
    """How one film is exposed and developed."""

    scatter: float
    """Scattered to primary light behind the grid."""
    photons: float
    """Quanta a pixel of 1.1 mm receives without a head in between."""
    blur_mm: float
    """Focal spot, movement and detector together (sd)."""
    toe: float
    """Line integral that still comes out black."""
    gamma: float
    """Tone curve: power of the density."""
    fine: float
    coarse: float
    """Shares of fine and coarse detail added."""
    white: float
    """Percentile inside the head that is shown white."""
    print_gamma: float
    """Power applied to the level shown."""
    collimation: tuple[float, float, float, float]
    """Black borders at left, top, right and bottom, as shares of the side [0-1]."""
    marker: str
    """Lead letter beside the head: "L", "R", or none."""
    marker_place: tuple[float, float]
    """Column and row of the letter, as shares of the side inside the collimation [0-1]."""


STANDARD = Exposure(
    scatter=0.4,
    photons=2e5,
    blur_mm=0.4,
    toe=0.14,
    gamma=0.62,
    fine=0.9,
    coarse=1.0,
    white=98.7,
    print_gamma=1.4,
    collimation=(0.0, 0.0, 0.0, 0.0),
    marker="",
    marker_place=(0.0, 0.0),
)
"""The middle of what `draw_exposure` draws, without borders and letter."""


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Draw how a film is made; every range is an assumption."""
    narrow = rng.random() < 0.45
    borders = rng.uniform(0.01, 0.06, 4) * (rng.random(4) < 0.75) * narrow
    letter = str(rng.choice(["L", "R", ""], p=[0.4, 0.3, 0.3]))
    # The letter names the side it lies on; the subject's left is at image right on frontal films.
    across = rng.uniform(0.85, 0.97) if letter == "L" else rng.uniform(0.03, 0.15)
    return Exposure(
        scatter=float(rng.uniform(0.2, 0.6)),
        photons=float(np.exp(rng.uniform(np.log(8e4), np.log(5e5)))),
        blur_mm=float(rng.uniform(0.2, 0.7)),
        toe=float(rng.uniform(0.08, 0.2)),
        gamma=float(rng.uniform(0.52, 0.72)),
        fine=float(rng.uniform(0.5, 1.4)),
        coarse=float(rng.uniform(0.4, 1.7)),
        white=float(rng.uniform(97.5, 99.6)),
        print_gamma=float(rng.uniform(1.05, 1.8)),
        collimation=(float(borders[0]), float(borders[1]), float(borders[2]), float(borders[3])),
        marker=letter,
        marker_place=(float(across), float(rng.uniform(0.05, 0.2))),
    )


def expose(attenuation: Picture, exposure: Exposure, rng: np.random.Generator) -> Picture:
    """Expose a film to the light that line integrals let through; give its optical density.

    Scattered light stands in proportion to the local mean of the primary light, which lowers
    contrast by 1 + scatter; scatter does not come from beside the head. `rng` draws the quanta.
    """
    pixel_mm = FIELD_MM / len(attenuation)
    mean = ndimage.gaussian_filter(attenuation, SCATTER_MM / pixel_mm)
    light = (np.exp(-attenuation) + exposure.scatter * np.exp(-mean)) / (1 + exposure.scatter)
    light = ndimage.gaussian_filter(light, exposure.blur_mm / pixel_mm)
    photons = exposure.photons * (pixel_mm / 1.1) ** 2
    light = light + np.sqrt(light / photons) * rng.standard_normal(light.shape)
    return np.asarray(-np.log(np.maximum(light, LIGHT_FLOOR)))


def develop(density: Picture, exposure: Exposure) -> Picture:
    """Turn density into levels from 0 black to 1 white, detail lifted, dense bone saturated."""
    pixel_mm = FIELD_MM / len(density)
    inside = density > HEAD_LEVEL
    tone = np.maximum(density - exposure.toe, 0) ** exposure.gamma
    tone = (
        tone
        + exposure.fine * (tone - ndimage.gaussian_filter(tone, FINE_MM / pixel_mm))
        + exposure.coarse * (tone - ndimage.gaussian_filter(tone, COARSE_MM / pixel_mm))
    )
    white = np.percentile(tone[inside], exposure.white) if inside.any() else 1.0
    return np.asarray(np.clip(tone / max(white, 1e-3), 0, 1) ** exposure.print_gamma)


def trace_bone(bone: Picture) -> Picture:
    """Give the mask of what an examiner would keep: the skull's filled outline, soft at its edge.

    `bone` are line integrals. Bones closer together than CLOSING_MM are traced as one.
    """
    pixel_mm = FIELD_MM / len(bone)
    reach = max(1, round(CLOSING_MM / 2 / pixel_mm))
    wide = np.pad(bone > BONE_EDGE, reach, mode="edge")
    closed = ndimage.binary_closing(wide, ndimage.generate_binary_structure(2, 1), reach)
    filled = ndimage.binary_fill_holes(closed[reach:-reach, reach:-reach])
    return np.asarray(ndimage.gaussian_filter(largest(filled).astype(float), 1.1 / pixel_mm))


def largest(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Keep the largest connected part of a mask; an empty mask stays empty."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return np.asarray(parts > 0)
    return np.asarray(parts == 1 + np.bincount(parts.ravel())[1:].argmax())


def show_bone(bone: Picture) -> Picture:
    """Show bone's line integrals in proportion: 0 is none, 1 is BONE_FULL and more."""
    return np.asarray(np.clip(bone / BONE_FULL, 0, 1))


def finish(level: Picture, exposure: Exposure) -> Picture:
    """Close the collimator's borders and lay the lead letter on the film."""
    size = len(level)
    left, top, right, bottom = (round(share * size) for share in exposure.collimation)
    finished = np.zeros_like(level)
    open_field = (slice(top, size - bottom), slice(left, size - right))
    finished[open_field] = level[open_field]
    if exposure.marker:
        letter = write_letter(exposure.marker, size)
        height, width = letter.shape
        across, down = exposure.marker_place
        row, column = (
            top + round(down * (size - top - height)),
            left + round(across * (size - left - right - width)),
        )
        place = (slice(row, row + height), slice(column, column + width))
        finished[place] = np.maximum(finished[place], 0.95 * letter)
    return finished


def write_letter(letter: str, size: int) -> Picture:
    """Draw a letter of lead about 13 mm high, 1 where it absorbs."""
    side = 64
    canvas = np.zeros((side, side, 3), np.uint8)
    imaging.draw_text(canvas, letter, (54, 10), (255, 255, 255), 2.0)
    bold = ndimage.gaussian_filter(canvas[..., 0].astype(float), 1.5) / 255
    target = max(6, round(17 / FIELD_MM * size))
    zoom = target / side
    return np.asarray(np.clip(1.8 * ndimage.zoom(bold, zoom, order=1), 0, 1))


@dataclass(frozen=True)
class Handling:
    """What a unit or a scanner does to a film before anybody reads it."""

    turn_degrees: float
    """Of the film on the scanner, counter-clockwise."""
    inverted: bool
    """Bone dark on bright, as DICOM's MONOCHROME1 shown without its flag."""
    fog: float
    """Level of the unexposed film [0-1]."""
    gradient: tuple[float, float]
    """Change of level from left to right and from top to bottom: heel effect, uneven light."""
    tabs: bool
    """White notches at the upper and lower edge."""
    ruler: bool
    """Scale and rest of a head holder in front of the forehead."""
    frame: float
    """Level of the scanner's bed around a turned film [0-1]."""


def draw_handling(rng: np.random.Generator) -> Handling:
    """Draw how a film is handled; every range is an assumption."""
    across, down = rng.uniform(-0.15, 0.15, 2).tolist()
    return Handling(
        turn_degrees=float(rng.uniform(-8, 8)),
        inverted=bool(rng.random() < 0.3),
        fog=float(rng.uniform(0, 0.18)),
        gradient=(across, down),
        tabs=bool(rng.random() < 0.4),
        ruler=bool(rng.random() < 0.4),
        frame=float(rng.choice([0.0, 1.0])),
    )


def handle(level: Picture, handling: Handling) -> Picture:
    """Give the film as it may arrive: fogged, uneven, with fittings, turned, perhaps inverted."""
    size = len(level)
    axis = np.linspace(-0.5, 0.5, size)
    across, down = handling.gradient
    film = handling.fog + (1 - handling.fog) * level
    film = np.clip(film * (1 + across * axis[None] + down * axis[:, None]), 0, 1)
    film = add_fittings(film, handling)
    if handling.turn_degrees:
        film = ndimage.rotate(
            film, handling.turn_degrees, reshape=False, order=1, cval=handling.frame
        )
    return np.asarray(1 - film if handling.inverted else film)


def add_fittings(film: Picture, handling: Handling) -> Picture:
    """Draw the notches and the head holder's scale: metal and plastic, brighter than the film."""
    size = len(film)
    fitted = film.copy()
    if handling.tabs:
        depth, width = max(1, size // 40), size // 16
        for share in (0.22, 0.5, 0.78):
            column = round(share * size) - width // 2
            fitted[:depth, column : column + width] = 1
            fitted[-depth:, column : column + width] = 1
    if handling.ruler:
        column, width = round(0.88 * size), max(2, size // 64)
        rod = slice(0, round(0.42 * size))
        fitted[rod, column : column + width] += 0.25
        step = max(2, round(5 / FIELD_MM * size))
        fitted[rod, column : column + width][::step] += 0.45
        foot = slice(round(0.39 * size), round(0.42 * size))
        fitted[foot, column - size // 20 : column + width] += 0.2
    return np.asarray(np.clip(fitted, 0, 1))


def encode(level: Picture, bits: int = 8) -> UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]:
    """Round levels [0-1] to 8 or 16 bits."""
    top = (1 << bits) - 1
    rounded = np.round(top * np.clip(level, 0, 1))
    return np.asarray(rounded, np.uint8 if bits == 8 else np.uint16)

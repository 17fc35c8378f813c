"""What the skull does not tell: skin, hair, beard, brows and eyes of a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64

    from fcr_train.simulate.population import Person

    Colour = Float64[np.ndarray, "3"]

FAIR = np.array([0.93, 0.74, 0.63])
DARK = np.array([0.36, 0.22, 0.15])
"""Reflectance of the fairest and the darkest skin, linear RGB [0-1]."""
BLACK_HAIR = np.array([0.030, 0.024, 0.020])
FAIR_HAIR = np.array([0.62, 0.45, 0.25])
BROWN_IRIS = np.array([0.16, 0.085, 0.045])
LIGHT_IRISES = np.array([[0.30, 0.42, 0.52], [0.28, 0.36, 0.26], [0.38, 0.30, 0.17]])
"""Blue, green and hazel."""
LIGHT_IRIS_MELANIN = 0.35
"""Skin above this melanin has brown eyes."""


@dataclass(frozen=True)
class HairStyle:
    """Where hair grows and how far it stands off the head [mm]."""

    hairline: float
    """Height of the hairline above the eyes in the middle."""
    top: float
    side: float
    """Thickness on the crown and above the ears."""
    length: float
    """How far below the eyes long hair reaches; 0 for short hair."""
    front: float
    """Azimuth at which long hair begins, from straight ahead [degrees]."""
    body: float
    """How far long hair stands off the head."""
    fringe: float
    """How far below the hairline a fringe reaches; 0 for none."""


@dataclass(frozen=True)
class Beard:
    """Facial hair: `density` 0 to 1, over the whole beard area or around the mouth only."""

    density: float
    around_mouth_only: bool
    stubble: float
    """Darkening of shaved skin [0-1]."""


@dataclass(frozen=True)
class Look:
    """A person's looks; the same in every portrait. Colours are linear RGB [0-1]."""

    skin: Colour
    melanin: float
    """0 fair to 1 dark."""
    redness: float
    lips: Colour
    hair: Colour
    iris: Colour
    pupil_mm: float
    brow_height: float
    """Raise of the brows [mm]."""
    brow_thickness: float
    brow_density: float
    freckles: float
    style: HairStyle
    beard: Beard


def draw_look(person: Person, rng: np.random.Generator) -> Look:
    """Draw a person's looks; colours of skin, hair and eyes go together. All assumptions."""
    african, asian, _ = person.macro.ancestry
    male = person.is_male
    melanin = float(np.clip(0.75 * rng.beta(1.5, 2.2) + 0.35 * african + 0.05 * asian, 0, 1))
    skin = skin_colour(melanin, rng)
    # Fair hair needs fair skin, so that colours go together.
    fairness = rng.beta(1.2, 2.5) * max(0.0, 1 - 0.9 * african - 0.8 * asian - 0.5 * melanin)
    hair = BLACK_HAIR + (FAIR_HAIR - BLACK_HAIR) * float(np.clip(fairness + 0.02, 0, 1))
    light_iris = melanin < LIGHT_IRIS_MELANIN and fairness > 0.22 and rng.random() < 0.7
    light = LIGHT_IRISES[rng.integers(len(LIGHT_IRISES))]
    iris = light if light_iris else BROWN_IRIS * rng.uniform(0.6, 1.5)
    red = rng.uniform(0.0, 1.0) if male else rng.uniform(0.5, 1.5)
    return Look(
        skin=skin,
        melanin=melanin,
        redness=float(np.clip(rng.normal(0.13, 0.05), 0, 0.3)),
        lips=lip_colour(red),
        hair=hair,
        iris=iris,
        pupil_mm=float(rng.uniform(1.5, 2.3)),
        brow_height=float(rng.normal(-0.4 if male else 1.2, 0.8)),
        brow_thickness=float(np.clip(rng.normal(1.15 if male else 0.72, 0.15), 0.45, 1.6)),
        brow_density=float(np.clip(rng.normal(0.85 if male else 0.72, 0.1), 0.4, 1)),
        freckles=float(max(0.0, rng.normal(-0.2, 0.4))) * (1 - melanin),
        style=draw_style(male, rng),
        beard=draw_beard(male, rng),
    )


def skin_colour(melanin: float, rng: np.random.Generator) -> Colour:
    """Give the colour of skin, warmest at medium tones, a little paler, redder or yellower."""
    warmth = 4 * melanin * (1 - melanin) * np.array([0.03, 0.0, -0.07])
    tone = 1 + np.array([0.02, 0.012, 0.025]) * rng.normal(size=3)
    return ((1 - melanin) * FAIR + melanin * DARK) * (1 + warmth) * tone


def lip_colour(red: float) -> Colour:
    """Give the colour of lips relative to the skin's; `red` 0 pale to 1.5 made up."""
    return np.array([0.88 - 0.02 * red, 0.70 - 0.13 * red, 0.70 - 0.11 * red])


def draw_style(male: bool, rng: np.random.Generator) -> HairStyle:
    """Draw a hair style: mostly short for men, mostly long for women."""
    long = bool(rng.random() < (0.06 if male else 0.78))
    behind_ears = bool(rng.random() < 0.35)
    fringe = 0.0 if male or rng.random() > 0.25 else float(rng.uniform(12, 28))
    return HairStyle(
        hairline=float(np.clip(rng.normal(64 if male else 60, 5), 50, 76)),
        top=float(rng.uniform(4, 13) if male else rng.uniform(7, 14)),
        side=float(rng.uniform(1.5, 7) if male else rng.uniform(4, 9)),
        length=float(rng.uniform(70, 210)) if long else 0.0,
        front=float(rng.uniform(112, 122) if behind_ears else rng.uniform(58, 74)),
        body=float(rng.uniform(3, 10)),
        fringe=fringe,
    )


def draw_beard(male: bool, rng: np.random.Generator) -> Beard:
    """Draw facial hair: none, stubble, around the mouth, or full."""
    kind, density, mouth = rng.random(3)
    if not male or kind < 0.6:
        return Beard(0.0, False, float(0.22 * density) if male else 0.0)
    return Beard(float(0.35 + 0.55 * density), bool(mouth < 0.35), 0.15)

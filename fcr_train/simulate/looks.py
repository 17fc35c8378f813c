"""What the skull does not tell: skin, hair, beard, brows and eyes of a person."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32

    from fcr_train.simulate.population import Person
    from fcr_train.simulate.scene import Scene

    Colour = Float32[np.ndarray, "3"]

Flow = Literal["down", "part", "back"]
"""How hair is combed: down from the crown, to both sides of a parting, or backwards."""
Tail = Literal["none", "tail", "bun"]
"""What becomes of hair that is tied back."""

DISPLAY_GAMMA = 2.2
"""Pictures are encoded with this exponent, colours are given as they look on a screen."""


def linear(*colours: tuple[float, float, float]) -> Float32[np.ndarray, "n 3"]:
    """Turn colours as shown on a screen [0-255] into linear reflectance [0-1]."""
    return ((np.array(colours) / 255) ** DISPLAY_GAMMA).astype(np.float32)


SKIN_STEPS = (0.0, 0.25, 0.45, 0.65, 0.85, 1.0)
SKINS = linear(
    (240, 208, 190), (226, 187, 161), (200, 151, 118), (156, 107, 78), (110, 73, 54), (76, 51, 41)
)
"""Skin at each step of melanin [0-1]."""
HAIR_STEPS = (0.0, 0.2, 0.45, 0.7, 1.0)
HAIRS = linear((30, 25, 23), (54, 40, 32), (94, 68, 48), (142, 106, 72), (198, 164, 114))
"""Hair from black to blond."""
RED_HAIR = linear((142, 72, 40))[0]
GREY_HAIR = linear((168, 166, 164))[0]
IRIS_STEPS = (0.0, 0.4, 0.6, 0.8, 1.0)
IRISES = linear((58, 36, 24), (92, 60, 36), (118, 92, 52), (104, 116, 88), (120, 146, 164))
"""Iris from dark brown over hazel and green to blue."""
LIGHT_IRIS = 0.5
"""Irises above this lightness count as light."""
LIGHT_IRIS_MELANIN = 0.35
"""Skin above this melanin has brown eyes."""


def between(steps: tuple[float, ...], colours: Float32[np.ndarray, "n 3"], at: float) -> Colour:
    """Interpolate a scale of colours."""
    return np.array([np.interp(at, steps, colours[:, k]) for k in range(3)], np.float32)


@dataclass(frozen=True)
class HairStyle:
    """Where hair grows, how it is combed, and how far it stands off the head [mm]."""

    hairline: float = 60.0
    """Height of the hairline above the eyes in the middle."""
    recession: float = 0.0
    """How far the hairline has gone back at the temples."""
    top: float = 8.0
    side: float = 4.0
    """Thickness on the crown and above the ears."""
    fringe: float = 0.0
    """How far below the hairline a fringe reaches; 0 for none."""
    length: float = 0.0
    """How far below the eyes long hair reaches; 0 for short hair."""
    front: float = 70.0
    """Azimuth at which long hair begins, from straight ahead [degrees]."""
    body: float = 4.0
    """How much farther long hair stands off the head."""
    flow: Flow = "down"
    part: float = 0.0
    """Where the parting is, to the left of the middle."""
    curl: float = 0.0
    """0 straight, about 0.5 wavy, 1 coily."""
    tail: Tail = "none"
    phase: float = 0.0
    """Makes the strands of two people differ."""

    @property
    def is_shaven(self) -> bool:
        """Tell hair so short that it has no thickness."""
        return self.top < 1.5

    @property
    def is_short(self) -> bool:
        """Tell hair too short to lie in long strands."""
        return self.top < 6 and self.length == 0 and self.tail == "none"


@dataclass(frozen=True)
class Beard:
    """Facial hair: how dense it is on cheeks and jaw, on the chin, and above the lip [0-1]."""

    cheeks: float = 0.0
    chin: float = 0.0
    lip: float = 0.0
    stubble: float = 0.0
    """Darkening of shaved skin."""


@dataclass(frozen=True)
class Look:
    """A person's looks on one day. Colours are linear RGB [0-1]."""

    male: bool
    skin: Colour
    melanin: float
    """0 fair to 1 dark."""
    redness: float
    lips: Colour
    """Relative to the skin."""
    hair: Colour
    brows: Colour
    iris: Colour
    iris_lightness: float
    """0 dark brown to 1 blue."""
    pupil_mm: float
    brow_height: float
    """Raise of the brows [mm]."""
    brow_arch: float
    """How much higher a brow is in its outer third than at its ends [mm]."""
    brow_thickness: float
    brow_density: float
    lashes: float
    """Darkness of the lashes [0-1]."""
    freckles: float
    moles: tuple[tuple[float, float, float], ...]
    """Place on the reference face, left and up from between the eyes, and radius [mm]."""
    lines: float
    """How deep lines and folds of the skin are, about 0.2 at 20 years and 0.5 at 40."""
    roughness: float
    """Unevenness of the skin's tone, about 1."""
    grey_from: float
    """Age at which hair begins to turn grey [years]."""
    age: float
    curl: float
    """Natural curl of the hair, as HairStyle.curl."""
    style: HairStyle
    beard: Beard


def draw_look(person: Person, rng: np.random.Generator) -> Look:
    """Draw a person's looks; colours of skin, hair and eyes go together. All assumptions."""
    african, asian, _ = person.macro.ancestry
    male = person.is_male
    melanin = float(np.clip(0.62 * rng.beta(1.5, 2.4) + 0.5 * african + 0.06 * asian, 0, 1))
    fairness = draw_fairness(melanin, african, asian, rng)
    lightness = draw_iris_lightness(melanin, fairness, rng)
    hair = draw_hair_colour(fairness, rng)
    curl = float(np.clip(rng.beta(1.2, 3.0) * (1 - 0.7 * asian) + 0.95 * african, 0, 1))
    red = rng.uniform(0.0, 0.7) if male else rng.uniform(0.5, 1.6)
    return Look(
        male=male,
        skin=skin_colour(melanin, rng),
        melanin=melanin,
        redness=float(np.clip(rng.normal(0.20 if male else 0.24, 0.07), 0, 0.5)),
        lips=lip_colour(red, melanin),
        hair=hair,
        brows=(0.6 * hair + 0.4 * np.minimum(hair, HAIRS[1])).astype(np.float32),
        iris=(between(IRIS_STEPS, IRISES, lightness) * rng.uniform(0.8, 1.25)).astype(np.float32),
        iris_lightness=lightness,
        pupil_mm=float(rng.uniform(1.5, 2.3)),
        brow_height=float(rng.normal(-0.8 if male else 1.6, 0.8)),
        brow_arch=float(rng.normal(1.6 if male else 3.4, 0.7)),
        brow_thickness=float(np.clip(rng.normal(1.2 if male else 0.82, 0.14), 0.5, 1.6)),
        brow_density=float(np.clip(rng.normal(0.88 if male else 0.74, 0.08), 0.4, 1)),
        lashes=float(rng.uniform(0.3, 0.55) if male else rng.uniform(0.7, 1.0)),
        freckles=float(max(0.0, rng.normal(-0.2, 0.4))) * (1 - melanin) ** 2,
        moles=draw_moles(rng),
        lines=float(np.clip(rng.normal(0.012 * (person.age - 5), 0.05), 0.05, 1)),
        roughness=float(np.clip(rng.normal(1.15 if male else 0.75, 0.2), 0.3, 2)),
        grey_from=float(rng.normal(38, 7)),
        age=person.age,
        curl=curl,
        style=draw_style(male, curl, person.age, rng),
        beard=draw_beard(male, rng),
    )


def draw_fairness(melanin: float, african: float, asian: float, rng: np.random.Generator) -> float:
    """Draw how fair the hair is, 0 black to 1 blond; fair hair needs fair skin."""
    room = max(0.0, 1 - 1.2 * african - 0.9 * asian - 0.9 * melanin)
    return float(np.clip(1.3 * rng.beta(1.4, 1.6) * room + 0.02, 0, 1))


def draw_iris_lightness(melanin: float, fairness: float, rng: np.random.Generator) -> float:
    """Draw the lightness of the iris: light only on light skin, likelier with light hair."""
    chance = np.clip((LIGHT_IRIS_MELANIN - melanin) / 0.15, 0, 1)
    chance *= np.clip((fairness - 0.1) / 0.35, 0, 1)
    light = rng.random() < 0.85 * chance
    return float(rng.uniform(LIGHT_IRIS, 1.0) if light else rng.beta(1.5, 2.5) * 0.48)


def draw_hair_colour(fairness: float, rng: np.random.Generator) -> Colour:
    """Draw the colour of hair, sometimes reddish where it is neither black nor blond."""
    red = 0.15 * rng.random() + 0.6 * (rng.random() < 0.06)
    red *= float(np.clip((fairness - 0.15) / 0.2, 0, 1) * np.clip((1 - fairness) / 0.3, 0, 1))
    colour = between(HAIR_STEPS, HAIRS, fairness)
    return np.asarray(((1 - red) * colour + red * RED_HAIR).astype(np.float32))


def skin_colour(melanin: float, rng: np.random.Generator) -> Colour:
    """Give the colour of skin, a little paler, redder or yellower than the mean of its tone."""
    pale, red, yellow = rng.normal(size=3)
    tone = 1 + 0.04 * pale + np.array([0.012, -0.018, -0.012]) * red
    tone = tone + np.array([0.005, 0.0, -0.035]) * yellow
    return np.asarray((between(SKIN_STEPS, SKINS, melanin) * tone).astype(np.float32))


def lip_colour(red: float, melanin: float) -> Colour:
    """Give the colour of lips relative to the skin's; `red` 0 pale to 1.6 made up."""
    pale = np.array([0.88 - 0.03 * red, 0.64 - 0.19 * red, 0.68 - 0.16 * red])
    return (pale + 0.12 * melanin * np.array([0.2, 1.0, 1.0])).astype(np.float32)


def draw_moles(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """Draw a few small moles anywhere on the face."""
    places = rng.uniform((-55, -105, 0.45), (55, 45, 1.1), (4, 3))
    return tuple((float(x), float(y), float(r)) for x, y, r in places[: rng.integers(0, 5)])


def draw_style(male: bool, curl: float, age: float, rng: np.random.Generator) -> HairStyle:
    """Draw a hair style: mostly short for men, mostly long for women."""
    style = draw_short_style(curl, age, rng) if male else draw_long_style(curl, rng)
    if male and rng.random() < 0.05:
        style = draw_long_style(curl, rng)
    return replace(style, phase=float(rng.uniform(0, 500)), curl=curl)


def draw_short_style(curl: float, age: float, rng: np.random.Generator) -> HairStyle:
    """Draw a short cut: shaven, cropped, combed down, parted, or swept back."""
    kind = rng.random()
    hairline = float(np.clip(rng.normal(62, 4), 54, 72))
    recession = float(np.clip(rng.normal(5 + 0.5 * (age - 22), 4), 1, 22))
    side = float(rng.uniform(1.6, 5))
    base = HairStyle(hairline=hairline, recession=recession, side=side)
    if kind < 0.10:
        return replace(base, top=1.0, side=1.0)
    if kind < 0.40 or curl > 0.75:
        coily = 9 * curl * (curl > 0.75)
        return replace(base, top=float(rng.uniform(2.5, 5.9 + coily)), side=side + 0.3 * coily)
    if kind < 0.52:
        fringe = float(rng.uniform(5, 18))
        return replace(base, top=float(rng.uniform(7, 12)), fringe=fringe, recession=0.0)
    if kind < 0.78:
        part = float(rng.choice([-1, 1]) * rng.uniform(22, 34))
        return replace(base, top=float(rng.uniform(7, 14)), flow="part", part=part)
    return replace(base, top=float(rng.uniform(9, 17)), flow="back")


def draw_long_style(curl: float, rng: np.random.Generator) -> HairStyle:
    """Draw a women's style: long, shoulder, bob, behind the ears, tied back, bun or short."""
    kind = rng.random()
    flow: Flow = "part" if rng.random() < 0.6 else "down"
    part = float(rng.choice([0.0, rng.uniform(-30, 30)]))
    base = HairStyle(
        hairline=float(np.clip(rng.normal(57, 3.5), 49, 66)),
        recession=float(rng.uniform(-2, 3)),
        top=float(rng.uniform(7, 11) + 5 * curl),
        side=float(rng.uniform(5, 8) + 4 * curl),
        fringe=float(rng.uniform(14, 30)) if rng.random() < 0.25 else 0.0,
        front=float(rng.uniform(60, 76)),
        body=float(rng.uniform(2, 7) + 12 * curl),
        flow=flow,
        part=part,
    )
    if curl > 0.75 and kind < 0.5:
        return replace(base, top=float(rng.uniform(8, 30)), side=float(rng.uniform(8, 26)))
    if kind < 0.24:
        return replace(base, length=float(rng.uniform(140, 210)))
    if kind < 0.42:
        return replace(base, length=float(rng.uniform(95, 140)))
    if kind < 0.56:
        return replace(base, length=float(rng.uniform(55, 90)), body=base.body + 4)
    if kind < 0.72:
        front = float(rng.uniform(112, 122))
        return replace(base, length=float(rng.uniform(100, 210)), front=front)
    if kind < 0.92:
        tied = replace(base, flow="back", top=0.6 * base.top, side=0.5 * base.side, fringe=0.0)
        if kind < 0.83 and curl < 0.7:
            return replace(tied, tail="tail", length=float(rng.uniform(80, 190)))
        return replace(tied, tail="bun")
    return replace(base, top=base.top + 2, side=base.side + 1)


def draw_beard(male: bool, rng: np.random.Generator) -> Beard:
    """Draw facial hair: none, stubble, moustache, goatee, or full."""
    kind, dense, shade = rng.random(3)
    if not male:
        return Beard()
    shaved = Beard(stubble=float(0.03 + 0.15 * shade))
    density = float(0.55 + 0.4 * dense)
    if kind < 0.5:
        return shaved
    if kind < 0.68:
        return Beard(0.3 * density, 0.4 * density, 0.36 * density, 0.2)
    if kind < 0.74:
        return replace(shaved, lip=density)
    if kind < 0.84:
        return replace(shaved, chin=density, lip=0.9 * density)
    return Beard(0.9 * density, density, density, 0.2)


def look_on_day(look: Look, scene: Scene, rng: np.random.Generator) -> Look:
    """Change a person's looks to those of another day: hair, beard, and `scene.years` more.

    Skin tone, irises, brows and moles stay.
    """
    age = look.age + scene.years
    style = draw_style(look.male, look.curl, age, rng) if rng.random() < 0.7 else look.style
    beard = draw_beard(look.male, rng) if rng.random() < 0.6 else look.beard
    # A hairline is the person's own and only ever goes back.
    style = replace(
        style,
        hairline=look.style.hairline + 0.2 * scene.years,
        recession=look.style.recession + 0.5 * scene.years * (style.recession > 0),
    )
    # Squared: a little grey already shows in dark hair.
    grey = float(np.clip((age - look.grey_from) / 30, 0, 0.9)) ** 2
    # Sun bleaches and warms hair, dye darkens it.
    tint = rng.uniform(0.8, 1.3) * (1 + rng.uniform(-1, 1) * np.array([0.06, 0.0, -0.06]))
    hair = (1 - grey) * look.hair * tint + grey * GREY_HAIR
    return replace(
        look,
        age=age,
        hair=hair.astype(np.float32),
        lines=float(min(1.0, look.lines + 0.015 * scene.years)),
        style=style,
        beard=beard,
    )

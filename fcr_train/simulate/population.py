"""The population: who the simulated people are, drawn from stated distributions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from fcr_train.simulate.head import Macro
from fcr_train.simulate.sliders import ASYMMETRIES, HEAD_SHAPES, Slider, read_sliders

if TYPE_CHECKING:
    from collections.abc import Iterator

Sex = Literal["female", "male"]
Stream = Literal["population", "depths", "films", "poses", "portraits", "traits", "exposure"]
STREAMS: tuple[Stream, ...] = (
    "population",
    "depths",
    "films",
    "poses",
    "portraits",
    "traits",
    "exposure",
)
"""Each person's random streams: a draw added to one leaves the others as they were."""

MEAN_BMI = 22.5
"""Body-mass index of the reference head and of the mean tissue depths [kg/m2; an assumption]."""
AGES = (18.0, 35.0)
"""Youngest and oldest person [years]."""
BMI_LIMITS = (17.0, 34.0)
SLIDER_SHARES = {
    "head": 0.6,
    "forehead": 0.6,
    "nose": 0.58,
    "mouth": 0.65,
    "chin": 0.85,
    "cheek": 0.8,
    "eye": 0.8,
}
"""Share of the table's sigma by part. With all of it, heads would vary more in size than those of
the soldiers of ANSUR II (US Army 2012), and noses and mouths more than looks plausible."""

NOSE_TIP = ("nose-base", "nose-curve", "nose-point", "nose-scale-depth", "nose-septumangle")
NOSE_TIP_SHARE = 2.0
"""What the sliders that carry the tip of the nose vary beyond that: a skull tells least of nose
tip and ears. Those of its shape do not, or it would become a beak or a bulb."""


@dataclass(frozen=True)
class Person:
    """The parameters of one simulated person. Lengths are ratios, weights as the targets'."""

    sex: Sex
    age: float
    bmi: float
    """Years; kg/m2."""
    macro: Macro
    size: float
    """Scale of the whole head, about 1."""
    head_shape: str
    head_shape_weight: float
    bone_density: float
    """Attenuation of bone relative to the mean, about 1."""
    midline: tuple[float, ...]
    """Values of the midline sliders in table order [-1..1]."""
    left: tuple[float, ...]
    right: tuple[float, ...]
    """Values of the paired sliders in table order [-1..1]."""
    asymmetry: tuple[float, ...]
    """Values of sliders.ASYMMETRIES [-1..1], positive to the left."""

    @property
    def is_male(self) -> bool:
        """Tell men from women."""
        return self.sex == "male"

    def row(self) -> dict[str, str]:
        """Give the person's columns of people.csv, in order."""
        african, asian, caucasian = self.macro.ancestry
        return {
            "sex": self.sex,
            "age": f"{self.age:.1f}",
            "bmi": f"{self.bmi:.2f}",
            "muscle": f"{self.macro.muscle:.3f}",
            "size": f"{self.size:.4f}",
            "bone_density": f"{self.bone_density:.3f}",
            "head_shape": self.head_shape,
            "mesh_african": f"{african:.3f}",
            "mesh_asian": f"{asian:.3f}",
            "mesh_caucasian": f"{caucasian:.3f}",
        }


def person_stream(seed: int, number: int, stream: Stream, *part: int) -> np.random.Generator:
    """Open a random stream of person `number`, independent of all other streams and people."""
    key = (number, STREAMS.index(stream), *part)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def draw_person(rng: np.random.Generator) -> Person:
    """Draw a person from the population. All distributions are assumptions, see the README."""
    male = bool(rng.random() < 0.5)
    sign = 1.0 if male else -1.0
    bmi = draw_between(rng, 22.8 + 0.6 * male, 2.9, *BMI_LIMITS)
    african, asian, caucasian = rng.dirichlet((0.45, 0.45, 0.9)).tolist()
    macro = Macro(
        male=float(np.clip(0.05 + 0.9 * male + rng.normal(0, 0.10), 0, 1)),
        ancestry=(african, asian, caucasian),
        muscle=float(np.clip(rng.normal(0.5, 0.15), 0, 1)),
        weight=macro_weight(bmi),
        age=float(rng.uniform(*AGES)),
    )
    left, right = draw_paired(rng, sign)
    return Person(
        sex="male" if male else "female",
        age=macro.age,
        bmi=bmi,
        macro=macro,
        size=float(rng.normal(1 + 0.012 * sign, 0.010)),
        head_shape=str(rng.choice(HEAD_SHAPES)),
        head_shape_weight=0.8 * float(rng.uniform(0, 0.7)),
        bone_density=draw_between(rng, 1.0, 0.07, 0.8, 1.2),
        midline=tuple(draw_midline(rng, sign)),
        left=left,
        right=right,
        asymmetry=tuple(np.clip(0.22 * rng.normal(size=len(ASYMMETRIES)), -1, 1).tolist()),
    )


def macro_weight(bmi: float) -> float:
    """Give the weight of the macro targets at a body-mass index [0-1]."""
    return float(np.clip(0.5 + (bmi - MEAN_BMI) / 30, 0, 1))


def on_day(person: Person, years: float, bmi_change: float) -> Person:
    """Give a person some years later and at another weight."""
    bmi = float(np.clip(person.bmi + bmi_change, *BMI_LIMITS))
    macro = replace(person.macro, age=person.age + years, weight=macro_weight(bmi))
    return replace(person, age=person.age + years, bmi=bmi, macro=macro)


def draw_between(
    rng: np.random.Generator, mean: float, sd: float, low: float, high: float
) -> float:
    """Draw from a normal distribution cut to low..high (values outside move to the limit)."""
    return float(np.clip(rng.normal(mean, sd), low, high))


def spread(slider: Slider) -> float:
    """Give the standard deviation of a slider's value before the limit."""
    part = slider.stem.split("-")[0]
    return 0.8 * slider.sigma * SLIDER_SHARES.get(part, 1.0)


def draw_midline(rng: np.random.Generator, sign: float) -> Iterator[float]:
    """Draw the midline sliders of a man (`sign` 1) or a woman (-1)."""
    for slider in read_sliders():
        if not slider.paired:
            own = rng.normal()
            if slider.stem in NOSE_TIP:
                own = NOSE_TIP_SHARE * np.clip(own, -2, 2)
            value = spread(slider) * (own + sign * slider.male_mean)
            yield float(np.clip(value, -1, 1))


def draw_paired(
    rng: np.random.Generator, sign: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Draw the paired sliders of a man (`sign` 1) or a woman (-1), both sides nearly alike."""
    paired = [slider for slider in read_sliders() if slider.paired]
    sigma = np.array([spread(slider) for slider in paired])
    common, difference = rng.normal(size=(2, len(paired)))
    common = common + sign * np.array([slider.male_mean for slider in paired])
    left = np.clip(sigma * (common + 0.2 * difference), -1, 1)
    right = np.clip(sigma * (common - 0.2 * difference), -1, 1)
    return tuple(left.tolist()), tuple(right.tolist())

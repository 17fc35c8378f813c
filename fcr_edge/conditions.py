"""What is known of a person beside the film, as planes that a conditioned translator takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float32

ATTRIBUTES = ("sex", "age", "bmi")
"""What a translator may be told, the factors of FACEGEN's reconstructions too."""

SEXES = {"female": -1.0, "male": 1.0}
AGE_CENTRE, AGE_SPAN = 45.0, 30.0
"""15 to 75 years are -1 to 1 [years]; older and younger people count as these."""
BMI_CENTRE, BMI_SPAN = 27.0, 12.0
"""15 to 39 kg/m2 are -1 to 1 [kg/m2]; beyond counts as these."""

ASTRAY = "a wrong sex or age leads the search astray"
"""Stands with every face that was made for a sex, an age or a body mass (Parks & Monson 2023:
faces built as of the other sex were found less often)."""


@dataclass(frozen=True)
class Conditions:
    """Sex, age and body mass index as an examiner estimates them; None where not known."""

    sex: str | None = None
    """`female` or `male`."""
    age: float | None = None
    """[years], 0 or more."""
    bmi: float | None = None
    """[kg/m2], above 0."""

    def __post_init__(self) -> None:
        if self.sex is not None and self.sex not in SEXES:
            raise ConfigError(f"sex is {self.sex!r}: choose female or male, or leave it out")
        if self.age is not None and not 0 <= self.age <= 130:
            raise ConfigError(f"age is {self.age:g}: give years from 0 to 130, or leave it out")
        if self.bmi is not None and not 5 <= self.bmi <= 100:
            raise ConfigError(f"bmi is {self.bmi:g}: give kg/m2 from 5 to 100, or leave it out")

    def __str__(self) -> str:
        """Say what is known in words.

        >>> str(Conditions(sex="female", age=34, bmi=24.5)), str(Conditions())
        ('female, 34 years, 24.5 kg/m2', 'nothing')
        """
        units = {"sex": "", "age": " years", "bmi": " kg/m2"}
        return ", ".join(_word(it) + units[name] for name, it in self.known.items()) or "nothing"

    @property
    def known(self) -> dict[str, str | float]:
        """What is known, by attribute."""
        values = {name: getattr(self, name) for name in ATTRIBUTES}
        return {name: value for name, value in values.items() if value is not None}

    def value(self, attribute: str) -> float | None:
        """Return an attribute as a number from -1 to 1, None where it is not known."""
        if attribute == "sex":
            return None if self.sex is None else SEXES[self.sex]
        if attribute == "age":
            return _scale(self.age, AGE_CENTRE, AGE_SPAN)
        return _scale(self.bmi, BMI_CENTRE, BMI_SPAN)

    def planes(
        self, attributes: Sequence[str], height: int, width: int
    ) -> Float32[np.ndarray, "p h w"]:
        """Return two constant planes an attribute: its value, and 1 where it is known.

        An unknown attribute is 0 in both, which is always a valid input.
        """
        planes = np.zeros((2 * len(attributes), height, width), np.float32)
        for place, attribute in enumerate(attributes):
            value = self.value(attribute)
            if value is not None:
                planes[2 * place], planes[2 * place + 1] = value, 1
        return planes


def describe_told(conditions: Conditions) -> str:
    """Say what an examiner has told, and what it does to a search where it is wrong."""
    return f"told by the examiner: {conditions}; {ASTRAY}"


def _word(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _scale(value: float | None, centre: float, span: float) -> float | None:
    return None if value is None else float(np.clip((value - centre) / span, -1, 1))

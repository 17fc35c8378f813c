"""The slider table: which targets vary, how much, and how far the bone follows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SLIDER_FILE = Path(__file__).parent / "reference" / "sliders.csv"
HEAD_SHAPES = (
    "oval",
    "round",
    "rectangular",
    "square",
    "triangular",
    "invertedtriangular",
    "diamond",
)
ASYMMETRIES = {
    "brown-1": 0.6,
    "cheek-1": 0.6,
    "jaw-1": 0.9,
    "jaw-2": 0.9,
    "nose-1": 0.5,
    "nose-2": 0.5,
    "temple-1": 0.9,
    "eye-1": 0.5,
    "mouth-1": 0.1,
    "top-1": 1.0,
}
"""Asymmetric targets with the share of each that the bone follows [0-1; an assumption]."""
EXPRESSIONS = (
    "mouth-corner-puller",
    "mouth-compression",
    "mouth-open",
    "eyebrows-left-up",
    "eyebrows-right-up",
    "eye-left-slit",
    "eye-right-slit",
)
"""Expressions of portraits; the skull and the films know nothing of them."""


@dataclass(frozen=True)
class Slider:
    """One row of the slider table: a pair of opposite targets."""

    stem: str
    negative: str
    positive: str
    """Suffixes of the two targets, as "decr" and "incr"."""
    paired: bool
    """True when the left and the right side have targets of their own."""
    sigma: float
    """Spread of the slider before the limit of 1."""
    bone_fraction: float
    """Share of the displacement that the bone follows [0-1; an assumption]."""
    male_mean: float
    """Mean for men in units of the spread; women have its negative [an assumption]."""

    @property
    def suffixes(self) -> tuple[str, str]:
        """Both suffixes, the negative one first."""
        return self.negative, self.positive

    def weights(self, value: float, side: str = "") -> dict[str, float]:
        """Turn a slider value in -1..1 into the weight of one of its two targets.

        >>> Slider("nose-hump", "decr", "incr", False, 0.4, 0.7, 0.0).weights(-0.5)
        {'nose-hump-decr': 0.5}
        """
        suffix = self.positive if value > 0 else self.negative
        return {f"{side}{self.stem}-{suffix}": abs(value)}


@cache
def read_sliders() -> tuple[Slider, ...]:
    """Read the slider table in its order: midline sliders, then paired ones."""
    with SLIDER_FILE.open(newline="", encoding="utf-8") as file:
        return tuple(
            Slider(
                stem=row["stem"],
                negative=row["negative"],
                positive=row["positive"],
                paired=row["paired"] == "yes",
                sigma=float(row["sigma"]),
                bone_fraction=float(row["bone_fraction"]),
                male_mean=float(row["male_mean"]),
            )
            for row in csv.DictReader(file)
        )

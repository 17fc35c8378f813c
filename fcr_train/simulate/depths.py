"""Soft-tissue depths at landmarks: the table, a person's draw, and its spread over the skin."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from fcr_train.simulate.population import MEAN_BMI, Person

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

DEPTH_FILE = Path(__file__).parent / "reference" / "depths.csv"
KERNEL_MM = 15.0
"""Reach of one landmark's depth over the skin, the sd of a Gaussian."""
KERNEL_FLOOR = 0.25
"""Keeps skin far from every landmark at the mean depth."""
RIDGE = 1e-3
CORRELATION_MM = 25.0
"""Distance over which depths vary together, the sd of a Gaussian [an assumption]. Independent
depths a few millimetres apart, as at the lips, would make the skin lumpy."""


@dataclass(frozen=True)
class DepthTable:
    """Landmarks on the reference head with their tissue depths; left, right and midline points."""

    names: tuple[str, ...]
    """One per point; a bilateral landmark has two points of the same name, left first."""
    position: Float64[np.ndarray, "l 3"]
    """On the reference head [mm]."""
    mean: Float64[np.ndarray, " l"]
    sex_diff: Float64[np.ndarray, " l"]
    """Men minus women [mm]."""
    beta_bmi: Float64[np.ndarray, " l"]
    """Millimetres per kg/m2."""
    sd: Float64[np.ndarray, " l"]
    landmark: Int64[np.ndarray, " l"]
    """Row of the table that a point belongs to."""

    def deviation(self, person: Person, rng: np.random.Generator) -> Float64[np.ndarray, " l"]:
        """Draw how far a person's depths differ from the mean [mm], the two sides alike.

        Sex, body-mass index and chance add up; the result stays within -55 % and +80 % of the
        mean. That body-mass index dominates and sex matters little follows De Greef et al. 2009
        (doi:10.1007/s12024-009-9085-9); the coefficients are assumptions.
        """
        own = (self._mixing() @ rng.normal(size=self.landmark.max() + 1))[self.landmark]
        chance = 0.6 * rng.normal() + 0.8 * own
        sex = 0.5 if person.is_male else -0.5
        deviation = sex * self.sex_diff + self.beta_bmi * (person.bmi - MEAN_BMI)
        deviation = deviation + 0.7 * self.sd * chance
        return np.asarray(np.clip(deviation, -0.55 * self.mean, 0.8 * self.mean))

    def _mixing(self) -> Float64[np.ndarray, "r r"]:
        """Give the matrix that turns independent draws into neighbours that vary together."""
        first = np.unique(self.landmark, return_index=True)[1]
        place = self.position[first]
        correlation = gaussian(place, place, CORRELATION_MM)
        return np.linalg.cholesky(correlation + 1e-6 * np.eye(len(place)))


def read_depths(path: Path = DEPTH_FILE) -> DepthTable:
    """Read a depth table; a row of side "both" stands for a left and a right point."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = [
        (k, row, side)
        for k, row in enumerate(rows)
        for side in ((1.0, -1.0) if row["side"] == "both" else (1.0,))
    ]

    def column(name: str) -> Float64[np.ndarray, " l"]:
        return np.array([float(row[name]) for _, row, _ in points])

    side = np.array([side for _, _, side in points])
    return DepthTable(
        names=tuple(row["landmark"] for _, row, _ in points),
        position=np.stack([side * column("x"), column("y"), column("z")], 1),
        mean=column("mean"),
        sex_diff=column("sex_diff"),
        beta_bmi=column("beta_bmi"),
        sd=column("sd"),
        landmark=np.array([k for k, _, _ in points]),
    )


def gaussian(
    points: Float64[np.ndarray, "n 3"], centres: Float64[np.ndarray, "l 3"], sd_mm: float
) -> Float64[np.ndarray, "n l"]:
    """Weigh each centre at each point, 1 at the centre itself."""
    return np.asarray(np.exp(cdist(points, centres, "sqeuclidean") / (-2 * sd_mm**2)))


class DepthField:
    """Spreads deviations at landmarks over the skin, nearly exact at the landmarks."""

    def __init__(
        self, points: Float64[np.ndarray, "n 3"], landmarks: Float64[np.ndarray, "l 3"]
    ) -> None:
        """Prepare the spread to `points`, both on the reference head [mm]."""
        self._over_skin = self._share(points, landmarks)
        self._at_landmarks = self._share(landmarks, landmarks)

    @staticmethod
    def _share(
        points: Float64[np.ndarray, "n 3"], landmarks: Float64[np.ndarray, "l 3"]
    ) -> Float64[np.ndarray, "n l"]:
        kernel = gaussian(points, landmarks, KERNEL_MM)
        return np.asarray(kernel / (kernel.sum(1, keepdims=True) + KERNEL_FLOOR))

    def spread(self, deviation: Float64[np.ndarray, " l"]) -> Float64[np.ndarray, " n"]:
        """Give the change of depth at every point [mm]."""
        system = self._at_landmarks + RIDGE * np.eye(len(deviation))
        return np.asarray(self._over_skin @ np.linalg.solve(system, deviation))

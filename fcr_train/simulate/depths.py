"""Soft-tissue depths at landmarks: the table, a person's draw, and its spread over the skin."""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from fcr_edge.errors import DataError
from fcr_train.simulate.population import MEAN_BMI, Person

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float64, Int64

DEPTH_FILE = Path(__file__).parent / "reference" / "depths.csv"
NUMBERS = ("x", "y", "z", "mean", "sex_diff", "beta_bmi", "sd")
COLUMNS = ("landmark", "side", *NUMBERS, "n", "source", "status")
SIDES = ("midline", "both")
LEAST = {"mean": 0.5, "sd": 0.0}
"""Smallest values of columns [mm]; skin thinner than half a millimetre is no skin."""
KERNEL_MM = 15.0
"""Reach of one landmark's depth over the skin, the sd of a Gaussian."""
KERNEL_FLOOR = 0.25
"""Keeps skin far from every landmark at the mean depth."""
RIDGE = 1e-3
SMALLEST_SHARE = 0.4
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
    status: Mapping[str, int]
    """How many rows rest on what: measured, recalled, assumed. Say it beside every result."""

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
    """Read a depth table; a row of side "both" stands for a left and a right point.

    Any table with COLUMNS will do. Raises DataError naming the line that cannot be used.
    """
    rows = read_rows(path)
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
        status=dict(Counter(row["status"] for row in rows)),
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read and check the rows of a depth table."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        cause = err.strerror if isinstance(err, OSError) else err
        raise DataError(f"{path} cannot be read ({cause}): give a CSV table in UTF-8") from err
    if missing:
        raise DataError(f"{path} lacks the column {', '.join(missing)}: add it to the first line")
    if not rows:
        raise DataError(f"{path} holds no landmark: add one line for each")
    seen: set[str] = set()
    for line, row in rows:
        fault = find_fault(row, seen)
        if fault:
            raise DataError(f"{path}, line {line}: {fault}")
        seen.add(row["landmark"])
    return [row for _, row in rows]


def find_fault(row: dict[str, str], seen: set[str]) -> str | None:
    """Say what is wrong with a row and what to do; `seen` are the landmarks before it."""
    name = row["landmark"]
    if not name or name in seen:
        return f"landmark {name!r} is empty or there already: name each landmark once"
    if row["side"] not in SIDES:
        return f"side is {row['side']!r}: write {' or '.join(SIDES)}"
    for column in NUMBERS:
        number = to_number(row[column])
        low = LEAST.get(column, -math.inf)
        if not math.isfinite(number) or number < low:
            least = f" of {low:g} or more" if column in LEAST else ""
            return f"{column} is {row[column]!r}: give a number{least} [mm; beta_bmi per kg/m2]"
    if row["side"] == "both" and float(row["x"]) <= 0:
        return f"x is {row['x']!r}: give the left one of two points, x above 0"
    if not row["status"]:
        return "status is empty: write measured, recalled or assumed"
    return None


def to_number(text: str) -> float:
    """Read a number; nan for anything else."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def gaussian(
    points: Float64[np.ndarray, "n 3"], centres: Float64[np.ndarray, "l 3"], sd_mm: float
) -> Float64[np.ndarray, "n l"]:
    """Weigh each centre at each point, 1 at the centre itself."""
    return np.asarray(np.exp(cdist(points, centres, "sqeuclidean") / (-2 * sd_mm**2)))


class DepthField:
    """Spreads changes of depth at landmarks over the skin, nearly exact at the landmarks."""

    def __init__(
        self,
        points: Float64[np.ndarray, "n 3"],
        landmarks: Int64[np.ndarray, " l"],
        share: Float64[np.ndarray, " n"],
    ) -> None:
        """Prepare the spread to `points` of the reference head [mm].

        `landmarks` are rows of it; each point will follow only its `share` of the spread [0-1],
        which the landmarks make up for where it is not too small.
        """
        kernel = gaussian(points, points[landmarks], KERNEL_MM)
        shares = kernel / (kernel.sum(1, keepdims=True) + KERNEL_FLOOR)
        at_landmarks = np.maximum(share[landmarks], SMALLEST_SHARE)[:, None] * shares[landmarks]
        system = at_landmarks + RIDGE * np.eye(len(landmarks))
        self._matrix = np.asarray(shares @ np.linalg.inv(system))

    def spread(self, change: Float64[np.ndarray, " l"]) -> Float64[np.ndarray, " n"]:
        """Give the change of depth at every point [mm], to be multiplied by its share."""
        return np.asarray(self._matrix @ change)

"""How far two runs of one network may differ where they compute in different precisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fcr_edge.errors import BundleError
from fcr_edge.looks import VALUES, read_answer
from fcr_edge.manifest import EmbeddingSpec, VectorSpec, keeps_limit

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64

    from fcr_edge.manifest import TensorSpec

    Outputs = Float32[np.ndarray, "n ..."]
    Target = TensorSpec | EmbeddingSpec | VectorSpec

Measure = Literal["max_abs_difference", "min_cosine", "min_psnr"]

MIN_HALF_PSNR = 60.0
"""Of a picture by 16 bits against 32 [dB, the peak being the range]: errors of a quarter of a grey
level, root mean square."""
MIN_HALF_COSINE = 0.9999
MAX_HALF_FILM_DIFFERENCE = 1e-2
"""Of probabilities and shares of the side, by 16 bits against 32: two and a half pixels of the
standard film."""
MAX_LENGTH_ERROR = 1e-5
"""How far from 1 the length of an embedding may be."""


@dataclass(frozen=True)
class Agreement:
    """The worst of several pictures, and what it is held to."""

    measure: Measure
    value: float
    limit: float

    def __bool__(self) -> bool:
        """Whether the limit is kept; a value that is not a number keeps none."""
        return keeps_limit(self.measure, self.value, self.limit)

    def __str__(self) -> str:
        return f"{self.measure} {self.value:.6g}, limit {self.limit:g}"


def compare_half(single: Outputs, half: Outputs, target: Target) -> Agreement:
    """Hold what a network gives in 16 bits against what it gives in 32, for the same pictures.

    Pictures by their PSNR, embeddings by their cosine, answers of a film model as the field reads
    them. Relative errors explode near 0 and are no measure here.
    """
    if isinstance(target, EmbeddingSpec):
        return Agreement("min_cosine", float(cosines(single, half).min()), MIN_HALF_COSINE)
    if isinstance(target, VectorSpec):
        difference = np.abs(read_answers(single) - read_answers(half)).max()
        return Agreement("max_abs_difference", float(difference), MAX_HALF_FILM_DIFFERENCE)
    errors = np.square((single - half) / (target.high - target.low)).mean(axis=(1, 2, 3))
    return Agreement(
        "min_psnr", float(-10 * np.log10(np.maximum(errors.max(), 1e-12))), MIN_HALF_PSNR
    )


def read_answers(vectors: Outputs) -> Outputs:
    """Read a film model's vectors as probabilities, places and errors [shares of the side]."""
    answers = [read_answer(vector, VALUES) for vector in vectors]
    rows = [[*one.probability.values(), *one.places.ravel(), *one.errors] for one in answers]
    return np.array(rows, np.float32)


def cosines(one: Outputs, other: Outputs) -> Float64[np.ndarray, " n"]:
    """Return the cosine of each embedding with its other self.

    Raises BundleError where one is not of length 1.
    """
    # In 64 bits: in 32, the rounding of the sum is as large as what is looked for.
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
    error = np.abs(np.subtract(lengths, 1)).max()
    if not error <= MAX_LENGTH_ERROR:
        raise BundleError(f"an embedding's length is {error:.2g} off 1: train the embedder again")
    found: Float64[np.ndarray, " n"] = (one * other).sum(axis=1) / (lengths[0] * lengths[1])
    return found

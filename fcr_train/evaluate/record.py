"""The record of one evaluation, JSON of schema fcr-evaluation/1, and the sentences on it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from fcr_edge.errors import DataError
from fcr_edge.manifest import Fusion

SCHEMA = "fcr-evaluation/1"

RANKS = (1, 5, 10, 20, 50)
"""Ranks of a CMC; 50 is the length of NIST's investigation list and of the FBI's study."""
CUTOFFS = (10, 20)
"""k of recall@k and mAP@k, as in Table 2 of the seed paper."""
FPIRS = (0.1, 0.03, 0.003)
"""False positive identification rates at which FNIR is stated; .003 is NIST's."""

LEAD = (
    "A list of candidates is an investigative lead for a qualified examiner,"
    " not an identification."
)
NOTICES = {
    "S": "Simulated people: these figures measure the method, never forensic accuracy.",
    "P": (
        "The user's own pairs: these figures hold for people, films and photographs like these and"
        " for a gallery of this size, and say nothing about any other case."
    ),
}
"""What stands on every table and page, by level of evidence."""
EMBEDDER_KID = "KID on this project's embedder"
"""The name of the distance that stands beside KID: comparable only with itself, never FID."""

Views = Literal["frontal", "lateral", "both"]
Level = Literal["S", "P"]
"""S: simulated people. P: pairs of a film and a photograph that the user brought."""
Probe = Literal[
    "generated",
    "generated, told nothing",
    "generated, told the other sex",
    "film (two-tower)",
    "film (linear)",
    "mean face",
    "sex and age",
    "estimated sex and age",
    "chance",
    "nearest training face",
    "photograph",
    "fusion",
]
"""What is searched with: the product's generated face, or one of its comparators."""
Scalar = str | int | float | bool | None

_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval by person; None where there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Retrieval:
    """How near the front of the gallery the mates of one kind of probe come."""

    probe: Probe
    views: Views
    jitter: bool
    """Whether films and photographs were scaled by +-5 % and shifted by +-6/256 at random."""
    gallery: int
    """People enrolled."""
    origin: str
    """Who is enrolled, such as "all test people" or "1,000 people drawn, mean of 20 draws"."""
    probes: int
    """People searched for."""
    cmc: Mapping[str, Estimate]
    """Rank ("1" to "50") -> share of people whose mate stands at it or before."""
    recall: Mapping[str, Estimate]
    """k ("10", "20") -> share of the mate's pictures among the first k pictures."""
    mean_average_precision: Mapping[str, Estimate]
    """k ("10", "20") -> mean over people of AP@k over min(m, k) pictures."""
    mean_reciprocal_rank: Estimate
    median_rank: Estimate


@dataclass(frozen=True)
class Comparison:
    """The difference of two kinds of probe at one rank, on the same people."""

    first: Probe
    second: Probe
    views: Views
    jitter: bool
    gallery: int
    rank: int
    difference: Estimate
    """CMC(rank) of the first less that of the second; paired bootstrap by person."""
    p: float | None
    """Of the exact McNemar test, two-sided; None where one side is a mean over random orders."""


@dataclass(frozen=True)
class Fnir:
    """Searches that miss, at the threshold where a share `fpir` raises a false candidate."""

    fpir: float
    value: Estimate | None
    reason: str
    """Why there is no value, such as "not measurable with 20 searches"; else empty."""


@dataclass(frozen=True)
class OpenSet:
    """Everybody searched for with the mate enrolled and without."""

    views: Views
    gallery: int
    probes: int
    searches_without_mate: int
    fnir: tuple[Fnir, ...]
    det: tuple[tuple[float, ...], ...]
    """Points (FPIR, FNIR) of the DET curve, FPIR rising."""


@dataclass(frozen=True)
class CalibrationFit:
    """The map from a similarity to log10 of a likelihood ratio, ready to be carried to the field.

    log10_lr = offset + slope * similarity, held within -cap_log10 and cap_log10.
    """

    offset: float
    slope: float
    cap_log10: float
    """log10 of the number of people it was fitted on, above 0."""
    people: int
    population: str
    """Whom "different persons" stands for, such as "simulated people, 18 to 80 years"."""


@dataclass(frozen=True)
class Tippett:
    """Points (log10_lr, share of the comparisons at or above it), log10_lr rising."""

    same: tuple[tuple[float, ...], ...]
    different: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Misleading:
    """Shares of comparisons whose ratio points the wrong way."""

    same: float
    """Same person, ratio below 1."""
    different: float
    """Different persons, ratio above 1."""


@dataclass(frozen=True)
class Calibration:
    """How well similarities of named pairs become likelihood ratios, on folds by person."""

    views: Views
    people: int
    cllr: Estimate
    """1 says nothing, above 1 misleads."""
    cllr_min: float
    """What is left of it after the best monotone recalibration: the lack of discrimination."""
    cap_log10: float
    """The smallest cap among the folds."""
    method: Literal["logistic"]
    tippett: Tippett
    misleading: Misleading
    fit: CalibrationFit | None
    """Fitted on all of these people: for the field, not what `cllr` was measured with. None where
    folds were put together: each has networks of its own, so no map fits one of them."""


@dataclass(frozen=True)
class Group:
    """The figures of one group, FNIR and FPIR at a threshold common to all groups."""

    by: Literal["sex", "age", "bmi"]
    group: str
    people: int
    median_rank: Estimate
    cmc: Mapping[str, Estimate]
    fnir: Estimate | None
    fpir: Estimate | None


@dataclass(frozen=True)
class Gap:
    """Worst group less best group in one measure; None with a reason where a group is small."""

    by: Literal["sex", "age", "bmi"]
    measure: Literal["cmc 10", "cmc 50", "median rank", "fnir", "fpir"]
    worst: str
    best: str
    gap: Estimate | None
    reason: str


@dataclass(frozen=True)
class Measure:
    """A figure that may need a file the user did not give."""

    value: float | None
    spread: float | None
    """Standard deviation over subsets or splits, None where there are none."""
    reason: str
    """Why there is no value; where there is one, what to mind about it, or empty."""


@dataclass(frozen=True)
class Images:
    """How generated faces look beside the photographs of the same people."""

    views: Views
    n: int
    """Generated faces, and as many photographs."""
    ssim_settings: str
    """Channels, range and window, without which an SSIM means nothing."""
    ssim: Estimate
    ssim_mean_face: Estimate
    """Of the mean training face: what anybody's face gets."""
    ssim_other_person: Estimate
    """Of the generated face, to a photograph of another person drawn at random."""
    fid: Measure
    fid_floor: Measure
    """FID of two disjoint halves of the photographs."""
    kid: Measure
    inception_score: Measure
    lpips: Measure
    embedder_distance: Measure
    """Named EMBEDDER_KID wherever it is shown."""


@dataclass(frozen=True)
class Network:
    """Which trained network was measured."""

    model: str
    preset: str
    checkpoint_sha256: str
    steps: int
    seed: int
    """Of its training."""


@dataclass(frozen=True)
class SplitUsed:
    """How test people were kept from training."""

    by: Literal["person", "pair"]
    fold: int | None
    """None where all folds were put together."""
    seed: int


@dataclass(frozen=True)
class People:
    """How many people trained, and how many were tested."""

    train: int
    test: int


@dataclass(frozen=True)
class Bootstrap:
    """How the intervals were drawn: by person, percentiles 2.5 and 97.5, gallery held fixed."""

    draws: int = 2000
    seed: int = 1


@dataclass(frozen=True)
class Claims:
    """The claims that may be made, in the order they must be earned."""

    passed: tuple[str, ...]
    failed: str | None
    """The first that failed, and why; None where all were earned."""


@dataclass(frozen=True)
class Evaluation:
    """All figures of one split, translator and embedder."""

    schema: Literal["fcr-evaluation/1"]
    notice: str
    created: str
    """UTC, such as 2026-11-21T23:59:59Z."""
    fcr: str
    level: Level
    split: SplitUsed
    people: People
    dataset_sha256: str
    translator: Network | None
    embedder: Network
    matcher: Network | None
    bootstrap: Bootstrap
    retrieval: tuple[Retrieval, ...]
    comparisons: tuple[Comparison, ...]
    open_set: tuple[OpenSet, ...]
    calibration: tuple[Calibration, ...]
    fusion: Fusion | None
    """What puts a frontal and a lateral film together, here for "both" and in the field; None
    without both views, and where folds were put together: each has networks of its own."""
    groups: tuple[Group, ...]
    gaps: tuple[Gap, ...]
    images: tuple[Images, ...]
    claims: Claims
    seconds: float
    machine: Mapping[str, Scalar]

    def to_table(self) -> dict[str, Any]:
        """Lay it out as the table of JSON values that `from_table` reads back."""
        table: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return table

    def to_json(self) -> str:
        """Write it as JSON with a line break at the end. Raises ValueError for NaN."""
        return json.dumps(asdict(self), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_table(cls, table: object) -> Evaluation:
        """Read it strictly: every key known and present, every value of its type.

        Raises DataError.
        """
        schema = table.get("schema") if isinstance(table, dict) else None
        if schema != SCHEMA:
            raise DataError(
                f"the evaluation has schema {str(schema)[:40]!r}, this version reads {SCHEMA!r}:"
                " evaluate again"
            )
        return _decode_record(cls, table, "")

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read it from JSON. Raises DataError."""
        try:
            table = json.loads(text)
        except (ValueError, RecursionError) as err:
            raise DataError(f"the evaluation is not JSON ({err}): evaluate again") from err
        return cls.from_table(table)


def _decode_record(kind: type[_Record], value: object, where: str) -> _Record:
    if not isinstance(value, dict):
        raise _wrong(where, value, "a table")
    hints = get_type_hints(kind)
    for key, fault in (
        *((key, "has the unknown key") for key in sorted(value.keys() - hints.keys())),
        *((key, "lacks the key") for key in sorted(hints.keys() - value.keys())),
    ):
        raise DataError(f"the evaluation {fault} {_join(where, key)!r}: evaluate again")
    return kind(**{key: _decode(hints[key], value[key], _join(where, key)) for key in hints})


def _decode(hint: Any, value: object, where: str) -> Any:
    """Turn parsed JSON into the annotated type: record, tuple, mapping, literal or plain value."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return _decode_union(arguments, value, where)
    if is_dataclass(hint):
        return _decode_record(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _decode(arguments[1], item, _join(where, key)) for key, item in value.items()}
    if origin is Literal and value in arguments:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if hint is type(value) and not (isinstance(value, float) and not math.isfinite(value)):
        return value
    raise _wrong(where, value, getattr(hint, "__name__", str(hint)))


def _decode_union(hints: tuple[Any, ...], value: object, where: str) -> Any:
    if value is None and type(None) in hints:
        return None
    exact = [hint for hint in hints if hint is type(value)]
    others = [hint for hint in hints if hint is not type(None)]
    return _decode((exact or others)[0], value, where)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _wrong(where: str, value: object, wanted: str) -> DataError:
    return DataError(
        f"the evaluation has {where or 'the whole'} = {str(value)[:40]!r}, not {wanted}:"
        " evaluate again"
    )

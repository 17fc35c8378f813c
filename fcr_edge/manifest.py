"""What a bundle says of itself: manifest.json as records, read strictly."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from datetime import datetime
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from fcr_edge.conditions import ATTRIBUTES
from fcr_edge.errors import BundleError

SCHEMA = "fcr-bundle/1"
MANIFEST_NAME = "manifest.json"
CARD_NAME = "MODEL_CARD.md"

EMBEDDING_SCHEMA = "fcr-embedding/1"
"""Names how this code turns a photo into the embedder's input; part of every fingerprint.

Raise the number whenever a pixel of that path changes, so that older galleries are refused and
not searched wrongly.
"""

MAX_MANIFEST_BYTES = 64 * 1024
"""About ten times what a manifest of this schema needs."""
MAX_FILE_BYTES = 1024**3
"""The largest file of a bundle [bytes]; VGG16, the largest known embedder, needs half of it."""
MAX_PICTURE_PIXELS = 4096
"""The largest height or width of a tensor specification [pixels]."""

CHANNELS = (1, 3, 5, 7)
"""A skull has 1 and two planes more for each condition, a face has 3."""

LEARNED_RECIPE = "learned-1"
"""The soft-tissue recipe that needs the bundle's suppressor; see soft_tissue.py."""

Role = Literal["translator", "embedder", "film", "suppressor"]
Precision = Literal["fp32", "fp16"]
Scalar = str | int | float | bool

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_Record = TypeVar("_Record")


@dataclass(frozen=True)
class TensorSpec:
    """A picture as a network takes or gives it: float32, batch x channels x height x width."""

    name: str
    """The tensor's name in the ONNX graph."""
    channels: int
    """1 for a film or skull, 3 for a face in red, green, blue order; planes come on top."""
    height: int
    """[pixels]"""
    width: int
    """[pixels]"""
    low: float
    """The tensor value of picture value 0."""
    high: float
    """The tensor value of picture value 255, above `low`."""

    def __post_init__(self) -> None:
        # A caller's -1 and JSON's -1.0 must give one fingerprint.
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        require(bool(self.name), "a tensor has no name")
        require(
            self.channels in CHANNELS,
            f"{self.name} has {self.channels} channels, not one of {CHANNELS}",
        )
        for side in (self.height, self.width):
            require(
                1 <= side <= MAX_PICTURE_PIXELS,
                f"{self.name} has a side of {side} pixels, not 1 to {MAX_PICTURE_PIXELS}",
            )
        require(
            self.low < self.high, f"{self.name} has low {self.low}, not below its high {self.high}"
        )


@dataclass(frozen=True)
class EmbeddingSpec:
    """An embedding as the embedder gives it: float32, batch x dimension, each row of length 1."""

    name: str
    """The tensor's name in the ONNX graph."""
    dimension: int
    """Numbers in one embedding, 2 or more."""

    def __post_init__(self) -> None:
        require(bool(self.name), "a tensor has no name")
        require(
            2 <= self.dimension <= 65536,
            f"{self.name} has dimension {self.dimension}, not 2 to 65536",
        )


@dataclass(frozen=True)
class VectorSpec:
    """Named numbers as a network gives them: float32, batch x length of `values`."""

    name: str
    """The tensor's name in the ONNX graph."""
    values: tuple[str, ...]
    """What each number is, in order; no name twice."""

    def __post_init__(self) -> None:
        require(bool(self.name), "a tensor has no name")
        require(
            1 <= len(set(self.values)) == len(self.values),
            f"{self.name} names {len(self.values)} values, {len(set(self.values))} of them once",
        )


@dataclass(frozen=True)
class BundleFile:
    """A file of the bundle and the bytes it must have."""

    path: str
    """Its name in the bundle's folder; a bundle has no subfolders."""
    sha256: str
    """SHA-256 of its bytes, 64 hexadecimal digits in lower case."""
    size: int
    """[bytes], 1 to MAX_FILE_BYTES."""

    def __post_init__(self) -> None:
        require(
            _FILE_NAME.fullmatch(self.path) is not None and self.path != MANIFEST_NAME,
            f"{self.path!r} cannot be the name of a file in a bundle",
        )
        _check_sha256(self.path, self.sha256)
        require(
            1 <= self.size <= MAX_FILE_BYTES,
            f"{self.path} has a size of {self.size} bytes, not 1 to {MAX_FILE_BYTES}",
        )


@dataclass(frozen=True)
class ModelFile(BundleFile):
    """An ONNX file of a network."""

    precision: Precision
    """What the network computes in; "fp16" keeps islands of 32 bits, and takes and gives them."""
    weights: Literal["single", "half"]
    """How its large weights are stored: 32-bit, or 16-bit and widened to 32 when loaded."""


@dataclass(frozen=True)
class ParityRow:
    """One comparison of two ways to run the same network on the same pictures."""

    reference: str
    """What was trusted, with its version, e.g. "PyTorch 2.14.1"."""
    candidate: str
    """What was compared with it."""
    measure: Literal["max_abs_difference", "min_cosine", "min_psnr", "shared_of_50"]
    """The largest difference of any output value, the least cosine of any two embeddings, the
    least peak signal-to-noise ratio of any two pictures [dB], the peak being the range, or how
    many of the first 50 pictures that a search lists both list, on average."""
    value: float
    """What was measured."""
    limit: float | None
    """What was demanded: a difference below it, a cosine or ratio above it; None for nothing."""
    pictures: int
    """How many pictures were compared, 1 or more."""
    batches: tuple[int, ...]
    """The batch sizes they were run in."""

    def __post_init__(self) -> None:
        require(self.pictures >= 1, f"parity was measured on {self.pictures} pictures")

    @property
    def passed(self) -> bool:
        """Whether the value keeps its limit; a row without a limit has nothing to fail."""
        return self.limit is None or keeps_limit(self.measure, self.value, self.limit)


def keeps_limit(measure: str, value: float, limit: float) -> bool:
    """Tell whether a difference is below its limit, anything else above; NaN keeps none."""
    return value < limit if measure == "max_abs_difference" else value > limit


@dataclass(frozen=True)
class ModelEntry:
    """What the manifest says of one network, whatever its role."""

    architecture: str
    """The network's class, e.g. "ResnetGenerator" or "FaceEmbedder"."""
    method: str
    """What the workshop calls it, e.g. "fastcut" or "densenet121"."""
    preset: str
    """The configuration it was trained with, e.g. "paper" or "small"."""
    parameters: int
    """Trained numbers in the network."""
    steps: int
    """Optimiser steps it was trained for."""
    checkpoint_sha256: str
    """SHA-256 of the checkpoint that it was exported from, 64 hexadecimal digits."""
    training_data: Mapping[str, Scalar]
    """What the checkpoint records of its training data, e.g. generator, people, seed."""
    weights_licence: str
    """SPDX identifier of the licence of the weights."""
    files: tuple[ModelFile, ...]
    """The same network once per precision."""
    opset: int
    """Version of the default ONNX operator set."""
    ir_version: int
    """Version of the ONNX file format."""
    input: TensorSpec
    parity: tuple[ParityRow, ...]
    """PyTorch against ONNX Runtime, measured when the bundle was made."""

    def __post_init__(self) -> None:
        _check_sha256("the checkpoint", self.checkpoint_sha256)
        precisions = [file.precision for file in self.files]
        require(
            "fp32" in precisions and len(set(precisions)) == len(precisions),
            f"{self.architecture} has files of precision {precisions}, not one fp32 file",
        )
        for row in self.parity:
            require(
                row.passed,
                f"{self.architecture} fails its parity: {row.value} against {row.limit}",
            )

    @property
    def fp32(self) -> ModelFile:
        """The file that computes in 32 bits: every entry has one."""
        return next(file for file in self.files if file.precision == "fp32")

    @property
    def fp16(self) -> ModelFile | None:
        """The file that computes in 16 bits, for TensorRT; None where there is none."""
        return next((file for file in self.files if file.precision == "fp16"), None)


@dataclass(frozen=True)
class TranslatorEntry(ModelEntry):
    """The network that draws a face from a skull, and perhaps from what is known beside it."""

    output: TensorSpec
    conditions: tuple[str, ...] = ()
    """What it may be told of the person, in the order of the planes behind the skull; see
    conditions.py. Anything of it may be unknown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = set(self.conditions)
        require(
            names <= set(ATTRIBUTES) and len(names) == len(self.conditions),
            f"the translator takes the conditions {str(self.conditions)[:80]}, not each of "
            f"{', '.join(ATTRIBUTES)} at most once: update FCR, or export the bundle again",
        )
        require(
            self.input.channels == 1 + 2 * len(self.conditions),
            f"the translator's input has {self.input.channels} channels, not 1 for the skull and "
            f"2 for each of its {len(self.conditions)} conditions",
        )

    @property
    def skull(self) -> TensorSpec:
        """The part of the input that is a picture: all of it where there are no conditions."""
        return replace(self.input, channels=1)


@dataclass(frozen=True)
class EmbedderEntry(ModelEntry):
    """The network that turns a face into an embedding."""

    output: EmbeddingSpec


@dataclass(frozen=True)
class FilmEntry(ModelEntry):
    """The network that tells what a film shows, and where; see film.py."""

    output: VectorSpec
    limits: Mapping[str, float]
    """What the numbers are compared with, chosen on people set aside from training."""


@dataclass(frozen=True)
class SuppressorEntry(ModelEntry):
    """The network that takes the soft tissue off a film; see soft_tissue.py."""

    output: TensorSpec
    """Three channels: the skull as it is cut out by hand, its bone alone, and the confidence."""
    least_confidence: float
    """Mean confidence over the skull, 0 to 1, below which a film gets a warning; chosen on people
    set aside from training."""
    floors: tuple[int, int]
    """Grey levels, 0 to 255, of skull and of bone below which a pixel goes black: there black was
    nearer to the truth than what the network drew, on people set aside from training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 <= self.least_confidence <= 1,
            f"the suppressor's least confidence is {self.least_confidence}, not 0 to 1",
        )
        require(
            len(self.floors) == 2 and all(0 <= floor <= 255 for floor in self.floors),
            f"the suppressor's floors are {list(self.floors)}, not two grey levels of 0 to 255",
        )
        shapes = [(one.channels, one.height, one.width) for one in (self.input, self.output)]
        require(
            shapes == [(1, *shapes[1][1:]), (3, *shapes[0][1:])],
            f"the suppressor turns {shapes[0]} into {shapes[1]}, not one channel into three of"
            " the same size",
        )


AnyEntry = TranslatorEntry | EmbedderEntry | FilmEntry | SuppressorEntry


@dataclass(frozen=True)
class Scale:
    """Mean and spread of the similarities of a view, between people set aside from training."""

    mean: float
    sd: float
    """Above 0."""

    def __post_init__(self) -> None:
        require(self.sd > 0, f"a scale has the standard deviation {self.sd}, not above 0")


@dataclass(frozen=True)
class Fusion:
    """How the similarities of a frontal and of a lateral film become one.

    Each is brought to mean 0 and standard deviation 1 by its scale, then they are added; see
    gallery.Candidate.
    """

    frontal: Scale
    lateral: Scale
    people: int
    """How many people the scales were measured on, none of whom trained a network."""
    simulated: bool
    """Whether these people are simulated."""

    def __str__(self) -> str:
        whom = "simulated people" if self.simulated else "people"
        return (
            "two films: a similarity is the sum of both films' cosines, each less its mean and"
            f" divided by its standard deviation between {self.people} {whom} set aside from"
            " training, divided by the square root of two"
        )


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a bundle is: everything in the manifest but the schema and the model card's hash."""

    name: str
    """A short name for people, e.g. "demo"; letters, digits, dot, dash and underscore."""
    created: str
    """When it was made: UTC, as 2026-11-21T23:59:59Z."""
    intended_use: str
    versions: Mapping[str, str]
    """Package -> version of what made the bundle."""
    soft_tissue: str
    """The named recipe by which a film becomes the translator's input; see soft_tissue.py."""
    translator: TranslatorEntry
    embedder: EmbedderEntry
    film: FilmEntry | None = None
    suppressor: SuppressorEntry | None = None
    fusion: Fusion | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_created(self.created)
        require(
            (self.soft_tissue == LEARNED_RECIPE) == (self.suppressor is not None),
            f"the recipe {self.soft_tissue[:40]!r} stands"
            f" {'with' if self.suppressor else 'without'} a suppressor: {LEARNED_RECIPE!r} needs"
            " one, and no other recipe takes one; export the bundle again",
        )
        paths = [file.path for entry in self.models.values() for file in entry.files]
        taken = {path.lower() for path in (*paths, CARD_NAME, MANIFEST_NAME)}
        require(len(taken) == len(paths) + 2, f"a file name is used twice: {paths}")

    @property
    def models(self) -> Mapping[Role, AnyEntry]:
        """The networks that there are, by role."""
        every: dict[Role, AnyEntry | None] = {
            "translator": self.translator,
            "embedder": self.embedder,
            "film": self.film,
            "suppressor": self.suppressor,
        }
        return {role: entry for role, entry in every.items() if entry is not None}

    @property
    def fingerprint(self) -> str:
        """Name what defines an embedding of a photo [64 hexadecimal digits].

        SHA-256 of canonical JSON of the embedder's bytes, its input, the embedding's dimension and
        this code's way from photo to input. Embeddings may be compared only where fingerprints
        agree. The translator is not part of it, so a gallery survives a better translator.
        """
        facts = {
            "schema": EMBEDDING_SCHEMA,
            "embedder": self.embedder.fp32.sha256,
            "input": asdict(self.embedder.input),
            "dimension": self.embedder.output.dimension,
        }
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Manifest(Description):
    """The whole of manifest.json."""

    schema: Literal["fcr-bundle/1"]
    card: BundleFile
    """The model card."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.card.path == CARD_NAME, f"the model card is {self.card.path!r}, not {CARD_NAME}"
        )

    @property
    def files(self) -> tuple[BundleFile, ...]:
        """Every file of the bundle but the manifest itself."""
        models = [file for entry in self.models.values() for file in entry.files]
        return (*models, self.card)

    def to_json(self) -> bytes:
        """Write the manifest as UTF-8 JSON with sorted keys: equal manifests, equal bytes."""
        # What a bundle lacks is left out, so that versions from before it existed read it too.
        document = {key: value for key, value in asdict(self).items() if value is not None}
        if not self.translator.conditions:
            del document["translator"]["conditions"]
        text = json.dumps(
            document,
            indent=2,
            sort_keys=True,
            allow_nan=False,
            ensure_ascii=False,
        )
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read a manifest strictly: every key known, every key present, every value of its type.

        Only what a bundle may lack may be absent. Raises BundleError.
        """
        document = _parse_json(data)
        schema = document.get("schema") if isinstance(document, dict) else None
        require(
            schema == SCHEMA,
            f"{MANIFEST_NAME} has schema {str(schema)[:40]!r}, this FCR reads {SCHEMA!r}: "
            "update FCR, or export the bundle again with this version",
        )
        return _decode_record(cls, document, "")


def check_name(name: str) -> None:
    """Check that a bundle may have this name. Raises BundleError."""
    require(
        _FILE_NAME.fullmatch(name) is not None,
        f"{name!r} cannot be the name of a bundle: use letters, digits, '.', '_' and '-'",
    )


def _check_sha256(what: str, digits: str) -> None:
    require(
        _SHA256.fullmatch(digits) is not None,
        f"{what} has the SHA-256 {digits[:80]!r}, not 64 hexadecimal digits",
    )


def _check_created(created: str) -> None:
    try:
        datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError as error:
        raise BundleError(
            f"created is {created!r}, not a time such as 2026-11-21T23:59:59Z"
        ) from error


def require(holds: bool, message: str) -> None:
    """Raise BundleError with the message unless the condition holds."""
    if not holds:
        raise BundleError(message)


def _parse_json(data: bytes) -> object:
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{MANIFEST_NAME} is not valid JSON ({error}): copy or export the bundle again"
        ) from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key appears twice")
    return record


def _refuse_constant(constant: str) -> object:
    raise ValueError(f"{constant} is not a number")


def _decode_record(kind: type[_Record], value: object, where: str) -> _Record:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    hints = get_type_hints(kind)
    unknown = sorted(value.keys() - hints.keys())
    # A field with a default is an attribute of its class.
    missing = sorted(key for key in hints.keys() - value.keys() if not hasattr(kind, key))
    if unknown or missing:
        key, what = (
            (unknown[0], "has the unknown key") if unknown else (missing[0], "lacks the key")
        )
        raise BundleError(
            f"{MANIFEST_NAME} {what} {_join(where, key)[:80]!r}: "
            "it was edited or made by another version; update FCR, or export the bundle again"
        )
    return kind(
        **{key: _decode(hints[key], item, _join(where, key)) for key, item in value.items()}
    )


def _decode(hint: Any, value: object, where: str) -> Any:
    """Turn parsed JSON into the annotated type: record, tuple, mapping, literal or plain value."""
    if isinstance(hint, type) and is_dataclass(hint):
        return _decode_record(hint, value, where)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType and isinstance(value, dict):
        return _decode(arguments[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _decode(arguments[1], item, _join(where, key)) for key, item in value.items()}
    if origin is Literal and value in arguments:
        return value
    if isinstance(value, str) and not value.isprintable():
        raise _wrong(where, value, "printable text")  # it will reach terminals and pages
    plain = arguments if origin in (Union, UnionType) else (hint,)
    if type(value) in plain and value == value and value not in (math.inf, -math.inf):
        return value
    if float in plain and type(value) is int:
        return float(value)
    if value is None and type(None) in plain:
        return None
    raise _wrong(where, value, getattr(hint, "__name__", str(hint)))


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _wrong(where: str, value: object, wanted: str) -> BundleError:
    return BundleError(
        f"{MANIFEST_NAME} has {where or 'the whole'} = {str(value)[:40]!r}, not {wanted}: "
        "export the bundle again"
    )

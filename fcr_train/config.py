"""TOML presets read once into frozen dataclasses, checked, and kept in every checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import typing
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fcr_edge.conditions import ATTRIBUTES
from fcr_edge.errors import ConfigError
from fcr_edge.manifest import LEARNED_RECIPE
from fcr_edge.soft_tissue import RECIPES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PRESETS = ("paper", "small", "tiny")
"""`paper`: as published, for a GPU. `small`: about an hour on two CPU cores. `tiny`: for tests."""

STUDENTS = ("small-a", "small-b", "small-c", "small-d", "tiny")
"""Light generators to distil a trained one into, from wide to narrow."""
_TAUGHT = ("size", "conditions", "split", "soft_tissue")
"""What a student's configuration takes from its teacher's."""

RESNET_HALVINGS = 2
"""How often the ResNet generator halves its input (Johnson et al. 2016); a shuffle goes as far."""

LEAST_SUPPRESSED = 176
"""Shortest side a suppressor trains at [pixels]: MS-SSIM's fifth scale needs a whole window."""

Architecture = Literal["resnet", "unet", "shuffle"]
Precision = Literal["float32", "bfloat16", "float16"]
Identity = Literal["l1", "nce"]

Config = TypeVar("Config")


@dataclass(frozen=True)
class Split:
    """Which people are held out; both trainings must hold out the same ones."""

    validation_share: float = 0.15
    """Share of the people held out, above 0 and below 1; each sex and age band gives its share."""
    seed: int = 1
    """Seed of the draw, 0 or more; not the training's seed, so that runs stay comparable."""

    def __post_init__(self) -> None:
        _check("split.validation_share", self.validation_share, above=0, below=1)
        _check("split.seed", self.seed, least=0)


@dataclass(frozen=True)
class Schedule:
    """How long to train, and how fast."""

    epochs: int
    """Epochs at the full learning rate, 0 or more."""
    decay_epochs: int
    """Epochs after them in which the learning rate falls linearly towards 0, 0 or more."""
    batch_size: int
    """Pictures (translator) or people (embedder) a step, 1 or more."""
    learning_rate: float
    """Adam's step size, above 0."""
    steps_per_epoch: int | None = None
    """Steps an epoch, 1 or more; left out, as many as show every film or person once."""
    beta1: float = 0.9
    """Adam's decay of the mean gradient, from 0 to below 1."""
    beta2: float = 0.999
    """Adam's decay of the mean squared gradient, from 0 to below 1."""
    accumulate: int = 1
    """Parts that a batch is taken in, 1 or more, to save memory; they divide the batch."""
    precision: Precision = "float32"
    """What the forward pass computes in; weights and optimisers stay in float32."""

    def __post_init__(self) -> None:
        _check("schedule.epochs", self.epochs, least=0)
        _check("schedule.decay_epochs", self.decay_epochs, least=0)
        _check("schedule.epochs + schedule.decay_epochs", self.total, least=1)
        _check("schedule.batch_size", self.batch_size, least=1)
        _check("schedule.learning_rate", self.learning_rate, above=0)
        if self.steps_per_epoch is not None:
            _check("schedule.steps_per_epoch", self.steps_per_epoch, least=1)
        _check("schedule.beta1", self.beta1, least=0, below=1)
        _check("schedule.beta2", self.beta2, least=0, below=1)
        _check("schedule.accumulate", self.accumulate, least=1)
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"schedule.accumulate is {self.accumulate}, which does not divide"
                f" schedule.batch_size, {self.batch_size}: change either"
            )

    @property
    def total(self) -> int:
        """Epochs in all."""
        return self.epochs + self.decay_epochs

    def rate_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0 (Zhu et al. 2017, appendix 7.1)."""
        decayed = max(0, epoch + 1 - self.epochs) / (self.decay_epochs + 1)
        return self.learning_rate * (1 - decayed)

    def stretched(self, total: int) -> Schedule:
        """Return the same schedule over another number of epochs; the share of decay is kept."""
        _check("epochs", total, least=1)
        decay_epochs = round(total * self.decay_epochs / self.total)
        return dataclasses.replace(self, epochs=total - decay_epochs, decay_epochs=decay_epochs)


@dataclass(frozen=True)
class Generator:
    """The generator's architecture and size."""

    ngf: int
    """Channels at full resolution, 1 or more, more in the depth of the network; those of every
    layer of a shuffle."""
    architecture: Architecture = "resnet"
    """`resnet` (Johnson et al. 2016), `unet` (Isola et al. 2017), or `shuffle`, a light one."""
    blocks: int = 9
    """Residual blocks of a resnet or shuffle, 1 or more."""
    halvings: int = 8
    """Halvings of a U-Net, 2 or more: 8 take 256 pixels to 1."""
    antialias: bool = True
    """A ResNet halves and doubles behind a low-pass filter (CUT; not in CycleGAN)."""
    dropout: float = 0.0
    """Share of features dropped in training, from 0 to below 1: the noise of pix2pix."""

    def __post_init__(self) -> None:
        _check("generator.ngf", self.ngf, least=1)
        _check("generator.blocks", self.blocks, least=1)
        _check("generator.halvings", self.halvings, least=2)
        _check("generator.dropout", self.dropout, least=0, below=1)

    @property
    def divisor(self) -> int:
        """What the side of a picture has to be a multiple of."""
        return int(2 ** (self.halvings if self.architecture == "unet" else RESNET_HALVINGS))


@dataclass(frozen=True)
class Discriminator:
    """The PatchGAN's size."""

    ndf: int
    """Channels of the first layer, 1 or more."""
    halvings: int = 3
    """Halvings of the resolution, 1 or more: 3 judge the published patches of 70 pixels."""
    antialias: bool = True
    """Halve behind a low-pass filter (CUT; not in pix2pix and CycleGAN)."""

    def __post_init__(self) -> None:
        _check("discriminator.ndf", self.ndf, least=1)
        _check("discriminator.halvings", self.halvings, least=1)


@dataclass(frozen=True)
class PatchNce:
    """The contrastive loss between patches of the skull and of the face (Park et al. 2020)."""

    layers: tuple[int, ...] = (0, 4, 8, 12, 16)
    """Layers of the generator that are compared, ascending; see `ResnetGenerator`."""
    num_patches: int = 256
    """Patches an image and layer, 2 or more."""
    temperature: float = 0.07
    """Softmax temperature, above 0 (tau)."""
    width: int = 256
    """Width of the projection heads and of the vectors compared, 1 or more."""

    def __post_init__(self) -> None:
        if not self.layers or list(self.layers) != sorted({*self.layers}) or self.layers[0] < 0:
            raise ConfigError(
                f"patch_nce.layers is {list(self.layers)}: list layers from 0 up, ascending"
            )
        _check("patch_nce.num_patches", self.num_patches, least=2)
        _check("patch_nce.temperature", self.temperature, above=0)
        _check("patch_nce.width", self.width, least=1)


@dataclass(frozen=True)
class Jitter:
    """Random changes of a training picture; each is drawn evenly from -value to +value."""

    degrees: float = 0.0
    """Rotation [degrees], 0 to 45."""
    shift: float = 0.0
    """Shift in each direction [share of the side], 0 to 0.5."""
    scale: float = 0.0
    """Change of scale [share], 0 to 0.5."""
    colour: float = 0.0
    """Change of brightness, contrast and saturation, of a film its exposure [share], 0 to 1."""

    def __post_init__(self) -> None:
        _check("jitter.degrees", self.degrees, least=0, most=45)
        _check("jitter.shift", self.shift, least=0, most=0.5)
        _check("jitter.scale", self.scale, least=0, most=0.5)
        _check("jitter.colour", self.colour, least=0, most=1)


@dataclass(frozen=True, kw_only=True)
class TranslatorConfig:
    """What defines the training of any translator; each method adds its own weights."""

    size: int
    """Side of film and face [pixels], 32 or more, a multiple of `generator.divisor`."""
    generator: Generator
    schedule: Schedule
    conditions: tuple[str, ...] = ()
    """What the generator is told of the person beside the film: any of sex, age, bmi."""
    condition_dropout: float = 0.2
    """Share of the training in which an attribute is left unknown, 0 to 1, each by itself."""
    lambda_embedding: float = 0.0
    """Weight of the distance between the embeddings of generated and true face, 0 or more."""
    ema: float = 0.0
    """Decay of the running mean of the generator's weights, from 0 (none) to below 1."""
    split: Split = field(default_factory=Split)
    jitter: Jitter = field(default_factory=Jitter)
    soft_tissue: str = "classical-2"
    """Soft-tissue recipe of the films, by name."""

    def __post_init__(self) -> None:
        _check("size", self.size, least=32)
        if self.size % self.generator.divisor:
            raise ConfigError(
                f"size is {self.size}: give a multiple of {self.generator.divisor}, as often does"
                " the generator halve it"
            )
        _check_conditions(self.conditions, self.condition_dropout)
        _check("lambda_embedding", self.lambda_embedding, least=0)
        _check("ema", self.ema, least=0, below=1)
        _check_recipe(self.soft_tissue)


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(TranslatorConfig):
    """A translator that learns against an adversary."""

    discriminator: Discriminator


@dataclass(frozen=True, kw_only=True)
class CutConfig(AdversarialConfig):
    """CUT and FastCUT (Park et al. 2020; seed paper, Eq. 8-11)."""

    lambda_nce: float
    """Weight of PatchNCE, 0 or more (1 in CUT, 10 in FastCUT)."""
    lambda_identity: float
    """Weight of the identity loss, 0 or more (1 in CUT, 0 in FastCUT: it is not computed)."""
    flip_equivariance: bool
    """Mirror half of the skulls, compare patches with the unmirrored skull (FastCUT)."""
    identity: Identity = "l1"
    """The identity loss: `l1` as in the seed paper (Eq. 10), `nce` as in the original."""
    patch_nce: PatchNce = field(default_factory=PatchNce)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("lambda_nce", self.lambda_nce, least=0)
        _check("lambda_identity", self.lambda_identity, least=0)
        if self.generator.architecture != "resnet":
            raise ConfigError(
                f"generator.architecture is {self.generator.architecture!r}: PatchNCE compares the"
                " layers of a resnet"
            )
        last_block = (11 if self.generator.antialias else 9) + self.generator.blocks
        if self.patch_nce.layers[-1] > last_block:
            raise ConfigError(
                f"patch_nce.layers names layer {self.patch_nce.layers[-1]}, but the encoder of a"
                f" generator with {self.generator.blocks} blocks ends at {last_block}"
            )


@dataclass(frozen=True, kw_only=True)
class CycleGanConfig(AdversarialConfig):
    """CycleGAN (Zhu et al. 2017; seed paper, Eq. 1-4)."""

    lambda_cycle: float = 10.0
    """Weight of the cycle, there and back, 0 or more."""
    lambda_identity: float = 0.5
    """Weight of the identity loss as a share of `lambda_cycle`, 0 or more."""
    pool_size: int = 50
    """Generated pictures kept to show the discriminators older work, 0 or more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("lambda_cycle", self.lambda_cycle, least=0)
        _check("lambda_identity", self.lambda_identity, least=0)
        _check("pool_size", self.pool_size, least=0)


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(AdversarialConfig):
    """pix2pix, the conditional GAN (Isola et al. 2017; seed paper, Eq. 5)."""

    lambda_l1: float = 100.0
    """Weight of the L1 distance from the true face, 0 or more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("lambda_l1", self.lambda_l1, least=0)


@dataclass(frozen=True, kw_only=True)
class StudentConfig(TranslatorConfig):
    """A light generator that learns to draw what a trained one, its teacher, draws."""

    lambda_features: float = 1.0
    """Weight of the distance between the features of both, 0 or more; of their faces it is 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("lambda_features", self.lambda_features, least=0)


@dataclass(frozen=True)
class EmbedderConfig:
    """All that defines the training of a face embedder."""

    size: int
    """Side of a face [pixels], 32 or more: every backbone halves it five times."""
    schedule: Schedule
    jitter: Jitter
    dimension: int | None = None
    """Length of an embedding, 1 or more; left out, the backbone's pooled features (1024)."""
    pictures_per_person: int = 4
    """Pictures of each person in a batch, 2 or more."""
    temperature: float = 0.1
    """Softmax temperature of the contrastive loss, above 0 (Khosla et al. 2020)."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW), 0 or more."""
    split: Split = field(default_factory=Split)

    def __post_init__(self) -> None:
        _check("size", self.size, least=32)
        if self.dimension is not None:
            _check("dimension", self.dimension, least=1)
        _check("pictures_per_person", self.pictures_per_person, least=2)
        _check("temperature", self.temperature, above=0)
        _check("weight_decay", self.weight_decay, least=0)
        _check_contrast(self.schedule)


@dataclass(frozen=True, kw_only=True)
class MatcherConfig:
    """All that defines the training of a direct skull-to-face matcher."""

    size: int
    """Side of film and face [pixels], 32 or more, a multiple of 2 to the power of `halvings`."""
    schedule: Schedule
    jitter: Jitter
    width: int
    """Channels of the first layer of either tower, 1 or more; each layer doubles them."""
    halvings: int = 3
    """Layers of a tower, 1 or more, each of which halves the picture."""
    dimension: int = 128
    """Length of an embedding, 1 or more."""
    temperature: float = 0.1
    """Softmax temperature of the contrastive loss, above 0."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW), 0 or more."""
    conditions: tuple[str, ...] = ()
    """What the skull's tower is told of the person beside the film: any of sex, age, bmi."""
    condition_dropout: float = 0.2
    """Share of the training in which an attribute is left unknown, 0 to 1, each by itself."""
    split: Split = field(default_factory=Split)
    soft_tissue: str = "classical-2"
    """Soft-tissue recipe of the films, by name."""

    def __post_init__(self) -> None:
        _check("size", self.size, least=32)
        _check("width", self.width, least=1)
        _check("halvings", self.halvings, least=1)
        if self.size % 2**self.halvings:
            raise ConfigError(
                f"size is {self.size}: give a multiple of {2**self.halvings}, as often do the"
                " towers halve it"
            )
        _check("dimension", self.dimension, least=1)
        _check("temperature", self.temperature, above=0)
        _check("weight_decay", self.weight_decay, least=0)
        _check_conditions(self.conditions, self.condition_dropout)
        _check_recipe(self.soft_tissue)
        _check_contrast(self.schedule)


@dataclass(frozen=True, kw_only=True)
class SuppressorConfig:
    """All that defines the training of a soft-tissue remover."""

    size: int
    """Side of the films [pixels], LEAST_SUPPRESSED or more, a multiple of `divisor`."""
    widths: tuple[int, ...]
    """Channels at half the side, a quarter, and so on, each 1 or more; two or more numbers."""
    detail: int
    """Channels at the full side, 1 or more."""
    schedule: Schedule
    jitter: Jitter
    """Moves of the film and of what it is made of alike; `colour` is how far exposures differ."""
    ms_ssim_share: float = 0.84
    """Weight of MS-SSIM, from 0 to 1; the rest is L1's (Zhao et al. 2017, section III.D)."""
    ema: float = 0.0
    """Decay of the running mean of the weights, from 0 (none) to below 1."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW), 0 or more."""
    split: Split = field(default_factory=Split)

    def __post_init__(self) -> None:
        _check("size", self.size, least=LEAST_SUPPRESSED)
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ConfigError(f"widths are {list(self.widths)}: list two or more, each 1 or more")
        if self.size % self.divisor:
            raise ConfigError(
                f"size is {self.size}: give a multiple of {self.divisor}, as often is it halved"
            )
        _check("detail", self.detail, least=1)
        _check("ms_ssim_share", self.ms_ssim_share, least=0, most=1)
        _check("ema", self.ema, least=0, below=1)
        _check("weight_decay", self.weight_decay, least=0)

    @property
    def divisor(self) -> int:
        """What the side of a picture has to be a multiple of."""
        return int(2 ** len(self.widths))


@dataclass(frozen=True, kw_only=True)
class FilmConfig:
    """All that defines the training of the network that tells what a film shows."""

    size: int
    """Side of the network's picture [pixels], 32 or more, a multiple of 16."""
    schedule: Schedule
    width: int
    """Channels of the first layer, 1 or more; deeper ones have up to six times as many."""
    blocks: int = 2
    """Residual blocks at either of the two coarsest resolutions, 1 or more."""
    strangers: float = 0.3
    """Share of the pictures that show no skull, 0 to 1."""
    two_heads: float = 0.06
    """Share of the pictures that show two heads, 0 to 1."""
    lambda_landmarks: float = 1.0
    """Weight of the landmarks against the findings, 0 or more."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW), 0 or more."""
    ema: float = 0.0
    """Decay of the running mean of the weights, from 0 (none) to below 1."""
    split: Split = field(default_factory=Split)

    def __post_init__(self) -> None:
        _check("size", self.size, least=32)
        if self.size % 16:
            raise ConfigError(f"size is {self.size}: give a multiple of 16, the network halves it")
        _check("width", self.width, least=1)
        _check("blocks", self.blocks, least=1)
        _check("strangers", self.strangers, least=0, most=1)
        _check("two_heads", self.two_heads, least=0, most=1 - self.strangers)
        _check("lambda_landmarks", self.lambda_landmarks, least=0)
        _check("weight_decay", self.weight_decay, least=0)
        _check("ema", self.ema, least=0, below=1)


AnyConfig = TranslatorConfig | EmbedderConfig | MatcherConfig | SuppressorConfig | FilmConfig

CONFIGS: dict[str, type[AnyConfig]] = {
    "cyclegan": CycleGanConfig,
    "pix2pix": Pix2PixConfig,
    "cut": CutConfig,
    "fastcut": CutConfig,
    "vgg16": EmbedderConfig,
    "resnet18": EmbedderConfig,
    "resnet101": EmbedderConfig,
    "densenet121": EmbedderConfig,
    "two_tower": MatcherConfig,
    "suppressor": SuppressorConfig,
    "film": FilmConfig,
}
"""The kind of configuration of each model that has presets."""


def load_preset(model: str, preset: str) -> AnyConfig:
    """Read the preset of a model. Raises ConfigError for an unknown model or preset."""
    if model not in CONFIGS:
        raise ConfigError(f"unknown model {model!r}: choose one of {', '.join(CONFIGS)}")
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    file = resources.files("fcr_train") / "configs" / preset / f"{model}.toml"
    return parse(CONFIGS[model], tomllib.loads(file.read_text(encoding="utf-8")))


def load_file(model: str, path: Path) -> AnyConfig:
    """Read a configuration that the user wrote. Raises ConfigError."""
    if model not in CONFIGS:
        raise ConfigError(f"unknown model {model!r}: choose one of {', '.join(CONFIGS)}")
    return parse(CONFIGS[model], _read_toml(path))


def load_student(name: str, path: Path | None, teacher: TranslatorConfig) -> StudentConfig:
    """Read what a student is like, from the user's file if there is one.

    Size, conditions, split and soft-tissue recipe are its teacher's. Raises ConfigError for an
    unknown student and for a table that does not fit.
    """
    if path is not None:
        table = _read_toml(path)
    elif name in STUDENTS:
        file = resources.files("fcr_train") / "configs" / "students" / f"{name}.toml"
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    else:
        raise ConfigError(f"unknown student {name!r}: choose one of {', '.join(STUDENTS)}")
    for key in _TAUGHT:
        if key in table:
            raise ConfigError(f"the {key} of a student is its teacher's: take it out of {path}")
    taught = to_table(teacher)
    return parse(StudentConfig, {**table, **{key: taught[key] for key in _TAUGHT}})


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise ConfigError(f"cannot read {path} as TOML: {err}") from err


def parse(kind: type[Config], table: Mapping[str, Any], prefix: str = "") -> Config:
    """Build a configuration from a TOML or JSON table.

    Raises ConfigError for a key that is unknown or missing, and for a value that does not fit.
    """
    known = {known.name: known for known in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise ConfigError(f"unknown key {prefix}{key}: known are {', '.join(known)}")
    for key, key_field in known.items():
        if key not in table and _is_required(key_field):
            raise ConfigError(f"key {prefix}{key} is missing: add it")
    wanted = typing.get_type_hints(kind)
    return kind(
        **{key: _convert(wanted[key], value, prefix + key) for key, value in table.items()}
    )


def to_table(config: AnyConfig) -> dict[str, Any]:
    """Return the configuration as a table of JSON values, which `parse` reads back."""
    table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return table


def _is_required(key_field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return key_field.default is missing and key_field.default_factory is missing


def _convert(wanted: Any, value: Any, key: str) -> Any:
    """Check a value against its annotation; tables become dataclasses, lists become tuples."""
    if dataclasses.is_dataclass(wanted) and isinstance(value, dict):
        return parse(typing.cast("type[Any]", wanted), value, f"{key}.")
    if typing.get_origin(wanted) is types.UnionType:
        if value is None:
            return None
        wanted = typing.get_args(wanted)[0]
    if typing.get_origin(wanted) is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(typing.get_args(wanted)[0], item, key) for item in value)
    if typing.get_origin(wanted) is Literal:
        if value not in typing.get_args(wanted):
            choices = ", ".join(map(str, typing.get_args(wanted)))
            raise ConfigError(f"{key} is {value!r}: choose one of {choices}")
        return value
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        expected = getattr(wanted, "__name__", str(wanted))
        raise ConfigError(f"{key} is {value!r}: give a value of type {expected}")
    return value


def _check_conditions(names: tuple[str, ...], dropout: float) -> None:
    _check("condition_dropout", dropout, least=0, most=1)
    if {*names} - {*ATTRIBUTES} or len({*names}) < len(names):
        raise ConfigError(
            f"conditions are {list(names)}: list each of {', '.join(ATTRIBUTES)} at most once"
        )


def _check_contrast(schedule: Schedule) -> None:
    _check("schedule.batch_size (people)", schedule.batch_size, least=2)
    if schedule.accumulate > 1:
        raise ConfigError(
            f"schedule.accumulate is {schedule.accumulate}, but a contrastive loss compares all of"
            " a batch: leave it at 1, and to save memory lower schedule.batch_size or size"
        )


def _check_recipe(name: str) -> None:
    if name == LEARNED_RECIPE:
        raise ConfigError(
            f"soft_tissue is {name!r}, which needs a network: train on skulls cut out by hand"
            " (kind skull), and give the network to `fcr-train export --suppressor`"
        )
    if name not in RECIPES:
        raise ConfigError(f"soft_tissue is {name!r}: choose one of {', '.join(RECIPES)}")


def _check(
    key: str,
    value: float,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Raise ConfigError unless the value is finite and within the bounds given."""
    if math.isfinite(value) and least <= value <= most and above < value < below:
        return
    bounds = {"at least": least, "above": above, "at most": most, "below": below}
    allowed = ", ".join(
        f"{word} {bound:g}" for word, bound in bounds.items() if abs(bound) < math.inf
    )
    raise ConfigError(f"{key} is {value!r}: give a number {allowed}")

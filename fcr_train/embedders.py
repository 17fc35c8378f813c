"""The networks that turn a face into a unit vector, untrained or trained, and their loading."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn
from torchvision.models import densenet121, resnet18, resnet101
from torchvision.models.vgg import cfgs, make_layers

from fcr_edge.errors import DataError
from fcr_train.checkpoint import Checkpoint, rebuild
from fcr_train.config import EmbedderConfig, parse, to_table
from fcr_train.weights import RANDOM

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jaxtyping import Float32
    from torch import Tensor
    from torchvision.models import DenseNet, ResNet

    from fcr_train.weights import Weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of R, G, B in [0, 1] (torchvision's published weights expect them)."""

_SMALLEST_SQUARED_NORM = 1e-24


def unit(vectors: Float32[Tensor, "n d"]) -> Float32[Tensor, "n d"]:
    """Scale each vector to length 1; a zero vector stays zero.

    Written out, because this form exports to four plain operators.
    """
    squared_norm = (vectors * vectors).sum(dim=1, keepdim=True)
    return vectors * squared_norm.clamp_min(_SMALLEST_SQUARED_NORM).rsqrt()


def _vgg16() -> nn.Module:
    """Build the convolutions of VGG16 (Simonyan & Zisserman 2015), drawn as torchvision does.

    Not the three layers behind them: 123.6 of the 138.4 million parameters, bound to 224 pixels
    and to ImageNet's classes, and 4096 numbers a face. Pooled convolutions need no fixed size.
    """
    features: nn.Module = make_layers(cfgs["D"])
    for layer in features.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return features


def _resnet(network: ResNet) -> nn.Module:
    """Take the residual stages of a ResNet (He et al. 2016)."""
    return nn.Sequential(OrderedDict(list(network.named_children())[:-2]))


def _densenet(network: DenseNet) -> nn.Module:
    """Take the dense blocks of a DenseNet (Huang et al. 2017); they end before their last ReLU."""
    features: nn.Module = network.features
    features.add_module("relu", nn.ReLU())
    return features


BACKBONES: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "vgg16": (512, _vgg16),
    "resnet18": (512, lambda: _resnet(resnet18())),
    "resnet101": (2048, lambda: _resnet(resnet101())),
    "densenet121": (1024, lambda: _densenet(densenet121())),
}
"""The seed paper's four (Table 2): how many features each has, and how to build it."""


class FaceEmbedder(nn.Module):
    """Embed a face by a backbone's features, averaged over the picture, perhaps a linear head.

    Without a head the embedding is the pooled features, as in the seed paper. ImageNet's mean and
    standard deviation are taken out inside, so that they travel with the exported graph.
    """

    def __init__(self, backbone: str, dimension: int | None = None) -> None:
        super().__init__()
        width, build = BACKBONES[backbone]
        self.features = build()
        self.head = nn.Identity() if dimension is None else nn.Linear(width, dimension)
        self.register_buffer(
            "mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False
        )
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, face: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, "n d"]:
        """Return unit vectors; the face is RGB in [0, 1], its sides 32 or more."""
        features = self.features((face - self.mean) / self.std)
        return unit(self.head(features.float().mean(dim=(2, 3))))


def start_from(embedder: FaceEmbedder, weights: Weights) -> None:
    """Put weights into the backbone; the classifier that comes with them is left out.

    Raises DataError if they are another network's.
    """
    kept = {
        _rename(name): tensor
        for name, tensor in weights.tensors.items()
        if not name.startswith(("classifier.", "fc."))
    }
    try:
        embedder.features.load_state_dict(kept)
    except RuntimeError as err:
        raise DataError(
            f"the weights from {weights.source} do not fit the backbone ({err}): pass the file of"
            " the backbone that is trained"
        ) from err


def _rename(name: str) -> str:
    """Return torchvision's present name: its DenseNet file is older, "norm.1" for "norm1"."""
    return re.sub(r"(norm|conv)\.(\d)", r"\1\2", name.removeprefix("features."))


def describe_untrained(
    backbone: str, preset: str, config: EmbedderConfig, weights: Weights | None, seed: int
) -> Checkpoint:
    """Describe a backbone as the seed paper uses it: pooled features, nothing trained.

    The configuration gives the size of a face; a linear head would only mix features at random,
    so there is none. The record says whose weights they are: without a file they are random, drawn
    by `seed`, and no result with them says what the paper's would be. Raises DataError if the
    weights do not fit.
    """
    torch.manual_seed(seed)
    embedder = FaceEmbedder(backbone)
    if weights is not None:
        start_from(embedder, weights)
    return Checkpoint(
        kind="embedder",
        model=backbone,
        preset=preset,
        config=to_table(config) | {"dimension": None},
        step=0,
        tensors=embedder.state_dict(),
        data={"trained": False, "seed": seed, **(RANDOM if weights is None else weights.record)},
    )


def load_embedder(path: Path) -> tuple[FaceEmbedder, Checkpoint]:
    """Rebuild an embedder from its checkpoint, ready to use: `forward(face) -> embedding`.

    Raises DataError if the file is no embedder's checkpoint.
    """

    def build(checkpoint: Checkpoint) -> FaceEmbedder:
        config = parse(EmbedderConfig, checkpoint.config)
        return FaceEmbedder(checkpoint.model, config.dimension)

    return rebuild(path, "embedder", BACKBONES, build)

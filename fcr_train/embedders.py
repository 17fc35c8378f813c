"""The networks that turn a face into a unit vector, and how to load one that was trained."""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision.models import densenet121

from fcr_edge.errors import DataError
from fcr_train.checkpoint import load_checkpoint
from fcr_train.config import EmbedderConfig, parse

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float32
    from torch import Tensor

    from fcr_train.checkpoint import Checkpoint

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


class DenseNet121(nn.Module):
    """Embed a face by DenseNet121 (Huang et al. 2017): pooled features, perhaps a linear head.

    Without a head the embedding is the 1024 pooled features, as in the seed paper. ImageNet's mean
    and standard deviation are taken out inside, so that they travel with the exported graph.
    """

    WIDTH = 1024

    def __init__(self, dimension: int | None = None) -> None:
        super().__init__()
        self.features = densenet121(weights=None).features
        self.head = nn.Identity() if dimension is None else nn.Linear(self.WIDTH, dimension)
        self.register_buffer(
            "mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False
        )
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, face: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, "n d"]:
        """Return unit vectors; the face is RGB in [0, 1], its sides 32 or more."""
        features = self.features((face - self.mean) / self.std)
        pooled = torch.relu(features).mean(dim=(2, 3))
        return unit(self.head(pooled))


EMBEDDERS = {"densenet121": DenseNet121}


def load_weights(embedder: DenseNet121, path: Path) -> None:
    """Start the backbone from a file of torchvision's DenseNet121 weights that the user names.

    Reads safetensors, or a .pth state dict without running code from it; the classifier is left
    out. Raises DataError if the file cannot be read or does not fit.
    """
    weights = {
        # torchvision's published file is older than its code: it says "norm.1" for "norm1".
        re.sub(r"(norm|conv)\.(\d)", r"\1\2", name.removeprefix("features.")): tensor
        for name, tensor in _read_weights(path).items()
        if not name.startswith("classifier.")
    }
    try:
        embedder.features.load_state_dict(weights)
    except RuntimeError as err:
        raise DataError(
            f"the weights in {path} are not DenseNet121's: pass torchvision's densenet121 ({err})"
        ) from err


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as err:
        raise DataError(f"cannot read weights from {path}: {err}") from err
    return weights


def load_embedder(path: Path) -> tuple[DenseNet121, Checkpoint]:
    """Rebuild a trained embedder, ready to use: `forward(face) -> embedding`.

    Raises DataError if the file is not an embedder's checkpoint.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.kind != "embedder" or checkpoint.model not in EMBEDDERS:
        raise DataError(
            f"{path} holds a {checkpoint.kind} {checkpoint.model!r}: pass an embedder, one of"
            f" {', '.join(EMBEDDERS)}"
        )
    config = parse(EmbedderConfig, checkpoint.config)
    embedder = EMBEDDERS[checkpoint.model](config.dimension)
    try:
        embedder.load_state_dict(checkpoint.tensors)
    except RuntimeError as err:
        raise DataError(f"the weights in {path} do not fit its configuration: {err}") from err
    return embedder.eval(), checkpoint

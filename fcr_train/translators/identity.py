"""The identity term: how far, to an embedder, a generated face is from the true one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from fcr_edge.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor

    from fcr_train.config import TranslatorConfig
    from fcr_train.trainer import Batch

    Face = Float32[Tensor, "n 3 h w"]
    Loss = Float32[Tensor, ""]


class FaceIdentity(nn.Module):
    """Measure identity by a trained embedder, which it freezes.

    The embedder takes RGB in [0, 1], of `size` pixels a side, and gives unit vectors.
    """

    def __init__(self, embedder: nn.Module, size: int) -> None:
        super().__init__()
        self.embedder = embedder.requires_grad_(False).eval()
        self.size = size

    def forward(self, fake_face: Face, face: Face) -> Loss:
        """Return the mean of 1 - cosine of the two embeddings, in [0, 2].

        Faces are in [-1, 1]. The gradient flows into the generated face alone.
        """
        with torch.no_grad():
            target = self.embed(face)
        return (1 - (self.embed(fake_face) * target).sum(dim=1)).mean()

    def embed(self, face: Face) -> Float32[Tensor, "n d"]:
        """Embed faces in [-1, 1], resized to what the embedder takes."""
        face = (face.float() + 1) / 2
        if face.shape[-1] != self.size:
            face = functional.interpolate(face, (self.size, self.size), mode="area")
        embedding: Tensor = self.embedder(face)
        return embedding.float()

    def train(self, mode: bool = True) -> FaceIdentity:
        """Stay as trained: a frozen embedder's batch statistics must not move."""
        return super().train(False)


def check_identity(config: TranslatorConfig, identity: FaceIdentity | None) -> None:
    """Raise ConfigError if the identity term lacks its embedder, or the embedder its weight."""
    if config.lambda_embedding > 0 and identity is None:
        raise ConfigError(
            f"lambda_embedding is {config.lambda_embedding:g}, but there is no embedder to measure"
            " identity by: pass a trained one, or set lambda_embedding to 0"
        )
    if config.lambda_embedding == 0 and identity is not None:
        raise ConfigError(
            "an embedder is given, but lambda_embedding is 0: set its weight, or leave it out"
        )


def embedding_loss(
    identity: FaceIdentity | None, fake_face: Face, batch: Batch
) -> dict[str, Loss]:
    """Return the term "embedding" if there is an embedder, measured against the true face."""
    if identity is None:
        return {}
    return {"embedding": identity(fake_face, batch["mate"])}

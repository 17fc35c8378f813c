"""The direct skull-to-face matcher: two towers that put a skull and a face on one sphere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from fcr_train.checkpoint import rebuild
from fcr_train.config import MatcherConfig, parse
from fcr_train.embedders import unit

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float32
    from torch import Tensor

    from fcr_train.checkpoint import Checkpoint

MATCHERS = ("two_tower",)


class TwoTower(nn.Module):
    """Compare films with photographs, without a face in between (Prasad & Singh 2025).

    After arXiv 2507.08329, whose Siamese towers share their weights; here each domain has its own,
    because a film and a photograph have no grey levels in common. A tower ends in a linear layer
    over *places*, as in the first convolutional Siamese network (Bromley et al. 1993), not in an
    average over the picture: films and portraits are aligned, and what they share is where an
    outline runs.
    """

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        self.skull = _build_tower(1 + 2 * len(config.conditions), config)
        self.face = _build_tower(3, config)

    def embed_skulls(self, skull: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n d"]:
        """Return unit vectors; a skull is in [-1, 1], its condition planes behind it."""
        return unit(self.skull(skull))

    def embed_faces(self, face: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, "n d"]:
        """Return unit vectors; a face is RGB in [0, 1]."""
        return unit(self.face(2 * face - 1))

    def forward(
        self, skull: Float32[Tensor, "n c h w"], face: Float32[Tensor, "m 3 h w"]
    ) -> Float32[Tensor, "n m"]:
        """Return the similarity of each skull with each face, a cosine."""
        return self.embed_skulls(skull) @ self.embed_faces(face).T


def _build_tower(channels: int, config: MatcherConfig) -> nn.Module:
    """Halve the picture and double the channels, then weigh what is where."""
    layers: list[nn.Module] = []
    for depth in range(config.halvings):
        width, kernel = config.width * 2**depth, 5 if depth == 0 else 3
        layers += [
            nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
    side = config.size // 2**config.halvings
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side**2, config.dimension))


def load_matcher(path: Path) -> tuple[TwoTower, Checkpoint]:
    """Rebuild a trained matcher, ready to use. Raises DataError if the file is none."""

    def build(checkpoint: Checkpoint) -> TwoTower:
        return TwoTower(parse(MatcherConfig, checkpoint.config))

    return rebuild(path, "matcher", MATCHERS, build)

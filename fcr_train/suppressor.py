"""The learned soft-tissue remover: a U-Net that gives a film's skull, bone and confidence."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from fcr_train.checkpoint import rebuild
from fcr_train.config import SuppressorConfig, parse

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float32
    from torch import Tensor

    from fcr_train.checkpoint import Checkpoint

SUPPRESSORS = ("suppressor",)

HALF_CONFIDENCE = 8 / 255
"""Expected error at which confidence is one half: 8 grey levels, which an examiner just sees."""
_DOUBT_WIDTH = 16
"""Features between those of the pictures and the confidence."""


class SuppressorUnet(nn.Module):
    """Take a film apart through a U-Net (Ronneberger et al. 2015).

    The first convolution reads blocks of 2 x 2 pixels as channels and the last features are spread
    out again (Shi et al. 2016), so that the costly layers run at half the side; `detail` features
    at full resolution, beside the film itself, restore what a pixel is. Both pictures start from
    the film and learn what to change in it (He et al. 2016). Every layer is a convolution: any
    film fits whose sides are multiples of 2 to the power of the number of `widths`.

    Confidence comes from a scale b of the expected absolute error, the mean of both pictures', as
    1 / (1 + b / HALF_CONFIDENCE): it falls as b grows, is near 1 where the pictures can be relied
    on, and 1/2 where they are expected to be off by 8 grey levels. It is learned beside the
    pictures and without a gradient into them (Kendall & Gal 2017, with a Laplace distribution).
    """

    def __init__(self, config: SuppressorConfig) -> None:
        super().__init__()
        widths, detail = config.widths, config.detail
        self.first = _block(4, widths[0])
        self.contract = nn.ModuleList(_block(*pair, stride=2) for pair in pairwise(widths))
        self.expand = nn.ModuleList(_spread(wide, narrow) for narrow, wide in pairwise(widths))
        self.join = nn.ModuleList(_block(2 * width, width) for width in widths[:-1])
        self.spread = _spread(widths[0], detail)
        self.draw = nn.Sequential(
            nn.Conv2d(detail + 1, detail, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(detail, 2, 3, padding=1),
        )
        self.doubt = nn.Sequential(
            nn.Conv2d(widths[0], _DOUBT_WIDTH, 3, padding=1),
            nn.ReLU(),
            _spread(_DOUBT_WIDTH, 1),
        )

    def forward(self, film: Float32[Tensor, "n 1 h w"]) -> Float32[Tensor, "n 3 h w"]:
        """Return skull, bone and confidence, in [0, 1]; the film is in [0, 1]."""
        pictures, doubt = self.separate(film)
        return torch.cat([pictures.clamp(0, 1), 1 / (1 + doubt / HALF_CONFIDENCE)], dim=1)

    def separate(
        self, film: Float32[Tensor, "n 1 h w"]
    ) -> tuple[Float32[Tensor, "n 2 h w"], Float32[Tensor, "n 1 h w"]]:
        """Return skull and bone, unbounded so that nothing stops learning, and the scale b."""
        features = self._read(film)
        change = self.draw(torch.cat([film, self.spread(features)], dim=1))
        doubt = self.doubt(features.detach()).float()
        return film + change.float(), HALF_CONFIDENCE * torch.exp(doubt)

    def _read(self, film: Float32[Tensor, "n 1 h w"]) -> Float32[Tensor, "n c h/2 w/2"]:
        levels = [self.first(functional.pixel_unshuffle(film, 2))]
        for contract in self.contract:
            levels.append(contract(levels[-1]))
        features: Tensor = levels.pop()
        for expand, join in zip(reversed(self.expand), reversed(self.join), strict=True):
            features = join(torch.cat([levels.pop(), expand(features)], dim=1))
        return features


def load_suppressor(path: Path) -> tuple[SuppressorUnet, Checkpoint]:
    """Rebuild a trained suppressor, ready to use. Raises DataError if the file is none."""

    def build(checkpoint: Checkpoint) -> SuppressorUnet:
        return SuppressorUnet(parse(SuppressorConfig, checkpoint.config))

    return rebuild(path, "suppressor", SUPPRESSORS, build)


def _block(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """Two convolutions, the first of which may halve, each normalised over the batch."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def _spread(channels: int, width: int) -> nn.Sequential:
    """Double the side: the U-Net's 2 x 2 up-convolution, written as runtimes have it fastest."""
    return nn.Sequential(nn.Conv2d(channels, 4 * width, 1), nn.PixelShuffle(2))

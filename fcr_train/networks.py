"""The networks of the translators: anti-aliased generator, PatchGAN, projection heads."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float32, Int64
    from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of R, G, B in luma (ITU-R BT.601), the same as in every grey conversion of OpenCV."""

_INIT_GAIN = 0.02
"""Gain of the Xavier initialisation (Park et al. 2020, the authors' code)."""


def luminance(face: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, "n 1 h w"]:
    """Weigh the colour channels into one; the range of the input is kept."""
    red, green, blue = face.unbind(1)
    weight_red, weight_green, weight_blue = LUMINANCE
    return (weight_red * red + weight_green * green + weight_blue * blue).unsqueeze(1)


def initialise(network: nn.Module) -> None:
    """Draw every convolution's and linear layer's weights anew, and set its biases to 0."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_normal_(layer.weight, gain=_INIT_GAIN)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class BlurPool(nn.Module):
    """Halve height and width behind a binomial low-pass filter, so that shifts do not alias.

    The filter is [1, 2, 1] in both directions with reflected borders (Zhang 2019, "Making
    convolutional networks shift-invariant again"): a constant picture stays constant.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(row, row).expand(channels, 1, 3, 3).contiguous()
        # A constant, not a weight: it does not belong in a checkpoint.
        self.register_buffer("kernel", kernel, persistent=False)
        self.kernel: Tensor
        self.pad = nn.ReflectionPad2d(1)

    def forward(self, x: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n c h/2 w/2"]:
        """Blur, then keep every second row and column."""
        return functional.conv2d(self.pad(x), self.kernel, stride=2, groups=x.shape[1])


class BlurUpsample(nn.Module):
    """Double height and width with the binomial filter [1, 3, 3, 1] and replicated borders.

    That is exactly bilinear interpolation by two (weights 3/4 and 1/4), which is one operator in
    every runtime and faster than the depth-wise transposed convolution of the original code.
    """

    def forward(self, x: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n c 2h 2w"]:
        """Interpolate between pixel centres."""
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """Add two normalised 3x3 convolutions with reflected borders to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n c h w"]:
        """Return the input plus what the block adds to it."""
        change: Tensor = self.layers(x)
        return x + change


class ResnetGenerator(nn.Module):
    """Translate a skull into a face: two halvings, residual blocks, two doublings (CUT).

    `layers` is numbered as in the original code, so that the papers' PatchNCE layers mean the same
    here: 0 is the reflected input, 4 and 8 are the convolutions in front of the two halvings (at
    full and at half resolution, before normalisation), 12 is the first residual block and 16 the
    fifth (a quarter of the resolution). Instance normalisation keeps no running statistics: one
    picture is normalised by itself, in training and after export alike. `ngf` is the width at full
    resolution; it doubles at each halving.
    """

    def __init__(self, ngf: int, blocks: int, in_channels: int = 1, out_channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            *_normalised(nn.Conv2d(in_channels, ngf, 7)),
            *_normalised(nn.Conv2d(ngf, 2 * ngf, 3, padding=1)),
            BlurPool(2 * ngf),
            *_normalised(nn.Conv2d(2 * ngf, 4 * ngf, 3, padding=1)),
            BlurPool(4 * ngf),
            *(ResidualBlock(4 * ngf) for _ in range(blocks)),
            BlurUpsample(),
            *_normalised(nn.Conv2d(4 * ngf, 2 * ngf, 3, padding=1)),
            BlurUpsample(),
            *_normalised(nn.Conv2d(2 * ngf, ngf, 3, padding=1)),
            nn.ReflectionPad2d(3),
            nn.Conv2d(ngf, out_channels, 7),
            nn.Tanh(),
        )
        initialise(self)

    def forward(self, skull: Float32[Tensor, "n 1 h w"]) -> Float32[Tensor, "n 3 h w"]:
        """Return the face, in [-1, 1]; the skull is in [-1, 1], its sides multiples of 4."""
        face: Tensor = self.layers(skull)
        return face

    def encode(
        self, picture: Float32[Tensor, "n 1 h w"], layers: Sequence[int]
    ) -> list[Float32[Tensor, "n c _ _"]]:
        """Return the outputs of the numbered layers, which ascend; stop after the last one."""
        features = []
        for number, layer in enumerate(self.layers[: layers[-1] + 1]):
            picture = layer(picture)
            if number in layers:
                features.append(picture)
        return features

    def feature_widths(self, layers: Sequence[int]) -> list[int]:
        """Count the channels that `encode` returns for each of these layers."""
        first = next(layer for layer in self.layers if isinstance(layer, nn.Conv2d))
        with torch.no_grad():
            features = self.encode(torch.zeros(1, first.in_channels, 16, 16), layers)
        return [feature.shape[1] for feature in features]


class PatchDiscriminator(nn.Module):
    """Judge overlapping patches of a face as real (1) or generated (0), anti-aliased.

    The PatchGAN of Isola et al. 2017 with the blur-pool of CUT: 4x4 convolutions of stride 1, the
    first `halvings` of them halved by `BlurPool`. Three halvings make the published patch of 70
    pixels, two 34 and one 16; the margins of `BlurPool` widen a patch with little weight. `ndf` is
    the width of the first layer.
    """

    def __init__(self, ndf: int, halvings: int = 3, in_channels: int = 3) -> None:
        super().__init__()
        widths = [ndf * 2**n for n in range(halvings + 1)]
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, ndf, 4, padding=1),
            nn.LeakyReLU(0.2),
            *(
                layer
                for narrow, wide in pairwise(widths)
                for layer in (BlurPool(narrow), *_judging(narrow, wide))
            ),
            nn.Conv2d(widths[-1], 1, 4, padding=1),
        )
        initialise(self)

    def forward(self, face: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, "n 1 _ _"]:
        """Return one unbounded number a patch."""
        judgement: Tensor = self.layers(face)
        return judgement


class PatchProjection(nn.Module):
    """Project features of sampled places to unit vectors: one two-layer MLP an encoder layer.

    Park et al. 2020, section 3: F = H_l(G_enc^l), a shared space in which patches are compared.
    """

    def __init__(self, in_widths: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, width))
            for channels in in_widths
        )
        initialise(self)

    def forward(
        self, features: Sequence[Float32[Tensor, "n c _ _"]], places: Sequence[Int64[Tensor, " p"]]
    ) -> list[Float32[Tensor, "n p d"]]:
        """Return a unit vector for each picture and place; places count row by row."""
        return [
            functional.normalize(head(feature.flatten(2)[:, :, place].transpose(1, 2)), dim=-1)
            for head, feature, place in zip(self.heads, features, places, strict=True)
        ]


def _normalised(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    return convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU()


def _judging(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, 4, padding=1)
    return convolution, nn.InstanceNorm2d(out_channels), nn.LeakyReLU(0.2)

"""The networks of the translators: generators, PatchGAN, projection heads."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jaxtyping import Float32, Int64
    from torch import Tensor

    from fcr_train.config import Generator

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of R, G, B in luma (ITU-R BT.601), the same as in every grey conversion of OpenCV."""

FACE_CHANNELS = 3
"""Red, green, blue."""

_INIT_GAIN = 0.02
"""Gain of the Xavier initialisation (Park et al. 2020, the authors' code)."""

_INIT_SPREAD = 0.02
"""Standard deviation of the Gaussian initialisation (Isola et al. 2017, section 6.2; Zhu et al.
2017, appendix 7.1)."""

_EPSILON = 1e-5
"""Added to a variance before the root, as in `nn.InstanceNorm2d`."""

_SHUFFLED = 4
"""Side of the blocks of pixels that a shuffle generator makes into channels."""

_QUARTER = 2
"""Halvings to a quarter of the resolution."""

_WIDEST = 8
"""The U-Net widens up to this many times its first width (Isola et al. 2017, section 6.1.1)."""

_NOISY_BLOCKS = 3
"""Innermost decoder blocks of the U-Net that have dropout (Isola et al. 2017, section 6.1.1)."""


def luminance(face: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, "n 1 h w"]:
    """Weigh the colour channels into one; the range of the input is kept."""
    red, green, blue = face.unbind(1)
    weight_red, weight_green, weight_blue = LUMINANCE
    return (weight_red * red + weight_green * green + weight_blue * blue).unsqueeze(1)


def initialise(network: nn.Module) -> None:
    """Draw every weight anew as CUT does (Xavier, gain 0.02), and set biases to 0."""
    for layer in _weighted(network):
        nn.init.xavier_normal_(layer.weight, gain=_INIT_GAIN)


def initialise_gaussian(network: nn.Module) -> None:
    """Draw every weight anew as pix2pix and CycleGAN do, from N(0, 0.02^2); biases become 0."""
    for layer in _weighted(network):
        nn.init.normal_(layer.weight, 0.0, _INIT_SPREAD)


def _weighted(network: nn.Module) -> Iterator[nn.Conv2d | nn.ConvTranspose2d | nn.Linear]:
    """Yield the layers that have weights, their biases set to 0."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            yield layer


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


class PictureNorm(nn.Module):
    """Normalise a picture's features all together: mean 0 and variance 1 over its channels too.

    Instance normalisation takes out whatever is constant over a channel, and so all that constant
    condition planes add; here one channel stays above another.
    """

    def forward(self, x: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n c h w"]:
        """Normalise each picture by itself, in 32 bits: features start out small."""
        centred = x.float() - _mean(x.float())
        return centred * (_mean(centred.square()) + _EPSILON).rsqrt()


def _mean(x: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n 1 1 1"]:
    # Axis by axis: where ONNX Runtime adds up millions of numbers in order, digits are lost.
    return x.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True).mean(dim=1, keepdim=True)


class ResidualBlock(nn.Module):
    """Add two normalised 3x3 convolutions with reflected borders to the input.

    `dropout` stands between them, in training only (Zhu et al. 2017, the authors' code).
    """

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            # Of one number, so that weights have one name with dropout and without.
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout)),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n c h w"]:
        """Return the input plus what the block adds to it."""
        change: Tensor = self.layers(x)
        return x + change


class ResnetGenerator(nn.Module):
    """Translate a skull into a face: two halvings, residual blocks, two doublings.

    With `antialias` it is CUT's: halved by `BlurPool`, doubled by `BlurUpsample`. Without, it is
    CycleGAN's: convolutions of stride 2 and transposed ones (Zhu et al. 2017, appendix 7.2).

    `layers` is numbered as in the original code, so that the papers' PatchNCE layers mean the same
    here. With `antialias`: 0 is the reflected input, 4 and 8 are the convolutions in front of the
    two halvings (at full and at half resolution, before normalisation), 12 is the first residual
    block and 16 the fifth (a quarter of the resolution). Without, 4 and 7 are the halving
    convolutions and 10 is the first block. Instance normalisation keeps no running statistics: one
    picture is normalised by itself, in training and after export alike. `ngf` is the width at full
    resolution; it doubles at each halving. The last `planes` of the input channels are condition
    planes; where there are any, the first normalisation is `PictureNorm`, which lets them through.
    """

    def __init__(
        self,
        ngf: int,
        blocks: int,
        in_channels: int = 1,
        out_channels: int = 3,
        antialias: bool = True,
        dropout: float = 0.0,
        planes: int = 0,
    ) -> None:
        super().__init__()
        halve, double = (_halve_blurred, _double_blurred) if antialias else (_halve, _double)
        encoder = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, ngf, 7),
            PictureNorm() if planes else nn.InstanceNorm2d(ngf),
            nn.ReLU(),
            *halve(ngf, 2 * ngf),
            *halve(2 * ngf, 4 * ngf),
            *(ResidualBlock(4 * ngf, dropout) for _ in range(blocks)),
        ]
        self.encoder_length = len(encoder)
        self.layers = nn.Sequential(
            *encoder,
            *double(4 * ngf, 2 * ngf),
            *double(2 * ngf, ngf),
            nn.ReflectionPad2d(3),
            nn.Conv2d(ngf, out_channels, 7),
            nn.Tanh(),
        )
        initialise(self)

    @property
    def encoder(self) -> nn.Module:
        """The half that reads the skull, residual blocks included; it shares its weights."""
        return self.layers[: self.encoder_length]

    @property
    def deep(self) -> nn.Module:
        """The layer whose output, at a quarter of the resolution, a student learns from."""
        return self.layers[self.encoder_length - 1]

    def forward(self, skull: Float32[Tensor, "n i h w"]) -> Float32[Tensor, "n o h w"]:
        """Return the face, in [-1, 1]; the skull is in [-1, 1], its sides multiples of 4."""
        face: Tensor = self.layers(skull)
        return face

    def encode(
        self, picture: Float32[Tensor, "n i h w"], layers: Sequence[int]
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


class UnetGenerator(nn.Module):
    """Translate a skull into a face through a U-Net (Isola et al. 2017, section 6.1.1).

    Each of the `halvings` is a 4x4 convolution of stride 2; each doubling, a transposed one, also
    sees what its resolution was on the way down. Eight halvings take 256 pixels to one. `dropout`
    in the three innermost decoder blocks is pix2pix's noise z, in training only.

    The paper normalises by the batch and trains batches of one, with the statistics of the picture
    at hand even in use: that is instance normalisation, written here as such. It keeps no running
    statistics, so small batches train well, and a face depends on its own skull alone, in training
    and after export alike. The innermost convolution is not normalised: of one pixel nothing would
    remain (the paper's errata).
    """

    def __init__(
        self,
        ngf: int,
        halvings: int = 8,
        in_channels: int = 1,
        out_channels: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [ngf * min(2**number, _WIDEST) for number in range(halvings)]
        # Coming up, a block's input is its inner neighbour's output beside the skip of that level.
        inputs = [widths[-1], *(2 * width for width in reversed(widths[:-1]))]
        noise = [dropout] * _NOISY_BLOCKS + [0.0] * halvings
        self.encoder = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(in_channels, ngf, 4, 2, 1))]
            + [
                _contract(narrow, wide, normalised=level < halvings - 1)
                for level, (narrow, wide) in enumerate(pairwise(widths), start=1)
            ]
        )
        self.decoder = nn.ModuleList(
            [
                _expand(wide, narrow, share)
                for wide, narrow, share in zip(inputs, reversed(widths[:-1]), noise, strict=False)
            ]
            + [
                nn.Sequential(
                    nn.ReLU(), nn.ConvTranspose2d(inputs[-1], out_channels, 4, 2, 1), nn.Tanh()
                )
            ]
        )
        initialise_gaussian(self)

    @property
    def deep(self) -> nn.Module:
        """The layer whose output, at a quarter of the resolution, a student learns from."""
        return self.decoder[-3] if len(self.decoder) > _QUARTER else self.encoder[-1]

    def forward(self, skull: Float32[Tensor, "n i h w"]) -> Float32[Tensor, "n o h w"]:
        """Return the face, in [-1, 1].

        The skull is in [-1, 1], its sides multiples of 2^halvings.
        """
        levels = [skull]
        for layer in self.encoder:
            levels.append(layer(levels[-1]))
        face: Tensor = self.decoder[0](levels[-1])
        for layer, skip in zip(self.decoder[1:], levels[-2:0:-1], strict=True):
            face = layer(torch.cat([skip, face], dim=1))
        return face


class ShuffleGenerator(nn.Module):
    """Translate a skull into a face all at a quarter of the resolution.

    Blocks of 4 by 4 pixels become channels (Shi et al. 2016, there and back), a convolution makes
    `ngf` of them, residual blocks follow, a convolution and a shuffle draw the face: no layer
    works at full resolution, where a ResNet generator spends half of its multiplications. What is
    constant, as condition planes are, passes the blocks by on their skip connections.
    """

    def __init__(self, ngf: int, blocks: int, in_channels: int = 1, out_channels: int = 3) -> None:
        super().__init__()
        area = _SHUFFLED**2
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(_SHUFFLED),
            nn.ReflectionPad2d(1),
            nn.Conv2d(area * in_channels, ngf, 3),
            nn.ReLU(),
            *(ResidualBlock(ngf) for _ in range(blocks)),
            nn.ReflectionPad2d(1),
            nn.Conv2d(ngf, area * out_channels, 3),
            nn.PixelShuffle(_SHUFFLED),
            nn.Tanh(),
        )
        self.last_block = 3 + blocks
        # Weights stay as PyTorch draws them: those of the papers are small to please an adversary.

    @property
    def encoder(self) -> nn.Module:
        """All but the last convolution; it shares its weights."""
        return self.layers[: self.last_block + 1]

    @property
    def deep(self) -> nn.Module:
        """The layer whose output is likened to a teacher's."""
        return self.layers[self.last_block]

    def forward(self, skull: Float32[Tensor, "n i h w"]) -> Float32[Tensor, "n o h w"]:
        """Return the face, in [-1, 1]; the skull is in [-1, 1], its sides multiples of 4."""
        face: Tensor = self.layers(skull)
        return face


AnyGenerator = ResnetGenerator | UnetGenerator | ShuffleGenerator


def build_generator(config: Generator, in_channels: int, out_channels: int = 3) -> AnyGenerator:
    """Build the generator that a configuration describes; weights are drawn anew.

    It makes faces (3 channels) of skulls (1), or skulls of faces, whose planes come after them.
    """
    if config.architecture == "unet":
        return UnetGenerator(
            config.ngf, config.halvings, in_channels, out_channels, config.dropout
        )
    if config.architecture == "shuffle":
        return ShuffleGenerator(config.ngf, config.blocks, in_channels, out_channels)
    return ResnetGenerator(
        config.ngf,
        config.blocks,
        in_channels,
        out_channels,
        config.antialias,
        config.dropout,
        planes=in_channels - (1 if out_channels == FACE_CHANNELS else FACE_CHANNELS),
    )


class PatchDiscriminator(nn.Module):
    """Judge overlapping patches of a picture as real (1) or generated (0).

    The PatchGAN of Isola et al. 2017, section 6.1.2: 4x4 convolutions, the first `halvings` of
    stride 2; with `antialias`, of stride 1 and halved by `BlurPool` as in CUT. Three halvings make
    the published patch of 70 pixels, two 34 and one 16; the margins of `BlurPool` widen a patch
    with little weight. `ndf` is the width of the first layer.
    """

    def __init__(
        self, ndf: int, halvings: int = 3, in_channels: int = 3, antialias: bool = True
    ) -> None:
        super().__init__()
        widths = [ndf * 2**n for n in range(halvings + 1)]
        stride = 1 if antialias else 2
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, ndf, 4, stride, padding=1),
            nn.LeakyReLU(0.2),
        ]
        for level, (narrow, wide) in enumerate(pairwise(widths), start=1):
            if antialias:
                layers.append(BlurPool(narrow))
            layers.extend(_judging(narrow, wide, stride if level < halvings else 1))
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))
        initialise(self)

    def forward(self, picture: Float32[Tensor, "n c h w"]) -> Float32[Tensor, "n 1 _ _"]:
        """Return one unbounded number a patch."""
        judgement: Tensor = self.layers(picture)
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


def _normalised(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU()]


def _halve_blurred(narrow: int, wide: int) -> list[nn.Module]:
    return [*_normalised(nn.Conv2d(narrow, wide, 3, padding=1)), BlurPool(wide)]


def _halve(narrow: int, wide: int) -> list[nn.Module]:
    return _normalised(nn.Conv2d(narrow, wide, 3, 2, padding=1))


def _double_blurred(wide: int, narrow: int) -> list[nn.Module]:
    return [BlurUpsample(), *_normalised(nn.Conv2d(wide, narrow, 3, padding=1))]


def _double(wide: int, narrow: int) -> list[nn.Module]:
    return _normalised(nn.ConvTranspose2d(wide, narrow, 3, 2, padding=1, output_padding=1))


def _contract(narrow: int, wide: int, normalised: bool) -> nn.Sequential:
    layers = [nn.LeakyReLU(0.2), nn.Conv2d(narrow, wide, 4, 2, 1)]
    return nn.Sequential(*layers, *([nn.InstanceNorm2d(wide)] if normalised else []))


def _expand(wide: int, narrow: int, dropout: float) -> nn.Sequential:
    transposed = nn.ConvTranspose2d(wide, narrow, 4, 2, 1)
    return nn.Sequential(nn.ReLU(), transposed, nn.InstanceNorm2d(narrow), nn.Dropout(dropout))


def _judging(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, 4, stride, padding=1)
    return convolution, nn.InstanceNorm2d(out_channels), nn.LeakyReLU(0.2)

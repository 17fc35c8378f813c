"""The objectives of the papers, as functions from tensors to one number."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float32, Int64
    from torch import Tensor

_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of MS-SSIM's scales, fine to coarse (Wang, Simoncelli & Bovik 2003, section 3.2)."""
_WINDOW, _WINDOW_SD = 11, 1.5
"""Window of SSIM [pixels] and its standard deviation (Wang et al. 2004, section III.B)."""
_LUMINANCE_FLOOR, _CONTRAST_FLOOR = 0.01**2, 0.03**2
"""C1 and C2 of SSIM for a range of 1 (Wang et al. 2004)."""
_LEAST_LIKENESS = 1e-4
"""Where a scale is not alike at all, so that its fractional power keeps a slope."""
_LEAST_SCALE = 0.5 / 255
"""Half a grey level: below it errors are the rounding of the pictures."""


def least_squares(judgement: Float32[Tensor, "n 1 h w"], target: float) -> Float32[Tensor, ""]:
    """Return the mean squared distance of a discriminator's output from 1 (real) or 0 (fake).

    Mao et al. 2017, least squares GAN, with a = 0 and b = c = 1.
    """
    return (judgement.float() - target).square().mean()


def cross_entropy(judgement: Float32[Tensor, "n 1 h w"], target: float) -> Float32[Tensor, ""]:
    """Return the mean cross-entropy of a discriminator's logits with 1 (real) or 0 (fake).

    Goodfellow et al. 2014, with the generator asking for 1 rather than against 0, as Isola et al.
    2017, section 3.3, do; log 2 when undecided.
    """
    logits = judgement.float()  # a mean of many numbers outlasts no rounding to 8 bits
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def patch_nce(
    queries: Float32[Tensor, "n p d"], keys: Float32[Tensor, "n p d"], temperature: float
) -> Float32[Tensor, ""]:
    """Return PatchNCE of one layer: which of the input's patches does an output patch come from?

    Queries are unit vectors of patches of the generated picture, keys those of the input at the
    same places: key p is the positive of query p, the other p - 1 keys *of the same picture* are
    its negatives (Park et al. 2020, section 3 and Eq. 3; seed paper Eq. 8-9). No gradient flows
    into the keys, as in the authors' code. The value is at least 0; log p when nothing is told
    apart.
    """
    logits = (queries @ keys.detach().transpose(1, 2)).float() / temperature
    positives = torch.arange(queries.shape[1], device=queries.device).expand(logits.shape[:2])
    return functional.cross_entropy(logits.flatten(0, 1), positives.flatten())


def sample_places(
    features: Sequence[Float32[Tensor, "n c _ _"]], number: int, rng: torch.Generator
) -> list[Int64[Tensor, " p"]]:
    """Draw for each layer at most `number` different places, counted row by row."""
    sizes = [feature.shape[2] * feature.shape[3] for feature in features]
    return [
        torch.randperm(size, generator=rng)[:number].to(feature.device)
        for size, feature in zip(sizes, features, strict=True)
    ]


def ms_ssim(
    picture: Float32[Tensor, "n c h w"], target: Float32[Tensor, "n c h w"]
) -> Float32[Tensor, "n c"]:
    """Return the multi-scale structural similarity of each channel, at most 1 for equal pictures.

    Wang, Simoncelli & Bovik 2003, Eq. 7, for a range of 1 and sides of 176 or more, with windows
    that lie inside the picture. The windows are products with banded matrices, in 32 bits: on a
    CPU that takes a tenth of the time of a convolution of single channels.
    """
    values = []
    with torch.autocast(picture.device.type, enabled=False):
        picture, target = picture.float(), target.float()
        for scale, weight in enumerate(_SCALES):
            if scale:
                picture, target = (functional.avg_pool2d(one, 2) for one in (picture, target))
            luminance, contrast = _compare_windows(picture, target)
            likeness = contrast * luminance if scale == len(_SCALES) - 1 else contrast
            values.append(likeness.mean(dim=(2, 3)).clamp(min=_LEAST_LIKENESS) ** weight)
    return torch.stack(values).prod(dim=0)


def laplace(
    error: Float32[Tensor, "n ..."], scale: Float32[Tensor, "n ..."]
) -> Float32[Tensor, ""]:
    """Return the mean negative log-likelihood of absolute errors under Laplace's distribution.

    Kendall & Gal 2017, Eq. 5, with an absolute in place of a squared error: log(2 b) + |e| / b,
    least at b = |e|. Neither counts below half a grey level. No gradient flows into the errors.
    """
    scale = scale.float() + _LEAST_SCALE
    expected = error.detach().float().abs() + _LEAST_SCALE
    return (torch.log(2 * scale) + expected / scale).mean()


def _compare_windows(
    first: Float32[Tensor, "n c h w"], second: Float32[Tensor, "n c h w"]
) -> tuple[Float32[Tensor, "n c _ _"], Float32[Tensor, "n c _ _"]]:
    """Return luminance, and contrast with structure, of each window (Wang et al. 2004, Eq. 13)."""
    moments = torch.stack([first, second, first**2 + second**2, first * second])
    down, across = (_windows(side, first.device) for side in first.shape[2:])
    mean_1, mean_2, squares, products = down @ moments @ across.T
    means = mean_1**2 + mean_2**2
    luminance = (2 * mean_1 * mean_2 + _LUMINANCE_FLOOR) / (means + _LUMINANCE_FLOOR)
    covariance = products - mean_1 * mean_2
    contrast = (2 * covariance + _CONTRAST_FLOOR) / (squares - means + _CONTRAST_FLOOR)
    return luminance, contrast


@functools.cache
def _windows(side: int, device: torch.device) -> Float32[Tensor, "_ s"]:
    """Return the matrix that weighs each whole window of a line of `side` pixels, a row each."""
    places = torch.arange(_WINDOW, dtype=torch.float32) - _WINDOW // 2
    weights = torch.exp(-(places**2) / (2 * _WINDOW_SD**2))
    weights = weights / weights.sum()
    rows = [
        functional.pad(weights, (start, side - _WINDOW - start))
        for start in range(side - _WINDOW + 1)
    ]
    return torch.stack(rows).to(device)

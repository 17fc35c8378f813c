"""The objectives of the papers, as functions from tensors to one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float32, Int64
    from torch import Tensor


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

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from fcr_train.losses import cross_entropy, least_squares, patch_nce, sample_places


def slow_patch_nce(queries: np.ndarray, keys: np.ndarray, temperature: float) -> float:
    """Park et al. 2020, Eq. 3, one query at a time."""
    losses = []
    for query_patches, key_patches in zip(queries, keys, strict=True):
        for place, query in enumerate(query_patches):
            positive = math.exp(query @ key_patches[place] / temperature)
            negatives = sum(
                math.exp(query @ key / temperature)
                for other, key in enumerate(key_patches)
                if other != place
            )
            losses.append(-math.log(positive / (positive + negatives)))
    return float(np.mean(losses))


def test_patch_nce_by_hand() -> None:
    queries = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    keys = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]])

    loss = patch_nce(queries, keys, temperature=0.5)

    # Place 0: positive 1, negative .6. Place 1: positive .8, negative 0. Each divided by .5.
    first = -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.2)))
    second = -math.log(math.exp(1.6) / (math.exp(1.6) + math.exp(0.0)))
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_patch_nce_equals_the_slow_version_with_negatives_of_the_same_picture() -> None:
    torch.manual_seed(0)
    queries = functional.normalize(torch.randn(3, 7, 5), dim=-1)
    keys = functional.normalize(torch.randn(3, 7, 5), dim=-1)

    loss = patch_nce(queries, keys, temperature=0.07)

    expected = slow_patch_nce(queries.double().numpy(), keys.double().numpy(), 0.07)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_patch_nce_is_log_of_the_patches_when_nothing_is_told_apart() -> None:
    same = functional.normalize(torch.ones(2, 16, 4), dim=-1)

    assert patch_nce(same, same, temperature=0.07).item() == pytest.approx(math.log(16))


def test_patch_nce_leaves_the_keys_alone() -> None:
    queries = torch.randn(1, 4, 3, requires_grad=True)
    keys = torch.randn(1, 4, 3, requires_grad=True)

    patch_nce(queries, keys, temperature=0.07).backward()

    assert queries.grad is not None
    assert keys.grad is None


def test_least_squares_is_the_mean_squared_distance_from_the_target() -> None:
    judgement = torch.tensor([0.0, 1.0, 3.0, 0.5]).view(1, 1, 2, 2)

    assert least_squares(judgement, 1.0).item() == pytest.approx((1 + 0 + 4 + 0.25) / 4)
    assert least_squares(judgement, 0.0).item() == pytest.approx((0 + 1 + 9 + 0.25) / 4)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)

    real = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    fake = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert cross_entropy(logits, 1.0).item() == pytest.approx(real)
    assert cross_entropy(logits, 0.0).item() == pytest.approx(fake)


def test_judgements_in_16_bits_are_averaged_in_32() -> None:
    judgement = torch.cat([torch.full((1, 1, 30, 30), 1.0), torch.full((1, 1, 1, 30), 31.0)], 2)

    for loss in (least_squares, cross_entropy):
        assert loss(judgement.bfloat16(), 0.0).dtype == torch.float32
        assert loss(judgement.bfloat16(), 0.0).item() == pytest.approx(loss(judgement, 0.0).item())


def test_places_are_different_and_never_more_than_there_are() -> None:
    features = [torch.zeros(1, 1, 10, 10), torch.zeros(1, 1, 2, 3)]

    places = sample_places(features, 20, torch.Generator().manual_seed(0))

    assert [len(place) for place in places] == [20, 6]
    assert len(set(places[0].tolist())) == 20
    assert sorted(places[1].tolist()) == list(range(6))

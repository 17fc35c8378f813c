from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from fcr_train.config import Pix2PixConfig, load_preset
from fcr_train.translators import Pix2Pix

Step = Callable[..., dict[str, float]]
Draw = Callable[..., np.ndarray]


def make_translator(**changes: object) -> Pix2Pix:
    config = load_preset("pix2pix", "tiny")
    assert isinstance(config, Pix2PixConfig)
    torch.manual_seed(0)
    return Pix2Pix(replace(config, **changes))


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def draw_pairs(draw: Draw, number: int) -> dict[str, torch.Tensor]:
    """Draw films and faces that are blotchy heads, no two alike."""
    films = np.stack([draw(f"{i}", "film")[None] for i in range(number)])
    faces = np.stack([draw(f"{i}", "face").transpose(2, 0, 1) for i in range(number)])
    return {
        name: torch.from_numpy(pictures).float() / 127.5 - 1
        for name, pictures in {"skull": films, "face": faces}.items()
    }


class Verdict(torch.nn.Module):
    """A discriminator by hand: logit 2 where the face is white, -1 elsewhere, at four patches."""

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        white = (picture[:, -3:].mean(dim=(1, 2, 3), keepdim=True) > 0.5).float()
        return (3 * white - 1).expand(-1, 1, 2, 2)


def test_objective_by_hand() -> None:
    translator = make_translator()
    translator.discriminator = Verdict()  # type: ignore[assignment]
    skull = torch.zeros(2, 1, 64, 64)
    face = torch.ones(2, 3, 64, 64)
    fake_face = face.clone()
    fake_face[0] = 0.5  # logit -1, an L1 of 0.5; the other is perfect: logit 2, an L1 of 0

    judged = translator.discriminator_loss(skull, fake_face, face).item()
    losses = translator.generator_losses(skull, fake_face, face)

    def log_sigmoid(logit: float) -> float:
        return -math.log(1 + math.exp(-logit))

    fake = -(log_sigmoid(1) + log_sigmoid(-2)) / 2  # -log(1 - sigmoid(logit))
    assert judged == pytest.approx((fake - log_sigmoid(2)) / 2)
    gan = -(log_sigmoid(-1) + log_sigmoid(2)) / 2
    assert losses["gan"].item() == pytest.approx(gan)
    assert losses["l1"].item() == pytest.approx(0.25)
    assert translator.weigh(losses).item() == pytest.approx(gan + 100 * 0.25)


def test_discriminator_sees_the_skull_with_its_planes_beside_the_face() -> None:
    translator = make_translator(conditions=("sex", "age"))
    entered = []
    translator.discriminator.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    skull, face = torch.randn(1, 5, 64, 64), torch.randn(1, 3, 64, 64)

    translator.judge(skull, face)

    assert torch.equal(entered[0], torch.cat([skull, face], dim=1))


def test_a_true_pair_is_told_from_a_false_one(draw: Draw) -> None:
    # Both faces are real; only a discriminator that looks at the skull can tell which is whose.
    pairs = draw_pairs(draw, 2)
    translator = make_translator()
    optimiser = torch.optim.Adam(translator.discriminator.parameters(), 2e-3)
    skull, face = pairs["skull"], pairs["face"]

    for _ in range(40):
        loss = translator.discriminator_loss(skull, face.flip(0), face)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    assert loss.item() < 0.9 * math.log(2), "by the face alone it would stay at log 2"


def test_noise_is_drawn_in_training_only(draw: Draw) -> None:
    translator = make_translator()
    skull = draw_pairs(draw, 1)["skull"]

    assert not torch.equal(translator.generator(skull), translator.generator(skull))
    translator.eval()
    assert torch.equal(translator.generator(skull), translator.generator(skull))


def test_pix2pix_overfits_two_pictures(draw: Draw, take_step: Step) -> None:
    pairs = draw_pairs(draw, 2)
    config = make_translator().config
    translator = make_translator(
        generator=replace(config.generator, ngf=16),
        schedule=replace(config.schedule, learning_rate=1e-3),
    )
    optimisers, stream = translator.optimisers(), rng()

    history = [take_step(translator, pairs, optimisers, stream) for _ in range(100)]

    with torch.inference_mode():
        fakes = translator.eval().generator(pairs["skull"])
    similarity = [
        structural_similarity(fake.numpy(), face.numpy(), channel_axis=0, data_range=2)
        for fake, face in zip(fakes, pairs["face"], strict=True)
    ]
    assert min(similarity) > 0.8
    assert history[-1]["l1"] < 0.3 * history[0]["l1"]

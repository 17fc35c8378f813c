from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fcr_train.config import CycleGanConfig, load_preset
from fcr_train.networks import luminance
from fcr_train.translators import CycleGAN
from fcr_train.translators.cyclegan import ImagePool


def make_translator(**changes: object) -> CycleGAN:
    config = load_preset("cyclegan", "tiny")
    assert isinstance(config, CycleGanConfig)
    torch.manual_seed(0)
    return CycleGAN(replace(config, **changes))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grey(value: float, channels: int = 1) -> torch.Tensor:
    return torch.full((1, channels, 64, 64), value)


class Affine(torch.nn.Module):
    """A generator by hand: the mean of the channels, scaled and shifted, in so many channels."""

    def __init__(self, scale: float, shift: float, channels: int) -> None:
        super().__init__()
        self.scale, self.shift, self.channels = scale, shift, channels

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        mean = picture.mean(dim=1, keepdim=True)
        return (self.scale * mean + self.shift).expand(-1, self.channels, -1, -1)


def by_hand(**changes: object) -> CycleGAN:
    """Let G double, F halve and add 0.1, and the discriminators answer the mean of a picture."""
    translator = make_translator(**changes)
    translator.generator = Affine(2.0, 0.0, 3)
    translator.skull_generator = Affine(0.5, 0.1, 1)
    translator.face_discriminator = Affine(1.0, 0.0, 1)  # type: ignore[assignment]
    translator.skull_discriminator = Affine(1.0, 0.0, 1)  # type: ignore[assignment]
    return translator


def batch_of(skull: torch.Tensor, face: torch.Tensor, planes: int = 0) -> dict[str, torch.Tensor]:
    none = torch.zeros(len(skull), planes, 64, 64)
    return {"skull": torch.cat([skull, none], 1), "face": face, "face_planes": none}


def test_objective_by_hand() -> None:
    translator = by_hand(pool_size=0)

    generators, discriminators = translator.turns(batch_of(grey(0.2), grey(0.6, 3)), rng())

    expected = {
        "gan": (0.4 - 1) ** 2,  # G(.2) = .4
        "gan_skull": (0.4 - 1) ** 2,  # F(.6) = .4
        "cycle": 0.1,  # F(G(.2)) = .3
        "cycle_face": 0.2,  # G(F(.6)) = .8
        "identity": 0.6,  # G(.6) = 1.2
        "identity_skull": 0.0,  # F(.2) = .2
    }
    found = {name: loss.item() for name, loss in generators.losses.items()}
    assert found == pytest.approx(expected, abs=1e-6)
    objective = 0.36 + 0.36 + 10 * (0.1 + 0.2) + 0.5 * 10 * (0.6 + 0.0)
    assert generators.objective.item() == pytest.approx(objective, rel=1e-6)
    # Real faces are .6, generated ones .4; real skulls .2, generated ones .4.
    told = {"discriminator": (0.16 + 0.16) / 2, "discriminator_skull": (0.16 + 0.64) / 2}
    found = {name: loss.item() for name, loss in discriminators.losses.items()}
    assert found == pytest.approx(told, abs=1e-6)
    assert discriminators.objective.item() == pytest.approx(sum(told.values()), rel=1e-6)


def test_without_its_weight_identity_is_not_computed() -> None:
    turn = next(by_hand(lambda_identity=0.0).turns(batch_of(grey(0.2), grey(0.6, 3)), rng()))

    assert not any(name.startswith("identity") for name in turn.losses)


def test_identity_gives_each_generator_its_target_in_grey() -> None:
    translator = make_translator()
    skull, face = torch.rand(1, 1, 64, 64), torch.rand(1, 3, 64, 64)
    none = torch.zeros(1, 0, 64, 64)

    losses = translator.identity_losses(skull, none, face, none)

    coloured = translator.generator(luminance(face))
    same = translator.skull_generator(skull.repeat(1, 3, 1, 1))
    assert losses["identity"].item() == pytest.approx((coloured - face).abs().mean().item())
    assert losses["identity_skull"].item() == pytest.approx((same - skull).abs().mean().item())


def test_planes_go_with_their_picture() -> None:
    translator = make_translator(conditions=("sex",))
    seen: dict[str, list[torch.Tensor]] = {}
    for name, network in translator.named_children():
        seen[name] = []
        network.register_forward_pre_hook(
            lambda _, inputs, name=name: seen[name].append(inputs[0][:, -2:].mean(dim=(0, 2, 3)))
        )
    skull_planes, face_planes = torch.tensor([1.0, 1.0]), torch.tensor([-1.0, 1.0])
    skull = torch.cat([grey(0.1), skull_planes.view(1, 2, 1, 1).expand(1, 2, 64, 64)], 1)
    batch = {
        "skull": skull,
        "face": grey(0.3, 3),
        "face_planes": face_planes.view(1, 2, 1, 1).expand(1, 2, 64, 64),
    }

    list(translator.turns(batch, rng()))

    values = {name: [planes[0].item() for planes in inputs] for name, inputs in seen.items()}
    # The skull's way there, the face's way back to a face, the face's identity.
    assert values["generator"] == [1, -1, -1]
    assert values["skull_generator"] == [-1, 1, 1]
    # A generated face has the skull's planes; of the real ones each has its own.
    assert values["face_discriminator"] == [1, 1, -1]
    assert values["skull_discriminator"] == [-1, -1, 1]


def numbered(number: float) -> torch.Tensor:
    return torch.full((1, 2, 4, 4), number)


def test_pool_shows_what_comes_until_it_is_full() -> None:
    pool, stream = ImagePool(3, 2, 4), rng()

    shown = [pool.exchange(numbered(i), stream)[0, 0, 0, 0].item() for i in range(3)]

    assert shown == [0, 1, 2]
    assert pool.pictures[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_full_pool_shows_an_old_picture_half_of_the_time() -> None:
    pool, stream, old = ImagePool(50, 2, 4), rng(), 0

    for number in range(1050):
        held = set(pool.pictures[:, 0, 0, 0].tolist())
        shown = pool.exchange(numbered(number), stream)[0, 0, 0, 0].item()
        if number < 50:
            continue
        if shown != number:
            old += 1
            assert shown in held
            assert number in pool.pictures[:, 0, 0, 0], "it takes the place of the one shown"
            assert shown not in pool.pictures[:, 0, 0, 0]
        else:
            assert set(pool.pictures[:, 0, 0, 0].tolist()) == held

    assert 450 < old < 550  # of 1000, by a fair coin: three standard deviations are 47


def test_pool_takes_each_picture_of_a_batch_by_itself() -> None:
    whole, single = ImagePool(4, 2, 4), ImagePool(4, 2, 4)
    pictures, (one, other) = torch.randn(12, 2, 4, 4), (rng(), rng())

    together = torch.cat([whole.exchange(part, one) for part in pictures.split(4)])
    alone = torch.cat([single.exchange(part, other) for part in pictures.split(1)])

    assert torch.equal(together, alone)
    assert together.requires_grad is False


def test_pool_of_none_shows_every_picture() -> None:
    pool, picture = ImagePool(0, 2, 4), torch.randn(2, 2, 4, 4)

    assert pool.exchange(picture, rng()) is picture


def test_state_dict_holds_the_pool() -> None:
    translator, other = make_translator(), make_translator()
    for value in range(3):
        translator.faces.exchange(grey(value / 4, 3), rng())

    other.load_state_dict(translator.state_dict())

    assert other.faces.filled == 3
    assert torch.equal(other.faces.pictures, translator.faces.pictures)
    shown = [pool.exchange(grey(0.9, 3), rng(5)) for pool in (translator.faces, other.faces)]
    assert torch.equal(*shown)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from fcr_train.config import CutConfig, PatchNce, load_preset
from fcr_train.networks import luminance
from fcr_train.translators import CUT, TRANSLATORS

Step = Callable[..., dict[str, float]]

STEPS = 120
"""Steps of the overfit run: enough for each tendency below to be far from noise."""
TAIL = 10
"""Steps averaged at each end of it."""


def make_translator(model: str, **changes: object) -> CUT:
    config = load_preset(model, "tiny")
    assert isinstance(config, CutConfig)
    torch.manual_seed(0)
    return TRANSLATORS[model](replace(config, **changes))


def batch(skulls: torch.Tensor, faces: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"skull": skulls, "face": faces, "face_planes": faces[:, 3:]}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_pairs(number: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw rings (skulls) and filled, coloured discs of the same width (faces)."""
    y, x = (np.mgrid[:size, :size] - size / 2) / (size / 2)
    skulls, faces = [], []
    for index in range(number):
        radius = np.hypot(x / (0.5 + 0.1 * index), y / 0.8)
        skulls.append(np.exp(-(((radius - 1) / 0.1) ** 2))[None])
        disc = 1 / (1 + np.exp(20 * (radius - 1)))
        faces.append(disc * np.array([0.9, 0.6, 0.5])[:, None, None])
    return tuple(
        torch.from_numpy(np.stack(pictures)).float() * 2 - 1 for pictures in (skulls, faces)
    )  # type: ignore[return-value]


def draw_lopsided_skull() -> torch.Tensor:
    """Draw a skull that is not its own mirror image."""
    skulls, _ = draw_pairs(1)
    return skulls.roll(9, dims=3)


def test_fastcut_overfits_four_pictures(take_step: Step) -> None:
    torch.manual_seed(0)
    translator = make_translator("fastcut")
    optimisers = translator.optimisers()
    skulls, faces = draw_pairs(4)
    stream = rng()

    history = [
        take_step(
            translator,
            batch(skulls[i % 4 : i % 4 + 1], faces[(i + 1) % 4 : (i + 1) % 4 + 1]),
            optimisers,
            stream,
        )
        for i in range(STEPS)
    ]

    first, last = (
        {name: np.mean([losses[name] for losses in part]) for name in history[0]}
        for part in (history[:TAIL], history[-TAIL:])
    )
    told_apart = np.mean([losses["discriminator"] for losses in history[STEPS // 2 :]])
    undecided = 0.25
    assert last["nce"] < 0.85 * first["nce"], "patches of the face find their place in the skull"
    assert told_apart < 0.6 * undecided, "the discriminator sees which face is real"
    assert min(losses["gan"] for losses in history) < 0.8, "the generator deceives at times"
    assert last["gan"] < 1.5, "without losing outright"
    faces_made = translator.generator(skulls)
    assert faces_made.std(dim=(2, 3)).min() > 0.05, "the faces are no flat colour"


def test_one_step_against_a_fixed_opponent_lowers_each_loss(take_step: Step) -> None:
    translator = make_translator("fastcut", flip_equivariance=False)
    optimisers = translator.optimisers()
    skulls, faces = draw_pairs(2)

    before = take_step(translator, batch(skulls, faces), optimisers, rng())
    for _ in range(5):
        after = take_step(translator, batch(skulls, faces), optimisers, rng())

    assert after["nce"] < before["nce"]
    assert after["discriminator"] < before["discriminator"]


def test_cut_has_an_identity_loss_and_fastcut_none(take_step: Step) -> None:
    skulls, faces = draw_pairs(1)
    losses = {
        model: take_step(
            make_translator(model),
            batch(skulls, faces),
            make_translator(model).optimisers(),
            rng(),
        )
        for model in ("cut", "fastcut")
    }

    assert set(losses["fastcut"]) == {"gan", "nce", "discriminator"}
    assert set(losses["cut"]) == {"gan", "nce", "identity", "discriminator"}


def test_identity_compares_a_face_with_its_translated_luminance() -> None:
    translator = make_translator("cut")
    _, faces = draw_pairs(2)

    loss = translator.identity_loss(faces, faces[:, 3:], rng())

    assert loss.item() == pytest.approx(
        (translator.generator(luminance(faces)) - faces).abs().mean().item(), abs=1e-6
    )


def test_identity_by_patch_nce_is_that_of_a_face_and_its_translation() -> None:
    translator = make_translator("cut", identity="nce")
    _, faces = draw_pairs(2)
    grey = luminance(faces)

    loss = translator.identity_loss(faces, faces[:, 3:], rng())

    expected = translator.nce_loss(grey, translator.generator(grey), False, rng())
    assert loss.item() == pytest.approx(expected.item())


def test_planes_go_with_their_picture(take_step: Step) -> None:
    translator = make_translator("cut", conditions=("sex",))
    seen: dict[str, list[float]] = {"generator": [], "discriminator": []}
    for name, values in seen.items():
        getattr(translator, name).register_forward_pre_hook(
            lambda _, inputs, values=values: values.append(inputs[0][0, -2, 0, 0].item())
        )
    (skulls, faces), plane = draw_pairs(1), torch.ones(1, 1, 64, 64)
    told = torch.cat([skulls, plane, plane], dim=1)
    pair = {"skull": told, "face": faces, "face_planes": torch.cat([-plane, plane], dim=1)}

    take_step(translator, pair, translator.optimisers(), rng())

    assert seen["generator"] == [1, -1], "the skull, then the identity of the face"
    assert seen["discriminator"] == [1, -1, 1], "generated, real, generated again"


def test_patch_nce_encodes_the_face_with_the_planes_of_its_skull() -> None:
    translator = make_translator("cut", conditions=("sex",))
    encoded = []
    translator.generator.layers[0].register_forward_pre_hook(
        lambda _, inputs: encoded.append(inputs[0])
    )
    (skulls, faces), plane = draw_pairs(1), torch.ones(1, 2, 64, 64)

    translator.nce_loss(torch.cat([skulls, plane], dim=1), faces, False, rng())

    assert torch.equal(encoded[0], torch.cat([luminance(faces), plane], dim=1))
    assert torch.equal(encoded[1], torch.cat([skulls, plane], dim=1))


def test_objective_weighs_the_terms_as_the_paper_does() -> None:
    losses = {name: torch.tensor(value) for name, value in {"gan": 0.5, "nce": 2.0}.items()}

    assert make_translator("fastcut").weigh(losses).item() == 0.5 + 10 * 2.0
    assert make_translator("cut").weigh(losses | {"identity": torch.tensor(0.25)}).item() == 2.75


def test_discriminator_loss_is_a_quarter_when_undecided() -> None:
    translator = make_translator("fastcut")
    torch.nn.init.zeros_(translator.discriminator.layers[-1].weight)
    torch.nn.init.constant_(translator.discriminator.layers[-1].bias, 0.5)
    _, faces = draw_pairs(1)

    assert translator.discriminator_loss(faces, faces).item() == pytest.approx(0.25)


def test_mirrored_features_are_mirrored_back() -> None:
    # Of all layers only the first, the picture itself, is the same for a mirrored picture.
    translator = make_translator("fastcut", patch_nce=PatchNce(layers=(0,), num_patches=64))
    skull = draw_lopsided_skull()
    face = skull.expand(-1, 3, -1, -1)

    straight = translator.nce_loss(skull, face, False, rng())

    assert translator.nce_loss(skull, face.flip(3), True, rng()).item() == pytest.approx(
        straight.item(), rel=1e-5
    )
    assert translator.nce_loss(skull, face.flip(3), False, rng()) > 1.1 * straight


@pytest.mark.parametrize(("model", "mirrors"), [("fastcut", True), ("cut", False)])
def test_only_fastcut_mirrors_and_not_always(model: str, mirrors: bool, take_step: Step) -> None:
    translator = make_translator(model)
    optimisers, stream = translator.optimisers(), rng()
    skull, (_, faces) = draw_lopsided_skull(), draw_pairs(1)
    entered = []
    translator.generator.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))

    seen = set()
    for _ in range(12):
        entered.clear()
        take_step(translator, batch(skull, faces), optimisers, stream)
        seen.add(torch.equal(entered[0], skull.flip(3)))

    assert seen == ({True, False} if mirrors else {False})


def test_the_generators_turn_leaves_the_discriminator_alone(take_step: Step) -> None:
    translator = make_translator("fastcut")
    optimisers = translator.optimisers()
    skulls, faces = draw_pairs(1)

    take_step(translator, batch(skulls, faces), optimisers, rng())

    after_its_own_turn = {
        name: weight.clone() for name, weight in translator.discriminator.state_dict().items()
    }
    skipped = dict(optimisers)
    skipped["discriminator"] = torch.optim.SGD(translator.discriminator.parameters(), lr=0.0)
    take_step(translator, batch(skulls, faces), skipped, rng())

    for name, weight in translator.discriminator.state_dict().items():
        assert torch.equal(weight, after_its_own_turn[name])

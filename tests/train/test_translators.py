"""What holds for every method that translates a skull into a face."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from export.to_onnx import to_onnx
from fcr_edge.errors import ConfigError, DataError
from fcr_edge.manifest import TensorSpec
from fcr_edge.sessions import open_session
from fcr_train import dataset
from fcr_train.checkpoint import Checkpoint, save_checkpoint
from fcr_train.config import (
    CONFIGS,
    CycleGanConfig,
    Discriminator,
    Generator,
    Pix2PixConfig,
    TranslatorConfig,
    load_preset,
    to_table,
)
from fcr_train.networks import build_generator
from fcr_train.tasks import Plan, TranslatorTask
from fcr_train.trainer import Batch, Turn, train
from fcr_train.translators import (
    TRANSLATORS,
    FaceIdentity,
    Translator,
    load_encoder,
    load_generator,
)

Step = Callable[..., dict[str, float]]
MODELS = sorted(TRANSLATORS)
CONDITIONS = ("sex", "age", "bmi")
ROUNDING = 1e-5
"""Float32 in another order of additions, on faces in [-1, 1]."""
EQUAL = 1e-6
"""Rounding of a mean of numbers near 1."""


def configure(model: str, **changes: object) -> TranslatorConfig:
    config = load_preset(model, "tiny")
    assert isinstance(config, TranslatorConfig)
    return replace(config, **changes)


def make_translator(
    model: str, identity: FaceIdentity | None = None, **changes: object
) -> Translator:
    torch.manual_seed(0)
    return TRANSLATORS[model](configure(model, **changes), identity)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_batch(number: int, size: int = 64, conditions: int = 0) -> Batch:
    """Draw rings (skulls) and filled, coloured discs of the same width (faces)."""
    y, x = (np.mgrid[:size, :size] - size / 2) / (size / 2)
    skulls, faces = [], []
    for index in range(number):
        radius = np.hypot(x / (0.5 + 0.1 * index), y / 0.8)
        skulls.append(np.exp(-(((radius - 1) / 0.1) ** 2))[None])
        disc = 1 / (1 + np.exp(20 * (radius - 1)))
        faces.append(disc * np.array([0.9, 0.6, 0.5 + 0.1 * index])[:, None, None])
    skull, face = (torch.from_numpy(np.stack(p)).float() * 2 - 1 for p in (skulls, faces))
    planes = torch.zeros(number, 2 * conditions, size, size)
    told = torch.cat([skull, planes], dim=1)
    return {"skull": told, "face": face, "face_planes": planes, "mate": face}


def describe(model: str, generator: nn.Module, **changes: object) -> Checkpoint:
    config = to_table(configure(model, **changes))
    return Checkpoint("translator", model, "tiny", config, 1, dict(generator.state_dict()))


def test_paper_presets_state_the_published_numbers() -> None:
    cyclegan, pix2pix = load_preset("cyclegan", "paper"), load_preset("pix2pix", "paper")

    assert isinstance(cyclegan, CycleGanConfig)
    assert (cyclegan.lambda_cycle, cyclegan.lambda_identity, cyclegan.pool_size) == (10, 0.5, 50)
    assert cyclegan.generator == Generator(64, blocks=9, antialias=False)
    assert isinstance(pix2pix, Pix2PixConfig)
    assert pix2pix.lambda_l1 == 100
    assert pix2pix.generator == Generator(64, architecture="unet", halvings=8, dropout=0.5)
    for config in (cyclegan, pix2pix):
        assert config.discriminator == Discriminator(64, halvings=3, antialias=False)
        assert (config.schedule.epochs, config.schedule.decay_epochs) == (100, 100)
        assert (config.schedule.learning_rate, config.schedule.beta1) == (2e-4, 0.5)
        assert (config.size, config.schedule.batch_size, config.ema) == (256, 1, 0)
        assert not config.conditions


@pytest.mark.parametrize("model", MODELS)
def test_on_two_pictures_what_the_generator_minimises_falls(model: str, take_step: Step) -> None:
    translator, pair = make_translator(model), draw_batch(2)
    optimisers, stream = translator.optimisers(), rng()
    target, steps = {"pix2pix": ("l1", 30), "cyclegan": ("cycle", 14)}.get(model, ("nce", 14))

    history = [take_step(translator, pair, optimisers, stream)[target] for _ in range(steps)]

    assert np.mean(history[-5:]) < 0.97 * np.mean(history[:5])


@pytest.mark.parametrize("model", MODELS)
def test_each_turn_moves_its_own_player_only(model: str) -> None:
    translator = make_translator(model)
    optimisers = translator.optimisers()

    for turn in translator.turns(draw_batch(1), rng()):
        before = {name: weight.clone() for name, weight in translator.named_parameters()}
        turn.objective.backward()
        optimisers[turn.player].step()
        own = {id(w) for group in optimisers[turn.player].param_groups for w in group["params"]}
        for name, weight in translator.named_parameters():
            assert (id(weight) in own) or torch.equal(weight, before[name]), name
        moved = [n for n, w in translator.named_parameters() if not torch.equal(w, before[n])]
        assert moved
        for optimiser in optimisers.values():
            optimiser.zero_grad()


@pytest.mark.parametrize("model", MODELS)
def test_every_weight_has_one_player(model: str) -> None:
    translator = make_translator(model)

    owned = [
        id(weight)
        for optimiser in translator.optimisers().values()
        for group in optimiser.param_groups
        for weight in group["params"]
    ]

    assert sorted(owned) == sorted(id(weight) for weight in translator.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_a_state_dict_continues_a_training_exactly(model: str, take_step: Step) -> None:
    pair = draw_batch(1)
    first, second = make_translator(model), make_translator(model)
    optimisers = first.optimisers()
    for _ in range(3):
        take_step(first, pair, optimisers, rng())

    second.load_state_dict(first.state_dict())
    resumed = second.optimisers()
    for name, optimiser in optimisers.items():
        resumed[name].load_state_dict(copy.deepcopy(optimiser.state_dict()))
    losses = []
    for translator, players in ((first, optimisers), (second, resumed)):
        torch.manual_seed(7)  # dropout
        stream = rng(7)
        losses.append([take_step(translator, pair, players, stream) for _ in range(3)])

    assert losses[0] == losses[1]


@pytest.mark.parametrize("model", MODELS)
def test_conditions_change_the_face_and_unknown_is_a_valid_input(
    model: str, take_step: Step
) -> None:
    translator = make_translator(model, conditions=CONDITIONS)
    batch = draw_batch(2, conditions=3)
    for _ in range(2):
        take_step(translator, batch, translator.optimisers(), rng())
    translator.eval()
    unknown, woman, man = (batch["skull"].clone() for _ in range(3))
    woman[:, 1:3], man[:, 1], man[:, 2] = 1.0, -1.0, 1.0

    faces = [translator.generator(skull) for skull in (unknown, woman, man)]

    assert all(face.isfinite().all() and face.abs().max() <= 1 for face in faces)
    assert (faces[1] - faces[2]).abs().max() > 1e-3
    assert (faces[0] - faces[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "generator",
    [
        pytest.param(Generator(8, architecture="unet", halvings=6, dropout=0.5), id="unet"),
        pytest.param(Generator(8, blocks=2), id="resnet"),
    ],
)
def test_conditions_teach_the_generator_what_they_stand_for(
    generator: Generator, take_step: Step
) -> None:
    # Two people with one skull: only the plane says which of two faces is asked for.
    translator = make_translator("pix2pix", conditions=("sex",), generator=generator)
    batch = draw_batch(2, conditions=1)
    batch["skull"][1] = batch["skull"][0]
    batch["skull"][:, 2], batch["skull"][0, 1], batch["skull"][1, 1] = 1.0, 1.0, -1.0
    batch["face"][0], batch["face"][1] = 0.5, -0.5
    optimisers, stream = translator.optimisers(), rng()

    for _ in range(60):
        take_step(translator, batch, optimisers, stream)

    first, second = translator.eval().generator(batch["skull"]).mean(dim=(1, 2, 3))
    assert first > 0.2
    assert second < -0.2


class FirstColour(nn.Module):
    """An embedder by hand: the mean of red and of green, scaled to length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.normalise = nn.BatchNorm1d(2, affine=False)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.gain * face.mean(dim=(2, 3))[:, :2], dim=1)


def test_identity_term_by_hand() -> None:
    fake, true = torch.full((2, 3, 8, 8), -1.0), torch.full((2, 3, 8, 8), -1.0)
    fake[0, 0], true[0, 1] = 1.0, 1.0  # red against green: at right angles
    fake[1, :2], true[1, 0], true[1, 1] = 1.0, 1.0, 0.0  # (1, 1) against (1, .5)

    loss = FaceIdentity(FirstColour(), size=8)(fake, true)

    cosine = 1.5 / (2**0.5 * 1.25**0.5)
    assert loss.item() == pytest.approx((1 + (1 - cosine)) / 2, abs=EQUAL)


def test_identity_gives_its_gradient_to_the_generated_face_alone() -> None:
    fake, true = (torch.rand(2, 3, 8, 8, requires_grad=True) for _ in range(2))
    identity = FaceIdentity(FirstColour(), size=4).train()

    identity(fake, true).backward()

    assert fake.grad is not None
    assert true.grad is None
    assert all(weight.grad is None for weight in identity.parameters())
    assert not any(module.training for module in identity.modules())


@pytest.mark.parametrize("model", MODELS)
def test_identity_is_a_term_of_every_method(model: str, take_step: Step) -> None:
    identity = FaceIdentity(FirstColour(), size=32)
    translator = make_translator(model, identity, lambda_embedding=2.0)
    before = {name: weight.clone() for name, weight in identity.state_dict().items()}

    losses = take_step(translator, draw_batch(2), translator.optimisers(), rng())
    *_, turn = (t for t in translator.turns(draw_batch(2), rng()) if t.player == "generator")
    unweighted = make_translator(model)

    assert 0 < losses["embedding"] < 2
    without = {name: loss for name, loss in turn.losses.items() if name != "embedding"}
    expected = unweighted.weigh(without) + 2 * turn.losses["embedding"]
    assert turn.objective.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, weight in identity.state_dict().items():
        assert torch.equal(weight, before[name]), "the embedder is frozen"


@pytest.mark.parametrize("model", MODELS)
def test_identity_needs_its_embedder_and_its_weight(model: str) -> None:
    with pytest.raises(ConfigError, match="lambda_embedding is 1, but there is no embedder"):
        make_translator(model, lambda_embedding=1.0)
    with pytest.raises(ConfigError, match="lambda_embedding is 0"):
        make_translator(model, FaceIdentity(FirstColour(), size=32))


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_rebuilds_its_generator(model: str, tmp_path: Path) -> None:
    generator = make_translator(model, conditions=("sex",)).generator.eval()
    save_checkpoint(tmp_path / "c.safetensors", describe(model, generator, conditions=("sex",)))

    rebuilt, checkpoint = load_generator(tmp_path / "c.safetensors")

    skull = torch.randn(1, 3, 64, 64)
    assert checkpoint.model == model
    assert not rebuilt.training
    torch.testing.assert_close(rebuilt(skull), generator(skull), atol=0, rtol=0)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    unet = make_translator("pix2pix").generator
    save_checkpoint(tmp_path / "c.safetensors", describe("cut", unet))

    with pytest.raises(DataError, match="not those of the network that it describes"):
        load_generator(tmp_path / "c.safetensors")


def test_what_is_no_translator_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", Checkpoint("embedder", "vgg16", "tiny", {}, 1, {}))

    with pytest.raises(
        DataError, match="holds an embedder 'vgg16': pass a translator, one of cyc"
    ):
        load_generator(tmp_path / "c.safetensors")


@pytest.mark.parametrize("model", MODELS)
def test_an_encoder_starts_from_another_checkpoint(model: str, tmp_path: Path) -> None:
    source, generator = make_translator(model).generator, make_translator(model).generator
    for weight in source.parameters():
        nn.init.normal_(weight)
    save_checkpoint(tmp_path / "c.safetensors", describe(model, source))
    decoder = [*generator.parameters()][len([*generator.encoder.parameters()]) :]
    before = [weight.clone() for weight in decoder]

    load_encoder(generator, tmp_path / "c.safetensors")

    pairs = zip(generator.encoder.parameters(), source.encoder.parameters(), strict=True)
    assert all(torch.equal(own, given) for own, given in pairs)
    assert all(torch.equal(own, kept) for own, kept in zip(decoder, before, strict=True))


@pytest.mark.parametrize(
    "generator",
    [
        pytest.param(Generator(ngf=8, architecture="unet", halvings=6), id="architecture"),
        pytest.param(Generator(ngf=4, blocks=5), id="width"),
        pytest.param(Generator(ngf=8, blocks=4), id="depth"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(generator: Generator, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", describe("cut", make_translator("cut").generator))

    with pytest.raises(DataError, match=r"the encoder of the cut in .* does not fit"):
        load_encoder(build_generator(generator, 1), tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(Generator(ngf=4, blocks=1, dropout=0.5), id="antialiased"),
        pytest.param(Generator(ngf=4, blocks=1, antialias=False), id="strided"),
        pytest.param(Generator(4, architecture="unet", halvings=5, dropout=0.5), id="unet"),
    ],
)
def test_every_generator_exports_and_agrees_in_any_batch(config: Generator) -> None:
    torch.manual_seed(0)
    generator = build_generator(config, in_channels=3).eval()
    skull = TensorSpec("skull", channels=3, height=32, width=32, low=-1, high=1)
    face = TensorSpec("face", channels=3, height=32, width=32, low=-1, high=1)

    with open_session(to_onnx(generator, skull, face), "cpu") as session:
        for number in (1, 3):
            batch = np.random.default_rng(1).uniform(-1, 1, (number, 3, 32, 32)).astype("float32")
            with torch.inference_mode():
                expected = generator(torch.from_numpy(batch)).numpy()
            assert np.abs(session.run(batch) - expected).max() < ROUNDING


class Denoiser(Translator):
    """A method outside the GANs: learn to take noise out of a face, given its skull."""

    needs_pairs: ClassVar[bool] = True

    def __init__(self, config: TranslatorConfig, identity: FaceIdentity | None = None) -> None:
        super().__init__()
        self.config = config
        self.generator: FromNoise = FromNoise()

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"denoiser": torch.optim.Adam(self.parameters(), 0.01)}

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        noise = torch.randn(batch["face"].shape, generator=rng)
        noisy = torch.cat([batch["skull"], batch["face"] + noise], dim=1)
        loss = functional.mse_loss(self.generator.denoise(noisy), batch["face"])
        yield Turn("denoiser", {"denoising": loss}, loss)


class FromNoise(nn.Module):
    """Start from black and denoise twice."""

    def __init__(self) -> None:
        super().__init__()
        self.denoise = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, skull: torch.Tensor) -> torch.Tensor:
        face = torch.zeros_like(skull[:, :1]).expand(-1, 3, -1, -1)
        for _ in range(2):
            face = self.denoise(torch.cat([skull[:, :1], face], dim=1))
        return face.tanh()


def test_a_method_outside_the_gans_is_one_class(
    dataset_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRANSLATORS, "denoiser", Denoiser)
    monkeypatch.setitem(CONFIGS, "denoiser", CONFIGS["pix2pix"])
    config = configure("pix2pix")
    config = replace(config, schedule=replace(config.schedule, epochs=2, steps_per_epoch=20))
    plan = Plan(
        "denoiser", "tiny", config, dataset.read_dataset(dataset_folder), 1, torch.device("cpu")
    )
    seen = []

    path = train(TranslatorTask(plan), tmp_path, 1, plan.identity, observe=seen.append)

    ends = [progress.figures["denoising"] for progress in seen if progress.epoch_ended]
    assert ends[-1] < ends[0]
    assert path.is_file()
    assert len([*(tmp_path / "samples").iterdir()]) == 3

"""CycleGAN: unpaired translation that has to find its way back (Zhu et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn import functional

from fcr_train.losses import least_squares
from fcr_train.networks import (
    FACE_CHANNELS,
    PatchDiscriminator,
    build_generator,
    initialise_gaussian,
    luminance,
)
from fcr_train.trainer import Turn
from fcr_train.translators.identity import check_identity, embedding_loss
from fcr_train.translators.translator import Translator, build_adam, weigh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float32
    from torch import Tensor
    from torch.optim import Optimizer

    from fcr_train.config import CycleGanConfig
    from fcr_train.trainer import Batch
    from fcr_train.translators.identity import FaceIdentity

    Bare = Float32[Tensor, "n 1 h w"]
    Face = Float32[Tensor, "n 3 h w"]
    Planes = Float32[Tensor, "n 2c h w"]
    Picture = Float32[Tensor, "n c h w"]
    Loss = Float32[Tensor, ""]


class CycleGAN(Translator):
    """Two generators, two discriminators and their pools of past fakes (seed paper, Eq. 1-4).

    The objective is a GAN in each direction + lambda_cycle cycle consistency + lambda_identity
    lambda_cycle identity, with least squares as the GAN loss (Zhu et al. 2017, section 4) and the
    identity term of section 5.2 there. Only the generator from skull to face is exported.

    Condition planes accompany a picture wherever it goes, through both generators and before both
    discriminators: a face generated for a skull keeps the skull's planes, a real face has its own.
    """

    needs_pairs: ClassVar[bool] = False

    def __init__(self, config: CycleGanConfig, identity: FaceIdentity | None = None) -> None:
        super().__init__()
        check_identity(config, identity)
        self.config = config
        self.identity = identity
        skull, face = (own + 2 * len(config.conditions) for own in (1, FACE_CHANNELS))
        patch = config.discriminator
        self.generator = build_generator(config.generator, skull)
        self.skull_generator = build_generator(config.generator, face, out_channels=1)
        self.face_discriminator = PatchDiscriminator(
            patch.ndf, patch.halvings, face, patch.antialias
        )
        self.skull_discriminator = PatchDiscriminator(
            patch.ndf, patch.halvings, skull, patch.antialias
        )
        for network in (
            self.generator,
            self.skull_generator,
            self.face_discriminator,
            self.skull_discriminator,
        ):
            initialise_gaussian(network)
        self.faces = ImagePool(config.pool_size, face, config.size)
        self.skulls = ImagePool(config.pool_size, skull, config.size)

    def optimisers(self) -> dict[str, Optimizer]:
        """Build one optimiser for both generators and one for both discriminators."""
        generators = [*self.generator.parameters(), *self.skull_generator.parameters()]
        discriminators = [
            *self.face_discriminator.parameters(),
            *self.skull_discriminator.parameters(),
        ]
        players = {"generator": generators, "discriminator": discriminators}
        return build_adam(self.config.schedule, players)

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Let the generators learn, then the discriminators, as the authors' code does.

        The face need not belong to the skull. `rng` decides what the pools give back.
        """
        skull, planes = batch["skull"][:, :1], batch["skull"][:, 1:]
        face, face_planes = batch["face"], batch["face_planes"]
        fake_face = self.to_face(skull, planes)
        fake_skull = self.to_skull(face, face_planes)
        real_faces, fake_faces = _join(face, face_planes), _join(fake_face, planes)
        real_skulls, fake_skulls = batch["skull"], _join(fake_skull, face_planes)

        self._let_discriminators_learn(False)  # the generators' turn: spares their gradients
        losses = {
            "gan": least_squares(self.face_discriminator(fake_faces), 1.0),
            "gan_skull": least_squares(self.skull_discriminator(fake_skulls), 1.0),
            "cycle": _distance(self.to_skull(fake_face, planes), skull),
            "cycle_face": _distance(self.to_face(fake_skull, face_planes), face),
        }
        if self.config.lambda_identity > 0:
            losses |= self.identity_losses(skull, planes, face, face_planes)
        losses |= embedding_loss(self.identity, fake_face, batch)
        yield Turn("generator", losses, self.weigh(losses))

        self._let_discriminators_learn(True)
        told_apart = {
            "discriminator": _judge(
                self.face_discriminator, self.faces.exchange(fake_faces.detach(), rng), real_faces
            ),
            "discriminator_skull": _judge(
                self.skull_discriminator,
                self.skulls.exchange(fake_skulls.detach(), rng),
                real_skulls,
            ),
        }
        yield Turn("discriminator", told_apart, weigh(told_apart, {}))

    def to_face(self, skull: Bare, planes: Planes) -> Face:
        """Translate a skull into a face; both in [-1, 1]."""
        face: Tensor = self.generator(_join(skull, planes))
        return face

    def to_skull(self, face: Face, planes: Planes) -> Bare:
        """Translate a face into a skull; both in [-1, 1]."""
        skull: Tensor = self.skull_generator(_join(face, planes))
        return skull

    def identity_losses(
        self, skull: Bare, planes: Planes, face: Face, face_planes: Planes
    ) -> dict[str, Loss]:
        """Ask each generator to keep a picture that is already of its target (section 5.2).

        The domains differ in channels, so a generator is given its target in grey: the face's
        luminance must come back as the face in its colours, which is what the term is for (it
        keeps the tint), and the skull, three times over, as the skull.
        """
        return {
            "identity": _distance(self.to_face(luminance(face), face_planes), face),
            "identity_skull": _distance(
                self.to_skull(skull.expand(-1, FACE_CHANNELS, -1, -1), planes), skull
            ),
        }

    def weigh(self, losses: dict[str, Loss]) -> Loss:
        """Add up the generators' objective (seed paper, Eq. 4; Zhu et al. 2017, Eq. 3)."""
        cycle = self.config.lambda_cycle
        identity = self.config.lambda_identity * cycle
        weights = {"cycle": cycle, "cycle_face": cycle}
        weights |= {"identity": identity, "identity_skull": identity}
        return weigh(losses, {**weights, "embedding": self.config.lambda_embedding})

    def _let_discriminators_learn(self, learn: bool) -> None:
        self.face_discriminator.requires_grad_(learn)
        self.skull_discriminator.requires_grad_(learn)


class ImagePool(nn.Module):
    """Keep the last fakes, and show the discriminator an old one half of the time.

    Shrivastava et al. 2017 by way of Zhu et al. 2017, section 4: 50 pictures. Until the pool is
    full, each picture enters it and is shown. Buffers hold it, so that a resumed training goes on
    with the same pictures; `size` 0 shows every picture as it comes.
    """

    def __init__(self, size: int, channels: int, side: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("pictures", torch.zeros(size, channels, side, side))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.pictures: Tensor
        self.filled: Tensor

    def exchange(self, fakes: Picture, rng: torch.Generator) -> Picture:
        """Return each picture, or an old one whose place it takes (detached, same shape)."""
        if self.size == 0:
            return fakes
        return torch.cat([self._exchange_one(fake, rng) for fake in torch.split(fakes, 1)])

    def _exchange_one(self, fake: Picture, rng: torch.Generator) -> Picture:
        """Decide in tensors: reading `filled` here would wait for the GPU at every picture."""
        place = torch.randint(self.size, (1,), generator=rng).to(fake.device)
        swap = (torch.rand(1, generator=rng) < 0.5).to(fake.device)
        full = self.filled >= self.size
        place = torch.where(full, place, self.filled)
        old, fake = self.pictures.index_select(0, place), fake.to(self.pictures.dtype)
        self.pictures.index_copy_(0, place, torch.where(swap | ~full, fake, old))
        self.filled.add_(~full)
        return torch.where(swap & full, old, fake)


def _join(picture: Picture, planes: Planes) -> Picture:
    return torch.cat([picture, planes], dim=1)


def _distance(picture: Picture, target: Picture) -> Loss:
    """Return the L1 distance (Zhu et al. 2017, Eq. 2)."""
    return functional.l1_loss(picture.float(), target)


def _judge(discriminator: nn.Module, fake: Picture, real: Picture) -> Loss:
    """Ask for 0 at every patch of a generated picture and for 1 at every patch of a real one."""
    judged_fake = least_squares(discriminator(fake), 0.0)
    judged_real = least_squares(discriminator(real), 1.0)
    return (judged_fake + judged_real) / 2

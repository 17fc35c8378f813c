"""pix2pix: paired translation by a conditional adversary and L1 (Isola et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional

from fcr_train.losses import cross_entropy
from fcr_train.networks import PatchDiscriminator, build_generator, initialise_gaussian
from fcr_train.trainer import Turn
from fcr_train.translators.identity import check_identity, embedding_loss
from fcr_train.translators.translator import Translator, build_adam, weigh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float32
    from torch import Tensor
    from torch.optim import Optimizer

    from fcr_train.config import Pix2PixConfig
    from fcr_train.trainer import Batch
    from fcr_train.translators.identity import FaceIdentity

    Skull = Float32[Tensor, "n 1+2c h w"]
    Face = Float32[Tensor, "n 3 h w"]
    Loss = Float32[Tensor, ""]


class Pix2Pix(Translator):
    """Generator and a discriminator that sees the skull beside the face (seed paper, Eq. 5).

    The objective is cGAN + lambda_l1 L1 (Isola et al. 2017, Eq. 4), with cross-entropy as the GAN
    loss. The noise z of the papers is dropout inside the generator (section 3.2 there); it is
    drawn while training only, so an exported generator gives one face for one skull.
    """

    needs_pairs: ClassVar[bool] = True

    def __init__(self, config: Pix2PixConfig, identity: FaceIdentity | None = None) -> None:
        super().__init__()
        check_identity(config, identity)
        self.config = config
        self.identity = identity
        channels = 1 + 2 * len(config.conditions)
        self.generator = build_generator(config.generator, channels)
        self.discriminator = PatchDiscriminator(
            config.discriminator.ndf,
            config.discriminator.halvings,
            channels + 3,
            config.discriminator.antialias,
        )
        initialise_gaussian(self.generator)
        initialise_gaussian(self.discriminator)

    def optimisers(self) -> dict[str, Optimizer]:
        """Build the two players' optimisers."""
        return build_adam(
            self.config.schedule,
            {
                "generator": [*self.generator.parameters()],
                "discriminator": [*self.discriminator.parameters()],
            },
        )

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Let the discriminator judge, then the generator learn from the discriminator's step.

        The face of the batch is the true face of its skull.
        """
        skull, face = batch["skull"], batch["face"]
        fake_face = self.generator(skull)

        self.discriminator.requires_grad_(True)
        loss = self.discriminator_loss(skull, fake_face.detach(), face)
        yield Turn("discriminator", {"discriminator": loss}, loss)

        self.discriminator.requires_grad_(False)  # the generator's turn: spares its gradients
        losses = self.generator_losses(skull, fake_face, face)
        losses |= embedding_loss(self.identity, fake_face, batch)
        yield Turn("generator", losses, self.weigh(losses))

    def discriminator_loss(self, skull: Skull, fake_face: Face, face: Face) -> Loss:
        """Ask for 0 where the face is generated and for 1 where it is the true one.

        Halved, which slows the discriminator down (Isola et al. 2017, section 3.3).
        """
        fake = cross_entropy(self.judge(skull, fake_face), 0.0)
        real = cross_entropy(self.judge(skull, face), 1.0)
        return (fake + real) / 2

    def generator_losses(self, skull: Skull, fake_face: Face, face: Face) -> dict[str, Loss]:
        """Return the terms of the generator's objective, unweighted."""
        return {
            "gan": cross_entropy(self.judge(skull, fake_face), 1.0),
            "l1": functional.l1_loss(fake_face, face),
        }

    def weigh(self, losses: dict[str, Loss]) -> Loss:
        """Add up the generator's objective (seed paper, Eq. 5)."""
        return weigh(
            losses, {"l1": self.config.lambda_l1, "embedding": self.config.lambda_embedding}
        )

    def judge(self, skull: Skull, face: Face) -> Float32[Tensor, "n 1 _ _"]:
        """Judge each patch of a face beside its skull and condition planes."""
        judgement: Tensor = self.discriminator(torch.cat([skull, face], dim=1))
        return judgement

"""CUT and FastCUT: one-sided, unpaired translation by contrast of patches (Park et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional

from fcr_train.losses import least_squares, patch_nce, sample_places
from fcr_train.networks import PatchDiscriminator, PatchProjection, ResnetGenerator, luminance
from fcr_train.trainer import Turn
from fcr_train.translators.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float32
    from torch import Tensor
    from torch.optim import Optimizer

    from fcr_train.config import CutConfig
    from fcr_train.trainer import Batch

    Skull = Float32[Tensor, "n 1 h w"]
    Face = Float32[Tensor, "n 3 h w"]
    Loss = Float32[Tensor, ""]


class CUT(Translator):
    """Generator, discriminator and projection heads, trained together (seed paper, Eq. 8-11).

    The objective is GAN + lambda_nce PatchNCE + lambda_identity identity. FastCUT is the same with
    lambda_nce 10, without identity, and with flip equivariance: half of the skulls enter the
    generator mirrored, and the patches of the resulting face, mirrored back, still have to match
    those of the unmirrored skull.

    The encoder takes the one channel of a skull, a face has three: PatchNCE encodes the
    *luminance* of the generated face with the same encoder, because a second encoder for colour
    would not be held to the skull's features, and what the two pictures share is shape and shade.
    """

    needs_pairs: ClassVar[bool] = False

    def __init__(self, config: CutConfig) -> None:
        super().__init__()
        self.config = config
        layers = config.patch_nce.layers
        self.generator: ResnetGenerator = ResnetGenerator(
            config.generator.ngf, config.generator.blocks
        )
        self.discriminator = PatchDiscriminator(
            config.discriminator.ndf, config.discriminator.halvings
        )
        self.projection = PatchProjection(
            self.generator.feature_widths(layers), config.patch_nce.width
        )

    def forward(self, skull: Skull) -> Face:
        """Translate; both in [-1, 1]."""
        face: Tensor = self.generator(skull)
        return face

    def optimisers(self) -> dict[str, Optimizer]:
        """Build the two players' optimisers; the projection heads side with the generator."""
        schedule = self.config.schedule
        players = {
            "generator": [*self.generator.parameters(), *self.projection.parameters()],
            "discriminator": [*self.discriminator.parameters()],
        }
        betas = (schedule.beta1, schedule.beta2)
        return {
            name: torch.optim.Adam(parameters, schedule.learning_rate, betas)
            for name, parameters in players.items()
        }

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Let the discriminator learn, then the generator.

        The face need not belong to the skull. `rng` decides the mirroring and the patches.
        """
        skull, face = batch["skull"], batch["face"]
        mirrored = self.config.flip_equivariance and bool(torch.rand(1, generator=rng) < 0.5)
        fake_face = self.generator(skull.flip(3) if mirrored else skull)

        self.discriminator.requires_grad_(True)
        loss = self.discriminator_loss(fake_face.detach(), face)
        yield Turn("discriminator", {"discriminator": loss}, loss)

        self.discriminator.requires_grad_(False)  # the generator's turn: spares its gradients
        losses = self.generator_losses(skull, face, fake_face, mirrored, rng)
        yield Turn("generator", losses, self.weigh(losses))

    def discriminator_loss(self, fake_face: Face, face: Face) -> Loss:
        """Ask for 0 at every patch of a generated face and for 1 at every patch of a real one."""
        fake = least_squares(self.discriminator(fake_face), 0.0)
        real = least_squares(self.discriminator(face), 1.0)
        return (fake + real) / 2

    def generator_losses(
        self, skull: Skull, face: Face, fake_face: Face, mirrored: bool, rng: torch.Generator
    ) -> dict[str, Loss]:
        """Return the terms of the generator's objective, unweighted."""
        losses = {
            "gan": least_squares(self.discriminator(fake_face), 1.0),
            "nce": self.nce_loss(skull, fake_face, mirrored, rng),
        }
        if self.config.lambda_identity > 0:
            losses["identity"] = self.identity_loss(face)
        return losses

    def weigh(self, losses: dict[str, Loss]) -> Loss:
        """Add up the generator's objective (seed paper, Eq. 11)."""
        objective = losses["gan"] + self.config.lambda_nce * losses["nce"]
        if "identity" in losses:
            objective = objective + self.config.lambda_identity * losses["identity"]
        return objective

    def nce_loss(
        self, skull: Skull, fake_face: Face, mirrored: bool, rng: torch.Generator
    ) -> Loss:
        """Average PatchNCE over the layers (seed paper, Eq. 8-9).

        Where the skull entered mirrored, the face's features are mirrored back first.
        """
        nce = self.config.patch_nce
        queries = self.generator.encode(luminance(fake_face), nce.layers)
        if mirrored:
            queries = [feature.flip(3) for feature in queries]
        with torch.no_grad():
            keys = self.generator.encode(skull, nce.layers)
            places = sample_places(keys, nce.num_patches, rng)
            projected_keys = self.projection(keys, places)
        projected = self.projection(queries, places)
        terms = [
            patch_nce(query, key, nce.temperature)
            for query, key in zip(projected, projected_keys, strict=True)
        ]
        return torch.stack(terms).mean()

    def identity_loss(self, face: Face) -> Loss:
        """Return the L1 distance of G(y) from y for a real face y (seed paper, Eq. 10).

        G takes one channel, so what it is given is the face's luminance: a face in grey must come
        back as that face in colour. (The original code uses PatchNCE here instead of L1.)
        """
        identity_face = self.generator(luminance(face))
        return functional.l1_loss(identity_face, face)

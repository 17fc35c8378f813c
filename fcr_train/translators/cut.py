"""CUT and FastCUT: one-sided, unpaired translation by contrast of patches (Park et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional

from fcr_train.losses import least_squares, patch_nce, sample_places
from fcr_train.networks import (
    PatchDiscriminator,
    PatchProjection,
    ResnetGenerator,
    build_generator,
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

    from fcr_train.config import CutConfig
    from fcr_train.trainer import Batch
    from fcr_train.translators.identity import FaceIdentity

    Skull = Float32[Tensor, "n 1+2c h w"]
    Face = Float32[Tensor, "n 3 h w"]
    Planes = Float32[Tensor, "n 2c h w"]
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
    Condition planes accompany a picture wherever it goes: a face generated for a skull is encoded
    with that skull's planes, and the discriminator sees each face beside the planes it belongs to,
    without which nothing would tie the planes to the looks of a face.
    """

    needs_pairs: ClassVar[bool] = False

    def __init__(self, config: CutConfig, identity: FaceIdentity | None = None) -> None:
        super().__init__()
        check_identity(config, identity)
        self.config = config
        self.identity = identity
        planes = 2 * len(config.conditions)
        generator = build_generator(config.generator, 1 + planes)
        assert isinstance(generator, ResnetGenerator), "the configuration allows no other"
        self.generator: ResnetGenerator = generator
        self.discriminator = PatchDiscriminator(
            config.discriminator.ndf,
            config.discriminator.halvings,
            3 + planes,
            config.discriminator.antialias,
        )
        self.projection = PatchProjection(
            self.generator.feature_widths(config.patch_nce.layers), config.patch_nce.width
        )

    def optimisers(self) -> dict[str, Optimizer]:
        """Build the two players' optimisers; the projection heads side with the generator."""
        return build_adam(
            self.config.schedule,
            {
                "generator": [*self.generator.parameters(), *self.projection.parameters()],
                "discriminator": [*self.discriminator.parameters()],
            },
        )

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Let the discriminator judge, then the generator learn from the discriminator's step.

        The face need not belong to the skull. `rng` decides the mirroring and the patches.
        """
        skull = batch["skull"]
        face = torch.cat([batch["face"], batch["face_planes"]], dim=1)
        mirrored = self.config.flip_equivariance and bool(torch.rand(1, generator=rng) < 0.5)
        fake_face = self.generator(skull.flip(3) if mirrored else skull)
        fake = torch.cat([fake_face, skull[:, 1:]], dim=1)

        self.discriminator.requires_grad_(True)
        loss = self.discriminator_loss(fake.detach(), face)
        yield Turn("discriminator", {"discriminator": loss}, loss)

        self.discriminator.requires_grad_(False)  # the generator's turn: spares its gradients
        losses = {
            "gan": least_squares(self.discriminator(fake), 1.0),
            "nce": self.nce_loss(skull, fake_face, mirrored, rng),
        }
        if self.config.lambda_identity > 0:
            losses["identity"] = self.identity_loss(batch["face"], batch["face_planes"], rng)
        upright = fake_face.flip(3) if mirrored else fake_face
        losses |= embedding_loss(self.identity, upright, batch)
        yield Turn("generator", losses, self.weigh(losses))

    def discriminator_loss(
        self, fake: Float32[Tensor, "n 3+2c h w"], real: Float32[Tensor, "n 3+2c h w"]
    ) -> Loss:
        """Ask for 0 at every patch of a generated face and for 1 at every patch of a real one."""
        judged_fake = least_squares(self.discriminator(fake), 0.0)
        judged_real = least_squares(self.discriminator(real), 1.0)
        return (judged_fake + judged_real) / 2

    def weigh(self, losses: dict[str, Loss]) -> Loss:
        """Add up the generator's objective (seed paper, Eq. 11)."""
        weights = {
            "nce": self.config.lambda_nce,
            "identity": self.config.lambda_identity,
            "embedding": self.config.lambda_embedding,
        }
        return weigh(losses, weights)

    def nce_loss(
        self, skull: Skull, fake_face: Face, mirrored: bool, rng: torch.Generator
    ) -> Loss:
        """Average PatchNCE over the layers (seed paper, Eq. 8-9).

        Where the skull entered mirrored, the face's features are mirrored back first.
        """
        nce = self.config.patch_nce
        queries = self.generator.encode(_in_grey(fake_face, skull[:, 1:]), nce.layers)
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

    def identity_loss(self, face: Face, planes: Planes, rng: torch.Generator) -> Loss:
        """Compare G(y) with y for a real face y.

        G takes one channel, so what it is given is the face's luminance: a face in grey must come
        back as that face in colour. "l1" is their L1 distance (seed paper, Eq. 10); "nce" is
        PatchNCE between the two (Park et al. 2020, Eq. 5-6: a prior on the target domain).
        """
        grey = _in_grey(face, planes)
        identity_face = self.generator(grey)
        if self.config.identity == "nce":
            return self.nce_loss(grey, identity_face, False, rng)
        return functional.l1_loss(identity_face.float(), face)


def _in_grey(face: Face, planes: Planes) -> Skull:
    """Make of a face what the generator takes: one channel, then the planes."""
    return torch.cat([luminance(face), planes], dim=1)

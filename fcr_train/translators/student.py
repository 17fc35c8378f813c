"""A student: a light generator that learns to draw what a trained one draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from fcr_train.networks import build_generator
from fcr_train.trainer import Turn
from fcr_train.translators.identity import check_identity
from fcr_train.translators.translator import build_adam, weigh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float32
    from torch import Tensor
    from torch.optim import Optimizer

    from fcr_train.config import StudentConfig
    from fcr_train.networks import AnyGenerator
    from fcr_train.trainer import Batch
    from fcr_train.translators.identity import FaceIdentity

    Skull = Float32[Tensor, "n 1+2c h w"]
    Face = Float32[Tensor, "n 3 h w"]
    Features = Float32[Tensor, "n c h/4 w/4"]
    Loss = Float32[Tensor, ""]


class Student(nn.Module):
    """A generator that learns from another one, its teacher, which stays as it is.

    What it minimises, after Li et al. 2020 ("GAN Compression", Eq. 1-3) without the adversary:
    the L1 distance of its face from the teacher's, `lambda_features` times the distance of its
    features at a quarter of the resolution from the teacher's, and `lambda_embedding` times the
    distance of the two faces to an embedder. No true face is needed.
    """

    def __init__(
        self, config: StudentConfig, teacher: AnyGenerator, identity: FaceIdentity | None = None
    ) -> None:
        super().__init__()
        check_identity(config, identity)
        self.config, self.identity = config, identity
        self.teacher = teacher.requires_grad_(False).eval()
        channels = 1 + 2 * len(config.conditions)
        self.generator = build_generator(config.generator, channels)
        blank = torch.zeros(1, channels, config.size, config.size)
        with torch.no_grad():
            narrow, wide = (watch(each, blank)[1].shape[1] for each in (self.generator, teacher))
        self.to_teacher = nn.Conv2d(narrow, wide, 1)
        """Maps features onto as many as the teacher has, in training only."""

    def train(self, mode: bool = True) -> Student:
        """Keep the teacher as trained: its dropout would be drawn anew."""
        super().train(mode)
        self.teacher.eval()
        return self

    def optimisers(self) -> dict[str, Optimizer]:
        """Build the one player's optimiser."""
        learning = [*self.generator.parameters(), *self.to_teacher.parameters()]
        return build_adam(self.config.schedule, {"student": learning})

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Draw the teacher's face and the student's, and liken the second to the first."""
        with torch.no_grad():
            model_face, model_features = watch(self.teacher, batch["skull"])
        face, features = watch(self.generator, batch["skull"])
        losses = {
            "l1": functional.l1_loss(face, model_face),
            "features": relative_error(self.to_teacher(features), model_features),
        }
        if self.identity is not None:
            losses["embedding"] = self.identity(face, model_face)
        yield Turn("student", losses, self.weigh(losses))

    def weigh(self, losses: dict[str, Loss]) -> Loss:
        """Add up the objective."""
        config = self.config
        return weigh(
            losses, {"features": config.lambda_features, "embedding": config.lambda_embedding}
        )


def watch(generator: AnyGenerator, skull: Skull) -> tuple[Face, Features]:
    """Return the face and, on the way to it, the output of the generator's deep layer."""
    seen: list[Features] = []
    handle = generator.deep.register_forward_hook(lambda _layer, _input, out: seen.append(out))
    try:
        return generator(skull), seen[0]
    finally:
        handle.remove()


def relative_error(features: Features, model: Features) -> Loss:
    """Return the mean squared distance as a share of the model's variance: 1 for its mean."""
    model = model.float()
    return functional.mse_loss(features.float(), model) / model.var().clamp(min=1e-12)

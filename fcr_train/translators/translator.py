"""What a trainer asks of any method that translates a skull into a face."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jaxtyping import Float32
    from torch import Tensor
    from torch.optim import Optimizer

    from fcr_train.config import Schedule
    from fcr_train.trainer import Batch, Turn

    Loss = Float32[Tensor, ""]


class Translator(nn.Module):
    """A method under training: its networks, its objective, its optimisers.

    Another method, such as a diffusion, is one subclass, one preset and one line in `TRANSLATORS`
    and in `fcr_train.config.CONFIGS`. All that a resumed training needs is in its state dict.
    """

    needs_pairs: ClassVar[bool]
    """Whether `face` of a batch is the face of its skull's person."""

    generator: nn.Module
    """Takes skulls with their condition planes, gives faces in [-1, 1]; it is what is exported."""

    @abstractmethod
    def optimisers(self) -> dict[str, Optimizer]:
        """Build the optimisers, by player."""

    @abstractmethod
    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Yield the players' turns of one step; between them the trainer improves the player.

        Args:
            batch: `skull` (n, 1 + planes, h, w) and `face` (n, 3, h, w) in [-1, 1], the face's own
                condition planes as `face_planes` (n, planes, h, w) where the method needs no
                pairs, and `mate`, the skull's own face, where it weighs embeddings.
            rng: The step's randomness, beside PyTorch's own stream.
        """


def build_adam(
    schedule: Schedule, players: Mapping[str, list[nn.Parameter]]
) -> dict[str, Optimizer]:
    """Build an Adam for each player, by name, as all four papers train."""
    betas = (schedule.beta1, schedule.beta2)
    return {
        name: torch.optim.Adam(weights, schedule.learning_rate, betas)
        for name, weights in players.items()
    }


def weigh(losses: Mapping[str, Loss], weights: Mapping[str, float]) -> Loss:
    """Add up the terms of an objective, each times its weight, 1 where none is given."""
    return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()

"""What is trained on what, and who is kept out of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from fcr_edge.errors import DataError
from fcr_train.checkpoint import Checkpoint
from fcr_train.config import AnyConfig, to_table
from fcr_train.dataset import divide, split_people

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn
    from torch.optim import Optimizer

    from fcr_train.checkpoint import Kind
    from fcr_train.config import Schedule
    from fcr_train.dataset import Dataset
    from fcr_train.splits import Fold

logger = logging.getLogger(__name__)

Config = TypeVar("Config", bound=AnyConfig)

BATCH = 16
"""Pictures a batch where nothing is learned; it bounds memory, and changes no result."""


@dataclass(frozen=True)
class Parts:
    """A dataset divided by who may be used for what."""

    training: Dataset
    validation: Dataset
    """Measures each epoch, chooses between models, fits calibrations and fusions."""
    test: Dataset | None
    """Whom a fold holds out, touched by nothing before the evaluation."""


@dataclass(frozen=True)
class Plan(Generic[Config]):
    """What is trained on what: with the code, it decides every weight."""

    model: str
    preset: str
    config: Config
    dataset: Dataset
    seed: int
    device: torch.device
    fold: Fold | None = None
    """Whom a split file holds out; None for the configuration's own split."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each trained network that takes part, by its part in the training."""

    @property
    def identity(self) -> dict[str, Any]:
        """All that has to stay the same when a training is resumed, as JSON values."""
        return {
            "model": self.model,
            "config": to_table(self.config),
            "dataset": self.dataset.sha256,
            "seed": self.seed,
            "split": self.fold.record if self.fold else None,
            "sources": dict(self.sources),
        }

    def divide(self) -> Parts:
        """Divide the dataset.

        People are set aside for validation by the configuration's own split, out of those whom
        the fold leaves for training. A fold of *pairs* is the seed paper's protocol, which has two
        parts: what it holds out is watched during training, too.
        """
        rest, test = self.dataset, None
        if self.fold is not None:
            rest, test = divide(self.dataset, self.fold.held_out)
            if self.fold.is_by_pair:
                return Parts(rest, test, test)
        _, held_out = split_people(rest.people, self.config.split)
        training, validation = divide(rest, rest.pairs(held_out))
        return Parts(training, validation, test)


def list_unseen(parts: Parts) -> list[str]:
    """List the people held out entirely; a split by pair holds out views of people who train."""
    seen = {*parts.training.names}
    held_out = [*parts.validation.names, *(parts.test.names if parts.test else [])]
    return sorted({name for name in held_out if name not in seen})


def fit_batch(schedule: Schedule, people_by_view: Mapping[str, int]) -> Schedule:
    """Let a batch, which shows people of one view, take all where there are fewer than asked for.

    Raises DataError where a view has one person: there is nobody to tell him or her from.
    """
    view, fewest = min(people_by_view.items(), key=lambda item: item[1])
    if fewest < 2:
        raise DataError(
            f"{fewest} people with the pictures needed of view {view!r} are left for training:"
            " give 2 or more, or leave the view out"
        )
    if fewest < schedule.batch_size:
        logger.warning(
            "a batch shows %d people, not %d: there are no more of view %s",
            fewest,
            schedule.batch_size,
            view,
        )
    return replace(schedule, batch_size=min(fewest, schedule.batch_size))


def refuse_leak(trained: Checkpoint, plan: Plan[Any], held_out: Sequence[str]) -> None:
    """Raise DataError if a network was trained on what is to be held out here."""
    if trained.data.get("sha256") != plan.dataset.sha256:
        return  # another dataset, so other people
    theirs, ours = trained.data.get("split"), plan.fold.record if plan.fold else None
    by_pair = [record is not None and record.startswith("pair") for record in (theirs, ours)]
    if any(by_pair) and theirs != ours:
        raise DataError(
            f"the {trained.kind} was trained on another split of the pairs: pass the same --split"
            " and --fold to both trainings"
        )
    leaked = sorted({*held_out} - {*trained.data["held_out"]})
    if leaked:
        raise DataError(
            f"the {trained.kind} was trained on {len(leaked)} people who are held out here,"
            f" {leaked[0]} the first: give both trainings the same [split] or the same --split and"
            " --fold"
        )


def build_adamw(network: nn.Module, schedule: Schedule, weight_decay: float) -> Optimizer:
    """Build the one optimiser of a network that has no adversary (Loshchilov & Hutter 2019)."""
    betas = (schedule.beta1, schedule.beta2)
    return torch.optim.AdamW(
        network.parameters(), schedule.learning_rate, betas, weight_decay=weight_decay
    )


def describe(
    kind: Kind, plan: Plan[Any], held_out: Sequence[str], step: int, network: nn.Module
) -> Checkpoint:
    """Describe a network that is being trained, with its weights as they are now."""
    state = network.state_dict()
    return Checkpoint(
        kind=kind,
        model=plan.model,
        preset=plan.preset,
        config=to_table(plan.config),
        step=step,
        tensors={name: tensor.detach().cpu() for name, tensor in state.items()},
        data={
            "generator": plan.dataset.generator,
            "sha256": plan.dataset.sha256,
            "people": len(plan.dataset.people),
            "films": plan.dataset.film_kind,
            "held_out": list(held_out),
            "seed": plan.seed,
            **({"split": plan.fold.record} if plan.fold else {}),
            **({"sources": dict(plan.sources)} if plan.sources else {}),
        },
    )

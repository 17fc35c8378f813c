"""Contrastive losses over the pictures of all processes that share a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch import distributed

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64
    from pytorch_metric_learning.losses import BaseMetricLossFunction
    from torch import Tensor


def contrast(
    loss: BaseMetricLossFunction,
    embeddings: Float32[Tensor, "n d"],
    people: Int64[Tensor, " n"],
    others: Float32[Tensor, "m d"] | None = None,
    other_people: Int64[Tensor, " m"] | None = None,
) -> Float32[Tensor, ""]:
    """Compare the embeddings of all processes with one another, or with the others where given.

    A contrastive loss is no mean over pictures: half of a batch has half of the negatives. So each
    process computes the loss of the whole batch, in which only its own embeddings learn; the mean
    of the processes' gradients is then that of one process with the whole batch.

    Computed in float32, whatever the networks compute in: a similarity of .99 and one of .991 are
    one number in bfloat16.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        if others is not None and other_people is not None:
            # A copy: of the very same labels the library takes equal places for one picture.
            others, other_people = others.float(), other_people.clone()
        arguments = (embeddings.float(), people, None, others, other_people)
        if not distributed.is_initialized() or distributed.get_world_size() == 1:
            value: Tensor = loss(*arguments)
            return value
        # The wrapper multiplies by the number of processes, since gradients will be averaged.
        shared: Tensor = DistributedLossWrapper(loss)(*arguments)
        return shared

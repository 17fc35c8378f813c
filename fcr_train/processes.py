"""Several processes that share a training, as `torchrun` starts them; one where it does not.

Gradients are averaged by hand after each turn rather than by DistributedDataParallel, which wants
one forward pass a backward pass: in a GAN the players' networks call one another.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import torch
from torch import distributed

from fcr_edge.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn
    from torch.optim import Optimizer


@contextlib.contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the processes that `torchrun` started, where it did, and part at the end.

    NCCL between GPUs, gloo between CPUs. Raises DeviceError if there are fewer GPUs.
    """
    if "LOCAL_RANK" not in os.environ or distributed.is_initialized():
        yield
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu and torch.cuda.device_count() <= local_rank():
        raise DeviceError(
            f"process {local_rank()} has no GPU, there are {torch.cuda.device_count()}: start"
            " torchrun with as many processes as GPUs, or pass --device cpu"
        )
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def number() -> int:
    """Count the processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def local_rank() -> int:
    """Return this process's number on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Tell whether this process writes files and speaks."""
    return rank() == 0


def wait() -> None:
    """Wait until every process has come here."""
    if number() > 1:
        distributed.barrier()


def share(networks: nn.Module) -> None:
    """Give every process the first one's weights and buffers."""
    if number() > 1:
        for tensor in networks.state_dict().values():
            distributed.broadcast(tensor, src=0)


def average_gradients(optimiser: Optimizer) -> None:
    """Replace each gradient that an optimiser is about to use by its mean over the processes."""
    if number() == 1:
        return
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    whole = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(whole)
    whole /= number()
    means = torch.split(whole, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def mean(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Average numbers over the processes."""
    if number() == 1:
        return dict(values)
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    whole = torch.stack([value.to(device) for value in values.values()])
    distributed.all_reduce(whole)
    return dict(zip(values, whole / number(), strict=True))

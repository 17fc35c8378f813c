"""The loop around every training: epochs, learning rate, log, state, resume."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from fcr_edge.errors import ConfigError, DataError, DeviceError
from fcr_train.checkpoint import load_state, save_checkpoint, save_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from fcr_train.checkpoint import Checkpoint
    from fcr_train.config import Schedule

CHECKPOINT_FILE = "checkpoint.safetensors"
STATE_FILE = "state.safetensors"
LOSSES_FILE = "losses.csv"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Streams:
    """The randomness of one epoch: it depends on the seed and the epoch, and on nothing before.

    So a run that is resumed after an epoch draws what an unbroken run would have drawn.
    """

    numpy: np.random.Generator
    torch: torch.Generator

    @staticmethod
    def of(seed: int, epoch: int) -> Streams:
        """Open the streams of an epoch, counted from 0."""
        numpy_seed, torch_seed = np.random.SeedSequence([seed, epoch]).spawn(2)
        state = int(torch_seed.generate_state(1, np.uint64)[0] >> np.uint64(1))
        return Streams(np.random.default_rng(numpy_seed), torch.Generator().manual_seed(state))


class Task(Protocol):
    """What differs between trainings."""

    @property
    def schedule(self) -> Schedule:
        """How many epochs at which learning rate."""

    @property
    def steps_per_epoch(self) -> int:
        """How many losses `run_epoch` yields."""

    @property
    def networks(self) -> nn.Module:
        """All that learns, in one module."""

    @property
    def optimisers(self) -> Mapping[str, Optimizer]:
        """The optimisers of the networks, by name."""

    def run_epoch(self, streams: Streams) -> Iterator[dict[str, float]]:
        """Take the steps of one epoch; yield the losses of each."""

    def finish_epoch(self, epoch: int, out: Path) -> dict[str, float]:
        """Look at the result of an epoch, counted from 1; return measures for the log."""

    def checkpoint(self, step: int) -> Checkpoint:
        """Describe the network to be exported, as it is now."""


@dataclass(frozen=True)
class Progress:
    """What a training tells its observer after each step and each epoch."""

    epoch: int
    """Counted from 1."""
    step: int
    """Counted from 1 over the whole training."""
    steps: int
    """Of the whole training."""
    figures: Mapping[str, float]
    """Means over the epoch so far; at its end, with what the task measured."""
    epoch_ended: bool


def pick_device(name: str) -> torch.device:
    """Return the device of a name: `cpu`, `cuda`, or `auto` for CUDA where there is one.

    Raises DeviceError if it cannot be had.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"unknown device {name!r}: choose one of auto, cpu, cuda")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("PyTorch sees no CUDA device: pass --device cpu, or check the driver")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def train(
    task: Task,
    out: Path,
    seed: int,
    identity: Mapping[str, Any],
    resume: bool = False,
    observe: Callable[[Progress], None] | None = None,
) -> Path:
    """Train to the end of the schedule and return the path of the checkpoint.

    After each epoch the folder `out` holds the checkpoint, the state to resume from and the log of
    losses. `identity` says what is trained, in plain values: a state of anything else is not
    resumed. Raises DataError, and ConfigError where a resumed run differs from what it was.
    """
    state_path = out / STATE_FILE
    history: list[dict[str, float]] = []
    if resume:
        history = _restore(task, state_path, identity)
        _log.info("resuming after epoch %d of %d", len(history), task.schedule.total)
    elif state_path.exists():
        raise DataError(f"{out} already holds a training: pass --resume, or another --out")
    for epoch in range(len(history), task.schedule.total):
        figures = _run_epoch(task, epoch, Streams.of(seed, epoch), observe)
        measures = task.finish_epoch(epoch + 1, out)
        history.append({"epoch": epoch + 1, **figures, **measures})
        step = (epoch + 1) * task.steps_per_epoch
        save_checkpoint(out / CHECKPOINT_FILE, task.checkpoint(step))
        (out / LOSSES_FILE).write_text(_to_csv(history), encoding="utf-8")
        # Last: a state stands for a complete epoch, whatever interrupts.
        save_state(state_path, _collect(task), {"identity": dict(identity), "history": history})
        if observe is not None:
            steps = task.schedule.total * task.steps_per_epoch
            observe(Progress(epoch + 1, step, steps, {**figures, **measures}, True))
    return out / CHECKPOINT_FILE


def _run_epoch(
    task: Task, epoch: int, streams: Streams, observe: Callable[[Progress], None] | None
) -> dict[str, float]:
    rate = task.schedule.rate_at(epoch)
    for optimiser in task.optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = rate
    sums: dict[str, float] = defaultdict(float)
    first = epoch * task.steps_per_epoch
    steps = task.schedule.total * task.steps_per_epoch
    means: dict[str, float] = {}
    for done, losses in enumerate(task.run_epoch(streams), start=1):
        _refuse_nan(losses, epoch + 1, first + done)
        for name, loss in losses.items():
            sums[name] += loss
        means = {name: total / done for name, total in sums.items()}
        if observe is not None:
            observe(Progress(epoch + 1, first + done, steps, means, False))
    return {"learning_rate": rate, **means}


def _refuse_nan(losses: Mapping[str, float], epoch: int, step: int) -> None:
    for name, loss in losses.items():
        if not math.isfinite(loss):
            raise DataError(
                f"the loss {name!r} became {loss} in step {step} (epoch {epoch}); the last"
                " complete epoch is kept: train anew with a lower learning_rate"
            )


def _collect(task: Task) -> dict[str, Tensor]:
    """Name every tensor that the training would miss: weights, buffers, moments of Adam."""
    tensors = {f"networks.{name}": tensor for name, tensor in task.networks.state_dict().items()}
    for player, optimiser in task.optimisers.items():
        for index, moments in optimiser.state_dict()["state"].items():
            for name, moment in moments.items():
                tensors[f"optimisers.{player}.{index}.{name}"] = moment
    return tensors


def _restore(task: Task, path: Path, identity: Mapping[str, Any]) -> list[dict[str, float]]:
    """Put a saved state into the task; return the history."""
    tensors, progress = load_state(path)
    changed = [key for key in identity if identity[key] != progress["identity"].get(key)]
    if changed:
        key = changed[0]
        before = progress["identity"].get(key)
        raise ConfigError(
            f"{path} was trained with {key} = {before}, not {identity[key]}:"
            " resume with the settings of the run, or start anew in another --out"
        )
    weights = {
        name.removeprefix("networks."): tensor
        for name, tensor in tensors.items()
        if name.startswith("networks.")
    }
    task.networks.load_state_dict(weights)
    for player, optimiser in task.optimisers.items():
        _restore_optimiser(optimiser, tensors, f"optimisers.{player}.")
    history: list[dict[str, float]] = progress["history"]
    return history


def _restore_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            index, moment = name.removeprefix(prefix).split(".")
            state[int(index)][moment] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": dict(state)})


def _to_csv(history: list[dict[str, float]]) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return table.getvalue()

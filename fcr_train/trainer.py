"""The loop around every training: turns, epochs, learning rate, log, state, resume."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fcr_edge.errors import ConfigError, DataError, DeviceError
from fcr_train import processes
from fcr_train.checkpoint import load_state, save_checkpoint, save_state, write_tensors
from fcr_train.files import write_whole

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
DIVERGED_FILE = "diverged.safetensors"
"""The batch on which a loss stopped being a number, and the losses."""
TENSORBOARD_FOLDER = "tensorboard"

Batch = dict[str, torch.Tensor]
"""Tensors by name; the first axis of each counts the examples."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Turn:
    """One player's part of a step: a GAN's networks take turns, anything else has one."""

    player: str
    """Which optimiser steps after it."""
    losses: dict[str, Tensor]
    """The terms for the log, unweighted."""
    objective: Tensor
    """What the player minimises."""


@dataclass(frozen=True)
class Streams:
    """The randomness of one epoch: it depends on the seed and the epoch, and on nothing before.

    So a run that is resumed after an epoch draws what an unbroken run would have drawn.
    """

    numpy: np.random.Generator
    torch: torch.Generator
    noise: int
    """Seed of PyTorch's own stream, which dropout draws from."""

    @staticmethod
    def of(seed: int, epoch: int) -> Streams:
        """Open the streams of an epoch, counted from 0."""
        seeds = np.random.SeedSequence([seed, epoch]).spawn(3)
        states = [int(seed.generate_state(1, np.uint64)[0] >> np.uint64(1)) for seed in seeds]
        rng = torch.Generator().manual_seed(states[1])
        return Streams(np.random.default_rng(seeds[0]), rng, states[2])


class Task(Protocol):
    """What differs between trainings."""

    @property
    def schedule(self) -> Schedule:
        """How many epochs at which learning rate, in which batches and precision."""

    @property
    def ema(self) -> float:
        """Decay of the running mean of the exported network's weights, 0 for none."""

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""

    @property
    def networks(self) -> nn.Module:
        """All that learns, in one module."""

    @property
    def exported(self) -> nn.Module:
        """The part of the networks that a checkpoint holds."""

    @property
    def optimisers(self) -> Mapping[str, Optimizer]:
        """The optimisers of the networks, by player."""

    @property
    def device(self) -> torch.device:
        """Where the networks are."""

    def batches(self, streams: Streams) -> Iterator[Batch]:
        """Yield the batches of one epoch, on the CPU."""

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Yield the turns of one step; between them the trainer improves the player."""

    def finish_epoch(self, epoch: int, out: Path, network: nn.Module) -> dict[str, float]:
        """Look at what the exported network does after an epoch, counted from 1; measure it."""

    def checkpoint(self, step: int, network: nn.Module) -> Checkpoint:
        """Describe the exported network, as it is now."""


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

    Each of several processes gets a GPU of its own. Raises DeviceError if it cannot be had.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"unknown device {name!r}: choose one of auto, cpu, cuda")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError("PyTorch sees no CUDA device: pass --device cpu, or check the driver")
    if not available or name == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", processes.local_rank())


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
    losses, as CSV and for TensorBoard. `identity` says what is trained, in plain values: a state
    of anything else is not resumed. Several processes (`torchrun`) share each batch; the first
    one writes. Raises DataError, ConfigError where a resumed run differs from what it was, and
    DeviceError where memory runs out.
    """
    loop = _Loop(task, out, seed, observe)
    history: list[dict[str, float]] = []
    if resume:
        history = loop.restore(identity)
        _log.info("resuming after epoch %d of %d", len(history), task.schedule.total)
    elif (out / STATE_FILE).exists():
        raise DataError(f"{out} already holds a training: pass --resume, or another --out")
    with _board(out, len(history) * task.steps_per_epoch) as log:
        for epoch in range(len(history), task.schedule.total):
            figures = loop.run_epoch(epoch)
            if processes.is_first():
                figures |= task.finish_epoch(epoch + 1, out, loop.shown)
                history.append({"epoch": epoch + 1, **figures})
                loop.save(identity, history)
                log(figures, (epoch + 1) * task.steps_per_epoch)
            processes.wait()
            loop.tell(epoch, task.steps_per_epoch, figures, epoch_ended=True)
    return out / CHECKPOINT_FILE


def count_epochs(out: Path) -> int:
    """Count the complete epochs of the training in a folder, 0 where there is none."""
    path = out / LOSSES_FILE
    if not (out / STATE_FILE).exists() or not path.exists():
        return 0
    with path.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))


class _Loop:
    """One training under way: its task, and what the trainer keeps beside it."""

    def __init__(
        self, task: Task, out: Path, seed: int, observe: Callable[[Progress], None] | None
    ) -> None:
        self.task, self.out, self.seed, self.observe = task, out, seed, observe
        self.scaler = torch.amp.GradScaler(
            task.device.type, enabled=task.schedule.precision == "float16"
        )
        processes.share(task.networks)
        self.average: AveragedModel | None = None
        if task.ema:
            decay = get_ema_multi_avg_fn(task.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(task.exported, multi_avg_fn=decay)
        parts = processes.number() * task.schedule.accumulate
        if task.schedule.batch_size % parts:
            raise ConfigError(
                f"schedule.batch_size is {task.schedule.batch_size}, to be shared by"
                f" {processes.number()} processes in {task.schedule.accumulate} parts each: make"
                f" it a multiple of {parts}"
            )

    @property
    def shown(self) -> nn.Module:
        """The network that is looked at and kept: the running mean where there is one."""
        return self.task.exported if self.average is None else self.average.module

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Take the steps of an epoch, counted from 0; return the means of its losses."""
        task, streams = self.task, Streams.of(self.seed, epoch)
        torch.manual_seed(streams.noise + processes.rank())
        rate = task.schedule.rate_at(epoch)
        for optimiser in task.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate
        task.networks.train()
        sums: dict[str, float] = defaultdict(float)
        means: dict[str, float] = {}
        for done, batch in enumerate(task.batches(streams), start=1):
            losses = self._step(batch, streams.torch)
            self._refuse_nan(losses, batch, epoch, done)
            for name, loss in losses.items():
                sums[name] += loss
            means = {name: total / done for name, total in sums.items()}
            self.tell(epoch, done, means)
        return {"learning_rate": rate, **means}

    def tell(
        self, epoch: int, done: int, figures: Mapping[str, float], epoch_ended: bool = False
    ) -> None:
        """Tell the observer of a step of an epoch, counted from 0."""
        if self.observe is not None:
            per_epoch = self.task.steps_per_epoch
            steps = self.task.schedule.total * per_epoch
            self.observe(
                Progress(epoch + 1, epoch * per_epoch + done, steps, figures, epoch_ended)
            )

    def _step(self, batch: Batch, rng: torch.Generator) -> dict[str, float]:
        """Let every player improve once on a batch, or on this process's share of it.

        Taken in parts, all parts are judged by the players as they were before the step: only so
        does each part's memory become free before the next one.
        """
        parts = self.task.schedule.accumulate
        sums: dict[str, Tensor] = {}
        state = rng.get_state()
        try:
            for number in range(parts):
                rng.set_state(state)  # every part and process draws what the whole would
                part = _take(batch, number, parts, self.task.device)
                for name, loss in self._play(part, rng, last=number == parts - 1):
                    sums[name] = sums.get(name, torch.zeros(())) + loss.detach().float().cpu()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as err:
            _explain_memory(err, self.task.schedule)
            raise
        if self.average is not None:
            self.average.update_parameters(self.task.exported)
        means = processes.mean({name: total / parts for name, total in sums.items()})
        return {name: loss.item() for name, loss in means.items()}

    def _play(self, part: Batch, rng: torch.Generator, last: bool) -> Iterator[tuple[str, Tensor]]:
        """Take the turns of one part, each player stepping after its turn.

        Where there are several parts, all players step after the last one.
        """
        parts = self.task.schedule.accumulate
        turns = self.task.turns(part, rng)
        waiting = []
        while True:
            with self._precision():
                turn = next(turns, None)
            if turn is None:
                break
            self.scaler.scale(turn.objective / parts).backward()  # type: ignore[no-untyped-call]
            waiting.append(self.task.optimisers[turn.player])
            if parts == 1:
                self._improve(waiting.pop())
            yield from turn.losses.items()
        if last:
            for optimiser in waiting:
                self._improve(optimiser)
            self.scaler.update()

    def _improve(self, optimiser: Optimizer) -> None:
        processes.average_gradients(optimiser)
        self.scaler.step(optimiser)
        optimiser.zero_grad(set_to_none=True)

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        precision, device = self.task.schedule.precision, self.task.device.type
        if precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(device, getattr(torch, precision))

    def _refuse_nan(
        self, losses: Mapping[str, float], batch: Batch, epoch: int, done: int
    ) -> None:
        for name, loss in losses.items():
            if math.isfinite(loss):
                continue
            step = epoch * self.task.steps_per_epoch + done
            described = {"schema": "fcr-diverged/1", "step": step, "losses": str(dict(losses))}
            path = self.out / DIVERGED_FILE
            if processes.is_first():
                write_tensors(path, batch, described)
            raise DataError(
                f"the loss {name!r} became {loss} in step {step} (epoch {epoch + 1}); the last"
                f" complete epoch is kept, the batch is in {path}: train anew with a lower"
                " schedule.learning_rate, or in float32"
            )

    def save(self, identity: Mapping[str, Any], history: list[dict[str, float]]) -> None:
        """Write checkpoint, log and state."""
        step = len(history) * self.task.steps_per_epoch
        save_checkpoint(self.out / CHECKPOINT_FILE, self.task.checkpoint(step, self.shown))
        write_whole(self.out / LOSSES_FILE, _to_csv(history))
        progress = {"identity": dict(identity), "history": history}
        if self.scaler.is_enabled():
            progress["scaler"] = self.scaler.state_dict()
        # Last: a state stands for a complete epoch, whatever interrupts.
        save_state(self.out / STATE_FILE, self._collect(), progress)

    def _collect(self) -> dict[str, Tensor]:
        """Name every tensor that the training would miss: weights, buffers, moments, means."""
        tensors = _named("networks", self.task.networks)
        if self.average is not None:
            tensors |= _named("average", self.average)
        for player, optimiser in self.task.optimisers.items():
            for index, moments in optimiser.state_dict()["state"].items():
                for name, moment in moments.items():
                    tensors[f"optimisers.{player}.{index}.{name}"] = moment
        return tensors

    def restore(self, identity: Mapping[str, Any]) -> list[dict[str, float]]:
        """Put a saved state back; return the history."""
        path = self.out / STATE_FILE
        tensors, progress = load_state(path)
        changed = [key for key in identity if identity[key] != progress["identity"].get(key)]
        if changed:
            key = changed[0]
            before = progress["identity"].get(key)
            raise ConfigError(
                f"{path} was trained with {key} = {before}, not {identity[key]}:"
                " resume with the settings of the run, or start anew in another --out"
            )
        self.task.networks.load_state_dict(_unnamed("networks", tensors))
        if self.average is not None:
            self.average.load_state_dict(_unnamed("average", tensors))
        for player, optimiser in self.task.optimisers.items():
            _restore_optimiser(optimiser, tensors, f"optimisers.{player}.")
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(progress["scaler"])
        history: list[dict[str, float]] = progress["history"]
        return history


def _take(batch: Batch, number: int, parts: int, device: torch.device) -> Batch:
    """Take one of this process's parts of a batch to the device."""
    whole = processes.number() * parts
    return {
        name: tensor.chunk(whole)[processes.rank() * parts + number].to(device)
        for name, tensor in batch.items()
    }


def _explain_memory(err: Exception, schedule: Schedule) -> None:
    """Raise DeviceError if memory is what was missing; return otherwise."""
    words = str(err)
    is_memory = isinstance(err, (torch.OutOfMemoryError, MemoryError))
    if is_memory or "out of memory" in words or "allocate memory" in words:
        raise DeviceError(
            f"memory ran out with schedule.batch_size {schedule.batch_size} in"
            f" {schedule.accumulate} parts: raise schedule.accumulate (same result, less memory),"
            " or lower schedule.batch_size, size or the networks' widths (ngf, ndf), or set"
            " schedule.precision to bfloat16"
        ) from err


@contextlib.contextmanager
def _board(out: Path, step: int) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    """Log figures for TensorBoard beside what a resumed run already logged."""
    if not processes.is_first():
        yield lambda figures, step: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(out / TENSORBOARD_FOLDER), purge_step=step) as writer:

        def log(figures: Mapping[str, float], step: int) -> None:
            for name, figure in figures.items():
                writer.add_scalar(name, figure, step)

        yield log


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def _unnamed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): tensor for n, tensor in tensors.items() if n.startswith(start)}


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

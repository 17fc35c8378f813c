"""The training of the soft-tissue remover: films with their skull and bone in, a U-Net out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import stats

from fcr_edge import imaging, soft_tissue
from fcr_train.batches import to_batch
from fcr_train.layers import layer_batches, load_layers, spoil_batch, window
from fcr_train.losses import laplace, ms_ssim
from fcr_train.suppressor import SuppressorUnet
from fcr_train.tasks.plan import BATCH, build_adamw, describe, list_unseen
from fcr_train.trainer import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jaxtyping import Float32, UInt8
    from torch import Tensor, nn

    from fcr_train.checkpoint import Checkpoint
    from fcr_train.config import SuppressorConfig
    from fcr_train.tasks.plan import Plan
    from fcr_train.trainer import Batch, Streams

PICTURES = ("skull", "bone")
"""What a film is taken apart into, in the order of the channels."""
SYNTHETIC = {
    "Synthetic": "simulated people; rows: film, skull and bone as made by the network, confidence,"
    " skull and bone as they are"
}
"""The mark inside every sample grid."""

_SAMPLES = 8
"""Films in a sample grid."""
_WATCHED = 96
"""Films of people held out that each epoch is measured on, at most."""
_UNSURE = 0.01
"""Share of the spoiled films of people held out that would get a warning for low confidence."""
_SPOIL_SEED = 7
"""Of the spoiling of those films, the same after each epoch and in every training."""
_COMPARED = 7
"""Every so-manieth pixel is taken for the rank correlation of confidence and error."""


class SuppressorTask:
    """Train a network that takes the soft tissue off a film.

    The loss of skull and bone is a share of MS-SSIM beside L1 (Zhao et al. 2017, Eq. 13, without
    its Gaussian weighting of L1); that of the confidence is the likelihood of the errors.
    """

    def __init__(
        self, plan: Plan[SuppressorConfig], progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.plan, config = plan, plan.config
        self.schedule, self.ema, self.device = config.schedule, config.ema, plan.device
        parts = plan.divide()
        self.held_out = list_unseen(parts)
        self.data = load_layers(parts.training, config.size, progress)
        pixels = _thin(load_layers(parts.validation, config.size, progress).pixels)
        rng = np.random.default_rng(_SPOIL_SEED)
        self.watched = to_batch(pixels, 0, 1)
        self.spoiled = spoil_batch(pixels, config.jitter.colour, rng)
        self.limits = {"least_confidence": 0.0, "skull_floor": 0, "bone_floor": 0}
        self.steps_per_epoch = config.schedule.steps_per_epoch or max(
            1, len(self.data) // config.schedule.batch_size
        )
        torch.manual_seed(plan.seed)  # the initial weights
        # Channels last: a convolution on a CPU then reads its input in order.
        network = SuppressorUnet(config).to(memory_format=torch.channels_last)
        self.networks = self.exported = network.to(plan.device)
        self.optimisers = {
            "suppressor": build_adamw(self.networks, config.schedule, config.weight_decay)
        }

    def batches(self, streams: Streams) -> Iterator[Batch]:
        """Yield films, spoiled and moved, each with its skull and bone."""
        return layer_batches(self.data, self.plan.config, self.steps_per_epoch, streams)

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Draw skull and bone, and say how far off they will be."""
        film = batch["film"].to(memory_format=torch.channels_last)
        pictures, doubt = self.networks.separate(film)
        error = (pictures - batch["layers"]).abs()
        unlike = 1 - ms_ssim(pictures, batch["layers"]).mean(dim=0)
        surprise = laplace(error.mean(dim=1, keepdim=True), doubt)
        off = error.mean(dim=(0, 2, 3))
        share = self.plan.config.ms_ssim_share
        losses = {
            **{f"{name}_l1": value for name, value in zip(PICTURES, off, strict=True)},
            **{f"{name}_unlike": value for name, value in zip(PICTURES, unlike, strict=True)},
            "surprise": surprise,
        }
        objective = (share * unlike + (1 - share) * off).sum() + surprise
        yield Turn("suppressor", losses, objective)

    def finish_epoch(self, epoch: int, out: Path, network: nn.Module) -> dict[str, float]:
        """Measure on films of people held out, as made and spoiled; write the sample grid.

        Returns of skull and bone PSNR [dB], MS-SSIM and mean absolute error [share of the range],
        and the rank correlation of doubt (1 - confidence) with the error, pixel by pixel.
        """
        figures: dict[str, float] = {}
        for prefix, watched in (("", self.watched), ("spoiled_", self.spoiled)):
            layers = separate(network.eval(), window(watched[:, :1]), self.device)
            measured = measure(layers, watched[:, 1:])
            figures |= {f"{prefix}{name}": value for name, value in measured.items()}
        self.limits["least_confidence"] = _find_least(layers)
        for place, name in enumerate(PICTURES):
            floor = find_floor(layers[:, place], self.spoiled[:, 1 + place])
            self.limits[f"{name}_floor"] = floor
        self._write_samples(out / "samples" / f"epoch_{epoch:04d}.png", layers)
        return {**figures, "least_confidence": self.limits["least_confidence"]}

    def checkpoint(self, step: int, network: nn.Module) -> Checkpoint:
        """Describe the network, with what the field compares its numbers with."""
        made = describe("suppressor", self.plan, self.held_out, step, network)
        return replace(made, data={**made.data, **self.limits})

    def _write_samples(self, path: Path, layers: Float32[Tensor, "n 3 h w"]) -> None:
        films, targets = window(self.spoiled[:, :1]), self.spoiled[:, 1:]
        every = torch.cat([films, layers, targets], dim=1)[:: -(-len(films) // _SAMPLES)]
        rows = np.rint(every.numpy() * 255).astype(np.uint8)
        grid = np.concatenate([np.concatenate([*column], axis=0) for column in rows], axis=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        imaging.write_png(path, grid, SYNTHETIC)


def separate(
    network: nn.Module, films: Float32[Tensor, "n 1 h w"], device: torch.device
) -> Float32[Tensor, "n 3 h w"]:
    """Take films apart into skull, bone and confidence, a batch at a time."""
    with torch.inference_mode():
        parts = [network(batch.to(device)).cpu() for batch in torch.split(films, BATCH)]
    return torch.cat(parts)


def measure(
    layers: Float32[Tensor, "n 3 h w"], targets: Float32[Tensor, "n 2 h w"]
) -> dict[str, float]:
    """Compare what a network makes of films with what they are made of."""
    error = (layers[:, :2] - targets).abs()
    psnr = -10 * error.square().mean(dim=(2, 3)).clamp(min=1e-10).log10()
    likeness = torch.cat(
        [
            ms_ssim(*pair)
            for pair in zip(
                torch.split(layers[:, :2], BATCH), torch.split(targets, BATCH), strict=True
            )
        ]
    )
    figures = {"mae": error.mean(dim=(2, 3)), "psnr": psnr, "ms_ssim": likeness}
    doubt = 1 - layers[:, 2].flatten()[::_COMPARED]
    off = error.mean(dim=1).flatten()[::_COMPARED]
    return {
        f"{name}_{figure}": values[:, place].mean().item()
        for place, name in enumerate(PICTURES)
        for figure, values in figures.items()
    } | {"doubt_rank": float(stats.spearmanr(doubt.numpy(), off.numpy()).statistic)}


def find_floor(drawn: Float32[Tensor, "n h w"], truth: Float32[Tensor, "n h w"]) -> int:
    """Return the grey level below which black is nearer to the truth than the drawing.

    It is the level that leaves the least absolute error in all when what is fainter goes black.
    """
    level = (drawn * 255).round().int().flatten()
    kept = torch.bincount(level, (drawn - truth).abs().flatten().double(), minlength=256)
    cleared = torch.bincount(level, truth.flatten().double(), minlength=256)
    gain = (kept - cleared).cumsum(0)  # by a floor just above each level
    best = int(gain.argmax())
    return min(best + 1, 255) if gain[best] > 0 else 0


def _find_least(layers: Float32[Tensor, "n 3 h w"]) -> float:
    """Choose the mean confidence over the skull that few films fall below."""
    pixels = (layers.numpy() * 255).astype(np.uint8)
    means = [soft_tissue.average_confidence(skull, trust) for skull, _, trust in pixels]
    return float(np.quantile([mean for mean in means if mean is not None] or [0.0], _UNSURE))


def _thin(pixels: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "m h w c"]:
    """Keep at most _WATCHED films, evenly spread."""
    number = min(_WATCHED, len(pixels))
    return pixels[[place * len(pixels) // number for place in range(number)]]

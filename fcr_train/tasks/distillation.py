"""The training of a light generator by a trained one: skulls in, a student out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fcr_edge import imaging
from fcr_train.batches import Album, skull_batches
from fcr_train.tasks.plan import describe, list_unseen, refuse_leak
from fcr_train.tasks.translation import generate, read_skulls
from fcr_train.translators import FaceIdentity, Student

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from fcr_train.checkpoint import Checkpoint
    from fcr_train.config import StudentConfig
    from fcr_train.networks import AnyGenerator
    from fcr_train.tasks.plan import Plan
    from fcr_train.trainer import Batch, Streams, Turn

SYNTHETIC = {"Synthetic": "rows: skull, face by the teacher, face by the student; all generated"}
"""The mark inside every sample grid."""
_SAMPLES = 8
"""Films in a sample grid."""
_WATCHED = 64
"""Films of people held out that each epoch is measured on, at most."""


class DistillTask:
    """Train a light generator to draw what a trained one draws, on the same kind of skulls."""

    def __init__(
        self,
        plan: Plan[StudentConfig],
        taught: tuple[AnyGenerator, Checkpoint],
        progress: Callable[[int, int], None] | None = None,
        identity: tuple[nn.Module, Checkpoint] | None = None,
    ) -> None:
        """Load the skulls and build the student.

        Args:
            plan: What is trained on what; its configuration is of `load_student`.
            taught: The teacher and its checkpoint.
            progress: Called with pictures (read, in all).
            identity: An embedder that the faces of both shall look alike to
                (`lambda_embedding`).

        Raises DataError where the teacher, or the embedder, was trained on people held out here.
        """
        self.plan, config = plan, plan.config
        self.schedule, self.ema, self.device = config.schedule, config.ema, plan.device
        parts = plan.divide()
        self.held_out = list_unseen(parts)
        teacher, checkpoint = taught
        refuse_leak(checkpoint, plan, self.held_out)
        judge = None
        if identity is not None:
            embedder, trained = identity
            refuse_leak(trained, plan, self.held_out)
            judge = FaceIdentity(embedder, int(trained.config["size"]))
        self.skulls = read_skulls(parts.training, config, progress)
        self.told = parts.training.told | parts.validation.told
        torch.manual_seed(plan.seed)  # the initial weights
        self.networks = Student(config, teacher, judge).to(plan.device)
        self.exported = self.networks.generator
        self.optimisers = self.networks.optimisers()
        self.steps_per_epoch = config.schedule.steps_per_epoch or max(
            1, len(self.skulls) // config.schedule.batch_size
        )
        self.watched = _thin(read_skulls(parts.validation, config, progress))
        self.model_faces = self._draw(self.networks.teacher)

    def batches(self, streams: Streams) -> Iterator[Batch]:
        """Yield skulls."""
        return skull_batches(
            self.skulls, self.told, self.plan.config, self.steps_per_epoch, streams
        )

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Yield the student's one turn."""
        return self.networks.turns(batch, rng)

    def finish_epoch(self, epoch: int, out: Path, network: nn.Module) -> dict[str, float]:
        """Compare faces of people held out with the teacher's; write the sample grid.

        Returns `ssim`, their mean structural similarity, at most 1.
        """
        # Here, for it takes as long to import as all the rest.
        from fcr_train.evaluate.images import compute_ssim

        faces = self._draw(network.eval())
        rows = [self.watched.pixels.repeat(3, axis=3), self.model_faces.pixels, faces.pixels]
        grid = np.concatenate([np.concatenate(list(row[:_SAMPLES]), axis=1) for row in rows])
        folder = out / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        imaging.write_png(folder / f"epoch_{epoch:04d}.png", grid, SYNTHETIC)
        return {"ssim": float(compute_ssim(faces.pixels, self.model_faces.pixels).mean())}

    def checkpoint(self, step: int, network: nn.Module) -> Checkpoint:
        """Describe the student."""
        return describe("translator", self.plan, self.held_out, step, network)

    def _draw(self, generator: nn.Module) -> Album:
        return generate(generator, self.watched, self.told, self.plan.config, self.device)


def _thin(skulls: Album) -> Album:
    """Leave out all but some, of every view alike: views alternate, and a step would drop one."""
    count = -(-_WATCHED // len({*skulls.views}))
    kept: list[int] = []
    for view in sorted({*skulls.views}):
        places = [at for at, shown in enumerate(skulls.views) if shown == view]
        chosen = np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)
        kept += [places[at] for at in chosen]
    kept.sort()
    return Album(
        skulls.pixels[kept],
        tuple(skulls.people[at] for at in kept),
        tuple(skulls.views[at] for at in kept),
    )

"""The training of a translator: films and faces in, a generator out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fcr_edge import imaging
from fcr_edge.errors import DataError
from fcr_train.batches import (
    Album,
    Translations,
    load_faces,
    load_skulls,
    tell,
    to_batch,
    to_pixels,
    translation_batches,
)
from fcr_train.tasks.plan import BATCH, describe, list_unseen, refuse_leak
from fcr_train.translators import TRANSLATORS, FaceIdentity, load_encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from fcr_edge.conditions import Conditions
    from fcr_train.checkpoint import Checkpoint
    from fcr_train.config import TranslatorConfig
    from fcr_train.dataset import Dataset, Picture
    from fcr_train.tasks.plan import Plan
    from fcr_train.trainer import Batch, Streams, Turn

    TrainedEmbedder = tuple[nn.Module, Checkpoint]

GENERATED = {"Synthetic": "faces in the middle row are generated, not photographs"}
"""The mark inside every sample grid."""

_SAMPLES = 8
"""Films in a sample grid."""


class TranslatorTask:
    """Train a translator; after each epoch, show what it makes of a few people held out."""

    def __init__(
        self,
        plan: Plan[TranslatorConfig],
        progress: Callable[[int, int], None] | None = None,
        identity: TrainedEmbedder | None = None,
        encoder: Path | None = None,
    ) -> None:
        """Load the pictures and build the networks.

        Args:
            plan: What is trained on what.
            progress: Called with pictures (read, in all).
            identity: An embedder that judges whether a generated face is the person's
                (`lambda_embedding`).
            encoder: Checkpoint of a translator whose encoder the generator starts from.
        """
        self.plan, config = plan, plan.config
        self.schedule, self.ema, self.device = config.schedule, config.ema, plan.device
        parts = plan.divide()
        self.held_out = list_unseen(parts)
        self.data = _load(parts.training, config, progress)
        torch.manual_seed(plan.seed)  # the initial weights
        self.networks = TRANSLATORS[plan.model](config, self._judge(identity)).to(plan.device)
        if encoder is not None:
            refuse_leak(load_encoder(self.networks.generator, encoder), plan, self.held_out)
        self.exported = self.networks.generator
        self.optimisers = self.networks.optimisers()
        self.paired = self.networks.needs_pairs
        lacking = self.data.lacking_mates()
        if lacking and (self.paired or config.lambda_embedding):
            person, view = lacking[0]
            raise DataError(
                f"{plan.model} learns from pairs, and {len(lacking)} films have no face of their"
                f" person and view ({person}, {view} the first): add the faces, take those films"
                " out, or train cut, fastcut or cyclegan, which need no pairs"
            )
        self.sample_skulls, self.sample_faces = self._load_samples(parts.validation)
        self.told = parts.validation.told
        self.steps_per_epoch = config.schedule.steps_per_epoch or max(
            1, len(self.data.skulls) // config.schedule.batch_size
        )

    def _judge(self, identity: TrainedEmbedder | None) -> FaceIdentity | None:
        if identity is None:
            return None
        embedder, checkpoint = identity
        refuse_leak(checkpoint, self.plan, self.held_out)
        return FaceIdentity(embedder, int(checkpoint.config["size"]))

    def batches(self, streams: Streams) -> Iterator[Batch]:
        """Yield skulls with faces: their own where the method learns from pairs."""
        return translation_batches(
            self.data, self.plan.config, self.steps_per_epoch, streams, self.paired
        )

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Yield the method's turns."""
        return self.networks.turns(batch, rng)

    def finish_epoch(self, epoch: int, out: Path, network: nn.Module) -> dict[str, float]:
        """Write the sample grid: skulls above generated faces above the true faces."""
        fakes = generate(
            network.eval(), self.sample_skulls, self.told, self.plan.config, self.device
        )
        rows = [
            self.sample_skulls.pixels.repeat(3, axis=3),
            fakes.pixels,
            self.sample_faces.pixels,
        ]
        grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
        folder = out / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        imaging.write_png(folder / f"epoch_{epoch:04d}.png", grid, GENERATED)
        return {}

    def checkpoint(self, step: int, network: nn.Module) -> Checkpoint:
        """Describe the generator: the other networks only serve training."""
        return describe("translator", self.plan, self.held_out, step, network)

    def _load_samples(self, testing: Dataset) -> tuple[Album, Album]:
        """Load the first films held out, and beside each a face of its person and view."""
        films, mates = testing.select(testing.film_kind, testing.names), testing.mates()
        rows = [row for row in films if (row.pair, row.augmentation) in mates][:_SAMPLES]
        if not rows:
            raise DataError(
                "nobody held out has a film and a face of one view: complete the dataset"
            )
        skulls = load_skulls(rows, self.plan.config.size, self.plan.config.soft_tissue, None)
        matching = [mates[row.pair, row.augmentation] for row in rows]
        return skulls, load_faces(matching, self.plan.config.size, None)


def read_skulls(
    part: Dataset, config: TranslatorConfig, progress: Callable[[int, int], None] | None
) -> Album:
    """Read a part's films as a translator takes them."""
    rows = part.select(part.film_kind, part.names)
    return load_skulls(rows, config.size, config.soft_tissue, progress)


def generate(
    generator: nn.Module,
    skulls: Album,
    told: Mapping[str, Conditions],
    config: TranslatorConfig,
    device: torch.device,
) -> Album:
    """Translate skulls into faces of the same size; `told` is what is known of each person."""
    faces = []
    with torch.inference_mode():
        for start in range(0, len(skulls), BATCH):
            batch = to_batch(skulls.pixels[start : start + BATCH], -1, 1)
            known = [told[person] for person in skulls.people[start : start + BATCH]]
            batch = tell(batch, known, config.conditions)
            faces.append(to_pixels(generator(batch.to(device)), -1, 1))
    return Album(np.concatenate(faces), skulls.people, skulls.views)


def _load(
    part: Dataset, config: TranslatorConfig, progress: Callable[[int, int], None] | None
) -> Translations:
    """Load films and faces of the training part, and find the face of each film."""
    films = part.select(part.film_kind, part.names)
    faces = part.select("face", part.names)
    skulls = load_skulls(films, config.size, config.soft_tissue, progress)
    return Translations(
        skulls, load_faces(faces, config.size, progress), _find(films, faces, part), part.told
    )


def _find(
    films: Sequence[Picture], faces: Sequence[Picture], part: Dataset
) -> tuple[int | None, ...]:
    mates = part.mates()
    places = {row: place for place, row in enumerate(faces)}
    found = [mates.get((row.pair, row.augmentation)) for row in films]
    return tuple(None if mate is None else places[mate] for mate in found)

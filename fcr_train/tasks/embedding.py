"""The training of an embedder: pictures of people in, a network that tells them apart out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from pytorch_metric_learning.losses import SupConLoss

from fcr_edge import imaging
from fcr_edge.errors import DataError
from fcr_train import processes
from fcr_train.batches import Album, identity_batches, jitter, load_faces, stack_by_view, to_batch
from fcr_train.contrast import contrast
from fcr_train.embedders import FaceEmbedder, start_from
from fcr_train.tasks.plan import BATCH, build_adamw, describe, fit_batch, list_unseen, refuse_leak
from fcr_train.tasks.translation import generate, read_skulls
from fcr_train.trainer import Turn
from fcr_train.translators import translator_config
from fcr_train.weights import RANDOM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from jaxtyping import Float32, Int64
    from torch import Tensor, nn

    from fcr_train.checkpoint import Checkpoint
    from fcr_train.config import EmbedderConfig
    from fcr_train.dataset import Dataset, Picture
    from fcr_train.tasks.plan import Plan
    from fcr_train.trainer import Batch, Streams
    from fcr_train.weights import Weights

    TrainedTranslator = tuple[nn.Module, Checkpoint]


class EmbedderTask:
    """Train an embedder to place a person's pictures together, apart from other people's.

    The loss is supervised contrastive (Khosla et al. 2020). It compares pictures with pictures, so
    it needs no weight vector a person, which a few pictures of a few hundred people would only let
    a network learn by heart; and every other person in the batch is a negative, which is many
    comparisons for few pictures. With a translator, faces generated from a person's films are
    further pictures of that person: the probes of a search come from that domain, and without it
    nothing would teach the network where they lie. Of a person's pictures in a batch the first is
    a portrait, the second a generated face, and so on: with three, two pairs in three cross from
    one domain to the other.
    """

    def __init__(
        self,
        plan: Plan[EmbedderConfig],
        translator: TrainedTranslator | None = None,
        progress: Callable[[int, int], None] | None = None,
        weights: Weights | None = None,
    ) -> None:
        self.plan, config = plan, plan.config
        self.ema, self.device = 0.0, plan.device
        parts = plan.divide()
        training, testing = parts.training, parts.validation
        self.held_out = list_unseen(parts)
        if translator is not None:
            refuse_leak(translator[1], plan, self.held_out)
        self.albums = [_load_faces(training.select("face", training.names), config, progress)]
        gallery = testing.gallery()
        others = [row for row in testing.select("face", testing.names) if row not in gallery]
        self.gallery = _load_faces(gallery, config, progress)
        self.probes = _load_faces(others, config, progress)
        if translator is not None:
            self.albums.append(self._imagine(translator, training, progress))
            self.probes = self._imagine(translator, testing, progress)
        if not len(self.probes):
            raise DataError(
                "there is one portrait a view of each person held out, and nothing to search them"
                " with: pass --translator, whose faces become the probes, or add portraits"
            )
        shown = {view: len(people) for view, people in stack_by_view(self.albums).items()}
        self.schedule = fit_batch(config.schedule, shown)
        self.steps_per_epoch = self.schedule.steps_per_epoch or max(
            1, sum(shown.values()) // self.schedule.batch_size
        )
        torch.manual_seed(plan.seed)  # the initial weights
        embedder = FaceEmbedder(plan.model, config.dimension)
        self.origin = {**RANDOM, **_name(translator)}
        if weights is not None:
            start_from(embedder, weights)
            self.origin |= weights.record
        self.networks = self.exported = embedder.to(plan.device)
        self.optimisers = {
            "embedder": build_adamw(self.networks, config.schedule, config.weight_decay)
        }
        self.loss = SupConLoss(temperature=config.temperature)

    def batches(self, streams: Streams) -> Iterator[Batch]:
        """Yield faces of a few people, jittered."""
        drawn = identity_batches(
            self.albums,
            self.schedule.batch_size,
            self.plan.config.pictures_per_person,
            self.steps_per_epoch,
            streams.numpy,
        )
        for batch in drawn:
            yield batch | {"face": jitter(batch["face"], self.plan.config.jitter, streams.torch)}

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Pull the pictures of a person together, push people apart."""
        loss = contrast(self.loss, self.networks(batch["face"]), batch["person"])
        yield Turn("embedder", {"contrastive": loss / processes.number()}, loss)

    def finish_epoch(self, epoch: int, out: Path, network: nn.Module) -> dict[str, float]:
        """Search for each person held out; return the share found at rank 1 and 5, and chance."""
        network.eval()
        ranks = rank_mates(
            embed(network, self.probes, self.device),
            self.probes.people,
            embed(network, self.gallery, self.device),
            self.gallery.people,
        )
        people = len({*self.gallery.people})
        return {
            "rank_1": float((ranks <= 1).mean()),
            "rank_5": float((ranks <= 5).mean()),
            "chance_1": 1 / people,
            "chance_5": min(1.0, 5 / people),
        }

    def checkpoint(self, step: int, network: nn.Module) -> Checkpoint:
        """Describe the embedder, with what its training started from."""
        checkpoint = describe("embedder", self.plan, self.held_out, step, network)
        return replace(checkpoint, data=checkpoint.data | self.origin)

    def _imagine(
        self,
        translator: TrainedTranslator,
        part: Dataset,
        progress: Callable[[int, int], None] | None,
    ) -> Album:
        """Generate the faces of a part's films, as the field would embed them."""
        generator, checkpoint = translator
        config = translator_config(checkpoint)
        skulls = read_skulls(part, config, progress)
        fakes = generate(generator.to(self.device), skulls, part.told, config, self.device)
        side = (self.plan.config.size, self.plan.config.size)
        pixels = np.stack([imaging.resize(face, side) for face in fakes.pixels])
        return Album(pixels, fakes.people, fakes.views)


def _name(translator: TrainedTranslator | None) -> dict[str, str]:
    """Say whose generated faces are learned from."""
    if translator is None:
        return {}
    checkpoint = translator[1]
    return {"translator": f"{checkpoint.model} {checkpoint.preset}, step {checkpoint.step}"}


def embed(
    embedder: Callable[[Tensor], Tensor], faces: Album, device: torch.device
) -> Float32[Tensor, "n d"]:
    """Embed an album, picture by picture in its order."""
    with torch.inference_mode():
        embeddings = [
            embedder(to_batch(faces.pixels[start : start + BATCH], 0, 1).to(device)).cpu()
            for start in range(0, len(faces), BATCH)
        ]
    return torch.cat(embeddings)


def rank_mates(
    probes: Float32[Tensor, "p d"],
    probe_people: Sequence[str],
    gallery: Float32[Tensor, "g d"],
    gallery_people: Sequence[str],
) -> Int64[np.ndarray, " p"]:
    """Return the rank of each probe's own person, 1 the best; a person counts by its best picture.

    A tie counts against the mate, so that an embedder which has collapsed finds nobody.
    """
    names = sorted({*gallery_people})
    columns = torch.tensor([names.index(person) for person in gallery_people])
    best = torch.full((len(probes), len(names)), -torch.inf)
    best.scatter_reduce_(
        1, columns.expand(len(probes), -1), probes @ gallery.T, reduce="amax", include_self=True
    )
    mates = torch.tensor([names.index(person) for person in probe_people])
    mate_similarity = best.gather(1, mates[:, None])
    ranks: Int64[np.ndarray, " p"] = (best >= mate_similarity).sum(dim=1).numpy()
    return ranks


def _load_faces(
    rows: Sequence[Picture], config: EmbedderConfig, progress: Callable[[int, int], None] | None
) -> Album:
    if not rows:
        return Album(np.zeros((0, config.size, config.size, 3), np.uint8), (), ())
    return load_faces(rows, config.size, progress)

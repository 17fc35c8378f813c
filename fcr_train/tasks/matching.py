"""The training of the direct matcher: films and portraits of people in, two towers out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from pytorch_metric_learning.losses import SupConLoss

from fcr_edge.errors import DataError
from fcr_train import processes
from fcr_train.batches import (
    Album,
    Matches,
    load_faces,
    load_skulls,
    matching_batches,
    tell,
    to_batch,
)
from fcr_train.contrast import contrast
from fcr_train.matcher import TwoTower
from fcr_train.tasks.embedding import embed, rank_mates
from fcr_train.tasks.plan import BATCH, build_adamw, describe, fit_batch, list_unseen
from fcr_train.trainer import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from jaxtyping import Float32
    from torch import Tensor, nn

    from fcr_edge.conditions import Conditions
    from fcr_train.checkpoint import Checkpoint
    from fcr_train.config import MatcherConfig
    from fcr_train.dataset import Dataset
    from fcr_train.tasks.plan import Plan
    from fcr_train.trainer import Batch, Streams


class MatcherTask:
    """Train two towers to place a person's film beside the person's portraits of the same view.

    The loss is symmetric InfoNCE (van den Oord et al. 2018; both ways as in Radford et al. 2021):
    each film has to find its portrait among those of a batch, and each portrait its film. All
    pictures of a batch show one view, so that nobody is told apart by the view. Portraits are of
    all days: light, hair and weight change between them, and the skull does not.
    """

    def __init__(
        self, plan: Plan[MatcherConfig], progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.plan, config = plan, plan.config
        self.ema, self.device = 0.0, plan.device
        parts = plan.divide()
        self.held_out = list_unseen(parts)
        self.data = load_matches(parts.training, config, progress)
        films = self.data.films_by_view()
        self.schedule = fit_batch(config.schedule, {view: len(films[view]) for view in films})
        self.told = parts.validation.told
        rows = parts.validation.select(parts.validation.film_kind, parts.validation.names)
        self.probes = load_skulls(rows, config.size, config.soft_tissue, progress)
        self.gallery = load_faces(parts.validation.gallery(), config.size, progress)
        self.steps_per_epoch = self.schedule.steps_per_epoch or max(
            1, len(self.data.skulls) // self.schedule.batch_size
        )
        torch.manual_seed(plan.seed)  # the initial weights
        self.networks = self.exported = TwoTower(config).to(plan.device)
        self.optimisers = {
            "matcher": build_adamw(self.networks, config.schedule, config.weight_decay)
        }
        self.loss = SupConLoss(temperature=config.temperature)

    def batches(self, streams: Streams) -> Iterator[Batch]:
        """Yield films of different people, each with a portrait of its person and view."""
        config = replace(self.plan.config, schedule=self.schedule)
        return matching_batches(self.data, config, self.steps_per_epoch, streams)

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Let each film find its portrait, and each portrait its film."""
        skulls = self.networks.embed_skulls(batch["skull"])
        faces = self.networks.embed_faces(batch["face"])
        people = batch["person"]
        film_to_face = contrast(self.loss, skulls, people, faces, people)
        face_to_film = contrast(self.loss, faces, people, skulls, people)
        loss = (film_to_face + face_to_film) / 2
        yield Turn("matcher", {"contrastive": loss / processes.number()}, loss)

    def finish_epoch(self, epoch: int, out: Path, network: nn.Module) -> dict[str, float]:
        """Search for each person held out with each film among portraits of its view.

        Returns the share found at rank 1 and 10, and chance.
        """
        assert isinstance(network, TwoTower), "the task's own"
        skulls = embed_skulls(
            network.eval(), self.probes, self.told, self.plan.config, self.device
        )
        faces = embed(network.embed_faces, self.gallery, self.device)
        ranks, chances = [], []
        for view in sorted({*self.probes.views}):
            probes, gallery = _of_view(self.probes, view), _of_view(self.gallery, view)
            enrolled = [self.gallery.people[place] for place in gallery]
            searched = [place for place in probes if self.probes.people[place] in {*enrolled}]
            names = [self.probes.people[place] for place in searched]
            ranks.append(rank_mates(skulls[searched], names, faces[gallery], enrolled))
            chances += [1 / len({*enrolled})] * len(searched)
        found, chance = np.concatenate(ranks), np.array(chances)
        return {
            "rank_1": float((found <= 1).mean()),
            "rank_10": float((found <= 10).mean()),
            "chance_1": float(chance.mean()),
            "chance_10": float((10 * chance).clip(max=1).mean()),
        }

    def checkpoint(self, step: int, network: nn.Module) -> Checkpoint:
        """Describe the matcher."""
        return describe("matcher", self.plan, self.held_out, step, network)


def load_matches(
    part: Dataset, config: MatcherConfig, progress: Callable[[int, int], None] | None
) -> Matches:
    """Load films and portraits, and find for each film those of its person and view.

    An augmented film goes with portraits changed as it was. Raises DataError if there is no film
    with a portrait.
    """
    faces = part.select("face", part.names)
    shown: dict[tuple[tuple[str, str], str], list[int]] = {}
    for place, row in enumerate(faces):
        shown.setdefault((row.pair, row.augmentation), []).append(place)
    films = [
        row
        for row in part.select(part.film_kind, part.names)
        if (row.pair, row.augmentation) in shown
    ]
    if not films:
        raise DataError("no film has a portrait of its person and view: complete the dataset")
    return Matches(
        load_skulls(films, config.size, config.soft_tissue, progress),
        load_faces(faces, config.size, progress),
        tuple(tuple(shown[row.pair, row.augmentation]) for row in films),
        part.told,
    )


def embed_skulls(
    matcher: TwoTower,
    skulls: Album,
    told: Mapping[str, Conditions],
    config: MatcherConfig,
    device: torch.device,
) -> Float32[Tensor, "n d"]:
    """Embed films as probes of a direct search; `told` is what is known of each person."""
    embeddings = []
    with torch.inference_mode():
        for start in range(0, len(skulls), BATCH):
            batch = to_batch(skulls.pixels[start : start + BATCH], -1, 1)
            known = [told[person] for person in skulls.people[start : start + BATCH]]
            batch = tell(batch, known, config.conditions)
            embeddings.append(matcher.embed_skulls(batch.to(device)).cpu())
    return torch.cat(embeddings)


def _of_view(album: Album, view: str) -> list[int]:
    return [place for place, shown in enumerate(album.views) if shown == view]

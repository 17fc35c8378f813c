"""The two trainings: a translator on films and faces, an embedder on faces of people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from pytorch_metric_learning.losses import SupConLoss

from fcr_edge import imaging
from fcr_edge.errors import DataError
from fcr_train import data
from fcr_train.checkpoint import Checkpoint
from fcr_train.config import EmbedderConfig, TranslatorConfig, parse, to_table
from fcr_train.embedders import FaceEmbedder
from fcr_train.translators import TRANSLATORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from jaxtyping import Float32, Int64, UInt8
    from torch import Tensor, nn

    from fcr_train.checkpoint import Kind
    from fcr_train.data import Album, Dataset
    from fcr_train.networks import ResnetGenerator
    from fcr_train.splits import Fold
    from fcr_train.trainer import Streams

    TrainedTranslator = tuple[ResnetGenerator, Checkpoint]

Config = TypeVar("Config", TranslatorConfig, EmbedderConfig)

GENERATED = {"Synthetic": "faces in the middle row are generated, not photographs"}
"""The mark inside every sample grid."""

_SAMPLES = 8
"""Films in a sample grid."""
_BATCH = 16
"""Pictures a batch where nothing is learned; it bounds memory, and changes no result."""


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

    @property
    def identity(self) -> dict[str, Any]:
        """All that has to stay the same when a training is resumed, as JSON values."""
        return {
            "model": self.model,
            "config": to_table(self.config),
            "dataset": self.dataset.sha256,
            "seed": self.seed,
            "split": self.fold.record if self.fold else None,
        }

    def divide(self) -> tuple[Dataset, Dataset]:
        """Divide the dataset into the part that trains and the part held out."""
        if self.fold is not None:
            return data.divide(self.dataset, self.fold.held_out)
        _, held_out = data.split_people(self.dataset.people, self.config.split)
        return data.divide(self.dataset, self.dataset.pairs(held_out))


class TranslatorTask:
    """Train a translator; after each epoch, show what it makes of a few people held out."""

    def __init__(
        self,
        plan: Plan[TranslatorConfig],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.plan, config = plan, plan.config
        self.schedule = config.schedule
        training, testing = plan.divide()
        self.held_out = _unseen(training, testing)
        self.skulls = _load_skulls(training, config, progress)
        self.faces = _load_faces(training, config, progress)
        self.sample_skulls, self.sample_faces = self._load_samples(testing)
        self.steps_per_epoch = config.schedule.steps_per_epoch or max(
            1, len(self.skulls) // config.schedule.batch_size
        )
        torch.manual_seed(plan.seed)  # the initial weights
        self.networks = TRANSLATORS[plan.model](config).to(plan.device)
        self.optimisers = self.networks.optimisers()

    def run_epoch(self, streams: Streams) -> Iterator[dict[str, float]]:
        """Take one step for each batch of skulls and unpaired faces."""
        batches = data.unpaired_batches(
            self.skulls,
            self.faces,
            self.plan.config.schedule.batch_size,
            self.steps_per_epoch,
            streams.numpy,
        )
        for skull, face in batches:
            yield self.networks.step(
                skull.to(self.plan.device),
                face.to(self.plan.device),
                self.optimisers,
                streams.torch,
            )

    def finish_epoch(self, epoch: int, out: Path) -> dict[str, float]:
        """Write the sample grid: skulls above generated faces above the true faces."""
        fakes = generate(self.networks.generator, self.sample_skulls, self.plan.device)
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

    def checkpoint(self, step: int) -> Checkpoint:
        """Describe the generator: the other networks only serve training."""
        return _describe("translator", self.plan, self.held_out, step, self.networks.generator)

    def _load_samples(self, testing: Dataset) -> tuple[Album, Album]:
        """Load the first films held out, and beside each a face of its person and view."""
        films = testing.select(testing.film_kind, testing.names)
        faces = {row.pair: row for row in reversed(testing.select("face", testing.names))}
        rows = [row for row in films if row.pair in faces][:_SAMPLES]
        if not rows:
            raise DataError(
                "nobody held out has a film and a face of one view: complete the dataset"
            )
        skulls = data.load_skulls(rows, self.plan.config.size, self.plan.config.soft_tissue, None)
        matching = [faces[row.pair] for row in rows]
        return skulls, data.load_faces(matching, self.plan.config.size, None)


class EmbedderTask:
    """Train an embedder to place a person's pictures together, apart from other people's.

    The loss is supervised contrastive (Khosla et al. 2020). It compares pictures with pictures, so
    it needs no weight vector a person, which a few pictures of a few hundred people would only let
    a network learn by heart; and every other person in the batch is a negative, which is many
    comparisons for few pictures. With a translator, faces generated from a person's films are
    further pictures of that person: the probes of a search come from that domain, and without it
    nothing would teach the network where they lie.
    """

    def __init__(
        self,
        plan: Plan[EmbedderConfig],
        translator: TrainedTranslator | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.plan, config = plan, plan.config
        self.schedule = config.schedule
        training, testing = plan.divide()
        self.held_out = _unseen(training, testing)
        if len(training.people) < config.schedule.batch_size:
            raise DataError(
                f"{len(training.people)} people are left for training, a batch takes"
                f" {config.schedule.batch_size}: simulate more, or lower schedule.batch_size"
            )
        if translator is not None:
            _refuse_leak(translator[1], plan, self.held_out)
        self.albums = [_load_faces(training, config, progress)]
        self.gallery, self.probes = _first_and_other(_load_faces(testing, config, progress))
        if translator is not None:
            self.albums.append(self._imagine(translator, training, progress))
            self.probes = self._imagine(translator, testing, progress)
        if not len(self.probes):
            raise DataError(
                "there is one portrait a view of each person held out, and nothing to search them"
                " with: pass --translator, whose faces become the probes, or add portraits"
            )
        self.steps_per_epoch = config.schedule.steps_per_epoch or max(
            1, len(training.people) // config.schedule.batch_size
        )
        torch.manual_seed(plan.seed)  # the initial weights
        self.networks = FaceEmbedder(plan.model, config.dimension).to(plan.device)
        schedule = config.schedule
        self.optimisers = {
            "embedder": torch.optim.AdamW(
                self.networks.parameters(),
                schedule.learning_rate,
                (schedule.beta1, schedule.beta2),
                weight_decay=config.weight_decay,
            )
        }
        self.loss = SupConLoss(temperature=config.temperature)

    def run_epoch(self, streams: Streams) -> Iterator[dict[str, float]]:
        """Take one step for each batch of people."""
        self.networks.train()
        batches = data.identity_batches(
            self.albums,
            self.plan.config.schedule.batch_size,
            self.plan.config.pictures_per_person,
            self.steps_per_epoch,
            streams.numpy,
        )
        for faces, people in batches:
            changed = data.jitter(faces, self.plan.config.jitter, streams.torch)
            loss = self.loss(
                self.networks(changed.to(self.plan.device)), people.to(self.plan.device)
            )
            self.optimisers["embedder"].zero_grad(set_to_none=True)
            loss.backward()
            self.optimisers["embedder"].step()
            yield {"contrastive": loss.item()}

    def finish_epoch(self, epoch: int, out: Path) -> dict[str, float]:
        """Search for each person held out; return the share found at rank 1 and 5, and chance."""
        self.networks.eval()
        ranks = rank_mates(
            embed(self.networks, self.probes, self.plan.device),
            self.probes.people,
            embed(self.networks, self.gallery, self.plan.device),
            self.gallery.people,
        )
        people = len({*self.gallery.people})
        return {
            "rank_1": float((ranks <= 1).mean()),
            "rank_5": float((ranks <= 5).mean()),
            "chance_1": 1 / people,
            "chance_5": min(1.0, 5 / people),
        }

    def checkpoint(self, step: int) -> Checkpoint:
        """Describe the embedder."""
        return _describe("embedder", self.plan, self.held_out, step, self.networks)

    def _imagine(
        self,
        translator: TrainedTranslator,
        part: Dataset,
        progress: Callable[[int, int], None] | None,
    ) -> Album:
        """Generate the faces of a part's films, as the field would embed them."""
        generator, checkpoint = translator
        config = parse(TranslatorConfig, checkpoint.config)
        skulls = _load_skulls(part, config, progress)
        fakes = generate(generator.to(self.plan.device), skulls, self.plan.device)
        side = (self.plan.config.size, self.plan.config.size)
        pixels = np.stack([imaging.resize(face, side) for face in fakes.pixels])
        return data.Album(pixels, fakes.people, fakes.views)


def generate(generator: ResnetGenerator, skulls: Album, device: torch.device) -> Album:
    """Translate skulls into faces of the same size."""
    with torch.inference_mode():
        faces = [
            data.to_pixels(generator(data.to_batch(batch, -1, 1).to(device)), -1, 1)
            for batch in _batches(skulls)
        ]
    return data.Album(np.concatenate(faces), skulls.people, skulls.views)


def embed(embedder: FaceEmbedder, faces: Album, device: torch.device) -> Float32[Tensor, "n d"]:
    """Embed an album, picture by picture in its order."""
    with torch.inference_mode():
        embeddings = [
            embedder(data.to_batch(batch, 0, 1).to(device)).cpu() for batch in _batches(faces)
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


def _batches(album: Album) -> Iterator[UInt8[np.ndarray, "n h w c"]]:
    for start in range(0, len(album), _BATCH):
        yield album.pixels[start : start + _BATCH]


def _unseen(training: Dataset, testing: Dataset) -> list[str]:
    """List the people held out entirely; a split by pair holds out views of people who train."""
    seen = {*training.names}
    return [name for name in testing.names if name not in seen]


def _load_skulls(
    part: Dataset, config: TranslatorConfig, progress: Callable[[int, int], None] | None
) -> Album:
    rows = part.select(part.film_kind, part.names)
    return data.load_skulls(rows, config.size, config.soft_tissue, progress)


def _load_faces(
    part: Dataset,
    config: TranslatorConfig | EmbedderConfig,
    progress: Callable[[int, int], None] | None,
) -> Album:
    return data.load_faces(part.select("face", part.names), config.size, progress)


def _first_and_other(portraits: Album) -> tuple[Album, Album]:
    """Divide portraits into each person's first of a view, and the rest."""
    seen: set[tuple[str, str]] = set()
    first: list[int] = []
    other: list[int] = []
    for place, kind in enumerate(zip(portraits.people, portraits.views, strict=True)):
        (other if kind in seen else first).append(place)
        seen.add(kind)
    return _pick(portraits, first), _pick(portraits, other)


def _pick(album: Album, places: Sequence[int]) -> Album:
    return data.Album(
        album.pixels[list(places)],
        tuple(album.people[place] for place in places),
        tuple(album.views[place] for place in places),
    )


def _refuse_leak(translator: Checkpoint, plan: Plan[Any], held_out: Sequence[str]) -> None:
    """Raise DataError if the translator was trained on what is to be held out here."""
    if translator.data.get("sha256") != plan.dataset.sha256:
        return  # another dataset, so other people
    theirs, ours = translator.data.get("split"), plan.fold.record if plan.fold else None
    if ours is not None and theirs == ours:
        return
    if any(record is not None and record.startswith("pair") for record in (theirs, ours)):
        raise DataError(
            "the translator was trained on another split of the pairs: pass the same --split and"
            " --fold to both trainings"
        )
    leaked = sorted({*held_out} - {*translator.data["held_out"]})
    if leaked:
        raise DataError(
            f"the translator was trained on {len(leaked)} people who are held out here,"
            f" {leaked[0]} the first: give both trainings the same [split] or the same --split and"
            " --fold"
        )


def _describe(
    kind: Kind, plan: Plan[Any], held_out: Sequence[str], step: int, network: nn.Module
) -> Checkpoint:
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
            "held_out": list(held_out),
            "seed": plan.seed,
            **({"split": plan.fold.record} if plan.fold else {}),
        },
    )

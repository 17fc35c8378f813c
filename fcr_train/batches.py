"""Pictures of a dataset in memory, and the batches that trainings take from them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from fcr_edge import film, imaging, photo, soft_tissue
from fcr_edge.conditions import ATTRIBUTES
from fcr_edge.errors import DataError, FcrError
from fcr_edge.manifest import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jaxtyping import Float32, UInt8
    from torch import Tensor

    from fcr_edge.conditions import Conditions
    from fcr_train.config import Jitter, MatcherConfig, TranslatorConfig
    from fcr_train.dataset import Pair, Picture
    from fcr_train.trainer import Streams


@dataclass(frozen=True)
class Album:
    """Pictures of one size in memory, each with its person and view."""

    pixels: UInt8[np.ndarray, "n h w c"]
    people: tuple[str, ...]
    views: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.people)


def load_skulls(
    rows: Sequence[Picture], size: int, recipe: str, progress: Callable[[int, int], None] | None
) -> Album:
    """Read films as the field does: standard film, soft tissue removed, resized.

    A picture of kind "skull" has lost its soft tissue by hand, so nothing is removed from it.
    Raises DataError for a film that cannot be used.
    """

    def read(row: Picture) -> UInt8[np.ndarray, "h w 1"]:
        standard = film.standardise(imaging.read_picture(row.path))
        return soft_tissue.remove(standard, "none" if row.kind == "skull" else recipe)

    return _load(rows, size, read, progress)


def load_faces(
    rows: Sequence[Picture], size: int, progress: Callable[[int, int], None] | None
) -> Album:
    """Read portraits as the field does: standard face, resized. Raises DataError."""
    return _load(rows, size, lambda row: photo.read_face(row.path), progress)


def to_batch(
    pixels: UInt8[np.ndarray, "n h w c"], low: float, high: float
) -> Float32[Tensor, "n c h w"]:
    """Stack pictures into one tensor that maps 0..255 onto low..high."""
    height, width, channels = pixels.shape[1:]
    spec = TensorSpec("picture", channels, height, width, low, high)
    tensors = [imaging.to_tensor(picture, spec) for picture in pixels]
    return torch.from_numpy(np.concatenate(tensors))


def to_pixels(
    batch: Float32[Tensor, "n c h w"], low: float, high: float
) -> UInt8[np.ndarray, "n h w c"]:
    """Undo `to_batch`, clipped and rounded."""
    channels, height, width = batch.shape[1:]
    spec = TensorSpec("picture", channels, height, width, low, high)
    return np.stack([imaging.to_picture(tensor.cpu().numpy(), spec) for tensor in batch])


@dataclass(frozen=True)
class Translations:
    """What a translator learns from: skulls, faces, and which face is whose."""

    skulls: Album
    faces: Album
    mates: tuple[int | None, ...]
    """For each skull the place of its face among the faces, None where there is none."""
    told: Mapping[str, Conditions]
    """What is known of each person."""

    def lacking_mates(self) -> list[Pair]:
        """List the persons and views whose skull has no face."""
        shown = zip(self.skulls.people, self.skulls.views, self.mates, strict=True)
        return [(person, view) for person, view, mate in shown if mate is None]


def translation_batches(
    data: Translations,
    config: TranslatorConfig,
    steps: int,
    streams: Streams,
    paired: bool,
) -> Iterator[dict[str, Tensor]]:
    """Yield batches of `skull`, with the condition planes behind it, and `face`, in [-1, 1].

    Paired, the face is the skull's own and both are jittered alike, so that they stay one above
    the other. Otherwise it is a random face *of the same view*, almost always another person's: a
    discriminator that saw profiles where the skull is frontal would ask for them. What is known of
    that face's person comes along as `face_planes`. Where the configuration weighs the distance of
    embeddings, `mate` is the skull's own face.
    """
    faces_by_view = _group(data.faces.views)
    unmatched = sorted({*data.skulls.views} - {*faces_by_view})
    if unmatched:
        raise DataError(f"there is no face of view {unmatched[0]!r}: add some, or drop its films")
    size, rng = config.schedule.batch_size, streams.numpy
    order = _order(len(data.skulls), size * steps, rng).reshape(steps, size)
    for chosen in order:
        skull = to_batch(data.skulls.pixels[chosen], -1, 1)
        moves = draw_moves(size, config.jitter, streams.torch)
        batch = {"skull": move(skull, moves)}
        if paired or config.lambda_embedding:
            mates = [data.mates[i] for i in chosen]
            mate = move(to_batch(data.faces.pixels[mates], -1, 1), moves)
        if config.lambda_embedding:
            batch["mate"] = mate
        if paired:
            batch["face"] = mate
        else:
            others = [rng.choice(faces_by_view[data.skulls.views[i]]) for i in chosen]
            face = to_batch(data.faces.pixels[others], -1, 1)
            batch["face"] = move(face, draw_moves(size, config.jitter, streams.torch))
            strangers = _recall([data.faces.people[i] for i in others], data.told, config, rng)
            batch["face_planes"] = tell(batch["face"], strangers, config.conditions)[:, 3:]
        batch["skull"] = expose(batch["skull"], config.jitter, streams.torch)
        told = _recall([data.skulls.people[i] for i in chosen], data.told, config, rng)
        batch["skull"] = tell(batch["skull"], told, config.conditions)
        yield batch


def skull_batches(
    skulls: Album,
    told: Mapping[str, Conditions],
    config: TranslatorConfig,
    steps: int,
    streams: Streams,
) -> Iterator[dict[str, Tensor]]:
    """Yield batches of `skull` alone, with the condition planes behind it, in [-1, 1]."""
    size = config.schedule.batch_size
    for chosen in _order(len(skulls), size * steps, streams.numpy).reshape(steps, size):
        skull = to_batch(skulls.pixels[chosen], -1, 1)
        skull = move(skull, draw_moves(size, config.jitter, streams.torch))
        skull = expose(skull, config.jitter, streams.torch)
        known = _recall([skulls.people[i] for i in chosen], told, config, streams.numpy)
        yield {"skull": tell(skull, known, config.conditions)}


def tell(
    skull: Float32[Tensor, "n 1 h w"], told: Sequence[Conditions], attributes: Sequence[str]
) -> Float32[Tensor, "n p h w"]:
    """Append to each skull the planes of what is known of its person."""
    if not attributes:
        return skull
    planes = [known.planes(attributes, *skull.shape[2:]) for known in told]
    return torch.cat([skull, torch.from_numpy(np.stack(planes))], dim=1)


@dataclass(frozen=True)
class Matches:
    """What a matcher learns from: skulls, portraits, and which show one person and view."""

    skulls: Album
    faces: Album
    portraits: tuple[tuple[int, ...], ...]
    """For each skull the places of its portraits among the faces, one at least."""
    told: Mapping[str, Conditions]
    """What is known of each person."""

    def films_by_view(self) -> dict[str, dict[str, list[int]]]:
        """Return the places of each person's skulls, by view and person."""
        films: dict[str, dict[str, list[int]]] = {}
        shown = zip(self.skulls.views, self.skulls.people, strict=True)
        for place, (view, person) in enumerate(shown):
            films.setdefault(view, {}).setdefault(person, []).append(place)
        return films


def matching_batches(
    data: Matches, config: MatcherConfig, steps: int, streams: Streams
) -> Iterator[dict[str, Tensor]]:
    """Yield batches of `skull` in [-1, 1], `face` in [0, 1] and `person`, views in turn.

    A batch shows each of its people once, in one view: a film, with the condition planes behind
    it, and one of the person's portraits, each jittered by itself as no two days are alike.
    """
    films, rng = data.films_by_view(), streams.numpy
    size, views = config.schedule.batch_size, sorted(films)
    lots = {view: _draw_lots(len(films[view]), size, steps, rng) for view in views}
    for step in range(steps):
        view = views[step % len(views)]
        people, lot = sorted(films[view]), lots[view][step // len(views)]
        drawn = [rng.choice(films[view][people[i]]) for i in lot]
        portraits = [rng.choice(data.portraits[place]) for place in drawn]
        moves = draw_moves(size, config.jitter, streams.torch)
        skull = move(to_batch(data.skulls.pixels[drawn], -1, 1), moves)
        skull = expose(skull, config.jitter, streams.torch)
        told = _recall([data.skulls.people[i] for i in drawn], data.told, config, rng)
        yield {
            "skull": tell(skull, told, config.conditions),
            "face": jitter(
                to_batch(data.faces.pixels[portraits], 0, 1), config.jitter, streams.torch
            ),
            "person": torch.from_numpy(lot),
        }


def identity_batches(
    albums: Sequence[Album],
    people_per_batch: int,
    pictures_per_person: int,
    steps: int,
    rng: np.random.Generator,
) -> Iterator[dict[str, Tensor]]:
    """Yield `face` in [0, 1] and `person`: several pictures of each of a few people.

    An album holds one domain, such as portraits or generated faces. A person's pictures come from
    the albums in turn, the first one first. All of a batch show one view, and views take turns: a
    search compares pictures of one view, and to place a profile beside a frontal picture is harder
    than to tell people apart.
    """
    stacks = stack_by_view(albums)
    views = sorted(stacks)
    lots = {view: _draw_lots(len(stacks[view]), people_per_batch, steps, rng) for view in views}
    for step in range(steps):
        view = views[step % len(views)]
        people, lot = sorted(stacks[view]), lots[view][step // len(views)]
        drawn = [
            albums[album].pixels[place]
            for i in lot
            for album, place in _draw(stacks[view][people[i]], pictures_per_person, rng)
        ]
        person = torch.from_numpy(np.repeat(lot, pictures_per_person))
        yield {"face": to_batch(np.stack(drawn), 0, 1), "person": person}


def stack_by_view(
    albums: Sequence[Album],
) -> dict[str, dict[str, list[list[tuple[int, int]]]]]:
    """Return each person's pictures as (album, place), by view and person, a stack an album."""
    stacks: dict[str, dict[str, dict[int, list[tuple[int, int]]]]] = {}
    for number, album in enumerate(albums):
        for place, (person, view) in enumerate(zip(album.people, album.views, strict=True)):
            stack = stacks.setdefault(view, {}).setdefault(person, {}).setdefault(number, [])
            stack.append((number, place))
    return {
        view: {person: list(stack.values()) for person, stack in people.items()}
        for view, people in stacks.items()
    }


def jitter(
    faces: Float32[Tensor, "n 3 h w"], amount: Jitter, rng: torch.Generator
) -> Float32[Tensor, "n 3 h w"]:
    """Turn, shift, scale and recolour each face at random; values stay in [0, 1].

    Faces are not mirrored: a portrait tells left from right, and so does a film.
    """
    moved = move(faces, draw_moves(len(faces), amount, rng))
    draws = torch.rand(3, len(faces), generator=rng) * 2 - 1
    brightness, contrast, saturation = (1 + amount.colour * draws).view(3, -1, 1, 1, 1)
    grey = moved.mean(dim=1, keepdim=True)
    level = moved.mean(dim=(1, 2, 3), keepdim=True)
    coloured = grey + saturation * (moved - grey)
    recoloured: Tensor = brightness * (level + contrast * (coloured - level))
    return recoloured.clamp(0, 1)


def draw_moves(number: int, amount: Jitter, rng: torch.Generator) -> Float32[Tensor, "n 2 3"]:
    """Draw a rotation, scale and shift for each of several pictures, as affine matrices."""
    draws = torch.rand(4, number, generator=rng) * 2 - 1
    angle = draws[0] * amount.degrees * torch.pi / 180
    scale = 1 + draws[1] * amount.scale
    cos, sin = scale * angle.cos(), scale * angle.sin()
    # affine_grid counts from -1 to 1, so a share of the side is twice as much.
    shift_x, shift_y = 2 * amount.shift * draws[2], 2 * amount.shift * draws[3]
    rows = [torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)]
    return torch.stack(rows, 1)


def move(
    pictures: Float32[Tensor, "n c h w"], moves: Float32[Tensor, "n 2 3"]
) -> Float32[Tensor, "n c h w"]:
    """Turn, scale and shift pictures; what comes in from outside continues the border."""
    grid = functional.affine_grid(moves, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def expose(
    skull: Float32[Tensor, "n 1 h w"], amount: Jitter, rng: torch.Generator
) -> Float32[Tensor, "n 1 h w"]:
    """Expose each film differently: black stays black, and no gain washes dense bone out."""
    gain = 1 - amount.colour * torch.rand(len(skull), 1, 1, 1, generator=rng)
    return (skull + 1) * gain - 1


def _recall(
    people: Sequence[str],
    told: Mapping[str, Conditions],
    config: TranslatorConfig | MatcherConfig,
    rng: np.random.Generator,
) -> list[Conditions]:
    """Return what is known of each, leaving attributes unknown at random: a familiar input."""
    known = []
    for person in people:
        lost = {name: None for name in ATTRIBUTES if rng.random() < config.condition_dropout}
        known.append(replace(told[person], **lost))
    return known


def _load(
    rows: Sequence[Picture],
    size: int,
    read: Callable[[Picture], UInt8[np.ndarray, "h w c"]],
    progress: Callable[[int, int], None] | None,
) -> Album:
    pixels = []
    for done, row in enumerate(rows, start=1):
        try:
            pixels.append(imaging.resize(read(row), (size, size)))
        except FcrError as err:
            raise DataError(f"{row.path} cannot be used: {err}") from err
        if progress is not None:
            progress(done, len(rows))
    people = tuple(row.person for row in rows)
    return Album(np.stack(pixels), people, tuple(row.view for row in rows))


def _order(number: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw numbers below `number`, each once before any comes again."""
    rounds = -(-draws // number)
    return np.concatenate([rng.permutation(number) for _ in range(rounds)])[:draws]


def _draw_lots(number: int, size: int, lots: int, rng: np.random.Generator) -> np.ndarray:
    """Draw lots of `size` different numbers below `number`, each once before any comes again.

    Those left over at the end of a round, too few for a lot, wait for the next.
    """
    rounds = -(-lots // (number // size))
    whole = number - number % size
    drawn = [rng.permutation(number)[:whole] for _ in range(rounds)]
    return np.concatenate(drawn).reshape(-1, size)[:lots]


def _draw(
    stacks: list[list[tuple[int, int]]], number: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Take one picture from each stack in turn, each before any comes again, in random order."""
    shuffled = [[stack[j] for j in rng.permutation(len(stack))] for stack in stacks]
    rounds = zip(*(itertools.cycle(stack) for stack in shuffled), strict=True)
    return list(itertools.islice(itertools.chain.from_iterable(rounds), number))


def _group(labels: Sequence[str]) -> dict[str, list[int]]:
    places = defaultdict(list)
    for place, label in enumerate(labels):
        places[label].append(place)
    return places

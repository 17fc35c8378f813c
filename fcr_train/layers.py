"""Films with what they are made of, spoiled as real units do: what a suppressor learns from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from fcr_edge import film, imaging
from fcr_edge.errors import DataError, FcrError
from fcr_train.batches import Album, draw_moves, to_batch
from fcr_train.simulate.exposure import draw_handling, handle, write_letter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jaxtyping import Bool, Float32, Float64, UInt8
    from torch import Tensor

    from fcr_train.config import SuppressorConfig
    from fcr_train.dataset import Dataset, Kind, Picture
    from fcr_train.trainer import Streams

    Level = Float64[np.ndarray, "h w"]

LAYERS: tuple[Kind, ...] = ("xray", "skull", "bone")
"""The film, then what it is taken apart into; the channels of an album of layers."""
UNSPOILED = 0.15
"""Share of the films that stay as they are; like every number below, an assumption, chosen by eye
beside digitised cephalograms."""
CUT_OFF = 0.3
"""Share of the films that end inside the head on one side, as where the vault did not fit."""
_CLOUDS = {3: 0.45, 8: 0.3}
"""Uneven light: the side of a grid of random numbers, and how far they brighten or darken [share].
The coarse one sets vault, face and neck apart, as units do that compress the range of a film."""


def load_layers(
    part: Dataset, size: int, progress: Callable[[int, int], None] | None = None
) -> Album:
    """Read each film with its skull and bone, one above the other, as three channels.

    What collimation hides of the film is black in the others, too: nothing may be made up there.
    Raises DataError where a film lacks one of them, or a file cannot be used.
    """
    found: dict[Kind, dict[tuple[str, str], Picture]] = {
        kind: {row.pair: row for row in part.select(kind, part.names)} for kind in LAYERS
    }
    films = list(found["xray"].values())
    pixels = []
    for done, row in enumerate(films, start=1):
        lacking = [kind for kind in LAYERS if row.pair not in found[kind]]
        if lacking:
            raise DataError(
                f"{row.path} has no picture of kind {lacking[0]!r} beside it: simulate people with"
                " --kinds xray,skull,bone"
            )
        pixels.append(_read([found[kind][row.pair] for kind in LAYERS], size))
        if progress is not None:
            progress(done, len(films))
    people, views = tuple(row.person for row in films), tuple(row.view for row in films)
    return Album(np.stack(pixels), people, views)


def _read(rows: list[Picture], size: int) -> UInt8[np.ndarray, "s s 3"]:
    layers = []
    for row in rows:
        try:
            picture = imaging.to_grey(imaging.read_picture(row.path))
        except FcrError as err:
            raise DataError(f"{row.path} cannot be used: {err}") from err
        if picture.dtype == np.uint16:
            picture = (picture >> 8).astype(np.uint8)
        layers.append(imaging.resize(picture, (size, size)))
    lit = layers[0] > 0
    exposed = _span(lit.max(axis=1))[:, None] & _span(lit.max(axis=0))
    return np.stack([layer * exposed for layer in layers], axis=2)


def _span(lines: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Mark all from the first to the last line that is marked."""
    return np.asarray(
        np.logical_or.accumulate(lines) & np.logical_or.accumulate(lines[::-1])[::-1]
    )


def layer_batches(
    data: Album, config: SuppressorConfig, steps: int, streams: Streams
) -> Iterator[dict[str, Tensor]]:
    """Yield batches of `film`, spoiled, and `layers`, its skull and bone, in [0, 1].

    All are moved alike, so that they stay one above the other, and never mirrored: a film tells
    left from right. What comes in from outside is black, as where a film is made square.
    """
    size, rng = config.schedule.batch_size, streams.numpy
    rounds = -(-size * steps // len(data))
    order = np.concatenate([rng.permutation(len(data)) for _ in range(rounds)])
    for chosen in order[: size * steps].reshape(steps, size):
        batch = spoil_batch(data.pixels[chosen], config.jitter.colour, rng)
        moves = draw_moves(size, config.jitter, streams.torch)
        grid = torch.nn.functional.affine_grid(moves, list(batch.shape), align_corners=False)
        moved = torch.nn.functional.grid_sample(batch, grid, align_corners=False)
        yield {"film": window(moved[:, :1]), "layers": moved[:, 1:]}


def window(films: Float32[Tensor, "n 1 h w"]) -> Float32[Tensor, "n 1 h w"]:
    """Spread each film over 0 to 1 as a standard film is."""
    shares = torch.tensor(film.WINDOW) / 100
    low, high = torch.quantile(films.flatten(1), shares, dim=1)[:, :, None, None, None]
    windowed: Tensor = (films - low) / (high - low).clamp(min=1e-3)
    return windowed.clamp(0, 1)


def spoil_batch(
    layers: UInt8[np.ndarray, "n h w 3"], strength: float, rng: np.random.Generator
) -> Float32[Tensor, "n 3 h w"]:
    """Spoil most of the films; black out what they no longer show in the layers beside them."""
    batch = to_batch(layers, 0, 1)
    for layer in batch:
        if rng.random() >= UNSPOILED:
            spoiled, shown = spoil(layer[0].double().numpy(), strength, rng)
            layer[0] = torch.from_numpy(spoiled)
            layer[1:] *= torch.from_numpy(shown)
    return batch


def spoil(level: Level, strength: float, rng: np.random.Generator) -> tuple[Level, Level]:
    """Expose, develop and handle a film as units other than the simulator's do.

    Args:
        level: The film, bright bone on black, in [0, 1].
        strength: How far tone curve and contrast are changed, as a share.
        rng: Draws everything.

    Returns:
        The film, in [0, 1], and where it is still exposed, 1 or 0.
    """
    level = _change_tone(level, strength, rng)
    level = _change_sharpness(level, rng)
    level = _light_unevenly(level, rng)
    level = level + rng.uniform(0, 0.03) * rng.standard_normal(level.shape, np.float32)
    level = _place_shoulder(_place_holder(level.clip(0, 1), rng), rng)
    handling = replace(draw_handling(rng), turn_degrees=0.0, inverted=False)
    level = _place_letters(handle(level, handling), rng)
    shown = _collimate(level.shape, rng)
    return level * shown, shown


def _change_tone(level: Level, strength: float, rng: np.random.Generator) -> Level:
    """Change the tone curve; over-expose some films until dense bone is white, as it happens."""
    level = level ** np.exp(rng.uniform(-1, 2) * strength)
    return (rng.uniform(1 - strength, 1 + 0.7 * strength) * level).clip(0, 1)


def _change_sharpness(level: Level, rng: np.random.Generator) -> Level:
    """Blur, or lift detail on either of two scales."""
    sigma = float(rng.choice([1.0, 1.0, 4.0]))
    blurred = imaging.blur(level.astype(np.float32), sigma)
    changed: Level = level + rng.uniform(-1, 0.7) * (level - blurred)
    return changed


def _light_unevenly(level: Level, rng: np.random.Generator) -> Level:
    """Brighten and darken by large patches; beside the head, brighten towards the film's corners.

    A unit's round field and the heel of its anode leave the background anything but black.
    """
    size = len(level)
    for side, most in _CLOUDS.items():
        grid = rng.uniform(-1, 1, (side, side)).astype(np.float32)
        level = level * (1 + rng.uniform(0, most) * imaging.resize(grid, (size, size)))
    if rng.random() < 0.5:
        row, column = np.mgrid[:size, :size] / size
        centre, reach = rng.uniform(0.3, 0.65, 2), rng.uniform(0.4, 0.75)
        outside = np.hypot(row - centre[0], column - centre[1]) - reach
        level = level + rng.uniform(0.3, 4) * outside.clip(0)
    return level


def _place_holder(level: Level, rng: np.random.Generator) -> Level:
    """Lay a head holder on the film: a rod from an edge, the rings of its ear pieces."""
    size, placed = len(level), level.copy()
    if rng.random() < 0.4:
        left, width = rng.integers(round(0.7 * size), size), rng.integers(2, 9)
        rod = slice(0, rng.integers(size // 8, size // 2))
        placed[rod, left : left + width] += rng.uniform(0.1, 0.6)
        placed[rod, left : left + 1] += rng.uniform(0, 0.3)
    if rng.random() < 0.5:
        row, column = np.mgrid[:size, :size] - rng.uniform(0.35, 0.65, (2, 1, 1)) * size
        radius = np.hypot(row, column) / size
        for _ in range(rng.integers(1, 3)):
            thickness = rng.uniform(0.002, 0.008)
            ring = np.abs(radius - rng.uniform(0.01, 0.06)) < thickness
            placed += rng.uniform(0.05, 0.5) * ring
    return placed.clip(0, 1)


def _place_shoulder(level: Level, rng: np.random.Generator) -> Level:
    """Cover a lower corner by a shoulder or a lead apron."""
    if rng.random() < 0.6:
        return level
    size = len(level)
    row, column = np.mgrid[:size, :size] / size
    below, left = rng.uniform(1.1, 1.6), rng.uniform(-0.1, 0.35)
    across = left if rng.random() < 0.5 else 0.95 - left
    reach = below - rng.uniform(0.82, 0.98)
    distance = np.hypot(row - below, (column - across) * rng.uniform(0.4, 1)) - reach
    cover = (-distance * size / rng.uniform(2, 12)).clip(0, 1)
    covered: Level = level + cover * (rng.uniform(0.5, 1) - level).clip(0)
    return covered


def _place_letters(level: Level, rng: np.random.Generator) -> Level:
    """Lay up to three lead letters near the edges."""
    size, placed = len(level), level.copy()
    for _ in range(int(rng.integers(0, 4))):
        letter = write_letter(str(rng.choice([*"LRABEHKMT0123579"])), size)
        height, width = letter.shape
        row, column = int(rng.integers(size - height)), int(rng.integers(size - width))
        if rng.random() < 0.5:
            row = int(rng.choice([row // 8, size - height - row // 8]))
        else:
            column = int(rng.choice([column // 8, size - width - column // 8]))
        place = (slice(row, row + height), slice(column, column + width))
        placed[place] = np.maximum(placed[place], rng.uniform(0.5, 1) * letter)
    return placed


def _collimate(shape: tuple[int, ...], rng: np.random.Generator) -> Level:
    """Close the borders of some films, most at the sides, as where an upright film is squared.

    Some are cut off inside the head: its edge is then the film's, and no bone is dark there.
    """
    height, width = shape
    shown = np.ones(shape)
    if rng.random() < 0.5:
        top, bottom = (rng.uniform(0, 0.05, 2) * height).astype(int)
        left, right = (rng.uniform(0, 0.1, 2) * width).astype(int)
        shown[:top] = shown[height - bottom :] = 0
        shown[:, :left] = shown[:, width - right :] = 0
    if rng.random() < CUT_OFF:
        cut = int(rng.uniform(0, 0.3) * height)
        np.rot90(shown, int(rng.integers(4)))[:cut] = 0
    return shown

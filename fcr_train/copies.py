"""Copies of one picture, however they were stored: screened by hash, confirmed by pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import imagehash
import numpy as np
from PIL import Image
from scipy import ndimage

from fcr_edge import imaging

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Bool, Float32, Int64

    Stack = Float32[np.ndarray, "n s s"]
    Frames = Float32[np.ndarray, "n 4"]

SCREEN_BITS = 12
"""Bits of 64 by which the hashes of a copy may differ: 97 to 100 % of the copies cropped by 2 % a
side stay within it, by kind, and a third or more of those cropped by 5 %. The usual 4 bits lose
half of the former."""
LIKENESS = 0.98
"""Least correlation of a copy, laid over the other picture. On six kinds of simulated pictures,
real portraits and real films, copies reach 0.985 and more, two people 0.976 at most."""
COARSE_LIKENESS = 0.95
"""The same at the coarse level, which spares the fine one most of its work."""
SIDES = (32, 64)
"""Side of the reduced pictures, coarse and fine [pixels]."""
COARSE_STEPS = ((1.5, 5),)
FINE_STEPS = ((1.5, 2), (0.7, 3))
"""The alignment on each level: a blur [pixels] and how many steps are taken with it."""
MAX_CROP = 0.2
"""Farthest that the alignment moves or stretches a side [share of half of it]."""
WHOLE = np.array([1, 0, 1, 0], np.float32)
"""The frame that takes a picture as it is."""
BATCH = 256
"""Pairs compared at once; it bounds memory, and changes no result."""


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a picture to know it again."""

    bits: int
    """The perceptual hash, 64 bits: signs of the lowest frequencies of a cosine transform."""
    coarse: Float32[np.ndarray, "32 32"]
    fine: Float32[np.ndarray, "64 64"]


def fingerprint(picture: imaging.RawPicture) -> Fingerprint:
    """Take the fingerprint of a picture, in grey."""
    grey = imaging.to_grey(to_8_bits(picture))
    signs = np.asarray(imagehash.phash(Image.fromarray(grey)).hash).ravel()
    coarse, fine = (imaging.resize(grey, (side, side)).astype(np.float32) for side in SIDES)
    return Fingerprint(int.from_bytes(np.packbits(signs).tobytes(), "big"), coarse, fine)


def to_8_bits(picture: imaging.RawPicture) -> imaging.Picture:
    """Bring 16 bits to 8 by the brightest pixel: a scanner may use only 12 of them."""
    if picture.dtype == np.uint8:
        return picture
    scaled: imaging.Picture = (picture / max(1, int(picture.max())) * 255).astype(np.uint8)
    return scaled


def find_copies(
    prints: Sequence[Fingerprint],
    groups: Sequence[object],
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[int, int]]:
    """Find the pairs of pictures in different groups of which one is a copy of the other.

    A copy may be compressed, resized, brightened or cropped by a few percent. The perceptual hash
    alone cannot tell it: people photographed alike share most of the low frequencies it keeps. A
    hash within 12 of 64 bits therefore only nominates a pair. The two pictures are then laid over
    each other (shift and stretch), and both their grey levels and their fine detail have to
    correlate by 0.98: detail is what two people do not share.
    """
    pairs = _screen(prints, groups)
    confirmed = []
    for start in range(0, len(pairs), BATCH):
        chosen = pairs[start : start + BATCH]
        confirmed.append(chosen[_are_copies(prints, chosen)])
        if progress is not None:
            progress(min(start + BATCH, len(pairs)), len(pairs))
    return [(int(first), int(second)) for batch in confirmed for first, second in batch]


def _screen(prints: Sequence[Fingerprint], groups: Sequence[object]) -> Int64[np.ndarray, "m 2"]:
    """Return the pairs in different groups whose hashes are close, in order."""
    bits = np.array([one.bits for one in prints], np.uint64)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    labels = np.array([numbers[group] for group in groups], np.int64)
    rows = [
        start
        + 1
        + np.flatnonzero(
            (np.bitwise_count(bits[start] ^ bits[start + 1 :]) <= SCREEN_BITS)
            & (labels[start] != labels[start + 1 :])
        )
        for start in range(len(prints))
    ]
    firsts = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return np.stack([firsts, np.concatenate([*rows, np.array([], np.int64)])], axis=1)


def _are_copies(
    prints: Sequence[Fingerprint], pairs: Int64[np.ndarray, "m 2"]
) -> Bool[np.ndarray, " m"]:
    """Compare pairs both ways: which of the two is the cropped one is not known."""
    found: Bool[np.ndarray, " m"] = _match(prints, pairs) | _match(prints, pairs[:, ::-1])
    return found


def _match(
    prints: Sequence[Fingerprint], pairs: Int64[np.ndarray, "m 2"]
) -> Bool[np.ndarray, " m"]:
    """Tell for each pair whether the first picture is found again in the second."""
    found = np.zeros(len(pairs), bool)
    first, second = (np.stack([prints[i].coarse for i in column]) for column in pairs.T)
    frames, likeness = _align(first, second, np.tile(WHOLE, (len(pairs), 1)), COARSE_STEPS)
    left = np.flatnonzero(likeness >= COARSE_LIKENESS)
    if len(left):
        first, second = (np.stack([prints[i].fine for i in column]) for column in pairs[left].T)
        _, likeness = _align(first, second, frames[left], FINE_STEPS)
        found[left] = likeness >= LIKENESS
    return found


def _align(
    first: Stack, second: Stack, frames: Frames, schedule: Sequence[tuple[float, int]]
) -> tuple[Frames, Float32[np.ndarray, " n"]]:
    """Lay each second picture over the first; return where it lies and how alike the two are.

    A frame is (stretch, shift) down and across, in units of half a side. Likeness is the lower of
    the correlations of the grey levels and of their fine detail. The steps are Gauss-Newton's in
    the inverse compositional form, whose slopes are those of the first picture and stay the same
    (Baker & Matthews 2004).
    """
    for sigma, steps in schedule:
        still = _standardise(_blur(first, sigma), np.ones_like(first))
        moving, solver = _blur(second, sigma), _solve_slopes(still)
        for _ in range(steps):
            moved, inside = _warp(moving, frames)
            rest = (_standardise(moved, inside) - still) * inside
            change = (solver @ rest.reshape(len(rest), -1, 1))[:, :, 0]
            frames = _compose(frames, change)
    moved, inside = _warp(second, frames)
    # Detail is taken from a neighbourhood, so a border of two pixels has none of its own.
    inner = ndimage.minimum_filter(inside, (1, 5, 5))
    detail = _correlate(_detail(first), _detail(moved), inner)
    return frames, np.minimum(_correlate(first, moved, inside), detail)


def _solve_slopes(still: Stack) -> Float32[np.ndarray, "n 4 p"]:
    """Return what turns a difference of pixels into the change of a frame that explains it."""
    number, side, _ = still.shape
    grid = np.linspace(-1, 1, side, dtype=np.float32)
    down, across = (np.gradient(still, axis=axis) * np.float32((side - 1) / 2) for axis in (1, 2))
    slopes = np.stack([down * grid[:, None], down, across * grid, across], 1)
    slopes = slopes.reshape(number, 4, -1)
    # The ridge keeps a picture without structure from moving without bound.
    normal = slopes @ slopes.transpose(0, 2, 1) + np.eye(4, dtype=np.float32) * (1e-3 * side**2)
    solver: Float32[np.ndarray, "n 4 p"] = np.linalg.inv(normal) @ slopes
    return solver


def _compose(frames: Frames, change: Frames) -> Frames:
    """Undo the change of the first picture before each frame, which then stays within bounds."""
    stretch, shift = frames[:, ::2], frames[:, 1::2]
    stretch = stretch / np.clip(1 + change[:, ::2], 0.5, 2)
    composed = np.stack([stretch, shift - stretch * change[:, 1::2]], axis=2).reshape(-1, 4)
    bounded: Frames = np.clip(composed, WHOLE - MAX_CROP, WHOLE + MAX_CROP)
    return bounded


def _warp(pictures: Stack, frames: Frames) -> tuple[Stack, Stack]:
    """Sample each picture in its frame, linearly; also say what lies inside it, as 0 and 1."""
    side = pictures.shape[1]
    grid = np.linspace(-1, 1, side, dtype=np.float32)
    weights, inside = [], []
    for axis in (0, 2):
        places = frames[:, axis, None] * grid + frames[:, axis + 1, None]
        steps = (places[:, :, None] + 1) * ((side - 1) / 2)
        weights.append(np.maximum(1 - np.abs(steps - np.arange(side, dtype=np.float32)), 0))
        inside.append((np.abs(places) <= 1.0001).astype(np.float32))
    moved = weights[0] @ pictures @ weights[1].transpose(0, 2, 1)
    return moved, inside[0][:, :, None] * inside[1][:, None, :]


def _correlate(first: Stack, second: Stack, mask: Stack) -> Float32[np.ndarray, " n"]:
    product = _standardise(first, mask) * _standardise(second, mask) * mask
    correlation: Float32[np.ndarray, " n"] = product.sum((1, 2)) / mask.sum((1, 2))
    return correlation


def _standardise(stack: Stack, mask: Stack) -> Stack:
    """Bring each picture to mean 0 and deviation 1 inside its mask; a flat one becomes 0."""
    weights = mask / mask.sum((1, 2), keepdims=True)
    centred = stack - (weights * stack).sum((1, 2), keepdims=True)
    deviation = np.sqrt((weights * centred**2).sum((1, 2), keepdims=True))
    standard: Stack = centred / np.maximum(deviation, 1e-3)
    return standard


def _detail(stack: Stack) -> Stack:
    band: Stack = _blur(stack, 0.7) - _blur(stack, 3)
    return band


def _blur(stack: Stack, sigma: float) -> Stack:
    return ndimage.gaussian_filter(stack, (0, sigma, sigma))

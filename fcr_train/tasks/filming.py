"""The training of the network that tells what a film shows: films of people in, answers out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from fcr_edge import film, imaging, pose, quality
from fcr_edge.errors import DataError, FcrError
from fcr_edge.looks import VALUES, Answer, read_answer, weigh
from fcr_edge.pose import LANDMARKS, STANDARD, STANDARD_SIDE
from fcr_edge.understanding import LIMITS
from fcr_train.batches import to_batch
from fcr_train.film_network import FilmNetwork
from fcr_train.film_pictures import ASKED, Example, Film, draw_film, draw_other, draw_two_heads
from fcr_train.film_strangers import draw_stranger
from fcr_train.tasks.plan import BATCH, build_adamw, describe, list_unseen
from fcr_train.trainer import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from jaxtyping import Float32, UInt8
    from torch import Tensor, nn

    from fcr_edge.pose import Places
    from fcr_train.checkpoint import Checkpoint
    from fcr_train.config import FilmConfig
    from fcr_train.dataset import Dataset, Pair, Picture
    from fcr_train.tasks.plan import Plan
    from fcr_train.trainer import Batch, Streams

FILM_KINDS = ("xray", "skull")
"""Films as taken, and bare skulls, which is what a case may bring."""
FACE_SHARE = 0.25
"""Of the pictures that show no skull, how many are portraits, where there are any."""
CHECKS = 600
"""Pictures that measure each epoch and choose the limits, always the same."""
CHECK_SEED = 7
ALARM = {"warn": 0.01, "refuse": 0.001}
"""Share of good films of people set aside that a limit may hit."""
BOUND = {"warn": 0.8, "refuse": 0.4}
"""Probability of a skull, of one head, of a whole head above which nothing is said, ever: films of
people set aside are answered more surely than other films will be."""
BLUR_MM = 1.5
"""Standard deviation of the blur from which on a film is called blurred, half the time."""
FACE_SIDE = 160
"""Side of a portrait in memory, at most [pixels]."""


class FilmTask:
    """Train one network to answer all that is asked of a film.

    Turns by cross-entropy; the other findings each by a cross-entropy of their own, left out where
    a picture has no answer; landmarks by the likelihood of a Laplace distribution in the plane,
    whose width is the error that the network states (Kendall & Gall 2017, section 3).
    """

    def __init__(
        self,
        plan: Plan[FilmConfig],
        landmarks: Mapping[Pair, Places],
        portraits: Sequence[Picture] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.plan, config = plan, plan.config
        self.schedule, self.ema, self.device = config.schedule, config.ema, plan.device
        parts = plan.divide()
        self.held_out = list_unseen(parts)
        self.films = load_films(parts.training, landmarks, progress)
        self.checked = load_films(parts.validation, landmarks, progress)
        faces = [*portraits, *(row for row in parts.training.pictures if row.kind == "face")]
        self.faces = _load_faces(faces, progress)
        self.steps_per_epoch = self.schedule.steps_per_epoch or max(
            1, len(self.films) // self.schedule.batch_size
        )
        rng = np.random.default_rng(CHECK_SEED)
        self.checks = [self._draw(self.checked, rng) for _ in range(CHECKS)]
        self.limits = {**LIMITS, **_choose_picture_limits(self.checked)}
        torch.manual_seed(plan.seed)  # the initial weights
        # Channels last: in bfloat16 a CPU is then faster by a sixth.
        network = FilmNetwork(config).to(memory_format=torch.channels_last)
        self.networks = self.exported = network.to(plan.device)
        self.optimisers = {
            "film": build_adamw(self.networks, config.schedule, config.weight_decay)
        }

    def batches(self, streams: Streams) -> Iterator[Batch]:
        """Yield films, two heads and strangers, with what is to be answered."""
        for _ in range(self.steps_per_epoch):
            size = self.schedule.batch_size
            yield stack([self._draw(self.films, streams.numpy) for _ in range(size)])

    def turns(self, batch: Batch, rng: torch.Generator) -> Iterator[Turn]:
        """Compare the answers with what is so."""
        answers = self.networks(batch["film"])
        losses = {
            "turns": functional.cross_entropy(answers[:, :4], batch["turn"], ignore_index=-1),
            "findings": compare_findings(answers[:, 4 : 4 + len(ASKED)], batch["findings"]),
            "landmarks": compare_places(answers[:, 4 + len(ASKED) :], batch["places"]),
        }
        weight = self.plan.config.lambda_landmarks
        total = losses["turns"] + losses["findings"] + weight * losses["landmarks"]
        yield Turn("film", losses, total)

    def finish_epoch(self, epoch: int, out: Path, network: nn.Module) -> dict[str, float]:
        """Examine pictures of people held out; choose the limits by what is answered.

        Returns the share right of each finding, the median error of the landmarks [mm on the
        standard film] and what is left of the pose once they have corrected it.
        """
        answers = self._answer(network.eval())
        self.limits |= _choose_limits(self.checks, answers)
        figures = _measure_findings(self.checks, answers)
        return figures | _measure_landmarks(self.checks, answers)

    def checkpoint(self, step: int, network: nn.Module) -> Checkpoint:
        """Describe the network, with the limits of its answers."""
        described = describe("film", self.plan, self.held_out, step, network)
        described.data["limits"] = dict(self.limits)
        return described

    def _draw(self, films: Sequence[Film], rng: np.random.Generator) -> Example:
        config, lot = self.plan.config, rng.random()
        if lot < config.strangers:
            return draw_other(self._draw_stranger(rng), rng)
        one = films[int(rng.integers(len(films)))]
        if lot < config.strangers + config.two_heads:
            other = films[int(rng.integers(len(films)))]
            return draw_two_heads(one, other, config.size, rng)
        return draw_film(one, config.size, rng)

    def _draw_stranger(self, rng: np.random.Generator) -> Float32[np.ndarray, "s s"]:
        size = self.plan.config.size
        if not self.faces or rng.random() > FACE_SHARE:
            return draw_stranger(size, rng)
        face = self.faces[int(rng.integers(len(self.faces)))]
        zoom = pose.zoom(*np.full(2, len(face) / size * rng.uniform(0.6, 1.3)))
        return imaging.resample(face, zoom, (size, size)) / np.float32(255)

    def _answer(self, network: nn.Module) -> list[Answer]:
        answers = []
        for start in range(0, len(self.checks), BATCH):
            batch = stack(self.checks[start : start + BATCH])["film"]
            with torch.inference_mode():
                vectors = network(batch.to(self.device)).float().cpu().numpy()
            answers += [read_answer(vector, VALUES) for vector in vectors]
        return answers


def load_films(
    part: Dataset,
    landmarks: Mapping[Pair, Places],
    progress: Callable[[int, int], None] | None,
) -> list[Film]:
    """Read the films of a part with their landmarks. Raises DataError where there are none."""
    rows = [row for row in part.pictures if row.kind in FILM_KINDS and row.pair in landmarks]
    if not rows:
        raise DataError(
            "there are no films with landmarks in one part of the people: take a dataset of"
            " `fcr-train simulate --kinds xray,skull`"
        )
    films = []
    for done, row in enumerate(rows, start=1):
        try:
            pixels = film.spread_levels(imaging.to_grey(imaging.read_picture(row.path)))
        except FcrError as err:
            raise DataError(f"{row.path} cannot be used: {err}") from err
        view: pose.View = "lateral" if row.view == "lateral" else "frontal"
        films.append(Film(pixels, landmarks[row.pair], view))
        if progress is not None:
            progress(done, len(rows))
    return films


def _load_faces(
    rows: Sequence[Picture], progress: Callable[[int, int], None] | None
) -> list[UInt8[np.ndarray, "s s"]]:
    faces = []
    for done, row in enumerate(rows, start=1):
        grey = imaging.pad_to_square(imaging.to_grey(imaging.read_picture(row.path)), "edge")
        side = min(FACE_SIDE, len(grey))
        faces.append(imaging.resize(grey, (side, side)))
        if progress is not None:
            progress(done, len(rows))
    return faces


def stack(examples: Sequence[Example]) -> Batch:
    """Stack examples: `film` in [-1, 1], `turn`, `findings` and `places`, NaN where not asked."""
    pictures = np.stack([example.picture for example in examples])[:, :, :, None]
    findings = [[one.findings.get(name, np.nan) for name in ASKED] for one in examples]
    unasked = np.full((len(LANDMARKS), 2), np.nan)
    places = [unasked if one.places is None else one.places for one in examples]
    return {
        "film": to_batch(pictures, -1, 1),
        "turn": torch.tensor([example.turn for example in examples]),
        "findings": torch.tensor(findings, dtype=torch.float32),
        "places": torch.from_numpy(np.stack(places).astype(np.float32)),
    }


def compare_findings(
    logits: Float32[Tensor, "n f"], wanted: Float32[Tensor, "n f"]
) -> Float32[Tensor, ""]:
    """Return the mean cross-entropy of what is asked, summed over the findings."""
    asked = wanted.isfinite()
    losses = functional.binary_cross_entropy_with_logits(
        logits, wanted.nan_to_num(), reduction="none"
    )
    return (losses * asked).sum(0).div(asked.sum(0).clamp(min=1)).sum()


def compare_places(
    answers: Float32[Tensor, "n v"], wanted: Float32[Tensor, "n l 2"]
) -> Float32[Tensor, ""]:
    """Return the mean negative logarithm of the Laplace likelihood of the places asked.

    Zero is a landmark of error .01 that is off by nothing.
    """
    answers = answers.reshape(len(answers), -1, 3)
    asked = wanted.isfinite().all(dim=2)
    distance = (answers[:, :, :2] - wanted.nan_to_num()).square().sum(2).add(1e-8).sqrt()
    spread = answers[:, :, 2]
    losses = distance * torch.exp(-spread) + spread - float(np.log(0.01))
    return (losses * asked).sum() / asked.sum().clamp(min=1)


def _choose_limits(checks: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
    """Choose limits that hit few good films: one head, all of it, a skull."""
    good = [
        answer
        for check, answer in zip(checks, answers, strict=True)
        if check.findings.get("skull") == 1
        and check.findings.get("two heads") == 0
        and check.findings.get("cropped") == 0
        and check.places is not None
    ]
    limits = {}
    for verdict, share in ALARM.items():
        bound = BOUND[verdict]
        limits[f"skull, {verdict}"] = min(_quantile(good, "skull", share), bound)
        for name in ("two heads", "cropped"):
            limits[f"{name}, {verdict}"] = max(_quantile(good, name, 1 - share), 1 - bound)
    sure = float(np.quantile([answer.surety for answer in good], ALARM["warn"]))
    errors = np.array([answer.error for answer in good])
    return limits | {
        "sure": min(sure, 0.95),
        "error, warn": float(np.quantile(errors, 1 - ALARM["warn"])),
        "error, refuse": 2 * float(np.quantile(errors, 1 - ALARM["refuse"])),
    }


def _quantile(answers: Sequence[Answer], finding: str, share: float) -> float:
    return float(np.quantile([answer.probability[finding] for answer in answers], share))


def _choose_picture_limits(films: Sequence[Film]) -> dict[str, float]:
    """Choose what is too blurred, burnt or blank, from films that are not.

    Burnt or blank is twice what the worst hundredth of good films are; blurred is what the middle
    film is once it is blurred by BLUR_MM.
    """
    sharp, white, black = [], [], []
    for one in films[: CHECKS // 2]:
        picture = imaging.resize(one.pixels, (STANDARD_SIDE, STANDARD_SIDE))
        blurred = imaging.blur(picture.astype(np.float32), BLUR_MM / pose.STANDARD_MM)
        soft: UInt8[np.ndarray, "s s"] = np.rint(blurred).astype(np.uint8)
        sharp.append(quality.measure_sharpness(soft[:, :, None], one.view))
        white.append(quality.measure_white(picture[:, :, None], one.view))
        black.append(quality.measure_black(picture[:, :, None], one.view))
    worst = 1 - ALARM["warn"]
    return {
        "sharpness": float(np.median(sharp)),
        "white": max(0.1, 2 * float(np.quantile(white, worst))),
        "black": max(0.1, 2 * float(np.quantile(black, worst))),
    }


def _measure_findings(checks: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
    """Return the share right of each finding, of the pictures of which it is asked."""
    pairs = list(zip(checks, answers, strict=True))
    turns = [answer.quarter_turns == check.turn for check, answer in pairs if check.turn >= 0]
    right = {"turn": float(np.mean(turns))}
    for name in ASKED:
        told = [
            answer.says(name) == (check.findings[name] == 1)
            for check, answer in pairs
            if name in check.findings
        ]
        right[name.replace(" ", "_")] = float(np.mean(told)) if told else float("nan")
    return right


def _measure_landmarks(checks: Sequence[Example], answers: Sequence[Answer]) -> dict[str, float]:
    """Measure how far the landmarks and the pose that they give are off, as medians."""
    errors, poses = [], []
    for check, answer in zip(checks, answers, strict=True):
        if check.places is None or check.findings.get("cropped") != 0:
            continue
        view: pose.View = "lateral" if check.findings["lateral"] else "frontal"
        known = np.isfinite(check.places).all(axis=1)
        weights = weigh(answer.errors)
        true = pose.fit_similarity(check.places[known], STANDARD[view][known], weights[known])
        found = pose.fit_similarity(answer.places, STANDARD[view], weights)
        off = np.hypot(*(answer.places - check.places)[known].T)
        errors += (off * true.scale * pose.STANDARD_MM).tolist()
        degrees = (found.degrees - true.degrees + 180) % 360 - 180
        poses.append((abs(degrees), 100 * abs(found.scale / true.scale - 1)))
    if not poses:
        return {}
    degrees, percent = np.median(poses, axis=0).tolist()
    return {
        "landmarks_mm": float(np.median(errors)),
        "pose_degrees": degrees,
        "pose_percent": percent,
    }

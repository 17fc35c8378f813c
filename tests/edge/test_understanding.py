"""The way from a network's answers to a standard film; an oracle stands for the network.

The films show three discs, of three brightnesses, where three landmarks of a lateral head lie, so
that the oracle can tell by arithmetic how a film lies and where its landmarks are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from itertools import product
from types import TracebackType
from typing import Any

import numpy as np
import pytest

from fcr_edge import imaging, pose, quality
from fcr_edge.errors import FilmError
from fcr_edge.film_record import FilmRecord, Spacing
from fcr_edge.looks import FINDINGS, VALUES, Answer, first_look, look_twice
from fcr_edge.manifest import FilmEntry, ModelFile, TensorSpec, VectorSpec
from fcr_edge.pose import LANDMARKS, STANDARD, Similarity, fit_similarity
from fcr_edge.reading import Xray
from fcr_edge.sessions import SessionInfo
from fcr_edge.understanding import Understanding, draw_understanding, understand

SIDE = 112
DISCS = {"nasion": 255, "gonion left": 180, "vertex": 110}
PLACES = STANDARD["lateral"]
SURE = 8.0
"""A logit."""


def find_discs(picture: np.ndarray) -> np.ndarray:
    """Find the middle of each disc (column, row) by its level, edges left out."""
    levels = picture.astype(np.float32)
    flat = imaging.blur(levels**2, 1.0) - imaging.blur(levels, 1.0) ** 2 < 15**2
    middles = []
    for level in DISCS.values():
        rows, columns = np.nonzero(flat & (np.abs(picture.astype(float) - level) < 25))
        middles.append((columns.mean() + 0.5, rows.mean() + 0.5))
    return np.array(middles)


@dataclass
class Oracle:
    """Answers what is so; `told` are further logits, by finding."""

    told: dict[str, float] = field(default_factory=dict)
    blunders: int = 0
    """First answers that call the film turned by 90 degrees."""
    looks: int = 0
    refusals: tuple[str, ...] = ()

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.looks += 1
        picture = np.rint((batch[0, 0] + 1) * 127.5).astype(np.uint8)
        # Of a film with bone on black most pixels are black; black pads lie outside of the film.
        inverted = np.median(picture[40:72, 40:72]) > 127
        found = find_discs(255 - picture if inverted else picture)
        target = np.array([PLACES[LANDMARKS.index(name)] for name in DISCS]) * SIDE / 256
        one, other = found[1:] - found[0], target[1:] - target[0]
        mirrored = np.linalg.det(one) * np.linalg.det(other) < 0
        if mirrored:
            target = pose.apply(pose.mirror(SIDE), target)
        move = fit_similarity(target, found, np.ones(3))
        turns = round(-move.degrees / 90) % 4
        if self.looks <= self.blunders:
            turns = (turns + 1) % 4
        logits = dict.fromkeys(FINDINGS, -SURE)
        logits |= {f"turned {90 * turns}": SURE, "lateral": SURE, "skull": SURE}
        logits |= {
            "mirrored": SURE if mirrored else -SURE,
            "inverted": SURE if inverted else -SURE,
        }
        logits |= self.told
        places = pose.apply(move.matrix, PLACES * SIDE / 256) / SIDE
        values = [*logits.values()]
        for column, row in places:
            values += [column, row, np.log(0.01)]
        return np.array([values], np.float32)

    def describe(self) -> SessionInfo:
        return SessionInfo("cpu", "oracle", "test", "0" * 64)

    def close(self) -> None:
        pass

    def __enter__(self) -> Oracle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


def make_entry(**limits: float) -> FilmEntry:
    calm = {"sharpness": 0.0, "white": 1.0, "black": 1.0}
    return FilmEntry(
        architecture="Oracle",
        method="film",
        preset="tiny",
        parameters=1,
        steps=1,
        checkpoint_sha256="0" * 64,
        training_data={},
        weights_licence="NOASSERTION",
        files=(ModelFile("film.onnx", "0" * 64, 1, precision="fp32", weights="single"),),
        opset=18,
        ir_version=10,
        input=TensorSpec("film", 1, SIDE, SIDE, -1, 1),
        parity=(),
        output=VectorSpec("answers", VALUES),
        limits={**calm, **limits},
    )


def make_film(move: Similarity | None = None, shape: tuple[int, int] = (256, 256)) -> np.ndarray:
    """Draw the discs on a film that was moved out of the common pose."""
    drawn = np.full((*shape, 3), 8, np.uint8)
    matrix = np.eye(3) if move is None else move.matrix
    radius = round(14 * (1 if move is None else move.scale))
    for name, level in DISCS.items():
        column, row = pose.apply(matrix, PLACES[[LANDMARKS.index(name)]])[0]
        imaging.draw_disc(drawn, (int(row), int(column)), radius, (level,) * 3)
    return drawn[:, :, 0]


def to_xray(pixels: np.ndarray, spacing: Spacing | None = None) -> Xray:
    height, width = pixels.shape
    record = FilmRecord(
        container="PNG", width=width, height=height, bits=8, spacing=spacing, steps=("decoded",)
    )
    return Xray("film.png", "0" * 64, np.ascontiguousarray(pixels), record)


def ask(pixels: np.ndarray, oracle: Oracle | None = None, **options: Any) -> Understanding:
    return understand(to_xray(pixels), oracle or Oracle(), make_entry(), **options)


MOVED = Similarity(0.9, 6.0, (14.0, 3.0))


@pytest.mark.parametrize(
    ("turns", "mirrored", "inverted"), list(product(range(4), (False, True), (False, True)))
)
def test_a_film_gives_the_same_standard_film_however_it_lies(
    turns: int, mirrored: bool, inverted: bool
) -> None:
    upright = make_film(MOVED)
    expected = ask(upright).film.astype(int)

    film = upright[:, ::-1] if mirrored else upright
    film = np.rot90(255 - film if inverted else film, turns)
    found = ask(film)

    assert (found.quarter_turns, found.mirrored, found.inverted) == (turns, mirrored, inverted)
    assert found.facing == ("left" if mirrored else "right")
    assert np.abs(found.film.astype(int) - expected).mean() < 1.5
    assert found.verdict == "pass"


def test_landmarks_lie_where_they_are_on_both_films() -> None:
    found = ask(np.rot90(make_film(MOVED), 1))

    by_name = {one.name: one for one in found.landmarks}
    true = pose.apply(MOVED.matrix, PLACES)[LANDMARKS.index("nasion")]
    true = pose.apply(pose.quarter_turns(1, 256), true[None])[0] - 0.5
    nasion = by_name["nasion"]
    assert (nasion.film_column, nasion.film_row) == pytest.approx(true, abs=1.5)
    standard = PLACES[LANDMARKS.index("nasion")] - 0.5
    assert (nasion.standard_column, nasion.standard_row) == pytest.approx(standard, abs=1.5)
    assert "gonion" in by_name  # of a lateral film's pair, the middle
    assert not any(name.endswith(("left", "right")) for name in by_name)


def test_the_matrix_is_all_that_was_done_to_the_film() -> None:
    found = ask(np.rot90(make_film(MOVED)[:, ::-1], 3))

    matrix = np.array(found.to_standard)
    for one in found.landmarks:
        moved = matrix @ (one.film_column + 0.5, one.film_row + 0.5, 1)
        expected = one.standard_column + 0.5, one.standard_row + 0.5
        np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_shift_points_from_the_middle_of_the_film_to_the_head() -> None:
    found = ask(make_film(Similarity(1.0, 0.0, (20.0, -8.0)), (256, 300)))

    assert found.shift[0] == pytest.approx((128 + 20 - 150) / 300, abs=0.01)
    assert found.shift[1] == pytest.approx(-8 / 300, abs=0.01)


def test_rotation_and_scale_are_told() -> None:
    found = ask(make_film(MOVED))

    assert found.rotation_degrees == pytest.approx(-MOVED.degrees, abs=0.7)
    assert found.scale == pytest.approx(1 / MOVED.scale, rel=0.02)
    assert (found.scale_from, found.spacing_mm, found.face_height_mm) == ("landmarks", None, None)


def test_spacing_keeps_the_size_of_the_head() -> None:
    small = make_film(Similarity(0.9, 0.0, (12.0, 12.0)))
    spacing = Spacing(1.1, 1.1, "calibrated", None)

    found = understand(to_xray(small, spacing), Oracle(), make_entry())

    assert (found.scale_from, found.spacing_mm) == ("spacing", 1.1)
    assert found.scale == pytest.approx(1.0)
    nasion, menton = (PLACES[LANDMARKS.index(name)] for name in ("nasion", "menton"))
    height = 0.9 * np.hypot(*(nasion - menton))
    assert found.face_height_pixels == pytest.approx(height, rel=0.03)
    assert found.face_height_mm == pytest.approx(1.1 * height, rel=0.03)


@pytest.mark.parametrize(
    "spacing",
    [
        pytest.param(Spacing(0.1, 0.1, "calibrated", None), id="implausible"),
        pytest.param(Spacing(1.1, 1.1, "at the detector", None), id="at-the-detector"),
    ],
)
def test_a_spacing_that_cannot_hold_at_the_head_is_not_used(spacing: Spacing) -> None:
    found = understand(to_xray(make_film(), spacing), Oracle(), make_entry())

    assert found.scale_from == "landmarks"
    assert found.face_height_mm is None
    assert ("spacing" in " ".join(found.reasons)) == (spacing.origin == "calibrated")


def test_eight_and_sixteen_bits_give_the_same_standard_film() -> None:
    eight = make_film(MOVED)

    sixteen = ask(eight.astype(np.uint16) * 257).film

    assert np.abs(sixteen.astype(int) - ask(eight).film).max() <= 2


def test_an_upright_film_is_looked_at_twice_and_a_turned_one_three_times() -> None:
    upright, turned = Oracle(), Oracle()

    ask(make_film(), upright)
    ask(np.rot90(make_film()), turned)

    assert (upright.looks, turned.looks) == (2, 3)  # the last one in the common pose


def test_a_look_that_contradicts_the_first_makes_the_film_doubtful() -> None:
    found = ask(make_film(), Oracle(blunders=1))

    assert found.quarter_turns == 0
    assert found.verdict == "warn"
    assert "doubtful" in found.reasons[0]


def test_of_what_is_no_skull_nothing_else_is_said() -> None:
    told = {"skull": -SURE, "cropped": SURE, "lateral": 0.1}

    found = ask(make_film(), Oracle(told), force=True)

    (reason,) = found.reasons
    assert reason.startswith("this does not look like a film of a skull (probability 1.00)")
    assert found.verdict == "refuse"


@pytest.mark.parametrize(
    ("finding", "logit", "words"),
    [
        pytest.param("skull", -SURE, "does not look like a film of a skull", id="no skull"),
        pytest.param("two heads", SURE, "two heads", id="two heads"),
        pytest.param("cropped", SURE, "off the film", id="cropped"),
    ],
)
def test_an_unusable_film_is_refused_by_name_and_forced_with_a_warning(
    finding: str, logit: float, words: str
) -> None:
    oracle = Oracle(told={finding: logit})

    with pytest.raises(FilmError, match=rf"film\.png was refused: .*{words}.*--force"):
        ask(make_film(), oracle)
    forced = ask(make_film(), oracle, force=True)

    assert forced.verdict == "refuse"
    assert "should be refused" in forced.warnings[0]
    assert words in forced.warnings[1]


def test_landmarks_beside_the_film_are_named() -> None:
    cut = make_film()[:, 60:]

    found = ask(cut)

    assert found.verdict == "warn"
    assert found.reasons == ("the film leaves out opisthocranion: take one of the whole head",)


def test_a_film_without_much_of_the_face_is_refused() -> None:
    class Astray(Oracle):
        def run(self, batch: np.ndarray) -> np.ndarray:
            answer = super().run(batch)
            columns = answer[0, len(FINDINGS) :: 3]
            columns += 0.25  # all of the face front lies beyond the right edge
            return answer

    with pytest.raises(FilmError, match="leaves out glabella, nasion"):
        ask(make_film(), Astray())


@pytest.mark.parametrize(
    ("spread", "shift"),
    [pytest.param(0.0, 0.5, id="in one place"), pytest.param(1.0, 9.0, id="far off the film")],
)
def test_landmarks_that_no_head_can_have_are_a_film_error(spread: float, shift: float) -> None:
    class Astray(_Upright):
        def run(self, batch: np.ndarray) -> np.ndarray:
            answer = super().run(batch)
            for part in (0, 1):
                answer[0, len(FINDINGS) + part :: 3] *= spread
                answer[0, len(FINDINGS) + part :: 3] += shift
            return answer

    with pytest.raises(FilmError, match=r"film\.png: "):
        ask(make_film(), Astray(), force=True)


def test_a_white_frame_and_the_bed_become_black() -> None:
    framed = make_film(MOVED)
    framed[:6], framed[:, -6:] = 255, 255  # the scanner's bed along two sides

    found = ask(framed)

    assert np.abs(found.film.astype(int) - ask(make_film(MOVED)).film).mean() < 2
    assert found.film[:, -3:].max() < 60


def test_white_at_the_border_is_cleared_and_the_head_is_not() -> None:
    film = np.zeros((256, 256, 1), np.uint8)
    film[:10, :60], film[100:140, 180:210] = 255, 255

    cleared = quality.clear_border(film, "lateral")

    assert cleared[:10, :60].max() == 0
    assert cleared[100:140, 180:210].min() == 255


def test_sharpness_falls_with_every_blur() -> None:
    rng = np.random.default_rng(1)
    film = imaging.blur(rng.uniform(0, 255, (256, 256)).astype(np.float32), 0.7)

    shares = [
        quality.measure_sharpness(
            np.rint(imaging.blur(film, sigma)).astype(np.uint8)[:, :, None], "lateral"
        )
        for sigma in (0.1, 0.5, 1.0, 2.0)
    ]

    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(("level", "word"), [(255, "over-exposed"), (0, "under-exposed")])
def test_a_burnt_or_blank_face_is_told(level: int, word: str) -> None:
    film = make_film()
    film[film == 8] = level

    found = understand(to_xray(film), _Upright(), make_entry(white=0.3, black=0.3))

    assert any(reason.startswith(word) for reason in found.reasons)


class _Upright(Oracle):
    """Finds every film upright and in the common pose."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        logits = dict.fromkeys(FINDINGS, -SURE)
        logits |= {"turned 0": SURE, "lateral": SURE, "skull": SURE}
        values = [*logits.values()]
        for column, row in PLACES / 256:
            values += [column, row, np.log(0.01)]
        return np.array([values], np.float32)


def test_a_blank_film_is_refused_by_name() -> None:
    with pytest.raises(FilmError, match=r"film\.png: grey levels"):
        ask(np.full((100, 100), 7, np.uint8))


def test_the_understanding_is_json_without_the_picture() -> None:
    found = ask(make_film())

    document = json.loads(json.dumps(found.to_json()))

    assert "film" not in document
    assert document["view"] == "lateral"
    assert len(document["landmarks"]) == 18
    assert document["probabilities"]["skull"] > 0.99


def test_the_drawing_holds_the_film_and_what_was_done() -> None:
    film = make_film(Similarity(0.7, 0.0, (10.0, 10.0)), (200, 256))

    drawn = draw_understanding(film, ask(film))

    assert drawn.shape[1] == 512
    assert drawn.shape[0] > 400
    assert (drawn[:400] == (60, 220, 90)).all(axis=2).any()


def test_the_first_look_is_the_film_on_a_black_square() -> None:
    look = first_look(to_xray(make_film(shape=(128, 256))), make_entry().input)

    assert look.shape == (1, 1, SIDE, SIDE)
    assert look[0, 0, :20].max() == -1


def test_limits_of_the_bundle_are_the_ones_that_count() -> None:
    entry = replace(make_entry(), limits={**make_entry().limits, "sure": 0.99999})

    found = understand(to_xray(make_film()), Oracle(), entry)

    assert found.verdict == "warn"


def make_answer(**probability: float) -> Answer:
    findings = {**dict.fromkeys(FINDINGS, 0.01), "turned 0": 0.97, **probability}
    return Answer(findings, PLACES / 256, np.full(len(LANDMARKS), 0.01))


def test_a_mirror_image_agrees_where_it_lies_the_other_way() -> None:
    one = make_answer(**{"turned 0": 0.1, "turned 90": 0.88, "mirrored": 0.7, "lateral": 0.4})
    other = make_answer(**{"turned 0": 0.1, "turned 270": 0.88, "mirrored": 0.1, "lateral": 0.98})

    agreed = one.agreed(other)

    assert agreed.quarter_turns == 1
    assert agreed.probability["turned 90"] == pytest.approx(0.88)
    assert agreed.probability["mirrored"] == pytest.approx((0.7 + 0.9) / 2)
    assert agreed.view == "lateral"
    assert agreed.mirrored
    assert agreed.places is one.places


@pytest.mark.parametrize(("sure", "looks"), [(0.99, 1), (0.6, 2)])
def test_a_mirror_image_is_asked_about_only_in_doubt(sure: float, looks: int) -> None:
    asked = []

    class Doubtful:
        def ask(self, square: np.ndarray) -> Answer:
            asked.append(square)
            return make_answer(lateral=sure, mirrored=0.01, skull=0.99)

    square = np.arange(16, dtype=np.uint8).reshape(4, 4)
    look_twice(square, Doubtful())  # type: ignore[arg-type]

    assert len(asked) == looks
    assert (asked[-1] == (square if looks == 1 else square[:, ::-1])).all()

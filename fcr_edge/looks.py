"""Looks at a film: how it lies, where the head is, and the standard film that follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge import film, imaging, pose, quality
from fcr_edge.errors import FilmError
from fcr_edge.pose import LANDMARKS, STANDARD, STANDARD_MM, STANDARD_SIDE, View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float32, Float64, UInt8

    from fcr_edge.film_record import Spacing
    from fcr_edge.manifest import FilmEntry, TensorSpec
    from fcr_edge.pose import Matrix, Places, Similarity
    from fcr_edge.reading import Xray
    from fcr_edge.sessions import Session

    Film = UInt8[np.ndarray, "s s 1"]

TURNS = ("turned 0", "turned 90", "turned 180", "turned 270")
"""How far the film lies turned anticlockwise [degrees]; the largest number is the answer."""
FINDINGS = (*TURNS, "mirrored", "inverted", "lateral", "skull", "two heads", "cropped")
"""What the network is asked; all but the turns are logits of yes."""
VALUES = (*FINDINGS, *(f"{name} {part}" for name in LANDMARKS for part in ("x", "y", "error")))
"""What the network answers: findings, then for each landmark its place as shares of the side and
the logarithm of the error to be expected, as a share of the side."""

WORK_SIDE = 512
"""Longer side of the copy of the film from which the network's pictures are made [pixels]."""
DOUBTFUL = 0.95
"""Surety below which a picture's mirror image is asked about, too."""
MAX_LOOKS = 3
"""Looks at the whole film, until one finds it upright."""
ERROR_FLOOR = 0.006
"""Least error of a landmark that is believed [share of the side], which bounds its weight."""
SCALE_DOUBT = 1.25
"""Factor between a head's size by the spacing and the mean head's from which on the spacing is
doubted: nasion to menton varies by 5.5 % (standard deviation; ANSUR II)."""
MAX_SCALE = 30.0
"""Factor between the film's copy and the standard film, at most: a head that fills a copy of 512
pixels has one half, and one of 20 pixels has ten."""
CLOSER_LOOKS = 2
"""Looks at the film in the common pose, at most: the second where the first moved it much."""
MUCH = 0.03
"""Change of scale, or turn [radians], from which on a closer look is repeated."""


@dataclass(frozen=True)
class Answer:
    """What the network answers about one picture."""

    probability: Mapping[str, float]
    """Of every finding; the turns add up to 1."""
    places: Places
    """Of LANDMARKS [shares of the side], beyond 0 to 1 where they lie off the picture."""
    errors: Float64[np.ndarray, " l"]
    """To be expected of the places [shares of the side]."""

    @property
    def quarter_turns(self) -> int:
        """By which the picture lies turned anticlockwise."""
        return max(range(len(TURNS)), key=lambda number: self.probability[TURNS[number]])

    @property
    def view(self) -> View:
        """The likelier view."""
        return "lateral" if self.says("lateral") else "frontal"

    @property
    def mirrored(self) -> bool:
        """Whether a lateral film is mirrored: a frontal one does not tell."""
        return self.view == "lateral" and self.says("mirrored")

    @property
    def surety(self) -> float:
        """The least probability of what is said of turn, facing, polarity and view."""
        asked = ["inverted", "lateral"] + ["mirrored"] * (self.view == "lateral")
        sides = [max(self.probability[name], 1 - self.probability[name]) for name in asked]
        return min(self.probability[TURNS[self.quarter_turns]], *sides)

    @property
    def error(self) -> float:
        """The median error of the landmarks [share of the side]."""
        return float(np.median(self.errors))

    def agreed(self, mirrored: Answer) -> Answer:
        """Average what is said of the film with what is said of its mirror image."""
        other = dict(mirrored.probability)
        other["mirrored"] = 1 - other["mirrored"]
        for number, turn in enumerate(TURNS):
            other[turn] = mirrored.probability[TURNS[-number % len(TURNS)]]
        mean = {name: (value + other[name]) / 2 for name, value in self.probability.items()}
        return replace(self, probability=mean)

    def says(self, finding: str) -> bool:
        """Tell whether a finding is likelier than not."""
        return self.probability[finding] >= 0.5


def read_answer(vector: Float32[np.ndarray, " v"], values: Sequence[str]) -> Answer:
    """Read the network's numbers, which `values` names."""
    number = dict(zip(values, vector.astype(np.float64).tolist(), strict=True))
    turns = np.exp([number[turn] - max(number[other] for other in TURNS) for turn in TURNS])
    probability = dict(zip(TURNS, (turns / turns.sum()).tolist(), strict=True))
    for name in FINDINGS[len(TURNS) :]:
        probability[name] = float(1 / (1 + np.exp(-np.clip(number[name], -60, 60))))
    places = np.array([[number[f"{name} x"], number[f"{name} y"]] for name in LANDMARKS])
    errors = np.exp([min(number[f"{name} error"], 3) for name in LANDMARKS])
    return Answer(probability, places, errors)


@dataclass(frozen=True)
class Orientation:
    """How a film lies: it is upright once turned back, then mirrored, then inverted."""

    quarter_turns: int = 0
    """Anticlockwise [0 to 3]."""
    mirrored: bool = False
    inverted: bool = False

    def corrected(self, answer: Answer) -> Orientation:
        """Return how the film lies after a look at it, put right so far, found that answer."""
        more = -answer.quarter_turns if self.mirrored else answer.quarter_turns
        return Orientation(
            (self.quarter_turns + more) % 4,
            self.mirrored != answer.mirrored,
            self.inverted != answer.says("inverted"),
        )

    def put_right(self, square: UInt8[np.ndarray, "s s"]) -> UInt8[np.ndarray, "s s"]:
        """Turn and mirror a square picture."""
        turned = np.rot90(square, -self.quarter_turns)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)

    def matrix(self, side: float) -> Matrix:
        """Return the matrix of `put_right`, for places on a square of this side."""
        back = pose.quarter_turns(-self.quarter_turns, side)
        return pose.mirror(side) @ back if self.mirrored else back


@dataclass(frozen=True)
class Copy:
    """A film made ready to be looked at."""

    source: imaging.GreyPicture
    """The film as read, without its frame."""
    levels: UInt8[np.ndarray, "h w"]
    """The same, at most WORK_SIDE long, its pixels square and its levels spread."""
    spacing_mm: float | None
    """Of the film as read, from column to column, where it holds at the head."""
    corner: tuple[int, int]
    """Column and row of the source's first pixel on the film as read."""

    @property
    def side(self) -> int:
        """Side of the square around the levels [pixels]."""
        side: int = max(self.levels.shape)
        return side

    @property
    def to_source(self) -> Matrix:
        """From the square around the levels to the source."""
        height, width = self.levels.shape
        square = pose.shift(-((self.side - width) // 2), -((self.side - height) // 2))
        rows, columns = self.source.shape
        source: Matrix = pose.zoom(columns / width, rows / height) @ square
        return source

    @property
    def mm(self) -> float | None:
        """Spacing of the levels' pixels [mm]."""
        if self.spacing_mm is None:
            return None
        return float(self.spacing_mm * self.source.shape[1] / self.levels.shape[1])

    def square(self, inverted: bool) -> UInt8[np.ndarray, "s s"]:
        """Return the levels on a black square."""
        return imaging.pad_to_square(255 - self.levels if inverted else self.levels, "black")


def make_copy(xray: Xray) -> Copy:
    """Make a film ready to be looked at.

    Raises FilmError for one that is too small or without contrast.
    """
    film.check_size(xray.pixels)
    spacing = xray.record.spacing
    tall = spacing.rows_mm / spacing.columns_mm if spacing else 1.0
    height, width = xray.pixels.shape
    factor = min(1.0, WORK_SIDE / max(height * tall, width))
    size = round(height * tall * factor), round(width * factor)
    levels = film.spread_levels(imaging.resize(xray.pixels, size))
    # A white frame of an inverted film is black once the film is put right, and the other way.
    frames = [film.find_white_frame(levels), film.find_white_frame(255 - levels)]
    (top, bottom), (left, right) = (
        (max(f[axis].start for f in frames), min(f[axis].stop for f in frames)) for axis in (0, 1)
    )
    down, across = height / size[0], width / size[1]
    rows, columns = (
        slice(round(top * down), round(bottom * down)),
        slice(round(left * across), round(right * across)),
    )
    return Copy(
        xray.pixels[rows, columns],
        levels[top:bottom, left:right],
        _usable_spacing(spacing),
        (columns.start, rows.start),
    )


def _usable_spacing(spacing: Spacing | None) -> float | None:
    """Return the spacing at the head; at the detector it is too large by nobody knows what."""
    if spacing is None or spacing.origin == "at the detector":
        return None
    return spacing.columns_mm


@dataclass(frozen=True)
class Network:
    """The network that answers, and what the bundle says of it."""

    session: Session
    entry: FilmEntry

    @property
    def side(self) -> int:
        """Side of the picture it takes [pixels]."""
        return self.entry.input.height

    def ask(self, square: UInt8[np.ndarray, "s s"]) -> Answer:
        """Show it a square picture."""
        tensor = imaging.to_tensor(square[:, :, None], self.entry.input)
        return read_answer(self.session.run(tensor)[0], self.entry.output.values)


def first_look(xray: Xray, spec: TensorSpec) -> Float32[np.ndarray, "1 1 h w"]:
    """Make what the network sees of a film at first, for a comparison of networks."""
    return imaging.to_tensor(make_copy(xray).square(inverted=False)[:, :, None], spec)


def put_upright(copy: Copy, network: Network) -> tuple[Orientation, list[Answer]]:
    """Look and correct until a look finds the film upright; return every look's answer."""
    orientation, answers = Orientation(), []
    size = (network.side, network.side)
    for _ in range(MAX_LOOKS):
        small = imaging.resize(copy.square(orientation.inverted), size)
        answers.append(look_twice(orientation.put_right(small), network))
        corrected = orientation.corrected(answers[-1])
        if corrected == orientation:
            break
        orientation = corrected
    return orientation, answers


def look_twice(square: UInt8[np.ndarray, "s s"], network: Network) -> Answer:
    """Ask about a picture and, where the answer is doubtful, about its mirror image, too.

    What is the same on both is then judged by two pictures; it takes twice the time, so films that
    leave no doubt are spared it.
    """
    answer = network.ask(square)
    if answer.surety >= DOUBTFUL:
        return answer
    return answer.agreed(network.ask(np.ascontiguousarray(square[:, ::-1])))


@dataclass(frozen=True)
class Head:
    """Where the head lies."""

    view: View
    move: Similarity
    """From the upright square to the standard film of 256 pixels."""
    places: Places
    """Of LANDMARKS on that film [pixels of 256]."""
    errors: Float64[np.ndarray, " l"]
    """[pixels of 256]"""
    by_spacing: bool
    """Whether the scale is the spacing's."""
    doubt: str = ""
    """What speaks against it."""


def find_head(copy: Copy, answer: Answer) -> Head:
    """Bring the landmarks of the upright film to the common pose.

    Raises FilmError where they lie as those of no head can.
    """
    view, places = answer.view, answer.places * copy.side
    weights = weigh(answer.errors)
    move, doubt = pose.fit_similarity(places, STANDARD[view], weights), ""
    if not 1 / MAX_SCALE < move.scale < MAX_SCALE:
        raise FilmError("no head can be found on it: give a film of a whole skull")
    if copy.mm is not None:
        factor = copy.mm / STANDARD_MM / move.scale
        if 1 / SCALE_DOUBT < factor < SCALE_DOUBT:
            move = pose.fit_similarity(places, STANDARD[view], weights, copy.mm / STANDARD_MM)
        else:
            doubt = (
                f"by its spacing of {copy.spacing_mm:.3g} mm the head would be {factor:.2f} times"
                " as large as a mean one: the spacing was not used, check it"
            )
    by_spacing = copy.mm is not None and not doubt
    moved = pose.apply(move.matrix, places)
    return Head(view, move, moved, answer.errors * copy.side * move.scale, by_spacing, doubt)


def weigh(errors: Float64[np.ndarray, " l"]) -> Float64[np.ndarray, " l"]:
    """Weigh landmarks by the inverse of their variance, bounded [shares of the side]."""
    weights: Float64[np.ndarray, " l"] = np.maximum(errors, ERROR_FLOOR) ** -2.0
    return weights


def look_closer(copy: Copy, orientation: Orientation, head: Head, network: Network) -> Head:
    """Look at the film in the common pose, and improve on the pose by what is seen there."""
    square = copy.square(orientation.inverted)
    for _ in range(CLOSER_LOOKS):
        closer = _refine(copy, square, orientation, head, network)
        turned = abs(np.deg2rad(closer.move.degrees - head.move.degrees))
        scaled = abs(closer.move.scale / head.move.scale - 1)
        head = closer
        if head.doubt or max(turned, scaled) < MUCH:
            break
    return head


def _refine(
    copy: Copy,
    square: UInt8[np.ndarray, "s s"],
    orientation: Orientation,
    head: Head,
    network: Network,
) -> Head:
    side = network.side
    to_square = np.linalg.inv(head.move.matrix @ orientation.matrix(copy.side))
    to_square = to_square @ pose.zoom(STANDARD_SIDE / side, STANDARD_SIDE / side)
    drawn = np.rint(imaging.resample(square, to_square, (side, side))).astype(np.uint8)
    answer = look_twice(drawn, network)
    if Orientation().corrected(answer) != Orientation() or answer.view != head.view:
        return replace(
            head, doubt=head.doubt or "the head was not found for certain: check the picture"
        )
    places = answer.places * STANDARD_SIDE
    step = pose.fit_similarity(
        places, STANDARD[head.view], weigh(answer.errors), 1.0 if head.by_spacing else None
    )
    return replace(
        head,
        move=pose.join(head.move, step),
        places=pose.apply(step.matrix, places),
        errors=answer.errors * STANDARD_SIDE * step.scale,
    )


def to_source(copy: Copy, orientation: Orientation, head: Head) -> Matrix:
    """Return the matrix from places on the standard film of 256 pixels to the source."""
    to_standard = head.move.matrix @ orientation.matrix(copy.side)
    matrix: Matrix = copy.to_source @ np.linalg.inv(to_standard)
    return matrix


def draw_standard(copy: Copy, orientation: Orientation, head: Head) -> Film:
    """Draw the standard film from the source, black where the source has nothing."""
    size = (film.STANDARD_SIZE, film.STANDARD_SIZE)
    zoom = pose.zoom(STANDARD_SIDE / size[1], STANDARD_SIDE / size[0])
    matrix = to_source(copy, orientation, head) @ zoom
    drawn = imaging.resample(copy.source, matrix, size)
    top = float(np.iinfo(copy.source.dtype).max)
    levels = np.rint((top - drawn if orientation.inverted else drawn) * (65535 / top))
    inside = _find_inside(matrix, copy.source.shape, size)
    if not inside.any():
        raise FilmError("the head seems to lie off it: give a film of the whole head")
    spread = film.spread_levels(levels.astype(np.uint16), inside)
    spread[~inside] = 0
    return quality.clear_border(spread[:, :, None], head.view)


def _find_inside(
    to_source: Matrix, source: tuple[int, ...], size: tuple[int, int]
) -> imaging.Mask:
    """Mark the pixels whose whole area lies on the source."""
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    inside = np.ones(size, bool)
    for (across, down, start), end in zip(to_source[:2], source[::-1], strict=True):
        at = (down * rows + start)[:, None] + across * columns
        reach = (abs(across) + abs(down)) / 2
        inside &= (at >= reach) & (at <= end - reach)
    return inside

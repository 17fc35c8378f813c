"""What a film shows: view, facing, polarity, landmarks, pose, and whether it may be used."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fcr_edge import film, imaging, pose, quality
from fcr_edge.errors import FilmError
from fcr_edge.pose import LANDMARKS, RIM, STANDARD, STANDARD_MM, STANDARD_SIDE, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jaxtyping import Float32, Float64, UInt8

    from fcr_edge.bundle import FilmEntry, TensorSpec
    from fcr_edge.film_record import Spacing
    from fcr_edge.pose import Matrix, Places, Similarity
    from fcr_edge.reading import Xray
    from fcr_edge.sessions import Session

    Film = UInt8[np.ndarray, "s s 1"]

Verdict = Literal["pass", "warn", "refuse"]
Facing = Literal["front", "right", "left"]
Reason = tuple[Verdict, str]

TURNS = ("turned 0", "turned 90", "turned 180", "turned 270")
"""How far the film lies turned anticlockwise [degrees]; the largest number is the answer."""
FINDINGS = (*TURNS, "mirrored", "inverted", "lateral", "skull", "two heads", "cropped")
"""What the network is asked; all but the turns are logits of yes."""
VALUES = (*FINDINGS, *(f"{name} {part}" for name in LANDMARKS for part in ("x", "y", "error")))
"""What the network answers: findings, then for each landmark its place as shares of the side and
the logarithm of the error to be expected, as a share of the side."""
LIMITS = {
    "skull, warn": 0.8,
    "skull, refuse": 0.3,
    "two heads, warn": 0.5,
    "two heads, refuse": 0.8,
    "cropped, warn": 0.5,
    "cropped, refuse": 0.9,
    "sure": 0.9,
    "error, warn": 0.02,
    "error, refuse": 0.05,
    "sharpness": 0.01,
    "white": 0.2,
    "black": 0.2,
}
"""What the answers are compared with; a bundle's film model brings its own.

Probabilities of findings; "sure" is the least one of turn, facing, polarity and view; "error" the
median error of the landmarks [share of the side]; the last three are those of quality.py.
"""

WORK_SIDE = 512
"""Longer side of the copy of the film from which the network's pictures are made [pixels]."""
MAX_LOOKS = 3
"""Looks at the whole film, until one finds it upright."""
ERROR_FLOOR = 0.006
"""Least error of a landmark that is believed [share of the side], which bounds its weight."""
SCALE_DOUBT = 1.25
"""Factor between a head's size by the spacing and the mean head's from which on the spacing is
doubted: nasion to menton varies by 5.5 % (standard deviation; ANSUR II)."""
CLOSER_LOOKS = 2
"""Looks at the film in the common pose, at most: the second where the first moved it much."""
MUCH = 0.03
"""Change of scale, or turn [radians], from which on a closer look is repeated."""
MAX_OFF_FILM = 1 / 3
"""Share of the landmarks of the face that may lie off the film."""


@dataclass(frozen=True)
class Landmark:
    """A bony landmark, in pixels from the centre of a picture's first one."""

    name: str
    film_column: float
    """On the film as read."""
    film_row: float
    standard_column: float
    """On the standard film."""
    standard_row: float
    error: float
    """To be expected, on the standard film [pixels]."""
    on_film: bool


@dataclass(frozen=True, kw_only=True)
class Understanding:
    """What a film shows, what was done to it and how far it can be relied on."""

    view: View
    facing: Facing
    """Where the head faced on the upright film, before it was mirrored."""
    quarter_turns: int
    """By which the film lay turned anticlockwise [0 to 3]."""
    mirrored: bool
    """Whether it was mirrored left to right; never found of a frontal film, which cannot tell."""
    inverted: bool
    """Whether bone was dark."""
    rotation_degrees: float
    """By which the upright film was then turned clockwise into the common pose."""
    scale: float
    """Pixels of the standard film of 256 to one of the film as read."""
    scale_from: Literal["spacing", "landmarks"]
    spacing_mm: float | None
    """From column to column, as used; None where the landmarks gave the size."""
    shift: tuple[float, float]
    """From the middle of the film as read to that of the head: right, down [shares of its longer
    side]."""
    to_standard: tuple[tuple[float, float, float], tuple[float, float, float]]
    """Matrix from places on the film as read to the standard film of 256, see pose.py: all of the
    above in one."""
    face_height_mm: float | None
    """Nasion to menton in the plane of the head's centre, where the spacing is known."""
    face_height_pixels: float
    """The same in pixels of the film as read."""
    landmarks: tuple[Landmark, ...]
    probabilities: Mapping[str, float]
    """Of the answers that were given, by finding."""
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why the verdict is not "pass"."""
    steps: tuple[str, ...]
    """What was done, in order, in words."""
    film: Film = field(compare=False, repr=False)
    """The standard film."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """The reasons, and that a film was used although it is to be refused."""
        if self.verdict != "refuse":
            return self.reasons
        return ("the film was used although it should be refused", *self.reasons)

    def to_json(self) -> dict[str, Any]:
        """Lay it out for JSON, without the picture."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        del plain["film"]
        return {
            **plain,
            "landmarks": [asdict(landmark) for landmark in self.landmarks],
            "probabilities": dict(self.probabilities),
        }


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
class _Copy:
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


def _make_copy(xray: Xray) -> _Copy:
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
    return _Copy(
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


def understand(
    xray: Xray, session: Session, entry: FilmEntry, force: bool = False
) -> Understanding:
    """Find out what a film shows, put it right, and judge it.

    The network looks at the film as read. It is turned, mirrored and inverted accordingly and
    looked at again, until a look finds it upright; a film that took more than one correction is
    doubtful. Its landmarks bring it to the common pose, where a last look places them anew. The
    standard film is then drawn from the film's own pixels, once.

    Args:
        xray: The film as read.
        session: Runs the bundle's film model.
        entry: What the bundle says of it.
        force: Go on with a film that is to be refused; its verdict stays "refuse".

    Raises FilmError, which names the file, for a film to be refused and for one without contrast.
    """
    try:
        found = _examine(xray, session, entry)
    except FilmError as err:
        raise FilmError(f"{xray.name}: {err}") from err
    if found.verdict == "refuse" and not force:
        raise FilmError(
            f"{xray.name} was refused: {'; '.join(found.reasons)}. Give another film, or look at"
            " this one and pass --force to use it as it is"
        )
    return found


def _examine(xray: Xray, session: Session, entry: FilmEntry) -> Understanding:
    limits = {**LIMITS, **entry.limits}
    copy = _make_copy(xray)
    orientation, answers = _put_upright(copy, session, entry)
    upright = answers[-1]
    head = _look_closer(copy, orientation, _find_head(copy, upright), session, entry)
    picture = _draw_standard(copy, orientation, head)
    landmarks = tuple(_describe_landmarks(copy, orientation, head))
    reasons = [
        *_judge_answers(answers, limits),
        *_judge_head(head, landmarks, limits),
        *_judge_picture(picture, head.view, limits),
    ]
    verdicts = {verdict for verdict, _ in reasons}
    height = _measure_face(landmarks)
    to_standard = np.linalg.inv(_to_source(copy, orientation, head)) @ pose.shift(
        -copy.corner[0], -copy.corner[1]
    )
    return Understanding(
        view=head.view,
        facing="front" if head.view == "frontal" else "left" if orientation.mirrored else "right",
        quarter_turns=orientation.quarter_turns,
        mirrored=orientation.mirrored,
        inverted=orientation.inverted,
        rotation_degrees=head.move.degrees,
        scale=head.move.scale * copy.levels.shape[1] / copy.source.shape[1],
        scale_from="spacing" if head.by_spacing else "landmarks",
        spacing_mm=copy.spacing_mm if head.by_spacing else None,
        shift=_measure_shift(xray, to_standard),
        to_standard=(_to_row(to_standard[0]), _to_row(to_standard[1])),
        face_height_mm=height * copy.spacing_mm if copy.spacing_mm and head.by_spacing else None,
        face_height_pixels=height,
        landmarks=landmarks,
        probabilities=_list_probabilities(answers, head.view),
        verdict="refuse" if "refuse" in verdicts else "warn" if verdicts else "pass",
        reasons=tuple(text for _, text in sorted(reasons)),  # "refuse" comes before "warn"
        steps=tuple(_tell_steps(copy, orientation, head)),
        film=picture,
    )


def first_look(xray: Xray, spec: TensorSpec) -> Float32[np.ndarray, "1 1 h w"]:
    """Make what the network sees of a film at first, for a comparison of networks."""
    return imaging.to_tensor(_make_copy(xray).square(inverted=False)[:, :, None], spec)


def _ask(square: UInt8[np.ndarray, "s s"], session: Session, entry: FilmEntry) -> Answer:
    """Show the network a square picture."""
    return read_answer(
        session.run(imaging.to_tensor(square[:, :, None], entry.input))[0], entry.output.values
    )


def _put_upright(
    copy: _Copy, session: Session, entry: FilmEntry
) -> tuple[Orientation, list[Answer]]:
    """Look and correct until a look finds the film upright; return every look's answer."""
    orientation, answers = Orientation(), []
    size = (entry.input.height, entry.input.width)
    for _ in range(MAX_LOOKS):
        small = imaging.resize(copy.square(orientation.inverted), size)
        answers.append(_ask(orientation.put_right(small), session, entry))
        corrected = orientation.corrected(answers[-1])
        if corrected == orientation:
            break
        orientation = corrected
    return orientation, answers


@dataclass(frozen=True)
class _Head:
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


def _find_head(copy: _Copy, answer: Answer) -> _Head:
    """Bring the landmarks of the upright film to the common pose."""
    view, places = answer.view, answer.places * copy.side
    weights = _weigh(answer.errors)
    move, doubt = pose.fit_similarity(places, STANDARD[view], weights), ""
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
    return _Head(view, move, moved, answer.errors * copy.side * move.scale, by_spacing, doubt)


def _weigh(errors: Float64[np.ndarray, " l"]) -> Float64[np.ndarray, " l"]:
    weights: Float64[np.ndarray, " l"] = np.maximum(errors, ERROR_FLOOR) ** -2.0
    return weights


def _look_closer(
    copy: _Copy, orientation: Orientation, head: _Head, session: Session, entry: FilmEntry
) -> _Head:
    """Look at the film in the common pose, and improve on the pose by what is seen there."""
    square = copy.square(orientation.inverted)
    for _ in range(CLOSER_LOOKS):
        closer = _refine(copy, square, orientation, head, session, entry)
        turned = abs(np.deg2rad(closer.move.degrees - head.move.degrees))
        scaled = abs(closer.move.scale / head.move.scale - 1)
        head = closer
        if head.doubt or max(turned, scaled) < MUCH:
            break
    return head


def _refine(
    copy: _Copy,
    square: UInt8[np.ndarray, "s s"],
    orientation: Orientation,
    head: _Head,
    session: Session,
    entry: FilmEntry,
) -> _Head:
    side = entry.input.height
    to_square = np.linalg.inv(head.move.matrix @ orientation.matrix(copy.side))
    to_square = to_square @ pose.zoom(STANDARD_SIDE / side, STANDARD_SIDE / side)
    drawn = np.rint(imaging.resample(square, to_square, (side, side))).astype(np.uint8)
    answer = _ask(drawn, session, entry)
    if Orientation().corrected(answer) != Orientation() or answer.view != head.view:
        return replace(head, doubt=head.doubt or "brought to the common pose it looks different")
    places = answer.places * STANDARD_SIDE
    step = pose.fit_similarity(
        places, STANDARD[head.view], _weigh(answer.errors), 1.0 if head.by_spacing else None
    )
    return replace(
        head,
        move=pose.join(head.move, step),
        places=pose.apply(step.matrix, places),
        errors=answer.errors * STANDARD_SIDE * step.scale,
    )


def _to_source(copy: _Copy, orientation: Orientation, head: _Head) -> Matrix:
    """Return the matrix from places on the standard film of 256 pixels to the source."""
    to_standard = head.move.matrix @ orientation.matrix(copy.side)
    matrix: Matrix = copy.to_source @ np.linalg.inv(to_standard)
    return matrix


def _draw_standard(copy: _Copy, orientation: Orientation, head: _Head) -> Film:
    """Draw the standard film from the source, black where the source has nothing."""
    size = (film.STANDARD_SIZE, film.STANDARD_SIZE)
    zoom = pose.zoom(STANDARD_SIDE / size[1], STANDARD_SIDE / size[0])
    to_source = _to_source(copy, orientation, head) @ zoom
    drawn = imaging.resample(copy.source, to_source, size)
    top = float(np.iinfo(copy.source.dtype).max)
    levels = np.rint((top - drawn if orientation.inverted else drawn) * (65535 / top))
    inside = _find_inside(to_source, copy.source.shape, size)
    spread = film.spread_levels(levels.astype(np.uint16), inside)
    spread[~inside] = 0
    return quality.clear_border(spread[:, :, None], head.view)


def _find_inside(
    to_source: Matrix, source: tuple[int, ...], size: tuple[int, int]
) -> imaging.Mask:
    """Mark the pixels whose whole area lies on the source."""
    rows, columns = np.indices(size) + 0.5
    at = to_source[:2, :2] @ np.stack([columns.ravel(), rows.ravel()]) + to_source[:2, 2:]
    reach = np.abs(to_source[:2, :2]).sum(axis=1) / 2
    height, width = source
    within = [
        (at[i] >= reach[i]) & (at[i] <= end - reach[i]) for i, end in enumerate((width, height))
    ]
    return np.asarray(within[0] & within[1]).reshape(size)


def _describe_landmarks(copy: _Copy, orientation: Orientation, head: _Head) -> Iterator[Landmark]:
    """Describe each landmark; of a lateral film's pairs, the middle between left and right."""
    on_source = pose.apply(_to_source(copy, orientation, head), head.places)
    height, width = copy.source.shape
    for name, standard, source, error in zip(
        LANDMARKS, head.places, on_source, head.errors, strict=True
    ):
        if head.view == "lateral" and name.endswith(" right"):
            continue
        yield Landmark(
            name.removesuffix(" left") if head.view == "lateral" else name,
            float(source[0] + copy.corner[0] - 0.5),
            float(source[1] + copy.corner[1] - 0.5),
            float(standard[0] - 0.5),
            float(standard[1] - 0.5),
            float(error),
            bool(0 <= source[0] <= width and 0 <= source[1] <= height),
        )


def _measure_face(landmarks: Sequence[Landmark]) -> float:
    """Return nasion to menton [pixels of the film as read]."""
    at = {one.name: (one.film_column, one.film_row) for one in landmarks}
    return float(np.hypot(*np.subtract(at["nasion"], at["menton"])))


def _measure_shift(xray: Xray, to_standard: Matrix) -> tuple[float, float]:
    middle = np.full((1, 2), STANDARD_SIDE / 2)
    height, width = xray.pixels.shape
    column, row = pose.apply(np.linalg.inv(to_standard), middle)[0]
    side = max(height, width)
    return float((column - width / 2) / side), float((row - height / 2) / side)


def _to_row(row: Float64[np.ndarray, " 3"]) -> tuple[float, float, float]:
    return float(row[0]), float(row[1]), float(row[2])


def _list_probabilities(answers: Sequence[Answer], view: View) -> dict[str, float]:
    """List how likely each answer is: how the film lay by the first look, the rest by the last."""
    first, last = answers[0].probability, answers[-1].probability
    likely = {name: max(first[name], 1 - first[name]) for name in ("mirrored", "inverted")}
    return {
        "turn": max(first[turn] for turn in TURNS),
        **({"facing": likely["mirrored"]} if view == "lateral" else {}),
        "polarity": likely["inverted"],
        "view": max(last["lateral"], 1 - last["lateral"]),
        **{name: last[name] for name in ("skull", "two heads", "cropped")},
    }


def _judge_answers(answers: Sequence[Answer], limits: Mapping[str, float]) -> Iterator[Reason]:
    last = answers[-1]
    for name, share, text in (
        ("skull", last.probability["skull"], "this does not look like a film of a skull"),
        (
            "two heads",
            last.probability["two heads"],
            "two heads seem to be on the film: cut one out",
        ),
        ("cropped", last.probability["cropped"], "much of the head seems to lie off the film"),
    ):
        # A low "skull" is what is wrong, and a high one of the others.
        sign = -1 if name == "skull" else 1
        for verdict in ("refuse", "warn"):
            if sign * share > sign * limits[f"{name}, {verdict}"]:
                yield verdict, f"{text} (probability {share if sign > 0 else 1 - share:.2f})"
                break
    if len(answers) > 2 or last.surety < limits["sure"]:
        yield (
            "warn",
            f"it is doubtful how the film lies ({last.view}, sure to {last.surety:.2f}, after"
            f" {len(answers)} looks): check the picture",
        )


def _judge_head(
    head: _Head, landmarks: Sequence[Landmark], limits: Mapping[str, float]
) -> Iterator[Reason]:
    if head.doubt:
        yield "warn", head.doubt
    face = [landmark for landmark in landmarks if landmark.name not in RIM]
    off = [landmark.name for landmark in landmarks if not landmark.on_film]
    missing = sum(not landmark.on_film for landmark in face) / len(face)
    if off:
        yield (
            "refuse" if missing > MAX_OFF_FILM else "warn",
            f"the film leaves out {', '.join(off)}: take one of the whole head",
        )
    error = float(np.median(head.errors)) / STANDARD_SIDE
    for verdict in ("refuse", "warn"):
        if error > limits[f"error, {verdict}"]:
            yield (
                verdict,
                f"the landmarks are uncertain (by {error * STANDARD_SIDE * STANDARD_MM:.1f} mm at"
                " the median): the pose may be wrong",
            )
            break


def _judge_picture(picture: Film, view: View, limits: Mapping[str, float]) -> Iterator[Reason]:
    sharpness = quality.measure_sharpness(picture, view)
    white, black = quality.measure_white(picture, view), quality.measure_black(picture, view)
    if white > limits["white"]:
        yield "warn", f"over-exposed: {white:.0%} of the face is white; take a darker copy"
    if black > limits["black"]:
        yield "warn", f"under-exposed: {black:.0%} of the face is black; take a brighter copy"
    if sharpness < limits["sharpness"]:
        yield (
            "warn",
            f"blurred: {sharpness:.2%} of the structure is fine detail, a sharp film has more than"
            f" {limits['sharpness']:.2%}",
        )


def _tell_steps(copy: _Copy, orientation: Orientation, head: _Head) -> Iterator[str]:
    if orientation.quarter_turns:
        turn = {1: "90 degrees clockwise", 2: "180 degrees", 3: "90 degrees anticlockwise"}
        yield f"turned by {turn[orientation.quarter_turns]}"
    if orientation.mirrored:
        yield "mirrored left to right: the face was to the left"
    if orientation.inverted:
        yield "inverted: bone was dark"
    way = "clockwise" if head.move.degrees > 0 else "anticlockwise"
    yield f"rotated by {abs(head.move.degrees):.1f} degrees {way} into the common pose"
    if head.by_spacing:
        yield f"scaled by the spacing of {copy.spacing_mm:.4g} mm: the size of the head is kept"
    else:
        yield "scaled by the landmarks to a head of mean size: its own size is not known"


GREEN, ORANGE, WHITE = (60, 220, 90), (255, 160, 40), (255, 255, 255)
DRAWING_SIDE = 512
"""Longer side of the drawing of a film [pixels]."""


def draw_understanding(
    pixels: imaging.GreyPicture, found: Understanding
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the landmarks on the film as it was read, and write below what was done to it.

    Args:
        pixels: The film as read.
        found: What was understood of it.
    """
    factor = DRAWING_SIDE / max(pixels.shape)
    size = (round(pixels.shape[0] * factor), round(pixels.shape[1] * factor))
    canvas = imaging.to_rgb(film.spread_levels(imaging.resize(pixels, size)))
    for one in found.landmarks:
        place = round((one.film_row + 0.5) * factor), round((one.film_column + 0.5) * factor)
        imaging.draw_disc(canvas, place, 3, GREEN if one.on_film else ORANGE)
    lines = [f"{found.view}, {found.verdict}", *found.steps, *found.reasons]
    footer = np.zeros((18 * len(lines) + 6, max(size[1], DRAWING_SIDE), 3), np.uint8)
    for number, line in enumerate(lines):
        colour = GREEN if found.verdict == "pass" else ORANGE
        imaging.draw_text(
            footer, line[:92], (18 * number + 15, 4), WHITE if number else colour, 0.36
        )
    wide = np.zeros((size[0], footer.shape[1], 3), np.uint8)
    wide[:, : size[1]] = canvas
    return np.concatenate([wide, footer])

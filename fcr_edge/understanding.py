"""What a film shows: view, facing, polarity, landmarks, pose, and whether it may be used."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fcr_edge import film, imaging, pose, quality
from fcr_edge.errors import FilmError
from fcr_edge.looks import (
    TURNS,
    Network,
    draw_standard,
    find_head,
    look_closer,
    make_copy,
    put_upright,
    to_source,
)
from fcr_edge.pose import LANDMARKS, RIM, STANDARD_MM, STANDARD_SIDE, View
from fcr_edge.sessions import open_network

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import ExitStack

    from jaxtyping import Float64, UInt8

    from fcr_edge.bundle import Bundle
    from fcr_edge.looks import Answer, Copy, Head, Orientation
    from fcr_edge.manifest import FilmEntry
    from fcr_edge.pose import Matrix
    from fcr_edge.reading import Xray
    from fcr_edge.sessions import Device, Session, Tell

    Film = UInt8[np.ndarray, "s s 1"]

Verdict = Literal["pass", "warn", "refuse"]
Facing = Literal["front", "right", "left"]
Reason = tuple[Verdict, str]

NO_SKULL = "this does not look like a film of a skull"
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


@dataclass(frozen=True)
class FilmModel:
    """A bundle's network that tells what a film shows, ready to run."""

    session: Session
    entry: FilmEntry

    def understand(self, xray: Xray, force: bool = False) -> Understanding:
        """Find out what a film shows, put it right, and judge it, as `understand` does."""
        return understand(xray, self.session, self.entry, force)


def open_film_model(
    bundle: Bundle, device: Device, stack: ExitStack, tell: Tell | None = None
) -> FilmModel | None:
    """Open a bundle's film model, to be closed by the stack; None where the bundle has none.

    Raises DeviceError where the device cannot be had.
    """
    entry = bundle.manifest.film
    if entry is None:
        return None
    return FilmModel(stack.enter_context(open_network(bundle, "film", device, tell)), entry)


def _examine(xray: Xray, session: Session, entry: FilmEntry) -> Understanding:
    limits, network = {**LIMITS, **entry.limits}, Network(session, entry)
    copy = make_copy(xray)
    orientation, answers = put_upright(copy, network)
    head = look_closer(copy, orientation, find_head(copy, answers[-1]), network)
    picture = draw_standard(copy, orientation, head)
    landmarks = tuple(_describe_landmarks(copy, orientation, head))
    reasons = list(_judge_answers(answers, limits))
    # Where there is no skull, nothing is to be said of its landmarks, its pose or its exposure.
    if answers[-1].probability["skull"] < limits["skull, refuse"]:
        reasons = [reason for reason in reasons if NO_SKULL in reason[1]]
    else:
        reasons += [
            *_judge_head(head, landmarks, limits),
            *_judge_picture(picture, head.view, limits),
        ]
    verdicts = {verdict for verdict, _ in reasons}
    height = _measure_face(landmarks)
    to_standard = np.linalg.inv(to_source(copy, orientation, head)) @ pose.shift(
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


def _describe_landmarks(copy: Copy, orientation: Orientation, head: Head) -> Iterator[Landmark]:
    """Describe each landmark; of a lateral film's pairs, the middle between left and right."""
    on_source = pose.apply(to_source(copy, orientation, head), head.places)
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
        ("skull", last.probability["skull"], NO_SKULL),
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
    head: Head, landmarks: Sequence[Landmark], limits: Mapping[str, float]
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


def _tell_steps(copy: Copy, orientation: Orientation, head: Head) -> Iterator[str]:
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

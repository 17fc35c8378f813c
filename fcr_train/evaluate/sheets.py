"""Sheets of pictures: people as each translator drew them, failures, and candidate lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from fcr_edge import imaging
from fcr_edge.errors import DataError
from fcr_edge.report import GENERATED, LEAD
from fcr_train.evaluate.study import Illustration, write_name
from fcr_train.sheet import NOTICE as SIMULATED
from fcr_train.sheet import fit_text, load_font

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import UInt8

    from fcr_train.evaluate.study import Candidate, CandidateList, Case, Study

    Picture = UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w c"]
    Canvas = UInt8[np.ndarray, "h w 3"]

CELL = 150
"""Side of a picture on a sheet [pixels]."""
STRIP = 20
"""Height of the line under a picture that says what it is [pixels]."""
GAP = 6
VIEW_GAP = 18
"""Room between the columns of two views [pixels]."""
CAPTION = 118
"""Width of the column of captions [pixels]."""
HEADER = 48
HEADS = 24
"""Room for the names of columns [pixels]."""
FOOTER = 34
MARGIN = 14
FRAME = 5
"""Width of the frame around the mate [pixels]."""
FIRST = 10
"""Candidates that are shown of a list."""
PAPER, TEXT, QUIET, LINE = (255, 255, 255), (28, 32, 36), (92, 99, 106), (214, 218, 222)
EMPTY = (240, 242, 244)
GENERATED_NOTE = f"“generated” means: {GENERATED}."
GENERATED_STRIP, PLAIN_STRIP = (250, 228, 190), (236, 239, 242)
GREEN = (0, 150, 70)
"""Frames the mate, and nothing else on a sheet has this colour."""


def build_sheets(study: Study) -> list[Illustration]:
    """Draw every sheet for which the study holds pictures."""
    return [*_build_examples(study), *_build_failures(study), *_build_searches(study)]


def _build_examples(study: Study) -> list[Illustration]:
    views = dict.fromkeys(case.view for case in study.cases)
    return [
        _build_cases(
            study,
            [case for case in study.cases if case.view == view],
            f"sheet-{view}",
            f"People drawn at random, {view} view",
            "A row a person: skull, the face of every translator, and the true face. Nobody here "
            "was trained on.",
        )
        for view in views
    ]


def _build_failures(study: Study) -> list[Illustration]:
    best = f"{write_name(study.best.translator)} with {write_name(study.best.embedder)}"
    kinds = [
        (
            study.worst_by_rank,
            "sheet-worst-by-rank",
            "Failures by rank",
            f"The people whose mates stand last when the face of {best} is searched for.",
        ),
        (
            study.worst_by_ssim,
            "sheet-worst-by-ssim",
            "Failures by resemblance",
            f"The people whose faces by {write_name(study.best.translator)} have the lowest SSIM "
            "with the true ones.",
        ),
    ]
    return [
        _build_cases(study, cases, name, title, caption)
        for cases, name, title, caption in kinds
        if cases
    ]


def _build_cases(
    study: Study, cases: Sequence[Case], name: str, title: str, caption: str
) -> Illustration:
    people = ", ".join(dict.fromkeys(case.person for case in cases))
    return Illustration(
        name=name,
        format="png",
        data=mark_png(draw_cases(cases, study.is_simulated), study.is_simulated),
        title=title,
        caption=caption,
        alt=f"{title}: rows of skull, generated faces and true face for {people}.",
    )


def _build_searches(study: Study) -> list[Illustration]:
    return [
        Illustration(
            name=f"sheet-candidates-{place}",
            format="png",
            data=mark_png(draw_search(search, study.is_simulated), study.is_simulated),
            title=_title(search),
            caption=(
                "Skull and generated face, then the first ten candidates with their similarity (a "
                "cosine, no probability), the mate framed green. A + before a name: enrolled "
                "beside the people tested."
            ),
            alt=(
                f"Candidates for {search.person}: "
                + ", ".join(
                    f"{rank} {found.person}"
                    for rank, found in enumerate(search.candidates[:FIRST], start=1)
                )
                + f". The mate stands at rank {search.rank:,} of {search.gallery:,}."
            ),
        )
        for place, search in enumerate(study.searches, start=1)
    ]


def draw_cases(cases: Sequence[Case], is_simulated: bool) -> Canvas:
    """Draw a row a case: the skull, the face of every translator, the true face.

    Raises DataError where there is no case.
    """
    if not cases:
        raise DataError("there is no case to show: pass one or more")
    translators = list(dict.fromkeys(name for case in cases for name in case.faces))
    heads = ["skull", *(write_name(name) for name in translators), _name_photograph(is_simulated)]
    lefts = [MARGIN + CAPTION + place * (CELL + GAP) for place in range(len(heads))]
    pitch = CELL + STRIP + GAP
    sheet = _start(lefts[-1] + CELL + MARGIN, MARGIN + HEADS + len(cases) * pitch + FOOTER)
    draw = ImageDraw.Draw(sheet)
    for left, head in zip(lefts, heads, strict=True):
        _write(draw, (left, MARGIN + HEADS - 14), head, 15, TEXT, CELL)
    for row, case in enumerate(cases):
        top = MARGIN + HEADS + row * pitch
        _write_case(draw, top, case)
        pictures = [case.skull, *(case.faces.get(name) for name in translators), case.photograph]
        for place, (left, picture) in enumerate(zip(lefts, pictures, strict=True)):
            is_generated = 0 < place < len(heads) - 1
            words = "generated" if is_generated else heads[place]
            _paste(sheet, (left, top), picture, words, is_generated)
    _write_footer(draw, sheet.height, [GENERATED_NOTE, *_simulated_note(is_simulated)])
    return np.asarray(sheet)


def draw_search(search: CandidateList, is_simulated: bool) -> Canvas:
    """Draw skull and generated face beside the first ten candidates, the mate framed green.

    A mate further down stands apart, below the skull.
    """
    gap = 2 * FRAME + 4
    pitch, down = CELL + gap, CELL + STRIP + gap
    left, top = MARGIN + 2 * pitch + VIEW_GAP, MARGIN + HEADER
    columns = FIRST // 2
    sheet = _start(left + columns * pitch - gap + MARGIN, top + 2 * down + FOOTER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (MARGIN, MARGIN + 10), _title(search), 17, TEXT, sheet.width - 2 * MARGIN)
    _paste(sheet, (MARGIN, top), search.skull, f"skull, {search.view}", False)
    _paste(sheet, (MARGIN + pitch, top), search.face, "generated", True)
    for place, candidate in enumerate(search.candidates[:FIRST]):
        row, column = divmod(place, columns)
        corner = (left + column * pitch, top + row * down)
        _paste_candidate(sheet, corner, place + 1, candidate, candidate.person == search.person)
    if search.rank > FIRST:
        corner = (MARGIN, top + down)
        _paste(sheet, corner, search.photograph, f"{search.rank:,}  mate", False)
        _frame(sheet, corner)
    _write_footer(draw, sheet.height, [LEAD, GENERATED_NOTE, *_simulated_note(is_simulated)])
    return np.asarray(sheet)


def mark_png(sheet: Canvas, is_simulated: bool) -> bytes:
    """Encode a sheet as PNG whose text says that its faces are generated, its people simulated."""
    marks = {"Notice": LEAD, "Generated": GENERATED_NOTE}
    return imaging.encode_png(
        sheet, {**marks, **({"Synthetic": SIMULATED} if is_simulated else {})}
    )


def _simulated_note(is_simulated: bool) -> list[str]:
    return [f"All are {SIMULATED}."] if is_simulated else []


def _name_photograph(is_simulated: bool) -> str:
    return "simulated photograph" if is_simulated else "photograph"


def _title(search: CandidateList) -> str:
    return f"{search.person}, {search.view}: mate at rank {search.rank:,} of {search.gallery:,}"


def _start(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), PAPER)


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: imaging.Colour,
    width: float,
) -> None:
    """Write one line from its left middle, shortened to a width [pixels]."""
    line = fit_text(draw, text, width, size)
    draw.text(place, line, colour, load_font(size), anchor="lm")


def _write_case(draw: ImageDraw.ImageDraw, top: int, case: Case) -> None:
    lines = [(case.person, 15, TEXT), (case.view, 13, QUIET)]
    if case.rank is not None:
        among = "" if case.gallery is None else f" of {case.gallery:,}"
        lines.append((f"rank {case.rank:,}{among}", 13, TEXT))
    if case.ssim is not None:
        lines.append((f"SSIM {case.ssim:.2f}", 13, TEXT))
    first = top + CELL / 2 - 10 * (len(lines) - 1)
    for place, (text, size, colour) in enumerate(lines):
        _write(draw, (MARGIN, first + 20 * place), text, size, colour, CAPTION - GAP)


def _paste(
    sheet: Image.Image,
    corner: tuple[int, int],
    picture: Picture | None,
    words: str,
    is_generated: bool,
) -> None:
    """Paste a picture above a strip that says what it is; None leaves an empty cell."""
    x, y = corner
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((x, y, x + CELL - 1, y + CELL - 1), EMPTY)
    strip = GENERATED_STRIP if is_generated else PLAIN_STRIP
    draw.rectangle((x, y + CELL, x + CELL - 1, y + CELL + STRIP - 1), strip)
    if picture is None:
        words = "none"
    else:
        square = imaging.pad_to_square(imaging.to_rgb(picture), "edge")
        sheet.paste(Image.fromarray(imaging.resize(square, (CELL, CELL))), corner)
    _write(draw, (x + 6, y + CELL + STRIP / 2), words, 13, TEXT, CELL - 12)


def _paste_candidate(
    sheet: Image.Image, corner: tuple[int, int], rank: int, candidate: Candidate, is_mate: bool
) -> None:
    words = f"{rank}  {'mate ' if is_mate else ''}{candidate.similarity:.3f}  {candidate.person}"
    _paste(sheet, corner, candidate.photograph, words, False)
    if is_mate:
        _frame(sheet, corner)


def _frame(sheet: Image.Image, corner: tuple[int, int]) -> None:
    """Frame a picture and its strip green, outside both."""
    x, y = corner
    outer = (x - FRAME, y - FRAME, x + CELL + FRAME - 1, y + CELL + STRIP + FRAME - 1)
    ImageDraw.Draw(sheet).rectangle(outer, outline=GREEN, width=FRAME)


def _write_footer(draw: ImageDraw.ImageDraw, height: int, notes: Sequence[str]) -> None:
    _write(draw, (MARGIN, height - FOOTER / 2), "  ".join(notes), 13, QUIET, 10_000)

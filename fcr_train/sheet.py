"""A contact sheet: one row a person, one column a view and kind."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fcr_edge import imaging
from fcr_edge.errors import ConfigError, DataError, FcrError
from fcr_train.copies import to_8_bits
from fcr_train.dataset import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jaxtyping import UInt8

    from fcr_train.dataset import Dataset, Person, Picture

CELL = 160
"""Side of a picture on the sheet [pixels]."""
GAP = 3
VIEW_GAP = 12
"""Room between the columns of two views [pixels]."""
CAPTION = 104
"""Width of the column of captions [pixels]."""
HEADER = 44
FOOTER = 28
MARGIN = 14
BACKGROUND, EMPTY, TEXT, QUIET = (30, 33, 37), (38, 42, 47), (228, 230, 232), (150, 156, 163)
KINDS = (*get_args(Kind), "field")
"""What a sheet can show: the kinds that train, and films as they may arrive."""
NOTICE = "simulated people, not real ones"


def write_sheet(
    dataset: Dataset,
    path: Path,
    people: int = 16,
    kinds: Sequence[str] = ("xray", "skull", "bone", "face"),
    views: Sequence[str] = ("frontal", "lateral"),
    seed: int = 1,
) -> None:
    """Draw people taken at random, in the table's order, with their first picture of each column.

    The file is a PNG, which also says in its text where the people are simulated. Columns that
    nobody has are left out; a picture that one person lacks is an empty cell. Raises ConfigError
    for an unknown kind, DataError where nothing can be shown.
    """
    unknown = sorted({*kinds} - {*KINDS})
    if unknown:
        raise ConfigError(f"kind {unknown[0]!r} is unknown: choose of {', '.join(KINDS)}")
    shown = _draw_people(dataset, people, seed)
    first = {(*row.pair, row.kind): row for row in reversed(dataset.pictures)}
    columns = [
        (view, kind)
        for view in views
        for kind in kinds
        if any((person.name, view, kind) in first for person in shown)
    ]
    if not columns:
        there = sorted({f"{row.view} {row.kind}" for row in dataset.pictures})
        raise DataError(f"there is no picture of these kinds and views: choose of {there}")
    notice = NOTICE if dataset.is_simulated else None
    lefts = _place_columns([view for view, _ in columns])
    height = _top(len(shown)) - GAP + MARGIN + (FOOTER if notice else 0)
    sheet = Image.new("RGB", (lefts[-1] + CELL + MARGIN, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _head(draw, columns, lefts)
    for row, person in enumerate(shown):
        _caption(draw, row, person)
        for left, (view, kind) in zip(lefts, columns, strict=True):
            _paste(sheet, (left, _top(row)), first.get((person.name, view, kind)))
    if notice:
        draw.text((MARGIN, height - MARGIN), notice, TEXT, load_font(13), anchor="ls")
    imaging.write_png(path, np.asarray(sheet), {"Synthetic": notice} if notice else None)


def _draw_people(dataset: Dataset, number: int, seed: int) -> list[Person]:
    lot = np.random.default_rng(seed).permutation(len(dataset.people))[:number]
    return [dataset.people[place] for place in sorted(lot)]


def _place_columns(views: Sequence[str]) -> list[int]:
    """Return where each column begins [pixels], the views apart from each other."""
    steps = [VIEW_GAP if view != before else GAP for before, view in pairwise(views)]
    return [MARGIN + CAPTION + n * CELL + sum(steps[:n]) for n in range(len(views))]


def _head(
    draw: ImageDraw.ImageDraw, columns: Sequence[tuple[str, str]], lefts: Sequence[int]
) -> None:
    """Write each kind above its column, and each view above the first of its columns."""
    named = set()
    for left, (view, kind) in zip(lefts, columns, strict=True):
        if view not in named:
            draw.text((left, MARGIN + 8), view, TEXT, load_font(15), anchor="lm")
            named.add(view)
        draw.text((left, MARGIN + 28), kind, QUIET, load_font(12), anchor="lm")


def _top(row: int) -> int:
    return MARGIN + HEADER + row * (CELL + GAP)


def _caption(draw: ImageDraw.ImageDraw, row: int, person: Person) -> None:
    """Write the name, and below it sex and age where they are known."""
    middle = _top(row) + CELL / 2
    age = "" if person.age is None else f"{person.age:.0f}"
    details = ", ".join(part for part in (person.sex, age) if part)
    name = fit_text(draw, person.name, CAPTION - GAP, 13)
    draw.text((MARGIN, middle - 9), name, TEXT, load_font(13), anchor="lm")
    draw.text((MARGIN, middle + 9), details, QUIET, load_font(12), anchor="lm")


def fit_text(draw: ImageDraw.ImageDraw, text: str, width: float, size: int) -> str:
    """Shorten a line of font `size` to `width` [pixels both]."""
    while text and draw.textlength(text, load_font(size)) > width:
        text = text.removesuffix("…")[:-1] + "…" if len(text) > 1 else ""
    return text


def _paste(sheet: Image.Image, corner: tuple[int, int], picture: Picture | None) -> None:
    """Paste a picture whole, centred in its cell; None leaves the cell empty."""
    x, y = corner
    sheet.paste(EMPTY, (x, y, x + CELL, y + CELL))
    if picture is None:
        return
    pixels = _read(picture)
    height, width = pixels.shape[:2]
    sheet.paste(Image.fromarray(pixels), (x + (CELL - width) // 2, y + (CELL - height) // 2))


def _read(picture: Picture) -> UInt8[np.ndarray, "h w 3"]:
    try:
        pixels = to_8_bits(imaging.read_picture(picture.path))
    except FcrError as err:
        raise DataError(f"{picture.path} cannot be shown: {err}") from err
    share = CELL / max(pixels.shape[:2])
    height, width = (max(1, round(side * share)) for side in pixels.shape[:2])
    return imaging.to_rgb(imaging.resize(pixels, (height, width)))


def load_font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Return the one font of all sheets in a size [pixels]; it comes with Pillow."""
    return ImageFont.load_default(size)

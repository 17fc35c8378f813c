"""The tables of a study, each one structure that becomes HTML, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

DASH = "\N{EN DASH}"
Kind = Literal["run", "best", "stated", "baseline"]
"""Of a row: a run, the best run, the conditions under which results are stated, a baseline."""
WIDE = 11
"""Columns that fit the width of an A4 page, at most."""


def write_share(share: float) -> str:
    """Write a share as per cent.

    >>> write_share(0.3834)
    '38.3 %'
    """
    return f"{100 * share:.1f} %"


@dataclass(frozen=True)
class Cell:
    """A figure with its interval, a word, or the reason why there is nothing."""

    value: float | str | None = None
    low: float | None = None
    high: float | None = None
    digits: int = 0
    spread: float | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """The value as it is read; a dash where there is none."""
        if self.value is None:
            return DASH
        if isinstance(self.value, str):
            return self.value
        return write_number(self.value, self.digits)

    @property
    def interval(self) -> str:
        """The 95 % interval as it is read; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"{_round(self.low, self.digits)} to {_round(self.high, self.digits)}"

    @property
    def below(self) -> str:
        """What stands below the value: its interval, or its spread over subsets."""
        if self.spread is not None:
            return f"± {_round(self.spread, self.digits)}"
        return self.interval


@dataclass(frozen=True)
class Column:
    """What stands in a column, and the heading that it shares with its neighbours."""

    name: str
    group: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Row:
    """One line; its kind tells what is measured from what it is measured against."""

    cells: tuple[Cell, ...]
    kind: Kind = "run"


@dataclass(frozen=True)
class Basis:
    """What a figure must not be read without."""

    level: str
    split: str
    people: str
    gallery: str
    chance: str
    baselines: str

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """Heading and text of each, in the order of reading."""
        return (
            ("Evidence", self.level),
            ("Split", self.split),
            ("People", self.people),
            ("Gallery", self.gallery),
            ("Chance", self.chance),
            ("Baselines", self.baselines),
        )


@dataclass(frozen=True)
class Table:
    """A table with what it must not be read without."""

    name: str
    title: str
    says: str
    """What to look at, in a sentence or two."""
    basis: Basis
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = field(init=False)
    """Why cells are empty, each once, in the order of reading."""

    def __post_init__(self) -> None:
        cells = [cell for row in self.rows for cell in row.cells]
        reasons = dict.fromkeys(cell.reason for cell in cells if cell.reason)
        object.__setattr__(self, "reasons", tuple(reasons))

    def mark(self, cell: Cell) -> str:
        """Return the letter that refers to the cell's reason, empty where it has none."""
        return self.mark_reason(cell.reason) if cell.reason else ""

    def mark_reason(self, reason: str) -> str:
        """Return the letter of one of `reasons`."""
        return chr(ord("a") + self.reasons.index(reason))

    @property
    def is_wide(self) -> bool:
        """Whether it needs a page on its side when printed."""
        return len(self.columns) > WIDE

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings over several columns, each with how many it spans."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans


def write_number(value: float, digits: int) -> str:
    """Write a number with `digits` decimals, or one figure where these would all be zero.

    >>> write_number(0.04712, 3), write_number(0.0002, 3), write_number(1234.5, 0)
    ('0.047', '0.0002', '1,234')
    """
    if value and abs(value) < 0.5 * 10**-digits:
        digits = -math.floor(math.log10(abs(value)))
    return _round(value, digits)


def _round(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def choose_digits(people: int) -> int:
    """Choose decimals of a share of so many people: one person in 20 is no third decimal."""
    return 3 if people >= 100 else 2


def render_markdown(table: Table, level: int = 1) -> str:
    """Write the table as Markdown under a heading of `level`, basis before, notes after it."""
    heads = [f"{column.group}: {column.name}" if column.group else column.name
             for column in table.columns]  # fmt: skip
    lines = [_join_cells(heads), "|" + "---|" * len(heads)]
    lines += [_join_cells([_write_plain(table, cell) for cell in row.cells]) for row in table.rows]
    return "\n".join(
        [
            f"{'#' * level} {table.title}",
            "",
            table.says,
            "",
            *(f"- {name}: {text}" for name, text in table.basis.lines),
            "",
            *lines,
            "",
            *(f"- ({table.mark_reason(why)}) {why}" for why in table.reasons),
            *(f"- {note}" for note in table.notes),
            "",
        ]
    )


def _join_cells(texts: Iterable[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def _write_plain(table: Table, cell: Cell) -> str:
    below = f" ({cell.below})" if cell.below else ""
    return cell.text + below + (f" ({table.mark(cell)})" if cell.reason else "")


def render_csv(table: Table) -> str:
    """Write the table as CSV: six figures, intervals in columns of their own, notes at the end."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = [_find_parts(table, place) for place in range(len(table.columns))]
    writer.writerow(
        " ".join(filter(None, (column.group, column.name, part)))
        for column, used in zip(table.columns, parts, strict=True)
        for part in used
    )
    for row in table.rows:
        writer.writerow(
            _pick(cell, part) for cell, used in zip(row.cells, parts, strict=True) for part in used
        )
    for name, text in (*table.basis.lines, *(("Note", note) for note in table.notes)):
        writer.writerow((f"# {name}", text))
    return out.getvalue()


def _find_parts(table: Table, place: int) -> list[str]:
    """List what a column's cells hold besides their value."""
    cells = [row.cells[place] for row in table.rows]
    parts = [""]
    if any(cell.interval for cell in cells):
        parts += ["low", "high"]
    if any(cell.spread is not None for cell in cells):
        parts.append("spread")
    return parts


def _pick(cell: Cell, part: str) -> str | int | None:
    if not part and cell.value is None:
        return cell.reason
    value = getattr(cell, part or "value")
    return f"{value:.6g}" if isinstance(value, float) else value

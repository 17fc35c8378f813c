"""What a simulated dataset is to hold: all that decides its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fcr_edge.errors import ConfigError
from fcr_train.simulate.radiograph import BEAMS, VIEWS, Beam, View

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["xray", "bone", "skull", "face", "field", "lines"]
KINDS: tuple[Kind, ...] = ("xray", "bone", "skull", "face", "field", "lines")
DEFAULT_KINDS = KINDS[:4]
SIZES = (64, 128, 256, 512)


@dataclass(frozen=True)
class Plan:
    """What to make of how many people. Raises ConfigError for a value out of range."""

    people: int
    """1 or more; 0 with a CT, for the scanned person alone."""
    seed: int = 1
    """The same seed gives the same people, whatever else is asked for."""
    first: int = 1
    """Number of the first person; person 7 of a seed is the same in every dataset."""
    kinds: tuple[Kind, ...] = DEFAULT_KINDS
    """xray: the film as a tidy unit gives it. bone: line integrals of bone alone, in proportion.
    skull: the film with the soft tissue around the bone cut away, as an examiner does by hand.
    face: portraits. field: the film as it may arrive, turned, fogged, inverted, with fittings.
    lines: the line integrals of soft tissue and bone, as float32."""
    views: tuple[View, ...] = VIEWS
    portraits: int = 2
    """Portraits of each view, 1 or more; the first is of the day of the film, the others show
    other years, weight, hair, light and expression."""
    size: int = 256
    """Side of the pictures [pixels], one of SIZES."""
    bits: int = 8
    """Of the films' grey levels, 8 or 16; portraits have 8."""
    beam: Beam = "divergent"
    """A source 1.6 m away, or so far that nothing is magnified."""
    depths: Path | None = None
    """Table of tissue depths to use instead of the packaged one."""
    ct: Path | None = None
    """Scan of a head whose skull everybody gets, instead of one of their own."""

    def __post_init__(self) -> None:
        """Check every value."""
        least = 0 if self.ct is not None else 1
        for name, low in (("people", least), ("portraits", 1), ("first", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}: give {low} or more")
        check_choice("size", self.size, SIZES)
        check_choice("bits", self.bits, (8, 16))
        check_choice("beam", self.beam, tuple(BEAMS))
        for name, chosen, known in (("kinds", self.kinds, KINDS), ("views", self.views, VIEWS)):
            if not chosen or len(set(chosen)) < len(chosen):
                raise ConfigError(f"{name} is {','.join(chosen)!r}: name each one once")
            for value in chosen:
                check_choice(name, value, known)

    @property
    def films(self) -> bool:
        """Tell whether skulls have to be built at all."""
        return set(self.kinds) != {"face"}

    def numbers(self) -> range:
        """Give the numbers of the people."""
        return range(self.first, self.first + self.people)


def check_choice(name: str, value: int | str, known: Sequence[int | str]) -> None:
    """Raise ConfigError for a value that is not among those known."""
    if value not in known:
        raise ConfigError(f"{name} has {value!r}: choose from {', '.join(map(str, known))}")

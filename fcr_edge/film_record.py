"""What was done to an X-ray file on the way to its pixels, and nothing of whose it is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fcr_edge.errors import ImageError

Container = Literal["DICOM", "PNG", "JPEG", "TIFF", "BMP", "PGM"]
Polarity = Literal["as stored", "turned over"]
MAX_TEXT = 400
"""Characters in one text of a record, at most."""


@dataclass(frozen=True)
class Window:
    """The DICOM window that was applied (PS3.3, C.11.2.1.2)."""

    center: float
    width: float
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
    of: int
    """Windows in the file; the first one is applied."""


@dataclass(frozen=True)
class Spacing:
    """Distance between the centres of neighbouring pixels [mm]."""

    rows_mm: float
    """From one row to the next, which is down the film."""
    columns_mm: float
    origin: Literal[
        "calibrated",
        "in the header, calibration not stated",
        "at the detector",
        "detector / magnification",
    ]
    magnification: float | None
    """Detector to patient, as the header says [1 or more]."""


@dataclass(frozen=True)
class ViewHints:
    """What the header says of the view: hints that may be wrong, None where it says nothing."""

    position: str | None = None
    """DICOM View Position, such as AP or LL."""
    laterality: str | None = None
    """R, L, U or B."""
    orientation: str | None = None
    """DICOM Patient Orientation: where the rows, then the columns, lead; such as A\\F."""


@dataclass(frozen=True, kw_only=True)
class FilmRecord:
    """Every step from the file to grey levels with bright bone, for JSON.

    It holds numbers and words from fixed lists only: no text is taken over from the file, so none
    of it can name a patient.
    """

    container: Container
    transfer_syntax: str | None = None
    """DICOM: the UID that says how the pixels are encoded."""
    modality: str | None = None
    """DICOM: CR, DX, ...; "other" for what is no code for radiographs."""
    width: int
    """As stored, before any turn [pixels]."""
    height: int
    bits: int
    """Used for each sample, 1 to 16."""
    signed: bool = False
    colour: Literal["grey", "colour reduced to grey"] = "grey"
    padding: float = 0.0
    """Share of the pixels that the file calls padding, which become black [0 to 1]."""
    modality_lut: Literal["none", "rescale", "table"] = "none"
    rescale: tuple[float, float] | None = None
    """Slope and intercept, where modality_lut is "rescale"."""
    voi_lut: Literal["none", "window", "table"] = "none"
    window: Window | None = None
    photometric: str | None = None
    """DICOM Photometric Interpretation or its TIFF counterpart."""
    presentation: str | None = None
    """DICOM Presentation LUT Shape."""
    polarity: Polarity = "as stored"
    """"turned over" where the header says that the smallest value is white."""
    exif_orientation: int = 1
    """1 to 8; the picture was turned by it (Exif 2.3, 4.6.4 A)."""
    spacing: Spacing | None = None
    view: ViewHints = ViewHints()
    burned_in: bool | None = None
    """DICOM Burned In Annotation: whether text in the pixels may name the patient."""
    steps: tuple[str, ...] = ()
    """What was done, in order, in words."""
    warnings: tuple[str, ...] = ()
    """What the user should look at."""

    def to_json(self) -> dict[str, Any]:
        """Lay the record out for JSON."""
        return asdict(self)

    @staticmethod
    def from_json(raw: dict[str, Any]) -> FilmRecord:
        """Take a record from the process that decoded the file, which is not trusted.

        Raises ImageError where it is not one.
        """
        try:
            _check_leaves(raw)
            parts = {
                "rescale": raw["rescale"] and tuple(raw["rescale"]),
                "window": raw["window"] and Window(**raw["window"]),
                "spacing": raw["spacing"] and Spacing(**raw["spacing"]),
                "view": ViewHints(**raw["view"]),
                "steps": tuple(raw["steps"]),
                "warnings": tuple(raw["warnings"]),
            }
            return FilmRecord(**{**raw, **parts})
        except (KeyError, TypeError, ValueError, RecursionError) as err:
            raise ImageError("the decoder's record is not one: do not trust this file") from err


def _check_leaves(value: object) -> None:
    """Raise ValueError for anything but short printable text, finite numbers and lists."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_leaves(item)
    elif isinstance(value, str):
        if len(value) > MAX_TEXT or not value.isprintable():
            raise ValueError("text")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("number")
    elif value is not None and not isinstance(value, (int, bool)):
        raise ValueError("type")

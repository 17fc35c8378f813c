"""Scans whose terms of use forbid what is done here are refused; there is no way around it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fcr_edge.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

TCIA_ROOT = "1.3.6.1.4.1.14519.5.2.1"
"""Root of the identifiers that The Cancer Imaging Archive gives to its files."""
TCIA_WORDS = re.compile(r"(?<![A-Za-z])TCIA(?![A-Za-z])|cancer[ _-]?imaging[ _-]?archive", re.I)
SOURCE_TAGS = (
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolName",
    "ClinicalTrialCoordinatingCenterName",
    "InstitutionName",
    "DeidentificationMethod",
)
WARNING = "the scan must be yours to use: a face made from it shows a real person"


def refuse_archive(found: str) -> DataError:
    """Build the error for a scan of The Cancer Imaging Archive."""
    return DataError(
        f"this scan comes from The Cancer Imaging Archive ({found}): TCIA's terms forbid making "
        "faces from its data that could identify participants, so give a scan that is yours to use"
    )


def check_text(text: str, where: str) -> None:
    """Raise DataError when a text that belongs to the scan names The Cancer Imaging Archive."""
    if TCIA_WORDS.search(text):
        raise refuse_archive(f"{where} says {text.strip()!r}")


def check_dataset(dataset: Dataset) -> None:
    """Raise DataError when a DICOM header shows that it passed through the archive."""
    for tag in SOURCE_TAGS:
        check_text(str(dataset.get(tag, "")), tag)
    for tag in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        uid = str(dataset.get(tag, ""))
        if uid == TCIA_ROOT or uid.startswith(TCIA_ROOT + "."):
            raise refuse_archive(f"{tag} is {uid}")
    creator = dataset.get((0x0013, 0x0010))
    collection = dataset.get((0x0013, 0x1010))
    if creator is not None and collection is not None and "CTP" in str(creator.value):
        name = collection.value
        shown = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        raise refuse_archive(f"collection {shown.strip()!r}")

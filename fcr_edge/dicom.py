"""DICOM in: one frame of a radiograph, as a display would show it, bright bone on black."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.errors import ImageError
from fcr_edge.imaging import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from jaxtyping import Float64, UInt16
    from pydicom import Dataset

MAGIC_OFFSET = 128
"""Bytes of preamble before the magic word (DICOM PS3.10, 7.1)."""
DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Deflated Explicit VR: inflates without limit when it is read, so it is refused unread."""
ADVICE = "save it as PNG or TIFF"


def is_dicom(data: bytes) -> bool:
    """Tell whether the bytes begin as a DICOM file does."""
    return data[MAGIC_OFFSET : MAGIC_OFFSET + 4] == b"DICM"


def decode(data: bytes, name: str) -> UInt16[np.ndarray, "h w"]:
    """Decode a radiograph: modality LUT, VOI LUT or window, then MONOCHROME1 turned over.

    The order is that of DICOM PS3.4, N.2. Nothing but the pixels is kept. The grey levels are
    spread over 0 to 65535. Raises ImageError for a file that is damaged, has several frames or
    colours, or is compressed in a way that cannot be read here.
    """
    if DEFLATED in data[: 64 * 1024]:
        raise ImageError(
            f"{name} is a deflated DICOM file, which may unpack without end: {ADVICE}"
        )
    dcmread = _import_reader(name)
    try:
        dataset = dcmread(io.BytesIO(data))
        _check_shape(dataset, name)
        return _spread(_apply_luts(dataset))
    except ImageError:
        raise
    except Exception as err:  # a damaged header raises any of a dozen types
        raise ImageError(f"{name} is a DICOM file that cannot be read ({err}): {ADVICE}") from err


def _import_reader(name: str) -> Callable[[BinaryIO], Dataset]:
    try:
        from pydicom import dcmread
    except ImportError as err:
        raise ImageError(f"{name} is a DICOM file: pip install 'fcr[dicom]', or {ADVICE}") from err
    return dcmread


def _check_shape(dataset: Dataset, name: str) -> None:
    frames, samples = int(dataset.get("NumberOfFrames", 1) or 1), int(dataset.SamplesPerPixel)
    if frames != 1 or samples != 1:
        raise ImageError(
            f"{name} has {frames} frames of {samples} colours: give one frame in grey"
        )
    if int(dataset.Rows) * int(dataset.Columns) > MAX_PIXELS:
        raise ImageError(
            f"{name} has {dataset.Columns} x {dataset.Rows} pixels, more than {MAX_PIXELS}:"
            " reduce it first"
        )


def _apply_luts(dataset: Dataset) -> Float64[np.ndarray, "h w"]:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    values = apply_modality_lut(dataset.pixel_array, dataset)
    shown = np.asarray(apply_voi_lut(values, dataset, prefer_lut=True), np.float64)
    return -shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


def _spread(shown: Float64[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    low, high = shown.min(), shown.max()
    unit: Float64[np.ndarray, "h w"] = (shown - low) / max(high - low, 1e-9)
    levels: UInt16[np.ndarray, "h w"] = np.rint(unit * 65535).astype(np.uint16)
    return levels

"""An X-ray file becomes grey levels with bright bone, and a record of every step on the way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fcr_edge import containers, dicom, imaging, sandbox
from fcr_edge.errors import FcrError, ImageError
from fcr_edge.film_record import FilmRecord

if TYPE_CHECKING:
    from pathlib import Path

HEADERS = {
    "PNG": containers.read_png,
    "JPEG": containers.read_jpeg,
    "TIFF": containers.read_tiff,
}
TURNED = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "turned 90 degrees clockwise and mirrored",
    6: "turned 90 degrees clockwise",
    7: "turned 90 degrees anticlockwise and mirrored",
    8: "turned 90 degrees anticlockwise",
}
"""Exif orientation -> what was done."""
MIRRORED = (2, 4, 5, 7)
DEPTHS = {"uint8": np.uint8, "uint16": np.uint16}


@dataclass(frozen=True)
class Xray:
    """An X-ray file, read: grey levels with bright bone as far as the header tells."""

    name: str
    """Stands for it in messages: the path as given."""
    sha256: str
    """Of the file, 64 hexadecimal digits."""
    pixels: imaging.GreyPicture
    """Upright, 8 or 16 bits, the full frame."""
    record: FilmRecord


def read_film(path: Path) -> Xray:
    """Read an X-ray: PNG, JPEG, TIFF, BMP, PGM, or DICOM with the extra `dicom`.

    It is decoded in a process of its own with limits (see sandbox.py), because files from outside
    are not to be trusted. Nothing that identifies the patient is kept.

    Raises ImageError for a file that is missing, too large, damaged, of several frames or pages,
    or of a format that cannot be read here.
    """
    data = imaging.read_file(path)
    facts, payload = sandbox.ask("read", data, str(path))
    pixels = _take_pixels(facts, payload, str(path))
    record = FilmRecord.from_json(facts["record"])
    return Xray(str(path), hashlib.sha256(data).hexdigest(), pixels, record)


def _take_pixels(facts: dict[str, Any], payload: bytearray, name: str) -> imaging.GreyPicture:
    """Check that what came back is a picture. Raises ImageError."""
    depth, shape = DEPTHS.get(str(facts.get("depth"))), facts.get("shape")
    try:
        pixels = np.frombuffer(payload, depth or np.uint8).reshape(shape)
    except (TypeError, ValueError, OverflowError) as err:
        raise ImageError(f"{name} gave no picture: do not trust this file") from err
    if depth is None or pixels.ndim != 2 or not isinstance(facts.get("record"), dict):
        raise ImageError(f"{name} gave no picture: do not trust this file")
    return pixels


def preload(data: bytes) -> None:
    """Import what the file takes, before rights are given up. Runs in the decoder."""
    imaging.use_one_thread()
    if dicom.is_dicom(data) and dicom.is_installed():
        dicom.preload()


def answer(data: bytes, name: str) -> tuple[dict[str, Any], memoryview]:
    """Decode a file for the process that asked. Runs in the decoder."""
    pixels, record = decode(data, name)
    facts = {"shape": pixels.shape, "depth": pixels.dtype.name, "record": record.to_json()}
    return facts, np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data


def decode(data: bytes, name: str) -> tuple[imaging.GreyPicture, FilmRecord]:
    """Decode the bytes of an X-ray file in this process; `name` stands for it in messages.

    Raises ImageError.
    """
    if dicom.is_dicom(data):
        return dicom.decode(data, name)
    file_format = imaging.recognise(data, name)
    header = _read_header(data, file_format, name)
    if header is None:  # BMP and PGM: nothing but pixels
        pixels = imaging.decode_grey(data, name)
        height, width = pixels.shape
        header = containers.Header(width, height, 8 * pixels.dtype.itemsize, 1)
    else:
        plain = containers.make_plain_tiff(data) if file_format == "TIFF" else data
        pixels = imaging.decode_grey(plain, name)
    if header.white_is_zero:
        pixels = np.invert(pixels)
    return imaging.turn_upright(pixels, header.orientation), _make_record(header, file_format)


def _read_header(data: bytes, file_format: imaging.Format, name: str) -> containers.Header | None:
    if file_format not in HEADERS:
        return None
    try:
        header = HEADERS[file_format](data)
    except FcrError as err:
        raise ImageError(f"{name}: {err}") from err
    imaging.check_size((header.height, header.width), name)
    if header.pages > 1:
        raise ImageError(
            f"{name} has {header.pages} pages: save the one to use as a file of its own"
        )
    return header


def _make_record(header: containers.Header, file_format: imaging.Format) -> FilmRecord:
    steps, warnings = [f"decoded: {file_format}"], []
    if header.channels > 1:
        steps.append("colour reduced to grey by ITU-R BT.601")
    if header.channels in (2, 4) and file_format == "PNG":
        warnings.append("the transparency of the file was dropped")
    if header.white_is_zero:
        steps.append("turned over: the file says that the smallest value is white")
    if header.orientation in TURNED:
        steps.append(
            f"{TURNED[header.orientation]}, as Exif orientation {header.orientation} says"
        )
    if header.orientation in MIRRORED:
        warnings.append(
            f"the file asks to be mirrored (Exif orientation {header.orientation}), which no"
            " camera does by itself: check which side is left"
        )
    return FilmRecord(
        container=file_format,
        width=header.width,
        height=header.height,
        bits=header.bits,
        colour="grey" if header.channels == 1 else "colour reduced to grey",
        photometric="WhiteIsZero" if header.white_is_zero else None,
        polarity="turned over" if header.white_is_zero else "as stored",
        exif_orientation=header.orientation,
        steps=tuple(steps),
        warnings=tuple(warnings),
    )

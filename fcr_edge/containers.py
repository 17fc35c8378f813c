"""What the headers of PNG, JPEG and TIFF say, read without decoding a pixel."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from fcr_edge.errors import ImageError

PNG_START = 8
"""Bytes before the first chunk of a PNG file."""
MAX_CHUNKS = 100_000
"""Chunks, segments or directories that are walked, at most."""
JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers that begin a frame (ITU-T T.81, table B.1)."""
TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""TIFF field type -> bytes of one value (TIFF 6.0, section 2)."""
ORIENTATION, PHOTOMETRIC, SUBFILE = 274, 262, 254
WHITE_IS_ZERO = 0
EXIF_START = b"Exif\0\0"


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself."""

    width: int
    height: int
    bits: int
    """A sample."""
    channels: int
    orientation: int = 1
    """Exif 1 to 8; 1 is upright."""
    white_is_zero: bool = False
    """A grey TIFF whose smallest value is white."""
    pages: int = 1
    """Pictures in the file, small previews not counted."""


@dataclass(frozen=True)
class Segment:
    """One JPEG marker with its payload and, after a scan's header, the coded data."""

    marker: int
    payload: bytes
    scan: bytes = b""


@dataclass(frozen=True)
class Field:
    """One entry of a TIFF directory."""

    tag: int
    kind: int
    values: bytes
    """As stored, in the file's byte order."""
    entry: int
    """Offset of the entry in the file [bytes]."""


def read_png(data: bytes) -> Header:
    """Read IHDR and eXIf (PNG, third edition, 11.2.1 and 11.3.3.7). Raises ImageError."""
    header, orientation = b"", 1
    for name, body in walk_png(data):
        if name == b"IHDR":
            header = body
        elif name == b"eXIf":
            orientation = _read_exif(body)
    if len(header) != 13:
        raise _damaged("PNG")
    width, height, bits, kind = struct.unpack(">IIBB", header[:10])
    return Header(width, height, bits, {0: 1, 3: 3, 4: 2, 6: 4}.get(kind, 3), orientation)


def walk_png(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk's name and body up to IEND. Raises ImageError where one is cut off."""
    at = PNG_START
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            break
        (length,) = struct.unpack_from(">I", data, at)
        name = data[at + 4 : at + 8]
        if at + 12 + length > len(data):
            break
        yield name, data[at + 8 : at + 8 + length]
        if name == b"IEND":
            return
        at += 12 + length
    raise _damaged("PNG")


def read_jpeg(data: bytes) -> Header:
    """Read the frame header and the Exif orientation (ITU-T T.81, B.2.2). Raises ImageError."""
    orientation = 1
    for segment in walk_jpeg(data):
        if segment.marker == 0xE1 and segment.payload.startswith(EXIF_START):
            orientation = _read_exif(segment.payload[len(EXIF_START) :])
        if segment.marker in JPEG_FRAMES and len(segment.payload) >= 6:
            bits, height, width, channels = struct.unpack(">BHHB", segment.payload[:6])
            return Header(width, height, bits, channels, orientation)
    raise _damaged("JPEG")


def walk_jpeg(data: bytes) -> Iterator[Segment]:
    """Yield each segment between SOI and EOI. Raises ImageError where one is cut off."""
    at = 2
    for _ in range(MAX_CHUNKS):
        while data[at : at + 2] == b"\xff\xff":  # fill bytes (B.1.1.2)
            at += 1
        if at + 2 > len(data) or data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xD9:
            return
        if at + 4 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if length < 2 or end > len(data):
            break
        payload = data[at + 4 : end]
        at = _end_of_scan(data, end) if marker == 0xDA else end
        yield Segment(marker, payload, data[end:at])
    raise _damaged("JPEG")


def _end_of_scan(data: bytes, start: int) -> int:
    """Find the marker after coded data: FF not followed by 00 or by a restart marker."""
    at = start
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise _damaged("JPEG")
        following = data[at + 1]
        if following != 0 and following != 0xFF and not 0xD0 <= following <= 0xD7:
            return at
        at += 1 if following == 0xFF else 2


def read_tiff(data: bytes) -> Header:
    """Read the first directory and count the pages (TIFF 6.0, section 2). Raises ImageError."""
    pages = list(walk_tiff(data))
    if not pages:
        raise _damaged("TIFF")
    first = {field.tag: field for field in pages[0]}
    order = tiff_order(data)
    width, height, bits, channels, photometric, orientation = (
        _first_value(first.get(tag), order, default)
        for tag, default in (
            (256, 0),
            (257, 0),
            (258, 1),
            (277, 1),
            (PHOTOMETRIC, 1),
            (ORIENTATION, 1),
        )
    )
    whole = sum(not _first_value(_find(page, SUBFILE), order, 0) & 1 for page in pages)
    return Header(
        width,
        height,
        bits,
        channels,
        orientation if 1 <= orientation <= 8 else 1,
        photometric == WHITE_IS_ZERO and channels == 1,
        max(whole, 1),
    )


def make_plain_tiff(data: bytes) -> bytes:
    """Say upright and smallest-is-black in the first directory, where it says otherwise.

    OpenCV turns a TIFF by its own rules, and turns white-is-zero over with 8 bits but not with 16.
    """
    plain = bytearray(data)
    order = tiff_order(data)
    for field in next(walk_tiff(data)):
        if field.tag in (ORIENTATION, PHOTOMETRIC) and field.kind in (3, 4):
            value = _first_value(field, order, 1)
            if field.tag == ORIENTATION or value == WHITE_IS_ZERO:
                struct.pack_into(order + {3: "H", 4: "I"}[field.kind], plain, field.entry + 8, 1)
    return bytes(plain)


def tiff_order(data: bytes) -> str:
    """Tell the byte order of a TIFF file, "<" or ">"."""
    return "<" if data.startswith(b"II") else ">"


def walk_tiff(data: bytes) -> Iterator[list[Field]]:
    """Yield the fields of each directory of the chain. Raises ImageError where one is cut off."""
    order = tiff_order(data)
    try:
        (at,) = struct.unpack_from(order + "I", data, 4)
        seen: set[int] = set()
        while at:
            if at in seen or len(seen) >= MAX_CHUNKS:
                raise _damaged("TIFF")
            seen.add(at)
            (count,) = struct.unpack_from(order + "H", data, at)
            yield [_read_field(data, order, at + 2 + 12 * i) for i in range(count)]
            (at,) = struct.unpack_from(order + "I", data, at + 2 + 12 * count)
    except struct.error as err:
        raise _damaged("TIFF") from err


def _read_field(data: bytes, order: str, entry: int) -> Field:
    tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
    size = TIFF_SIZES.get(kind, 0) * count
    (offset,) = struct.unpack_from(order + "I", data, entry + 8)
    start = entry + 8 if size <= 4 else offset
    return Field(tag, kind, data[start : start + size], entry)


def read_numbers(field: Field, order: str) -> tuple[int, ...]:
    """Read the values of a field of bytes, 16-bit or 32-bit numbers; none of another kind."""
    letter = {1: "B", 3: "H", 4: "I"}.get(field.kind)
    if letter is None:
        return ()
    count = len(field.values) // TIFF_SIZES[field.kind]
    return struct.unpack_from(f"{order}{count}{letter}", field.values)


def _first_value(field: Field | None, order: str, default: int) -> int:
    numbers = read_numbers(field, order) if field else ()
    return numbers[0] if numbers else default


def _find(fields: list[Field], tag: int) -> Field | None:
    return next((field for field in fields if field.tag == tag), None)


def _read_exif(body: bytes) -> int:
    """Read the orientation from Exif, which is a small TIFF; 1 where it says none."""
    try:
        field = _find(next(walk_tiff(body), []), ORIENTATION)
    except ImageError:
        return 1
    value = _first_value(field, tiff_order(body), 1)
    return value if 1 <= value <= 8 else 1


def _damaged(file_format: str) -> ImageError:
    return ImageError(f"it is a damaged or truncated {file_format} file: get a fresh copy")

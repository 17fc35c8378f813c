"""File to array to tensor to image: all pixel arithmetic, in the field and in training."""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Literal

import numpy as np

from fcr_edge.errors import ImageError

# OpenCV reads its own limit once, at import. A header may lie, so this stands behind `check_size`.
MAX_PIXELS = 120_000_000
"""Pixels in a picture, at most: a 43 x 35 cm detector at 0.04 mm a pixel has 94 million."""
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_PIXELS)

import cv2  # noqa: E402

# Each failure below becomes an ImageError; OpenCV's own lines beside it would only confuse.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

Format = Literal["PNG", "JPEG", "TIFF", "BMP", "PGM"]

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jaxtyping import Bool, Float32, Float64, Int64, UInt8, UInt16

    from fcr_edge.manifest import TensorSpec

    Picture = UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w c"]
    GreyPicture = UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]
    RawPicture = Picture | UInt16[np.ndarray, "h w"] | UInt16[np.ndarray, "h w c"]
    Mask = Bool[np.ndarray, "h w"]
    Size = tuple[int, int]
    Colour = tuple[int, int, int]

BLOCK = 1 << 18
"""Pixels that are looked up at a time."""
MAX_SAMPLES = 16
"""Samples along each side of a pixel that is drawn from much smaller ones, at most."""
MAX_FILE_BYTES = 512 * 1024 * 1024
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_COMPRESSION = 4
"""zlib level; 9 takes more than twice as long to save 1 % of a portrait."""
FORMATS: dict[bytes, Format] = {
    PNG_MAGIC: "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"BM": "BMP",
    b"P5": "PGM",
}
"""First bytes of the formats read. OpenCV would read more; fewer decoders are fewer holes."""
READ_FLAGS = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
"""Keep 16 bits, grey or colour as stored, and turn as EXIF says. IMREAD_UNCHANGED would not turn;
the grey and colour modes would shift 12 bits stored in 16 down to black."""
LUMA_FLAGS = cv2.IMREAD_GRAYSCALE
"""Take a JPEG's luma as it is stored: the same grey as by way of RGB, in a quarter of the time."""
TURNS: dict[int, tuple[int | None, int | None]] = {
    1: (None, None),
    2: (None, 1),
    3: (cv2.ROTATE_180, None),
    4: (None, 0),
    5: (cv2.ROTATE_90_CLOCKWISE, 1),
    6: (cv2.ROTATE_90_CLOCKWISE, None),
    7: (cv2.ROTATE_90_COUNTERCLOCKWISE, 1),
    8: (cv2.ROTATE_90_COUNTERCLOCKWISE, None),
}
"""Exif orientation -> the turn, then the mirroring, that make it upright (Exif 2.3, 4.6.4 A)."""


def read_picture(path: Path) -> RawPicture:
    """Read a picture file as it was stored, grey (h w) or RGB (h w 3), 8 or 16 bits a channel.

    Raises ImageError for a missing, oversized, unknown or damaged file.
    """
    return decode_picture(read_file(path), str(path))


def read_file(path: Path) -> bytes:
    """Read a picture file's bytes, once: what is decoded is what was hashed. Raises ImageError."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ImageError(f"{path} is not a file: give the path of a picture")
        if size > MAX_FILE_BYTES:
            raise ImageError(f"{path} has {size} bytes, more than {MAX_FILE_BYTES}: reduce it")
        return path.read_bytes()
    except OSError as err:
        raise ImageError(f"cannot read {path}: {err.strerror}: check the path") from err


def decode_picture(data: bytes, name: str) -> RawPicture:
    """Decode the bytes of a picture file; `name` stands for it in messages.

    EXIF orientation of a JPEG is applied. An alpha channel is dropped. Raises ImageError.
    """
    file_format = recognise(data, name)
    check_size(_header_size(data, file_format), name)
    return _to_rgb_order(_decode(data, name, file_format, READ_FLAGS))


def decode_grey(data: bytes, name: str) -> GreyPicture:
    """Decode the bytes of a picture file to one channel, as stored: not turned. Raises ImageError.

    Colour is reduced by the luma weights of ITU-R BT.601. The caller checks the size first.
    """
    file_format = recognise(data, name)
    flags = LUMA_FLAGS if file_format == "JPEG" else READ_FLAGS
    picture = _decode(data, name, file_format, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    return to_grey(_to_rgb_order(picture))


def _decode(data: bytes, name: str, file_format: str, flags: int) -> RawPicture:
    """Decode with OpenCV, channels in its blue, green, red order."""
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as err:
        raise ImageError(f"{name} cannot be decoded as {file_format}: {err.err}") from err
    if picture is None:
        raise ImageError(f"{name} is a damaged or truncated {file_format} file: get a fresh copy")
    check_size(picture.shape[:2], name)
    return _check_depth(picture, name)


def use_one_thread() -> None:
    """Keep OpenCV from starting threads, for a process that may not have any."""
    cv2.setNumThreads(1)


def turn_upright(picture: GreyPicture, orientation: int) -> GreyPicture:
    """Turn a picture by its Exif orientation, 1 (upright already) to 8."""
    turn, mirror = TURNS[orientation]
    turned = picture if turn is None else cv2.rotate(picture, turn)
    return turned if mirror is None else cv2.flip(turned, mirror)


def recognise(data: bytes, name: str) -> Format:
    """Tell a file's format by its first bytes. Raises ImageError for one that is not read."""
    for magic, file_format in FORMATS.items():
        if data.startswith(magic):
            return file_format
    known = ", ".join(sorted(set(FORMATS.values())))
    raise ImageError(f"{name} is not a picture that FCR reads: convert it to one of {known}")


def _header_size(data: bytes, file_format: str) -> Size | None:
    """Read height and width where the header is simple; OpenCV's limit covers the rest."""
    if file_format == "PNG" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    if file_format == "BMP" and len(data) >= 26:
        width, height = struct.unpack("<ii", data[18:26])
        return abs(height), abs(width)
    return None


def check_size(size: Size | None, name: str) -> None:
    """Refuse more pixels than MAX_PIXELS before they are decoded. Raises ImageError."""
    if size is None:
        return
    height, width = size
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width} x {height} pixels, more than {MAX_PIXELS}: reduce it first"
        )


def _check_depth(picture: np.ndarray, name: str) -> RawPicture:
    if picture.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"{name} stores {picture.dtype} values: save it with 8 or 16 bits a channel"
        )
    return picture


def _to_rgb_order(picture: RawPicture) -> RawPicture:
    return picture if picture.ndim == 2 else np.ascontiguousarray(picture[:, :, ::-1])


def to_grey(picture: Picture) -> UInt8[np.ndarray, "h w"]:
    """Reduce to one channel by the luma weights of ITU-R BT.601; a grey picture stays as it is."""
    flat = _drop_single_channel(picture)
    return flat if flat.ndim == 2 else cv2.cvtColor(flat, cv2.COLOR_RGB2GRAY)


def to_rgb(picture: Picture) -> UInt8[np.ndarray, "h w 3"]:
    """Widen a grey picture to three equal channels; an RGB picture stays as it is."""
    flat = _drop_single_channel(picture)
    return np.repeat(flat[:, :, None], 3, axis=2) if flat.ndim == 2 else flat


def count_levels(picture: GreyPicture) -> Int64[np.ndarray, " n"]:
    """Count the pixels of each grey level, 256 or 65536 of them."""
    levels = int(np.iinfo(picture.dtype).max) + 1
    counts = cv2.calcHist([picture], [0], None, [levels], [0, levels])
    return np.asarray(counts).reshape(-1).astype(np.int64)


def look_up(
    table: UInt8[np.ndarray, " n"] | UInt16[np.ndarray, " n"], picture: GreyPicture
) -> GreyPicture:
    """Replace each grey level by its entry in a table of 256 or 65536."""
    if picture.dtype == np.uint8:
        return cv2.LUT(picture, table)
    found = np.empty(picture.shape, table.dtype)
    rows = max(1, BLOCK // max(1, picture.shape[1]))
    for start in range(0, len(picture), rows):  # numpy widens indices to 64 bits: in blocks
        np.take(table, picture[start : start + rows], out=found[start : start + rows], mode="clip")
    return found


def _drop_single_channel(picture: Picture) -> Picture:
    return picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture


def resize(picture: Picture, size: Size) -> Picture:
    """Resize to (height, width): area averaging when shrinking, bilinear when growing.

    The one resizer of the project. OpenCV's bilinear does not antialias: on film grain it differs
    from area averaging by 3.5 grey levels on average when 1024 pixels become 256.
    """
    height, width = size
    if picture.shape[:2] == size:
        return picture
    shrinks = height * width < picture.shape[0] * picture.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(picture, (width, height), interpolation=method)
    return resized.reshape(height, width, *picture.shape[2:])


def resample(
    picture: GreyPicture, to_source: Float64[np.ndarray, "3 3"], size: Size
) -> Float32[np.ndarray, "h w"]:
    """Draw a turned, scaled, shifted picture of (height, width) from its source, once.

    `to_source` maps places of the new picture to places of the source, both counted from the upper
    left corner, so that a first pixel's centre is (.5, .5). Each new pixel is the mean of the
    source over it, on a grid at most two source pixels wide; what lies outside is 0.
    """
    height, width = size
    step = float(np.sqrt(abs(np.linalg.det(to_source[:2, :2]))))
    fine = min(max(1, int(np.ceil(step / 2))), MAX_SAMPLES)
    inverse = to_source @ np.diag([1 / fine, 1 / fine, 1])
    inverse = inverse.copy()
    inverse[:2, 2] += inverse[:2, :2].sum(axis=1) / 2 - 0.5  # corners to centres
    drawn = cv2.warpAffine(
        picture,
        inverse[:2],
        (width * fine, height * fine),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return np.asarray(resize(drawn, size), np.float32)


def pad_to_square(picture: Picture, fill: Literal["black", "edge"]) -> Picture:
    """Centre the picture on a square of its longer side, around it black or its edge repeated."""
    height, width = picture.shape[:2]
    rows, columns = max(width - height, 0), max(height - width, 0)
    margins = [(rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0)]
    mode: Literal["constant", "edge"] = "constant" if fill == "black" else "edge"
    return np.pad(picture, margins[: picture.ndim], mode=mode)


def blur(values: Float32[np.ndarray, "h w"], sigma: float) -> Float32[np.ndarray, "h w"]:
    """Blur with a Gaussian of standard deviation `sigma` [pixels, above 0], edges replicated."""
    return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def open_bright(values: Float32[np.ndarray, "h w"], diameter: int) -> Float32[np.ndarray, "h w"]:
    """Remove what is bright and narrower than a disc of `diameter` [pixels]: a grey opening."""
    return cv2.morphologyEx(values, cv2.MORPH_OPEN, _disc(diameter))


def find_threshold(levels: Float32[np.ndarray, " n"]) -> float:
    """Find the level in [0, 1] that best parts dark from bright: Otsu 1979, on 256 levels."""
    counted = np.rint(levels * 255).astype(np.uint8)[None]
    threshold, _ = cv2.threshold(counted, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(threshold) / 255


def keep_large_regions(mask: Mask, share: float) -> Mask:
    """Keep connected regions (8 neighbours) of at least `share` (0 to 1) of the largest's area."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = statistics[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # the background
    return np.asarray((areas >= share * areas.max())[labels] & mask)


def fill_holes(mask: Mask) -> Mask:
    """Fill what the mask encloses; a bay open to the picture's border is no hole."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, labels = cv2.connectedComponents(outside, connectivity=4)
    return np.asarray(labels[1:-1, 1:-1] != labels[0, 0])


def keep_touching(mask: Mask, seed: Mask) -> Mask:
    """Keep connected regions (8 neighbours) of the mask that hold a pixel of the seed."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    touched = np.unique(labels[mask & seed])
    return np.asarray(np.isin(labels, touched) & mask)


def fill_hull(places: Float64[np.ndarray, "l 2"], size: Size) -> Mask:
    """Fill the convex hull of places (columns first, from the corner) in (height, width)."""
    hull = cv2.convexHull(np.floor(places).astype(np.int32))
    filled = np.zeros(size, np.uint8)
    return np.asarray(cv2.fillConvexPoly(filled, hull, 1) > 0)


def draw_disc(
    picture: UInt8[np.ndarray, "h w 3"], place: Size, radius: int, colour: Colour
) -> None:
    """Fill a disc into the picture, its centre at (row, column) [pixels]."""
    row, column = place
    cv2.circle(picture, (column, row), radius, colour, cv2.FILLED, cv2.LINE_AA)


def draw_line(
    picture: UInt8[np.ndarray, "h w 3"], start: Size, end: Size, colour: Colour, width: int = 1
) -> None:
    """Draw a straight line between two places (row, column) [pixels]."""
    cv2.line(picture, start[::-1], end[::-1], colour, width, cv2.LINE_AA)


def dilate(mask: Mask, diameter: int) -> Mask:
    """Grow the mask by a disc of `diameter` [pixels]."""
    return np.asarray(cv2.dilate(mask.astype(np.uint8), _disc(diameter)) > 0)


def erode(mask: Mask, diameter: int) -> Mask:
    """Shrink the mask by a disc of `diameter` [pixels]; the picture's border is no edge."""
    return np.asarray(cv2.erode(mask.astype(np.uint8), _disc(diameter)) > 0)


def _disc(diameter: int) -> UInt8[np.ndarray, "d d"]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))


def to_tensor(
    picture: UInt8[np.ndarray, "h w c"], spec: TensorSpec
) -> Float32[np.ndarray, "1 c h w"]:
    """Resize to the size in `spec` and map 0..255 onto spec.low..spec.high.

    Raises ImageError where the number of channels differs from the specification's.
    """
    if picture.ndim != 3 or picture.shape[2] != spec.channels:
        raise ImageError(
            f"a picture of shape {picture.shape} was given to a network that takes"
            f" {spec.channels} channels: convert it with to_grey or to_rgb"
        )
    sized = resize(picture, (spec.height, spec.width))
    scaled = sized.astype(np.float32) * np.float32((spec.high - spec.low) / 255) + np.float32(
        spec.low
    )
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def to_picture(
    tensor: Float32[np.ndarray, "c h w"], spec: TensorSpec
) -> UInt8[np.ndarray, "h w c"]:
    """Map spec.low..spec.high onto 0..255, clipped and rounded: the inverse of `to_tensor`."""
    unit = (tensor - np.float32(spec.low)) / np.float32(spec.high - spec.low)
    levels: UInt8[np.ndarray, "c h w"] = np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def draw_text(
    picture: UInt8[np.ndarray, "h w 3"],
    text: str,
    corner: Size,
    colour: Colour,
    scale: float = 0.4,
) -> None:
    """Write one line into the picture, its lower left corner at (row, column) [pixels].

    Takes ASCII; other letters become question marks. A capital is about 22 x `scale` pixels high.
    """
    row, column = corner
    line = text.encode("ascii", "replace").decode()
    cv2.putText(
        picture, line, (column, row), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA
    )


def encode_png(picture: Picture, text: Mapping[str, str] | None = None) -> bytes:
    """Encode as PNG with `text` as tEXt chunks (Latin-1); equal pictures, equal bytes."""
    data = _encode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
    chunks = b"".join(_text_chunk(key, value) for key, value in (text or {}).items())
    header_end = len(PNG_MAGIC) + 25  # the IHDR chunk: length, type, 13 bytes, checksum
    return data[:header_end] + chunks + data[header_end:]


def encode_jpeg(picture: Picture, quality: int = 90) -> bytes:
    """Encode as baseline JPEG of `quality` (1 to 100)."""
    return _encode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encode(extension: str, picture: Picture, options: list[int]) -> bytes:
    flat = _drop_single_channel(picture)
    stored = flat if flat.ndim == 2 else np.ascontiguousarray(flat[:, :, ::-1])
    _, data = cv2.imencode(extension, stored, options)
    return data.tobytes()


def _text_chunk(key: str, value: str) -> bytes:
    """Build one tEXt chunk (PNG specification, third edition, 11.3.3.3)."""
    body = b"tEXt" + key.encode("latin-1") + b"\0" + value.encode("latin-1", "replace")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def write_png(path: Path, picture: Picture, text: Mapping[str, str] | None = None) -> None:
    """Write a PNG file with `text` as tEXt chunks. Raises ImageError where that is impossible."""
    try:
        path.write_bytes(encode_png(picture, text))
    except OSError as err:
        raise ImageError(
            f"cannot write {path}: {err.strerror}: choose a folder that can be written"
        ) from err

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fcr_edge import containers, film, imaging, reading
from fcr_edge.errors import ImageError
from fcr_edge.film_record import FilmRecord, Spacing, Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

cv2 = imaging.cv2
TALL = (90, 70)


def make_picture(depth: type = np.uint8) -> np.ndarray:
    """Draw a picture whose eight turns all differ."""
    y, x = np.mgrid[: TALL[0], : TALL[1]]
    levels = (y * 2 + x % 7 * 3 + (x > 50) * 20).astype(depth)
    return levels * 200 if depth is np.uint16 else levels


def make_exif(orientation: int, order: str = "<") -> bytes:
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(
        order + "HIHHHIHHI", 42, 8, 1, containers.ORIENTATION, 3, 1, orientation, 0, 0
    )


def make_png(picture: np.ndarray, orientation: int) -> bytes:
    data = imaging.encode_png(picture)
    body = b"eXIf" + make_exif(orientation)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]


def make_jpeg(picture: np.ndarray, orientation: int) -> bytes:
    data = imaging.encode_jpeg(picture, 100)
    payload = containers.EXIF_START + make_exif(orientation, ">")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]


def make_tiff(
    pictures: list[np.ndarray], order: str = "<", orientation: int = 1, **fields: int
) -> bytes:
    """Write an uncompressed grey TIFF of one strip a page, by hand."""
    parts, at = [(b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)], 8
    for number, picture in enumerate(pictures):
        height, width = picture.shape
        bits = 8 * picture.dtype.itemsize
        values = {
            254: fields.get(f"subfile_{number}", 0), 256: width, 257: height, 258: bits, 259: 1,
            262: fields.get("photometric", 1), 273: at + 2 + 12 * 11 + 4, 274: orientation,
            277: 1, 278: height, 279: picture.nbytes,
        }  # fmt: skip
        body = picture.astype(picture.dtype.newbyteorder(order)).tobytes()
        body += bytes(len(body) % 2)
        at += 2 + 12 * len(values) + 4 + len(body)
        entries = b"".join(
            struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in values.items()
        )
        following = at if number + 1 < len(pictures) else 0
        parts += [struct.pack(order + "H", len(values)), entries]
        parts += [struct.pack(order + "I", following), body]
    return b"".join(parts)


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).T,
    8: np.rot90,
}
"""Exif orientation -> what makes the picture upright (Exif 2.3, 4.6.4 A)."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "tiff 16 bits, big-endian"])
def test_exif_turns_are_applied_and_recorded(kind: str, orientation: int) -> None:
    picture = make_picture(np.uint16 if "16" in kind else np.uint8)
    data = {
        "png": lambda: make_png(picture, orientation),
        "jpeg": lambda: make_jpeg(picture, orientation),
        "tiff": lambda: make_tiff([picture], orientation=orientation),
        "tiff 16 bits, big-endian": lambda: make_tiff([picture], ">", orientation),
    }[kind]()

    pixels, record = reading.decode(data, "film")

    wanted = TURNS[orientation](picture)
    assert pixels.shape == wanted.shape
    assert np.abs(pixels.astype(int) - wanted).max() <= (3 if kind == "jpeg" else 0)
    assert record.exif_orientation == orientation
    assert (record.width, record.height) == TALL[::-1]
    assert any("as Exif orientation" in step for step in record.steps) == (orientation != 1)
    assert any("mirrored" in warning for warning in record.warnings) == (
        orientation in (2, 4, 5, 7)
    )


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(orientation: int) -> None:
    picture = make_picture()

    pixels, record = reading.decode(make_png(picture, orientation), "film")

    assert np.array_equal(pixels, picture)
    assert record.exif_orientation == 1


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_whose_smallest_value_is_white_is_turned_over(depth: type, order: str) -> None:
    picture = make_picture(depth)

    plain, as_stored = reading.decode(make_tiff([picture], order), "film")
    negative = make_tiff([np.invert(picture)], order, photometric=0)
    turned, record = reading.decode(negative, "film")

    assert np.array_equal(plain, picture)
    assert np.array_equal(turned, picture)
    assert (as_stored.polarity, record.polarity) == ("as stored", "turned over")


def test_a_tiff_of_several_pages_is_refused_with_advice() -> None:
    with pytest.raises(ImageError, match=r"2 pages: save the one to use"):
        reading.decode(make_tiff([make_picture(), make_picture()]), "film.tif")


def test_a_preview_beside_the_page_of_a_tiff_does_not_matter() -> None:
    data = make_tiff([make_picture(), make_picture()[:40]], subfile_1=1)

    assert np.array_equal(reading.decode(data, "film.tif")[0], make_picture())


def test_a_tiff_whose_directories_form_a_ring_is_refused() -> None:
    data = bytearray(make_tiff([make_picture()]))
    struct.pack_into("<I", data, 8 + 2 + 12 * 11, 8)

    with pytest.raises(ImageError, match="damaged"):
        reading.decode(bytes(data), "film.tif")


@pytest.mark.parametrize(
    ("data", "bits"),
    [
        pytest.param(imaging.encode_png(make_picture()), 8, id="PNG"),
        pytest.param(imaging.encode_png(make_picture(np.uint16)), 16, id="PNG, 16 bits"),
        pytest.param(imaging.encode_jpeg(make_picture(), 100), 8, id="JPEG"),
        pytest.param(make_tiff([make_picture(np.uint16)]), 16, id="TIFF"),
        pytest.param(cv2.imencode(".bmp", make_picture())[1].tobytes(), 8, id="BMP"),
        pytest.param(cv2.imencode(".pgm", make_picture(np.uint16))[1].tobytes(), 16, id="PGM"),
    ],
)
def test_each_container_gives_the_same_film(data: bytes, bits: int) -> None:
    pixels, record = reading.decode(data, "film")

    wanted = film.standardise(make_picture()).astype(int)
    assert np.abs(film.standardise(pixels).astype(int) - wanted).max() <= 3
    assert (record.bits, record.colour, record.spacing) == (bits, "grey", None)


def test_colour_is_reduced_to_grey_and_recorded() -> None:
    colour = np.stack([make_picture(), make_picture()[::-1], make_picture() // 2], axis=2)

    for data in (imaging.encode_png(colour), imaging.encode_jpeg(colour, 100)):
        pixels, record = reading.decode(data, "film")

        assert np.abs(pixels.astype(int) - imaging.to_grey(colour)).mean() < 2
        assert record.colour == "colour reduced to grey"


def test_a_jpeg_stored_as_colour_gives_the_grey_of_its_luma() -> None:
    data = imaging.encode_jpeg(imaging.to_rgb(make_picture()), 95)

    pixels, _ = reading.decode(data, "film")

    assert np.array_equal(pixels, imaging.to_grey(imaging.decode_picture(data, "film")))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(make_tiff([make_picture()]), id="TIFF"),
        pytest.param(imaging.encode_png(make_picture()), id="PNG"),
        pytest.param(imaging.encode_jpeg(make_picture()), id="JPEG"),
    ],
)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.95])
def test_a_torn_file_is_refused_by_name(data: bytes, share: float) -> None:
    with pytest.raises(ImageError, match=r"film\.x"):
        reading.decode(data[: max(8, int(share * len(data)))], "film.x")


def test_a_header_that_promises_too_much_is_refused_before_it_is_decoded() -> None:
    tiff = bytearray(make_tiff([make_picture()]))
    struct.pack_into("<I", tiff, 8 + 2 + 12 + 8, 60_000)
    struct.pack_into("<I", tiff, 8 + 2 + 24 + 8, 60_000)
    jpeg = bytearray(imaging.encode_jpeg(make_picture()))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, 60_000, 60_000)

    for data in (tiff, jpeg):
        with pytest.raises(ImageError, match=r"60000 x 60000"):
            reading.decode(bytes(data), "film")


def test_read_film_hands_over_what_was_decoded(tmp_path: Path) -> None:
    data = make_tiff([make_picture(np.uint16)], orientation=6)
    (tmp_path / "film.tif").write_bytes(data)

    xray = reading.read_film(tmp_path / "film.tif")

    pixels, record = reading.decode(data, "film.tif")
    assert np.array_equal(xray.pixels, pixels)
    assert xray.record == record
    assert len(xray.sha256) == 64


@pytest.mark.parametrize("name", ["absent.png", "."])
def test_what_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"check the path|not a file"):
        reading.read_film(tmp_path / name)


RECORD = FilmRecord(
    container="DICOM",
    width=10,
    height=20,
    bits=12,
    rescale=(2.0, -50.0),
    window=Window(40, 400, "LINEAR", 2),
    spacing=Spacing(0.1, 0.1, "calibrated", None),
    steps=("decoded",),
    warnings=("look",),
)


def test_a_record_survives_json() -> None:
    assert FilmRecord.from_json(json.loads(json.dumps(RECORD.to_json()))) == RECORD


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"steps": ["\x1b[2J"]}, id="control characters"),
        pytest.param({"steps": ["a" * 10_000]}, id="long text"),
        pytest.param({"padding": float("nan")}, id="no number"),
        pytest.param({"patient": "Doe"}, id="unknown key"),
        pytest.param({"window": {"center": 1}}, id="half a window"),
        pytest.param({"view": None}, id="no view"),
    ],
)
def test_a_record_of_another_shape_is_refused(change: dict[str, object]) -> None:
    raw = json.loads(json.dumps(RECORD.to_json()))

    with pytest.raises(ImageError, match="do not trust"):
        FilmRecord.from_json({**raw, **change})

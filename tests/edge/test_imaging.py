from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcr_edge import imaging
from fcr_edge.errors import ImageError
from fcr_edge.manifest import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

SPEC = TensorSpec("face", channels=3, height=8, width=8, low=-1, high=1)


def make_picture(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def make_png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return imaging.PNG_MAGIC + chunk


def test_png_round_trip_keeps_pixels_and_text(tmp_path: Path) -> None:
    picture = make_picture(5, 7)

    imaging.write_png(tmp_path / "a.png", picture, {"Generated": "by FCR"})

    assert np.array_equal(imaging.read_picture(tmp_path / "a.png"), picture)
    assert b"tEXtGenerated\0by FCR" in (tmp_path / "a.png").read_bytes()


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    cv2 = imaging.cv2
    picture = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())

    read = imaging.read_picture(tmp_path / "a.png")

    assert read.dtype == np.uint16
    assert np.array_equal(read, picture)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("encode", [imaging.encode_png, imaging.encode_jpeg])
def test_truncated_file_is_refused(share: float, encode: object) -> None:
    data = encode(make_picture(64, 64))  # type: ignore[operator]

    with pytest.raises(ImageError, match=r"a\.x"):
        imaging.decode_picture(data[: int(len(data) * share)], "a.x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "not a picture", id="empty"),
        pytest.param(b"a letter\n", "convert it to one of", id="text named png"),
        pytest.param(make_png_header(20_000, 20_000), "20000 x 20000", id="huge"),
    ],
)
def test_what_is_no_picture_is_refused_with_advice(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        imaging.decode_picture(data, "film.png")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(ImageError, match=str(path)):
            imaging.read_picture(path)


def test_unwritable_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot write"):
        imaging.write_png(tmp_path / "absent" / "a.png", make_picture(4, 4))


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), magic=st.sampled_from([*imaging.FORMATS, b""]))
def test_any_bytes_are_a_picture_or_an_image_error(data: bytes, magic: bytes) -> None:
    try:
        picture = imaging.decode_picture(magic + data, "fuzz")
    except ImageError:
        return
    assert picture.dtype in (np.uint8, np.uint16)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_tensor_and_picture_are_inverse(seed: int) -> None:
    picture = make_picture(8, 8, seed=seed)

    tensor = imaging.to_tensor(picture, SPEC)

    assert tensor.dtype == np.float32
    assert -1 <= tensor.min() <= tensor.max() <= 1
    assert np.array_equal(imaging.to_picture(tensor[0], SPEC), picture)


def test_picture_clips_what_a_network_overshoots() -> None:
    tensor = np.full((3, 8, 8), 1.7, np.float32)

    assert (imaging.to_picture(tensor, SPEC) == 255).all()


def test_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(ImageError, match="3 channels"):
        imaging.to_tensor(make_picture(8, 8, channels=1), SPEC)


def test_shrinking_averages_and_keeps_the_mean() -> None:
    picture = make_picture(64, 64, channels=1)

    small = imaging.resize(picture, (8, 8))

    blocks = picture.reshape(8, 8, 8, 8).mean(axis=(1, 3))
    assert small.shape == (8, 8, 1)
    assert np.abs(small[:, :, 0] - blocks).max() <= 1


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (7, 7)])
def test_square_keeps_every_pixel_in_the_centre(shape: tuple[int, int]) -> None:
    picture = np.full(shape, 9, np.uint8)

    black, edge = (imaging.pad_to_square(picture, fill) for fill in ("black", "edge"))

    side = max(shape)
    assert black.shape == edge.shape == (side, side)
    assert black.sum() == picture.sum()
    assert (edge == 9).all()

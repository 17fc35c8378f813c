"""Mutated films: each gives a film or one clear ImageError, within its time and memory."""

from __future__ import annotations

import io
import json
import struct
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fcr_edge import deidentify, imaging, reading, sandbox
from fcr_edge.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    Mutation = Callable[[bytes, np.random.Generator], bytes]

pydicom = pytest.importorskip("pydicom", reason="pydicom (extra dicom) absent: skipped")

SEED = 20_260
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF)
GIGABYTE = 1024**3
COMPRESSED = (
    "JPEG2000.dcm", "JPEGLSNearLossless_16.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm",
    "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_small_odd_jpeg.dcm",
)  # fmt: skip
"""pydicom's own files: what its writer cannot compress."""


def make_levels() -> np.ndarray:
    y, x = np.mgrid[:96, :80]
    return (np.hypot(y - 48, x - 40) * 40).astype(np.uint16)


def make_dicom(implicit: bool = False, **tags: object) -> bytes:
    levels = make_levels()
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID, dataset.Modality = "1.2.3", "DX"
    dataset.Rows, dataset.Columns = levels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation, dataset.PixelData = 0, levels.tobytes()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    syntaxes = pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = syntaxes[not implicit]
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def make_table() -> Any:
    item = pydicom.Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.add_new("LUTData", "OW", np.arange(4096, dtype=np.uint16).tobytes())
    return pydicom.Sequence([item])


def make_seeds() -> dict[str, bytes]:
    cv2 = imaging.cv2
    levels = make_levels()
    eight = (levels >> 4).astype(np.uint8)
    colour = np.stack([eight, eight[::-1], eight // 2], axis=2)

    def encode(kind: str, picture: np.ndarray, *options: int) -> bytes:
        return cv2.imencode(kind, picture, options)[1].tobytes()

    seeds = {
        "grey.png": imaging.encode_png(eight, {"Author": "x"}),
        "deep.png": imaging.encode_png(levels),
        "colour.png": imaging.encode_png(colour),
        "grey.jpg": imaging.encode_jpeg(eight),
        "colour.jpg": imaging.encode_jpeg(colour),
        "progressive.jpg": encode(".jpg", colour, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "restarts.jpg": encode(".jpg", eight, cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
        "lzw.tif": encode(".tif", eight, cv2.IMWRITE_TIFF_COMPRESSION, 5),
        "plain.tif": encode(".tif", levels, cv2.IMWRITE_TIFF_COMPRESSION, 1),
        "deflate.tif": encode(".tif", levels, cv2.IMWRITE_TIFF_COMPRESSION, 8),
        "colour.tif": encode(".tif", colour, cv2.IMWRITE_TIFF_COMPRESSION, 32773),
        "grey.bmp": encode(".bmp", eight),
        "grey.pgm": encode(".pgm", levels),
        "explicit.dcm": make_dicom(),
        "implicit.dcm": make_dicom(implicit=True),
        "window.dcm": make_dicom(
            WindowCenter=["9", "8"], WindowWidth=["5", "6"], RescaleSlope="2"
        ),
        "table.dcm": make_dicom(VOILUTSequence=make_table(), PixelPaddingValue=0),
    }
    folder = Path(pydicom.data.get_testdata_file("MR_small.dcm")).parent
    return seeds | {name: (folder / name).read_bytes() for name in COMPRESSED}


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    torn = bytearray(data)
    for _ in range(int(rng.integers(1, 33))):
        torn[pick_place(len(torn), rng)] ^= 1 << int(rng.integers(8))
    return bytes(torn)


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def edit_header(data: bytes, rng: np.random.Generator) -> bytes:
    torn = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        torn[int(rng.integers(min(len(torn), 1024)))] = int(rng.integers(256))
    return bytes(torn)


def edit_lengths(data: bytes, rng: np.random.Generator) -> bytes:
    """Write numbers that are much too large or small over some fields, in either byte order."""
    torn = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        kind = str(rng.choice(["<H", ">H", "<I", ">I"]))
        value = int(rng.choice(EXTREMES)) & (0xFFFF if kind[1] == "H" else 0xFFFF_FFFF)
        at = min(pick_place(len(torn), rng), len(torn) - 4)
        struct.pack_into(kind, torn, at, value)
    return bytes(torn)


def nest(data: bytes, rng: np.random.Generator) -> bytes:
    """Put sequences within sequences into a DICOM file, or a piece of another into itself."""
    depth = int(rng.integers(1, 5000))
    if data[128:132] == b"DICM":
        begin = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFF_FFFF)
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFF_FFFF)
        at = data.find(b"\x08\x00\x16\x00")
        at = at if at > 0 else 400
        return data[:at] + (begin + item) * depth + data[at:]
    start, end = sorted(rng.integers(len(data), size=2))
    return data[:end] + data[start:end] * (1 + depth % 5) + data[end:]


def cut_out(data: bytes, rng: np.random.Generator) -> bytes:
    start = pick_place(len(data), rng)
    return data[:start] + data[start + int(rng.integers(1, 200)) :]


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    truncate,
    edit_header,
    edit_lengths,
    nest,
    cut_out,
)


def pick_place(length: int, rng: np.random.Generator) -> int:
    """Pick an offset, every second time in the first kilobyte, where the headers are."""
    return int(rng.integers(min(length, 1024) if rng.random() < 0.5 else length))


def judge(path: Path, take: Callable[[], object]) -> str:
    """Read one file; anything but a film or an ImageError fails the test by itself."""
    try:
        take()
    except ImageError as err:
        text = str(err)
        assert path.name in text
        assert text.isprintable()
        if "broke the process" in text:
            return "decoder died"
        if "took more than" in text and "memory" not in text:
            return "too slow"
        return "too much memory" if "memory" in text else "refused"
    return "read"


def fuzz(folder: Path, count: int) -> dict[str, Any]:
    """Read `count` mutated files, and strip every fourth; count how that ends."""
    rng = np.random.default_rng(SEED)
    seeds = make_seeds()
    told: Counter[str] = Counter()
    slowest = 0.0
    for number in range(count):
        name = list(seeds)[number % len(seeds)]
        mutate = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        path = folder / f"{number}_{mutate.__name__}_{name}"
        path.write_bytes(mutate(seeds[name], rng))
        start = time.perf_counter()
        told[judge(path, partial(reading.read_film, path))] += 1
        slowest = max(slowest, time.perf_counter() - start)
        if number % 4 == 0:
            copy = folder / "copy"
            copy.unlink(missing_ok=True)
            outcome = judge(path, partial(deidentify.deidentify, path, copy))
            told[f"de-identified: {outcome}"] += 1
        path.unlink()
    return {"files": count, "slowest_s": round(slowest, 2), **dict(sorted(told.items()))}


def find_peak() -> int:
    """Return the most memory that a process started by this one has had [bytes]."""
    resource = pytest.importorskip("resource", reason="no resource limits here: skipped")
    sandbox.close()  # only what has ended is counted
    return int(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024


def test_every_seed_is_read(tmp_path: Path) -> None:
    for name, data in make_seeds().items():
        (tmp_path / name).write_bytes(data)

        assert reading.read_film(tmp_path / name).pixels.ndim == 2


def test_a_sample_of_mutated_files_gives_films_and_clear_errors(tmp_path: Path) -> None:
    others = find_peak()  # of other tests; a decoder that takes less goes unseen

    told = fuzz(tmp_path, 270)

    assert told["read"] > 20
    assert told["refused"] > 50
    assert "too slow" not in told
    assert find_peak() < max(GIGABYTE, others + 1)


@pytest.mark.slow
def test_two_thousand_mutated_files_give_films_and_clear_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = find_peak()

    told = fuzz(tmp_path, 2000)

    peak = find_peak()
    with capsys.disabled():
        line = json.dumps({**told, "peak_mb": round(peak / 1e6)})
        print(f"\n{line}")  # noqa: T201 - the figures are what one runs this for
    assert "too slow" not in told
    assert peak < max(GIGABYTE, others + 1)

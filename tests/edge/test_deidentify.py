from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcr_edge import containers, imaging, reading
from fcr_edge.deidentify import STRIPPERS, deidentify, strip
from fcr_edge.errors import ImageError

NAME = b"Doe"
"""Part of every text that names somebody here."""


def make_levels() -> np.ndarray:
    return (np.arange(64 * 48).reshape(64, 48) % 4096).astype(np.uint16)


def make_dataset() -> Any:
    """Make a film full of names: in known, unknown, private and nested attributes."""
    pydicom = pytest.importorskip("pydicom", reason="pydicom (extra dicom) absent: skipped")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.SourceApplicationEntityTitle = "DoeUnit"
    dataset.SOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, keyword, "1.2.3.4")
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "Doe-17"
    dataset.PatientBirthDate, dataset.PatientSex = "19700102", "F"
    dataset.PatientAge, dataset.OtherPatientNames = "055Y", "Doe^J"
    dataset.StudyDate = dataset.ContentDate = "20260102"
    dataset.AcquisitionDateTime = "20260102101112"
    dataset.InstitutionName, dataset.StationName = "Doe Hospital", "Doe 2"
    dataset.ReferringPhysicianName, dataset.OperatorsName = "Doe^R", "Doe^O"
    dataset.DeviceSerialNumber, dataset.Manufacturer = "Doe 5", "Doe Works"
    dataset.ImageComments, dataset.StudyDescription = "Doe, fall", "skull of Doe"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "DOE"]
    dataset.BodyPartExamined, dataset.ViewPosition = "DOE JANE", "LL"
    dataset.Modality = "CR"
    dataset.PatientOrientation = ["A", "F"]
    dataset.KVP, dataset.ImagerPixelSpacing = "70", ["0.1", "0.1"]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 64, 48, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME1", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.WindowCenter, dataset.WindowWidth = "2048", "4096"
    dataset.WindowCenterWidthExplanation = "for Doe"
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTExplanation = [4096, 0, 16], "Doe"
    table.add_new("LUTData", "OW", np.arange(4096, dtype=np.uint16).tobytes())
    dataset.VOILUTSequence = pydicom.Sequence([table])
    request = pydicom.Dataset()
    request.RequestedProcedureDescription = "Doe"
    dataset.RequestAttributesSequence = pydicom.Sequence([request])
    block = dataset.private_block(0x0029, "Doe private", create=True)
    block.add_new(1, "LO", "Doe^Jane")
    dataset.add_new(0x60003000, "OW", b"Doe " * 4)
    dataset.add_new(0x00331044, "UN", b"Doe^")
    dataset.PixelData = make_levels().tobytes()
    return dataset


def encode(dataset: Any, preamble: bytes = b"Doe".ljust(128)) -> bytes:
    import pydicom

    dataset.preamble = preamble
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_no_name_is_left_and_the_film_is_the_same(tmp_path: Path) -> None:
    import pydicom

    data = encode(make_dataset())
    source, target = write(tmp_path / "film.dcm", data), tmp_path / "copy.dcm"
    assert NAME in data

    told = deidentify(source, target)

    copy = target.read_bytes()
    assert NAME.lower() not in copy.lower()
    assert b"2026" not in copy.replace(pydicom.uid.PYDICOM_IMPLEMENTATION_UID.encode(), b"")
    before, after = reading.read_film(source), reading.read_film(target)
    assert np.array_equal(before.pixels, after.pixels)
    assert before.record == after.record
    assert source.read_bytes() == data
    assert any("burned into them" in warning for warning in told.warnings)
    assert told.removed > 15


def test_the_copy_says_how_it_was_made(tmp_path: Path) -> None:
    import pydicom

    source = write(tmp_path / "film.dcm", encode(make_dataset()))

    deidentify(source, tmp_path / "copy.dcm")

    copy = pydicom.dcmread(tmp_path / "copy.dcm")
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.DeidentificationMethod.startswith("FCR")
    assert copy.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert copy.DeidentificationMethodCodeSequence[0].CodingSchemeDesignator == "DCM"
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "StudyDate",
        "AccessionNumber",
    ):
        assert not copy[keyword].value
    uids = [copy.SOPInstanceUID, copy.StudyInstanceUID, copy.SeriesInstanceUID]
    # All three were 1.2.3.4: one old identifier, one new one.
    assert len(set(uids)) == 1
    assert uids[0] != "1.2.3.4"
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    assert "SourceApplicationEntityTitle" not in copy.file_meta
    assert copy.preamble == bytes(128)
    assert list(copy.ImageType) == ["ORIGINAL", "PRIMARY"]
    assert not [element for element in copy if element.tag.is_private]


def test_two_calls_give_unlike_identifiers() -> None:
    import pydicom

    data = encode(make_dataset())

    copies = [pydicom.dcmread(io.BytesIO(strip(data, "film")[0])) for _ in range(2)]

    assert copies[0].SOPInstanceUID != copies[1].SOPInstanceUID


def test_nothing_is_said_of_burned_in_text_where_the_file_denies_it() -> None:
    dataset = make_dataset()
    dataset.BurnedInAnnotation = "NO"

    told = strip(encode(dataset), "film")[1]

    assert told.warnings == ()


def test_a_ct_slice_is_refused_with_advice() -> None:
    import pydicom

    dataset = make_dataset()
    dataset.SOPClassUID = pydicom.uid.CTImageStorage

    with pytest.raises(ImageError, match="a tool made for its kind"):
        strip(encode(dataset), "film")


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm", "JPEG2000.dcm"])
def test_compressed_pixels_are_copied_as_they_are(name: str) -> None:
    pydicom = pytest.importorskip("pydicom", reason="pydicom (extra dicom) absent: skipped")
    source = pydicom.dcmread(pydicom.data.get_testdata_file(name))
    source.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    source.PatientName = "Doe^Jane"

    copy = pydicom.dcmread(io.BytesIO(strip(encode(source), name)[0]))

    assert copy.PixelData == source.PixelData
    assert copy.file_meta.TransferSyntaxUID == source.file_meta.TransferSyntaxUID
    assert np.array_equal(copy.pixel_array, source.pixel_array)


def make_picture(depth: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(depth).max, (40, 30), dtype=depth)


def add_chunk(png: bytes, name: bytes, body: bytes) -> bytes:
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return png[:33] + chunk + png[33:]


def make_exif(orientation: int) -> bytes:
    """Exif with an orientation and an artist."""
    return (
        struct.pack(">2sHIH", b"MM", 42, 8, 2)
        + struct.pack(">HHIHH", containers.ORIENTATION, 3, 1, orientation, 0)
        + struct.pack(">HHI", 315, 2, 4)
        + b"Doe\0"
        + bytes(4)
    )


def make_tiff(picture: np.ndarray) -> bytes:
    tifffile = pytest.importorskip("tifffile", reason="tifffile absent: skipped")
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        picture,
        photometric="minisblack",
        description="Doe",
        software="Doe",
        rowsperstrip=7,
        metadata=None,
    )
    return file.getvalue() + b"Doe"


def make_jpeg(picture: np.ndarray) -> bytes:
    data = imaging.encode_jpeg(picture)
    exif = containers.EXIF_START + make_exif(6)
    parts = ((0xE1, exif), (0xFE, b"Doe"), (0xED, b"Photoshop Doe"))
    extra = b"".join(struct.pack(">BBH", 0xFF, m, len(p) + 2) + p for m, p in parts)
    return data[:2] + extra + data[2:] + b"Doe"


FILES = {
    "png": lambda: (
        add_chunk(
            add_chunk(
                imaging.encode_png(make_picture(), {"Author": "Doe"}), b"eXIf", make_exif(6)
            ),
            b"iTXt",
            b"XML\0\0\0\0\0Doe",
        )
        + b"Doe"
    ),
    "png, 16 bits": lambda: imaging.encode_png(make_picture(np.uint16), {"Author": "Doe"}),
    "jpeg": lambda: make_jpeg(make_picture()),
    "tiff": lambda: make_tiff(make_picture()),
    "tiff, 16 bits": lambda: make_tiff(make_picture(np.uint16)),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_picture_loses_its_metadata_and_keeps_its_pixels(kind: str, tmp_path: Path) -> None:
    data = FILES[kind]()
    assert NAME in data

    told = deidentify(write(tmp_path / "film", data), tmp_path / "copy")

    copy = (tmp_path / "copy").read_bytes()
    assert NAME not in copy
    before, after = reading.decode(data, "film"), reading.decode(copy, "copy")
    assert np.array_equal(before[0], after[0])
    assert before[1] == after[1]  # the turn by Exif too
    assert told.removed > 0
    assert any("burned into them" in warning for warning in told.warnings)


@pytest.mark.parametrize("kind", FILES)
def test_stripping_again_changes_nothing(kind: str) -> None:
    once = strip(FILES[kind](), "film")[0]

    assert strip(once, "film")[0] == once


def test_a_progressive_jpeg_keeps_all_its_scans() -> None:
    picture = make_picture()
    options = [imaging.cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    data = imaging.cv2.imencode(".jpg", picture, options)[1].tobytes()

    copy, _, _ = STRIPPERS["JPEG"](data)

    assert np.array_equal(imaging.decode_grey(copy, "copy"), imaging.decode_grey(data, "film"))


def test_a_format_that_cannot_be_stripped_is_refused_with_advice() -> None:
    data = imaging.cv2.imencode(".bmp", make_picture())[1].tobytes()

    with pytest.raises(ImageError, match="BMP: save it as PNG"):
        strip(data, "film.bmp")


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    source = write(tmp_path / "film.png", FILES["png"]())
    target = write(tmp_path / "copy.png", b"precious")

    for path in (target, source):
        with pytest.raises(ImageError, match="exists: name a file that does not"):
            deidentify(source, path)

    assert target.read_bytes() == b"precious"


def test_a_copy_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    source = write(tmp_path / "film.png", FILES["png"]())

    with pytest.raises(ImageError, match="cannot write"):
        deidentify(source, tmp_path / "absent" / "copy.png")

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from fcr_edge import dicom, film
from fcr_edge.errors import ImageError

pydicom = pytest.importorskip("pydicom", reason="pydicom (extra dicom) absent: skipped")


def make_levels() -> np.ndarray:
    y, x = np.mgrid[:200, :160]
    radius = np.hypot(y - 100, x - 80)
    return (np.where(radius < 70, 1200, 100) + np.where(np.abs(radius - 50) < 4, 2500, 0)).astype(
        np.uint16
    )


def make_dicom(levels: np.ndarray, **tags: object) -> bytes:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=["fcr test"])
    dataset.PatientName = "Nobody"
    dataset.Rows, dataset.Columns = levels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = levels.tobytes()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({}, id="plain"),
        pytest.param({"RescaleSlope": "2", "RescaleIntercept": "-50"}, id="rescaled"),
        pytest.param({"WindowCenter": "2000", "WindowWidth": "4000"}, id="windowed"),
    ],
)
def test_dicom_gives_the_same_film_as_the_plain_levels(tags: dict[str, object]) -> None:
    levels = make_levels()

    standard = film.decode_film(make_dicom(levels, **tags), "film.dcm")

    difference = standard.astype(int) - film.standardise(levels)
    assert np.abs(difference).max() <= 1


def test_monochrome1_is_turned_over() -> None:
    levels = make_levels()
    negative = make_dicom(4095 - levels, PhotometricInterpretation="MONOCHROME1")

    standard = film.decode_film(negative, "film.dcm")

    assert np.abs(standard.astype(int) - film.standardise(levels)).max() <= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(make_dicom(make_levels())[:400], "cannot be read", id="truncated"),
        pytest.param(
            make_dicom(np.stack([make_levels()] * 2), NumberOfFrames=2),
            "2 frames",
            id="film strip",
        ),
        pytest.param(
            make_dicom(make_levels()).replace(b"1.2.840.10008.1.2.1\0", dicom.DEFLATED[:20]),
            "cannot be read|deflated",
            id="deflated",
        ),
        pytest.param(make_dicom(make_levels(), Rows=60_000, Columns=60_000), "60000", id="huge"),
    ],
)
def test_what_cannot_be_shown_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        dicom.decode(data, "film.dcm")


def test_deflated_is_refused_before_pydicom_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    data = bytes(128) + b"DICM" + dicom.DEFLATED

    with pytest.raises(ImageError, match="deflated"):
        dicom.decode(data, "film.dcm")


def test_without_pydicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dicom(make_levels())
    monkeypatch.setitem(sys.modules, "pydicom", None)

    with pytest.raises(ImageError, match=r"fcr\[dicom\]"):
        dicom.decode(data, "film.dcm")

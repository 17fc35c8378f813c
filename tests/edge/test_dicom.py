from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcr_edge import dicom, film, imaging, reading
from fcr_edge.errors import ImageError
from fcr_edge.film_record import FilmRecord, Spacing, ViewHints, Window

pydicom = pytest.importorskip("pydicom", reason="pydicom (extra dicom) absent: skipped")

GREY_LEVEL = 1
PATIENT = "Doe^Jane"


def make_levels() -> np.ndarray:
    """Draw a skull-like ring in a soft ball, 12 bits."""
    y, x = np.mgrid[:200, :160]
    radius = np.hypot(y - 100, x - 80)
    soft = 100 + 1100 * np.sqrt(np.clip(1 - (radius / 75) ** 2, 0, None))
    return (soft + np.where(np.abs(radius - 50) < 4, 2500, 0)).astype(np.uint16)


def make_dataset(levels: np.ndarray, **tags: object) -> Any:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=["fcr test"])
    dataset.PatientName = PATIENT
    dataset.Modality = "DX"
    dataset.Rows, dataset.Columns = levels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    bits = 8 * levels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored = bits, min(bits, 12)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(levels.dtype.kind == "i")
    dataset.PixelData = levels.tobytes()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    return dataset


def make_table(entries: np.ndarray, first: int, bits: int) -> Any:
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.add_new("LUTData", "OW", entries.tobytes())
    return pydicom.Sequence([item])


def encode(dataset: Any) -> bytes:
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def make_dicom(levels: np.ndarray, **tags: object) -> bytes:
    return encode(make_dataset(levels, **tags))


def standardise(data: bytes) -> np.ndarray:
    return film.standardise(reading.decode(data, "film.dcm")[0])


def list_forms(levels: np.ndarray) -> dict[str, bytes]:
    """Store one film of 12 bits in every form that a unit may give it."""
    eight = (levels >> 4).astype(np.uint8)
    gamma = np.rint(np.arange(4096) * 65535 / 4095).astype(np.uint16)
    return {
        "MONOCHROME2": make_dicom(levels),
        "MONOCHROME1": make_dicom(
            4095 - levels, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"
        ),
        "8 bits": make_dicom(eight),
        "signed": make_dicom(levels.astype(np.int16) - 2048),
        "16 bits": make_dicom(levels * 16, BitsStored=16, HighBit=15),
        "rescale": make_dicom(levels, RescaleSlope="2", RescaleIntercept="-50"),
        "falling rescale of MONOCHROME1": make_dicom(
            levels,
            RescaleSlope="-1",
            RescaleIntercept="4095",
            PhotometricInterpretation="MONOCHROME1",
        ),
        "window": make_dicom(levels, WindowCenter="2048", WindowWidth="4096"),
        "several windows": make_dicom(
            levels, WindowCenter=["2048", "100"], WindowWidth=["4096", "50"]
        ),
        "exact window": make_dicom(
            levels, WindowCenter="2048", WindowWidth="4096", VOILUTFunction="LINEAR_EXACT"
        ),
        "modality LUT": make_dicom(levels, ModalityLUTSequence=make_table(gamma, 0, 16)),
        "VOI LUT": make_dicom(levels, VOILUTSequence=make_table(gamma, 0, 16)),
        "VOI LUT of 8 bits": make_dicom(
            levels, VOILUTSequence=make_table((gamma >> 8).astype(np.uint8), 0, 8)
        ),
        "VOI LUT before window": make_dicom(
            levels,
            VOILUTSequence=make_table(gamma, 0, 16),
            WindowCenter="10",
            WindowWidth="5",
        ),
        "overlay in the unused bits": make_dicom(levels | np.uint16(0xA000)),
        "PNG": imaging.encode_png(levels),
        "PNG of 8 bits": imaging.encode_png(eight),
        "TIFF": imaging.cv2.imencode(".tiff", levels)[1].tobytes(),
    }


def check_forms(levels: np.ndarray) -> None:
    wanted = film.standardise(levels).astype(int)
    for name, data in list_forms(levels).items():
        assert np.abs(standardise(data) - wanted).max() <= GREY_LEVEL, name


def test_every_form_of_a_film_gives_the_same_picture() -> None:
    # Levels that 8 bits can hold: what those lose of 12 no reader brings back.
    check_forms(make_levels() & np.uint16(0xFFF0))


def test_every_form_of_a_real_film_gives_the_same_picture(cephalograms: Path) -> None:
    eight = imaging.to_grey(imaging.read_picture(cephalograms / "001.jpg"))
    check_forms(eight.astype(np.uint16) * 16)


def test_real_films_keep_their_polarity_by_header(cephalograms: Path) -> None:
    for path in sorted(cephalograms.glob("*.jpg")):
        grey = imaging.resize(imaging.to_grey(imaging.read_picture(path)), (600, 484))
        positive = make_dicom(grey)
        negative = make_dicom(255 - grey, PhotometricInterpretation="MONOCHROME1")

        assert np.array_equal(standardise(positive), standardise(negative)), path.name
        assert np.abs(standardise(positive).astype(int) - film.standardise(grey)).max() <= 1


@pytest.mark.parametrize("kind", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (700.5, 300), (900, 1.5)])
def test_windows_agree_with_pydicom(kind: str, center: float, width: float) -> None:
    from pydicom.pixels.processing import apply_windowing

    values = np.arange(4096)
    dataset = make_dataset(
        make_levels(), WindowCenter=center, WindowWidth=width, VOILUTFunction=kind
    )

    with np.errstate(over="ignore"):  # theirs, far outside the window
        theirs = apply_windowing(values, dataset)
    ours = dicom.apply_window(values.astype(float), Window(center, width, kind, 1))

    assert np.allclose(ours * 4095, theirs, atol=1e-6)


@pytest.mark.parametrize("first", [0, 100, -50])
def test_tables_agree_with_pydicom(first: int) -> None:
    from pydicom.pixels.processing import apply_voi

    entries = np.random.default_rng(first + 50).integers(0, 65536, 700).astype(np.uint16)
    dataset = make_dataset(
        make_levels().astype(np.int16), VOILUTSequence=make_table(entries, first, 16)
    )
    dataset = pydicom.dcmread(io.BytesIO(encode(dataset)))
    values = np.arange(-300, 1500)

    ours = dicom.read_table(dataset, dataset.VOILUTSequence[0]).apply(values)

    assert np.array_equal(ours, apply_voi(values, dataset))


def test_the_record_says_what_was_done_and_nothing_of_the_patient() -> None:
    data = make_dicom(
        make_levels(),
        WindowCenter=["2048", "100"],
        WindowWidth=["4096", "50"],
        RescaleSlope="2",
        RescaleIntercept="-50",
        PhotometricInterpretation="MONOCHROME1",
        ViewPosition="LL",
        ImageLaterality="L",
        PatientOrientation=["A", "F"],
        ImagerPixelSpacing=["0.11", "0.22"],
        EstimatedRadiographicMagnificationFactor="1.1",
        BurnedInAnnotation="YES",
        InstitutionName=PATIENT,
        BodyPartExamined="DOE JANE",
    )

    record = reading.decode(data, "film.dcm")[1]

    assert record.transfer_syntax == pydicom.uid.ExplicitVRLittleEndian
    assert (record.container, record.modality, record.bits) == ("DICOM", "DX", 12)
    assert (record.width, record.height) == (160, 200)
    assert (record.modality_lut, record.rescale) == ("rescale", (2, -50))
    assert record.window == Window(2048, 4096, "LINEAR", 2)
    assert record.polarity == "turned over"
    assert record.spacing == Spacing(
        pytest.approx(0.1), pytest.approx(0.2), "detector / magnification", 1.1
    )
    assert record.view == ViewHints("LL", "L", "A\\F")
    assert record.burned_in is True
    assert any("may name the patient" in warning for warning in record.warnings)
    assert any("not square" in warning for warning in record.warnings)
    assert "Doe" not in repr(record)
    assert "DOE" not in repr(record)


def test_coded_words_that_nobody_knows_are_not_taken_over() -> None:
    data = make_dicom(make_levels(), ViewPosition="DOE JANE", Modality="JANE", Laterality="X")

    record = reading.decode(data, "film.dcm")[1]

    assert record.view == ViewHints("other", "other", None)
    assert record.modality == "other"


@pytest.mark.parametrize(
    ("photometric", "shape"), [("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")]
)
def test_a_header_that_contradicts_itself_is_taken_by_its_photometric_interpretation(
    photometric: str, shape: str
) -> None:
    tags = {"PhotometricInterpretation": photometric}
    plain, _ = reading.decode(make_dicom(make_levels(), **tags), "film.dcm")

    pixels, record = reading.decode(
        make_dicom(make_levels(), PresentationLUTShape=shape, **tags), "film.dcm"
    )

    assert np.array_equal(pixels, plain)
    assert any(f"{photometric} with Presentation LUT Shape {shape}" in w for w in record.warnings)


@pytest.mark.parametrize("tags", [{}, {"PhotometricInterpretation": "MONOCHROME1"}])
def test_padding_is_black_and_does_not_take_grey_levels(tags: dict[str, object]) -> None:
    levels = make_levels()
    padded = levels.copy()
    padded[:20] = 4095

    pixels, record = reading.decode(make_dicom(padded, PixelPaddingValue=4095, **tags), "f.dcm")

    wanted, _ = reading.decode(make_dicom(levels[20:], **tags), "f.dcm")
    assert (pixels[:20] == 0).all()
    assert np.array_equal(pixels[20:], wanted)
    assert record.padding == pytest.approx(0.1)


def test_a_padding_range_of_signed_values_is_found() -> None:
    levels = make_levels().astype(np.int16)
    levels[:20] = -1000
    levels[20:40] = -900

    record = reading.decode(
        make_dicom(levels, PixelPaddingValue=-1000, PixelPaddingRangeLimit=-900), "f.dcm"
    )[1]

    assert record.padding == pytest.approx(0.2)


def test_a_window_that_shows_nothing_is_told() -> None:
    data = make_dicom(make_levels(), WindowCenter="50", WindowWidth="4")

    record = reading.decode(data, "film.dcm")[1]

    assert any("plain black or white" in warning for warning in record.warnings)


CALIBRATED = {"PixelSpacing": ["0.1", "0.1"], "PixelSpacingCalibrationType": "FIDUCIAL"}
DETECTOR = {"ImagerPixelSpacing": ["0.12", "0.12"]}


@pytest.mark.parametrize(
    ("tags", "mm", "origin"),
    [
        pytest.param({}, None, None, id="none"),
        pytest.param(CALIBRATED, 0.1, "calibrated", id="calibrated"),
        pytest.param({**CALIBRATED, **DETECTOR}, 0.1, "calibrated", id="calibrated first"),
        pytest.param(
            {"PixelSpacing": ["0.1", "0.1"], **DETECTOR}, 0.1, "calibrated", id="they differ"
        ),
        pytest.param(
            {"PixelSpacing": ["0.12", "0.12"], **DETECTOR}, 0.12, "at the detector", id="the same"
        ),
        pytest.param(DETECTOR, 0.12, "at the detector", id="no magnification"),
        pytest.param(
            {**DETECTOR, "EstimatedRadiographicMagnificationFactor": "1.2"},
            0.1,
            "detector / magnification",
            id="magnified",
        ),
        pytest.param(
            {"PixelSpacing": ["0.1", "0.1"]},
            0.1,
            "in the header, calibration not stated",
            id="alone",
        ),
        pytest.param({"PixelSpacing": ["0", "0"]}, None, None, id="zero"),
        pytest.param({"PixelSpacing": ["100", "100"]}, None, None, id="absurd"),
    ],
)
def test_spacing_is_read_and_never_made_up(
    tags: dict[str, object], mm: float | None, origin: str | None
) -> None:
    spacing = reading.decode(make_dicom(make_levels(), **tags), "film.dcm")[1].spacing

    if mm is None:
        assert spacing is None
    else:
        assert spacing is not None
        assert (spacing.rows_mm, spacing.origin) == (pytest.approx(mm), origin)


def recompress(data: bytes, uid: str) -> bytes:
    """Compress a film by GDCM, which can write what pydicom cannot."""
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm (extra dicom) absent: skipped")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "a.dcm"), Path(folder, "b.dcm")
        source.write_bytes(data)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), None
        reader.SetFileName(str(source))
        assert reader.Read()
        kind = gdcm.TransferSyntax.GetTSType(uid)
        change.SetTransferSyntax(gdcm.TransferSyntax(kind))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()


@pytest.mark.parametrize(
    ("uid", "tolerance"),
    [
        pytest.param("1.2.840.10008.1.2.5", 0, id="RLE"),
        pytest.param("1.2.840.10008.1.2.4.50", 600, id="JPEG baseline"),
        pytest.param("1.2.840.10008.1.2.4.57", 0, id="JPEG lossless"),
        pytest.param("1.2.840.10008.1.2.4.70", 0, id="JPEG lossless, first-order"),
        pytest.param("1.2.840.10008.1.2.4.80", 0, id="JPEG-LS"),
        pytest.param("1.2.840.10008.1.2.4.90", 0, id="JPEG 2000"),
    ],
)
@pytest.mark.parametrize("sandboxed", [False, True])
def test_compressed_films_give_the_same_pixels(
    uid: str, tolerance: int, sandboxed: bool, tmp_path: Path
) -> None:
    levels = make_levels() if tolerance == 0 else (make_levels() >> 4).astype(np.uint8)
    plain = make_dicom(levels)
    (tmp_path / "film.dcm").write_bytes(recompress(plain, uid))

    if sandboxed:
        xray = reading.read_film(tmp_path / "film.dcm")
        pixels, record = xray.pixels, xray.record
    else:
        pixels, record = reading.decode((tmp_path / "film.dcm").read_bytes(), "film.dcm")

    wanted, _ = reading.decode(plain, "film.dcm")
    assert record.transfer_syntax == uid
    assert np.abs(pixels.astype(int) - wanted).mean() <= tolerance


def test_a_torn_jpeg_frame_is_refused_by_name() -> None:
    data = recompress(make_dicom((make_levels() >> 4).astype(np.uint8)), "1.2.840.10008.1.2.4.50")
    start = data.index(b"\xff\xd8\xff")

    for torn in (
        data[: start + 2] + bytes(40) + data[start + 42 :],
        data.replace(b"\xff\xc0", b"\0\0"),
    ):
        with pytest.raises(ImageError, match=r"film\.dcm"):
            reading.decode(torn, "film.dcm")


def test_both_byte_orders_give_the_same_pixels() -> None:
    folder = Path(pydicom.data.get_testdata_file("MR_small.dcm")).parent
    names = ("MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm")

    pixels = [reading.decode((folder / name).read_bytes(), name)[0] for name in names]

    assert all(np.array_equal(pixels[0], other) for other in pixels[1:])


def test_every_file_of_pydicom_gives_a_film_or_an_image_error() -> None:
    folder = Path(pydicom.data.get_testdata_file("MR_small.dcm")).parent
    read = []

    for path in sorted(folder.glob("*.dcm")):
        try:
            record = reading.read_film(path).record
        except ImageError as err:
            assert path.name in str(err)  # noqa: PT017 - most of them are refused
        else:
            assert FilmRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
            read.append(path.name)

    assert len(read) >= 40
    assert {"JPEG2000.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm"} <= {*read}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(make_dicom(make_levels())[:400], "no pixels", id="truncated"),
        pytest.param(make_dicom(make_levels())[:9000], "cannot be read", id="pixels missing"),
        pytest.param(
            make_dicom(np.stack([make_levels()] * 2), NumberOfFrames=2),
            "2 frames: export the one",
            id="film strip",
        ),
        pytest.param(
            make_dicom(make_levels()).replace(b"1.2.840.10008.1.2.1\0", dicom.DEFLATED[:20]),
            "deflated|transfer syntax",
            id="deflated",
        ),
        pytest.param(make_dicom(make_levels(), Rows=60_000, Columns=60_000), "60000", id="huge"),
        pytest.param(make_dicom(make_levels(), HighBit=15), "the highest 15", id="high bit"),
        pytest.param(make_dicom(make_levels(), BitsAllocated=32), "12 of 32", id="32 bits"),
        pytest.param(make_dicom(make_levels(), PixelData=None), "no pixels|read", id="no pixels"),
        pytest.param(
            make_dicom(make_levels(), PixelPaddingValue=0, PixelPaddingRangeLimit=4095),
            "all padding",
            id="all padding",
        ),
        pytest.param(
            make_dicom(make_levels(), WindowCenter="5", WindowWidth="0"), "read", id="no width"
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        dicom.decode(data, "film.dcm")


def test_a_damaged_header_is_refused_without_quoting_it() -> None:
    data = make_dicom(make_levels()).replace(b"DX", b"\xff\xfe")
    torn = make_dicom(make_levels(), WindowCenter="5", WindowWidth="6").replace(
        b"\x28\x00\x50\x10DS\x02\x005 ", b"\x28\x00\x50\x10DS\x02\x00" + PATIENT[:2].encode()
    )

    for broken in (data[:300], torn):
        with pytest.raises(ImageError) as caught:
            dicom.decode(broken, "film.dcm")
        assert "Do" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_jpeg_of_twelve_bits_says_which_package_would_read_it() -> None:
    path = Path(pydicom.data.get_testdata_file("JPGExtended.dcm"))

    with pytest.raises(ImageError, match=r"12 bits, which only pylibjpeg-libjpeg.*GPL"):
        reading.read_film(path)


def test_a_missing_codec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(pydicom.data.get_testdata_file("JPEG2000.dcm"))
    monkeypatch.setattr(dicom, "has_codec", lambda codec: codec.module is None)

    with pytest.raises(ImageError, match=r"JPEG 2000: pip install pylibjpeg pylibjpeg-openjpeg"):
        dicom.decode(path.read_bytes(), path.name)


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

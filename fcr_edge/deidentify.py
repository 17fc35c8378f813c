"""A copy of a film without what names the patient: DICOM PS3.15 Annex E, or metadata stripped."""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fcr_edge import __version__, containers, dicom, imaging, reading, sandbox
from fcr_edge.errors import FcrError, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom import DataElement, Dataset

PROFILE = ("113100", "DCM", "Basic Application Confidentiality Profile")
"""The code for (0012,0064) (DICOM PS3.16, CID 7050)."""
FILM_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX, for presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX, for processing",
    "1.2.840.10008.5.1.4.1.1.1.3": "intra-oral, for presentation",
    "1.2.840.10008.5.1.4.1.1.1.3.1": "intra-oral, for processing",
    "1.2.840.10008.5.1.4.1.1.7": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.12.1": "XA",
    "1.2.840.10008.5.1.4.1.1.12.2": "RF",
}
"""SOP classes that are taken. Panoramic films are DX, intra-oral or secondary capture."""

# An allow list: what is not here is removed, whatever Table E.1-1 of PS3.15 says of it.
NUMBERS = (
    "SamplesPerPixel", "PlanarConfiguration", "Rows",
    "Columns", "PixelAspectRatio", "BitsAllocated",
    "BitsStored", "HighBit", "NumberOfFrames", "PixelRepresentation",
    "SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "WindowCenter", "WindowWidth",
    "RescaleIntercept", "RescaleSlope", "PixelSpacing",
    "ImagerPixelSpacing", "NominalScannedPixelSpacing", "EstimatedRadiographicMagnificationFactor",
    "DistanceSourceToDetector", "DistanceSourceToPatient", "KVP",
    "ExposureTime", "XRayTubeCurrent", "Exposure",
    "PixelIntensityRelationshipSign", "LossyImageCompressionRatio",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
)  # fmt: skip
"""Attributes that hold numbers."""
TABLES = (
    "PixelData", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)  # fmt: skip
LUT_SEQUENCES = ("ModalityLUTSequence", "VOILUTSequence")
LUT_PARTS = ("LUTDescriptor", "LUTData")
SIDES = ("R", "L", "U", "B")
CODES: dict[str, tuple[str, ...]] = {
    "Modality": dicom.MODALITIES,
    "PhotometricInterpretation": (
        "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422",
        "YBR_ICT", "YBR_RCT",
    ),
    "PresentationLUTShape": ("IDENTITY", "INVERSE", "LIN OD"),
    "VOILUTFunction": ("LINEAR", "LINEAR_EXACT", "SIGMOID"),
    "RescaleType": ("US", "OD", "HU"),
    "PixelSpacingCalibrationType": ("GEOMETRY", "FIDUCIAL"),
    "PixelIntensityRelationship": ("LIN", "LOG", "DISP"),
    "PresentationIntentType": ("FOR PRESENTATION", "FOR PROCESSING"),
    "ConversionType": ("DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"),
    "BurnedInAnnotation": ("YES", "NO"),
    "LossyImageCompression": ("00", "01"),
    "LossyImageCompressionMethod": ("ISO_10918_1", "ISO_14495_1", "ISO_15444_1"),
    "ViewPosition": dicom.VIEWS,
    "ImageLaterality": SIDES,
    "Laterality": SIDES,
    "BodyPartExamined": ("SKULL", "HEAD", "JAW", "FACE", "MAXILLA", "MANDIBLE", "ZYGOMA"),
    "ImageType": ("ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY"),
}  # fmt: skip
"""Coded attribute -> its values that are kept: any other text may be a name."""
ORIENTATION = re.compile(r"[APRLHF]{1,3}")
EMPTIED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName", "StudyID", "SeriesNumber", "InstanceNumber",
    "Manufacturer",
)  # fmt: skip
"""Type 2 attributes of these objects: action Z, kept without a value."""
NEW_UIDS = (
    "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
)  # fmt: skip
"""Action U: each gets a new one."""
KEPT_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"sBIT", b"gAMA", b"cHRM", b"sRGB", b"IDAT", b"IEND")
"""PNG chunks that make the pixels what they are, and hold no text."""
KEPT_FIELDS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 274, 277, 278, 282, 283, 284, 296, 317, 320, 338, 339}
    | {530, 531, 532}
)
"""TIFF fields that make the pixels what they are (TIFF 6.0, sections 8 to 23)."""
STRIPS, STRIP_SIZES, TILES, TILE_SIZES, JPEG_TABLES = 273, 279, 324, 325, 347
TILE_SHAPE = frozenset({322, 323})
PLAIN_TIFF = frozenset({1, 5, 8, 32773, 32946})
"""Compressions whose strips hold nothing but pixels: none, LZW, Deflate (two codes), PackBits."""


@dataclass(frozen=True)
class Deidentified:
    """What was written, and what may still name the patient."""

    container: str
    kept: tuple[str, ...]
    """Names of what is in the copy."""
    removed: int
    """Attributes, chunks or fields that are not."""
    warnings: tuple[str, ...]


def deidentify(source: Path, target: Path) -> Deidentified:
    """Write a copy of a film without what names the patient; the pixels stay to the bit.

    DICOM by the Basic Application Confidentiality Profile (PS3.15, Annex E), done as an allow
    list; of PNG, JPEG and TIFF the metadata is dropped. Text burned into the pixels stays.

    Raises ImageError where the target exists, or the file cannot be read or is of another kind.
    """
    if target.exists():
        raise ImageError(f"{target} exists: name a file that does not")
    reply = sandbox.ask("deidentify", imaging.read_file(source), str(source))
    told = _take_report(reply.facts, str(source))
    try:
        with target.open("xb") as file:
            file.write(reply.payload)
    except FileExistsError as err:
        raise ImageError(f"{target} exists: name a file that does not") from err
    except OSError as err:
        raise ImageError(
            f"cannot write {target}: {err.strerror}: choose a folder that can be written"
        ) from err
    return told


def _take_report(facts: dict[str, Any], name: str) -> Deidentified:
    """Check what came back from the decoder. Raises ImageError."""
    try:
        told = Deidentified(
            facts["container"], tuple(facts["kept"]), facts["removed"], tuple(facts["warnings"])
        )
        texts = (told.container, *told.kept, *told.warnings)
        sound = all(text.isprintable() for text in texts) and type(told.removed) is int
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ImageError(f"{name} gave no report: do not trust this file")
    return told


def preload(data: bytes) -> None:
    """Import what the file takes, before rights are given up. Runs in the decoder."""
    reading.preload(data)


def answer(data: bytes, name: str) -> tuple[dict[str, Any], bytes]:
    """Make the copy for the process that asked. Runs in the decoder."""
    copy, told = strip(data, name)
    return asdict(told), copy


def strip(data: bytes, name: str) -> tuple[bytes, Deidentified]:
    """Make the copy in this process. Raises ImageError."""
    if dicom.is_dicom(data):
        return _strip_dicom(data, name)
    file_format = imaging.recognise(data, name)
    if file_format not in STRIPPERS:
        raise ImageError(f"{name} is {file_format}: save it as PNG, which can be stripped")
    try:
        copy, kept, removed = STRIPPERS[file_format](data)
    except FcrError as err:
        raise ImageError(f"{name}: {err}") from err
    return copy, Deidentified(file_format, tuple(kept), removed, (BURNED_IN,))


BURNED_IN = (
    "the pixels are unchanged: text burned into them may name the patient, look at the film"
)


# ---- DICOM ----


def _strip_dicom(data: bytes, name: str) -> tuple[bytes, Deidentified]:
    with dicom.decoder_faults(name):
        dataset = dicom.parse(data, name)
        if "PixelData" not in dataset:
            raise ImageError(f"{name} holds no pixels: give the file of one film")
        if str(dataset.get("SOPClassUID")) not in FILM_CLASSES:
            raise ImageError(
                f"{name} is none of {', '.join(FILM_CLASSES.values())}: de-identify it with a tool"
                " made for its kind"
            )
        copy = _copy_allowed(dataset)
        _mark(copy)
        written = _write(copy, dataset)
        _check_pixels(written, dataset, name)
        return written, _tell(dataset, copy)


def _copy_allowed(dataset: Dataset) -> Dataset:
    from pydicom import Dataset as NewDataset
    from pydicom.uid import generate_uid

    copy = NewDataset()
    for keyword in EMPTIED:
        setattr(copy, keyword, None)
    new: dict[str, str] = {}  # one old identifier, one new one
    for keyword in NEW_UIDS:
        if keyword in dataset or keyword == "SOPInstanceUID":
            old = str(dataset.get(keyword))
            setattr(copy, keyword, new.setdefault(old, generate_uid()))
    copy.SOPClassUID = dataset.SOPClassUID
    for element in dataset:
        kept = _keep(element)
        if kept is not None:
            copy.add(kept)
    return copy


def _keep(element: DataElement) -> DataElement | None:
    """Return an element as it may stand in the copy, or None."""
    keyword = element.keyword
    if keyword in LUT_SEQUENCES:
        return _keep_luts(element)
    is_number = keyword in NUMBERS and element.VR in ("US", "SS", "DS", "IS", "FD", "FL")
    if is_number or (keyword in TABLES and element.VR in ("OB", "OW")):
        return element
    values = [str(value).strip().upper() for value in dicom.as_list(element.value)]
    if keyword == "ImageType":  # the third value and what follows are the makers' own
        values = values[:2]
    if values and element.VR in ("CS", "LO") and _are_known(keyword, values):
        return _with_value(element, values if len(values) > 1 else values[0])
    return None


def _are_known(keyword: str, values: list[str]) -> bool:
    if keyword == "PatientOrientation":
        return all(ORIENTATION.fullmatch(value) for value in values)
    return all(value in CODES.get(keyword, ()) for value in values)


def _with_value(element: DataElement, value: object) -> DataElement:
    from pydicom import DataElement as NewElement

    return NewElement(element.tag, element.VR, value)


def _keep_luts(element: DataElement) -> DataElement:
    """Keep the tables of a LUT sequence without their explanations."""
    from pydicom import Dataset as NewDataset
    from pydicom import Sequence

    items = []
    for item in element.value:
        table = NewDataset()
        for keyword in LUT_PARTS:
            table.add(item[keyword])
        if "ModalityLUTType" in item:
            table.ModalityLUTType = "US"  # unspecified
        items.append(table)
    return _with_value(element, Sequence(items))


def _mark(copy: Dataset) -> None:
    """Say that and how the patient's identity was removed (PS3.15, E.2 and PS3.3, C.7.1.1)."""
    from pydicom import Dataset as NewDataset
    from pydicom import Sequence

    code = NewDataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = PROFILE
    copy.PatientIdentityRemoved = "YES"
    copy.DeidentificationMethod = f"FCR {__version__}: allow list; pixels unchanged"
    copy.DeidentificationMethodCodeSequence = Sequence([code])
    copy.LongitudinalTemporalInformationModified = "REMOVED"


def _write(copy: Dataset, dataset: Dataset) -> bytes:
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset

    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    file = io.BytesIO()
    dcmwrite(file, copy, enforce_file_format=True)
    return file.getvalue()


def _check_pixels(written: bytes, dataset: Dataset, name: str) -> None:
    if dicom.parse(written, name).PixelData != dataset.PixelData:
        raise ImageError(f"the pixels of {name} changed while it was written: nothing was kept")


def _tell(dataset: Dataset, copy: Dataset) -> Deidentified:
    kept = sorted({element.keyword for element in copy if element.keyword in dataset})
    removed = sum(element.tag not in copy for element in dataset)
    warnings = []
    if str(dataset.get("BurnedInAnnotation", "")).upper() != "NO":
        warnings.append(BURNED_IN)
    return Deidentified("DICOM", tuple(kept), removed, tuple(warnings))


# ---- PNG, JPEG, TIFF ----

Stripped = tuple[bytes, list[str], int]


def _strip_png(data: bytes) -> Stripped:
    """Keep the chunks that make the picture, and its turn in an Exif of its own."""
    parts, kept, removed = [imaging.PNG_MAGIC], [], 0
    orientation = containers.read_png(data).orientation
    for name, body in containers.walk_png(data):
        if name not in KEPT_CHUNKS:
            removed += 1
            continue
        if name == b"IDAT" and orientation != 1 and b"IDAT" not in kept:
            parts.append(_chunk(b"eXIf", _make_exif(orientation)))
        parts.append(_chunk(name, body))
        kept.append(name)
    return b"".join(parts), sorted({name.decode() for name in kept}), removed


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _strip_jpeg(data: bytes) -> Stripped:
    """Drop comments and application segments but Adobe's, which says what the colours mean."""
    parts, kept, removed = [b"\xff\xd8"], set(), 0
    orientation = containers.read_jpeg(data).orientation
    if orientation != 1:
        parts.append(_segment(0xE1, containers.EXIF_START + _make_exif(orientation)))
    for segment in containers.walk_jpeg(data):
        marker, payload = segment.marker, segment.payload
        is_adobe = marker == 0xEE and payload.startswith(b"Adobe") and len(payload) == 12
        is_jfif = marker == 0xE0 and payload.startswith(b"JFIF\0") and len(payload) >= 14
        if (0xE0 <= marker <= 0xEF or marker == 0xFE) and not (is_adobe or is_jfif):
            removed += 1
            continue
        # A JFIF header may carry a small preview after its 12 bytes.
        short = payload[:12] + b"\0\0" if is_jfif else payload
        parts.append(_segment(marker, short) + segment.scan)
        kept.add(f"FF{marker:02X}")
    return b"".join([*parts, b"\xff\xd9"]), sorted(kept), removed


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _make_exif(orientation: int) -> bytes:
    """Build an Exif block that holds the orientation and nothing else."""
    return struct.pack(
        ">2sHIHHHIHHI", b"MM", 42, 8, 1, containers.ORIENTATION, 3, 1, orientation, 0, 0
    )


def _strip_tiff(data: bytes) -> Stripped:
    """Write the first directory again with the fields that make the picture, then its strips."""
    pages = list(containers.walk_tiff(data))
    if len(pages) != 1:
        raise ImageError(f"it has {len(pages)} pages or previews: save the one to use by itself")
    order = containers.tiff_order(data)
    fields = {field.tag: field for field in pages[0]}
    compression = containers.read_numbers(fields[259], order)[:1] if 259 in fields else (1,)
    if compression[0] not in PLAIN_TIFF:
        raise ImageError(
            f"its compression {compression[0]} may carry more than pixels: save it as PNG"
        )
    places, sizes = (TILES, TILE_SIZES) if TILES in fields else (STRIPS, STRIP_SIZES)
    if places not in fields or sizes not in fields:
        raise ImageError("it does not say where its pixels are: get a fresh copy")
    blocks = _cut_blocks(data, fields[places], fields[sizes], order)
    wanted = KEPT_FIELDS | TILE_SHAPE
    kept = {
        tag: (field.kind, len(field.values) // containers.TIFF_SIZES[field.kind], field.values)
        for tag, field in fields.items()
        if tag in wanted and field.kind in (1, 3, 4, 5)
    }
    lengths = struct.pack(f"{order}{len(blocks)}I", *(len(block) for block in blocks))
    kept[sizes] = (4, len(blocks), lengths)
    kept[places] = (4, len(blocks), bytes(4 * len(blocks)))
    return (
        _assemble_tiff(kept, blocks, places, order),
        [str(tag) for tag in sorted(kept)],
        len(fields.keys() - kept.keys()),
    )


def _cut_blocks(
    data: bytes, places: containers.Field, sizes: containers.Field, order: str
) -> list[bytes]:
    starts, lengths = (containers.read_numbers(field, order) for field in (places, sizes))
    if len(starts) != len(lengths) or sum(lengths) > len(data):
        raise ImageError("its strips do not fit: get a fresh copy")
    blocks = [data[a : a + n] for a, n in zip(starts, lengths, strict=True)]
    if any(len(block) != n for block, n in zip(blocks, lengths, strict=True)):
        raise ImageError("it is a truncated TIFF file: get a fresh copy")
    return blocks


def _assemble_tiff(
    fields: dict[int, tuple[int, int, bytes]], blocks: list[bytes], places: int, order: str
) -> bytes:
    """Lay out header, directory, values that do not fit into it, and blocks."""
    directory_end = 8 + 2 + 12 * len(fields) + 4
    values_size = sum(
        len(value) + len(value) % 2 for _, _, value in fields.values() if len(value) > 4
    )
    starts, at = [], directory_end + values_size
    for block in blocks:
        starts.append(at)
        at += len(block) + len(block) % 2
    kind, count, _ = fields[places]
    fields = {**fields, places: (kind, count, struct.pack(f"{order}{len(starts)}I", *starts))}
    entries, values = b"", b""
    for tag in sorted(fields):
        kind, count, value = fields[tag]
        entries += struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", directory_end + len(values))
            values += _pad(value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    count_bytes = struct.pack(order + "H", len(fields))
    return b"".join([head, count_bytes, entries, bytes(4), values, *map(_pad, blocks)])


def _pad(value: bytes) -> bytes:
    """TIFF begins every value at an even offset."""
    return value + bytes(len(value) % 2)


STRIPPERS: dict[str, Callable[[bytes], Stripped]] = {
    "PNG": _strip_png,
    "JPEG": _strip_jpeg,
    "TIFF": _strip_tiff,
}

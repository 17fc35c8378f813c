"""DICOM in: one frame of a radiograph, as a display would show it, bright bone on black."""

from __future__ import annotations

import io
import math
import re
import warnings
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from fcr_edge import containers, imaging
from fcr_edge.errors import ImageError
from fcr_edge.film_record import FilmRecord, Spacing, ViewHints, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jaxtyping import Float64, Int64, UInt16
    from pydicom import Dataset

    Stored = imaging.GreyPicture
    Table = Float64[np.ndarray, " n"]

MAGIC_OFFSET = 128
"""Bytes of preamble before the magic word (DICOM PS3.10, 7.1)."""
DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Deflated Explicit VR: inflates without limit when it is read, so it is refused unread."""
ADVICE = "save it as PNG or TIFF"
MODALITIES = ("CR", "DX", "RF", "IO", "PX", "XA", "RG", "OT", "SC", "XC", "MG", "CT", "MR", "US")
"""Codes that a record may show (PS3.3, C.7.3.1.1.1)."""
FILMS = ("CR", "DX", "RF", "IO", "PX", "XA", "RG", "OT", "SC")
"""Codes under which a radiograph may come; OT and SC hold what was captured or scanned."""
VIEWS = (
    "AP", "PA", "LL", "RL", "LLD", "LLO", "RLD", "RLO", "LAT", "LATERAL", "ANT", "POST",
)  # fmt: skip
"""View Positions that a record may show (PS3.3, C.8.1.3 and what units write)."""
MASKED = 0.95
"""Share of the pixels at both ends of a window beyond which the user is warned."""
MAX_DIFFERENCE = 0.001
"""Two spacings of one file are the same to this share."""
SPACINGS_MM = (0.005, 5.0)
"""Spacing that a radiograph can have; outside it the header is wrong."""


class Codec(NamedTuple):
    """What decodes a transfer syntax here."""

    name: str
    plugin: str
    """pydicom's name for it, empty where it needs none."""
    module: str | None
    """What must be importable."""
    package: str
    """What to install, with pip."""


GDCM = ("gdcm", "gdcm", "python-gdcm")
CHARLS = ("pyjpegls", "jpeg_ls", "pyjpegls")
OPENJPEG = ("pylibjpeg", "openjpeg", "pylibjpeg pylibjpeg-openjpeg")
NATIVE = ("", None, "")
BASELINE = "1.2.840.10008.1.2.4.50"
"""The JPEG of cameras: OpenCV reads it, whose decoder is newer than GDCM's and stands more."""
CODECS = {
    "1.2.840.10008.1.2": Codec("Implicit VR Little Endian", *NATIVE),
    "1.2.840.10008.1.2.1": Codec("Explicit VR Little Endian", *NATIVE),
    "1.2.840.10008.1.2.2": Codec("Explicit VR Big Endian", *NATIVE),
    "1.2.840.10008.1.2.5": Codec("RLE", "pydicom", None, ""),
    BASELINE: Codec("JPEG baseline", *NATIVE),
    "1.2.840.10008.1.2.4.51": Codec("JPEG extended", *GDCM),
    "1.2.840.10008.1.2.4.57": Codec("JPEG lossless", *GDCM),
    "1.2.840.10008.1.2.4.70": Codec("JPEG lossless, first-order", *GDCM),
    "1.2.840.10008.1.2.4.80": Codec("JPEG-LS lossless", *CHARLS),
    "1.2.840.10008.1.2.4.81": Codec("JPEG-LS near-lossless", *CHARLS),
    "1.2.840.10008.1.2.4.90": Codec("JPEG 2000 lossless", *OPENJPEG),
    "1.2.840.10008.1.2.4.91": Codec("JPEG 2000", *OPENJPEG),
    "1.2.840.10008.1.2.4.201": Codec("HTJ2K lossless", *OPENJPEG),
    "1.2.840.10008.1.2.4.202": Codec("HTJ2K lossless RPCL", *OPENJPEG),
    "1.2.840.10008.1.2.4.203": Codec("HTJ2K", *OPENJPEG),
}
"""Transfer syntax -> its one decoder: the same file gives the same pixels on every machine."""


class Shown(NamedTuple):
    """What the lookup tables make of each stored value, and how they did it."""

    values: Table
    notes: dict[str, Any]
    """Fields of the record."""
    steps: list[str]


def is_dicom(data: bytes) -> bool:
    """Tell whether the bytes begin as a DICOM file does."""
    return data[MAGIC_OFFSET : MAGIC_OFFSET + 4] == b"DICM"


def is_installed() -> bool:
    """Tell whether the extra `dicom` is installed."""
    return find_spec("pydicom") is not None


@cache
def has_codec(codec: Codec) -> bool:
    """Tell whether the packages of a codec are installed."""
    return codec.module is None or find_spec(codec.module) is not None


def preload() -> None:
    """Import what reading takes, so that a process may then lose the right to open files."""
    import codecs

    import pydicom.charset
    import pydicom.pixels

    for codec in CODECS.values():
        has_codec(codec)
    for encoding in set(pydicom.charset.python_encoding.values()):
        codecs.lookup(encoding)


def decode(data: bytes, name: str) -> tuple[UInt16[np.ndarray, "h w"], FilmRecord]:
    """Decode a radiograph: modality LUT, VOI LUT or window, then MONOCHROME1 turned over.

    The order is that of DICOM PS3.4, N.2. The tables are applied to every value that a pixel can
    have, and the pixels looked up in the result, spread over 0 to 65535. Raises ImageError for a
    file that is damaged, has several frames, or is compressed in a way that cannot be read here.
    """
    with decoder_faults(name):
        dataset = parse(data, name)
        uid = check_pixels(dataset, name)
        stored, colour = _decode_pixels(dataset, uid, name)
        counts = imaging.count_levels(stored)
        shown = _apply_tables(dataset, 8 * stored.dtype.itemsize, colour)
        padded = np.zeros(len(counts), bool) if colour else _find_padding(dataset, len(counts))
        table = _spread(shown.values, counts, padded, name)
        pixels = imaging.look_up(table, stored)
        return pixels, _make_record(dataset, uid, colour, counts, padded, shown)


@contextmanager
def decoder_faults(name: str) -> Iterator[None]:
    """Turn what a damaged file raises, any of a dozen types, into an ImageError without its text.

    pydicom's own messages and warnings may quote the header, and with it a patient.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (ImageError, MemoryError):
            raise
        except Exception as err:
            raise ImageError(
                f"{name} is a DICOM file that cannot be read ({type(err).__name__}):"
                f" get a fresh copy, or {ADVICE}"
            ) from None


def parse(data: bytes, name: str) -> Dataset:
    """Read the header of a DICOM file that is not deflated. Raises ImageError."""
    if DEFLATED in data[: 64 * 1024]:
        raise ImageError(
            f"{name} is a deflated DICOM file, which may unpack without end: {ADVICE}"
        )
    dcmread = _import_reader(name)
    return dcmread(io.BytesIO(data))


def _import_reader(name: str) -> Callable[[io.BytesIO], Dataset]:
    try:
        from pydicom import dcmread
    except ImportError as err:
        raise ImageError(f"{name} is a DICOM file: pip install 'fcr[dicom]', or {ADVICE}") from err
    return dcmread


def check_pixels(dataset: Dataset, name: str) -> str:
    """Check that there is one frame that can be decoded; return its transfer syntax."""
    if "PixelData" not in dataset:
        raise ImageError(f"{name} holds no pixels that FCR reads: give the file of one film")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames != 1:
        raise ImageError(f"{name} has {frames} frames: export the one to use as a film of its own")
    imaging.check_size((int(dataset.Rows), int(dataset.Columns)), name)
    allocated, bits, high = (
        int(dataset[keyword].value) for keyword in ("BitsAllocated", "BitsStored", "HighBit")
    )
    if allocated not in (8, 16) or not 1 <= bits <= allocated or high != bits - 1:
        raise ImageError(
            f"{name} stores {bits} of {allocated} bits, the highest {high}: FCR reads up to 16,"
            f" from the lowest on; {ADVICE}"
        )
    return _check_codec(str(dataset.file_meta.get("TransferSyntaxUID", "")), bits, name)


def _check_codec(uid: str, bits: int, name: str) -> str:
    codec = CODECS.get(uid)
    if codec is None:
        shown = uid if re.fullmatch(r"[0-9.]{1,64}", uid) else "none"
        raise ImageError(
            f"{name} has the transfer syntax {shown}, which FCR does not read: {ADVICE}"
        )
    if codec.name == "JPEG extended" and bits > 8:
        raise ImageError(
            f"{name} is JPEG extended with {bits} bits, which only pylibjpeg-libjpeg decodes, a"
            f" package under the GPL that FCR does not use: {ADVICE}, or decompress it"
        )
    if not has_codec(codec):
        raise ImageError(
            f"{name} is compressed as {codec.name}: pip install {codec.package}, which"
            f" 'fcr[dicom]' brings, or {ADVICE}"
        )
    return uid


def _decode_pixels(dataset: Dataset, uid: str, name: str) -> tuple[Stored, bool]:
    """Decode to stored values as unsigned numbers; True where colour was reduced to grey."""
    if uid == BASELINE:
        return _decode_baseline(dataset, name), int(dataset.SamplesPerPixel) > 1
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut

    decoded, _ = get_decoder(cast("Any", uid)).as_array(
        dataset, decoding_plugin=CODECS[uid].plugin
    )
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        decoded = apply_color_lut(decoded, dataset)
        decoded = decoded.astype(np.uint8) if decoded.max() < 256 else decoded
    if decoded.ndim == 3:
        return imaging.to_grey(np.ascontiguousarray(decoded[:, :, :3])), True
    if decoded.ndim != 2 or decoded.dtype.itemsize not in (1, 2) or not decoded.size:
        raise ImageError(f"{name} holds pixels of shape {decoded.shape}: give one film in grey")
    native = np.ascontiguousarray(decoded.astype(decoded.dtype.newbyteorder("="), copy=False))
    return native.view(f"u{native.dtype.itemsize}"), False


def _decode_baseline(dataset: Dataset, name: str) -> Stored:
    """Decode a JPEG frame to its luma."""
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    try:
        header = containers.read_jpeg(frame)
    except ImageError as err:
        raise ImageError(f"{name}, its frame: {err}") from err
    if (header.height, header.width) != (int(dataset.Rows), int(dataset.Columns)):
        raise ValueError("size")
    return imaging.decode_grey(frame, name)


def _apply_tables(dataset: Dataset, bits: int, colour: bool) -> Shown:
    """Take every value that `bits` can hold through the tables and the polarity."""
    if colour:
        return Shown(np.arange(2.0**bits), {}, ["colour reduced to grey by ITU-R BT.601"])
    stored = _interpret(dataset, np.arange(2**bits))
    values, notes, steps = _apply_modality(dataset, stored)
    values, voi_notes, voi_steps = _apply_voi(dataset, values)
    polarity = _read_polarity(dataset)
    if polarity["polarity"] == "turned over":
        values = -values
        voi_steps.append("turned over: MONOCHROME1, the smallest value is white")
    return Shown(values, {**notes, **voi_notes, **polarity}, steps + voi_steps)


def _interpret(dataset: Dataset, values: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Drop the bits above those stored, which may hold overlays, and read the sign."""
    bits = int(dataset.BitsStored)
    low = values & (2**bits - 1)
    sign = 2 ** (bits - 1)
    return np.asarray((low ^ sign) - sign if int(dataset.PixelRepresentation) else low)


def _apply_modality(dataset: Dataset, stored: Int64[np.ndarray, " n"]) -> Shown:
    """Apply the modality LUT or the rescale slope and intercept (PS3.3, C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        table = read_table(dataset, dataset.ModalityLUTSequence[0])
        step = f"modality LUT of {len(table.entries)} entries"
        return Shown(table.apply(stored), {"modality_lut": "table"}, [step])
    slope, intercept = _number(dataset, "RescaleSlope", 1), _number(dataset, "RescaleIntercept", 0)
    if slope is None or intercept is None or (slope, intercept) == (1, 0):
        return Shown(stored.astype(np.float64), {}, [])
    notes = {"modality_lut": "rescale", "rescale": (slope, intercept)}
    return Shown(stored * slope + intercept, notes, [f"rescaled: x {slope:g} + {intercept:g}"])


def _apply_voi(dataset: Dataset, values: Table) -> Shown:
    """Apply the VOI LUT, else the first window (PS3.3, C.11.2)."""
    windows = as_list(dataset.get("WindowCenter"))
    if dataset.get("VOILUTSequence"):
        table = read_table(dataset, dataset.VOILUTSequence[0])
        of, unused = (
            len(dataset.VOILUTSequence),
            f", {len(windows)} windows left" if windows else "",
        )
        step = f"VOI LUT 1 of {of}, {len(table.entries)} entries{unused}"
        return Shown(table.apply(np.rint(values).astype(np.int64)), {"voi_lut": "table"}, [step])
    widths = as_list(dataset.get("WindowWidth"))
    if not windows or not widths:
        return Shown(values, {}, [])
    name = str(dataset.get("VOILUTFunction", "LINEAR") or "LINEAR").strip().upper()
    if name not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        name = "LINEAR"
    window = Window(float(windows[0]), float(widths[0]), cast("Any", name), len(windows))
    step = (
        f"window 1 of {window.of}: centre {window.center:g}, width {window.width:g},"
        f" {window.function}"
    )
    return Shown(apply_window(values, window), {"voi_lut": "window", "window": window}, [step])


def apply_window(values: Table, window: Window) -> Table:
    """Map values onto [0, 1] by a window (PS3.3, C.11.2.1.2 and C.11.2.1.3). Raises ValueError."""
    center, width = window.center, window.width
    if not math.isfinite(center) or not 0 < width < math.inf:
        raise ValueError("window")
    if window.function == "SIGMOID":
        # Beyond 500 the exponential has long reached its end.
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500))))
    if window.function == "LINEAR":
        center, width = center - 0.5, max(width - 1, 1e-6)
    return np.clip((values - center) / width + 0.5, 0, 1)


class LookUpTable(NamedTuple):
    """A DICOM lookup table (PS3.3, C.11.1.1)."""

    entries: Table
    first: int
    """The value that the first entry stands for."""

    def apply(self, values: Int64[np.ndarray, " n"]) -> Table:
        """Look values up; those below and above the table get its first and last entry."""
        at = np.clip(values - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[at])


def read_table(dataset: Dataset, item: Dataset) -> LookUpTable:
    """Read LUT Descriptor and LUT Data, whose entries may be packed in bytes.

    pydicom's own functions take a table of 8 bits wrong that has more than 256 entries.
    """
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    count = count or 2**16
    if first >= 2**15 and int(dataset.PixelRepresentation):
        first -= 2**16  # read as unsigned, meant as signed
    data = item.LUTData
    if isinstance(data, bytes):
        order = ">" if dataset.original_encoding[1] is False else "<"
        kind = "u1" if bits <= 8 and len(data) < 2 * count else f"{order}u2"
        entries = np.frombuffer(data, kind)
    else:
        entries = np.asarray(as_list(data))
    if not 1 <= count <= len(entries):
        raise ValueError("table")
    return LookUpTable(entries[:count].astype(np.float64), first)


def _read_polarity(dataset: Dataset) -> dict[str, Any]:
    """Tell the polarity: the photometric interpretation decides, the shape is only recorded.

    Files that contradict themselves exist, and in them it was the shape that was wrong.
    """
    photometric = str(dataset.PhotometricInterpretation).strip().upper()
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError("photometric interpretation")
    shape = str(dataset.get("PresentationLUTShape", "") or "").strip().upper()
    return {
        "photometric": photometric,
        "presentation": shape if shape in ("IDENTITY", "INVERSE", "LIN OD") else None,
        "polarity": "turned over" if photometric == "MONOCHROME1" else "as stored",
    }


def _find_padding(dataset: Dataset, levels: int) -> np.ndarray:
    """Tell which stored values are padding (PS3.3, C.7.5.1.1.2)."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(levels, bool)
    last = dataset.get("PixelPaddingRangeLimit", first)
    bits = 2 ** int(dataset.BitsStored) - 1
    ends = _interpret(dataset, np.array([int(first) & bits, int(last) & bits]))
    stored = _interpret(dataset, np.arange(levels))
    return np.asarray((stored >= ends.min()) & (stored <= ends.max()))


def _spread(
    shown: Table, counts: Int64[np.ndarray, " n"], padded: np.ndarray, name: str
) -> UInt16[np.ndarray, " n"]:
    """Spread what the film shows over 0 to 65535; padding becomes 0."""
    used = shown[(counts > 0) & ~padded]
    if not used.size:
        raise ImageError(f"{name} is all padding: give the file of a film")
    low, high = float(used.min()), float(used.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("rescale")
    unit = np.nan_to_num((shown - low) / max(high - low, 1e-9)).clip(0, 1)
    table: UInt16[np.ndarray, " n"] = np.rint(unit * 65535).astype(np.uint16)
    table[padded] = 0
    return table


def _make_record(
    dataset: Dataset,
    uid: str,
    colour: bool,
    counts: Int64[np.ndarray, " n"],
    padded: np.ndarray,
    shown: Shown,
) -> FilmRecord:
    padding = float(counts[padded].sum() / counts.sum())
    steps = [f"decoded: {CODECS[uid].name}", *shown.steps]
    if padding:
        steps.append(f"padding, {padding:.1%} of the pixels, made black")
    spacing, spacing_warnings = read_spacing(dataset)
    modality = _choose(dataset, "Modality", MODALITIES)
    masked = _share_masked(shown, counts, padded)
    return FilmRecord(
        container="DICOM",
        transfer_syntax=uid,
        modality=modality,
        width=int(dataset.Columns),
        height=int(dataset.Rows),
        bits=int(dataset.BitsStored),
        signed=bool(int(dataset.get("PixelRepresentation", 0) or 0)),
        colour="colour reduced to grey" if colour else "grey",
        padding=padding,
        spacing=spacing,
        view=_read_view(dataset),
        burned_in=_read_burned_in(dataset),
        steps=(*steps, "spread over 0 to 65535"),
        warnings=(*_warn(dataset, modality, masked), *spacing_warnings),
        **shown.notes,
    )


def _share_masked(shown: Shown, counts: Int64[np.ndarray, " n"], padded: np.ndarray) -> float:
    """Measure what share of the film a VOI LUT or window shows as plain black or white."""
    if "voi_lut" not in shown.notes:
        return 0.0
    used = np.where(padded, 0, counts)
    ends = (shown.values <= shown.values.min()) | (shown.values >= shown.values.max())
    return float(used[ends].sum() / max(1, used.sum()))


def _warn(dataset: Dataset, modality: str | None, masked: float) -> Iterator[str]:
    if modality not in FILMS:
        yield f"the modality is {modality or 'not given'}: check that this is a radiograph"
    shape = str(dataset.get("PresentationLUTShape", "") or "").strip().upper()
    photometric = dataset.PhotometricInterpretation
    if (photometric, shape) in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")):
        yield (
            f"the header contradicts itself: {photometric} with Presentation LUT Shape {shape};"
            f" {photometric} was taken, check that bone is bright"
        )
    elif shape == "LIN OD":
        yield "the Presentation LUT Shape LIN OD was not applied: check the grey levels"
    if masked > MASKED:
        yield f"the file's own window shows {masked:.0%} of the film as plain black or white"
    if str(dataset.get("PresentationIntentType", "")).upper() == "FOR PROCESSING":
        yield "the file holds raw detector data, for processing: check polarity and contrast"
    if _read_burned_in(dataset):
        yield "the file says that text is burned into the film: it may name the patient"


def read_spacing(dataset: Dataset) -> tuple[Spacing | None, list[str]]:
    """Read the spacing of the pixels, or None: nothing is made up. Warnings come with it.

    Pixel Spacing counts as calibrated where the header says so or where it differs from the
    Imager Pixel Spacing (PS3.3, 10.7.1.3); else the latter, at the detector, is divided by the
    magnification where that is in the header.
    """
    at_patient = _read_pair(dataset, "PixelSpacing")
    at_detector = _read_pair(dataset, "ImagerPixelSpacing") or _read_pair(
        dataset, "NominalScannedPixelSpacing"
    )
    factor = _number(dataset, "EstimatedRadiographicMagnificationFactor", 0) or 0
    magnification = factor if 1 <= factor <= 5 else None
    spacing = None
    if at_patient and (
        dataset.get("PixelSpacingCalibrationType") or _differ(at_patient, at_detector)
    ):
        spacing = Spacing(*at_patient, "calibrated", magnification)
    elif at_detector and magnification:
        rows, columns = (value / magnification for value in at_detector)
        spacing = Spacing(rows, columns, "detector / magnification", magnification)
    elif at_detector:
        spacing = Spacing(*at_detector, "at the detector", None)
    elif at_patient:
        origin = "in the header, calibration not stated"
        spacing = Spacing(*at_patient, cast("Any", origin), magnification)
    if spacing and _differ((spacing.rows_mm,) * 2, (spacing.columns_mm,) * 2):
        return spacing, [
            "the pixels are not square, and were not stretched: proportions are wrong"
        ]
    return spacing, []


def _differ(one: tuple[float, float], other: tuple[float, float] | None) -> bool:
    return other is not None and any(
        abs(a - b) > MAX_DIFFERENCE * b for a, b in zip(one, other, strict=True)
    )


def _read_pair(dataset: Dataset, keyword: str) -> tuple[float, float] | None:
    values = [float(value) for value in as_list(dataset.get(keyword))]
    if len(values) != 2 or not all(SPACINGS_MM[0] <= value <= SPACINGS_MM[1] for value in values):
        return None
    return values[0], values[1]


def _read_view(dataset: Dataset) -> ViewHints:
    sides = ("R", "L", "U", "B")
    rows_columns = "\\".join(str(value) for value in as_list(dataset.get("PatientOrientation")))
    lead = r"[APRLHF]{1,3}"
    return ViewHints(
        _choose(dataset, "ViewPosition", VIEWS),
        _choose(dataset, "ImageLaterality", sides) or _choose(dataset, "Laterality", sides),
        rows_columns if re.fullmatch(rf"{lead}\\{lead}", rows_columns) else None,
    )


def _read_burned_in(dataset: Dataset) -> bool | None:
    return {"YES": True, "NO": False}.get(str(dataset.get("BurnedInAnnotation", "")).upper())


def _choose(dataset: Dataset, keyword: str, known: tuple[str, ...]) -> str | None:
    """Take a coded value if it is a known one, "other" if not: free text may name a patient."""
    value = str(dataset.get(keyword, "") or "").strip().upper()
    return (value if value in known else "other") if value else None


def _number(dataset: Dataset, keyword: str, default: float) -> float | None:
    value = dataset.get(keyword)
    return default if value is None or value == "" else float(value)


def as_list(value: Any) -> list[Any]:
    """Take a value that may be absent, single or several as a list."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]

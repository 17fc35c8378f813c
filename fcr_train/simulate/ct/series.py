"""DICOM series in: the largest axial CT series of a folder, sorted, scaled and checked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.dicom import DEFLATED, is_dicom
from fcr_edge.errors import DataError
from fcr_train.simulate.ct.scan import SHEAR_DEGREES, Scan, check_size, orient
from fcr_train.simulate.ct.terms import check_dataset

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from jaxtyping import Float32, Float64
    from pydicom import Dataset

    Slices = list[tuple[Path, Dataset]]

logger = logging.getLogger(__name__)

GAP_TOLERANCE = 0.05
"""Share of the usual distance by which that between two slices may differ."""
HEADER_BYTES = 64 * 1024
FROM_LPS = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
"""DICOM's patient axes (left, back, up) to ours (left, up, forward)."""


def looks_like_dicom(path: Path) -> bool:
    """Tell whether a file begins as a DICOM file does."""
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(HEADER_BYTES))
    except OSError:
        return False


def read_series(files: Iterable[Path], name: str) -> Scan:
    """Read the largest axial CT series among DICOM files.

    Raises DataError, each time with advice: no CT, several frames in a file, missing slices, a
    tilted gantry, no orientation, or data whose terms forbid it.
    """
    slices = choose_series(read_headers(files, name), name)
    first = slices[0][1]
    check_geometry(slices, name)
    across, down, normal, positions = slice_geometry(slices, name)
    order = np.argsort(positions)
    step = check_positions(positions[order], slices, name)
    rows, columns = (float(x) for x in first.PixelSpacing)
    shape = (len(slices), int(first.Rows), int(first.Columns))
    check_size(shape, (step, rows, columns), name)
    values = np.empty(shape, np.float32)
    for k, index in enumerate(order):
        values[k] = read_pixels(*slices[index])
    directions = FROM_LPS @ np.stack([normal, down, across], 1)
    return orient(values, directions, (step, rows, columns), name)


def read_headers(files: Iterable[Path], name: str) -> Slices:
    """Read the headers of all files that have pixels; refuse what must not be used."""
    try:
        from pydicom import dcmread
    except ImportError as err:
        raise DataError(f"{name} holds DICOM files: pip install 'fcr[dicom]'") from err
    headers: Slices = []
    for path in files:
        with path.open("rb") as file:
            if DEFLATED in file.read(HEADER_BYTES):
                raise DataError(f"{path} is a deflated DICOM file: export it uncompressed")
        try:
            header = dcmread(path, stop_before_pixels=True)
        except Exception as err:  # a damaged header raises any of a dozen types
            raise DataError(f"{path} is a damaged DICOM file ({err}): export it again") from err
        check_dataset(header)
        if "Rows" in header:
            headers.append((path, header))
    return headers


def choose_series(headers: Slices, name: str) -> Slices:
    """Choose the axial CT series with the most slices, and say so when there are several."""
    series: dict[str, Slices] = {}
    kinds = sorted({str(header.get("Modality", "unknown")) for _, header in headers})
    for path, header in headers:
        if header.get("Modality") == "CT" and "LOCALIZER" not in header.get("ImageType", []):
            if int(header.get("NumberOfFrames", 1) or 1) > 1:
                raise DataError(
                    f"{path} holds several frames: convert it to NIfTI with dcm2niix, or export "
                    "one file a slice"
                )
            series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((path, header))
    if not series:
        raise DataError(f"{name} holds no CT images but {', '.join(kinds)}: give a head CT")
    ranked = sorted(series.values(), key=lambda one: (is_axial(one), len(one)), reverse=True)
    if len(ranked) > 1:
        logger.warning(
            "%s holds %d series of %s slices: the largest axial one is read, %r",
            name,
            len(ranked),
            ", ".join(str(len(one)) for one in ranked),
            str(ranked[0][0][1].get("SeriesDescription", "without a description")),
        )
    return ranked[0]


def is_axial(slices: Slices) -> bool:
    """Tell whether slices lie across the body rather than along it."""
    axes = slices[0][1].get("ImageOrientationPatient")
    if axes is None or len(axes) != 6:
        return False
    across, down = np.array(axes, float).reshape(2, 3)
    return bool(abs(np.cross(across, down)[2]) > 0.7)


def check_geometry(slices: Slices, name: str) -> None:
    """Raise DataError for missing or unlike geometry, and for a tilted gantry."""
    needed = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
    for path, header in slices:
        for tag in needed:
            if header.get(tag) is None:
                raise DataError(
                    f"{path} lacks {tag}, so its orientation is unknown: export it with "
                    "full headers"
                )
    first = slices[0][1]
    for path, header in slices:
        same = header.Rows == first.Rows and header.Columns == first.Columns
        for tag in ("ImageOrientationPatient", "PixelSpacing"):
            same = same and np.allclose(header[tag].value, first[tag].value, atol=1e-3)
        if not same:
            raise DataError(f"{path} has another size or orientation than its series: remove it")
        tilt = float(header.get("GantryDetectorTilt", 0) or 0)
        if abs(tilt) > SHEAR_DEGREES:
            raise DataError(
                f"{name} was scanned with the gantry tilted by {tilt:g} degrees: resample it to "
                "upright slices, as dcm2niix does, and read those"
            )


def slice_geometry(
    slices: Slices, name: str
) -> tuple[
    Float64[np.ndarray, 3],
    Float64[np.ndarray, 3],
    Float64[np.ndarray, 3],
    Float64[np.ndarray, " n"],
]:
    """Give the directions of columns, rows and slices, and the slices' places along theirs [mm].

    The columns' direction is that in which the column number grows. Raises DataError when the
    slices are shifted against one another, as a tilted gantry leaves them.
    """
    axes = np.array(slices[0][1].ImageOrientationPatient, float).reshape(2, 3)
    across, down = axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-9)
    normal = np.cross(across, down)
    corners = np.array([header.ImagePositionPatient for _, header in slices], float)
    positions = corners @ normal
    beside = corners - positions[:, None] * normal
    drift = np.linalg.norm(np.ptp(beside, axis=0))
    degrees = float(np.degrees(np.arctan2(drift, max(float(np.ptp(positions)), 1e-9))))
    if len(slices) > 1 and degrees > SHEAR_DEGREES:
        raise DataError(
            f"{name} was scanned with the gantry tilted, its slices are shifted by "
            f"{degrees:.1f} degrees: resample it to upright slices, as dcm2niix does"
        )
    return across, down, normal, positions


def check_positions(positions: Float64[np.ndarray, " n"], slices: Slices, name: str) -> float:
    """Give the distance between sorted slices [mm]; DataError when it varies."""
    if len(slices) < 2:
        raise DataError(f"{name} holds a single slice: give the folder of the whole series")
    gaps = np.diff(positions)
    usual = float(np.median(gaps))
    if gaps.min() < 0.01:
        raise DataError(
            f"{name} has two slices at {positions[gaps.argmin()]:.2f} mm: remove one of them"
        )
    if np.abs(gaps - usual).max() > max(GAP_TOLERANCE * usual, 0.02):
        raise DataError(
            f"{name} has slices {gaps.min():.2f} to {gaps.max():.2f} mm apart, so some are "
            "missing: export the whole series again"
        )
    return usual


def read_pixels(path: Path, header: Dataset) -> Float32[np.ndarray, "h w"]:
    """Read one slice in Hounsfield units."""
    from pydicom import dcmread

    try:
        pixels = dcmread(path).pixel_array
    except Exception as err:  # a missing decoder or damaged data raise any of a dozen types
        raise DataError(f"{path} cannot be decoded ({err}): export it uncompressed") from err
    slope = float(header.get("RescaleSlope", 1))
    intercept = float(header.get("RescaleIntercept", 0))
    return np.asarray(pixels * np.float32(slope) + np.float32(intercept), np.float32)

"""Files to a checked scan: DICOM series, NIfTI, or a raw volume with its sidecar."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fcr_edge.errors import DataError
from fcr_train.simulate.ct.body import find_body
from fcr_train.simulate.ct.checks import check_body, check_units
from fcr_train.simulate.ct.nifti import read_nifti
from fcr_train.simulate.ct.series import looks_like_dicom, read_series
from fcr_train.simulate.ct.sidecar import read_raw, refuse_raw
from fcr_train.simulate.ct.terms import WARNING, check_text

if TYPE_CHECKING:
    from pathlib import Path

    from fcr_train.simulate.ct.scan import Scan

logger = logging.getLogger(__name__)

NIFTI = (".nii", ".nii.gz")


def read_scan(path: Path) -> Scan:
    """Read a head CT and check that it is one, whole enough to show a face.

    `path` is a folder with a DICOM series or a single NIfTI file, a NIfTI file, or the TOML
    sidecar of a raw volume (see docs/ct.md). Raises DataError, saying what to do, for anything
    that is no usable head CT, and for scans whose terms forbid it.
    """
    check_text(str(path.absolute()), "its path")
    scan = read_files(path)
    logger.warning("%s: %s", scan.name, WARNING)
    check_units(scan)
    for warning in check_body(find_body(scan), scan.name):
        logger.warning("%s: %s", scan.name, warning)
    return scan


def read_files(path: Path) -> Scan:
    """Read a scan without checking what it shows."""
    if not path.exists():
        raise DataError(f"{path} does not exist: give the folder or file of a head CT")
    if path.is_dir():
        return read_folder(path)
    if path.name.lower().endswith(NIFTI):
        return read_nifti(path)
    if path.suffix.lower() == ".toml":
        return read_raw(path)
    if looks_like_dicom(path):
        return read_series([path], path.name)
    raise refuse_raw(path)


def read_folder(path: Path) -> Scan:
    """Read the DICOM series, or the only NIfTI file, in a folder and the folders in it."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    slices = [file for file in files if looks_like_dicom(file)]
    if slices:
        return read_series(slices, path.name)
    volumes = [file for file in files if file.name.lower().endswith(NIFTI)]
    if len(volumes) == 1:
        return read_nifti(volumes[0])
    if volumes:
        raise DataError(f"{path} holds {len(volumes)} NIfTI files: give one of them")
    described = [file for file in files if file.suffix.lower() == ".toml"]
    if described:
        raise DataError(f"{path} holds no DICOM: give its sidecar, such as {described[0]}")
    raise refuse_raw(path)

"""A CT scan in memory: Hounsfield units in the simulator's orientation, and its limits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fcr_edge.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64

    Volume = Float32[np.ndarray, "x y z"]
    Directions = Float64[np.ndarray, "3 3"]

MAX_VOXELS = 256 * 1024 * 1024
"""Voxels of a scan as stored: 1 GiB as 32-bit numbers."""
FINEST_MM = 0.7
"""Finer voxels are averaged in pairs (or threes) at reading; films and templates show 1 mm."""
COARSEST_MM = 5.0
"""Between slices or pixels; thicker ones show no face."""
AIR_HU = -1024.0
"""Lowest value kept: padding outside the scanner's circle is lower and means air."""
SHEAR_DEGREES = 0.5
OBLIQUE_COSINE = 0.8
"""Least cosine between a voxel axis and the body axis that it is taken for (37 degrees)."""


@dataclass(frozen=True)
class Scan:
    """A head CT; axes x to the subject's left, y up, z forward."""

    hu: Volume
    """Hounsfield units, -1024 or more."""
    spacing_mm: tuple[float, float, float]
    """Between voxels along x, y and z."""
    name: str
    """What was read, for messages."""

    @property
    def sha256(self) -> str:
        """Hash of the voxels and their spacing, whatever the scan is called."""
        content = np.ascontiguousarray(self.hu, "<f4").tobytes()
        return hashlib.sha256(repr(self.spacing_mm).encode() + content).hexdigest()

    @property
    def size_mm(self) -> Float64[np.ndarray, 3]:
        """Distance between the first and the last voxel along each axis."""
        return np.asarray((np.array(self.hu.shape) - 1) * np.array(self.spacing_mm))


def check_size(shape: tuple[int, ...], spacing_mm: tuple[float, ...], name: str) -> None:
    """Raise DataError for a volume too large to hold, or too small or coarse to be a head."""
    if len(shape) != 3 or min(shape) < 16:
        raise DataError(
            f"{name} has {' x '.join(map(str, shape))} voxels: give one volume of 16 or more "
            "along each of three axes"
        )
    if int(np.prod([int(n) for n in shape])) > MAX_VOXELS:
        raise DataError(
            f"{name} has {' x '.join(map(str, shape))} voxels, more than {MAX_VOXELS}: cut it to "
            "the head, or resample it to 1 mm"
        )
    if not all(0.05 <= step <= COARSEST_MM for step in spacing_mm):
        steps = " x ".join(f"{step:g}" for step in spacing_mm)
        raise DataError(
            f"{name} has voxels of {steps} mm: give a scan whose voxels measure "
            f"0.05 to {COARSEST_MM:g} mm"
        )


def orient(
    values: Float32[np.ndarray, "a b c"],
    directions: Directions,
    spacing_mm: tuple[float, float, float],
    name: str,
) -> Scan:
    """Turn a volume into the simulator's orientation, and average voxels that are very fine.

    Column k of `directions` is the unit vector of voxel axis k, as (to the subject's left, up,
    forward). Small rotations are left for the registration to find. Raises DataError for sheared
    or unclear axes, and for values that are no numbers.
    """
    check_size(values.shape, spacing_mm, name)
    check_directions(directions, name)
    order = [int(k) for k in np.abs(directions).argmax(1)]
    turned = values.transpose(order)
    flips = tuple(axis for axis, k in enumerate(order) if directions[axis, k] < 0)
    turned = np.flip(turned, flips)
    spacing = [spacing_mm[k] for k in order]
    for axis in range(3):
        count = max(1, int(np.ceil(FINEST_MM / spacing[axis] - 1e-6)))
        turned = average(turned, axis, count)
        spacing[axis] *= count
    hu = np.maximum(turned, np.float32(AIR_HU), dtype=np.float32)
    if not np.isfinite(hu).all():
        raise DataError(f"{name} has values that are no numbers: export it again from the scanner")
    x, y, z = spacing
    return Scan(np.ascontiguousarray(hu), (x, y, z), name)


def check_directions(directions: Directions, name: str) -> None:
    """Raise DataError unless the voxel axes are at right angles and near the body's axes."""
    cosines = np.abs(directions.T @ directions - np.eye(3)).max()
    if not np.isfinite(cosines) or np.abs(np.linalg.norm(directions, axis=0) - 1).max() > 1e-3:
        raise DataError(f"{name} does not say how it is oriented: export it with its orientation")
    if cosines > np.sin(np.radians(SHEAR_DEGREES)):
        degrees = np.degrees(np.arcsin(min(1.0, cosines)))
        raise DataError(
            f"{name} was scanned with the gantry tilted, its voxel axes are {degrees:.1f} degrees "
            "off a right angle: resample it to upright slices, as dcm2niix does, and read those"
        )
    nearest = np.abs(directions).max(1)
    if len(set(np.abs(directions).argmax(1).tolist())) < 3 or nearest.min() < OBLIQUE_COSINE:
        raise DataError(
            f"{name} has axes far from those of the body: reformat it to axial slices first"
        )


def average(values: Float32[np.ndarray, "a b c"], axis: int, count: int) -> Volume:
    """Average `count` neighbours along an axis; a rest at the end is dropped."""
    if count == 1:
        return values
    kept = values.shape[axis] // count
    values = np.moveaxis(values, axis, 0)[: kept * count]
    total = values[::count].astype(np.float32)
    for k in range(1, count):
        total += values[k::count]
    return np.moveaxis(total / np.float32(count), 0, axis)
